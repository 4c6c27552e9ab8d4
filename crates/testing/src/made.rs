//! Certificates that a test makes for itself, with their secret keys.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use sequoia_openpgp::{
    Cert, Packet, Profile, armor,
    cert::{
        CertBuilder, CertRevocationBuilder, CipherSuite, SubkeyRevocationBuilder, UserIDRevocationBuilder,
    },
    crypto::KeyPair,
    packet::{
        Key, UserID,
        key::{Key4, Key6, PrimaryRole, SecretParts, SubordinateRole},
        signature::SignatureBuilder,
    },
    policy::StandardPolicy,
    serialize::SerializeInto,
    types::{CompressionAlgorithm, Curve, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType},
};

pub const DAY: Duration = Duration::from_secs(86_400);

/// 2020-01-01: when all of them are born, where nothing else is said.
pub fn birth() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800)
}

/// An ordinary certificate: v4, Curve25519.
pub fn cert(user_id: &str) -> Cert {
    finish(builder(user_id, CipherSuite::Cv25519, Profile::RFC4880))
}

/// The same with other algorithms; `MLDSA…` suites have ML-KEM subkeys.
pub fn of(suite: CipherSuite, profile: Profile, user_id: &str) -> Cert {
    finish(builder(user_id, suite, profile))
}

/// An ordinary certificate that expires after so long from its birth.
pub fn valid_for(user_id: &str, validity: Duration) -> Cert {
    finish(builder(user_id, CipherSuite::Cv25519, Profile::RFC4880).set_validity_period(validity))
}

/// An ordinary certificate that expires so long from now.
pub fn expires_in(user_id: &str, left: Duration) -> Cert {
    valid_for(user_id, birth().elapsed().unwrap() + left)
}

/// v4 with an ML-KEM-768 subkey (RFC 9980 knows no other for v4).
pub fn ml_kem_v4(user_id: &str) -> Cert {
    let cert = builder(user_id, CipherSuite::Cv25519, Profile::RFC4880).generate().unwrap().0;
    let subkey: Key<_, SubordinateRole> = Key4::generate_mlkem768_x25519().unwrap().into();
    add_subkey(cert, subkey)
}

/// The same certificate with a Curve25519 encryption subkey more.
pub fn with_second_subkey(cert: Cert) -> Cert {
    let subkey: Key<_, SubordinateRole> = match cert.primary_key().key().version() {
        6 => Key6::generate_x25519().unwrap().into(),
        _ => Key4::generate_ecc(false, Curve::Cv25519).unwrap().into(),
    };
    add_subkey(cert, subkey)
}

fn add_subkey(cert: Cert, subkey: Key<SecretParts, SubordinateRole>) -> Cert {
    let binding = subkey
        .bind(
            &mut signer(&cert),
            &cert,
            SignatureBuilder::new(SignatureType::SubkeyBinding).set_key_flags(mail()).unwrap(),
        )
        .unwrap();
    cert.insert_packets([Packet::from(subkey), binding.into()]).unwrap().0
}

fn builder(user_id: &str, suite: CipherSuite, profile: Profile) -> CertBuilder<'_> {
    CertBuilder::new()
        .set_profile(profile)
        .unwrap()
        .set_cipher_suite(suite)
        .set_creation_time(birth())
        .set_primary_key_flags(KeyFlags::empty().set_certification())
        .add_userid(user_id)
}

fn finish(builder: CertBuilder<'_>) -> Cert {
    builder.add_subkey(mail(), None, None).generate().unwrap().0
}

fn mail() -> KeyFlags {
    KeyFlags::empty().set_transport_encryption().set_storage_encryption()
}

/// RSA of `bits`, all signatures over `hash`: what old software left.
pub fn rsa(user_id: &str, bits: usize, hash: HashAlgorithm) -> Cert {
    let primary: Key<_, PrimaryRole> = Key4::generate_rsa(bits).unwrap().into();
    let subkey: Key<_, SubordinateRole> = Key4::generate_rsa(bits).unwrap().into();
    let cert = Cert::try_from(vec![Packet::from(primary)]).unwrap();
    let mut signer = signer(&cert);
    let user_id = UserID::from(user_id);
    let sign = |kind, flags| SignatureBuilder::new(kind).set_hash_algo(hash).set_key_flags(flags).unwrap();
    let certify = sign(SignatureType::PositiveCertification, KeyFlags::empty().set_certification());
    let named = user_id.bind(&mut signer, &cert, certify).unwrap();
    let bound = subkey.bind(&mut signer, &cert, sign(SignatureType::SubkeyBinding, mail())).unwrap();
    let packets = [Packet::from(user_id), named.into(), Packet::from(subkey), bound.into()];
    cert.insert_packets(packets).unwrap().0
}

