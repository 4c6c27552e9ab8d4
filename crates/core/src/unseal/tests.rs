//! What was sealed comes back, byte for byte, and nothing that was changed does.

use std::time::SystemTime;

use proptest::prelude::*;
use sequoia_openpgp::Cert;

use super::*;
use crate::classify::samples::{noise, text};
use crate::limits;
use crate::message::head::Kind;
use crate::openpgp::compress::Compression;
use crate::protect::is_outer_record;
use crate::protect::policy::Policy;
use crate::recipients::{Recipients, Warning, WhenExpired};
use crate::seal::Sealer;

const POLICIES: [Policy; 4] = [Policy::None, Policy::Baseline, Policy::Shy, Policy::Strict];

/// Whoever has the secret keys of these certificates.
struct Holder(Vec<Cert>);

impl Keys for Holder {
    fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, Error> {
        for key in self.0.iter().flat_map(|cert| cert.keys().unencrypted_secret()) {
            let mut pair = key.key().clone().into_keypair().unwrap();
            if let Some((cipher, key)) = packets.iter().find_map(|packet| packet.decrypt(&mut pair, None)) {
                return Ok(Some(Key { cipher, key }));
            }
        }
        Ok(None)
    }
}

fn fixture(name: &str) -> Cert {
    let folder = format!("{}/../../fixtures/certs", env!("CARGO_MANIFEST_DIR"));
    Cert::from_file(format!("{folder}/{name}.sec.pgp")).unwrap()
}

fn holder(name: &str) -> Holder {
    Holder(vec![fixture(name)])
}

fn sealed_to(name: &str, mail: &[u8], policy: Policy, compression: Compression) -> Vec<u8> {
    let cert = fixture(name).strip_secret_key_material();
    let recipients =
        Recipients::choose("alice", &[cert], &[], WhenExpired::Encrypt, SystemTime::now()).unwrap();
    let sealer = Sealer { compression, ..Sealer::to(&recipients, policy) };
    let (mut rest, mut sealed) = (mail, Vec::new());
    let opening = Opening::read(&mut rest).unwrap();
    sealer.seal(&opening, &mut rest, &mut sealed).unwrap();
    sealed
}

fn sealed(mail: &[u8], policy: Policy) -> Vec<u8> {
    sealed_to("curve25519", mail, policy, Compression::Auto)
}

/// What comes back, and whether it is exact.
fn opened(
    sealed: &[u8],
    keys: &dyn Keys,
    endings: Endings,
) -> Result<Result<(Vec<u8>, bool), Foreign>, Error> {
    let mut rest = sealed;
    let opening = Opening::read(&mut rest)?;
    let most = Expansion::default().most(sealed.len() as u64);
    Ok(match unseal(&opening, rest, keys, endings, most)? {
        Unsealed::Original(mut original) => {
            let mut mail = Vec::new();
            original.write_to(&mut mail)?;
            Ok((mail, original.exact))
        }
        Unsealed::Foreign(foreign) => Err(foreign),
    })
}

#[track_caller]
fn assert_comes_back(mail: &[u8], policy: Policy, name: &str) {
    let back = opened(&sealed(mail, policy), &holder("curve25519"), Endings::Original);
    let (back, exact) = back.unwrap().unwrap();
    assert!(exact && back == mail, "{name}, {policy:?}: {}", String::from_utf8_lossy(&back));
}

