//! The secret that is divided, and the key that it gives: an OpenPGP key of version 4 with Ed25519 and Curve25519, which every
//! OpenPGP program of the last years reads. It never expires.
//!
//! The secret is all that is needed beside the time at which the key was made: whoever has enough shares needs no certificate, no
//! server and no file. Self-signatures are made again whenever the key is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::crypto::mem::Protected;
use sequoia_openpgp::packet::key::{Key4, PrimaryRole, SecretParts, SubordinateRole};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::{Key, UserID};
use sequoia_openpgp::types::{
    CompressionAlgorithm, Features, HashAlgorithm, KeyFlags, SignatureType, SymmetricAlgorithm,
};
use sequoia_openpgp::{Cert, Packet, Result as OpenPgpResult};

use crate::error::Error;

/// Octets of a secret: the seed of the Ed25519 key that certifies, and the Curve25519 key that decrypts.
pub const OCTETS: usize = 2 * PART;

/// Octets of each.
const PART: usize = 32;

/// What gives the key. It is wiped from memory when it is dropped.
pub struct Secret {
    octets: Protected,
    made: u32,
}

impl Secret {
    /// A new secret, of random octets.
    ///
    /// # Errors
    /// [`CoreError::OpenPgp`] where the system has no random numbers; [`Error::Shares`] for a clock that OpenPGP cannot write.
    pub fn new(now: SystemTime) -> Result<Self, Error> {
        let seconds = now.duration_since(UNIX_EPOCH).ok().and_then(|it| u32::try_from(it.as_secs()).ok());
        let made = seconds.ok_or_else(|| Error::Shares {
            what: "the clock shows a time at which no OpenPGP key can be made".into(),
            hint: "set the clock".into(),
        })?;
        let mut octets = Protected::new(OCTETS);
        sequoia_openpgp::crypto::random(&mut octets).map_err(CoreError::OpenPgp)?;
        Ok(Self { octets, made })
    }

    /// The secret that shares have given, of a key made so many seconds after the beginning of 1970.
    pub fn from_parts(octets: Protected, made: u32) -> Self {
        Self { octets, made }
    }

    /// The secret itself.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// When the key was made, in seconds since 1970.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// The key with its secret parts. Its fingerprint is always the same; `name` is its User ID.
    ///
    /// # Errors
    /// [`CoreError::OpenPgp`].
    pub fn key(&self, name: &str) -> Result<Cert, Error> {
        self.build(name).map_err(|error| CoreError::OpenPgp(error).into())
    }

    fn build(&self, name: &str) -> OpenPgpResult<Cert> {
        let made = UNIX_EPOCH + Duration::from_secs(self.made.into());
        let (certifies, decrypts) = self.octets.split_at(PART);
        let primary: Key<SecretParts, PrimaryRole> = Key4::import_secret_ed25519(certifies, made)?.into();
        let subkey: Key<SecretParts, SubordinateRole> =
            Key4::import_secret_cv25519(decrypts, None, None, made)?.into();
        let mut signer = primary.clone().into_keypair()?;
        let cert = Cert::try_from(Packet::from(primary))?;

        let user_id = UserID::from(name);
        let about = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_hash_algo(HashAlgorithm::SHA512)
            .set_signature_creation_time(made)?
            .set_primary_userid(true)?
            .set_key_flags(KeyFlags::empty().set_certification())?
            .set_features(Features::empty().set_seipdv1())?
            .set_preferred_symmetric_algorithms(vec![SymmetricAlgorithm::AES256, SymmetricAlgorithm::AES128])?
            .set_preferred_hash_algorithms(vec![HashAlgorithm::SHA512, HashAlgorithm::SHA256])?
            .set_preferred_compression_algorithms(vec![
                CompressionAlgorithm::Zip,
                CompressionAlgorithm::Zlib,
            ])?;
        let binding = user_id.bind(&mut signer, &cert, about)?;
        let cert = cert.insert_packets([Packet::from(user_id), binding.into()])?.0;

        let about = SignatureBuilder::new(SignatureType::SubkeyBinding)
            .set_hash_algo(HashAlgorithm::SHA512)
            .set_signature_creation_time(made)?
            .set_key_flags(KeyFlags::empty().set_storage_encryption().set_transport_encryption())?;
        let binding = subkey.bind(&mut signer, &cert, about)?;
        Ok(cert.insert_packets([Packet::from(subkey), binding.into()])?.0)
    }
}

#[cfg(test)]
mod tests {
    use mailseal_core::cert::{Fitness, assess};

    use super::*;

    #[test]
    fn a_secret_always_gives_the_same_key() {
        let now = SystemTime::now();
        let secret = Secret::new(now).unwrap();
        let again = Secret::from_parts(Protected::from(secret.octets()), secret.made());
        let (key, same) = (secret.key("x").unwrap(), again.key("another").unwrap());
        assert_eq!(key.fingerprint(), same.fingerprint());
        let subkeys = |cert: &Cert| cert.keys().map(|key| key.key().fingerprint()).collect::<Vec<_>>();
        assert_eq!(subkeys(&key), subkeys(&same));
        assert_eq!(key.keys().secret().count(), 2);
        let other = Secret::new(now).unwrap();
        assert_ne!(key.fingerprint(), other.key("x").unwrap().fingerprint());
    }

    #[test]
    fn its_certificate_is_fit_for_ever() {
        let key = Secret::new(SystemTime::now()).unwrap().key("x").unwrap();
        let cert = key.strip_secret_key_material();
        for years in [0, 50] {
            let then = SystemTime::now() + Duration::from_secs(years * 365 * 86_400);
            let assessment = assess(&cert, then);
            assert_eq!((assessment.fitness, assessment.expires), (Fitness::Fit, None));
            assert_eq!(assessment.keys.len(), 1);
        }
    }

    #[test]
    fn a_clock_before_1970_or_after_2106_makes_no_key() {
        for (wrong, seconds) in
            [(UNIX_EPOCH.checked_sub(Duration::from_secs(1)), 0), (Some(UNIX_EPOCH), 1 << 32)]
        {
            let now = wrong.unwrap() + Duration::from_secs(seconds);
            assert!(matches!(Secret::new(now), Err(Error::Shares { .. })));
        }
    }
}
