//! Whether octets are the packets of an encrypted message (RFC 9580, section 10.3) and nothing else.

/// Longest packet with an encrypted session key: one for ML-KEM-1024 or a large RSA key has 2 kB.
pub const LONGEST_SESSION_KEY: usize = 8192;

/// Shortest encrypted packet: version, random prefix and MDC (RFC 9580, section 5.13.1).
const SHORTEST_ENCRYPTED: usize = 1 + 18 + 22;

const PKESK: u8 = 1;
const SKESK: u8 = 3;
const SEIPD: u8 = 18;
/// LibrePGP's OCB Encrypted Data packet, which GnuPG 2.4 writes.
const OCB_ENCRYPTED: u8 = 20;

/// Whether `data` is one or more encrypted session keys, then an integrity-protected encrypted packet. Of data that is
/// not `whole`, the encrypted packet need only have begun.
pub fn is_encrypted(data: &[u8], whole: bool) -> bool {
    let mut rest = data;
    let mut session_keys = 0;
    loop {
        let Some((tag, length, body)) = header(rest) else { return false };
        match (tag, length) {
            (PKESK | SKESK, Length::Definite(length)) if length <= LONGEST_SESSION_KEY => {
                let Some((packet, after)) = body.split_at_checked(length) else { return false };
                if !is_session_key(tag, packet) {
                    return false;
                }
                session_keys += 1;
                rest = after;
            }
            (SEIPD | OCB_ENCRYPTED, length) if session_keys > 0 => {
                let version = body.first();
                let known = if tag == SEIPD { matches!(version, Some(1 | 2)) } else { version == Some(&1) };
                return known && ends_with(length, body, whole);
            }
            _ => return false,
        }
    }
}

/// Whether `data` is packets, one at least, and each is there in full; lengths as certificates have them.
pub fn are_whole(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some((_, Length::Definite(length), body)) = header(rest) {
        let Some(after) = body.get(length..) else { return false };
        rest = after;
    }
    rest.is_empty() && !data.is_empty()
}

fn is_session_key(tag: u8, packet: &[u8]) -> bool {
    let versions: &[u8] = if tag == PKESK { &[3, 6] } else { &[4, 5, 6] };
    packet.first().is_some_and(|version| versions.contains(version))
}

/// Whether the packet whose body begins `body` reaches to the end of it, or beyond where it is not `whole`.
fn ends_with(mut length: Length, mut body: &[u8], whole: bool) -> bool {
    let mut octets = 0;
    loop {
        let (size, last) = match length {
            Length::Definite(size) => (size, true),
            Length::Partial(size) => (size, false),
            Length::Indeterminate => (body.len(), true),
        };
        octets += size;
        let Some(after) = body.get(size..) else { return !whole };
        if last {
            return whole && after.is_empty() && octets >= SHORTEST_ENCRYPTED;
        }
        let Some((next, after)) = new_length(after) else { return !whole };
        (length, body) = (next, after);
    }
}

#[derive(Clone, Copy)]
enum Length {
    Definite(usize),
    Partial(usize),
    Indeterminate,
}

/// Tag and length of the next packet, and what follows its header (RFC 9580, section 4.2).
fn header(data: &[u8]) -> Option<(u8, Length, &[u8])> {
    let (&first, rest) = data.split_first()?;
    if first & 0xc0 == 0xc0 {
        let (length, rest) = new_length(rest)?;
        return Some((first & 0x3f, length, rest));
    }
    if first & 0x80 == 0 {
        return None;
    }
    let octets = match first & 3 {
        0 => 1,
        1 => 2,
        2 => 4,
        _ => return Some(((first >> 2) & 15, Length::Indeterminate, rest)),
    };
    let (length, rest) = rest.split_at_checked(octets)?;
    Some(((first >> 2) & 15, Length::Definite(big_endian(length)), rest))
}

fn new_length(data: &[u8]) -> Option<(Length, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some(match first {
        0..192 => (Length::Definite(first.into()), rest),
        192..224 => {
            let (&second, rest) = rest.split_first()?;
            (Length::Definite(((usize::from(first) - 192) << 8) + usize::from(second) + 192), rest)
        }
        224..255 => (Length::Partial(1 << (first & 31)), rest),
        255 => {
            let (length, rest) = rest.split_at_checked(4)?;
            (Length::Definite(big_endian(length)), rest)
        }
    })
}

fn big_endian(octets: &[u8]) -> usize {
    octets.iter().fold(0, |sum, &octet| (sum << 8) | usize::from(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0xc1, 2, 3, 0];

    fn seipd(version: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![0xd2, length as u8, version];
        packet.resize(length + 2, 0);
        packet
    }

    #[test]
    fn encrypted_messages_are_known() {
        let old_format = [&[0x84, 2, 3, 0][..], &seipd(1, 60)].concat();
        let mut partial = [&KEY[..], &[0xd2, 0xe6, 1]].concat();
        partial.extend([0; 63]);
        partial.extend([1, 0]);
        for data in [
            [&KEY[..], &seipd(1, 60)].concat(),
            [&KEY[..], &KEY, &seipd(2, 60)].concat(),
            old_format,
            partial,
        ] {
            assert!(is_encrypted(&data, true), "{data:?}");
            assert!(is_encrypted(&data[..data.len() - 1], false), "{data:?}");
            assert!(!is_encrypted(&data[..data.len() - 1], true), "{data:?}");
            assert!(!is_encrypted(&[&data[..], &[0xcb, 0]].concat(), true), "{data:?}");
        }
    }

    #[test]
    fn other_packets_are_not() {
        let literal = [0xcb, 8, b'b', 0, 0, 0, 0, 0, b'h', b'i'];
        let mut sed = seipd(1, 60);
        sed[0] = 0xc9;
        for data in [
            seipd(1, 60),
            literal.to_vec(),
            [&KEY[..], &literal].concat(),
            [&KEY[..], &sed].concat(),
            [&KEY[..], &seipd(3, 60)].concat(),
            [&KEY[..], &seipd(1, 10)].concat(),
            KEY.to_vec(),
            vec![],
        ] {
            assert!(!is_encrypted(&data, true), "{data:?}");
        }
    }
}
