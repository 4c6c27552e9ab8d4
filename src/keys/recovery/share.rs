//! Shares of a recovery key: how the secret is divided, and what one share looks like.
//!
//! A share has 90 octets: a version, its number, how many there are and how many are needed, when the key was made, the
//! beginning of the certificate's fingerprint, the share of the secret (Shamir over GF(256), octet by octet), and a CRC-32
//! of all that. As text it has six lines of 25 characters, of which the last checks its line: whoever types one is told
//! which line is wrong. That a character was changed is never missed: a CRC-32 finds every change of up to 32 bits in a
//! row. docs/formats.md has it in full.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{Encoding, HEXUPPER, Specification};
use flate2::Crc;
use sequoia_openpgp::Fingerprint;
use sequoia_openpgp::crypto::mem::Protected;
use zeroize::Zeroizing;

use super::secret::{self, Secret};
use crate::keys::code::ALPHABET;

/// The only version there is.
const VERSION: u8 = 1;

/// Octets of the fingerprint that a share has.
const ID: usize = 14;

/// Octets of a share.
const OCTETS: usize = HEAD + secret::OCTETS + CHECKSUM;
const HEAD: usize = 8 + ID;
const CHECKSUM: usize = 4;

/// Octets in a line.
const LINE_OCTETS: usize = 15;

/// Characters in a line, with the one that checks it.
pub const LINE: usize = LINE_OCTETS / 5 * 8 + 1;

/// Lines of a share.
pub const LINES: usize = OCTETS / LINE_OCTETS;

/// Characters of a share.
pub const CHARACTERS: usize = LINES * LINE;

/// Characters in a group: a line is typed in five of them.
const GROUP: usize = 5;

static ENCODING: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols = ALPHABET.iter().copied().map(char::from).collect();
    #[expect(clippy::expect_used, reason = "32 different characters of ASCII, as a test shows")]
    specification.encoding().expect("an alphabet of 32 characters")
});

/// What all shares of a key have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// How many there are.
    pub shares: u8,
    /// How many recover the key.
    pub threshold: u8,
    /// When the key was made, in seconds since 1970.
    made: u32,
    /// What the fingerprint of its certificate begins with.
    id: [u8; ID],
}

impl Set {
    /// Divides the key with this fingerprint, which `secret` gives; `None` where it is not one of version 4.
    pub fn new(fingerprint: &Fingerprint, secret: &Secret, shares: u8, threshold: u8) -> Option<Self> {
        let id = fingerprint.as_bytes().first_chunk().copied()?;
        Some(Self { shares, threshold, made: secret.made(), id })
    }

    /// Whether these are shares of the key with this fingerprint, as far as they can say.
    pub fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint.as_bytes().starts_with(&self.id)
    }

    /// Whether these are shares of the same key.
    pub fn is_of_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// What the fingerprint begins with, in hexadecimal digits.
    pub fn id(&self) -> String {
        HEXUPPER.encode(&self.id)
    }
}

/// One share.
pub struct Share {
    /// What it is one of.
    pub set: Set,
    /// Its number, from 1.
    pub number: u8,
    /// Its part of the secret.
    part: Protected,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("set", &self.set).field("number", &self.number).finish_non_exhaustive()
    }
}

/// Divides `secret` as `set` says.
pub fn split(secret: &Secret, set: Set) -> Vec<Share> {
    let dealer = blahaj::Sharks(set.threshold).dealer(secret.octets());
    let shares = dealer.take(usize::from(set.shares)).map(|share| {
        let octets = Zeroizing::new(Vec::from(&share));
        Share { set, number: octets[0], part: Protected::from(&octets[1..]) }
    });
    shares.collect()
}

/// The secret that these shares give, which nothing proves yet; `None` where they are too few. All are of one set.
pub fn combine(shares: &[&Share]) -> Option<Secret> {
    let set = shares.first()?.set;
    let points = shares.iter().map(|share| {
        let octets = Zeroizing::new([&[share.number], &*share.part].concat());
        blahaj::Share::try_from(&octets[..]).ok()
    });
    let points: Vec<blahaj::Share> = points.collect::<Option<_>>()?;
    let octets = blahaj::Sharks(set.threshold).recover(&points).ok()?;
    Some(Secret::from_parts(octets.into(), set.made))
}

