//! "Already encrypted" is proven, not claimed: real ciphertext stays as it is, everything that only looks like it is sealed.

use testing::{
    decrypt::decrypt,
    filter::filter,
    fixtures::{self, Mail},
    header, jobs,
    openers::GnuPg,
    oracle::{check_run, is_unchanged, key},
    variants::Variant,
};

const CERT: &str = "curve25519";
const CLEAR: &[u8] = b"the canary sings at noon.";

fn both_endings(mails: &[Mail]) -> Vec<Mail> {
    let forms = [Variant::Lf, Variant::Crlf];
    let form = |mail: &Mail, variant: Variant| Mail {
        name: format!("{} {variant:?}", mail.name),
        bytes: variant.of(&mail.bytes),
    };
    mails.iter().flat_map(|mail| forms.map(|variant| form(mail, variant))).collect()
}

fn check_all(mails: &[Mail], check: impl Fn(&Mail) -> Result<(), String> + Sync) {
    jobs::all(mails, |mail| mail.name.clone(), check);
}

fn unchanged(message: &[u8]) -> Result<(), String> {
    let run = filter(&key(CERT), &[], message);
    is_unchanged(message, &run).then_some(()).ok_or(format!("changed, exit {:?}, {}", run.status, run.stderr))
}

fn sealed(message: &[u8]) -> Result<(), String> {
    check_run(message, &filter(&key(CERT), &[], message), CERT, None).map(drop)
}

#[test]
fn encrypted_mail_is_left_alone() {
    check_all(&both_endings(&fixtures::mails("encrypted")), |mail| unchanged(&mail.bytes));
}

#[test]
fn encrypted_mail_under_unchanged_fail_gives_nothing() {
    check_all(&fixtures::mails("encrypted"), |mail| {
        let run = filter(&key(CERT), &["--unchanged", "fail"], &mail.bytes);
        let right = run.status == Some(1) && run.stdout.is_empty();
        right.then_some(()).ok_or(format!("exit {:?}, {} bytes", run.status, run.stdout.len()))
    });
}

#[test]
fn clear_mail_under_unchanged_fail_is_sealed() {
    let mail = &fixtures::mails("mails")[0];
    let run = filter(&key(CERT), &["--unchanged", "fail"], &mail.bytes);
    check_run(&mail.bytes, &run, CERT, None).unwrap();
}

#[test]
fn encrypted_mail_under_always_is_sealed() {
    check_all(&both_endings(&fixtures::mails("encrypted")), |mail| {
        check_run(&mail.bytes, &filter(&key(CERT), &["--always"], &mail.bytes), CERT, None).map(drop)
    });
}

#[test]
fn off_leaves_everything_alone() {
    check_all(&fixtures::mails("mails"), |mail| {
        let run = filter(&key(CERT), &["--off"], &mail.bytes);
        is_unchanged(&mail.bytes, &run).then_some(()).ok_or(format!("exit {:?}", run.status))
    });
}

#[test]
fn forgeries_are_sealed() {
    check_all(&both_endings(&fixtures::mails("forged")), |mail| sealed(&mail.bytes));
}

/// The transfer encoding that gpgit leaves on a multipart makes nothing of a message: neither damaged nor a sender's.
#[test]
fn an_encoding_on_a_multipart_hinders_no_decryption() {
    for name in ["gpgit-quoted-printable", "gpgit-base64"] {
        let mail = fixtures::mails("encrypted").into_iter().find(|mail| mail.name == name).unwrap();
        let run = decrypt(CERT, &mail.bytes);
        let opened = String::from_utf8_lossy(&run.stdout);
        let is_whole = opened.contains("\nSubject: ...\n") && !opened.contains("PGP");
        assert!(run.status == Some(0) && is_whole, "{name}: {run:?}");
    }
    let mail = fixtures::mails("mails").into_iter().find(|mail| mail.bytes.is_ascii()).unwrap();
    let sealed = String::from_utf8(filter(&key(CERT), &[], &mail.bytes).stdout).unwrap();
    for encoding in ["quoted-printable", "base64"] {
        let field = format!("\nContent-Transfer-Encoding: {encoding}\nContent-Type: multipart/encrypted");
        let changed = sealed.replacen("\nContent-Type: multipart/encrypted", &field, 1);
        assert_ne!(changed, sealed);
        unchanged(changed.as_bytes()).unwrap();
        let run = decrypt(CERT, changed.as_bytes());
        assert_eq!((run.status, &run.stdout), (Some(0), &mail.bytes), "{encoding}: {}", run.stderr);
    }
}

#[test]
fn our_own_output_is_left_alone() {
    check_all(&both_endings(&fixtures::mails("mails")), |mail| {
        for cert in [CERT, "rsa3072", "v6"] {
            let once = filter(&key(cert), &[], &mail.bytes);
            if once.status != Some(0) || once.stdout == mail.bytes {
                return Err(format!("{cert}: not sealed, exit {:?}", once.status));
            }
            unchanged(&once.stdout).map_err(|why| format!("{cert}: {why}"))?;
        }
        Ok(())
    });
}

/// Longer than the look-ahead of 1 MiB: judged by its beginning.
#[test]
fn long_encrypted_mail_is_left_alone() {
    let armor = GnuPg::new().encrypt(CERT, &noise(3 << 20));
    let inline = [b"Subject: long\n\n", &armor[..]].concat();
    unchanged(&inline).expect("inline");
    let part = b"Content-Type: application/octet-stream\n\n";
    let mime = pgp_mime(&[part, &armor[..]].concat());
    unchanged(&mime).expect("PGP/MIME");
    unchanged(&Variant::Crlf.of(&mime)).expect("PGP/MIME, CRLF");
}