/// The same certificate with a User ID that its owner signed.
pub fn with_user_id(cert: Cert, user_id: &str) -> Cert {
    let user_id = UserID::from(user_id);
    let builder = SignatureBuilder::new(SignatureType::PositiveCertification);
    let signature = user_id.bind(&mut signer(&cert), &cert, builder).unwrap();
    cert.insert_packets([Packet::from(user_id), signature.into()]).unwrap().0
}

/// An ordinary certificate whose owner reads no compressed data.
pub fn without_compression(user_id: &str) -> Cert {
    let cert = cert(user_id);
    let user_id = UserID::from(user_id);
    let builder = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_primary_userid(true)
        .and_then(|builder| {
            builder.set_preferred_compression_algorithms(vec![CompressionAlgorithm::Uncompressed])
        })
        .unwrap();
    let signature = user_id.bind(&mut signer(&cert), &cert, builder).unwrap();
    cert.insert_packets([Packet::from(user_id), signature.into()]).unwrap().0
}

/// How a User ID can come into a certificate without its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Nobody signed it.
    Unsigned,
    /// Somebody else certified it.
    Certified,
    /// Somebody else signed it in the owner's name.
    InTheOwnersName,
}

/// The same certificate with a User ID that its owner did not sign.
pub fn with_forged_user_id(cert: Cert, user_id: &str, how: Forgery) -> Cert {
    let user_id = UserID::from(user_id);
    let mut packets = vec![Packet::from(user_id.clone())];
    let mut builder = SignatureBuilder::new(SignatureType::PositiveCertification);
    if how == Forgery::InTheOwnersName {
        builder =
            builder.set_issuer_fingerprint(cert.fingerprint()).unwrap().set_issuer(cert.keyid()).unwrap();
    }
    if how != Forgery::Unsigned {
        let mut mallory = signer(&self::cert("mallory"));
        packets.push(user_id.bind(&mut mallory, &cert, builder).unwrap().into());
    }
    cert.insert_packets(packets).unwrap().0
}

/// The same certificate, one of its User IDs revoked by its owner.
pub fn with_revoked_user_id(cert: Cert, user_id: &str) -> Cert {
    let user_id = UserID::from(user_id);
    let revocation = UserIDRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"moved")
        .unwrap()
        .build(&mut signer(&cert), &cert, &user_id, None)
        .unwrap();
    cert.insert_packets([Packet::from(user_id), revocation.into()]).unwrap().0
}

/// The same certificate, whose owner has said since that it does not expire.
pub fn lasting(cert: Cert) -> Cert {
    let policy = StandardPolicy::new();
    let mut signer = signer(&cert);
    let mut signatures = cert.set_expiration_time(&policy, None, &mut signer, None).unwrap();
    for subkey in cert.keys().subkeys().with_policy(&policy, None) {
        signatures.extend(subkey.set_expiration_time(&mut signer, None, None).unwrap());
    }
    cert.insert_packets(signatures).unwrap().0
}

/// The same certificate, revoked by its owner.
pub fn revoked(cert: Cert, reason: ReasonForRevocation) -> Cert {
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(reason, b"a test")
        .unwrap()
        .build(&mut signer(&cert), &cert, None)
        .unwrap();
    cert.insert_packets(revocation).unwrap().0
}

/// The same certificate, its first subkey revoked by its owner.
pub fn with_revoked_subkey(cert: Cert, reason: ReasonForRevocation) -> Cert {
    let subkey = cert.keys().subkeys().next().unwrap().key().clone();
    let revocation = SubkeyRevocationBuilder::new()
        .set_reason_for_revocation(reason, b"a test")
        .unwrap()
        .build(&mut signer(&cert), &cert, subkey.role_as_subordinate(), None)
        .unwrap();
    cert.insert_packets(revocation).unwrap().0
}

/// The same certificate with `count` certifications by somebody else.
pub fn flooded(cert: Cert, count: u32) -> Cert {
    let mut mallory = signer(&self::cert("mallory"));
    let user_id = cert.userids().next().unwrap().userid().clone();
    let certifications: Vec<Packet> = (0..count)
        .map(|n| {
            let at = birth() + n * DAY / 1000;
            let kind = SignatureType::GenericCertification;
            user_id.certify(&mut mallory, &cert, kind, None, at).unwrap().into()
        })
        .collect();
    cert.insert_packets(certifications).unwrap().0
}

fn signer(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

/// What may lie on a server.
pub fn public(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().to_vec().unwrap()
}

/// What must not.
pub fn secret(cert: &Cert) -> Vec<u8> {
    cert.as_tsk().to_vec().unwrap()
}

/// The same in armour, without a comment that would name the owner.
pub fn armored(cert: &Cert) -> Vec<u8> {
    let mut writer = armor::Writer::new(Vec::new(), armor::Kind::PublicKey).unwrap();
    writer.write_all(&public(cert)).unwrap();
    writer.finalize().unwrap()
}

pub fn fingerprint(cert: &Cert) -> String {
    cert.fingerprint().to_hex()
}
