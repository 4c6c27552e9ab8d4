//! The Symmetrically Encrypted and Integrity Protected Data packet, version 1 (RFC 9580, section 5.13.1), with
//! AES-256.
//!
//! The format only: the block cipher, its CFB mode and SHA-1 are RustCrypto's, the session key and the random octets
//! sequoia's. SHA-1 and AES work on the same small piece in turn, so that the processor overlaps their two chains of
//! dependent instructions: together they take hardly longer than one of them.

use std::io::{self, Write};

use aes::Aes256;
use cfb_mode::BufEncryptor;
use cfb_mode::cipher::KeyIvInit as _;
use sequoia_openpgp::crypto::{SessionKey, random};
use sha1::{Digest as _, Sha1};

use super::framing::{PARTIAL, Packet, Tag};

/// Octets of an AES block.
const BLOCK: usize = 16;

/// Octets of a SHA-1 block, the piece that both work on in turn.
const PIECE: usize = 64;

/// Tag and length of the Modification Detection Code packet (RFC 9580, section 5.13.1).
const MDC_HEADER: [u8; 2] = [0xd3, 20];

/// Encrypts what is written; [`Seipd1::finish`] must be called to end it.
pub struct Seipd1<W> {
    packet: Packet<W>,
    cipher: BufEncryptor<Aes256>,
    hash: Sha1,
    /// Octets that the next piece may have until the next border of a SHA-1 block.
    room: usize,
    scratch: Vec<u8>,
}

impl<W: Write> Seipd1<W> {
    /// Begins the packet on `inner`. `session_key` is a key for AES-256.
    ///
    /// # Errors
    /// Those of `inner`, and those of the random number generator; a key of another length.
    pub fn new(inner: W, session_key: &SessionKey) -> io::Result<Self> {
        let cipher = BufEncryptor::new_from_slices(session_key, &[0; BLOCK]).map_err(io::Error::other)?;
        let mut packet = Packet::new(inner, Tag::Seipd)?;
        packet.write_all(&[1])?;
        let mut this =
            Self { packet, cipher, hash: Sha1::new(), room: PIECE, scratch: Vec::with_capacity(PARTIAL) };
        let mut prefix = [0; BLOCK + 2];
        random(&mut prefix[..BLOCK]).map_err(io::Error::other)?;
        prefix.copy_within(BLOCK - 2..BLOCK, BLOCK);
        this.write_all(&prefix)?;
        Ok(this)
    }

    /// Writes the Modification Detection Code, ends the packet, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        self.hash.update(MDC_HEADER);
        let mut code = [0; MDC_HEADER.len() + 20];
        code[..MDC_HEADER.len()].copy_from_slice(&MDC_HEADER);
        code[MDC_HEADER.len()..].copy_from_slice(&self.hash.finalize_reset());
        self.cipher.encrypt(&mut code);
        self.packet.write_all(&code)?;
        self.packet.finish()
    }
}

impl<W: Write> Write for Seipd1<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(PARTIAL);
        self.scratch.clear();
        self.scratch.extend_from_slice(&data[..count]);
        // The prefix is 18 octets long: SHA-1 wants whole blocks, so the pieces follow its borders.
        let (first, rest) = self.scratch.split_at_mut(self.room.min(count));
        for piece in std::iter::once(first).chain(rest.chunks_mut(PIECE)) {
            self.hash.update(&*piece);
            self.cipher.encrypt(piece);
        }
        self.room = PIECE - (PIECE - self.room + count) % PIECE;
        self.packet.write_all(&self.scratch)?;
        Ok(count)
    }

    /// Does nothing: what is not in a partial body yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
