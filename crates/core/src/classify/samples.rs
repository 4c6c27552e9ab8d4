//! What the tests of the judge fill messages with.

/// Octets as random as a test needs them.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Readable English.
pub fn text(length: usize) -> Vec<u8> {
    let words = "Nobody who looks at the stored mail should be able to read a sentence like this one, which was \
                 written so that its letters are as frequent as those of ordinary prose; 2,000 of them make a page. ";
    words.bytes().cycle().take(length).collect()
}
