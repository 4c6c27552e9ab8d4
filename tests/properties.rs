//! Generated mail: whatever the header and the body are made of, the sealed form is the one the contract computes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/lib.rs"]
mod support;

use proptest::{collection::vec, option, prelude::*, sample::select};
use support::{
    filter::in_pieces,
    oracle::{check_run, key},
};

const CERT: &str = "curve25519";

fn line_start() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "Subject:",
        "From:",
        "Received:",
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
    ]);
    prop_oneof![
        4 => values.prop_map(|text| text.as_bytes().to_vec()),
        3 => vec(any::<u8>(), 0..20),
        1 => (1_usize..3000).prop_map(|length| vec![b'x'; length]),
        1 => Just(b"\r".to_vec()),
        1 => Just(b" a\0b".to_vec()),
    ]
}

/// A line without its ending: no LF inside.
fn line() -> impl Strategy<Value = Vec<u8>> {
    (line_start(), line_rest()).prop_map(|(start, rest)| {
        let mut line = [start, rest].concat();
        line.retain(|&byte| byte != b'\n');
        line
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        line(),
        vec(any::<u8>(), 0..200),
        Just(b"--b".to_vec()),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

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
        if let Err(why) = check_run(&mail, &run, CERT, None) {
            prop_assert!(false, "{why}\n{:?}", String::from_utf8_lossy(&mail));
        }
    }
}
