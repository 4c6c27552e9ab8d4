//! Refutes what passes for ciphertext: octets that can be read, or that a compressor shortens, are none.
//!
//! Ciphertext looks like random octets, so a test that random octets never fail refutes nothing genuine. Every octet is
//! judged with its neighbours (`CELL`, `BLOCK`), so that octets elsewhere cannot average it away, and again with all
//! that came before whenever their number has doubled, because a little in each block adds up. The thresholds are such
//! that a random block trips one of them with a probability below 10⁻¹⁴ (Chernoff's bound).
//!
//! What is refuted of a beginning is refuted of the whole: whoever sees less never clears what others refute.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::Stop;

/// Octets that are judged by themselves; fewer are not judged.
const CELL: usize = 512;

/// Octets of eight cells, judged by themselves as well.
const BLOCK: usize = 8 * CELL;

/// Octets that are compressed at once: DEFLATE sees 32 KiB back.
const CHUNK: usize = 16 * BLOCK;

/// Printable characters in a row that refute: there are 47 in none of 10⁷ random gigabytes.
const RUN: usize = 48;

/// The part of random octets that is printable: 95 characters, tab, CR and LF.
const PRINTABLE: f64 = 98.0 / 256.0;

/// How many standard deviations more printable octets than that refute: 60 % of 512 octets, 46 % of a block.
const DEVIATIONS: f64 = 10.0;

/// Pearson's statistic over the 256 values of an octet beyond which their distribution in a cell is not uniform. It is 255
/// on average; a filler that balances the printable octets of a text does not balance its letters.
const UNIFORM_CELL: f64 = 680.0;

/// The same of a block and more.
const UNIFORM: f64 = 560.0;

/// DEFLATE refutes when it leaves less than this many hundredths.
const DEFLATED: u64 = 97;

/// Judges the octets that are written to it.
#[derive(Debug)]
pub struct Noise {
    /// The last block of what has been compressed, and what came after it.
    octets: Vec<u8>,
    /// How much at the beginning of `octets` belongs to earlier chunks.
    carried: usize,
    /// How many of `octets` have been counted in blocks.
    counted: usize,
    /// Of all counted blocks.
    all: Histogram,
    /// Printable characters at the end of what has been counted.
    run: usize,
    /// How many blocks were counted at the next look at all of them.
    look: usize,
    /// Whether no chunk has been compressed yet.
    first: bool,
    refuted: bool,
    total: usize,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            octets: Vec::new(),
            carried: 0,
            counted: 0,
            all: Histogram::default(),
            run: 0,
            look: 2,
            first: true,
            refuted: false,
            total: 0,
        }
    }
}

impl Noise {
    /// Takes the next octets.
    pub fn take(&mut self, mut octets: &[u8]) {
        self.total += octets.len();
        while !octets.is_empty() && !self.refuted {
            let room = self.carried + CHUNK - self.octets.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.octets.extend_from_slice(now);
            octets = later;
            self.count_blocks();
            if self.octets.len() == self.carried + CHUNK {
                self.end_chunk(self.first);
                self.octets.drain(..self.octets.len() - BLOCK);
                (self.carried, self.counted) = (BLOCK, BLOCK);
            }
        }
    }

    /// Judges what was taken: all of it if `ended`, else the beginning of more, in which there must be a block.
    ///
    /// # Errors
    /// [`Stop::Refuted`] where it is no ciphertext, [`Stop::Cut`] where it is too little to tell.
    pub fn finish(mut self, ended: bool) -> Result<(), Stop> {
        if ended && self.total >= CELL && !self.refuted {
            self.end();
        }
        match self.refuted {
            true => Err(Stop::Refuted),
            false if !ended && self.total < BLOCK => Err(Stop::Cut),
            false => Ok(()),
        }
    }

    fn count_blocks(&mut self) {
        while let Some(block) = self.octets.get(self.counted..self.counted + BLOCK) {
            self.counted += BLOCK;
            let mut histogram = Histogram::default();
            for cell in block.chunks(CELL) {
                let cell = Histogram::of(cell);
                self.refuted |= cell.is_readable();
                histogram.add(&cell);
            }
            self.refuted |= histogram.is_readable() || has_run(&mut self.run, block);
            self.all.add(&histogram);
            if self.all.total == self.look * BLOCK {
                self.look *= 2;
                self.refuted |= self.all.is_readable();
            }
        }
    }

