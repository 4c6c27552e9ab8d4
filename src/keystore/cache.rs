//! Certificates that a resident process has parsed and checked before, known by the octets that they were read from.
//!
//! The files are read and their rights judged for each message all the same: what is remembered is only what the same octets
//! mean. A file that has changed has other octets.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::keystore::any_cert::AnyCert;
use crate::limits;

/// What was read before.
#[derive(Debug, Default)]
pub struct Cache {
    parsed: Mutex<Parsed>,
}

#[derive(Debug, Default)]
struct Parsed {
    certs: HashMap<[u8; 32], Vec<AnyCert>>,
    /// How many octets they were read from.
    octets: usize,
}

impl Cache {
    /// The certificates in `bytes`, as [`super::parse`] reads them. The signatures of those that it remembers are checked
    /// already.
    ///
    /// # Errors
    /// Those of [`super::parse`].
    pub fn parse(&self, bytes: &[u8], path: &Path) -> Result<Vec<AnyCert>, Error> {
        let digest = Sha256::digest(bytes).into();
        // Nobody can leave it in a bad state: what it holds is true by itself.
        let parsed = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(certs) = parsed().certs.get(&digest) {
            return Ok(certs.clone());
        }
        let certs = super::parse(bytes, path)?;
        // A certificate remembers which of its signatures are good; whether it is fit is asked anew for each message.
        certs.iter().for_each(|cert| drop(cert.assess(SystemTime::now())));
        let mut parsed = parsed();
        if parsed.octets + bytes.len() > limits::CACHED_CERTIFICATES {
            *parsed = Parsed::default();
        }
        parsed.octets += bytes.len();
        parsed.certs.insert(digest, certs.clone());
        Ok(certs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_octets_give_the_same_certificates_and_others_do_not() {
        let (rsa, curve) = (
            include_bytes!("../../fixtures/certs/rsa3072.pgp").as_slice(),
            include_bytes!("../../fixtures/certs/curve25519.pgp").as_slice(),
        );
        let cache = Cache::default();
        let path = Path::new("/k");
        for _ in 0..2 {
            assert_eq!(cache.parse(rsa, path).unwrap(), super::super::parse(rsa, path).unwrap());
            assert_eq!(cache.parse(curve, path).unwrap(), super::super::parse(curve, path).unwrap());
            assert!(cache.parse(&rsa[..rsa.len() / 2], path).is_err());
        }
        assert_eq!(cache.parsed.lock().unwrap().octets, rsa.len() + curve.len());
    }
}