/// What comes after the look-ahead is converted like the beginning, and the way back stays exact.
#[test]
fn line_endings_that_change_late_are_restored() {
    let lines = b"a line of thirty-two characters\n".repeat(40_000);
    let late = [b"Subject: long\n\n", &lines[..], b"one\r\ntwo\r\r\nthree\r"].concat();
    sealed(&late).expect("LF, then CRLF");
    let late =
        [&Variant::Crlf.of(b"Subject: long\n\n"), &Variant::Crlf.of(&lines)[..], b"one\ntwo\r\r\n"].concat();
    sealed(&late).expect("CRLF, then LF");
}

#[test]
fn long_clear_mail_that_claims_is_sealed() {
    let text = CLEAR.iter().chain(b"\n").copied().cycle().take(3 << 20).collect::<Vec<u8>>();
    let octets = b"Content-Type: application/octet-stream\n\n";
    sealed(&pgp_mime(&[octets, &text[..]].concat())).expect("a clear part");
    let preamble = [b"\n\n\n", &text[..]].concat();
    let mail = pgp_mime(b"Content-Type: application/octet-stream\n\n");
    let at = mail.windows(4).position(|window| window == b"\n\n--").unwrap() + 2;
    sealed(&[&mail[..at], &preamble, &mail[at..]].concat()).expect("a long preamble");
    let armored = [b"Subject: long\n\n-----BEGIN PGP MESSAGE-----\n\n", &text[..]].concat();
    sealed(&armored).expect("text after a BEGIN line");
}

fn pgp_mime(second: &[u8]) -> Vec<u8> {
    let head = "Subject: long\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; boundary=\"b\";\n \
                protocol=\"application/pgp-encrypted\"\n\n--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\n";
    [head.as_bytes(), second, b"\n--b--\n"].concat()
}

/// Bytes that no compressor shortens, without a crate for it.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// The lines of the body in which every byte is ciphertext or its frame: nothing may be changed in them unnoticed.
fn guarded(message: &[u8]) -> (Vec<&[u8]>, std::ops::Range<usize>) {
    let lines: Vec<&[u8]> = header::lines(message).collect();
    let is = |line: &[u8], text: &str| header::content(line) == text.as_bytes();
    let first = lines.iter().position(|line| is(line, "-----BEGIN PGP MESSAGE-----"));
    let last = lines.iter().position(|line| is(line, "-----END PGP MESSAGE-----"));
    let range = match (first, last) {
        (Some(first), Some(last)) => first + 1..last + 1,
        // S/MIME: the whole body.
        _ => lines.iter().position(|line| header::content(line).is_empty()).unwrap() + 1..lines.len(),
    };
    (lines, range)
}

fn flippable() -> Vec<Mail> {
    let names = [
        "thunderbird",
        "mutt",
        "exchange-7bit",
        "inline",
        "librepgp-skesk5",
        "openpgpjs-seipd2-v6",
        "smime-enveloped",
        "smime-auth-enveloped",
    ];
    let mails = fixtures::mails("encrypted").into_iter().filter(|mail| names.contains(&mail.name.as_str()));
    both_endings(&mails.collect::<Vec<_>>())
}

#[test]
fn a_clear_line_anywhere_is_noticed() {
    check_all(&flippable(), |mail| {
        let (lines, range) = guarded(&mail.bytes);
        let eol: &[u8] = if mail.bytes.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
        for at in range.start..=range.end {
            let line = [CLEAR, eol].concat();
            let changed = [lines[..at].concat(), line, lines[at..].concat()].concat();
            sealed(&changed).map_err(|why| format!("a clear line before line {at}: {why}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_missing_line_of_ciphertext_is_noticed() {
    check_all(&flippable(), |mail| {
        let (lines, range) = guarded(&mail.bytes);
        for at in range {
            // Base64 of a full line; the last, shorter ones may be a checksum, which is optional.
            if header::content(lines[at]).len() < 60 || lines[at].starts_with(b"-----") {
                continue;
            }
            let changed = [lines[..at].concat(), lines[at + 1..].concat()].concat();
            sealed(&changed).map_err(|why| format!("without line {at}: {why}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_mail_that_ends_early_is_noticed() {
    check_all(&flippable(), |mail| {
        let (lines, range) = guarded(&mail.bytes);
        // The last line that counts may be short: an END line, the tail of the CMS.
        for at in range.start..range.end - 1 {
            sealed(&lines[..at].concat()).map_err(|why| format!("cut before line {at}: {why}"))?;
        }
        Ok(())
    });
}

/// Some readers take what follows such a line for the body: it may hold anything.
#[test]
fn encrypted_mail_with_text_in_its_header_is_sealed() {
    let mut mails = Vec::new();
    for mail in fixtures::mails("encrypted") {
        for (name, line) in [
            ("text", &b"a line of prose\n"[..]),
            ("a lone CR", b"X-A: b\rprose\n"),
            ("blanks", b"X-A: b\n \n prose\n"),
        ] {
            let from_line = mail.bytes.starts_with(b"From ");
            let at =
                if from_line { mail.bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1 } else { 0 };
            let bytes = [&mail.bytes[..at], line, &mail.bytes[at..]].concat();
            mails.push(Mail { name: format!("{} with {name}", mail.name), bytes });
        }
    }
    check_all(&mails, |mail| {
        let run = filter(&key(CERT), &[], &mail.bytes);
        let prose = run.stdout.windows(5).any(|window| window == b"prose");
        (run.status == Some(0) && !prose)
            .then_some(())
            .ok_or(format!("exit {:?}, prose outside: {prose}", run.status))
    });
}