fn mails() -> Vec<(String, Vec<u8>)> {
    let folders =
        ["mails", "protect"].map(|name| format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR")));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|end| end == "eml"));
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn every_mail_of_the_fixtures_comes_back() {
    let mails = mails();
    assert!(mails.len() > 100);
    for (name, mail) in mails {
        for policy in POLICIES {
            assert_comes_back(&mail, policy, &name);
        }
    }
}

#[test]
fn mail_on_its_way_out_shows_what_is_listed_whatever_it_is() {
    let shown =
        ["from", "to", "cc", "reply-to", "date", "subject", "message-id", "auto-submitted", "return-path"];
    for (name, mail) in mails() {
        let sealed = sealed(&mail, Policy::Sent);
        let mut rest = &*sealed;
        let opening = Opening::read(&mut rest).unwrap();
        for item in opening.head().items().filter(|item| item.kind == Kind::Field && !is_outer_record(item)) {
            let field = String::from_utf8_lossy(item.name()).to_ascii_lowercase();
            assert!(shown.contains(&&*field), "{name}: {field}");
            let value = String::from_utf8_lossy(item.value()).trim().to_owned();
            assert!(field != "subject" || value == "[...]", "{name}: {value}");
            assert!(
                !value.contains(['"', '<']) || ["message-id", "return-path"].contains(&&*field),
                "{name}: {value}"
            );
        }
        opened(&sealed, &holder("curve25519"), Endings::Original).unwrap().unwrap();
    }
}

#[test]
fn a_header_comes_back_however_it_is_made() {
    let many = "MIME-Version: 1.0\nA: b\n".repeat(10);
    for mail in [
        "\n",
        "\r\n",
        "A: b",
        "A: b\n",
        "A: b\r",
        "A: b\r\n",
        "A: b\n\n",
        "A: b\n\nc",
        "A: b\r\n\r\nc\nd\r\ne",
        "From a\nA: b\n\nc\n",
        "junk\nA: b\n\nc\n",
        "A: b\njunk\nReceived: c\nTo: d\n\ne\n",
        "A: b\n \n text\nTo: d\n\ne\n",
        " begins with a blank\nA: b\n\nc\n",
        "Content-Type: text/html\nMIME-Version: 1.0\nA: b\nContent-ID: c\nmime-version: 2\n\nd\n",
        "A: b\nContent-Type: a/b\njunk\nSubject: c\nContent-Type: d\n\ne\n",
        "Subject: a\nTo: b <c@d>\nDate: Mon, 1 Jan 2024 00:00:00 +0100\nComments: e\n\nf\n",
        "Subject: a\r\nTo: b <c@d>\r\n\r\nf\r\n",
        "Subject: a\nHP-Outer: Subject: b\n\nc\n",
        &format!("{many}\nd\n"),
    ] {
        for policy in POLICIES {
            assert_comes_back(mail.as_bytes(), policy, &format!("{mail:?}"));
        }
    }
}

#[test]
fn a_header_that_its_record_cannot_hold_is_not_exact() {
    let mail = "MIME-Version: 1.0\nA: b\n".repeat(20) + "\nc\n";
    let back = opened(&sealed(mail.as_bytes(), Policy::None), &holder("curve25519"), Endings::Original);
    let expected = format!("MIME-Version: 1.0\n{}\nc\n", "A: b\n".repeat(20));
    assert_eq!(back.unwrap(), Ok((expected.into_bytes(), false)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_header_comes_back(
        lines in proptest::collection::vec(
            proptest::sample::select(&[
                "A: b", "Subject: c", "Content-Type: text/d; e=f", "Content-ID : g", "MIME-Version: 1.0", "MIME-Version: 2",
                "From h", " i", "\t", "junk", "To: j <k@l>", "Received: m", "n\ro", "Content-Type: multipart/p; boundary=q",
            ][..]),
            1..7,
        ),
        crlf in any::<bool>(),
        rest in proptest::sample::select(&["", "\n", "\nbody", "\nbody\n", "\n--q\n\nr\n--q--\n"][..]),
        policy in proptest::sample::select(&POLICIES[..]),
    ) {
        let mail = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + rest;
        let mail = if crlf { mail.replace('\n', "\r\n") } else { mail };
        let back = opened(&sealed(mail.as_bytes(), policy), &holder("curve25519"), Endings::Original).unwrap();
        prop_assert_eq!(back, Ok((mail.into_bytes(), true)));
    }
}

/// What a server wrote into the header since stays there; a line that was open is ended for it, which is told.
#[test]
fn fields_that_were_added_since_stay() {
    for policy in POLICIES {
        for (mail, exact) in
            [("Subject: a\nTo: b\n\nc\n", true), ("Subject: a\nTo: b\n", true), ("Subject: a\nTo: b", false)]
        {
            let sealed = String::from_utf8(sealed(mail.as_bytes(), policy)).unwrap();
            let (header, body) = sealed.split_once("\n\n").unwrap();
            let later = format!("X-First: d\n{header}\nX-Last: e\n\n{body}");
            let (back, found) =
                opened(later.as_bytes(), &holder("curve25519"), Endings::Original).unwrap().unwrap();
            let back = String::from_utf8(back).unwrap();
            assert!(back.starts_with("X-First: d\nSubject: a\nTo: b\nX-Last: e"), "{policy:?} {back}");
            // What stayed outside is cut where it ends now.
            assert_eq!(found, exact || policy == Policy::None, "{policy:?} {mail:?} {back:?}");
        }
    }
}

#[test]
fn long_messages_come_back_in_every_form() {
    let mail = |body: Vec<u8>| [b"Subject: a\nContent-Type: text/plain\n\n", &body[..]].concat();
    let crlf = String::from_utf8(text(100_000)).unwrap().replace(". ", ".\r\n").into_bytes();
    for (name, body) in [
        ("text", text(300_000)),
        ("noise", noise(200_000, 1)),
        ("lines", crlf),
        ("one line", vec![b'x'; 70_000]),
    ] {
        let mail = mail(body);
        for (cert, compression) in [
            ("curve25519", Compression::None),
            ("curve25519", Compression::Zlib(1)),
            ("v6", Compression::Auto),
            ("two-subkeys-v6", Compression::None),
        ] {
            let sealed = sealed_to(cert, &mail, Policy::Baseline, compression);
            let back = opened(&sealed, &holder(cert), Endings::Original).unwrap();
            assert!(back == Ok((mail.clone(), true)), "{name}, {cert}, {compression:?}");
            // In small pieces.
            let mut rest = &sealed[..];
            let opening = Opening::read(&mut rest).unwrap();
            let Unsealed::Original(mut original) =
                unseal(&opening, rest, &holder(cert), Endings::Original, 1 << 30).unwrap()
            else {
                panic!("{name}")
            };
            let (mut back, mut piece) = (Vec::new(), [0; 1013]);
            loop {
                match original.read(&mut piece).unwrap() {
                    0 => break,
                    count => back.extend_from_slice(&piece[..count]),
                }
            }
            assert!(back == mail, "{name}, {cert}, {compression:?}, in pieces");
        }
    }
}

#[test]
fn line_endings_are_those_that_were_sealed_or_those_of_the_store() {
    let lf = "Subject: a\nContent-Type: text/plain\njunk\nTo: b\n\nbody\nmore\n";
    let forms = [lf.to_owned(), lf.replace('\n', "\r\n")];
    for policy in POLICIES {
        for mail in &forms {
            let sealed = String::from_utf8(sealed(mail.as_bytes(), policy)).unwrap().replace("\r\n", "\n");
            for (stored, form) in [(sealed.clone(), &forms[0]), (sealed.replace('\n', "\r\n"), &forms[1])] {
                for (endings, expected) in [(Endings::Original, mail), (Endings::Stored, form)] {
                    let back = opened(stored.as_bytes(), &holder("curve25519"), endings).unwrap();
                    assert_eq!(back, Ok((expected.clone().into_bytes(), true)), "{policy:?} {endings:?}");
                }
            }
        }
    }
}

/// Whatever is changed or cut off behind the header: there is an error, or the same message.
#[test]
fn no_changed_message_is_given_back() {
    let mail = b"Subject: a\n\nbody\n";
    for (cert, policy) in [("curve25519", Policy::None), ("v6", Policy::Baseline)] {
        let sealed = sealed_to(cert, mail, policy, Compression::Auto);
        let keys = holder(cert);
        let is_right = |changed: &[u8], what: &str| match opened(changed, &keys, Endings::Original) {
            Ok(Ok((back, _))) => assert!(back == mail, "{what}"),
            Ok(Err(foreign)) => assert_eq!(foreign, Foreign::Encrypted, "{what}"),
            Err(_) => {}
        };
        let body = memchr::memmem::find(&sealed, b"\n\n").unwrap() + 2;
        for at in (body..sealed.len()).filter(|at| at % 3 == 0) {
            let mut changed = sealed.clone();
            changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
            is_right(&changed, &format!("changed at {at}"));
        }
        for end in body..sealed.len() - 1 {
            let cut = opened(&sealed[..end], &keys, Endings::Original);
            assert!(matches!(cut, Err(Error::Damaged { .. })), "cut at {end}: {cut:?}");
        }
        for behind in ["x", "\n\nx", "--x--\n", "\n-----BEGIN PGP MESSAGE-----\n"] {
            let longer = opened(&[&sealed[..], behind.as_bytes()].concat(), &keys, Endings::Original);
            assert!(matches!(longer, Err(Error::Damaged { .. })), "{behind:?}: {longer:?}");
        }
        is_right(&[&sealed[..], b"\n \r\n"].concat(), "blanks behind");
    }
}

#[test]
fn without_the_key_it_is_said_to_whom_it_is_sealed() {
    let sealed = String::from_utf8(sealed(b"A: b\n\nc\n", Policy::None)).unwrap();
    let id = fixture("curve25519").keys().last().unwrap().key().keyid().to_hex();
    match opened(sealed.as_bytes(), &holder("two-subkeys"), Endings::Original) {
        Err(Error::NoSecretKey { recipients }) => assert_eq!(recipients, id),
        other => panic!("{other:?}"),
    }
    // With another boundary it may be a sender's.
    let other = sealed.replace(BOUNDARY_PREFIX, "=_another-");
    let found = opened(other.as_bytes(), &holder("two-subkeys"), Endings::Original).unwrap();
    assert_eq!(found, Err(Foreign::Encrypted));
    assert!(opened(other.as_bytes(), &holder("curve25519"), Endings::Original).unwrap().is_ok());
}

#[test]
fn an_envelope_is_proven_without_a_key() {
    for cert in ["curve25519", "v6", "two-subkeys"] {
        let mail = [b"A: b\n\n", &noise(20_000, 2)[..]].concat();
        let sealed = sealed_to(cert, &mail, Policy::None, Compression::None);
        let inspected = |bytes: &[u8]| {
            let mut rest = bytes;
            let opening = Opening::read(&mut rest).unwrap();
            match inspect(&opening, Cursor::new(rest.to_vec()))? {
                Inspected::Sealed(envelope) => Ok(*envelope),
                Inspected::Foreign(foreign) => panic!("{foreign:?}"),
            }
        };
        let envelope = inspected(&sealed).unwrap();
        assert!(envelope.ours, "{cert}");
        let fixture = fixture(cert);
        let mut ids: Vec<_> = fixture.keys().subkeys().map(|key| key.key().keyid().to_hex()).collect();
        ids.retain(|id| envelope.recipients().contains(id));
        let mut recipients = envelope.recipients();
        recipients.sort();
        ids.sort();
        assert!(!ids.is_empty() && recipients == ids, "{cert}: {recipients:?}");
        let mut ciphertext = Vec::new();
        envelope.prove(&mut ciphertext).unwrap();
        // The packet's body, read once more.
        let mut body = Vec::new();
        let mut version = [0];
        let Container::OpenPgp(again) = inspected(&sealed).unwrap().sealed else { panic!() };
        let mut again = again.body;
        again.read_exact(&mut version).unwrap();
        again.read_to_end(&mut body).unwrap();
        let beside = if version == [1] { 0 } else { 3 };
        assert!(ciphertext == body[beside..] && body.len() > 20_000, "{cert}");
        for damaged in [&[&sealed[..], b"x"].concat(), &sealed[..sealed.len() - 10]] {
            let proven = inspected(damaged).and_then(|envelope| envelope.prove(&mut io::sink()));
            assert!(matches!(proven, Err(Error::Damaged { .. })), "{cert}: {proven:?}");
        }
    }
}

#[test]
fn what_claims_to_be_encrypted_is_damaged_and_not_clear() {
    let look = |fields: &str, body: &str| {
        let mail = format!("{fields}\n{body}");
        recognise(&Opening::read(&mut mail.as_bytes()).unwrap()).map_err(|error| error.to_string())
    };
    assert_eq!(look("A: b\n", "text\n"), Ok(Look::Foreign(Foreign::Clear)));
    assert_eq!(look("Content-Type: text/plain; boundary=x\n", "text\n"), Ok(Look::Foreign(Foreign::Clear)));
    assert_eq!(
        look("Content-Type: multipart/mixed; boundary=x\n", "--x\n\na\n--x--\n"),
        Ok(Look::Foreign(Foreign::Clear))
    );
    for fields in [
        "Content-Type: multipart/encrypted; boundary=x\n",
        "content-type: Multipart/Encrypted\n",
        "Content-Type: multipart/mixed; boundary=\"=_mailseal-1\"\n",
        "Content-Type: text/plain\nContent-Type: multipart/encrypted\n",
    ] {
        assert!(look(fields, "text\n").is_err(), "{fields}");
    }
    let sealed = String::from_utf8(sealed(b"A: b\n\nc\n", Policy::None)).unwrap();
    match recognise(&Opening::read(&mut sealed.as_bytes()).unwrap()).unwrap() {
        Look::Sealed { boundary } => assert!(boundary.starts_with(BOUNDARY_PREFIX)),
        other => panic!("{other:?}"),
    }
    let inline = sealed.split_once("-----BEGIN").unwrap().1.split_once("\n--=_").unwrap().0;
    assert_eq!(look("A: b\n", &format!("-----BEGIN{inline}\n")), Ok(Look::Foreign(Foreign::Encrypted)));
}

#[test]
fn a_sealed_message_expands_so_far_and_no_further() {
    for (ratio, sealed, most) in [
        (1, 0, limits::CONTENT),
        (1, 10, limits::CONTENT + 10),
        (100, 10, limits::CONTENT + 1000),
        (2, u64::MAX, u64::MAX),
    ] {
        assert_eq!(Expansion::new(NonZeroU64::new(ratio).unwrap()).most(sealed), most, "{ratio} {sealed}");
    }
    assert_eq!(Expansion::default().most(1), limits::CONTENT + 100);
    let mail = [b"A: b\n\n", &vec![b'x'; 100_000][..]].concat();
    let sealed = sealed_to("curve25519", &mail, Policy::None, Compression::Zlib(9));
    let with = |most: u64| {
        let mut rest = &sealed[..];
        let opening = Opening::read(&mut rest).unwrap();
        let mut out = Vec::new();
        match unseal(&opening, rest, &holder("curve25519"), Endings::Original, most)? {
            Unsealed::Original(mut original) => original.write_to(&mut out).map(|()| out.len()),
            Unsealed::Foreign(foreign) => panic!("{foreign:?}"),
        }
    };
    assert_eq!(with(200_000).unwrap(), mail.len());
    assert!(matches!(with(50_000), Err(Error::Expands { most: 50_000 })));
    assert!(matches!(with(10), Err(Error::Expands { most: 10 })));
}

#[test]
fn an_error_of_reading_is_told_apart_from_damage() {
    assert!(matches!(read_error(io::Error::from_raw_os_error(5)), Error::Read(_)));
    assert!(matches!(read_error(broken("x")), Error::Damaged { what } if what == "x"));
    let expands = io::Error::new(io::ErrorKind::FileTooLarge, Expands(7));
    assert!(matches!(read_error(expands), Error::Expands { most: 7 }));
    let mut interrupted = Flaky { octets: b"", interrupted: true };
    assert!(demand_end(&mut interrupted, "x").is_ok());
    assert!(demand_end(&mut &b"y"[..], "x").is_err());
}

/// Cannot be read.
struct Unreadable;

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(5))
    }
}

#[test]
fn what_is_proven_goes_out_as_it_is_inside() {
    /// Of what follows the opening, `missing` octets are not there, and `behind` is.
    fn proven(
        mut mail: &[u8],
        missing: usize,
        behind: impl Read + Send + Sync,
        mut out: &mut dyn Write,
    ) -> Result<(), Error> {
        let opening = Opening::read(&mut mail).unwrap();
        let rest = &mail[..mail.len() - missing];
        prove(&opening, rest.chain(behind), &holder("curve25519"), 1 << 30, &mut out)
    }

    let mail = [b"A: b\n\n", &vec![b'x'; 1_500_000][..]].concat();
    for policy in [Policy::None, Policy::Baseline] {
        let sealed = sealed_to("curve25519", &mail, policy, Compression::None);
        let mut inside = Vec::new();
        proven(&sealed, 0, io::empty(), &mut inside).unwrap();
        assert!(inside.ends_with(&mail[6..]) && inside.len() < mail.len() + 1000, "{policy:?}");
        for missing in [10, 100_000] {
            let damaged = proven(&sealed, missing, io::empty(), &mut io::sink());
            assert!(matches!(damaged, Err(Error::Damaged { .. })), "{policy:?} {missing}: {damaged:?}");
            let unread = proven(&sealed, missing, Unreadable, &mut io::sink());
            assert!(matches!(unread, Err(Error::Read(_))), "{policy:?} {missing}: {unread:?}");
        }
        let full = proven(&sealed, 0, io::empty(), &mut &mut [0; 1000][..]);
        assert!(matches!(full, Err(Error::Write(_))), "{policy:?}: {full:?}");
    }
    let mut clear = Vec::new();
    proven(&mail, 0, io::empty(), &mut clear).unwrap();
    assert!(clear.is_empty(), "nothing is inside it");
}

/// Gives an octet at a time.
struct ByOctets<R>(R);

impl<R: Read> Read for ByOctets<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

/// Gives an octet at a time, each after an interruption.
struct Flaky<'a> {
    octets: &'a [u8],
    interrupted: bool,
}

