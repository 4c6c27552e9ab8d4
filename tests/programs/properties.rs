//! Generated mail: whatever the header and the body are made of, the sealed form is the one the contract computes.

use std::{
    io::{self, Read, Write},
    sync::LazyLock,
    time::SystemTime,
};

use mailseal::{
    config::Preference,
    keys::addressee::choose,
    keystore::{read_named, trust::Trust},
};
use mailseal_core::{
    message::opening::Opening,
    protect::Policy,
    recipients::{Recipients, WhenExpired},
    seal::Sealer,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use testing::{
    filter::{Run, in_pieces},
    openers::rpgp,
    oracle::key,
    protected::{armor, check_unasked, is_protected},
    restore::restore,
};

const CERT: &str = "curve25519";

fn line_start() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "Subject:",
        "From:",
        "Comments:",
        "DKIM-Signature:",
        "HP-Outer:",
        "Received:",
        "Subject :",
        "To:",
        "List-Id:",
        "X-Spam-Report:",
        "ARC-Seal:",
        "Reply-To:",
        "Return-Path:",
        "Auto-Submitted:",
        "Message-ID:",
        "X-A:",
        "Content-Type:",
        "CONTENT-type:",
        "Content-Transfer-Encoding:",
        "Content-X:",
        "Content-:",
        "Contents:",
        "MIME-Version:",
        "mime-version:",
        "MIME-Version",
        "From ",
        ">From ",
        " ",
        "\t",
        ":",
        "--",
        "Content-Type :",
        "Content-Type",
        "-----BEGIN PGP MESSAGE-----",
    ]);
    prop_oneof![8 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => vec(any::<u8>(), 1..4)]
}

fn line_rest() -> impl Strategy<Value = Vec<u8>> {
    let values = select(vec![
        "",
        " 1.0",
        " text/plain; charset=utf-8",
        " multipart/mixed; boundary=\"b\"",
        " multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b",
        " application/pkcs7-mime; smime-type=enveloped-data",
        " base64",
        " quoted-printable",
        " text/html; charset=utf-8",
        " text/plain;",
        " text/plain; hp=\"cipher\"",
        " text/plain; Protected-Headers (x)=v1",
        " hp*0=clear",
        " =?utf-8?q?Gr=C3=BC=C3=9Fe=0A?= x",
        " Alice <alice@example.org>, b@example.org",
        " <bounce@example.org>",
        " root (Cron Daemon)",
        " auto-replied (vacation)",
    ]);
    prop_oneof![
        4 => values.prop_map(|text| text.as_bytes().to_vec()),
        3 => vec(any::<u8>(), 0..20),
        1 => (1_usize..3000).prop_map(|length| vec![b'x'; length]),
        1 => Just(b"\r".to_vec()),
        1 => Just(b" a\rContent-Type: text/html".to_vec()),
        1 => Just(b" a\0b".to_vec()),
    ]
}

/// A line without its ending: no LF inside.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let any = (line_start(), line_rest()).prop_map(|(start, rest)| {
        let mut line = [start, rest].concat();
        line.retain(|&byte| byte != b'\n');
        line
    });
    let blanks = select(vec![" ", "\t", " \t "]).prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![12 => any, 1 => blanks]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        line(),
        vec(any::<u8>(), 0..200),
        Just(b"--b".to_vec()),
        Just(b"<html><body>".to_vec()),
        Just(b"--=_mailseal-".to_vec()),
        Just(b"Version: 1".to_vec()),
        Just(b"-----END PGP MESSAGE-----".to_vec()),
        (0_usize..100_000).prop_map(|length| vec![b'y'; length]),
    ];
    vec(pieces, 0..12).prop_map(|pieces| pieces.join(&b"\n"[..]))
}

/// How the lines of a generated mail end.
#[derive(Debug, Clone, Copy)]
enum Endings {
    Lf,
    Crlf,
    Alternating,
}

fn mail() -> impl Strategy<Value = Vec<u8>> {
    let endings = select(vec![Endings::Lf, Endings::Crlf, Endings::Alternating]);
    let last = select(vec!["", "\n", "\r", "\r\n"]);
    (vec(line(), 0..14), option::weighted(0.9, body()), endings, last).prop_map(
        |(mut lines, body, endings, last)| {
            if let Some(body) = body {
                lines.push(Vec::new());
                lines.extend(body.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
            }
            let mut mail = Vec::new();
            for (n, line) in lines.iter().enumerate() {
                let crlf = match endings {
                    Endings::Lf => false,
                    Endings::Crlf => true,
                    Endings::Alternating => n % 2 == 1,
                };
                let eol: &[u8] = if n + 1 == lines.len() {
                    last.as_bytes()
                } else if crlf {
                    b"\r\n"
                } else {
                    b"\n"
                };
                mail.extend_from_slice(line);
                mail.extend_from_slice(eol);
            }
            mail
        },
    )
}

/// Reads and writes in pieces of these sizes, in turn; 0 stands for a call that a signal interrupts.
#[derive(Debug, Clone)]
struct Pieces {
    sizes: Vec<usize>,
    calls: usize,
}

impl Pieces {
    fn next(&mut self) -> io::Result<usize> {
        self.calls += 1;
        match self.sizes[self.calls % self.sizes.len()] {
            0 => Err(io::ErrorKind::Interrupted.into()),
            size => Ok(size),
        }
    }
}

struct Source<'a> {
    rest: &'a [u8],
    pieces: Pieces,
    /// Whether the end is an error instead of an end.
    breaks: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.pieces.next()?.min(buffer.len());
        if self.rest.is_empty() && self.breaks {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.rest.read(&mut buffer[..size])
    }
}

