//! Whether octets are a CMS enveloped-data or authEnveloped-data (RFC 5652, section 6; RFC 5083) and nothing else.
//!
//! A walk over BER, because senders that stream write indefinite lengths and constructed strings, which DER parsers
//! refuse. It looks at tags and lengths, and at how many octets are not ciphertext: all of those, tags and lengths
//! included, could be text. The ciphertext itself is what stands in primitive strings where it should, and is judged by
//! [`Noise`].

use super::noise::Noise;
use super::{Stop, demand};
use crate::limits;

const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
const AUTH_ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Context-specific, constructed: `[0]`, and so on.
const CONTEXT: u8 = 0xa0;
/// Context-specific `[0]`, primitive: the ciphertext in one string.
const CONTEXT_STRING: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;

/// What the tags and lengths of the strings of a ciphertext may take of it without being counted: with strings of 64
/// octets it is a thirty-third. They are no place for a text: an octet or two, and then ciphertext.
const STRING_FRAMES: usize = 32;

/// Proves that `data` is encrypted CMS for at least one recipient. Of data that is not `whole`, the ciphertext need only
/// have begun.
///
/// # Errors
/// [`Stop::Refuted`] where it is something else, or holds too much that is not ciphertext, or ciphertext that can be read;
/// [`Stop::Cut`] where it ends too early to tell.
pub fn prove(data: &[u8], whole: bool) -> Result<(), Stop> {
    let mut walk = Walk::of(data);
    match walk.content_info() {
        Ok(()) => {
            demand(walk.position == data.len() && walk.ciphertext >= limits::CMS_CIPHERTEXT)?;
            demand(walk.frame() <= walk.most().min(walk.most_in_all()))?;
            walk.noise.finish(true)
        }
        Err(Stop::Cut) if !whole && walk.in_ciphertext => {
            walk.position = data.len();
            // More ciphertext may follow, and the frame be a smaller part of it.
            demand(walk.frame() <= walk.most().min(walk.most_in_all())).map_err(|_| Stop::Cut)?;
            walk.noise.finish(false)
        }
        Err(stop) => Err(stop),
    }
}

struct Walk<'a> {
    data: &'a [u8],
    position: usize,
    /// Where the values that were entered end; `None` at an end-of-contents mark.
    ends: Vec<Option<usize>>,
    in_ciphertext: bool,
    recipients: usize,
    /// Octets of ciphertext that have been passed, and of the tags and lengths of its strings.
    ciphertext: usize,
    strings: usize,
    noise: Noise,
}

impl<'a> Walk<'a> {
    fn of(data: &'a [u8]) -> Self {
        Self {
            data,
            position: 0,
            ends: Vec::new(),
            in_ciphertext: false,
            recipients: 0,
            ciphertext: 0,
            strings: 0,
            noise: Noise::default(),
        }
    }

    /// How many of the octets that were passed are not ciphertext.
    fn frame(&self) -> usize {
        self.position - self.ciphertext - self.strings.min(self.ciphertext / STRING_FRAMES)
    }

    /// How many there may be for these recipients.
    fn most(&self) -> usize {
        limits::CMS_FRAME + limits::CMS_FRAME_RECIPIENT * self.recipients
    }

    /// How many there may be in as much as was passed, whoever the recipients are.
    fn most_in_all(&self) -> usize {
        limits::CMS_FRAMES.max(self.position / 10)
    }

    fn content_info(&mut self) -> Result<(), Stop> {
        self.enter(SEQUENCE)?;
        let authenticated = match self.identifier()? {
            ENVELOPED_DATA => false,
            AUTH_ENVELOPED_DATA => true,
            _ => return Err(Stop::Refuted),
        };
        self.enter(CONTEXT)?;
        self.enter(SEQUENCE)?;
        self.primitive(INTEGER, 1)?;
        let mut attributes = limits::CMS_ATTRIBUTES;
        if self.tag()? == CONTEXT {
            attributes -= self.skip(attributes)?; // originatorInfo
        }
        self.enter(SET)?;
        while !self.at_end()? {
            self.recipient()?;
        }
        demand(self.recipients > 0)?;
        self.leave()?;
        self.encrypted_content()?;
        if authenticated {
            if self.tag()? == CONTEXT + 1 {
                self.skip(attributes)?; // authAttrs
            }
            self.primitive(OCTET_STRING, limits::CMS_MAC)?;
        }
        // Unprotected attributes could hold anything: such a message counts as clear.
        for _ in 0..3 {
            self.leave()?;
        }
        Ok(())
    }