impl Read for Flaky<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if !self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(1);
        self.octets.read(&mut buffer[..count])
    }
}

#[test]
fn an_armor_is_read_in_whatever_pieces_it_comes() {
    const BEFORE: &str = "preamble\n--b\nContent-Type: x\n\n";
    let armored = |inside: &str, behind: &str| {
        format!(
            "{BEFORE}-----BEGIN PGP MESSAGE-----\nVersion: x\n\n{inside}-----END PGP MESSAGE-----\n{behind}"
        )
    };
    let read = |text: &str, flaky: bool| -> io::Result<Vec<u8>> {
        let octets = text.as_bytes();
        let inner: Box<dyn Read> =
            if flaky { Box::new(Flaky { octets, interrupted: true }) } else { Box::new(octets) };
        let mut data = Vec::new();
        Armor::begin(inner, "b")?.unwrap().read_to_end(&mut data)?;
        Ok(data)
    };
    for (inside, behind, expected) in [
        ("AAEC\n", "--b--\n", Some(&[0, 1, 2][..])),
        ("AAEC\r\nAwQF\r\n=abcd\r\n", "\r\n--b--\r\n\r\n", Some(&[0, 1, 2, 3, 4, 5])),
        ("AAE\nC\n", "--b--", Some(&[0, 1, 2])),
        ("AAECAw==\n", "--b--", Some(&[0, 1, 2, 3])),
        ("", "--b--", Some(&[])),
        ("AAEC\n", "", None),
        ("AAEC\n", "--c--\n", None),
        ("AAEC\n", "--b--\n--b--\n", None),
        ("AAEC\n", "text\n--b--\n", None),
        ("AAEC\n", "--b--\ntext", None),
        ("AAEC\n=abcd\n=abcd\n", "--b--\n", None),
        ("AAEC\n=abcd\nAAEC\n", "--b--\n", None),
        ("AAEC\n\nAAEC\n", "--b--\n", None),
        ("AAE\n", "--b--\n", None),
        ("AA!C\n", "--b--\n", None),
        ("AAEC\n=abcde\n", "--b--\n", None),
    ] {
        for flaky in [false, true] {
            let found = read(&armored(inside, behind), flaky);
            assert_eq!(found.as_deref().ok(), expected, "{inside:?} {behind:?} {flaky}: {found:?}");
        }
    }
    let lines: String = (0..5000).map(|_| "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj\n").collect();
    let expected: Vec<u8> = (0..36).cycle().take(36 * 5000).collect();
    for flaky in [false, true] {
        assert!(read(&armored(&lines, "--b--\n"), flaky).unwrap() == expected);
    }
    for (length, fits) in [(60_000, true), (64 * 1024, true), (200_000, false)] {
        let line = "AAEC".repeat(length / 4) + "\n";
        assert_eq!(read(&armored(&line, "--b--\n"), true).is_ok(), fits, "a line of {length}");
    }
}