impl Share {
    /// Whether it is the same share, and not another one with its number.
    pub fn is_same(&self, other: &Self) -> bool {
        self.set == other.set && self.number == other.number && self.part == other.part
    }

    fn octets(&self) -> Zeroizing<Vec<u8>> {
        let mut octets = Zeroizing::new(Vec::with_capacity(OCTETS));
        octets.extend([VERSION, self.number, self.set.threshold, self.set.shares]);
        octets.extend(self.set.made.to_be_bytes());
        octets.extend(self.set.id);
        octets.extend(self.part.iter());
        let checksum = crc(&[&octets]);
        octets.extend(checksum.to_be_bytes());
        octets
    }

    /// Its lines, in groups of five characters.
    pub fn lines(&self) -> Vec<Zeroizing<String>> {
        let octets = self.octets();
        let line = |(number, octets): (usize, &[u8])| {
            let mut characters = Zeroizing::new(ENCODING.encode(octets));
            characters.push(check(number, octets));
            let mut line = Zeroizing::new(String::with_capacity(LINE + LINE / GROUP));
            for (nth, character) in characters.chars().enumerate() {
                if nth > 0 && nth % GROUP == 0 {
                    line.push(' ');
                }
                line.push(character);
            }
            line
        };
        octets.chunks(LINE_OCTETS).enumerate().map(line).collect()
    }

    /// All of it in one line of capitals and digits, which a QR code holds in the least room.
    pub fn code(&self) -> Zeroizing<String> {
        let mut code = Zeroizing::new(String::with_capacity(CHARACTERS));
        for line in self.lines() {
            code.extend(line.chars().filter(|it| *it != ' ').map(|it| it.to_ascii_uppercase()));
        }
        code
    }

    /// Reads a share as people type it and cameras read it. Blanks, hyphens and capitals do not matter.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let mut octets = Zeroizing::new(Vec::with_capacity(OCTETS));
        if lines.len() == LINES {
            for (number, line) in lines.iter().enumerate() {
                octets.extend_from_slice(&read_line(number, &symbols(number, line)?)?);
            }
        } else {
            let all = symbols(0, text)?;
            if all.len() != CHARACTERS {
                return Err(Fault::Length(all.len()));
            }
            for (number, line) in all.as_bytes().chunks(LINE).enumerate() {
                octets.extend_from_slice(&read_line(number, &String::from_utf8_lossy(line))?);
            }
        }
        Self::of_octets(&octets)
    }

    fn of_octets(octets: &[u8]) -> Result<Self, Fault> {
        let (inside, checksum) = octets.split_at_checked(OCTETS - CHECKSUM).ok_or(Fault::Checksum)?;
        if checksum != crc(&[inside]).to_be_bytes() {
            return Err(Fault::Checksum);
        }
        let (Some(head), Some(part)) = (inside.first_chunk::<HEAD>(), inside.get(HEAD..)) else {
            return Err(Fault::Checksum);
        };
        let [version, number, threshold, shares, a, b, c, d, id @ ..] = *head;
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        if !(2..=shares).contains(&threshold) || !(1..=shares).contains(&number) {
            return Err(Fault::Numbers { number, shares, threshold });
        }
        let set = Set { shares, threshold, made: u32::from_be_bytes([a, b, c, d]), id };
        Ok(Self { set, number, part: Protected::from(part) })
    }
}

/// Checks a line of a share by itself: the one with this number, from 0.
///
/// # Errors
/// What is wrong with it.
pub fn check_line(number: usize, text: &str) -> Result<(), Fault> {
    read_line(number, &symbols(number, text)?).map(drop)
}

/// The characters of `text`, which begins in this line, as the alphabet has them.
fn symbols(line: usize, text: &str) -> Result<Zeroizing<String>, Fault> {
    let mut symbols = Zeroizing::new(String::with_capacity(text.len()));
    for character in text.chars().filter(|it| !it.is_whitespace() && *it != '-') {
        let symbol = character.to_ascii_lowercase();
        if !ALPHABET.iter().any(|it| char::from(*it) == symbol) {
            return Err(Fault::Character { line: line + symbols.len() / LINE + 1, character });
        }
        symbols.push(symbol);
    }
    Ok(symbols)
}