    /// Compresses what is new, where `suspect` or where a faster look finds something.
    fn end_chunk(&mut self, suspect: bool) {
        let chunk = &self.octets[self.carried..];
        // LZ4 finds the repetitions that DEFLATE finds, a hundred times as fast. Octets that are too unequal for a block are found by
        // then, and what DEFLATE gains on others is below one hundredth.
        let suspect = suspect || lz4_flex::block::compress(chunk).len() < chunk.len();
        self.refuted |= suspect && is_deflated(chunk);
        self.first = false;
    }

    /// Judges what is less than a block or a chunk.
    fn end(&mut self) {
        let rest = &self.octets[self.counted..];
        self.refuted |= has_run(&mut self.run, rest);
        self.all.add(&Histogram::of(rest));
        self.refuted |= self.all.is_readable();
        self.refuted |= rest.chunks(CELL).any(|cell| Histogram::of(cell).is_readable());
        // The last ones reach back into those before them.
        for size in [CELL, BLOCK] {
            let last = &self.octets[self.octets.len().saturating_sub(size)..];
            self.refuted |= Histogram::of(last).is_readable();
        }
        if self.octets.len() - self.carried < CELL {
            self.carried = 0;
        }
        self.end_chunk(true);
    }
}

impl Write for Noise {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.take(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often each octet occurs.
#[derive(Debug)]
struct Histogram {
    counts: [u32; 256],
    total: usize,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; 256], total: 0 }
    }
}

impl Histogram {
    fn of(octets: &[u8]) -> Self {
        // Two at once: a counter that is raised twice in a row would wait for itself.
        let mut counts = [[0; 256]; 2];
        for pair in octets.chunks(2) {
            for (counts, &octet) in counts.iter_mut().zip(pair) {
                counts[usize::from(octet)] += 1;
            }
        }
        let [mut sums, odd] = counts;
        sums.iter_mut().zip(odd).for_each(|(sum, count)| *sum += count);
        Self { counts: sums, total: octets.len() }
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.total += other.total;
    }

    /// Whether more of it is printable than random octets are, or its octets are not uniform.
    fn is_readable(&self) -> bool {
        if self.total < CELL {
            return false;
        }
        let total = self.total as f64;
        let blanks = [b'\t', b'\r', b'\n'].map(|octet| self.counts[usize::from(octet)]);
        let printable: u32 = self.counts[0x20..0x7f].iter().chain(&blanks).sum();
        let most = total * PRINTABLE + DEVIATIONS * (total * PRINTABLE * (1.0 - PRINTABLE)).sqrt();
        let uniform = if self.total < BLOCK { UNIFORM_CELL } else { UNIFORM };
        f64::from(printable) > most || self.deviation() > uniform
    }

    /// Pearson's statistic against the uniform distribution.
    fn deviation(&self) -> f64 {
        let squares: u64 = self.counts.iter().map(|&count| u64::from(count) * u64::from(count)).sum();
        squares as f64 * 256.0 / self.total as f64 - self.total as f64
    }
}

fn is_printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

/// Whether [`RUN`] printable octets stand in a row, `before` of which end where `octets` begin; leaves there how many
/// stand at the end.
fn has_run(before: &mut usize, octets: &[u8]) -> bool {
    let (mut end, mut start) = (RUN - *before, 0);
    // Looked at from their end, most rows are ruled out by an octet or two.
    while let Some(row) = octets.get(start..end) {
        match row.iter().rposition(|&octet| !is_printable(octet)) {
            None => return true,
            Some(at) => (start, end) = (start + at + 1, start + at + 1 + RUN),
        }
        *before = 0;
    }
    let rest = &octets[start.min(octets.len())..];
    *before = match rest.iter().rposition(|&octet| !is_printable(octet)) {
        None => *before + rest.len(),
        Some(at) => rest.len() - at - 1,
    };
    false
}