struct Sink {
    written: Vec<u8>,
    pieces: Pieces,
    /// How many bytes there is room for.
    room: usize,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let size = self.pieces.next()?.min(data.len());
        if self.written.len() + size > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.extend_from_slice(&data[..size]);
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals within this process; the output, if all of it was written.
fn seal_with(
    mut source: Source<'_>,
    sink: &mut Sink,
    policy: Policy,
) -> Result<(), mailseal_core::error::Error> {
    static RECIPIENTS: LazyLock<Recipients> = LazyLock::new(|| {
        let certs = read_named(&key(CERT), &Trust::of_process(&[]), None).unwrap();
        choose("alice", (&certs, &[]), Preference::default(), WhenExpired::Encrypt, SystemTime::now())
            .unwrap()
    });
    let opening = Opening::read(&mut source)?;
    Sealer::to(&RECIPIENTS, policy).seal(&opening, &mut source, sink).map(drop)
}

fn pieces() -> impl Strategy<Value = Pieces> {
    let size = prop_oneof![1 => Just(0_usize), 2 => 1_usize..5, 2 => 1_usize..200_000];
    vec(size, 1..6).prop_map(|mut sizes| {
        // Something must go on at last.
        sizes.push(1021);
        Pieces { sizes, calls: 0 }
    })
}

/// At least 512 cases; more where `PROPTEST_CASES` says so.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(512), failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_mail_is_sealed_as_the_contract_says(
        mail in mail(),
        piece in select(vec![1_usize, 2, 3, 7, 61, 1021, 4096, 65_537, 1 << 20]),
    ) {
        // No message at all has its own test.
        prop_assume!(!mail.is_empty());
        // One write a byte is slow for long mail.
        let piece = if mail.len() > 10_000 { piece.max(61) } else { piece };
        let run = in_pieces(&key(CERT), &[], &mail, piece);
        if let Err(why) = check_unasked(&mail, &run, CERT) {
            prop_assert!(false, "{why}\n{:?}", String::from_utf8_lossy(&mail));
        }
    }

    #[test]
    fn short_and_interrupted_reads_and_writes_change_nothing(mail in mail(), reads in pieces(), writes in pieces()) {
        prop_assume!(!mail.is_empty());
        let source = Source { rest: &mail, pieces: reads, breaks: false };
        let mut sink = Sink { written: Vec::new(), pieces: writes, room: usize::MAX };
        seal_with(source, &mut sink, Policy::None).unwrap();
        let run = Run { status: Some(0), stdout: sink.written, stderr: String::new() };
        if let Err(why) = check_unasked(&mail, &run, CERT) {
            prop_assert!(false, "{why}\n{:?}", String::from_utf8_lossy(&mail));
        }
    }

    #[test]
    fn a_protected_header_is_given_back(mail in mail(), policy in select(vec![Policy::Baseline, Policy::Shy, Policy::Strict])) {
        prop_assume!(!mail.is_empty());
        let reads = Pieces { sizes: vec![usize::MAX], calls: 0 };
        let source = Source { rest: &mail, pieces: reads.clone(), breaks: false };
        let mut sink = Sink { written: Vec::new(), pieces: reads, room: usize::MAX };
        seal_with(source, &mut sink, policy).unwrap();
        let opened = rpgp(CERT, armor(&sink.written)).unwrap();
        let restored = restore(&sink.written, &opened);
        let given_back = match &restored {
            Ok(Some(original)) => *original == mail,
            Ok(None) => !is_protected(&opened.file_name),
            Err(_) => false,
        };
        prop_assert!(given_back, "{:?}\n{:?}", restored.err(), String::from_utf8_lossy(&mail));
    }

    #[test]
    fn a_broken_source_or_sink_is_an_error(mail in mail(), reads in pieces(), writes in pieces(), room in 0_usize..600) {
        let source = |breaks| Source { rest: &mail, pieces: reads.clone(), breaks };
        let mut wide = Sink { written: Vec::new(), pieces: writes.clone(), room: usize::MAX };
        prop_assert!(seal_with(source(true), &mut wide, Policy::None).is_err(), "the source broke");
        let mut narrow = Sink { written: Vec::new(), pieces: writes, room };
        prop_assert!(seal_with(source(false), &mut narrow, Policy::None).is_err(), "the sink was full");
    }
}
