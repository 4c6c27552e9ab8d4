//! Who opens messages: whoever has the secret keys, wherever those lie.

use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::types::SymmetricAlgorithm;

use crate::error::Error;

/// Who can open messages.
pub trait Keys: Sync {
    /// The session key in one of these packets; `None` where none of them is for a key that is here.
    ///
    /// # Errors
    /// [`Error::Keys`], with an error of the implementation's own, when a key is here and cannot be used.
    fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, Error>;
}

/// A session key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its cipher, where the packet that carried it says so (version 3; RFC 9580, section 5.1.1).
    pub cipher: Option<SymmetricAlgorithm>,
    /// The key.
    pub key: SessionKey,
}
