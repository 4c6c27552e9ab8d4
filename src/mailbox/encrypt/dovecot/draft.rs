//! A sealed message that waits to be appended: its size must be known before its first byte is sent.
//!
//! It lies in memory while it is small, else in an unlinked file. It holds ciphertext and what stands outside of it,
//! nothing else.

use std::io::{self, BufReader, Read, Seek as _, Write};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tempfile::SpooledTempFile;

/// Beyond this size it is written to a file.
const IN_MEMORY: usize = 512 * 1024;

/// A sealed message.
pub struct Draft {
    text: SpooledTempFile,
    hash: Sha256,
    size: u64,
}

impl Default for Draft {
    /// Nothing yet.
    fn default() -> Self {
        Self { text: SpooledTempFile::new(IN_MEMORY), hash: Sha256::new(), size: 0 }
    }
}

impl Draft {
    /// Its size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> String {
        HEXLOWER.encode(&self.hash.clone().finalize())
    }

    /// Its text, from the beginning.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn text(&mut self) -> io::Result<&mut dyn Read> {
        self.text.rewind()?;
        Ok(&mut self.text)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.text.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.text.flush()
    }
}

/// The hash of what `message` holds.
///
/// # Errors
/// Those of the reader.
pub fn hash(message: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(message, &mut hash)?;
    Ok(HEXLOWER.encode(&hash.finalize()))
}

/// Whether two texts are the same but for their CRs, to their ends.
///
/// # Errors
/// Those of the readers.
pub fn same_but_for_cr(one: impl Read, other: impl Read) -> io::Result<bool> {
    let bare = |byte: &io::Result<u8>| !matches!(byte, Ok(b'\r'));
    let mut one = BufReader::new(one).bytes().filter(bare);
    let mut other = BufReader::new(other).bytes().filter(bare);
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_to_their_ends() {
        let same = |one: &[u8], other: &[u8]| same_but_for_cr(one, other).unwrap();
        for (one, other) in [(&b""[..], &b"\r"[..]), (b"a\r\r\nb", b"a\nb\r"), (b"a", b"a")] {
            assert!(same(one, other) && same(other, one));
        }
        for (one, other) in [(&b"a"[..], &b""[..]), (b"a\nb", b"a\nbc"), (b"a\r\nb", b"a\n\nb"), (b"a", b"b")]
        {
            assert!(!same(one, other) && !same(other, one));
        }
    }
}
