//! Compresses text in windows: base64 with a code made beforehand, everything else with zlib.
//!
//! Most of a large mail is a compressed attachment in base64. A compressor spends all its time looking for repetitions
//! that are not there; what can be won is the third that base64 has added, and [`super::base64_block`] wins it. A
//! window counts as base64 only when its characters are about equally frequent and it does not repeat itself.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::base64_block::Bits;

/// Bytes that are judged together.
const WINDOW: usize = 16 * 1024;

/// Every so-manieth byte is looked at: a number that divides no usual length of a line (78, 77, 74, 66, 65 bytes).
const STRIDE: usize = 7;

/// At most one in so many bytes of base64 is something else, as a boundary between parts.
const STRANGERS: usize = 64;

/// How much likelier two characters may be the same than in random base64, in percent. Compressed data has less than
/// 103; text has over 150 in base64.
const EVENNESS: usize = 106;

/// What stands behind each of these characters is remembered, to find repetitions: one in 64 of base64.
const ANCHOR: u8 = b'A';

/// With fewer than one in so many bytes the window is not what it seems, and repetitions could not be seen.
const FEWEST_ANCHORS: usize = 128;

/// Places that are remembered; some windows have 256 each.
const ANCHOR_SLOTS: usize = 1 << 10;

/// One repeated place in so many is a coincidence no more.
const REPEATED: usize = 16;

/// zlib's level, gpg's default: what it makes must not be larger.
const LEVEL: i32 = 6;

/// zlib looks 32 KiB back, and at least 512 bytes.
const WINDOW_BITS: RangeInclusive<i32> = 9..=15;

/// What zlib keeps free of its window, in bytes, rounded up.
const LOOKAHEAD: usize = 512;

/// Bytes that zlib is given room for at once.
const OUTPUT: usize = 32 * 1024;

/// Writes raw DEFLATE; [`Windows::finish`] must be called to end it.
pub struct Windows<W> {
    inner: W,
    window: Vec<u8>,
    /// Who tells base64; where there is none, zlib does all.
    judge: Option<Judge>,
    mode: Mode,
    level: i32,
    /// There is none before it has something to do: what a short text needs is most of the memory that sealing it takes.
    zlib: Option<Deflate>,
    output: Vec<u8>,
}

/// Who writes the current block.
enum Mode {
    Zlib,
    Base64(Bits),
}

impl<W: Write> Windows<W> {
    /// Compresses to `inner`.
    pub fn new(inner: W) -> Self {
        Self { judge: Some(Judge::default()), ..Self::of_zlib(inner, LEVEL) }
    }

    /// Compresses to `inner`, all with zlib's `level`.
    pub fn of_zlib(inner: W, level: i32) -> Self {
        let output = vec![0; OUTPUT];
        Self { inner, window: Vec::new(), judge: None, mode: Mode::Zlib, level, zlib: None, output }
    }

    /// Compresses what is left up to a border of octets, and gives the writer below back. The stream has no end yet.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish_open(mut self) -> io::Result<W> {
        self.compress_last()?;
        match std::mem::replace(&mut self.mode, Mode::Zlib) {
            Mode::Zlib => self.run_zlib(&[], DeflateFlush::SyncFlush)?,
            Mode::Base64(mut bits) => {
                bits.end();
                self.inner.write_all(&bits.take())?;
            }
        }
        Ok(self.inner)
    }

    /// Compresses what is left, ends the stream, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        self.compress_last()?;
        match std::mem::replace(&mut self.mode, Mode::Zlib) {
            Mode::Zlib => self.run_zlib(&[], DeflateFlush::Finish)?,
            Mode::Base64(mut bits) => {
                bits.end_all();
                self.inner.write_all(&bits.take())?;
            }
        }
        Ok(self.inner)
    }

    /// Compresses the last window: where it is the only one, with no more memory than that needs.
    fn compress_last(&mut self) -> io::Result<()> {
        let window = std::mem::take(&mut self.window);
        if self.zlib.is_none() && self.level > 0 {
            self.zlib = Some(deflate(self.level, window.len()));
        }
        self.compress(&window)
    }

    /// Compresses one window.
    fn compress(&mut self, window: &[u8]) -> io::Result<()> {
        let base64 = self.judge.as_mut().is_some_and(|judge| judge.is_base64(window));
        match (&mut self.mode, base64) {
            (Mode::Zlib, false) => return self.run_zlib(window, DeflateFlush::NoFlush),
            (Mode::Zlib, true) => {
                // From here on zlib must not point back to what it wrote before.
                self.run_zlib(&[], DeflateFlush::FullFlush)?;
                let mut bits = Bits::default();
                bits.begin();
                self.mode = Mode::Base64(bits);
            }
            (Mode::Base64(_), true) => {}
            (Mode::Base64(bits), false) => {
                bits.end();
                self.inner.write_all(&bits.take())?;
                self.mode = Mode::Zlib;
                return self.run_zlib(window, DeflateFlush::NoFlush);
            }
        }
        if let Mode::Base64(bits) = &mut self.mode {
            bits.literals(window);
            self.inner.write_all(&bits.take())?;
        }
        Ok(())
    }

    fn run_zlib(&mut self, mut data: &[u8], flush: DeflateFlush) -> io::Result<()> {
        let zlib = self.zlib.get_or_insert_with(|| deflate(self.level, usize::MAX));
        loop {
            let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
            let status = zlib
                .compress(data, &mut self.output, flush)
                .map_err(|error| io::Error::other(error.as_str()))?;
            // Both are at most the lengths of the slices.
            data = &data[(zlib.total_in() - before_in) as usize..];
            let written = (zlib.total_out() - before_out) as usize;
            self.inner.write_all(&self.output[..written])?;
            let room_left = written < self.output.len();
            if status == Status::StreamEnd || (data.is_empty() && room_left && flush != DeflateFlush::Finish)
            {
                return Ok(());
            }
        }
    }
}