#[test]
fn an_armor_begins_near_the_beginning() {
    let begun = |before: usize| {
        let text = format!("{}\n-----BEGIN PGP MESSAGE-----\n\n", "x".repeat(before - 1));
        Armor::begin(text.as_bytes(), "b").map(|armor| armor.is_some())
    };
    let most = 2 * limits::PART_HEADER + 4 * limits::PREAMBLE;
    assert!(begun(most).unwrap() && !begun(most + 1).unwrap());
    assert!(Armor::begin(&b"text\n"[..], "b").is_err(), "there is no more");
    assert!(Armor::begin(&b"-----BEGIN PGP MESSAGE-----\nA: b\n"[..], "b").is_err());
}

#[test]
fn a_packet_s_body_is_read_to_its_end_and_no_further() {
    let read = |length: Length, octets: &[u8]| {
        let mut body = Body::new(Flaky { octets, interrupted: true }, length);
        let mut data = Vec::new();
        assert_eq!(body.read(&mut []).unwrap(), 0);
        body.read_to_end(&mut data).map(|_| data)
    };
    for (length, octets, expected) in [
        (Length::Definite(3), &b"abc"[..], Some(&b"abc"[..])),
        (Length::Definite(0), b"", Some(b"")),
        (Length::Indeterminate, b"abc", Some(b"abc")),
        (Length::Partial(2), b"ab\x01c", Some(b"abc")),
        (Length::Partial(2), b"ab\xe0c\xe0d\x00", Some(b"abcd")),
        (Length::Definite(3), b"ab", None),
        (Length::Definite(3), b"abcd", None),
        (Length::Partial(2), b"ab", None),
        (Length::Partial(2), b"a", None),
        (Length::Partial(2), b"ab\x01cd", None),
        (Length::Partial(2), b"ab\x02c", None),
    ] {
        let found = read(length, octets);
        assert_eq!(found.as_deref().ok(), expected, "{length:?} {octets:?}: {found:?}");
    }
    assert_eq!(Body::new(&b"abc"[..], Length::Definite(1)).into_inner(), b"abc");
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[0xc0 | tag, 255], &(body.len() as u32).to_be_bytes()[..], body].concat()
}

