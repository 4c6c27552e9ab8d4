//! How much of a message that passes for encrypted can be read: every place there is, filled until the judge notices, is
//! within what docs/limits.md states; whatever holds more is sealed, and audit names it.

mod forge;
mod genuine;
mod letters;

use std::fs;
use std::process::Command;

use forge::{Frame, OpenPgp, Smime, noise, text};
use mailseal_core::classify::{Encrypted, classify};
use mailseal_core::message::opening::Opening;
use proptest::prelude::*;
use testing::filter::{self, filter};
use testing::fixtures;
use testing::oracle::{check_run, key};

fn judged(message: &[u8]) -> Option<Encrypted> {
    let opening = Opening::read(&mut &*message).unwrap();
    classify(opening.head(), opening.body(), opening.is_whole())
}

fn passes(message: &[u8]) -> bool {
    judged(message).is_some()
}

/// The largest number up to `most` that `holds`, where all smaller ones do.
fn largest(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// The numbers in the statement of docs/limits.md, in order.
fn stated() -> [usize; 4] {
    let page = include_str!("../../../docs/limits.md");
    let (_, rest) = page.split_once("A sender can at most leave readable").expect("the page states it");
    let (statement, _) = rest.split_once("\n\n").unwrap();
    let bold = statement.split("**").skip(1).step_by(2);
    let numbers: Vec<usize> =
        bold.map(|number| number.replace(',', "").parse().expect("a number in bold")).collect();
    numbers.try_into().expect("four numbers in bold")
}

/// Octets as an adversary mixes them: `each` octets of text in each block of 4 KiB, the others chosen so that all octets are
/// as equally frequent as they can be. Text that is read as it is may be written in [`letters`].
fn mixed(length: usize, each: usize, coded: bool) -> Vec<u8> {
    if coded { mixed_as_base64(length, each) } else { letters::mixed(length, each) }
}

/// Octets that are read as base64.
fn mixed_as_base64(length: usize, each: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    let mut counts = [0_usize; 256];
    let mut words = text(length + 3, true).into_iter();
    let order = noise(length + 256, 3);
    for start in (0..length).step_by(4096) {
        let size = 4096.min(length - start);
        let readable: Vec<u8> = words.by_ref().take(each * size / 4096).collect();
        readable.iter().for_each(|octet| counts[usize::from(*octet)] += 1);
        let mut filler = Vec::with_capacity(size);
        let level = (start + size).div_ceil(256);
        // What is rare so far comes next, in no order that could be found again.
        for (octet, count) in counts.iter_mut().enumerate() {
            while *count < level && filler.len() < size - readable.len() {
                filler.push(octet as u8);
                *count += 1;
            }
        }
        let missing = size - readable.len() - filler.len();
        filler.extend(&order[start..start + missing]);
        for at in (1..filler.len()).rev() {
            let other = usize::from(order[start + at % size]) * 257 + at * 31;
            filler.swap(at, other % (at + 1));
        }
        // The text in rows of 40, between them the rest.
        let rows = readable.len().div_ceil(40).max(1);
        let gap = filler.len().div_ceil(rows);
        let mut gaps = filler.chunks(gap.max(1));
        for row in readable.chunks(40) {
            out.extend(row);
            out.extend(gaps.next().unwrap_or_default());
        }
        gaps.for_each(|rest| out.extend(rest));
    }
    out
}

/// How many octets of text in each block of 4 KiB pass, in a ciphertext of this length.
fn most_in_a_block(length: usize, coded: bool) -> usize {
    largest(4096, |each| passes(&OpenPgp::new(Frame::Inline, mixed(length, each, coded)).message()))
}

#[test]
fn what_can_be_read_beside_the_ciphertext_is_what_readme_states() {
    let [openpgp, smime, ..] = stated();
    for frame in [Frame::PgpMime, Frame::Exchange, Frame::Inline] {
        // Too little ciphertext to judge it.
        let mut made = OpenPgp::new(frame, text(511, true));
        assert!(passes(&made.message()), "{frame:?}");
        let mut read = 511 * 4 / 3;
        let mut fill = |made: &mut OpenPgp, place: fn(&mut OpenPgp) -> &mut usize, coded: bool| {
            let size = largest(100_000, |size| {
                let mut made = made.clone();
                *place(&mut made) = size;
                passes(&made.message())
            });
            *place(made) = size;
            read += if coded { (size * 4).div_ceil(3) } else { size };
        };
        if frame != Frame::Inline {
            fill(&mut made, |made| &mut made.preamble, false);
            fill(&mut made, |made| &mut made.part_headers[1], false);
            fill(&mut made, |made| &mut made.part_headers[2], false);
        }
        if frame == Frame::Exchange {
            fill(&mut made, |made| &mut made.part_headers[0], false);
        }
        fill(&mut made, |made| &mut made.armor_headers, false);
        fill(&mut made, |made| &mut made.unknown, true);
        let rsa = largest(8000, |rsa| passes(&OpenPgp { rsa, ..made.clone() }.message()));
        made.rsa = rsa;
        made.checksum = passes(&OpenPgp { checksum: true, ..made.clone() }.message());
        read += rsa * 4 / 3 + if made.checksum { 4 } else { 0 };
        println!("{frame:?}: {read} bytes: {made:?}");
        assert!(passes(&made.message()));
        assert!(read > 1000 && read <= openpgp, "{frame:?}: {read} bytes, and the page states {openpgp}");
    }
    for coded in [true, false] {
        let mut made = Smime::new(coded, text(511, coded));
        made.attributes = 1;
        // As many recipients as there is room for, then the other places.
        made.recipients = vec![
            1018;
            largest(100, |count| {
                passes(&Smime { recipients: vec![1018; count], ..made.clone() }.message())
            })
        ];
        let places: [fn(&mut Smime) -> &mut usize; 6] = [
            |made| &mut made.kind,
            |made| &mut made.parameters,
            |made| &mut made.mac,
            |made| &mut made.originator,
            |made| &mut made.attributes,
            |made| &mut made.recipients[0],
        ];
        for place in places {
            let least = *place(&mut made);
            *place(&mut made) = least
                + largest(10_000, |more| {
                    let mut made = made.clone();
                    *place(&mut made) += more;
                    passes(&made.message())
                });
        }
        assert!(passes(&made.message()));
        let octets = 511
            + made.recipients.iter().sum::<usize>()
            + made.kind
            + made.parameters
            + made.mac
            + made.originator
            + made.attributes;
        let read = if coded { (octets * 4).div_ceil(3) } else { octets };
        println!("S/MIME, base64 {coded}: {read} bytes: {made:?}");
        assert!(read > 20_000 && read <= smime, "S/MIME: {read} bytes, and the page states {smime}");
    }
}

#[test]
fn what_can_be_read_in_what_passes_for_ciphertext_is_what_readme_states() {
    let [.., of_a_block, of_a_mebibyte] = stated();
    let mut wrong = Vec::new();
    for length in [512, 1000, 2000, 4096, 8192, 20_000, 65_536, 200_000, 780_000] {
        for coded in [true, false] {
            let each = most_in_a_block(length, coded);
            let octets = each * length / 4096;
            let read = if coded { octets * 4 / 3 } else { octets };
            println!("{length} octets, base64 {coded}: {each} in a block, {read} bytes");
            let most = if length <= 4096 { of_a_block } else { of_a_mebibyte };
            if read > most || read < 50 {
                wrong.push(format!("{length} octets, base64 {coded}: {read} bytes, the page states {most}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A tenth of a large S/MIME, wherever it is.
#[test]
fn of_a_large_smime_a_tenth_can_be_read_beside_the_ciphertext() {
    let made = |count| Smime { recipients: vec![1000; count], ..Smime::new(false, noise(500_000, 4)) };
    let count = largest(400, |count| passes(&made(count).message()));
    assert!((50..=55).contains(&count), "{count} recipients of 1,000 octets");
}

/// Row 7 of what an adversarial review found: 900 kB of readable 8bit text in each place of S/MIME, and 490 kB in an armor.
fn large_forgeries() -> Vec<(&'static str, Vec<u8>)> {
    const LARGE: usize = 900_000;
    let smime = Smime::new(false, noise(1000, 5));
    let of = |name, made: Smime| (name, made.message());
    let armor = OpenPgp::new(Frame::Inline, text(367_500, true));
    vec![
        of("a RecipientInfo", Smime { recipients: vec![LARGE], ..smime.clone() }),
        of("RecipientInfos", Smime { recipients: vec![3000; 300], ..smime.clone() }),
        of("originatorInfo", Smime { originator: LARGE, ..smime.clone() }),
        of("AlgorithmIdentifier", Smime { parameters: LARGE, ..smime.clone() }),
        of("content type", Smime { kind: LARGE, ..smime.clone() }),
        of("attributes", Smime { attributes: LARGE, ..smime.clone() }),
        of("mac", Smime { mac: LARGE, ..smime.clone() }),
        of("no ciphertext", Smime { recipients: vec![800], ciphertext: Vec::new(), ..smime.clone() }),
        of("ciphertext", Smime { ciphertext: text(LARGE, false), ..smime.clone() }),
        of("strings of one octet", Smime { ciphertext: text(LARGE / 6, false), strings: Some(1), ..smime }),
        ("armor", armor.message()),
        ("PGP/MIME", OpenPgp { frame: Frame::PgpMime, ..armor }.message()),
        ("session key", OpenPgp { unknown: 4000, ..OpenPgp::new(Frame::PgpMime, noise(9000, 6)) }.message()),
        (
            "late",
            OpenPgp::new(Frame::PgpMime, [noise(1_500_000, 7), text(5000, false), noise(50_000, 8)].concat())
                .message(),
        ),
    ]
}

#[test]
fn large_forgeries_are_sealed_by_every_door() {
    for (name, message) in large_forgeries() {
        // A delivery sees no more than the beginning.
        if name != "late" {
            let run = filter(&key("curve25519"), &[], &message);
            check_run(&message, &run, "curve25519", None).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
    let left = clear_and_sealed(&large_forgeries(), &[]);
    assert!(!left.windows(14).any(|bytes| bytes == b"canary/sings/a"));
}

/// S/MIME to so many that its ciphertext begins late: beyond what audit reads first, or with more in front of it than a
/// tenth of what a delivery sees.
fn late_smime(recipients: usize, ciphertext: usize) -> Vec<u8> {
    Smime { recipients: vec![700; recipients], ..Smime::new(true, noise(ciphertext, 10)) }.message()
}

#[test]
fn audit_and_bulk_agree() {
    let named = |mails: Vec<fixtures::Mail>| mails.into_iter().map(|mail| (mail.name, mail.bytes));
    let long = OpenPgp::new(Frame::PgpMime, noise(2_000_000, 9)).message();
    let encrypted: Vec<(String, Vec<u8>)> = named(fixtures::mails("encrypted"))
        .chain([("long".into(), long), ("late".into(), late_smime(60, 500_000))])
        .chain([("later".into(), late_smime(150, 1_300_000))])
        .collect();
    assert_eq!(judged(&encrypted[encrypted.len() - 2].1), Some(Encrypted::Smime));
    // A delivery does not see that it is less than a tenth of the whole.
    assert_eq!(judged(&encrypted[encrypted.len() - 1].1), None);
    let forged: Vec<(String, Vec<u8>)> =
        named(fixtures::mails("forged")).chain([("many".into(), late_smime(60, 300_000))]).collect();
    clear_and_sealed(&forged, &encrypted);
}

/// Has audit name as clear what is in `clear`, and `encrypt-maildir` seal just that; gives back what is stored then.
fn clear_and_sealed<N: AsRef<str>>(clear: &[(N, Vec<u8>)], encrypted: &[(N, Vec<u8>)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let maildir = folder.path().join("Maildir");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(part)).unwrap();
    }
    for (group, mails) in [("clear", clear), ("encrypted", encrypted)] {
        for (name, message) in mails {
            let name = format!("{group}-{}:2,S", name.as_ref().replace([' ', '/'], "-"));
            fs::write(maildir.join("cur").join(name), message).unwrap();
        }
    }
    let audit = || {
        let mut command = Command::new(testing::program("mailseal"));
        command.args(["audit", "--json", "--list", "--key"]).arg(key("curve25519")).arg(&maildir);
        let run = filter::run(&mut command, b"", 1);
        let json: serde_json::Value = serde_json::from_slice(&run.stdout).expect(&run.stderr);
        let files = json["maildirs"][0]["files"].as_array().unwrap().clone();
        let mut names: Vec<String> = files
            .iter()
            .filter(|file| file["state"] == "clear")
            .map(|file| file["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let found = audit();
    let wrong: Vec<&String> = found.iter().filter(|name| !name.starts_with("clear-")).collect();
    assert!(wrong.is_empty() && found.len() == clear.len(), "{wrong:?} of {found:?}");
    let mut command = Command::new(testing::program("encrypt-maildir"));
    command.args(["--progress", "never", "--offline", "--key"]).arg(key("curve25519")).arg(&maildir);
    let run = filter::run(&mut command, b"", 1);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let said = format!("sealed     {} of {}", clear.len(), clear.len() + encrypted.len());
    assert!(String::from_utf8_lossy(&run.stdout).starts_with(&said), "{said}: {run:?}");
    assert_eq!(audit(), [""; 0]);
    let stored = fs::read_dir(maildir.join("cur")).unwrap();
    stored.flat_map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever text stands in OpenPGP, more of it than docs/limits.md states is sealed.
    #[test]
    fn more_text_than_stated_is_never_left_in_openpgp(
        frame in prop_oneof![Just(Frame::PgpMime), Just(Frame::Exchange), Just(Frame::Inline)],
        shares in prop::array::uniform7(0_usize..1000),
        more in 1_usize..100_000,
    ) {
        let [openpgp, ..] = stated();
        let total = openpgp + more;
        let mut shares = shares.map(|share| share + 1);
        if frame == Frame::Inline {
            (shares[0], shares[1], shares[2]) = (0, 0, 0);
        }
        if frame != Frame::Exchange {
            shares[3] = 0;
        }
        let sum: usize = shares.iter().sum();
        let [preamble, control, data, blank, armor_headers, unknown, rsa] =
            shares.map(|share| total * share / sum + usize::from(share > 0));
        let made = OpenPgp {
            preamble,
            part_headers: [blank, control, data],
            armor_headers,
            unknown: unknown.min(60_000) * 3 / 4,
            rsa: (rsa * 3 / 4).min(8000),
            ..OpenPgp::new(frame, text(511, true))
        };
        prop_assume!(rsa * 3 / 4 <= 8000 && unknown <= 60_000);
        prop_assert_eq!(judged(&made.message()), None);
    }

    /// Wherever text stands in S/MIME, more of it than docs/limits.md states is sealed.
    #[test]
    fn more_text_than_stated_is_never_left_in_smime(
        coded: bool,
        shares in prop::array::uniform5(0_usize..1000),
        recipients in 1_usize..60,
        more in 1_usize..100_000,
    ) {
        let [_, smime, ..] = stated();
        let total = if coded { (smime + more) * 3 / 4 } else { smime + more };
        let sum: usize = shares.iter().sum::<usize>() + 1;
        let [infos, originator, parameters, attributes, ciphertext] = shares.map(|share| total * share / sum + 1);
        let made = Smime {
            recipients: vec![infos.div_ceil(recipients); recipients],
            originator,
            parameters,
            attributes,
            ..Smime::new(coded, text(ciphertext, coded))
        };
        prop_assert_eq!(judged(&made.message()), None);
    }

    /// A stretch of text anywhere in a ciphertext is found, whatever stands round it.
    #[test]
    fn a_stretch_of_text_in_a_ciphertext_is_found(
        coded: bool,
        before in 0_usize..200_000,
        length in 700_usize..5000,
        after in 0_usize..200_000,
        seed: u64,
    ) {
        let octets = [noise(before, seed), text(length, coded), noise(after, !seed)].concat();
        prop_assert_eq!(judged(&OpenPgp::new(Frame::PgpMime, octets.clone()).message()), None);
        prop_assert_eq!(judged(&Smime::new(true, octets).message()), None);
    }
}
