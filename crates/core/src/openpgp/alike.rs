//! Whether an armor looks from outside like one that we would write: for the same keys, and as long as one of a class.

use std::io::{self, Read as _, Write as _};

use sequoia_openpgp::serialize::SerializeInto as _;

use super::armor::Armor;
use super::encrypted;
use super::header::{AEAD_HEADER, Length, read_header, read_length, tag};
use super::padding::Padding;
use crate::classify::armor::decode;
use crate::error::Error;
use crate::recipients::openpgp::{Container, Session};

/// Octets of SEIPDv1 beside its content: version, random octets, Modification Detection Code (RFC 9580, section 5.13.1).
const BESIDE_V1: u64 = 1 + 18 + 22;

/// Octets of a salt and of an authentication tag of SEIPDv2 (section 5.13.2).
const SALT: u64 = 32;
const TAG: u64 = 16;

/// Whether `armor`, whose lines end with `ending`, is for the keys of `session` in their order, and as long as what we write to
/// them with a content filled up by `padding`.
///
/// # Errors
/// Those of sequoia.
pub fn is_alike(
    armor: &[u8],
    ending: &'static str,
    session: &Session,
    padding: Padding,
) -> Result<bool, Error> {
    let Ok(decoded) = decode(armor, true) else { return Ok(false) };
    let data = decoded.data;
    let written =
        Armor::new(Vec::new(), ending, session.container == Container::Seipd1).and_then(|mut again| {
            again.write_all(&data)?;
            again.finish()
        });
    if written.map_err(Error::Write)? != armor {
        return Ok(false);
    }
    let mut rest = &data[..];
    for packet in &session.packets {
        let ours = packet.to_vec().map_err(Error::OpenPgp)?;
        let Some((theirs, after)) = rest.split_at_checked(ours.len()) else { return Ok(false) };
        let same = public_part(&ours);
        if same.is_none_or(|same| ours.get(..same) != theirs.get(..same)) {
            return Ok(false);
        }
        rest = after;
    }
    let Some(content) = content_length(rest, session.container) else { return Ok(false) };
    if padding == Padding::None {
        return Ok(true);
    }
    if padding.class(content) != content {
        return Ok(false);
    }
    // How a body is divided into parts makes a difference, too.
    let again = encrypted(Vec::new(), session, None, |out| {
        io::copy(&mut io::repeat(0).take(content), out).map(drop).map_err(Error::Write)
    })?;
    Ok(again.len() == rest.len())
}

/// How much of a packet with an encrypted session key is the same in each message: header, version, key and algorithm.
fn public_part(packet: &[u8]) -> Option<usize> {
    let mut reader = packet;
    read_header(&mut reader).ok()??;
    let start = packet.len() - reader.len();
    match reader {
        // A key id.
        [3, ..] => Some(start + 1 + 8 + 1),
        // A fingerprint, and before it its length with the version of the key.
        [6, length, ..] => Some(start + 2 + usize::from(*length) + 1),
        _ => None,
    }
}

/// How long the content is of the encrypted packet that `data` is; `None` where it is something else.
fn content_length(mut data: &[u8], container: Container) -> Option<u64> {
    let (tag, mut length) = read_header(&mut data).ok()??;
    let mut body = Vec::new();
    loop {
        let (octets, last) = match length {
            Length::Definite(octets) => (octets, true),
            Length::Partial(octets) => (octets, false),
            Length::Indeterminate => return None,
        };
        let (part, after) = data.split_at_checked(usize::try_from(octets).ok()?)?;
        body.extend_from_slice(part);
        data = after;
        if last {
            break;
        }
        length = read_length(&mut data).ok()?;
    }
    if tag != tag::SEIPD || !data.is_empty() {
        return None;
    }
    let total = body.len() as u64;
    match (container, &body[..]) {
        (Container::Seipd1, [1, ..]) => total.checked_sub(BESIDE_V1),
        (Container::Seipd2, [2, _, _, chunk @ 0..=16, ..]) => {
            // A tag for each chunk, and one for all.
            let chunks = total.checked_sub(AEAD_HEADER as u64 + SALT + TAG)?;
            let size = (1_u64 << (chunk + 6)) + TAG;
            chunks.checked_sub(chunks.div_ceil(size) * TAG)
        }
        _ => None,
    }
}
