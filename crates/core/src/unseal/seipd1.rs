//! Reads a Symmetrically Encrypted and Integrity Protected Data packet of version 1 (RFC 9580, section 5.13.1) under
//! AES: with 256 bits what [`crate::openpgp`] writes.
//!
//! Sequoia's reader is not used: it panics on some packets that are cut off (2.4.2), and is slower than is needed. As
//! there, cipher and hash are RustCrypto's.

use std::io::{self, Read};

use aes::cipher::inout::InOutBuf;
use aes::cipher::{
    AsyncStreamCipher as _, BlockCipher, BlockDecryptMut as _, BlockEncryptMut, KeyInit, KeyIvInit as _,
};
use cfb_mode::Decryptor;
use sequoia_openpgp::crypto::SessionKey;
use sha1::{Digest as _, Sha1};

use super::broken;

/// Octets of an AES block.
const BLOCK: usize = 16;

/// Random octets at the beginning, the last two of them twice.
const PREFIX: usize = BLOCK + 2;

/// Octets that are decrypted at once.
const DECRYPTED_SIZE: usize = 16 * 1024;

/// Tag and length of the Modification Detection Code packet, which ends the plaintext.
const MDC_HEADER: [u8; 2] = [0xd3, 20];

/// Octets of that packet.
const MDC: usize = MDC_HEADER.len() + 20;

/// Decrypts what is read. It ends only where the Modification Detection Code proves that nothing was changed.
pub struct Seipd1<R, C: BlockEncryptMut + BlockCipher> {
    inner: R,
    /// `None` when all is decrypted.
    cipher: Option<Decryptor<C>>,
    hash: Sha1,
    /// Decrypted octets; the last [`MDC`] of them may be the code.
    plain: Vec<u8>,
    /// Where in them the next ones to be read are.
    next: usize,
    /// Where those end that are no code.
    end: usize,
}

impl<R: Read, C: BlockEncryptMut + BlockCipher + KeyInit> Seipd1<R, C> {
    /// Decrypts the packet body `inner`, behind the version, with `session_key`.
    ///
    /// # Errors
    /// Those of `inner`; a key of another length, and a packet that ends at once.
    pub fn new(inner: R, session_key: &SessionKey) -> io::Result<Self> {
        let cipher = Decryptor::new_from_slices(session_key, &[0; BLOCK])
            .map_err(|_| broken("the session key has a wrong length"))?;
        let plain = Vec::with_capacity(DECRYPTED_SIZE + 2 * MDC);
        let mut seipd = Self { inner, cipher: Some(cipher), hash: Sha1::new(), plain, next: 0, end: 0 };
        seipd.fill()?;
        // What it is need not be looked at: the code covers it.
        seipd.next = PREFIX;
        if seipd.end < PREFIX {
            return Err(broken("the encrypted packet is too short"));
        }
        Ok(seipd)
    }

    /// Decrypts the next piece.
    fn fill(&mut self) -> io::Result<()> {
        self.plain.drain(..self.end);
        (self.next, self.end) = (0, 0);
        let Some(mut cipher) = self.cipher.take() else { return Ok(()) };
        let start = self.plain.len();
        let count = (&mut self.inner).take(DECRYPTED_SIZE as u64).read_to_end(&mut self.plain)?;
        if count == DECRYPTED_SIZE {
            let (blocks, _) = InOutBuf::from(&mut self.plain[start..]).into_chunks();
            cipher.decrypt_blocks_inout_mut(blocks);
            self.cipher = Some(cipher);
        } else {
            cipher.decrypt(&mut self.plain[start..]);
        }
        let Some(end) = self.plain.len().checked_sub(MDC) else {
            return Err(broken("the encrypted packet is too short"));
        };
        self.end = end;
        self.hash.update(&self.plain[..end]);
        if self.cipher.is_none() {
            self.check()?;
        }
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        let code = &self.plain[self.end..];
        self.hash.update(MDC_HEADER);
        let expected = self.hash.finalize_reset();
        if code[..2] == MDC_HEADER && code[2..] == expected[..] {
            Ok(())
        } else {
            Err(broken("the integrity check fails: it was changed, or cut off"))
        }
    }
}

impl<R: Read, C: BlockEncryptMut + BlockCipher + KeyInit> Read for Seipd1<R, C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.next == self.end {
            if self.cipher.is_none() {
                return Ok(0);
            }
            self.fill()?;
        }
        let count = buffer.len().min(self.end - self.next);
        buffer[..count].copy_from_slice(&self.plain[self.next..][..count]);
        self.next += count;
        Ok(count)
    }
}
