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
    crypto::{KeyPair, hash::Hash as _},
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

/// The same with an additional decryption subkey (ADSK), as GnuPG 2.4 adds one of somebody else's: a flag of its own, in the second
/// octet, and no other.
pub fn with_adsk(cert: Cert) -> Cert {
    let subkey = Key4::generate_ecc(false, Curve::Cv25519).unwrap().into();
    bound(cert, subkey, binding().set_key_flags(KeyFlags::new([0, 4])).unwrap())
}

/// The same as GnuPG 2.5 writes it with `--quick-add-key FINGERPRINT kyber`: a subkey of LibrePGP's algorithm 8 (a Brainpool point
/// and ML-KEM-768), in a packet of `version` 4 or 5. Its numbers are nobody's key.
pub fn with_librepgp_kyber(cert: &Cert, version: u8) -> Vec<u8> {
    let mut material = b"\x09\x2b\x24\x03\x03\x02\x08\x01\x01\x07\x02\x03\x04".to_vec();
    material.extend([0x5a; 64]);
    material.extend(1184_u32.to_be_bytes());
    material.extend([0x5a; 1184]);
    let size = u32::try_from(material.len()).unwrap().to_be_bytes();
    let body = match version {
        5 => [&[5, 0x5e, 0x0b, 0xe1, 0x00, 8], &size[..], &material].concat(),
        _ => [&[4, 0x5e, 0x0b, 0xe1, 0x00, 8], &material[..]].concat(),
    };
    // Of version 4 two octets of length are signed, of version 5 four (draft-koch-librepgp, section 5.2.4).
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let (start, signed) = if version == 5 { (0x9a, &length[..]) } else { (0x99, &length[2..]) };
    let mut hash = HashAlgorithm::SHA512.context().unwrap().for_signature(4);
    cert.primary_key().key().hash(&mut hash).unwrap();
    hash.update(&[&[start], signed, &body].concat());
    let binding = binding().set_key_flags(mail()).unwrap().set_hash_algo(HashAlgorithm::SHA512);
    let binding = Packet::from(binding.sign_hash(&mut signer(cert), hash).unwrap()).to_vec().unwrap();
    // A packet of type 14 with a length of five octets.
    [&public(cert)[..], &[0xce, 0xff], &length, &body, &binding].concat()
}

/// An Autocrypt v2 certificate (draft-autocrypt-openpgp-v2-cert), with no User ID: an ML-KEM subkey that lasts, and one that is
/// replaced after ten days, made now.
pub fn autocrypt_v2() -> Cert {
    let lasting = Key6::generate_mlkem768_x25519().unwrap().into();
    with_rotated_subkey(add_subkey(without_subkeys(), lasting), SystemTime::now())
}

/// The same without the subkey that lasts.
pub fn autocrypt_v2_without_fallback() -> Cert {
    with_rotated_subkey(without_subkeys(), SystemTime::now())
}

/// The same certificate, version 6, with one more of those that are replaced, made at this time.
pub fn with_rotated_subkey(cert: Cert, at: SystemTime) -> Cert {
    let mut subkey: Key<_, SubordinateRole> = Key6::generate_mlkem768_x25519().unwrap().into();
    subkey.set_creation_time(at).unwrap();
    let binding = binding().set_signature_creation_time(at).unwrap().set_key_flags(mail()).unwrap();
    bound(cert, subkey, binding.set_key_validity_period(10 * DAY).unwrap())
}

fn without_subkeys() -> Cert {
    let builder =
        CertBuilder::new().set_profile(Profile::RFC9580).unwrap().set_cipher_suite(CipherSuite::Cv25519);
    let flags = KeyFlags::empty().set_certification().set_signing();
    builder.set_creation_time(birth()).set_primary_key_flags(flags).generate().unwrap().0
}

fn add_subkey(cert: Cert, subkey: Key<SecretParts, SubordinateRole>) -> Cert {
    bound(cert, subkey, binding().set_key_flags(mail()).unwrap())
}

fn binding() -> SignatureBuilder {
    SignatureBuilder::new(SignatureType::SubkeyBinding)
}

fn bound(cert: Cert, subkey: Key<SecretParts, SubordinateRole>, binding: SignatureBuilder) -> Cert {
    let binding = subkey.bind(&mut signer(&cert), &cert, binding).unwrap();
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
