//! Whether octets are the packets of an encrypted message (RFC 9580, section 10.3) and nothing else; where the certificates
//! of a keyring end (section 10.1).

use std::io;

use super::noise::Noise;
use super::session_keys::SessionKeys;
use super::{Stop, demand};
use crate::openpgp::header::tag::{self, OCB_ENCRYPTED, PKESK, SEIPD, SKESK};
use crate::openpgp::header::{AEAD_HEADER, Length, read_header, read_length};

/// Longest packet with an encrypted session key: one for ML-KEM-1024 has 1.7 kB, one for RSA with 16384 bits 2 kB.
pub const LONGEST_SESSION_KEY: usize = 4096;

/// Shortest encrypted packet: version, random prefix and MDC (RFC 9580, section 5.13.1).
const SHORTEST_ENCRYPTED: usize = 1 + 18 + 22;

/// Proves that `data` is one or more encrypted session keys, then an integrity-protected encrypted packet. Of data that
/// is not `whole`, the encrypted packet need only have begun.
///
/// # Errors
/// [`Stop::Refuted`] where there is anything else, or what can be read; [`Stop::Cut`] where it ends too early to tell.
pub fn prove(data: &[u8], whole: bool) -> Result<(), Stop> {
    let mut rest = data;
    let mut keys = SessionKeys::default();
    loop {
        let (tag, length, body) = header(rest)?;
        match (tag, length) {
            (PKESK | SKESK, Length::Definite(length)) => {
                let length = in_memory(length);
                demand(length <= LONGEST_SESSION_KEY)?;
                let (packet, after) = body.split_at_checked(length).ok_or(Stop::Cut)?;
                if tag == PKESK { keys.public(packet) } else { keys.symmetric(packet) }?;
                rest = after;
            }
            (SEIPD | OCB_ENCRYPTED, length) => {
                keys.finish()?;
                let beside = match (tag, body.first().ok_or(Stop::Cut)?) {
                    (SEIPD, 1) => 1,
                    (SEIPD, 2) | (OCB_ENCRYPTED, 1) => AEAD_HEADER,
                    _ => return Err(Stop::Refuted),
                };
                return prove_ciphertext(length, body, whole, beside);
            }
            _ => return Err(Stop::Refuted),
        }
    }
}

/// Whether `data` is packets, one at least, and each is there in full; lengths as certificates have them.
pub fn are_whole(data: &[u8]) -> bool {
    let mut rest = data;
    while let Ok((_, Length::Definite(length), body)) = header(rest) {
        let Some(after) = body.get(in_memory(length)..) else { return false };
        rest = after;
    }
    rest.is_empty() && !data.is_empty()
}

/// Octets of the certificate that `data` begins with: up to the next primary key, or to the end of `data`, where more of
/// it may follow. Bodies are not looked into.
///
/// # Errors
/// [`Stop::Cut`] where `data` ends within a packet, or is empty; [`Stop::Refuted`] for a packet that certificates do not have
/// or that is unknown here, a length of another kind than they have, and what is not a packet.
pub fn certificate(data: &[u8]) -> Result<usize, Stop> {
    let (mut rest, mut first) = (data, true);
    while first || !rest.is_empty() {
        let (tag, length, body) = header(rest)?;
        match tag {
            tag::PUBLIC_KEY | tag::SECRET_KEY if first => first = false,
            tag::PUBLIC_KEY | tag::SECRET_KEY => break,
            tag::SIGNATURE | tag::USER_ID | tag::USER_ATTRIBUTE => demand(!first)?,
            tag::PUBLIC_SUBKEY | tag::SECRET_SUBKEY | tag::TRUST | tag::MARKER => demand(!first)?,
            _ => return Err(Stop::Refuted),
        }
        let Length::Definite(length) = length else { return Err(Stop::Refuted) };
        rest = body.get(in_memory(length)..).ok_or(Stop::Cut)?;
    }
    Ok(data.len() - rest.len())
}

