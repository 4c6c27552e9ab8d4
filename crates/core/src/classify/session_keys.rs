//! How much the packets with encrypted session keys can hold beside what they should (RFC 9580, sections 5.1 and 5.3).
//!
//! A message to many has many of them, so their number says little. But what they hold looks random: key ids,
//! fingerprints, the results of RSA and of key agreement. All of that is judged together, as ciphertext is; what has a
//! form that is not known here is allowed, as long as it is little.

use super::noise::Noise;
use super::{Stop, demand};
use crate::limits;

/// Longest SKESK: the longest form of S2K, a nonce, a session key and a tag have some 100 octets.
const LONGEST_SKESK: usize = 256;

/// The session key packets of a message.
#[derive(Debug, Default)]
pub struct SessionKeys {
    packets: usize,
    octets: usize,
    unknown: usize,
    noise: Noise,
}

impl SessionKeys {
    /// Takes the body of a PKESK.
    ///
    /// # Errors
    /// [`Stop::Refuted`] where it is none, or too much.
    pub fn public(&mut self, body: &[u8]) -> Result<(), Stop> {
        self.count(body)?;
        let (recipient, fields) = recipient(body).ok_or(Stop::Refuted)?;
        // A recipient that is not named is all zeros.
        if recipient.iter().any(|&octet| octet != 0) {
            self.noise.take(recipient);
        }
        match random(fields, body[0] == 3) {
            Some(random) => random.into_iter().for_each(|octets| self.noise.take(octets)),
            None => self.allow(fields.len())?,
        }
        Ok(())
    }

    /// Takes the body of a SKESK.
    ///
    /// # Errors
    /// [`Stop::Refuted`] where it is none, or too much.
    pub fn symmetric(&mut self, body: &[u8]) -> Result<(), Stop> {
        self.count(body)?;
        demand(matches!(body.first(), Some(4..=6)) && body.len() <= LONGEST_SKESK)?;
        self.allow(body.len())
    }

    /// Judges them together.
    ///
    /// # Errors
    /// [`Stop::Refuted`] where there are none, or they hold what can be read.
    pub fn finish(self) -> Result<(), Stop> {
        demand(self.packets > 0)?;
        self.noise.finish(true)
    }

    fn count(&mut self, body: &[u8]) -> Result<(), Stop> {
        self.packets += 1;
        self.octets += body.len();
        demand(self.packets <= limits::SESSION_KEYS && self.octets <= limits::SESSION_KEY_BYTES)
    }

    fn allow(&mut self, octets: usize) -> Result<(), Stop> {
        self.unknown += octets;
        demand(self.unknown <= limits::SESSION_KEY_UNKNOWN)
    }
}