impl<W: Write> Write for Windows<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.window.is_empty() && data.len() >= WINDOW {
            self.compress(&data[..WINDOW])?;
            return Ok(WINDOW);
        }
        let count = data.len().min(WINDOW - self.window.len());
        self.window.extend_from_slice(&data[..count]);
        if self.window.len() == WINDOW {
            let mut window = std::mem::take(&mut self.window);
            self.compress(&window)?;
            window.clear();
            self.window = window;
        }
        Ok(count)
    }

    /// Does nothing: what is not compressed yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// zlib for at most `length` bytes: what it makes of them is the same with more memory.
fn deflate(level: i32, length: usize) -> Deflate {
    let bits = WINDOW_BITS.clone().find(|bits| 1usize << bits >= length.saturating_add(LOOKAHEAD));
    let window_bits = bits.unwrap_or(*WINDOW_BITS.end());
    // As many symbols as the window has bytes, up to zlib's default.
    let mem_level = (window_bits - 6).min(DeflateConfig::default().mem_level);
    Deflate::new_with_config(DeflateConfig {
        level,
        window_bits: -window_bits,
        mem_level,
        ..DeflateConfig::default()
    })
}

/// Tells base64 of compressed data from everything else.
struct Judge {
    anchors: Box<[u64; ANCHOR_SLOTS]>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { anchors: Box::new([0; ANCHOR_SLOTS]) }
    }
}

impl Judge {
    fn is_base64(&mut self, window: &[u8]) -> bool {
        is_even_base64(window) && !self.repeats(window)
    }

    /// Whether much of the window stood in it, or shortly before it, already. Places are chosen for what stands there,
    /// not for where they are, so repetitions at any distance meet.
    fn repeats(&mut self, window: &[u8]) -> bool {
        let (mut anchors, mut repeated) = (0, 0);
        for at in memchr::memchr_iter(ANCHOR, window) {
            let Some(word) = window.get(at + 1..).and_then(<[u8]>::first_chunk) else { break };
            let word = u64::from_le_bytes(*word);
            // The upper bits of a product with a random odd number are as good a hash as is needed here.
            let slot = &mut self.anchors[(word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize];
            repeated += usize::from(*slot == word);
            *slot = word;
            anchors += 1;
        }
        anchors < window.len() / FEWEST_ANCHORS || repeated > anchors / REPEATED
    }
}

/// Whether nearly all bytes are base64's, and its characters about equally frequent.
fn is_even_base64(window: &[u8]) -> bool {
    let mut counts = [0u16; 256];
    for byte in window.iter().step_by(STRIDE) {
        counts[usize::from(*byte)] += 1;
    }
    let line_ends = usize::from(counts[usize::from(b'\r')]) + usize::from(counts[usize::from(b'\n')]);
    let of_base64 = (0..=255u8).filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let (mut characters, mut pairs) = (0, 0);
    for byte in of_base64 {
        let count = usize::from(counts[usize::from(byte)]);
        characters += count;
        pairs += count * count;
    }
    let all = window.len().div_ceil(STRIDE);
    let strangers = all - line_ends - characters;
    // Of n random characters, n + n²/64 pairs are the same, each with itself included.
    let expected = characters + characters * characters / 64;
    characters > all / 2 && strangers <= all / STRANGERS && pairs * 100 <= expected * EVENNESS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is written at once, and however much zlib may take.
    fn made(text: &[u8], level: i32, fitted: bool) -> Vec<u8> {
        let mut windows = Windows::of_zlib(Vec::new(), level);
        if !fitted {
            windows.zlib = Some(deflate(level, usize::MAX));
        }
        windows.write_all(text).unwrap();
        windows.finish().unwrap()
    }

    #[test]
    fn a_short_text_becomes_the_same_with_less_memory() {
        let mail = include_bytes!("../../../../../fixtures/mails/alternative.eml").repeat(8);
        let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let borders = WINDOW_BITS.map(|bits| (1usize << bits) - LOOKAHEAD);
        let lengths =
            borders.flat_map(|at| [at.saturating_sub(1), at, at + 1]).chain([0, 1, 100, WINDOW - 1, WINDOW]);
        for length in lengths.filter(|length| *length <= WINDOW) {
            for level in [1, 5, 6, 9] {
                for text in [&mail, &noise, &vec![b'a'; WINDOW]] {
                    let text = &text[..length.min(text.len())];
                    assert_eq!(
                        made(text, level, true),
                        made(text, level, false),
                        "{length} bytes, level {level}"
                    );
                }
            }
        }
    }
}
