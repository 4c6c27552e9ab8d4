//! Reads a Symmetrically Encrypted and Integrity Protected Data packet of version 2 (RFC 9580, section 5.13.2): its
//! header. The rest is sequoia's.

use std::io::{self, Read};

use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::crypto::aead::{Decryptor, SEIPv2Schedule};
use sequoia_openpgp::parse::buffered_reader::{BufferedReader as _, Generic};

use super::broken;

/// Octets of the salt.
const SALT: usize = 32;

/// Largest chunk size octet (RFC 9580, section 5.13.2): 4 MiB.
const LARGEST_CHUNK: u8 = 16;

/// Decrypts the packet body `inner`, behind the version, with `session_key`. What is read ends only where the final
/// tag proves that nothing was changed.
///
/// # Errors
/// Those of `inner`, and algorithms that are not known.
pub fn open<'a, R: Read + Send + Sync + 'a>(
    mut inner: R,
    session_key: &SessionKey,
) -> io::Result<Decryptor<'a, 'static>> {
    let mut header = [0; 3 + SALT];
    inner.read_exact(&mut header)?;
    let [cipher, mode, chunk, ref salt @ ..] = header;
    if chunk > LARGEST_CHUNK {
        return Err(broken("the encrypted packet has too large chunks"));
    }
    let chunk_size = 1 << (chunk + 6);
    let source = Generic::with_cookie(inner, None, Default::default()).into_boxed();
    let cannot = |error: sequoia_openpgp::anyhow::Error| io::Error::other(format!("{error:#}"));
    let schedule =
        SEIPv2Schedule::new(session_key, cipher.into(), mode.into(), chunk_size, salt).map_err(cannot)?;
    Decryptor::new(cipher.into(), mode.into(), chunk_size, schedule, source).map_err(cannot)
}