/// The octets of a line.
fn read_line(number: usize, symbols: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let wrong = Fault::Line(number + 1);
    if symbols.len() != LINE {
        return Err(Fault::LineLength { line: number + 1, count: symbols.len() });
    }
    let (data, last) = symbols.split_at(LINE - 1);
    let octets = ENCODING.decode(data.as_bytes()).map(Zeroizing::new).map_err(|_| wrong.clone())?;
    if last.chars().eq([check(number, &octets)]) { Ok(octets) } else { Err(wrong) }
}

/// The character that checks a line.
fn check(number: usize, octets: &[u8]) -> char {
    let place = crc(&[&(number as u64).to_be_bytes(), octets]) as usize % ALPHABET.len();
    char::from(ALPHABET[place])
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

/// What is wrong with the text of a share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A character that is not in the alphabet.
    #[error("line {line}: no share has the character {character:?}")]
    Character {
        /// Where, from 1.
        line: usize,
        /// The character.
        character: char,
    },
    /// Characters are missing in a line, or there are too many.
    #[error("line {line} has {count} characters, and not {LINE}")]
    LineLength {
        /// Where, from 1.
        line: usize,
        /// How many it has.
        count: usize,
    },
    /// The last character of this line is not that of the others.
    #[error("line {0} is not as it was printed")]
    Line(usize),
    /// Lines are missing, or there are too many.
    #[error("it has {0} characters, and a share has {CHARACTERS}")]
    Length(usize),
    /// Every line is right by itself.
    #[error("its checksum is wrong, although each line looks right")]
    Checksum,
    /// A later program has made it.
    #[error("it is a share of version {0}, and this program knows version {VERSION}")]
    Version(u8),
    /// What no program makes.
    #[error("it calls itself share {number} of {shares}, of which {threshold} are needed")]
    Numbers {
        /// Its number.
        number: u8,
        /// How many there are.
        shares: u8,
        /// How many are needed.
        threshold: u8,
    },
}

impl Fault {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Character { .. } => {
                "compare it with the page: shares have the digits 1 and 3 to 9, and all letters but L and V"
            }
            Self::LineLength { .. } | Self::Line(_) => {
                "compare this line with the page, character by character"
            }
            Self::Length(_) => "give the six lines of one page, or what its QR code holds, and nothing else",
            Self::Checksum => "compare all lines with the page, and see that they are in their order",
            Self::Version(_) => "take the newest mailseal",
            Self::Numbers { .. } => "mailseal did not make it; take another share",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    fn made(shares: u8, threshold: u8) -> (Secret, Vec<Share>) {
        let secret = Secret::new(SystemTime::now()).unwrap();
        let key = secret.key("x").unwrap();
        let set = Set::new(&key.fingerprint(), &secret, shares, threshold).unwrap();
        let shares = split(&secret, set);
        (secret, shares)
    }

    fn chosen(shares: &[Share], which: u32) -> Vec<&Share> {
        shares.iter().filter(|share| which & (1 << share.number) != 0).collect()
    }

    #[test]
    fn any_k_shares_give_the_secret_and_fewer_do_not() {
        for (n, k) in [(2, 2), (3, 2), (5, 3), (6, 4), (5, 5)] {
            let (secret, shares) = made(n, k);
            assert_eq!(shares.len(), usize::from(n));
            for which in 0..1_u32 << (n + 1) {
                let some = chosen(&shares, which);
                let given = combine(&some).is_some_and(|it| it.octets() == secret.octets());
                assert_eq!(given, some.len() >= usize::from(k), "{k} of {n}: {which:b}");
            }
        }
    }

    /// Shares that claim to need one less than they do are enough for the library, and give another secret.
    #[test]
    fn a_share_less_gives_another_secret_whatever_is_claimed() {
        for (n, k) in [(3, 3), (5, 3), (6, 4)] {
            let (secret, mut shares) = made(n, k);
            shares.iter_mut().for_each(|share| share.set.threshold -= 1);
            for which in (0..1_u32 << (n + 1)).filter(|it| (it >> 1).count_ones() == u32::from(k) - 1) {
                let other = combine(&chosen(&shares, which)).unwrap();
                assert!(other.octets() != secret.octets());
            }
        }
    }

