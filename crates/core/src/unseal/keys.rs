//! Who opens messages: whoever has the secret keys, wherever those lie.

use cms::enveloped_data::RecipientInfo;
use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::types::SymmetricAlgorithm;

use crate::error::Error;
use crate::smime::recipient::ContentKey;

/// Who can open messages.
pub trait Keys: Sync {
    /// The session key in one of these packets; `None` where none of them is for a key that is here.
    ///
    /// # Errors
    /// [`Error::Keys`], with an error of the implementation's own, when a key is here and cannot be used.
    fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, Error>;

    /// What opens an S/MIME message that is for these recipients; `None` where none of them has a key that is here, as in
    /// whoever holds no such keys.
    ///
    /// # Errors
    /// As [`Keys::session_key`].
    fn content_key(&self, _recipients: &[RecipientInfo]) -> Result<Option<Opened>, Error> {
        Ok(None)
    }
}

/// The content key of an S/MIME message, and what opened it.
#[derive(Debug)]
pub struct Opened {
    /// The content key.
    pub content_key: ContentKey,
    /// Which key carried it ([`PrivateKey::public`](crate::smime::recipient::PrivateKey::public)).
    pub public: Vec<u8>,
}

/// A session key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its cipher, where the packet that carried it says so (version 3; RFC 9580, section 5.1.1).
    pub cipher: Option<SymmetricAlgorithm>,
    /// The key.
    pub key: SessionKey,
}
