//! AES-256-CFB and SHA-1 over the same octets, and nothing else: no SEIPDv1 message can be written faster with these
//! crates. Both work on 64 octets in turn, as `crates/core/src/openpgp/seipd1.rs` lets them.

use aes::Aes256;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use cfb_mode::Encryptor;
use sha1::{Digest as _, Sha1};

/// Octets that stay in the first-level cache.
const BUFFER: usize = 16 * 1024;

/// Octets of a SHA-1 block.
const PIECE: usize = 64;

/// Encrypts and hashes `data`; gives something that depends on all of it.
pub fn run(data: &[u8]) -> [u8; 20] {
    let mut cipher = Encryptor::<Aes256>::new(&[7; 32].into(), &[0; 16].into());
    let mut hash = Sha1::new();
    let mut buffer = [0; BUFFER];
    for part in data.chunks(BUFFER) {
        let buffer = &mut buffer[..part.len()];
        buffer.copy_from_slice(part);
        for piece in buffer.chunks_mut(PIECE) {
            hash.update(&*piece);
            let (blocks, _) = InOutBuf::from(piece).into_chunks();
            cipher.encrypt_blocks_inout_mut(blocks);
        }
    }
    hash.update(buffer);
    hash.finalize().into()
}