fn is_deflated(octets: &[u8]) -> bool {
    let mut encoder = DeflateEncoder::new(io::sink(), Compression::default());
    // A sink takes everything; if it did not, nothing would be proven.
    let done = encoder.write_all(octets).and_then(|()| encoder.try_finish()).is_ok();
    !done || encoder.total_out() * 100 < octets.len() as u64 * DEFLATED
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::samples::{noise, text};

    fn judged(octets: &[u8], ended: bool) -> Result<(), Stop> {
        let mut noise = Noise::default();
        noise.take(octets);
        noise.finish(ended)
    }

    #[test]
    fn random_octets_pass_in_every_length() {
        for length in (0..2000).chain([4095, 4096, 4097, 65535, 65536, 65537, 70000, 200_000, 1 << 20]) {
            assert_eq!(judged(&noise(length, length as u64), true), Ok(()), "{length}");
        }
    }

    #[test]
    fn pieces_are_judged_as_the_whole() {
        let octets = [noise(70_000, 1), text(100), noise(300, 2)].concat();
        for size in [1, 7, 4095, 4096, 4097, 65536, 70_000] {
            let mut judge = Noise::default();
            octets.chunks(size).for_each(|piece| judge.take(piece));
            assert_eq!(judge.finish(true), Err(Stop::Refuted), "{size}");
        }
    }

    #[test]
    fn text_anywhere_is_refuted() {
        for (before, after) in
            [(0, 512), (0, 60_000), (5000, 5000), (66_000, 0), (66_000, 100), (300_000, 300_000)]
        {
            for length in [RUN, 600, 5000] {
                let octets = [noise(before, 3), text(length), noise(after, 4)].concat();
                assert_eq!(judged(&octets, true), Err(Stop::Refuted), "{before} {length} {after}");
                // An octet after every second one leaves no row and half of it readable.
                let spaced: Vec<u8> =
                    text(length * 8).chunks(2).flat_map(|two| [two, &[0x80]].concat()).collect();
                let octets = [noise(before, 3), spaced, noise(after, 4)].concat();
                assert_eq!(judged(&octets, true), Err(Stop::Refuted), "{before} {length} spaced {after}");
            }
        }
    }

    #[test]
    fn the_contract_s_thresholds_hold() {
        for length in [512, 700, 4096, 10_000, 100_000] {
            // 61 % printable, in no row and in no order.
            let mut octets = noise(length, 5);
            octets.iter_mut().enumerate().for_each(|(at, octet)| {
                let wanted = at * 61 % 100 < 61;
                *octet = if wanted { b' ' + *octet % 95 } else { 0x80 | *octet };
            });
            assert_eq!(judged(&octets, true), Err(Stop::Refuted), "{length}");
            // Every octet as often as every other, and yet the same again.
            let counted: Vec<u8> = (0..=255).cycle().take(length).collect();
            if length > 512 {
                assert_eq!(judged(&counted, true), Err(Stop::Refuted), "{length}");
            }
        }
        let period = noise(20_000, 6);
        for at in [0, 3, 40] {
            let again: Vec<u8> = period.iter().cycle().take(100_000).copied().collect();
            let octets = [noise(at * CHUNK, 7), again].concat();
            assert_eq!(judged(&octets, true), Err(Stop::Refuted), "repeated after {at} chunks");
            let octets = [octets, noise(3 * CHUNK, 15)].concat();
            assert_eq!(judged(&octets, true), Err(Stop::Refuted), "and before others");
        }
    }

    #[test]
    fn a_filler_does_not_balance_a_text() {
        // As many printable octets as random ones have, all of them a text's, among the others in equal numbers.
        let mut words = text(100_000).into_iter();
        let octets: Vec<u8> = noise(100_000, 8)
            .into_iter()
            .map(|octet| if is_printable(octet) { words.next().unwrap_or(b' ') } else { octet })
            .collect();
        assert_eq!(judged(&octets[..4096], true), Err(Stop::Refuted));
        assert_eq!(judged(&octets, true), Err(Stop::Refuted));
    }

    #[test]
    fn a_beginning_is_refuted_only_with_the_whole() {
        for octets in [noise(20_000, 9), [noise(9000, 10), text(60), noise(9000, 11)].concat()] {
            let whole = judged(&octets, true);
            for end in (0..octets.len()).step_by(97) {
                match judged(&octets[..end], false) {
                    Err(Stop::Refuted) => assert_eq!(whole, Err(Stop::Refuted), "{end}"),
                    Err(Stop::Cut) => assert!(end < BLOCK),
                    Ok(()) => assert!(end >= BLOCK),
                }
            }
        }
    }

    #[test]
    #[ignore = "some ten minutes"]
    fn no_ciphertext_is_refuted_in_a_million() {
        use aes::cipher::{AsyncStreamCipher as _, KeyIvInit as _};
        use rayon::prelude::*;

        let refuted = (0..1_000_000_u64)
            .into_par_iter()
            .filter(|number| {
                // From 512 octets to 64 KiB, as many of each order.
                let length = 512.0 * 128_f64.powf((*number as f64 * 0.618_033_988_75).fract());
                let mut octets = vec![0; length as usize];
                let (mut key, mut nonce) = ([0; 32], [0; 16]);
                key[..8].copy_from_slice(&number.to_le_bytes());
                nonce[8..].copy_from_slice(&number.to_le_bytes());
                cfb_mode::Encryptor::<aes::Aes256>::new(&key.into(), &nonce.into()).encrypt(&mut octets);
                judged(&octets, true).is_err()
            })
            .count();
        assert_eq!(refuted, 0);
    }

    proptest! {
        /// Rows of octets, in pieces of any size, and what a count of the whole says.
        #[test]
        fn a_row_is_found_wherever_it_is_cut(
            rows in proptest::collection::vec((prop_oneof![0..4usize, RUN - 3..RUN + 3], any::<bool>()), 0..6),
            cuts in proptest::collection::vec(1..120usize, 1..6),
        ) {
            let row = |&(length, all): &(usize, bool)| [vec![b'a'; length], if all { vec![] } else { vec![0x80] }].concat();
            let octets: Vec<u8> = rows.iter().flat_map(row).collect();
            let longest = octets.split(|&octet| octet == 0x80).map(<[u8]>::len).max().unwrap_or_default();
            let (mut before, mut found, mut rest) = (0, false, &octets[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found = has_run(&mut before, piece);
                rest = after;
                if found || rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, longest >= RUN);
            if !found {
                let end = octets.iter().rev().take_while(|octet| **octet != 0x80).count();
                prop_assert_eq!(before, end);
            }
        }

        #[test]
        fn a_histogram_counts_each_octet(octets in proptest::collection::vec(0..5u8, 0..40), more in any::<u8>()) {
            let mut histogram = Histogram::of(&octets);
            histogram.add(&Histogram::of(&[more, more, 1]));
            prop_assert_eq!(histogram.total, octets.len() + 3);
            for octet in 0..=255 {
                let count = [&octets[..], &[more, more, 1]].concat().iter().filter(|it| **it == octet).count();
                prop_assert_eq!(histogram.counts[usize::from(octet)], count as u32);
            }
        }
    }

    #[test]
    fn rows_are_of_printable_octets() {
        for octet in 0..=255 {
            let expected = (32..127).contains(&octet) || [9, 10, 13].contains(&octet);
            assert_eq!(is_printable(octet), expected, "{octet}");
        }
    }

    /// A histogram of `total` octets, of which `printable` can be read, each kind spread evenly.
    fn spread(total: usize, printable: usize) -> Histogram {
        let mut counts = [0; 256];
        for (readable, number) in [(true, printable), (false, total - printable)] {
            let places: Vec<usize> =
                (0..256).filter(|&octet| is_printable(octet as u8) == readable).collect();
            (0..number).for_each(|at| counts[places[at % places.len()]] += 1);
        }
        Histogram { counts, total }
    }

    #[test]
    fn ten_deviations_more_than_random_octets_are_readable() {
        // 98/256 of them, and ten times the root of that by 158/256.
        for (total, most) in [(512, 305), (1000, 536), (4095, 1878), (4096, 1879), (100_000, 39_818)] {
            assert!(!spread(total, most).is_readable(), "{total}");
            assert!(spread(total, most + 1).is_readable(), "{total}");
        }
        assert!(!spread(511, 511).is_readable(), "too few to tell");
    }

    /// A histogram in which each octet is there `each` times, but for some that are there so many times more and as many others
    /// that are there once less: each adds its square and itself to the sum of the squares.
    fn uneven(each: u32, more: &[u32]) -> Histogram {
        let mut counts = [each; 256];
        let mut lowered = 0x80;
        for (at, &more) in more.iter().enumerate() {
            counts[at] += more;
            for _ in 0..more {
                counts[lowered] -= 1;
                lowered += 1;
            }
        }
        Histogram { counts, total: 256 * each as usize }
    }

    #[test]
    fn unequal_octets_are_readable_from_a_threshold_on() {
        for (each, more, deviation, readable) in [
            (2, &[36, 4, 2, 1][..], 680.0, false),
            (2, &[36, 4, 2, 1, 1], 681.0, true),
            (16, &[94, 5], 560.0, false),
            (16, &[94, 5, 1], 560.125, true),
        ] {
            let histogram = uneven(each, more);
            assert_eq!(histogram.deviation(), deviation);
            assert_eq!(histogram.is_readable(), readable, "{each} {more:?}");
        }
        assert_eq!(uneven(7, &[]).deviation(), 0.0);
        // The threshold of a block counts from its last octet on.
        let mut short = uneven(16, &[94, 9]);
        assert!(short.is_readable());
        short.counts[0xff] -= 1;
        short.total -= 1;
        assert!(!short.is_readable());
    }

    #[test]
    fn a_compressor_must_gain_three_in_a_hundred() {
        for (again, gained) in [(0, false), (1000, false), (1500, false), (3000, true), (20_000, true)] {
            let mut octets = noise(CHUNK, 12);
            octets.copy_within(..again, CHUNK / 3);
            assert_eq!(is_deflated(&octets), gained, "{again}");
        }
    }

    #[test]
    fn less_than_a_cell_is_not_judged_and_a_beginning_needs_a_block() {
        for (length, ended) in [(CELL - 1, Ok(())), (CELL, Err(Stop::Refuted))] {
            assert_eq!(judged(&text(length), true), ended, "{length}");
        }
        for (length, expected) in [(BLOCK - 1, Err(Stop::Cut)), (BLOCK, Ok(())), (BLOCK + 1, Ok(()))] {
            assert_eq!(judged(&noise(length, 13), false), expected, "{length}");
        }
        assert_eq!(judged(&text(BLOCK), false), Err(Stop::Refuted));
        assert_eq!(judged(&text(BLOCK - 1), false), Err(Stop::Cut), "the rest may be told by its neighbours");
    }

    /// A sixteenth more is printable than in random octets: too little to be told in one block.
    #[test]
    fn a_little_in_each_block_adds_up() {
        let mut octets = noise(64 * BLOCK, 14);
        for (at, octet) in octets.iter_mut().enumerate() {
            if at % 16 == 0 {
                *octet = b' ' + *octet % 95;
            }
        }
        assert_eq!(judged(&octets[..BLOCK], true), Ok(()));
        assert_eq!(judged(&octets, true), Err(Stop::Refuted));
        assert_eq!(judged(&octets, false), Err(Stop::Refuted));
    }

    /// A last piece is compressed with the block before it where it is less than a cell, which is too little for itself.
    #[test]
    fn what_repeats_at_the_end_is_found() {
        for (length, expected) in [(0, Ok(())), (300, Err(Stop::Refuted)), (CELL - 1, Err(Stop::Refuted))] {
            let mut octets = noise(CHUNK, 16);
            octets.extend_from_within(CHUNK - BLOCK..CHUNK - BLOCK + length);
            assert_eq!(judged(&octets, true), expected, "{length}");
        }
    }

    #[test]
    fn what_is_written_is_judged() {
        let mut judge = Noise::default();
        assert_eq!(judge.write(&text(700)).unwrap(), 700);
        judge.flush().unwrap();
        assert_eq!(judge.finish(true), Err(Stop::Refuted));
    }
}
