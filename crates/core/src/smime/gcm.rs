//! AES-256-GCM as a stream (NIST SP 800-38D, section 7): RustCrypto's counter mode and GHASH, put together as its `aes-gcm` does
//! with a whole message in memory.
//!
//! Nothing stands beside the text that is authenticated as well. What was decrypted is not to be believed before
//! [`Gcm::verify`] has said so.

use std::io;

use aes::Aes256;
use aes::cipher::{BlockEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use ctr::Ctr32BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;

use super::recipient::ContentKey;

/// Octets of the nonce.
pub const NONCE: usize = 12;

/// Octets of the authentication tag.
pub const TAG: usize = 16;

/// Octets of an AES block.
const BLOCK: usize = 16;

/// A text that is being encrypted or decrypted, in pieces.
pub struct Gcm {
    stream: Ctr32BE<Aes256>,
    hash: GHash,
    /// What hides the hash: the first block of the stream.
    mask: [u8; BLOCK],
    /// Octets of text so far.
    octets: u64,
}

impl Gcm {
    /// Begins a text under `key`. No other one may be encrypted with the same key and `nonce`.
    #[must_use]
    pub fn new(key: &ContentKey, nonce: &[u8; NONCE]) -> Self {
        let mut hash_key = ghash::Key::default();
        Aes256::new((&**key).into()).encrypt_block(&mut hash_key);
        let mut counter = [0; BLOCK];
        counter[..NONCE].copy_from_slice(nonce);
        counter[BLOCK - 1] = 1;
        let mut stream = Ctr32BE::<Aes256>::new((&**key).into(), &counter.into());
        let mut mask = [0; BLOCK];
        stream.apply_keystream(&mut mask);
        Self { stream, hash: GHash::new(&hash_key), mask, octets: 0 }
    }

    /// Encrypts the next piece, in place: whole blocks, but for the last one.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] where the text has more than 2^36 - 32 octets, beyond which the mode gives no secrecy.
    pub fn encrypt(&mut self, piece: &mut [u8]) -> io::Result<()> {
        self.apply(piece)?;
        self.hash.update_padded(piece);
        Ok(())
    }

    /// Decrypts the next piece, in place: whole blocks, but for the last one.
    ///
    /// # Errors
    /// As [`Gcm::encrypt`].
    pub fn decrypt(&mut self, piece: &mut [u8]) -> io::Result<()> {
        self.hash.update_padded(piece);
        self.apply(piece)
    }

    /// The tag of all that was encrypted.
    #[must_use]
    pub fn tag(self) -> [u8; TAG] {
        let (hash, mask) = self.ended();
        masked(hash.finalize().into(), &mask)
    }

    /// Whether `tag` is that of all that was decrypted. How long this takes does not depend on the tag.
    #[must_use]
    pub fn verify(self, tag: &[u8; TAG]) -> bool {
        let (hash, mask) = self.ended();
        hash.verify(&masked(*tag, &mask).into()).is_ok()
    }

    fn apply(&mut self, piece: &mut [u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than AES-GCM encrypts");
        self.stream.try_apply_keystream(piece).map_err(too_long)?;
        self.octets += piece.len() as u64;
        Ok(())
    }

    /// The hash with the lengths at its end, and its mask.
    fn ended(mut self) -> (GHash, [u8; BLOCK]) {
        // The bits of what is authenticated beside the text, then those of the text.
        let mut lengths = ghash::Block::default();
        lengths[BLOCK / 2..].copy_from_slice(&(self.octets * 8).to_be_bytes());
        self.hash.update(&[lengths]);
        (self.hash, self.mask)
    }
}

fn masked(mut hash: [u8; TAG], mask: &[u8; TAG]) -> [u8; TAG] {
    hash.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
    hash
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::AeadInPlace as _;
    use aes_gcm::{Aes256Gcm, KeyInit as _};
    use proptest::prelude::*;

    use super::*;

    fn begun(key: [u8; 32], nonce: [u8; NONCE]) -> Gcm {
        Gcm::new(&ContentKey::new(key), &nonce)
    }

    /// SP 800-38D's authors' vectors: test cases 13, 14 and 15 of "The Galois/Counter Mode of Operation", 2005.
    #[test]
    fn published_vectors_are_met() {
        let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
        let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                     b16aedf5aa0de657ba637b391aafd255";
        let cipher = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                      c5f61e6393ba7a0abcc9f662898015ad";
        for (key, nonce, plain, cipher, tag) in [
            ("00".repeat(32), "00".repeat(12), "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
            (
                "00".repeat(32),
                "00".repeat(12),
                &*"00".repeat(16),
                "cea7403d4d606b6e074ec5d3baf39d18",
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (
                key.into(),
                "cafebabefacedbaddecaf888".into(),
                plain,
                cipher,
                "b094dac5d93471bdec1a502270e3cc6c",
            ),
        ] {
            let mut gcm = begun(hex(&key).try_into().unwrap(), hex(&nonce).try_into().unwrap());
            let mut text = hex(plain);
            gcm.encrypt(&mut text).unwrap();
            assert_eq!((text, gcm.tag().to_vec()), (hex(cipher), hex(tag)));
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            key: [u8; 32],
            nonce: [u8; NONCE],
            text in prop::collection::vec(any::<u8>(), 0..5000),
            blocks in 1..40usize,
            bit in 0..128usize,
        ) {
            let mut whole = text.clone();
            let tag = Aes256Gcm::new(&key.into()).encrypt_in_place_detached(&nonce.into(), b"", &mut whole);
            let tag: [u8; TAG] = tag.unwrap().into();
            let mut pieces = text.clone();
            let mut gcm = begun(key, nonce);
            pieces.chunks_mut(blocks * BLOCK).try_for_each(|piece| gcm.encrypt(piece)).unwrap();
            prop_assert_eq!(&pieces, &whole);
            prop_assert_eq!(gcm.tag(), tag);

            let decrypt = |mut pieces: Vec<u8>, tag: &[u8; TAG]| {
                let mut gcm = begun(key, nonce);
                pieces.chunks_mut(blocks * BLOCK).try_for_each(|piece| gcm.decrypt(piece)).unwrap();
                (pieces, gcm.verify(tag))
            };
            prop_assert_eq!(decrypt(pieces.clone(), &tag), (text, true));
            let mut other = tag;
            other[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!decrypt(pieces.clone(), &other).1);
            let at = bit % pieces.len().max(1);
            if let Some(octet) = pieces.get_mut(at) {
                *octet ^= 1 << (bit % 8);
                prop_assert!(!decrypt(pieces, &tag).1);
            }
        }
    }

    /// The counter has 32 bits, and starts at 1 with the mask.
    #[test]
    fn a_text_that_is_too_long_is_refused() {
        use aes::cipher::StreamCipherSeek as _;
        let mut gcm = begun([1; 32], [2; NONCE]);
        gcm.stream.seek((1u64 << 36) - 32);
        assert!(gcm.encrypt(&mut [0; BLOCK]).is_ok());
        assert_eq!(gcm.encrypt(&mut [0; BLOCK]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