/// Proves that the packet whose body begins `body`, with `beside` octets before its ciphertext, reaches to the end of it,
/// or beyond where it is not `whole`.
fn prove_ciphertext(mut length: Length, mut body: &[u8], whole: bool, mut beside: usize) -> Result<(), Stop> {
    let mut noise = Noise::default();
    let mut octets = 0;
    loop {
        let (size, last) = match length {
            Length::Definite(size) => (in_memory(size), true),
            Length::Partial(size) => (in_memory(size), false),
            Length::Indeterminate => (body.len(), true),
        };
        octets += size;
        let part = &body[..size.min(body.len())];
        let (header, ciphertext) = part.split_at(beside.min(part.len()));
        beside -= header.len();
        noise.take(ciphertext);
        let after = match body.get(size..) {
            Some(after) if !last => after,
            Some(after) if whole => {
                demand(after.is_empty() && octets >= SHORTEST_ENCRYPTED)?;
                return noise.finish(true);
            }
            // What was seen of a beginning may be all, but for what ends it.
            Some(after) => {
                demand(after.is_empty())?;
                return noise.finish(false);
            }
            None if whole => return Err(Stop::Cut),
            None => return noise.finish(false),
        };
        body = after;
        match read_length(&mut body) {
            Ok(next) => length = next,
            Err(_) if whole => return Err(Stop::Cut),
            Err(_) => return noise.finish(false),
        }
    }
}

/// Type and length of the next packet, and what follows its header.
fn header(mut data: &[u8]) -> Result<(u8, Length, &[u8]), Stop> {
    let (tag, length) = read_header(&mut data).map_err(stop)?.ok_or(Stop::Cut)?;
    Ok((tag, length, data))
}

/// What a header that could not be read proves.
fn stop(error: io::Error) -> Stop {
    if error.kind() == io::ErrorKind::InvalidData { Stop::Refuted } else { Stop::Cut }
}