#[test]
fn padding_follows_a_packet_only_where_it_may() {
    let padding = [&[0xc0 | tag::PADDING, 4][..], &[0; 4]].concat();
    let literal = packet(tag::LITERAL, b"x");
    for (behind, fits) in [
        (Vec::new(), true),
        (padding.clone(), true),
        (padding.repeat(2), true),
        (vec![0xc0 | tag::PADDING, 0], true),
        (padding[..5].to_vec(), false),
        (padding[..2].to_vec(), false),
        ([&padding[..], b"\x78"].concat(), false),
        ([&padding[..], &literal].concat(), false),
        (literal, false),
    ] {
        let octets = [b"abc", &behind[..]].concat();
        let read = |mut body: Body<&[u8]>| {
            let mut data = Vec::new();
            body.read_to_end(&mut data).ok().map(|_| data)
        };
        let data = |fits: bool| fits.then(|| b"abc".to_vec());
        let padded = read(Body::padded(&octets, Length::Definite(3)));
        assert_eq!(padded, data(fits), "{behind:?}");
        assert_eq!(read(Body::new(&octets, Length::Definite(3))), data(behind.is_empty()), "{behind:?}");
    }
}

#[test]
fn the_content_is_one_literal_compressed_or_not() {
    let literal = packet(tag::LITERAL, b"b\x04name\0\0\0\0data");
    let deflated = |bytes: &[u8], zlib: bool| {
        let mut out: Box<dyn FnMut() -> Vec<u8>> = if zlib {
            Box::new(|| {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            })
        } else {
            Box::new(|| {
                let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            })
        };
        out()
    };
    let compressed = |algorithm: u8, bytes: &[u8]| packet(tag::COMPRESSED, &[&[algorithm], bytes].concat());
    let read = |bytes: Vec<u8>, most: u64| -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        // An octet at a time: what is compressed gives nothing for most of them.
        match content::open(Box::new(ByOctets(Cursor::new(bytes))), most)? {
            Content::Literal { name, mut data } => {
                let mut out = Vec::new();
                data.read_to_end(&mut out)?;
                Ok(Some((name, out)))
            }
            Content::Other(_) => Ok(None),
        }
    };
    let (raw, zlib) = (deflated(&literal, false), deflated(&literal, true));
    for bytes in [literal.clone(), compressed(0, &literal), compressed(1, &raw), compressed(2, &zlib)] {
        assert_eq!(read(bytes.clone(), 100).unwrap(), Some((b"name".to_vec(), b"data".to_vec())));
        assert!(read([&bytes[..], b"x"].concat(), 100).is_err(), "something follows");
        for end in 0..bytes.len() {
            assert!(!matches!(read(bytes[..end].to_vec(), 100), Ok(Some(_))), "cut at {end}");
        }
    }
    for (inside, fits) in
        [(&raw[..raw.len() - 1], false), (&[&raw[..], b"x"].concat(), false), (&raw[..], true)]
    {
        assert_eq!(read(compressed(1, inside), 100).is_ok(), fits);
    }
    assert!(read(compressed(1, &deflated(&[&literal[..], b"x"].concat(), false)), 100).is_err());
    for other in
        [compressed(3, &raw), compressed(1, &deflated(&packet(4, b"x"), false)), packet(4, b"x"), Vec::new()]
    {
        assert_eq!(read(other, 100).unwrap(), None);
    }
    let length = literal.len() as u64;
    assert!(read(compressed(1, &raw), length).is_ok() && read(compressed(1, &raw), length - 1).is_err());
    assert!(read(compressed(0, &literal), 1).is_ok(), "it is not longer than what holds it");
}

