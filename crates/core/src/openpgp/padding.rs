//! Fills the content of the encrypted packet up, so that messages of one class are equally long to the octet.
//!
//! Every reader must open what is filled up, and gpg knows no padding packet. So what fills is something that says nothing, in
//! the place where most readers take it:
//!
//! ```text
//! SEIPDv1, compressed     empty DEFLATE blocks behind the data, in the compressed packet
//! SEIPDv1, uncompressed   marker packets before the literal packet (RFC 9580, section 5.8)
//! SEIPDv2                 a padding packet at the end (section 5.14)
//! ```
//!
//! Blocks and marker packets are of five and of six octets, so that every length from 20 octets on can be met.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::str::FromStr;

use sequoia_openpgp::crypto::random;
use serde::{Deserialize, Serialize};

use super::header::tag;

/// Smallest and largest multiple, in octets.
const MULTIPLES: std::ops::RangeInclusive<u64> = 64..=64 * 1024 * 1024;

/// An empty stored block that is not the last (RFC 1951, section 3.2.4), from a border of octets to one.
const BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// An empty block with the fixed code, and an empty stored block behind it.
const TWO_BLOCKS: [u8; 6] = [0b010, 0, 0, 0, 0xff, 0xff];

/// A marker packet, and one whose header is of the old format, with a length of two octets.
const MARKER: [u8; 5] = [0xc0 | tag::MARKER, 3, b'P', b'G', b'P'];
const LONG_MARKER: [u8; 6] = [0x80 | tag::MARKER << 2 | 1, 0, 3, b'P', b'G', b'P'];

/// Longest body of a padding packet whose length takes one octet.
const SHORT: u64 = 191;

/// Octets that are written at once.
const PIECE: usize = 4096;

/// What the content of the encrypted packet is filled up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Nothing: it is as long as it is.
    #[default]
    None,
    /// A multiple of so many octets.
    Multiple(NonZeroU64),
    /// Padmé's next size: at most 12 % more, and as many classes as the length of a length has bits (Nikitin and others,
    /// "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", section 4).
    Padme,
}

/// What fills a content up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// How many octets of it there are.
    pub octets: u64,
    /// How long the content is with it.
    pub class: u64,
}

/// What filling is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material {
    /// Empty blocks of DEFLATE, from a border of octets on.
    Blocks,
    /// Marker packets.
    Markers,
    /// One padding packet.
    Packet,
}

impl Padding {
    /// The smallest class with room for so many octets.
    #[must_use]
    pub fn class(self, octets: u64) -> u64 {
        match self {
            Self::None => octets,
            Self::Multiple(size) => octets.next_multiple_of(size.get()),
            Self::Padme => {
                let Some(exponent) = octets.checked_ilog2().filter(|exponent| *exponent > 0) else {
                    return octets;
                };
                // As many bits as the exponent's own length stay; the lower ones become zeros.
                let mask = (1 << (exponent - exponent.ilog2() - 1)) - 1;
                octets.saturating_add(mask) & !mask
            }
        }
    }

    /// How much `material` fills a content up to the smallest class that can be met; `length` says how long the content is
    /// with so much of it. Lengths of packets take a few octets more where packets grow, so that some classes cannot be met.
    #[must_use]
    pub fn filling(self, material: Material, length: impl Fn(u64) -> u64) -> Filling {
        let least = length(0);
        let mut class = self.class(least);
        loop {
            let mut octets = class.saturating_sub(least);
            for _ in 0..4 {
                octets = octets.saturating_add(class).saturating_sub(length(octets));
            }
            let near = octets.saturating_sub(8)..=octets + 8;
            let met = near.into_iter().find(|octets| length(*octets) == class && material.comes_in(*octets));
            if let Some(octets) = met {
                return Filling { octets, class };
            }
            class = self.class(class + 1);
        }
    }
}

impl Material {
    /// Whether so many octets can be made of it.
    fn comes_in(self, octets: u64) -> bool {
        match self {
            // Fives, of which so many are sixes.
            Self::Blocks | Self::Markers => octets % 5 <= octets / 5,
            // Its header takes two octets.
            Self::Packet => octets != 1,
        }
    }

    /// Writes so many octets of it, a number that it comes in.
    ///
    /// # Errors
    /// Those of `out`, and of the random number generator.
    pub fn write(self, octets: u64, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Blocks => write_fives_and_sixes(octets, &BLOCK, &TWO_BLOCKS, out),
            Self::Markers => write_fives_and_sixes(octets, &MARKER, &LONG_MARKER, out),
            Self::Packet => write_packet(octets, out),
        }
    }
}

fn write_fives_and_sixes(octets: u64, five: &[u8; 5], six: &[u8; 6], out: &mut dyn Write) -> io::Result<()> {
    let sixes = octets % 5;
    for _ in 0..sixes {
        out.write_all(six)?;
    }
    let piece = five.repeat(PIECE / five.len());
    let mut left = octets - sixes * six.len() as u64;
    while left > 0 {
        let count = left.min(piece.len() as u64);
        // At most the length of the piece.
        out.write_all(&piece[..count as usize])?;
        left -= count;
    }
    Ok(())
}

