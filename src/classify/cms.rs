//! Whether octets are a CMS enveloped-data or authEnveloped-data (RFC 5652, section 6; RFC 5083) and nothing else.
//!
//! A walk over BER, because senders that stream write indefinite lengths and constructed strings, which DER parsers
//! refuse. It looks at tags and lengths only.

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

/// Whether `data` is encrypted CMS for at least one recipient. Of data that is not `whole`, the ciphertext need only
/// have begun.
pub fn is_enveloped(data: &[u8], whole: bool) -> bool {
    let mut walk = Walk { data, position: 0, ends: Vec::new(), in_ciphertext: false };
    match walk.content_info() {
        Ok(()) => walk.position == data.len(),
        Err(Stop::Truncated) => !whole && walk.in_ciphertext,
        Err(Stop::Malformed) => false,
    }
}

/// Why a walk ended before its end.
enum Stop {
    /// The data ended.
    Truncated,
    /// It is not what it should be.
    Malformed,
}

struct Walk<'a> {
    data: &'a [u8],
    position: usize,
    /// Where the values that were entered end; `None` at an end-of-contents mark.
    ends: Vec<Option<usize>>,
    in_ciphertext: bool,
}

impl<'a> Walk<'a> {
    fn content_info(&mut self) -> Result<(), Stop> {
        self.enter(SEQUENCE)?;
        let authenticated = match self.primitive(OBJECT_IDENTIFIER)? {
            ENVELOPED_DATA => false,
            AUTH_ENVELOPED_DATA => true,
            _ => return Err(Stop::Malformed),
        };
        self.enter(CONTEXT)?;
        self.enter(SEQUENCE)?;
        self.primitive(INTEGER)?;
        if self.tag()? == CONTEXT {
            self.skip()?; // originatorInfo
        }
        self.enter(SET)?;
        if self.at_end()? {
            return Err(Stop::Malformed);
        }
        while !self.at_end()? {
            self.recipient()?;
        }
        self.leave()?;
        self.encrypted_content()?;
        if authenticated {
            if self.tag()? == CONTEXT + 1 {
                self.skip()?; // authAttrs
            }
            self.primitive(OCTET_STRING)?; // mac
        }
        // Unprotected attributes could hold anything: such a message counts as clear.
        for _ in 0..3 {
            self.leave()?;
        }
        Ok(())
    }

    /// RecipientInfo: a sequence, or one of the tagged alternatives.
    fn recipient(&mut self) -> Result<(), Stop> {
        match self.tag()? {
            SEQUENCE => self.skip(),
            tag if (CONTEXT + 1..=CONTEXT + 4).contains(&tag) => self.skip(),
            _ => Err(Stop::Malformed),
        }
    }

    fn encrypted_content(&mut self) -> Result<(), Stop> {
        self.enter(SEQUENCE)?;
        self.primitive(OBJECT_IDENTIFIER)?;
        if self.tag()? != SEQUENCE {
            return Err(Stop::Malformed);
        }
        self.skip()?; // contentEncryptionAlgorithm
        match self.tag()? {
            CONTEXT_STRING => {
                self.in_ciphertext = true;
                self.skip()?;
            }
            CONTEXT => {
                self.enter(CONTEXT)?;
                self.in_ciphertext = true;
                while !self.at_end()? {
                    match self.tag()? {
                        OCTET_STRING => self.skip()?,
                        _ => return Err(Stop::Malformed),
                    }
                }
                self.leave()?;
            }
            _ => return Err(Stop::Malformed),
        }
        self.leave()
    }

    /// The tag of the next value.
    fn tag(&self) -> Result<u8, Stop> {
        if self.ends.last().is_some_and(|end| end.is_some_and(|end| self.position >= end)) {
            return Err(Stop::Malformed);
        }
        self.data.get(self.position).copied().ok_or(Stop::Truncated)
    }

