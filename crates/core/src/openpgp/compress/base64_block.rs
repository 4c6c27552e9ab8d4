//! One block of DEFLATE (RFC 1951, section 3.2.7) for base64 text, with a Huffman code made beforehand.
//!
//! The characters of base64 are all about as frequent, so no code fits it better than one of six bits for nearly every
//! character, and looking for repetitions in it finds none: this is all that a compressor could win, at several times
//! its speed. Every other byte has a code too, a long one.

use std::sync::LazyLock;

/// Symbols of the literal alphabet that the block uses: the bytes, and the end of the block.
const SYMBOLS: usize = 257;
const END_OF_BLOCK: usize = 256;

/// Base64's characters get six bits, but for these three, the line ending and all that is rare: Kraft's inequality
/// leaves room for no more.
const SEVEN_BITS: &[u8] = b"+/9\r\n";

/// Of the 191 symbols that are rare so many get 14 bits, and the others 15, which makes the code complete.
const FOURTEEN_BITS: usize = 65;

/// In which order the lengths of the code for the lengths are written (RFC 1951, section 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The code for the lengths 1, 6, 7, 14, 15 and for 16, "the last one three to six times more".
const LENGTH_LENGTHS: [(usize, u8); 6] = [(6, 2), (14, 2), (15, 2), (7, 3), (1, 4), (16, 4)];

/// Repeats the last length; two bits say how often beyond three times.
const REPEAT: usize = 16;

/// Collects bits, the first in the lowest place.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    /// Fewer than eight bits, for the next byte.
    bits: u64,
    count: u32,
}

/// Bits that can be pushed at once: a word has room for them beside what is left of a byte.
const MOST: u32 = u64::BITS - 8;

impl Bits {
    /// Appends the lowest `count` bits of `bits`, at most [`MOST`]; the others are zero.
    #[inline]
    fn push(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
        // Writes the whole word without a branch, and takes the unfinished part back.
        let length = self.bytes.len() + self.count as usize / 8;
        self.bytes.extend_from_slice(&self.bits.to_le_bytes());
        self.bytes.truncate(length);
        self.bits = self.bits.unbounded_shr(self.count & !7);
        self.count &= 7;
    }

    /// Fills the last byte up with zeros.
    fn align(&mut self) {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
    }

    /// The whole bytes that there are; they are taken out.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Begins a block that is not the last.
    pub fn begin(&mut self) {
        for code in &TABLE.header {
            self.push(code.bits, code.count);
        }
    }

    /// Writes `text` into the block.
    pub fn literals(&mut self, text: &[u8]) {
        let codes = &TABLE.codes;
        self.bytes.reserve(text.len() + size_of::<u64>());
        let mut fours = text.chunks_exact(4);
        for four in &mut fours {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| codes[usize::from(four[at])]);
            let (first, second) = (a.then(b), c.then(d));
            if first.count + second.count <= MOST {
                let both = first.then(second);
                self.push(both.bits, both.count);
            } else {
                self.push(first.bits, first.count);
                self.push(second.bits, second.count);
            }
        }
        for &byte in fours.remainder() {
            let code = codes[usize::from(byte)];
            self.push(code.bits, code.count);
        }
    }

    /// Ends the block, and goes to a border of bytes with an empty stored block, where a compressor can go on.
    pub fn end(&mut self) {
        self.end_of_block();
        self.push(0, 3);
        self.align();
        self.bytes.extend_from_slice(&[0, 0, 0xff, 0xff]);
    }

    /// Ends the block, and all with an empty last block.
    pub fn end_all(&mut self) {
        self.end_of_block();
        // The last block, with the fixed code, whose end is seven zeros.
        self.push(0b011, 3);
        self.push(0, 7);
        self.align();
    }

    fn end_of_block(&mut self) {
        let code = TABLE.codes[END_OF_BLOCK];
        self.push(code.bits, code.count);
    }
}

/// A code word, or several, the first bit in the lowest place.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u64,
    count: u32,
}

impl Code {
    /// This and then `next`.
    fn then(self, next: Self) -> Self {
        Self { bits: self.bits | (next.bits << self.count), count: self.count + next.count }
    }
}

struct Table {
    codes: [Code; SYMBOLS],
    /// What begins a block, as bits and their number.
    header: Vec<Code>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let lengths = lengths();
    Table { codes: codes(&lengths), header: header(&lengths) }
});

/// The lengths of the code words.
fn lengths() -> [u8; SYMBOLS] {
    let mut rare = 0;
    std::array::from_fn(|symbol| {
        let byte = u8::try_from(symbol).ok();
        match byte {
            Some(byte) if SEVEN_BITS.contains(&byte) => 7,
            Some(byte) if byte.is_ascii_alphanumeric() => 6,
            _ => {
                rare += 1;
                if rare <= FOURTEEN_BITS { 14 } else { 15 }
            }
        }
    })
}

/// The canonical code with these lengths (RFC 1951, section 3.2.2).
fn codes<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut codes = [Code::default(); N];
    let mut next = 0u16;
    for count in 1..=15u8 {
        next <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, length)| **length == count) {
            codes[symbol] = Code { bits: (next.reverse_bits() >> (16 - count)).into(), count: count.into() };
            next += 1;
        }
    }
    codes
}

/// What begins a block that is not the last and has its own code (RFC 1951, section 3.2.7).
fn header(lengths: &[u8; SYMBOLS]) -> Vec<Code> {
    let number = |bits: usize, count| Code { bits: bits as u64, count };
    let mut length_lengths = [0; 19];
    for (length, count) in LENGTH_LENGTHS {
        length_lengths[length] = count;
    }
    let length_codes = codes(&length_lengths);

    // Two distance symbols are never used, but make every reader content.
    let all: Vec<u8> = lengths.iter().copied().chain([1, 1]).collect();
    let mut header = vec![number(0, 1), number(2, 2), number(SYMBOLS - 257, 5), number(2 - 1, 5)];
    let unused = LENGTH_ORDER.iter().rev().take_while(|length| length_lengths[**length] == 0).count();
    let written = LENGTH_ORDER.len() - unused;
    header.push(number(written - 4, 4));
    header.extend(LENGTH_ORDER[..written].iter().map(|length| number(length_lengths[*length].into(), 3)));
    for run in all.chunk_by(|a, b| a == b) {
        let length = length_codes[usize::from(run[0])];
        header.push(length);
        let mut left = run.len() - 1;
        while left >= 3 {
            let now = left.min(6);
            header.extend([length_codes[REPEAT], number(now - 3, 2)]);
            left -= now;
        }
        header.extend(std::iter::repeat_n(length, left));
    }
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_code_is_complete() {
        let sum: u32 = lengths().iter().map(|length| 1 << (15 - length)).sum();
        assert_eq!(sum, 1 << 15);
        assert_eq!(LENGTH_LENGTHS.iter().map(|(_, count)| 1 << (4 - count)).sum::<u32>(), 1 << 4);
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for text in [&b""[..], b"A", b"QUJD\r\nREVG\r\n", &all] {
            let mut bits = Bits::default();
            bits.begin();
            bits.literals(text);
            bits.end();
            bits.begin();
            bits.literals(text);
            bits.end_all();
            let mut read = Vec::new();
            flate2::read::DeflateDecoder::new(&*bits.take()).read_to_end(&mut read).unwrap();
            assert_eq!(read, text.repeat(2));
        }
    }
}