#[test]
fn an_encrypted_packet_of_version_1_proves_what_it_gives() {
    use aes::cipher::{AsyncStreamCipher as _, KeyIvInit as _};
    use sha1::{Digest as _, Sha1};

    let key = [7; 32];
    let encrypted = |plain: &[u8]| {
        let mut octets = [&noise(16, 1)[..], &noise(16, 1)[14..], plain, &[0xd3, 20]].concat();
        octets.extend(Sha1::digest(&octets));
        cfb_mode::Encryptor::<Aes256>::new(&key.into(), &[0; 16].into()).encrypt(&mut octets);
        octets
    };
    let read = |octets: &[u8], key: &[u8]| -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Seipd1::<_, Aes256>::new(octets, &key.into())?.read_to_end(&mut plain)?;
        Ok(plain)
    };
    for length in [0, 1, 15, 16, 17, 16_000, 16_343, 16_344, 16_345, 16_366, 16_384, 40_000] {
        let plain = noise(length, 3);
        let octets = encrypted(&plain);
        assert!(read(&octets, &key).unwrap() == plain, "{length}");
        for cut in [1, 22, 40] {
            assert!(read(&octets[..octets.len() - cut.min(octets.len())], &key).is_err(), "{length}");
        }
        for at in [0, 17, octets.len() / 2, octets.len() - 22, octets.len() - 21, octets.len() - 1] {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &key).is_err(), "{length}, changed at {at}");
        }
    }
    assert!(read(&encrypted(b"x"), &[7; 16]).is_err(), "a key of another length");
    assert!(read(&encrypted(b"x"), &[8; 32]).is_err(), "another key");
    assert!(read(&[0; 39], &key).is_err() && read(&[], &key).is_err());
}