    /// RecipientInfo: a sequence, or one of the tagged alternatives.
    fn recipient(&mut self) -> Result<(), Stop> {
        let tag = self.tag()?;
        demand(tag == SEQUENCE || (CONTEXT + 1..=CONTEXT + 4).contains(&tag))?;
        self.recipients += 1;
        self.skip(limits::CMS_RECIPIENT).map(drop)
    }

    fn encrypted_content(&mut self) -> Result<(), Stop> {
        self.enter(SEQUENCE)?;
        self.identifier()?;
        demand(self.tag()? == SEQUENCE)?;
        self.skip(limits::CMS_ALGORITHM)?;
        demand(self.frame() <= self.most())?;
        match self.tag()? {
            CONTEXT_STRING => self.ciphertext(CONTEXT_STRING)?,
            CONTEXT => {
                self.enter(CONTEXT)?;
                while !self.at_end()? {
                    let start = self.position;
                    let before = self.ciphertext;
                    self.ciphertext(OCTET_STRING)?;
                    self.strings += self.position - start - (self.ciphertext - before);
                }
                self.leave()?;
            }
            _ => return Err(Stop::Refuted),
        }
        self.leave()
    }

    /// A string of ciphertext, or as much of it as there is.
    fn ciphertext(&mut self, expected: u8) -> Result<(), Stop> {
        let (tag, end) = self.header()?;
        let end = end.filter(|_| tag == expected).ok_or(Stop::Refuted)?;
        self.in_ciphertext = true;
        let octets = &self.data[self.position..end.min(self.data.len())];
        self.noise.take(octets);
        self.ciphertext += octets.len();
        self.position += octets.len();
        if self.position < end { Err(Stop::Cut) } else { Ok(()) }
    }

    /// The tag of the next value.
    fn tag(&self) -> Result<u8, Stop> {
        if self.ends.last().is_some_and(|end| end.is_some_and(|end| self.position >= end)) {
            return Err(Stop::Refuted);
        }
        self.data.get(self.position).copied().ok_or(Stop::Cut)
    }

