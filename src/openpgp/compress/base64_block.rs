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
    bits: u64,
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of `bits`, at most 32; the others are zero.
    fn push(&mut self, bits: u32, count: u32) {
        self.bits |= u64::from(bits) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes.extend_from_slice(&(self.bits as u32).to_le_bytes());
            self.bits >>= 32;
            self.count -= 32;
        }
    }

    /// Fills the last byte up with zeros.
    fn align(&mut self) {
        while self.count > 0 {
            self.bytes.push(self.bits as u8);
            self.bits >>= 8;
            self.count = self.count.saturating_sub(8);
        }
    }

    /// The whole bytes that there are; they are taken out.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Begins a block that is not the last.
    pub fn begin(&mut self) {
        for &(bits, count) in &TABLE.header {
            self.push(bits.into(), count.into());
        }
    }

    /// Writes `text` into the block.
    pub fn literals(&mut self, text: &[u8]) {
        let codes = &TABLE.codes;
        self.bytes.reserve(text.len());
        let mut pairs = text.chunks_exact(2);
        for pair in &mut pairs {
            let (first, second) = (codes[usize::from(pair[0])], codes[usize::from(pair[1])]);
            self.push(
                u32::from(first.bits) | u32::from(second.bits) << first.count,
                (first.count + second.count).into(),
            );
        }
        for &byte in pairs.remainder() {
            let code = codes[usize::from(byte)];
            self.push(code.bits.into(), code.count.into());
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
        self.push(code.bits.into(), code.count.into());
    }
}

/// A code word, its first bit in the lowest place.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u16,
    count: u8,
}

struct Table {
    codes: [Code; SYMBOLS],
    /// What begins a block, as bits and their number.
    header: Vec<(u16, u8)>,
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
    for count in 1..=15 {
        next <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, length)| **length == count) {
            codes[symbol] = Code { bits: next.reverse_bits() >> (16 - count), count };
            next += 1;
        }
    }
    codes
}

/// Three bits for a block that is not the last and has its own code, then that code.
fn header(lengths: &[u8; SYMBOLS]) -> Vec<(u16, u8)> {
    let mut length_lengths = [0; 19];
    for (length, count) in LENGTH_LENGTHS {
        length_lengths[length] = count;
    }
    let length_codes = codes(&length_lengths);
    // 257 literal symbols; two distance symbols, which are never used but make every reader content.
    let mut out = vec![(0, 1), (2, 2), (0, 5), (1, 5)];
    let written =
        LENGTH_ORDER.len() - LENGTH_ORDER.iter().rev().take_while(|at| length_lengths[**at] == 0).count();
    // At least four and at most 19.
    out.push((written as u16 - 4, 4));
    out.extend(LENGTH_ORDER[..written].iter().map(|at| (length_lengths[*at].into(), 3)));
    let mut push = |symbol: usize| out.push((length_codes[symbol].bits, length_codes[symbol].count));
    let distances = [1, 1];
    let all: Vec<u8> = lengths.iter().chain(&distances).copied().collect();
    let mut repeats = Vec::new();
    for run in all.chunk_by(|a, b| a == b) {
        repeats.push((run[0], run.len()));
    }
    let mut symbols = Vec::new();
    for (length, mut times) in repeats {
        symbols.push((usize::from(length), None));
        times -= 1;
        while times >= 3 {
            let now = times.min(6);
            symbols.push((REPEAT, Some(now as u16 - 3)));
            times -= now;
        }
        symbols.extend(std::iter::repeat_n((usize::from(length), None), times));
    }
    let mut extra = Vec::new();
    for (symbol, repeat) in symbols {
        push(symbol);
        extra.push(repeat);
    }
    // The two bits of a repetition follow their symbol.
    let start = out.len() - extra.len();
    let mut header = out[..start].to_vec();
    for (code, repeat) in out[start..].iter().zip(extra) {
        header.push(*code);
        header.extend(repeat.map(|repeat| (repeat, 2)));
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
