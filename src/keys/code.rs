//! Codes that prove that somebody has read a message: random, typed by people, kept as hashes.

use mailseal_core::error::Error as CoreError;
use sequoia_openpgp::types::HashAlgorithm;

use crate::error::Error;

/// Characters of a code: none that looks like another. Each holds five bits.
pub const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// A new random code of `length` characters.
///
/// # Errors
/// [`CoreError::OpenPgp`] where the system has no random numbers.
pub fn new(length: usize) -> Result<String, Error> {
    let mut random = vec![0; length];
    sequoia_openpgp::crypto::random(&mut random).map_err(CoreError::OpenPgp)?;
    Ok(random.iter().map(|octet| char::from(ALPHABET[usize::from(octet % 32)])).collect())
}

/// SHA-256 of a code: who reads the server's files must not be able to confirm.
///
/// # Errors
/// [`CoreError::OpenPgp`].
pub fn hash(code: &str) -> Result<String, Error> {
    let mut context = HashAlgorithm::SHA256.context().map_err(CoreError::OpenPgp)?.for_digest();
    context.update(code.as_bytes());
    Ok(data_encoding::HEXLOWER.encode(&context.into_digest().map_err(CoreError::OpenPgp)?))
}
