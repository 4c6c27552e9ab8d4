//! BER made DER (X.690), as far as files with keys need it: lengths that are indefinite or longer than they must be, and octet strings
//! in pieces. NSS (Thunderbird, Firefox) writes PKCS #12 so, and what decodes here knows DER alone.
//!
//! Nothing else is changed: what is in DER stays as it is, and what is in neither is for the decoder to refuse.

use der::{ErrorKind, Length, Result, Tag};
use zeroize::Zeroizing;

/// How deep values may lie in each other; in PKCS #12 it is some 12.
const DEPTH: usize = 32;

/// Most octets that are taken.
const OCTETS: usize = 16 * 1024 * 1024;

/// Set in the first octet of a value that is made of others.
const CONSTRUCTED: u8 = 0x20;

/// All set in the first octet of a tag that takes more.
const LONG_TAG: u8 = 0x1f;

/// An octet string, and one in pieces.
const OCTET_STRING: &[u8] = &[0x04];
const OCTET_STRINGS: &[u8] = &[0x04 | CONSTRUCTED];

/// What ends a value with an indefinite length.
const END: &[u8] = &[0, 0];

/// The one value in `octets` in DER.
///
/// # Errors
/// Where it is broken or followed by something, lies more than 32 deep, or has more than 16 MiB.
pub fn to_der(octets: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    if octets.len() > OCTETS {
        return Err(ErrorKind::Overlength.into());
    }
    let (mut rest, mut der) = (octets, Zeroizing::new(Vec::with_capacity(octets.len())));
    take_value(&mut rest, 0, &mut der)?;
    if rest.is_empty() {
        Ok(der)
    } else {
        let (decoded, remaining) =
            (Length::try_from(octets.len() - rest.len())?, Length::try_from(rest.len())?);
        Err(ErrorKind::TrailingData { decoded, remaining }.into())
    }
}

/// What the octet strings that follow each other in `der` hold together.
///
/// # Errors
/// Where one is none, or in pieces itself.
pub fn joined(der: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let (mut rest, mut joined) = (der, Zeroizing::new(Vec::with_capacity(der.len())));
    while !rest.is_empty() {
        let (tag, length) = take_header(&mut rest)?;
        let length = length.filter(|_| tag == OCTET_STRING).ok_or_else(|| Tag::OctetString.value_error())?;
        joined.extend_from_slice(take(&mut rest, length)?);
    }
    Ok(joined)
}

/// Takes a value from the beginning of `rest`, which lies in `depth` others, and appends it to `der`.
fn take_value(rest: &mut &[u8], depth: usize, der: &mut Vec<u8>) -> Result<()> {
    if depth == DEPTH {
        return Err(ErrorKind::Overlength.into());
    }
    let (tag, length) = take_header(rest)?;
    if tag[0] & CONSTRUCTED == 0 {
        let length = length.ok_or(ErrorKind::IndefiniteLength)?;
        append(der, tag, take(rest, length)?);
        return Ok(());
    }
    let mut content = Zeroizing::new(Vec::new());
    if let Some(length) = length {
        let mut inside = take(rest, length)?;
        while !inside.is_empty() {
            take_value(&mut inside, depth + 1, &mut content)?;
        }
    } else {
        while !rest.starts_with(END) {
            take_value(rest, depth + 1, &mut content)?;
        }
        take(rest, END.len())?;
    }
    if tag == OCTET_STRINGS {
        append(der, OCTET_STRING, &joined(&content)?);
    } else {
        append(der, tag, &content);
    }
    Ok(())
}

/// Takes the octets of a tag, and a length: `None` for an indefinite one.
fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<usize>)> {
    let first = *rest.first().ok_or_else(|| missing(rest, 1))?;
    // The end of a value that has not begun.
    if first == END[0] {
        return Err(ErrorKind::TagUnknown { byte: first }.into());
    }
    let more = match first & LONG_TAG {
        LONG_TAG => rest[1..].iter().take_while(|octet| **octet >= 0x80).count() + 1,
        _ => 0,
    };
    Ok((take(rest, 1 + more)?, take_length(rest)?))
}