#[test]
fn an_encrypted_packet_of_version_2_has_chunks_of_a_bounded_size() {
    let header = |chunk: u8| [&[9, 2, chunk][..], &[0; 32], &[0; 100]].concat();
    for (chunk, fits) in [(0, true), (16, true), (17, false), (200, false)] {
        let octets = header(chunk);
        let opened = seipd2::open(&octets[..], &vec![7; 32].into());
        assert_eq!(opened.is_ok(), fits, "{chunk}");
    }
    assert!(seipd2::open(&header(6)[..34], &vec![7; 32].into()).is_err());
}

#[test]
fn what_would_make_a_header_too_long_is_left_out_or_refused() {
    let line = "Subject: a\n";
    let mail = format!("A: b\n{}\nbody\n", line.repeat(limits::HEADER / line.len() * 3 / 4));
    for policy in POLICIES {
        assert_comes_back(mail.as_bytes(), policy, "many subjects");
    }
    let sealer = |subject, policy| {
        let cert = fixture("curve25519").strip_secret_key_material();
        let recipients =
            Recipients::choose("alice", &[cert], &[], WhenExpired::Encrypt, SystemTime::now()).unwrap();
        let mut rest = mail.as_bytes();
        let opening = Opening::read(&mut rest).unwrap();
        let sealer = Sealer { subject, ..Sealer::to(&recipients, policy) };
        sealer.seal(&opening, &mut rest, io::sink()).map(|sealed| sealed.warnings)
    };
    assert_eq!(sealer("...", Policy::None).unwrap(), []);
    assert_eq!(sealer("what is said instead", Policy::Baseline).unwrap(), [Warning::HpSkipped]);
    assert!(matches!(sealer("what is said instead", Policy::Sent), Err(Error::SealedHeaderTooLong)));
}

