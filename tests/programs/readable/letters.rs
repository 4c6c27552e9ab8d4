//! Prose that looks random: each letter in whichever case, or as whichever digit that stands for it, was rarer so far, and
//! octets between the words that make all equally frequent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::noise;

/// How many octets the judge takes together.
const BLOCK: usize = 4096;

/// Words of one of our pages, without their blanks, over and over.
fn words() -> impl Iterator<Item = Vec<u8>> {
    let page = include_str!("../../../README.md").to_lowercase();
    let words: Vec<Vec<u8>> = page
        .split(|letter: char| !letter.is_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .map(|word| word.as_bytes().to_vec())
        .collect();
    words.into_iter().cycle()
}

/// What a reader takes for this letter.
fn ways(letter: u8) -> Vec<u8> {
    let digits: &[u8] = match letter {
        b'e' => b"3",
        b'o' => b"0",
        b'i' => b"1",
        b's' => b"5$",
        b't' => b"7",
        b'a' => b"4@",
        _ => b"",
    };
    [&[letter, letter.to_ascii_uppercase()], digits].concat()
}

/// How often each octet was there: in this block, and in all.
struct Counts {
    block: [usize; 256],
    all: [usize; 256],
    blocks: usize,
}

impl Counts {
    fn add(&mut self, octet: u8) {
        self.block[usize::from(octet)] += 1;
        self.all[usize::from(octet)] += 1;
    }

    /// Large for what was frequent so far.
    fn weight(&self, octet: u8) -> usize {
        let octet = usize::from(octet);
        self.block[octet] * 16 + self.all[octet] * 16 / self.blocks
    }

    /// A letter as whoever reads it still takes it for that.
    fn write(&mut self, letter: u8) -> u8 {
        let way = ways(letter).into_iter().min_by_key(|way| self.weight(*way)).unwrap();
        self.add(way);
        way
    }

    /// `length` octets, of the rarest so far.
    fn fill(&mut self, length: usize, order: &[u8]) -> Vec<u8> {
        let wanted = (self.blocks * BLOCK / 256) as i64;
        let weight = |counts: &Self, octet: usize| {
            counts.block[octet] as i64 * 10 + (counts.all[octet] as i64 - wanted) * 9
        };
        let mut rarest: BinaryHeap<_> =
            (0..256).map(|octet| Reverse((weight(self, octet), order[octet % order.len()], octet))).collect();
        let mut filler = Vec::with_capacity(length);
        while filler.len() < length {
            let Reverse((weight, tie, octet)) = rarest.pop().unwrap();
            filler.push(octet as u8);
            self.add(octet as u8);
            rarest.push(Reverse((weight + 19, tie.wrapping_mul(167).wrapping_add(13), octet)));
        }
        for at in (1..length).rev() {
            let other = usize::from(order[at % order.len()]) * 257 + at * 31;
            filler.swap(at, other % (at + 1));
        }
        filler
    }
}

/// `length` octets with `each` of prose in each block of them.
pub fn mixed(length: usize, each: usize) -> Vec<u8> {
    let mut counts = Counts { block: [0; 256], all: [0; 256], blocks: 0 };
    let mut words = words();
    let order = noise(length + BLOCK, 3);
    let mut out = Vec::with_capacity(length);
    for start in (0..length).step_by(BLOCK) {
        let size = BLOCK.min(length - start);
        let prose = each * size / BLOCK;
        counts.block = [0; 256];
        counts.blocks += 1;
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut length = 0;
        while length < prose {
            let word: Vec<u8> = words.next().unwrap().into_iter().take(prose - length).collect();
            length += word.len();
            written.push(word.into_iter().map(|letter| counts.write(letter)).collect());
        }
        let filler = counts.fill(size - prose, &order[start..start + BLOCK]);
        let gap = filler.len().div_ceil(written.len().max(1)).max(1);
        let mut gaps = filler.chunks(gap);
        for word in written {
            out.extend(word);
            out.extend(gaps.next().unwrap_or_default());
        }
        gaps.for_each(|rest| out.extend(rest));
    }
    out
}