fn take_length(rest: &mut &[u8]) -> Result<Option<usize>> {
    let first = take(rest, 1)?[0];
    if first <= 0x80 {
        return Ok((first < 0x80).then_some(first.into()));
    }
    let octets = take(rest, usize::from(first - 0x80))?;
    let add = |length: usize, octet: &u8| length.checked_mul(256)?.checked_add((*octet).into());
    let length = octets.iter().try_fold(0, add).ok_or(ErrorKind::Overflow)?;
    Ok(Some(length))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(count).ok_or_else(|| missing(rest, count))?;
    *rest = behind;
    Ok(taken)
}

/// There are not `count` octets.
fn missing(rest: &[u8], count: usize) -> der::Error {
    let length = |octets: usize| Length::try_from(octets).unwrap_or(Length::MAX);
    ErrorKind::Incomplete { expected_len: length(count), actual_len: length(rest.len()) }.into()
}

fn append(der: &mut Vec<u8>, tag: &[u8], content: &[u8]) {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    der.extend_from_slice(tag);
    match content.len() {
        short @ 0..0x80 => der.push(short as u8),
        _ => {
            der.push(0x80 + length.len() as u8);
            der.extend_from_slice(length);
        }
    }
    der.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(octets: &[u8]) -> Option<Vec<u8>> {
        to_der(octets).ok().map(|der| der.to_vec())
    }

    #[test]
    fn what_is_in_ber_is_made_der() {
        for (ber, der) in [
            (&b"\x30\x80\x02\x01\x03\x00\x00"[..], &b"\x30\x03\x02\x01\x03"[..]),
            (b"\x30\x81\x03\x02\x01\x03", b"\x30\x03\x02\x01\x03"),
            (b"\x04\x84\x00\x00\x00\x01x", b"\x04\x01x"),
            (b"\x24\x80\x04\x01a\x24\x80\x04\x02bc\x00\x00\x04\x00\x00\x00", b"\x04\x03abc"),
            (b"\x24\x06\x04\x01a\x04\x01b", b"\x04\x02ab"),
            (b"\x24\x80\x00\x00", b"\x04\x00"),
            // Only the universal ones: of others nobody knows here what they are.
            (b"\xa0\x80\x04\x01a\x04\x01b\x00\x00", b"\xa0\x06\x04\x01a\x04\x01b"),
            (b"\x5f\x81\x01\x01x", b"\x5f\x81\x01\x01x"),
        ] {
            assert_eq!(made(ber).as_deref(), Some(der), "{ber:x?}");
        }
        assert_eq!(joined(b"\x04\x01a\x04\x01b").map(|all| all.to_vec()), Ok(b"ab".to_vec()));
        assert_eq!(joined(b"").map(|all| all.to_vec()), Ok(Vec::new()));
    }

    #[test]
    fn what_is_broken_is_refused() {
        for broken in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x80\x00",
            b"\x30\x80\x02\x01\x03",
            b"\x30\x04\x02\x01\x03",
            b"\x30\x02\x02\x01\x03",
            b"\x30\x03\x02\x01\x03\x00\x00",
            // An end where nothing began, and pieces that are none.
            b"\x30\x02\x00\x00",
            b"\x00\x00",
            b"\x24\x03\x02\x01\x03",
            b"\x04\x80x\x00\x00",
            b"\x04\xff",
            b"\x04\x89\x01\x00\x00\x00\x00\x00\x00\x00\x00x",
            b"\x04\x88\xff\xff\xff\xff\xff\xff\xff\xffx",
            b"\x1f\xff",
        ] {
            assert_eq!(made(broken), None, "{broken:x?}");
        }
        assert!(joined(b"\x24\x00").is_err() && joined(b"\x04\x80").is_err() && joined(b"\x02\x00").is_err());
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |depth: usize| [b"\x30\x80".repeat(depth), b"\x00\x00".repeat(depth)].concat();
        assert!(made(&nested(DEPTH)).is_some() && made(&nested(DEPTH + 1)).is_none());
        assert_eq!(made(&nested(1_000_000)), None);
        let long = |octets: usize| {
            [b"\x04\x84", &(octets as u32 - 6).to_be_bytes()[..], &vec![0; octets - 6]].concat()
        };
        assert!(made(&long(OCTETS)).is_some() && made(&long(OCTETS + 1)).is_none());
    }

    /// A value, and how it is written in BER.
    #[derive(Clone, Debug)]
    enum Value {
        Primitive { tag: u8, content: Vec<u8>, zeros: u8 },
        String { content: Vec<u8>, piece: usize, indefinite: bool },
        Constructed { tag: u8, inside: Vec<Value>, indefinite: bool },
    }

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = Vec::new();
        append(&mut der, &[tag], content);
        der
    }

    fn wrapped(tag: u8, content: &[u8], indefinite: bool) -> Vec<u8> {
        if indefinite { [&[tag, 0x80], content, END].concat() } else { tagged(tag, content) }
    }

    impl Value {
        fn der(&self) -> Vec<u8> {
            match self {
                Self::Primitive { tag, content, .. } => tagged(*tag, content),
                Self::String { content, .. } => tagged(0x04, content),
                Self::Constructed { tag, inside, .. } => {
                    tagged(*tag, &inside.iter().flat_map(Self::der).collect::<Vec<_>>())
                }
            }
        }

        fn ber(&self) -> Vec<u8> {
            match self {
                Self::Primitive { tag, content, zeros } => {
                    let length = (content.len() as u16).to_be_bytes();
                    let zeros = vec![0; (*zeros).into()];
                    [&[*tag, 0x82 + zeros.len() as u8][..], &zeros, &length, content].concat()
                }
                Self::String { content, piece, indefinite } => {
                    let pieces = content.chunks(*piece).flat_map(|piece| tagged(0x04, piece));
                    let inner = wrapped(0x24, &pieces.collect::<Vec<_>>(), !indefinite);
                    wrapped(0x24, &inner, *indefinite)
                }
                Self::Constructed { tag, inside, indefinite } => {
                    wrapped(*tag, &inside.iter().flat_map(Self::ber).collect::<Vec<_>>(), *indefinite)
                }
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let octets = || proptest::collection::vec(any::<u8>(), 0..200);
        let leaf =
            prop_oneof![
                (prop_oneof![1..0x1fu8, 0x80..0x9fu8], octets(), 0..3u8)
                    .prop_map(|(tag, content, zeros)| Value::Primitive { tag, content, zeros }),
                (octets(), 1..50usize, any::<bool>())
                    .prop_map(|(content, piece, indefinite)| Value::String { content, piece, indefinite }),
            ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            let tags = prop_oneof![Just(0x30u8), Just(0x31u8), 0xa0..0xbfu8];
            (tags, proptest::collection::vec(inner, 0..5), any::<bool>())
                .prop_map(|(tag, inside, indefinite)| Value::Constructed { tag, inside, indefinite })
        })
    }

    proptest! {
        #[test]
        fn der_stays_itself_and_its_other_forms_come_back(value in values()) {
            let der = value.der();
            prop_assert_eq!(made(&der), Some(der.clone()));
            prop_assert_eq!(made(&value.ber()), Some(der));
        }

        #[test]
        fn anything_is_made_der_or_refused(
            octets in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x24), Just(0x30), Just(0x80), Just(4), 0..3u8], 0..60),
        ) {
            if let Some(der) = made(&octets) {
                prop_assert!(der.len() <= octets.len());
                prop_assert_eq!(made(&der), Some(der.clone()));
            }
        }
    }
}