    /// One secret octet and k-1 shares: every value of the secret is as likely as any other.
    #[test]
    fn the_shares_of_the_library_are_evenly_spread() {
        let mut seen = [0_u32; 256];
        for _ in 0..256 * 64 {
            let share = blahaj::Sharks(2).dealer(&[7]).next().unwrap();
            seen[usize::from(Vec::from(&share)[1])] += 1;
        }
        // 64 are expected, with a deviation of 8; the library that this one is a fork of never had 7.
        assert!(seen.iter().all(|count| (16..112).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_share_is_read_as_it_was_written() {
        let (_, shares) = made(5, 3);
        for share in &shares {
            let lines: Vec<String> = share.lines().iter().map(|line| line.to_string()).collect();
            assert_eq!(lines.len(), LINES);
            assert!(lines.iter().all(|line| line.len() == LINE + 4), "{lines:?}");
            let code = share.code();
            assert!(
                code.len() == CHARACTERS
                    && code.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
            );
            for text in
                [lines.join("\n"), lines.join("\r\n\r\n"), lines.concat(), lines.join("-"), code.to_string()]
            {
                assert!(Share::parse(&text).unwrap().is_same(share), "{text}");
            }
        }
    }

    #[test]
    fn every_change_of_one_character_is_found() {
        let (_, shares) = made(3, 2);
        let code = shares[0].code().to_ascii_lowercase();
        for place in 0..code.len() {
            for other in ALPHABET.iter().map(|it| char::from(*it)) {
                let mut changed: Vec<char> = code.chars().collect();
                if changed[place] == other {
                    continue;
                }
                changed[place] = other;
                let changed: String = changed.iter().collect();
                let fault = Share::parse(&changed).unwrap_err();
                assert!(
                    fault == Fault::Line(place / LINE + 1) || fault == Fault::Checksum,
                    "{place}: {other}: {fault}"
                );
            }
        }
    }

    #[test]
    fn what_is_mistyped_is_named() {
        let (_, shares) = made(3, 2);
        let lines: Vec<String> = shares[1].lines().iter().map(|line| line.to_string()).collect();
        let with = |number: usize, line: &str| {
            let mut lines = lines.clone();
            lines[number] = line.into();
            Share::parse(&lines.join("\n")).unwrap_err()
        };
        assert_eq!(with(2, &lines[3]), Fault::Line(3));
        assert_eq!(with(4, &lines[4][..LINE]), Fault::LineLength { line: 5, count: LINE - 4 });
        assert_eq!(with(0, &lines[0].replace(' ', "0")), Fault::Character { line: 1, character: '0' });
        assert_eq!(Share::parse(&lines[..5].join("\n")).unwrap_err(), Fault::Length(CHARACTERS - LINE));
        assert_eq!(Share::parse("").unwrap_err(), Fault::Length(0));
        let late = format!("{}\n\u{e9}", lines.join(" "));
        assert_eq!(Share::parse(&late).unwrap_err(), Fault::Character { line: 7, character: '\u{e9}' });
        assert_eq!(check_line(3, &lines[3]), Ok(()));
        assert_eq!(check_line(2, &lines[3]), Err(Fault::Line(3)));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let parse = |change: &dyn Fn(&mut Share)| {
            let (_, mut shares) = made(3, 2);
            change(&mut shares[0]);
            Share::parse(&shares[0].code())
        };
        assert!(parse(&|_| {}).is_ok());
        let wrong: [&dyn Fn(&mut Share); 5] = [
            &|share| share.number = 0,
            &|share| share.number = 4,
            &|share| share.set.threshold = 1,
            &|share| share.set.threshold = 4,
            &|share| share.set.shares = 0,
        ];
        for change in wrong {
            assert!(matches!(parse(change), Err(Fault::Numbers { .. })));
        }
        let (_, shares) = made(3, 2);
        let mut octets = shares[0].octets();
        octets[0] = 2;
        octets.truncate(OCTETS - CHECKSUM);
        let checksum = crc(&[&octets]);
        octets.extend(checksum.to_be_bytes());
        assert_eq!(Share::of_octets(&octets).unwrap_err(), Fault::Version(2));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_share(text in "\\PC{0,200}|[ybndrfg8ejkmcpqxot1uwisza345h769]{150}") {
            prop_assert!(Share::parse(&text).is_err());
        }
    }
}