fn write_packet(octets: u64, out: &mut dyn Write) -> io::Result<()> {
    if octets == 0 {
        return Ok(());
    }
    let mut left = if octets - 2 <= SHORT {
        out.write_all(&[0xc0 | tag::PADDING, (octets - 2) as u8])?;
        octets - 2
    } else {
        let length = u32::try_from(octets - 6).map_err(io::Error::other)?;
        out.write_all(&[0xc0 | tag::PADDING, 0xff])?;
        out.write_all(&length.to_be_bytes())?;
        octets - 6
    };
    let mut piece = [0; PIECE];
    while left > 0 {
        let count = left.min(PIECE as u64) as usize;
        random(&mut piece[..count]).map_err(io::Error::other)?;
        out.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

impl FromStr for Padding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = |unit| text.strip_suffix(unit).map(str::trim_end);
        let (number, factor) = match text {
            "none" => return Ok(Self::None),
            "padme" => return Ok(Self::Padme),
            _ => match (unit("KiB"), unit("MiB")) {
                (Some(number), _) => (number, 1024),
                (_, Some(number)) => (number, 1024 * 1024),
                _ => (unit("B").unwrap_or(text), 1),
            },
        };
        let size = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
        size.filter(|size| MULTIPLES.contains(size))
            .and_then(NonZeroU64::new)
            .map(Self::Multiple)
            .ok_or_else(|| "expected none, padme or a size from 64 to 64MiB, as 4KiB".into())
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Multiple(size) => write!(f, "{size}"),
            Self::Padme => f.write_str("padme"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATERIALS: [Material; 3] = [Material::Blocks, Material::Markers, Material::Packet];

    fn multiple(size: u64) -> Padding {
        Padding::Multiple(NonZeroU64::new(size).unwrap())
    }

    #[test]
    fn names_are_read() {
        for (text, expected) in [
            ("none", Padding::None),
            ("padme", Padding::Padme),
            ("64", multiple(64)),
            ("100B", multiple(100)),
            ("4KiB", multiple(4096)),
            ("4 KiB", multiple(4096)),
            ("64MiB", multiple(64 << 20)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "63",
            "65MiB",
            "4kb",
            "4k",
            "KiB",
            "-4KiB",
            "4.5KiB",
            "99999999999999999999MiB",
            "Padme",
        ] {
            assert!(text.parse::<Padding>().is_err(), "{text}");
        }
    }

    #[test]
    fn classes_are_those_of_the_multiple_and_of_padme() {
        for (padding, octets, class) in [
            (Padding::None, 17, 17),
            (multiple(4096), 1, 4096),
            (multiple(4096), 4096, 4096),
            (multiple(4096), 4097, 8192),
            // The examples of the paper's section 4.
            (Padding::Padme, 0, 0),
            (Padding::Padme, 1, 1),
            (Padding::Padme, 8, 8),
            (Padding::Padme, 9, 10),
            (Padding::Padme, 11, 12),
            (Padding::Padme, 64, 64),
            (Padding::Padme, 65, 72),
            (Padding::Padme, 1000, 1024),
            (Padding::Padme, 1025, 1088),
            (Padding::Padme, 1_000_000, 1_015_808),
        ] {
            assert_eq!(padding.class(octets), class, "{padding} {octets}");
        }
        for octets in 1..20_000 {
            let class = Padding::Padme.class(octets);
            assert!((octets..=octets + octets / 8 + 1).contains(&class), "{octets} {class}");
            assert_eq!(Padding::Padme.class(class), class);
        }
    }

    #[test]
    fn what_is_written_is_as_long_as_it_says() {
        for material in MATERIALS {
            let numbers = (0..5000).chain(65_000..65_050).filter(|octets| material.comes_in(*octets));
            for octets in numbers {
                let mut out = Vec::new();
                material.write(octets, &mut out).unwrap();
                assert_eq!(out.len() as u64, octets, "{material:?}");
            }
            assert!((20..200).all(|octets| material.comes_in(octets)));
        }
        for octets in [1, 4, 7, 14, 19] {
            assert!(!Material::Blocks.comes_in(octets), "{octets}");
        }
    }

    #[test]
    fn blocks_are_nothing_to_who_inflates_them() {
        for octets in (20..60).chain([70_001]) {
            let mut stream = Vec::new();
            Material::Blocks.write(octets, &mut stream).unwrap();
            stream.extend_from_slice(&[0b011, 0]);
            let mut found = Vec::new();
            io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(&stream[..]), &mut found).unwrap();
            assert!(found.is_empty(), "{octets}");
        }
    }

    #[test]
    fn the_class_is_met_or_the_next_one_is() {
        // As a packet whose length takes an octet more at each border.
        let length = |body: u64| body + 2 + u64::from(body >= 192) + 3 * u64::from(body >= 8384);
        for padding in [multiple(64), multiple(97), multiple(4096), Padding::Padme] {
            for material in MATERIALS {
                for content in (0..1500).chain(8000..8500) {
                    let Filling { octets, class } = padding.filling(material, |more| length(content + more));
                    assert_eq!(length(content + octets), class);
                    assert_eq!(padding.class(class), class);
                    assert!(material.comes_in(octets));
                }
            }
        }
    }
}