#[test]
fn a_header_has_room_for_our_fields() {
    let mail = |short: usize| format!("A: {}\n\nbody\n", "x".repeat(limits::HEADER - 4 - short)).into_bytes();
    for short in [1000, 600, 300, 100, 50, 1, 0] {
        let mail = mail(short);
        let cert = fixture("curve25519").strip_secret_key_material();
        let recipients =
            Recipients::choose("alice", &[cert], &[], WhenExpired::Encrypt, SystemTime::now()).unwrap();
        let (mut rest, mut sealed) = (&*mail, Vec::new());
        let opening = Opening::read(&mut rest).unwrap();
        Sealer::to(&recipients, Policy::None).seal(&opening, &mut rest, &mut sealed).unwrap();
        let back = opened(&sealed, &holder("curve25519"), Endings::Original).unwrap().unwrap();
        assert!(back == (mail, true), "{short}");
    }
}

#[test]
fn a_message_to_more_keys_than_anything_reads_is_not_sealed() {
    let cert = fixture("curve25519").strip_secret_key_material();
    let choose = |count: usize| {
        let certs = vec![cert.clone(); count];
        Recipients::choose("alice", &certs, &[], WhenExpired::Encrypt, SystemTime::now()).unwrap().session()
    };
    choose(1).unwrap();
    let Err(Error::NoUsableKey { why, .. }) = choose(600) else { panic!() };
    assert!(why.contains("600 keys are more than fit"), "{why}");
}