/// The key id or fingerprint in a PKESK, and what stands from the algorithm on.
fn recipient(body: &[u8]) -> Option<(&[u8], &[u8])> {
    match body.split_first()? {
        (3, rest) if rest.len() < 8 => Some((&[], rest)),
        (3, rest) => rest.split_at_checked(8),
        (6, rest) => match rest.split_first()? {
            (0, fields) => Some((&[], fields)),
            // The version of the key stands before its fingerprint.
            (&length @ (21 | 33), rest) => {
                let (key, fields) = rest.split_at_checked(length.into())?;
                Some((&key[1..], fields))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The random octets behind the algorithm; `None` where its form is another one.
fn random(fields: &[u8], is_v3: bool) -> Option<Vec<&[u8]>> {
    let (&algorithm, rest) = fields.split_first()?;
    let (random, end) = match algorithm {
        // RSA, ElGamal, ECDH.
        1 | 2 => mpi(rest).map(|(number, rest)| (vec![number], rest))?,
        16 => {
            let (one, rest) = mpi(rest)?;
            let (two, rest) = mpi(rest)?;
            (vec![one, two], rest)
        }
        18 => {
            let (point, rest) = mpi(rest)?;
            let (key, rest) = counted(rest)?;
            (coordinates(point)?.into_iter().chain([key]).collect(), rest)
        }
        // LibrePGP's Kyber: a point, an ML-KEM ciphertext, a cipher and a wrapped key.
        8 => {
            let (point, rest) = mpi(rest)?;
            let (size, rest) = rest.split_first_chunk()?;
            let (secret, rest) = rest.split_at_checked(u32::from_be_bytes(*size) as usize)?;
            let (key, rest) = counted(rest.get(1..)?)?;
            (coordinates(point)?.into_iter().chain([secret, key]).collect(), rest)
        }
        // X25519, X448, and each of them with ML-KEM.
        25 => fixed(rest, 32, is_v3)?,
        26 => fixed(rest, 56, is_v3)?,
        35 => fixed(rest, 32 + 1088, is_v3)?,
        36 => fixed(rest, 56 + 1568, is_v3)?,
        _ => return None,
    };
    end.is_empty().then_some(random)
}

/// Octets of fixed length and a wrapped key; in version 3 its cipher stands before it.
fn fixed(rest: &[u8], length: usize, is_v3: bool) -> Option<(Vec<&[u8]>, &[u8])> {
    let (random, rest) = rest.split_at_checked(length)?;
    let (key, rest) = counted(rest)?;
    Some((vec![random, key.get(usize::from(is_v3)..)?], rest))
}

/// Octets of a coordinate on P-521, of the first of which one bit is used.
const P521: usize = 66;

/// A point without its first octet, which says how it is written: in full, or as a number of its curve's own.
fn coordinates(point: &[u8]) -> Option<Vec<&[u8]>> {
    let (form, octets) = point.split_first()?;
    match (form, octets.len()) {
        (4, length) if length == 2 * P521 => {
            let (x, y) = octets.split_at(P521);
            [x, y].into_iter().map(|it| it.strip_prefix(&[0]).or(it.strip_prefix(&[1]))).collect()
        }
        (4 | 0x40, _) => Some(vec![octets]),
        _ => None,
    }
}

fn mpi(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = rest.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*bits)).div_ceil(8))
}

fn counted(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = rest.split_first()?;
    rest.split_at_checked(length.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::samples::{noise, text};

    fn rsa(payload: &[u8]) -> Vec<u8> {
        let bits = (payload.len() as u16 * 8).to_be_bytes();
        [&[3], &payload[..8], &[1], &bits, payload].concat()
    }

    fn ecdh(payload: &[u8]) -> Vec<u8> {
        [&[3], &payload[..8], &[18, 1, 7, 0x40], &payload[8..40], &[48], &payload[40..88]].concat()
    }

    fn judge(packets: &[Vec<u8>]) -> Result<(), Stop> {
        let mut keys = SessionKeys::default();
        packets.iter().try_for_each(|packet| keys.public(packet))?;
        keys.finish()
    }

    #[test]
    fn many_recipients_are_genuine() {
        let many = |count, make: fn(&[u8]) -> Vec<u8>, size| {
            (0..count).map(|seed| make(&noise(size, seed))).collect::<Vec<_>>()
        };
        assert_eq!(judge(&many(100, rsa, 512)), Ok(()));
        assert_eq!(judge(&many(500, ecdh, 88)), Ok(()));
        // The first octet of each number is 0 or 1.
        fn p521(payload: &[u8]) -> Vec<u8> {
            let mut point = [&[4], &payload[..2 * P521]].concat();
            point[1] &= 1;
            point[1 + P521] &= 1;
            [&[3], &payload[..8], &[18], &multiprecision(&point)[..], &[48], &payload[2 * P521..]].concat()
        }
        assert_eq!(judge(&many(300, p521, 2 * P521 + 48)), Ok(()));
        // Whoever is not named.
        let hidden = many(100, ecdh, 88).into_iter().map(|mut packet| {
            packet[1..9].fill(0);
            packet
        });
        assert_eq!(judge(&hidden.collect::<Vec<_>>()), Ok(()));
        let v6: Vec<_> = (0..100)
            .map(|seed| {
                [
                    &[6, 33, 6][..],
                    &noise(32, seed),
                    &[25],
                    &noise(32, seed + 1000),
                    &[40],
                    &noise(40, seed + 2000),
                ]
                .concat()
            })
            .collect();
        assert_eq!(judge(&v6), Ok(()));
    }

    #[test]
    fn text_in_them_is_refuted() {
        let letters = text(512);
        assert_eq!(judge(&[rsa(&letters)]), Err(Stop::Refuted));
        assert_eq!(judge(&vec![ecdh(&letters); 10]), Err(Stop::Refuted));
        let unknown = |length| [&[3], &letters[..8], &[99], &text(length)[..]].concat();
        assert_eq!(judge(&[unknown(1500)]), Ok(()));
        assert_eq!(judge(&[unknown(1500), unknown(200)]), Err(Stop::Refuted));
        let behind = [rsa(&noise(256, 1)), text(4096)].concat();
        assert_eq!(judge(&[behind]), Err(Stop::Refuted));
    }

    #[test]
    fn too_many_are_refuted() {
        let packets: Vec<_> = (0..600).map(|seed| ecdh(&noise(88, seed))).collect();
        assert_eq!(judge(&packets), Err(Stop::Refuted));
        assert_eq!(judge(&[]), Err(Stop::Refuted));
        assert_eq!(judge(&[vec![2; 300]]), Err(Stop::Refuted));
        let mut keys = SessionKeys::default();
        assert_eq!(keys.symmetric(&[4; 100]), Ok(()));
        assert_eq!(keys.symmetric(&[4; 300]), Err(Stop::Refuted));
    }

    fn multiprecision(octets: &[u8]) -> Vec<u8> {
        [&(octets.len() as u16 * 8).to_be_bytes()[..], octets].concat()
    }

    fn with_length(octets: &[u8]) -> Vec<u8> {
        [&[octets.len() as u8][..], octets].concat()
    }

    fn point(octets: &[u8]) -> Vec<u8> {
        multiprecision(&[&[0x40], octets].concat())
    }

    /// What stands in a PKESK, by algorithm: lengths of what is random, and what these are made to.
    type Form = (u8, &'static [usize], fn(&[Vec<u8>], bool) -> Vec<u8>);

    /// Every form of RFC 9580, RFC 9980 and LibrePGP; before a wrapped key there is a cipher in version 3 only.
    const FORMS: [Form; 9] = [
        (1, &[256], |it, _| multiprecision(&it[0])),
        (2, &[256], |it, _| multiprecision(&it[0])),
        (16, &[128, 128], |it, _| [multiprecision(&it[0]), multiprecision(&it[1])].concat()),
        (18, &[64, 48], |it, _| [point(&it[0]), with_length(&it[1])].concat()),
        (8, &[64, 1088, 40], |it, _| {
            let size = (it[1].len() as u32).to_be_bytes();
            [&point(&it[0])[..], &size, &it[1], &[9], &with_length(&it[2])].concat()
        }),
        (25, &[32, 40], fixed_form),
        (26, &[56, 40], fixed_form),
        (35, &[32 + 1088, 40], fixed_form),
        (36, &[56 + 1568, 40], fixed_form),
    ];

    fn fixed_form(it: &[Vec<u8>], is_v3: bool) -> Vec<u8> {
        let key = [if is_v3 { &[9][..] } else { &[] }, &it[1]].concat();
        [&it[0][..], &with_length(&key)].concat()
    }

    /// The beginnings of a PKESK before its algorithm, each with a random recipient.
    fn recipients(seed: u64) -> Vec<(Vec<u8>, bool)> {
        vec![
            ([&[3][..], &noise(8, seed)].concat(), true),
            ([&[6, 21, 4][..], &noise(20, seed)].concat(), false),
            ([&[6, 33, 6][..], &noise(32, seed)].concat(), false),
            (vec![6, 0], false),
        ]
    }

    #[test]
    fn every_form_is_known() {
        for (algorithm, lengths, form) in FORMS {
            for kind in 0..4 {
                let random = |seed: u64| -> Vec<Vec<u8>> {
                    lengths.iter().zip(seed..).map(|(&length, seed)| noise(length, seed)).collect()
                };
                let packet = |number: u64, fields: &[Vec<u8>], behind: &[u8]| {
                    let (recipient, is_v3) = recipients(10_000 + number).swap_remove(kind);
                    [&recipient[..], &[algorithm], &form(fields, is_v3), behind].concat()
                };
                let many = |behind: &[u8]| -> Vec<_> {
                    (0..30).map(|number| packet(number, &random(number * 10), behind)).collect()
                };
                let name = format!("algorithm {algorithm}, recipient {kind}");
                assert_eq!(judge(&many(b"")), Ok(()), "{name}");
                // More of them than may be of a form that is not known.
                assert_eq!(judge(&many(b"x")), Err(Stop::Refuted), "{name}, with an octet behind");
                for (place, &length) in lengths.iter().enumerate() {
                    let readable: Vec<_> = (0..30)
                        .map(|number| {
                            let mut fields = random(number * 10);
                            fields[place] = text(length);
                            packet(number, &fields, b"")
                        })
                        .collect();
                    assert_eq!(judge(&readable), Err(Stop::Refuted), "{name}, a text at {place}");
                }
            }
        }
    }

    #[test]
    fn the_random_octets_are_just_those() {
        for (algorithm, lengths, form) in FORMS {
            for is_v3 in [true, false] {
                let fields: Vec<_> =
                    lengths.iter().zip(1..).map(|(&length, seed)| noise(length, seed)).collect();
                let packet = [&[algorithm], &form(&fields, is_v3)[..]].concat();
                assert_eq!(random(&packet, is_v3).unwrap(), fields, "{algorithm} {is_v3}");
                for cut in 0..packet.len() {
                    assert_eq!(random(&packet[..cut], is_v3), None, "{algorithm} {is_v3} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_recipient_is_named_in_one_of_few_ways() {
        let octets = noise(40, 1);
        let rest = &octets[..];
        for (body, expected) in [
            ([&[3], rest].concat(), Some((8, 32))),
            ([&[3], &rest[..8]].concat(), Some((8, 0))),
            ([&[3], &rest[..7]].concat(), Some((0, 7))),
            (vec![3], Some((0, 0))),
            ([&[6, 0], rest].concat(), Some((0, 40))),
            ([&[6, 21], rest].concat(), Some((20, 19))),
            ([&[6, 33], rest].concat(), Some((32, 7))),
            ([&[6, 33], &rest[..32]].concat(), None),
            ([&[6, 20], rest].concat(), None),
            ([&[6, 22], rest].concat(), None),
            (vec![6], None),
            ([&[2], rest].concat(), None),
            ([&[4], rest].concat(), None),
            (Vec::new(), None),
        ] {
            let found = recipient(&body).map(|(recipient, fields)| (recipient.len(), fields.len()));
            assert_eq!(found, expected, "{body:?}");
        }
        assert_eq!(recipient(&[&[3], rest].concat()).unwrap().0, &rest[..8]);
        assert_eq!(recipient(&[&[6, 21], rest].concat()).unwrap().0, &rest[1..21]);
        for (octets, expected) in [
            (&[4, 7][..], Some(vec![&[7][..]])),
            (&[0x40, 7], Some(vec![&[7]])),
            (&[2, 7], None),
            (&[], None),
        ] {
            assert_eq!(coordinates(octets), expected);
        }
        let p521 =
            |first: u8, second: u8| [&[4, first], &[7; P521 - 1][..], &[second], &[7; P521 - 1]].concat();
        assert_eq!(coordinates(&p521(0, 1)), Some(vec![&[7; P521 - 1][..]; 2]));
        assert_eq!((coordinates(&p521(2, 1)), coordinates(&p521(1, 2))), (None, None));
        assert_eq!(mpi(&[0, 9, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!((mpi(&[0, 9, 1]), mpi(&[0])), (None, None));
        assert_eq!(counted(&[2, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!((counted(&[2, 1]), counted(&[])), (None, None));
    }

    #[test]
    fn each_bound_is_exact() {
        // None is random, so each counts as unknown in full.
        let unknown = |length: usize| [&[3][..], &[0; 8], &vec![99; length]].concat();
        for (lengths, fit) in [
            (&[limits::SESSION_KEY_UNKNOWN][..], true),
            (&[limits::SESSION_KEY_UNKNOWN + 1], false),
            (&[limits::SESSION_KEY_UNKNOWN - 5, 5], true),
            (&[limits::SESSION_KEY_UNKNOWN - 5, 6], false),
        ] {
            let packets: Vec<_> = lengths.iter().map(|&length| unknown(length)).collect();
            assert_eq!(judge(&packets).is_ok(), fit, "{lengths:?}");
        }
        for (count, fit) in [(limits::SESSION_KEYS, true), (limits::SESSION_KEYS + 1, false)] {
            assert_eq!(judge(&vec![[&[3][..], &[0; 8]].concat(); count]).is_ok(), fit, "{count} packets");
        }
        let large = |more: usize| {
            let length = limits::SESSION_KEY_BYTES / 32;
            let key = |seed: u64| length - 12 + if seed == 0 { more } else { 0 };
            (0..32)
                .map(|seed| {
                    [&[3][..], &noise(8, seed + 100), &[1], &multiprecision(&noise(key(seed), seed))].concat()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(large(0).concat().len(), limits::SESSION_KEY_BYTES);
        assert_eq!((judge(&large(0)), judge(&large(1))), (Ok(()), Err(Stop::Refuted)));
        for (body, fit) in [
            (vec![3; 50], false),
            (vec![4; LONGEST_SKESK], true),
            (vec![4; LONGEST_SKESK + 1], false),
            (vec![5; 50], true),
            (vec![6; 50], true),
            (vec![7; 50], false),
            (Vec::new(), false),
        ] {
            assert_eq!(SessionKeys::default().symmetric(&body).is_ok(), fit, "{body:?}");
        }
        let mut keys = SessionKeys::default();
        for _ in 0..limits::SESSION_KEY_UNKNOWN / LONGEST_SKESK {
            assert_eq!(keys.symmetric(&[4; LONGEST_SKESK]), Ok(()));
        }
        assert_eq!(keys.symmetric(&[4]), Err(Stop::Refuted), "there is no room left");
        assert_eq!(keys.finish(), Ok(()));
    }
}