    /// Reads tag and length: the tag, and where the value ends.
    fn header(&mut self) -> Result<(u8, Option<usize>), Stop> {
        let tag = self.tag()?;
        // Tags of more than one octet do not occur here.
        if tag & 0x1f == 0x1f {
            return Err(Stop::Refuted);
        }
        let first = *self.data.get(self.position + 1).ok_or(Stop::Cut)?;
        self.position += 2;
        let length = match first {
            0x80 => return if tag & CONSTRUCTED == 0 { Err(Stop::Refuted) } else { Ok((tag, None)) },
            0..0x80 => usize::from(first),
            0x81..=0x88 => {
                let octets = usize::from(first & 0x7f);
                let bytes = self.data.get(self.position..self.position + octets).ok_or(Stop::Cut)?;
                self.position += octets;
                bytes
                    .iter()
                    .try_fold(0usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))
                    .ok_or(Stop::Refuted)?
            }
            _ => return Err(Stop::Refuted),
        };
        let end = self.position.checked_add(length).ok_or(Stop::Refuted)?;
        // A value cannot be longer than the one round it.
        if self.ends.iter().flatten().any(|outer| end > *outer) {
            return Err(Stop::Refuted);
        }
        Ok((tag, Some(end)))
    }

    fn enter(&mut self, expected: u8) -> Result<(), Stop> {
        let (tag, end) = self.header()?;
        if tag != expected || self.ends.len() >= limits::CMS_DEPTH {
            return Err(Stop::Refuted);
        }
        self.ends.push(end);
        Ok(())
    }

    /// Whether the value that was entered last ends here.
    fn at_end(&self) -> Result<bool, Stop> {
        match self.ends.last() {
            Some(Some(end)) => Ok(self.position >= *end),
            Some(None) => match self.data.get(self.position..self.position + 2) {
                Some(mark) => Ok(mark == [0, 0]),
                None => Err(Stop::Cut),
            },
            None => Err(Stop::Refuted),
        }
    }

    fn leave(&mut self) -> Result<(), Stop> {
        if !self.at_end()? {
            return Err(Stop::Refuted);
        }
        if self.ends.pop() == Some(None) {
            self.position += 2;
        }
        Ok(())
    }

    /// The octets of a value that is not constructed and has `most` octets.
    fn primitive(&mut self, expected: u8, most: usize) -> Result<&'a [u8], Stop> {
        let (tag, end) = self.header()?;
        let end = end.filter(|_| tag == expected).ok_or(Stop::Refuted)?;
        demand(end - self.position <= most)?;
        let value = self.data.get(self.position..end).ok_or(Stop::Cut)?;
        self.position = end;
        Ok(value)
    }

    fn identifier(&mut self) -> Result<&'a [u8], Stop> {
        self.primitive(OBJECT_IDENTIFIER, limits::CMS_IDENTIFIER)
    }

    /// Passes over a value of any kind that takes `most` octets, its tag and length included: how many it takes.
    fn skip(&mut self, most: usize) -> Result<usize, Stop> {
        let start = self.position;
        let depth = self.ends.len();
        loop {
            let (_, end) = self.header()?;
            match end {
                Some(end) => {
                    demand(end - start <= most)?;
                    demand(end <= self.data.len()).map_err(|_| Stop::Cut)?;
                    self.position = end;
                }
                // It is constructed: no other has an indefinite length.
                None => {
                    demand(self.ends.len() < limits::CMS_DEPTH)?;
                    self.ends.push(None);
                }
            }
            while self.ends.len() > depth && self.at_end()? {
                self.leave()?;
            }
            demand(self.position - start <= most)?;
            if self.ends.len() == depth {
                return Ok(self.position - start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::samples::{noise, text};

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x83];
        out.extend(&(content.len() as u32).to_be_bytes()[1..]);
        out.extend(content);
        out
    }

    fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80], content, &[0, 0]].concat()
    }

    /// What a CMS is made of.
    #[derive(Clone)]
    struct Made {
        build: fn(u8, &[u8]) -> Vec<u8>,
        kind: &'static [u8],
        originator: Vec<u8>,
        recipients: Vec<Vec<u8>>,
        identifier: Vec<u8>,
        parameters: Vec<u8>,
        strings: Vec<Vec<u8>>,
        tail: Vec<u8>,
    }

    impl Made {
        fn octets(&self) -> Vec<u8> {
            let build = self.build;
            let algorithm =
                value(SEQUENCE, &[&value(OBJECT_IDENTIFIER, &[1, 2])[..], &self.parameters].concat());
            let strings: Vec<u8> =
                self.strings.iter().flat_map(|octets| value(OCTET_STRING, octets)).collect();
            let content = [value(OBJECT_IDENTIFIER, &self.identifier), algorithm, build(CONTEXT, &strings)];
            let inner = [
                value(INTEGER, &[0]),
                self.originator.clone(),
                value(SET, &self.recipients.concat()),
                build(SEQUENCE, &content.concat()),
                self.tail.clone(),
            ];
            let inner = build(SEQUENCE, &inner.concat());
            build(SEQUENCE, &[value(OBJECT_IDENTIFIER, self.kind), build(CONTEXT, &inner)].concat())
        }
    }

    fn made(build: fn(u8, &[u8]) -> Vec<u8>) -> Made {
        Made {
            build,
            kind: ENVELOPED_DATA,
            originator: Vec::new(),
            recipients: vec![value(SEQUENCE, &noise(300, 1))],
            identifier: vec![1],
            parameters: value(OCTET_STRING, &noise(16, 2)),
            strings: vec![noise(3000, 3), noise(3000, 4)],
            tail: Vec::new(),
        }
    }

    #[test]
    fn encrypted_cms_is_known() {
        for build in [value, indefinite] {
            let made = made(build);
            let authenticated =
                Made { kind: AUTH_ENVELOPED_DATA, tail: value(OCTET_STRING, &[9; 16]), ..made.clone() };
            for data in [made.octets(), authenticated.octets()] {
                assert_eq!(prove(&data, true), Ok(()));
                assert_eq!(prove(&[&data[..], b"x"].concat(), true), Err(Stop::Refuted));
                assert_eq!(prove(&data[..data.len() - 1], true), Err(Stop::Cut));
                assert_eq!(prove(&data[..data.len() - 40], false), Ok(()));
                assert_eq!(prove(&data[..3000], false), Err(Stop::Cut));
                assert_eq!(prove(&data[..30], false), Err(Stop::Cut));
            }
            for other in [
                Made { kind: &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02], ..made.clone() },
                Made { recipients: Vec::new(), ..made.clone() },
                Made { tail: value(CONTEXT + 1, b"x"), ..made.clone() },
            ] {
                assert_eq!(prove(&other.octets(), true), Err(Stop::Refuted));
            }
        }
    }

    #[test]
    fn a_tag_has_one_octet() {
        let header = |data: &[u8]| Walk::of(data).header();
        for tag in [0, INTEGER, SEQUENCE, 0x1e, 0xbe] {
            assert_eq!(header(&[tag, 1, 0]), Ok((tag, Some(3))), "{tag:#x}");
        }
        for tag in [0x1f, 0x3f, 0x9f, 0xff] {
            assert_eq!(header(&[tag, 1, 0]), Err(Stop::Refuted), "{tag:#x}");
        }
    }

    #[test]
    fn each_place_has_its_bound() {
        for build in [value, indefinite] {
            let made = made(build);
            let many = |count, size| vec![value(SEQUENCE, &text(size)); count];
            let authenticated = |attributes: Vec<u8>| Made {
                kind: AUTH_ENVELOPED_DATA,
                tail: [value(CONTEXT + 1, &attributes), value(OCTET_STRING, &[9; 16])].concat(),
                ..made.clone()
            };
            let mac = |size| Made {
                kind: AUTH_ENVELOPED_DATA,
                tail: value(OCTET_STRING, &text(size)),
                ..made.clone()
            };
            for (name, fits, large) in [
                (
                    "a RecipientInfo",
                    Made { recipients: [many(1, 4000), many(2, 50)].concat(), ..made.clone() },
                    Made { recipients: [many(1, 4200), many(9, 50)].concat(), ..made.clone() },
                ),
                (
                    "RecipientInfos",
                    Made { recipients: many(20, 1000), ..made.clone() },
                    Made { recipients: many(20, 1200), ..made.clone() },
                ),
                (
                    "all of them",
                    Made { recipients: many(30, 1000), ..made.clone() },
                    Made { recipients: many(35, 1000), ..made.clone() },
                ),
                (
                    "originatorInfo",
                    Made { originator: value(CONTEXT, &text(2000)), ..made.clone() },
                    Made { originator: value(CONTEXT, &text(3000)), ..made.clone() },
                ),
                (
                    "originatorInfo with many",
                    Made {
                        originator: value(CONTEXT, &text(8000)),
                        recipients: many(20, 300),
                        ..made.clone()
                    },
                    Made {
                        originator: value(CONTEXT, &text(8200)),
                        recipients: many(20, 300),
                        ..made.clone()
                    },
                ),
                ("attributes", authenticated(text(2000)), authenticated(text(3000))),
                ("mac", mac(64), mac(65)),
                (
                    "identifier",
                    Made { identifier: text(32), ..made.clone() },
                    Made { identifier: text(33), ..made.clone() },
                ),
                (
                    "parameters",
                    Made { parameters: value(OCTET_STRING, &text(200)), ..made.clone() },
                    Made { parameters: value(OCTET_STRING, &text(300)), ..made.clone() },
                ),
                (
                    "ciphertext",
                    Made { strings: vec![text(16)], ..made.clone() },
                    Made { strings: vec![text(15)], ..made.clone() },
                ),
                (
                    "read ciphertext",
                    Made { strings: vec![text(511)], ..made.clone() },
                    Made { strings: vec![text(512)], ..made.clone() },
                ),
                (
                    "frames of strings",
                    Made { strings: noise(20_000, 5).chunks(200).map(Vec::from).collect(), ..made.clone() },
                    Made { strings: noise(20_000, 5).chunks(16).map(Vec::from).collect(), ..made.clone() },
                ),
            ] {
                assert_eq!(prove(&fits.octets(), true), Ok(()), "{name}");
                assert_eq!(prove(&large.octets(), true), Err(Stop::Refuted), "{name}");
            }
        }
    }

    #[test]
    fn a_tenth_may_be_frame() {
        let recipients = vec![value(SEQUENCE, &noise(700, 6)); 60];
        let made =
            |size| Made { recipients: recipients.clone(), strings: vec![noise(size, 7)], ..made(value) };
        assert_eq!(prove(&made(300_000).octets(), true), Err(Stop::Refuted));
        assert_eq!(prove(&made(500_000).octets(), true), Ok(()));
        assert_eq!(prove(&made(500_000).octets()[..300_000], false), Err(Stop::Cut));
    }

    #[test]
    fn no_string_is_in_a_string() {
        let nested = |inner: &[u8]| {
            let content = [value(OBJECT_IDENTIFIER, &[1]), value(SEQUENCE, &[]), value(CONTEXT, inner)];
            let parts =
                [value(INTEGER, &[0]), value(SET, &value(SEQUENCE, &[])), value(SEQUENCE, &content.concat())];
            let info =
                [value(OBJECT_IDENTIFIER, ENVELOPED_DATA), value(CONTEXT, &value(SEQUENCE, &parts.concat()))];
            prove(&value(SEQUENCE, &info.concat()), true)
        };
        let string = value(OCTET_STRING, &noise(100, 8));
        assert_eq!(nested(&string), Ok(()));
        assert_eq!(nested(&value(OCTET_STRING | CONSTRUCTED, &string)), Err(Stop::Refuted));
        assert_eq!(nested(&indefinite(OCTET_STRING | CONSTRUCTED, &string)), Err(Stop::Refuted));
        assert_eq!(nested(&[&string[..], &value(0x0c, b"text")].concat()), Err(Stop::Refuted));
    }

    #[test]
    fn deep_and_endless_nesting_is_bounded() {
        assert_eq!(prove(&[SEQUENCE, 0x80].repeat(1_000_000), true), Err(Stop::Refuted));
        let made = Made { recipients: vec![[SEQUENCE, 0x80].repeat(10_000)], ..made(indefinite) };
        assert_eq!(prove(&[made.octets(), vec![0; 100]].concat(), true), Err(Stop::Refuted));
    }

    /// A value whose length takes so many octets; none is the short form.
    fn with_length(tag: u8, octets: usize, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u64).to_be_bytes();
        match octets {
            0 => [&[tag, content.len() as u8], content].concat(),
            1..=8 => [&[tag, 0x80 | octets as u8], &length[8 - octets..], content].concat(),
            _ => [&[tag, 0x80 | octets as u8], &vec![0; octets - 8][..], &length, content].concat(),
        }
    }

    #[test]
    fn a_length_is_read_in_every_form() {
        let made = made(value);
        let recipient = noise(100, 9);
        for octets in 0..=9 {
            let recipients = vec![with_length(SEQUENCE, octets, &recipient)];
            let data = Made { recipients, ..made.clone() }.octets();
            assert_eq!(prove(&data, true).is_ok(), octets <= 8, "{octets}");
        }
        for (name, recipient) in [
            ("a length beyond all memory", [&[SEQUENCE, 0x88][..], &[0xff; 8], &recipient].concat()),
            ("a primitive value without a length", [&[OCTET_STRING, 0x80][..], &recipient, &[0, 0]].concat()),
            ("a reserved length", [&[SEQUENCE, 0xff][..], &recipient].concat()),
            ("a tag of several octets", [&[0x3f, 1, 2][..], &recipient].concat()),
        ] {
            let data = Made { recipients: vec![recipient], ..made.clone() }.octets();
            assert_eq!(prove(&data, true), Err(Stop::Refuted), "{name}");
        }
    }

    #[test]
    fn a_recipient_is_a_sequence_or_one_of_four_alternatives() {
        for tag in 0..=255 {
            let made = Made { recipients: vec![value(tag, &noise(100, 9))], ..made(value) };
            let expected = tag == SEQUENCE || [0xa1, 0xa2, 0xa3, 0xa4].contains(&tag);
            assert_eq!(prove(&made.octets(), true).is_ok(), expected, "{tag:#x}");
        }
    }

    /// How a CMS is made that differs from a genuine one in one tag.
    #[test]
    fn each_tag_is_looked_at() {
        for build in [value, indefinite] {
            let whole = made(build).octets();
            let mut walk = Walk::of(&whole);
            walk.content_info().unwrap();
            // The tags on the way to the ciphertext, each behind the head of the one round it.
            let head = if whole[1] == 0x80 { 2 } else { 5 };
            let identifier = 5 + ENVELOPED_DATA.len();
            let tags = [0, head, head + identifier, 2 * head + identifier, 3 * head + identifier];
            for at in tags {
                for other in [0x01, 0x02, 0x04, 0x24, 0x30, 0x31, 0x80, 0xa0, 0xa1] {
                    let mut data = whole.clone();
                    if data[at] != other {
                        data[at] = other;
                        assert_eq!(prove(&data, true), Err(Stop::Refuted), "{other:#x} at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn ciphertext_may_be_one_primitive_string() {
        let parts = |content: Vec<u8>| {
            let algorithm = value(SEQUENCE, &value(OBJECT_IDENTIFIER, &[1, 2]));
            let content = [value(OBJECT_IDENTIFIER, &[1]), algorithm, content].concat();
            let recipients = value(SET, &value(SEQUENCE, &noise(300, 1)));
            let inner =
                value(SEQUENCE, &[value(INTEGER, &[0]), recipients, value(SEQUENCE, &content)].concat());
            value(SEQUENCE, &[value(OBJECT_IDENTIFIER, ENVELOPED_DATA), value(CONTEXT, &inner)].concat())
        };
        let data = parts(value(CONTEXT_STRING, &noise(6000, 2)));
        assert_eq!(prove(&data, true), Ok(()));
        assert_eq!(prove(&data[..data.len() - 1], true), Err(Stop::Cut));
        assert_eq!(prove(&data[..5000], false), Ok(()));
        assert_eq!(prove(&parts(value(CONTEXT_STRING, &text(6000))), true), Err(Stop::Refuted));
        for tag in [CONTEXT_STRING + 1, CONTEXT + 1, OCTET_STRING, SEQUENCE] {
            assert_eq!(prove(&parts(value(tag, &noise(6000, 2))), true), Err(Stop::Refuted), "{tag:#x}");
        }
    }

    /// Whatever is missing at the end, it is missing; and of a beginning nothing is refuted.
    #[test]
    fn a_beginning_is_cut_or_proven() {
        for build in [value, indefinite] {
            for made in [
                made(build),
                Made { kind: AUTH_ENVELOPED_DATA, tail: value(OCTET_STRING, &[9; 16]), ..made(build) },
                Made { originator: value(CONTEXT, &text(50)), ..made(build) },
                Made {
                    recipients: vec![indefinite(SEQUENCE, &indefinite(SET, &value(INTEGER, &[1])))],
                    ..made(build)
                },
                Made { strings: (0..200).map(|seed| noise(40, seed)).collect(), ..made(build) },
            ] {
                let data = made.octets();
                assert_eq!(prove(&data, true), Ok(()));
                let mut begun = false;
                for end in (0..500).chain((500..data.len()).step_by(101)).chain(data.len() - 60..data.len()) {
                    assert_eq!(prove(&data[..end], true), Err(Stop::Cut), "{end}");
                    let found = prove(&data[..end], false);
                    assert!(found == Ok(()) || found == Err(Stop::Cut), "{end}: {found:?}");
                    begun |= found.is_ok();
                }
                assert!(begun);
                assert_eq!(prove(&[&data[..], &[0]].concat(), true), Err(Stop::Refuted));
            }
        }
    }

    /// Of what is round the ciphertext there may be just as much as is allowed, told by what was made.
    #[test]
    fn the_frame_has_an_exact_bound() {
        for (count, strings) in [(1, 1), (1, 3), (2, 40), (3, 200)] {
            let most = limits::CMS_FRAME + count * limits::CMS_FRAME_RECIPIENT;
            let with = |room: usize| {
                let recipient = |number| value(SEQUENCE, &noise((room + number) / count, 1));
                let recipients = (0..count).map(recipient).collect();
                let strings = noise(12_000, 2).chunks(12_000 / strings).map(Vec::from).collect();
                Made { recipients, strings, ..made(value) }
            };
            // Of the tags and lengths of strings, 5 octets each, a part is not counted.
            let frame = |made: &Made| {
                let ciphertext: usize = made.strings.iter().map(Vec::len).sum();
                made.octets().len() - ciphertext - (5 * made.strings.len()).min(ciphertext / 32)
            };
            let room = most - frame(&with(0));
            for (room, fits) in [(room - 1, true), (room, true), (room + 1, false)] {
                let made = with(room);
                assert_eq!(frame(&made) <= most, fits);
                assert_eq!(prove(&made.octets(), true).is_ok(), fits, "{count} {strings} {room}");
            }
        }
    }

    #[test]
    fn each_place_has_an_exact_bound() {
        let recipient = |length: usize| Made {
            recipients: vec![
                value(SEQUENCE, &noise(length, 1)),
                value(SEQUENCE, &[]),
                value(SEQUENCE, &[]),
                value(SEQUENCE, &[]),
            ],
            ..made(value)
        };
        // Of the frame, three empty recipients leave room.
        let open = |length: usize| Made {
            recipients: vec![
                indefinite(SEQUENCE, &value(OCTET_STRING, &noise(length, 1))),
                value(SEQUENCE, &[]),
                value(SEQUENCE, &[]),
                value(SEQUENCE, &[]),
            ],
            ..made(value)
        };
        let parameters =
            |length: usize| Made { parameters: value(OCTET_STRING, &noise(length, 2)), ..made(value) };
        let originator = |length: usize| Made {
            originator: value(CONTEXT, &noise(length, 3)),
            recipients: vec![value(SEQUENCE, &noise(10, 4)); 30],
            ..made(value)
        };
        let both = |length: usize| Made {
            kind: AUTH_ENVELOPED_DATA,
            tail: [value(CONTEXT + 1, &noise(length, 5)), value(OCTET_STRING, &[9; 16])].concat(),
            ..originator(1000)
        };
        let algorithm = 5 + 5 + 2 + 5;
        for (name, make, most) in [
            ("a recipient", &recipient as &dyn Fn(usize) -> Made, limits::CMS_RECIPIENT - 5),
            ("a recipient of indefinite length", &open, limits::CMS_RECIPIENT - 9),
            ("parameters", &parameters, limits::CMS_ALGORITHM - algorithm),
            ("originatorInfo", &originator, limits::CMS_ATTRIBUTES - 5),
            ("attributes beside it", &both, limits::CMS_ATTRIBUTES - 1005 - 5),
        ] {
            assert_eq!(prove(&make(most).octets(), true), Ok(()), "{name}");
            assert_eq!(prove(&make(most + 1).octets(), true), Err(Stop::Refuted), "{name}");
        }
    }

    /// Nobody waits for the rest of a value that is too long.
    #[test]
    fn a_value_is_too_long_before_it_is_there() {
        let header = 5;
        for (length, expected) in
            [(limits::CMS_RECIPIENT - header, Stop::Cut), (limits::CMS_RECIPIENT - header + 1, Stop::Refuted)]
        {
            let recipient = value(SEQUENCE, &vec![0xab; length]);
            let octets = Made { recipients: vec![recipient.clone()], ..made(indefinite) }.octets();
            let start = octets.windows(header + 3).position(|it| it == &recipient[..header + 3]).unwrap();
            assert_eq!(prove(&octets[..start + header], false), Err(expected), "{length}");
        }
    }

    #[test]
    fn only_a_constructed_value_has_an_indefinite_length() {
        for (tag, expected) in [(OCTET_STRING, Err(Stop::Refuted)), (OCTET_STRING | CONSTRUCTED, Ok(()))] {
            let inside = indefinite(tag, &value(OCTET_STRING, b"x"));
            let recipients = vec![indefinite(SEQUENCE, &inside)];
            assert_eq!(prove(&Made { recipients, ..made(value) }.octets(), true), expected, "{tag:#x}");
        }
    }

    #[test]
    fn nesting_has_an_exact_bound() {
        let nested = |depth: usize| {
            let inside = [[SEQUENCE, 0x80].repeat(depth), [0, 0].repeat(depth)].concat();
            Made { recipients: vec![indefinite(SEQUENCE, &inside)], ..made(value) }.octets()
        };
        // Three values are round the SET of recipients.
        let room = limits::CMS_DEPTH - 4 - 1;
        assert_eq!(prove(&nested(room), true), Ok(()));
        assert_eq!(prove(&nested(room + 1), true), Err(Stop::Refuted));
    }

    #[test]
    fn no_value_is_longer_than_the_one_round_it() {
        for build in [value, indefinite] {
            let made = made(build);
            for (length, fits) in [(10, true), (11, false), (9, true)] {
                let inner = [&[OCTET_STRING, length][..], &[7; 10]].concat();
                let recipients =
                    vec![value(SEQUENCE, &noise(50, 1)), indefinite(SEQUENCE, &value(SEQUENCE, &inner))];
                // What is inside a value of definite length is not looked at.
                assert_eq!(prove(&Made { recipients, ..made.clone() }.octets(), true), Ok(()), "{length}");
                let tail = [&[OCTET_STRING, length][..], &[7; 10]].concat();
                let data = Made { kind: AUTH_ENVELOPED_DATA, tail, ..made.clone() }.octets();
                assert_eq!(prove(&data, true).is_ok(), fits && length == 10, "{length}");
            }
        }
    }
}