/// Octets in memory; what is longer than all memory is not there in full.
fn in_memory(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::samples::{noise, text};

    const KEY: [u8; 4] = [0xc1, 2, 3, 0];

    fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[0xc0 | tag, 255], &(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    fn seipd(version: u8, length: usize) -> Vec<u8> {
        packet(SEIPD, &[vec![version], noise(length - 1, 1)].concat())
    }

    #[test]
    fn encrypted_messages_are_known() {
        let old_format = [&[0x84, 2, 3, 0][..], &seipd(1, 6000)].concat();
        let mut partial = [&KEY[..], &[0xd2, 0xed, 1], &noise(8191, 2)].concat();
        partial.extend([1, 0]);
        for data in [
            [&KEY[..], &seipd(1, 6000)].concat(),
            [&KEY[..], &KEY, &seipd(2, 6000)].concat(),
            old_format,
            partial,
        ] {
            let cut = data.len() - 1;
            assert_eq!(prove(&data, true), Ok(()));
            assert_eq!(prove(&data[..cut], false), Ok(()));
            assert_eq!(prove(&data[..4000], false), Err(Stop::Cut));
            assert_eq!(prove(&data[..cut], true), Err(Stop::Cut));
            assert_eq!(prove(&[&data[..], &[0xcb, 0]].concat(), true), Err(Stop::Refuted));
        }
        assert_eq!(prove(&[&KEY[..], &seipd(1, 41)].concat(), true), Ok(()));
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
            [&KEY[..], &packet(SEIPD, &[&[1][..], &text(600)].concat())].concat(),
        ] {
            assert_eq!(prove(&data, true), Err(Stop::Refuted), "{data:?}");
        }
        assert_eq!(prove(&KEY, true), Err(Stop::Cut));
        assert_eq!(prove(&[], true), Err(Stop::Cut));
    }

    #[test]
    fn only_whole_packets_are_whole() {
        let two = [&packet(6, b"key")[..], &packet(13, b"")].concat();
        for (data, whole) in [
            (&two[..], true),
            (&KEY, true),
            (&two[..two.len() - 1], false),
            (&two[..8], false),
            (&[][..], false),
            (b"text", false),
            (&[&two[..], b"text"].concat(), false),
            (&[0xd2, 0xe1, 1, 2, 0], false),
            (&[0xaf], false),
        ] {
            assert_eq!(are_whole(data), whole, "{data:?}");
        }
    }

    #[test]
    fn a_certificate_ends_where_the_next_one_begins() {
        let marked = |tag: u8| packet(tag, b"body");
        for primary in [tag::PUBLIC_KEY, tag::SECRET_KEY] {
            let belongs = [2, 7, 10, 12, 13, 14, 17];
            let one = [marked(primary), belongs.map(marked).concat()].concat();
            let old_format = [&[0x80 | primary << 2, 1, 0][..], &[0x89, 0, 1, 0]].concat();
            for one in [one, old_format] {
                assert_eq!(certificate(&one), Ok(one.len()));
                for next in [tag::PUBLIC_KEY, tag::SECRET_KEY] {
                    assert_eq!(certificate(&[&one[..], &marked(next)].concat()), Ok(one.len()));
                    // Of what follows, the type and the length are all that is looked at.
                    assert_eq!(certificate(&[&one[..], &[0xc0 | next, 9]].concat()), Ok(one.len()));
                    assert_eq!(certificate(&[&one[..], &[0xc0 | next]].concat()), Err(Stop::Cut));
                }
                assert_eq!(certificate(&one[..one.len() - 1]), Err(Stop::Cut));
                assert_eq!(certificate(&[&one[..], b"junk"].concat()), Err(Stop::Refuted));
                for stranger in (0..64).filter(|tag| ![5, 6].contains(tag) && !belongs.contains(tag)) {
                    let ring = [&one[..], &marked(stranger)].concat();
                    assert_eq!(certificate(&ring), Err(Stop::Refuted), "{stranger}");
                    assert_eq!(certificate(&marked(stranger)), Err(Stop::Refuted), "{stranger}");
                }
                for length in [&[0xcd, 0xe1, 1, 2, 0][..], &[0xb7]] {
                    assert_eq!(certificate(&[&one[..], length].concat()), Err(Stop::Refuted));
                }
            }
            for first in belongs {
                assert_eq!(certificate(&[marked(first), marked(primary)].concat()), Err(Stop::Refuted));
            }
        }
        assert_eq!(certificate(&[]), Err(Stop::Cut));
    }

    #[test]
    fn a_session_key_has_a_bounded_length() {
        for (length, fits) in [(LONGEST_SESSION_KEY, true), (LONGEST_SESSION_KEY + 1, false)] {
            let bits = ((length - 12) as u16 * 8).to_be_bytes();
            let key = [&[3][..], &noise(8, 1), &[1], &bits, &noise(length - 12, 2)].concat();
            assert_eq!(key.len(), length);
            let data = [packet(PKESK, &key), seipd(1, 600)].concat();
            assert_eq!(prove(&data, true).is_ok(), fits, "{length}");
            let cut = prove(&data[..20], true);
            assert_eq!(cut, Err(if fits { Stop::Cut } else { Stop::Refuted }), "{length}");
        }
        let symmetric = packet(SKESK, &[4, 9, 0, 8]);
        assert_eq!(prove(&[&symmetric[..], &seipd(1, 600)].concat(), true), Ok(()));
        assert_eq!(prove(&[&packet(SKESK, &[3, 9]), &seipd(1, 600)[..]].concat(), true), Err(Stop::Refuted));
        assert_eq!(prove(&[&packet(PKESK, &[4, 9]), &seipd(1, 600)[..]].concat(), true), Err(Stop::Refuted));
    }

    #[test]
    fn an_encrypted_packet_has_a_least_length() {
        for (length, fits) in [(SHORTEST_ENCRYPTED - 1, false), (SHORTEST_ENCRYPTED, true)] {
            for version in [1, 2] {
                assert_eq!(
                    prove(&[&KEY[..], &seipd(version, length)].concat(), true).is_ok(),
                    fits,
                    "{length}"
                );
            }
        }
        assert_eq!(SHORTEST_ENCRYPTED, 41);
        let ocb = |version| packet(OCB_ENCRYPTED, &[vec![version, 9, 2, 16], noise(600, 3)].concat());
        assert_eq!(prove(&[&KEY[..], &ocb(1)].concat(), true), Ok(()));
        assert_eq!(prove(&[&KEY[..], &ocb(2)].concat(), true), Err(Stop::Refuted));
        assert_eq!(prove(&[&KEY[..], &packet(SEIPD, b"")].concat(), true), Err(Stop::Cut));
    }

    /// What stands before the ciphertext is no part of it: of 512 octets of text, one less is too few to be judged.
    #[test]
    fn what_stands_before_the_ciphertext_is_not_judged() {
        for (tag, before) in [(SEIPD, &[1][..]), (SEIPD, &[2, 9, 2, 6]), (OCB_ENCRYPTED, &[1, 9, 2, 16])] {
            for (length, fits) in [(511, true), (512, false)] {
                let body = [before, &text(length)].concat();
                let data = [&KEY[..], &packet(tag, &body)].concat();
                assert_eq!(prove(&data, true).is_ok(), fits, "{tag} {before:?} {length}");
                // In parts of one octet, what stands before it is in several.
                let mut parts = vec![0xc0 | tag];
                for octet in &body[..body.len() - 1] {
                    parts.extend([0xe0, *octet]);
                }
                parts.extend([1, body[body.len() - 1]]);
                assert_eq!(
                    prove(&[&KEY[..], &parts].concat(), true).is_ok(),
                    fits,
                    "{tag} {before:?} {length}, in parts"
                );
            }
        }
    }

    /// Of a message in parts there is less and less to tell, but never a contradiction.
    #[test]
    fn a_beginning_is_cut_or_proven_as_the_whole() {
        let mut partial = [&KEY[..], &[0xd2, 0xed, 1], &noise(8191, 2)].concat();
        partial.extend([&[0xec][..], &noise(4096, 3), &[5], &noise(5, 4)].concat());
        let definite = [&KEY[..], &seipd(1, 6000)].concat();
        let indeterminate = [&KEY[..], &[0xcb], &[1], &noise(6000, 5)].concat();
        let old = [&KEY[..], &[0x84 | 3, 0]].concat();
        assert_eq!(prove(&old, true), Err(Stop::Refuted), "a session key of no length");
        assert_eq!(prove(&indeterminate, true), Err(Stop::Refuted), "a literal");
        for data in [partial, definite] {
            assert_eq!(prove(&data, true), Ok(()));
            for end in (0..300).chain((300..data.len()).step_by(17)).chain(data.len() - 10..data.len()) {
                assert_eq!(prove(&data[..end], true), Err(Stop::Cut), "{end}");
                let expected = if end < 4200 { Err(Stop::Cut) } else { Ok(()) };
                let found = prove(&data[..end], false);
                assert!(found == expected || (4090..4200).contains(&end), "{end}: {found:?}");
            }
            assert_eq!(prove(&[&data[..], &[0]].concat(), false), Err(Stop::Refuted));
        }
    }

    #[test]
    fn what_is_longer_than_memory_is_not_there() {
        assert_eq!((in_memory(7), in_memory(0)), (7, 0));
        assert_eq!(prove(&[&KEY[..], &[0xd2, 255, 255, 255, 255, 255, 1]].concat(), true), Err(Stop::Cut));
        assert_eq!(stop(io::ErrorKind::InvalidData.into()), Stop::Refuted);
        assert_eq!(stop(io::ErrorKind::UnexpectedEof.into()), Stop::Cut);
    }
}