    /// Reads tag and length: the tag, and where the value ends.
    fn header(&mut self) -> Result<(u8, Option<usize>), Stop> {
        let tag = self.tag()?;
        // Tags of more than one octet do not occur here.
        if tag & 0x1f == 0x1f {
            return Err(Stop::Malformed);
        }
        let first = *self.data.get(self.position + 1).ok_or(Stop::Truncated)?;
        self.position += 2;
        let length = match first {
            0x80 => return if tag & CONSTRUCTED == 0 { Err(Stop::Malformed) } else { Ok((tag, None)) },
            0..0x80 => usize::from(first),
            0x81..=0x88 => {
                let octets = usize::from(first & 0x7f);
                let bytes = self.data.get(self.position..self.position + octets).ok_or(Stop::Truncated)?;
                self.position += octets;
                bytes
                    .iter()
                    .try_fold(0usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))
                    .ok_or(Stop::Malformed)?
            }
            _ => return Err(Stop::Malformed),
        };
        let end = self.position.checked_add(length).ok_or(Stop::Malformed)?;
        // A value cannot be longer than the one round it.
        if self.ends.iter().flatten().any(|outer| end > *outer) {
            return Err(Stop::Malformed);
        }
        Ok((tag, Some(end)))
    }

    fn enter(&mut self, expected: u8) -> Result<(), Stop> {
        let (tag, end) = self.header()?;
        if tag != expected || self.ends.len() >= limits::CMS_DEPTH {
            return Err(Stop::Malformed);
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
                None => Err(Stop::Truncated),
            },
            None => Err(Stop::Malformed),
        }
    }

    fn leave(&mut self) -> Result<(), Stop> {
        if !self.at_end()? {
            return Err(Stop::Malformed);
        }
        if self.ends.pop() == Some(None) {
            self.position += 2;
        }
        Ok(())
    }

    /// The octets of a short value that is not constructed.
    fn primitive(&mut self, expected: u8) -> Result<&'a [u8], Stop> {
        let (tag, end) = self.header()?;
        let end = end.filter(|_| tag == expected).ok_or(Stop::Malformed)?;
        let value = self.data.get(self.position..end).ok_or(Stop::Truncated)?;
        self.position = end;
        Ok(value)
    }

    /// Passes over a value of any kind.
    fn skip(&mut self) -> Result<(), Stop> {
        let (tag, end) = self.header()?;
        if let Some(end) = end {
            if end > self.data.len() {
                return Err(Stop::Truncated);
            }
            self.position = end;
            return Ok(());
        }
        if tag & CONSTRUCTED == 0 || self.ends.len() >= limits::CMS_DEPTH {
            return Err(Stop::Malformed);
        }
        self.ends.push(None);
        while !self.at_end()? {
            self.skip()?;
        }
        self.leave()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82, (content.len() >> 8) as u8, content.len() as u8];
        out.extend(content);
        out
    }

    fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x80], content, &[0, 0]].concat()
    }

    fn enveloped(oid: &[u8], recipients: &[u8], tail: &[u8], build: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
        let algorithm = value(SEQUENCE, &value(OBJECT_IDENTIFIER, &[1, 2]));
        let strings =
            build(CONTEXT, &[value(OCTET_STRING, &[7; 40]), value(OCTET_STRING, &[8; 40])].concat());
        let content = build(SEQUENCE, &[value(OBJECT_IDENTIFIER, &[1]), algorithm, strings].concat());
        let set = value(SET, recipients);
        let inner = build(SEQUENCE, &[&value(INTEGER, &[0])[..], &set, &content, tail].concat());
        build(SEQUENCE, &[value(OBJECT_IDENTIFIER, oid), build(CONTEXT, &inner)].concat())
    }

    #[test]
    fn encrypted_cms_is_known() {
        let recipient = value(SEQUENCE, &[5; 30]);
        let mac = value(OCTET_STRING, &[9; 16]);
        for build in [value, indefinite] {
            for data in [
                enveloped(ENVELOPED_DATA, &recipient, &[], build),
                enveloped(AUTH_ENVELOPED_DATA, &recipient, &mac, build),
            ] {
                assert!(is_enveloped(&data, true));
                assert!(!is_enveloped(&[&data[..], b"x"].concat(), true));
                assert!(!is_enveloped(&data[..data.len() - 1], true));
                assert!(is_enveloped(&data[..data.len() - 40], false));
                assert!(!is_enveloped(&data[..30], false));
            }
            let signed = [&ENVELOPED_DATA[..8], &[2]].concat();
            assert!(!is_enveloped(&enveloped(&signed, &recipient, &[], build), true));
            assert!(!is_enveloped(&enveloped(ENVELOPED_DATA, &[], &[], build), true));
            assert!(!is_enveloped(
                &enveloped(ENVELOPED_DATA, &recipient, &value(CONTEXT + 1, b"x"), build),
                true
            ));
        }
    }

    #[test]
    fn deep_and_endless_nesting_is_bounded() {
        assert!(!is_enveloped(&[SEQUENCE, 0x80].repeat(1_000_000), true));
        let mut data = enveloped(ENVELOPED_DATA, &[SEQUENCE, 0x80].repeat(10_000), &[], indefinite);
        data.extend([0; 100]);
        assert!(!is_enveloped(&data, true));
    }
}
