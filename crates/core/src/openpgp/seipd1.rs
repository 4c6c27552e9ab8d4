//! The Symmetrically Encrypted and Integrity Protected Data packet, version 1 (RFC 9580, section 5.13.1), with
//! AES-256.
//!
//! The format only: the block cipher, its CFB mode and SHA-1 are RustCrypto's, the session key and the random octets
//! sequoia's. SHA-1 and AES work on the same small piece in turn, so that the processor overlaps their two chains of
//! dependent instructions: together they take hardly longer than one of them.

use std::io::{self, Write};

use aes::Aes256;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use cfb_mode::Encryptor;
use sequoia_openpgp::crypto::{SessionKey, random};
use sha1::{Digest as _, Sha1};

use super::framing::{PARTIAL, Packet};
use super::header::tag;

/// Octets of an AES block.
const BLOCK: usize = 16;

/// Octets of a SHA-1 block, the piece that both work on in turn. In pieces of 256 octets the two together are a sixth
/// slower.
const SHA1_BLOCK: usize = 64;

/// Octets of a SHA-1 digest.
const DIGEST: usize = 20;

/// Tag and length of the Modification Detection Code packet (RFC 9580, section 5.13.1).
const MDC_HEADER: [u8; 2] = [0xd3, DIGEST as u8];

/// Encrypts what is written; [`Seipd1::finish`] must be called to end it.
pub struct Seipd1<W> {
    packet: Packet<W>,
    cipher: Encryptor<Aes256>,
    hash: Sha1,
    /// What is not encrypted yet, from a border of the cipher's and the hash's blocks on.
    plain: Vec<u8>,
}

impl<W: Write> Seipd1<W> {
    /// Begins the packet on `inner`. `session_key` is a key for AES-256.
    ///
    /// # Errors
    /// Those of `inner`, and those of the random number generator; a key of another length.
    pub fn new(inner: W, session_key: &SessionKey) -> io::Result<Self> {
        let cipher = Encryptor::new_from_slices(session_key, &[0; BLOCK]).map_err(io::Error::other)?;
        let mut packet = Packet::new(inner, tag::SEIPD)?;
        packet.write_all(&[1])?;
        // Random octets, the last two of them twice.
        let mut plain = Vec::with_capacity(PARTIAL);
        plain.resize(BLOCK, 0);
        random(&mut plain).map_err(io::Error::other)?;
        plain.extend_from_within(BLOCK - 2..);
        Ok(Self { packet, cipher, hash: Sha1::new(), plain })
    }

    /// Writes the Modification Detection Code, ends the packet, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        self.plain.extend_from_slice(&MDC_HEADER);
        self.hash.update(&self.plain);
        self.plain.extend_from_slice(&self.hash.finalize_reset());
        // CFB's last block may be short: it is encrypted whole, and the surplus left off.
        let length = self.plain.len();
        self.plain.resize(length.next_multiple_of(BLOCK), 0);
        encrypt(&mut self.cipher, &mut self.plain);
        self.packet.write_all(&self.plain[..length])?;
        self.packet.finish()
    }
}

impl<W: Write> Write for Seipd1<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(PARTIAL - self.plain.len());
        self.plain.extend_from_slice(&data[..count]);
        if self.plain.len() == PARTIAL {
            for piece in self.plain.chunks_exact_mut(SHA1_BLOCK) {
                self.hash.update(&*piece);
                encrypt(&mut self.cipher, piece);
            }
            self.packet.write_all(&self.plain)?;
            self.plain.clear();
        }
        Ok(count)
    }

    /// Does nothing: what is not in a partial body yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encrypts whole blocks in place.
fn encrypt(cipher: &mut Encryptor<Aes256>, data: &mut [u8]) {
    let (blocks, _) = InOutBuf::from(data).into_chunks();
    cipher.encrypt_blocks_inout_mut(blocks);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sequoia_openpgp::packet::{PKESK, SKESK};
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::parse::stream::{
        DecryptionHelper, DecryptorBuilder, MessageStructure, VerificationHelper,
    };
    use sequoia_openpgp::policy::StandardPolicy;
    use sequoia_openpgp::types::SymmetricAlgorithm;
    use sequoia_openpgp::{Cert, KeyHandle, Result};

    use super::*;
    use crate::openpgp::literal::literal;

    /// Knows the session key.
    struct Knows<'a>(&'a SessionKey);

    impl VerificationHelper for Knows<'_> {
        fn get_certs(&mut self, _: &[KeyHandle]) -> Result<Vec<Cert>> {
            Ok(Vec::new())
        }

        fn check(&mut self, _: MessageStructure<'_>) -> Result<()> {
            Ok(())
        }
    }

    impl DecryptionHelper for Knows<'_> {
        fn decrypt(
            &mut self,
            _: &[PKESK],
            _: &[SKESK],
            _: Option<SymmetricAlgorithm>,
            decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
        ) -> Result<Option<Cert>> {
            decrypt(Some(SymmetricAlgorithm::AES256), self.0);
            Ok(None)
        }
    }

    /// What sequoia finds in a packet, after it has checked the Modification Detection Code.
    fn decrypt(packet: &[u8], key: &SessionKey) -> Result<Vec<u8>> {
        let policy = StandardPolicy::new();
        let mut decryptor = DecryptorBuilder::from_bytes(packet)?.with_policy(&policy, None, Knows(key))?;
        let mut data = Vec::new();
        decryptor.read_to_end(&mut data)?;
        Ok(data)
    }

    fn encrypted(data: &[u8], piece: usize, key: &SessionKey) -> Vec<u8> {
        let mut packet = literal(Seipd1::new(Vec::new(), key).unwrap(), b"").unwrap();
        data.chunks(piece).for_each(|part| packet.write_all(part).unwrap());
        packet.finish().unwrap().finish().unwrap()
    }

    #[test]
    fn sequoia_decrypts_every_length_near_a_border() {
        let key = SessionKey::new(32).unwrap();
        let data: Vec<u8> = (0..3 * PARTIAL + 200).map(|i| (i * 7 % 251) as u8).collect();
        let near = |size: usize| size.saturating_sub(70)..size + 70;
        let sizes = near(0).chain(near(PARTIAL)).chain(near(2 * PARTIAL)).chain(near(3 * PARTIAL));
        for size in sizes {
            let found = decrypt(&encrypted(&data[..size], usize::MAX, &key), &key).unwrap();
            assert!(found == data[..size], "{size}");
        }
        for (size, piece) in [(100, 1), (PARTIAL + 1, 1), (2 * PARTIAL, 777), (3 * PARTIAL, PARTIAL)] {
            let found = decrypt(&encrypted(&data[..size], piece, &key), &key).unwrap();
            assert!(found == data[..size], "{size} in pieces of {piece}");
        }
    }

    #[test]
    fn every_change_is_noticed() {
        let key = SessionKey::new(32).unwrap();
        let packet = encrypted(&[b'x'; 300], usize::MAX, &key);
        // Sequoia 2.4 panics on some of them, which refuses as well.
        let refused =
            |packet: &[u8]| !matches!(std::panic::catch_unwind(|| decrypt(packet, &key).is_ok()), Ok(true));
        // Behind the header of the packet and its version.
        for at in 4..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(refused(&changed), "a flipped bit in octet {at}");
        }
        for length in 4..packet.len() {
            assert!(refused(&packet[..length]), "cut after {length} octets");
        }
    }
}
