//! Whether a message is encrypted already, and how: proven by its structure, never claimed by a field.
//!
//! Only a form that hides the whole entity counts: next to nothing readable beside the ciphertext, which begins with the
//! packets of an encrypted message and looks like random octets (`noise`). Signed is not encrypted, and whatever is
//! unclear, unusual or broken is taken for clear: sealing it is always safe. Nobody can prove that bytes are ciphertext.
//!
//! One rule makes everybody agree who sees more or less of a message: what is refuted by its beginning stays refuted,
//! whatever follows. docs/limits.md states how many bytes a sender can leave readable; `tests/programs/readable` computes it.

pub(crate) mod armor;
mod cms;
pub(crate) mod mime;
pub mod noise;
pub mod packets;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod session_keys;

use std::borrow::Cow;

use crate::limits;
use crate::message::head::Head;

use self::mime::{ContentType, Encoding, Part, Parts};

/// How a message is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypted {
    /// RFC 3156, section 4.
    PgpMime,
    /// The whole body is one armored message.
    PgpInline,
    /// PGP/MIME as Exchange breaks it: the two parts in a `multipart/mixed`, after an empty text.
    ExchangePgp,
    /// S/MIME enveloped-data or authEnveloped-data (RFC 8551, section 3.3).
    Smime,
}

impl Encrypted {
    /// A short name, for a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PgpMime => "pgp-mime",
            Self::PgpInline => "pgp-inline",
            Self::ExchangePgp => "exchange-pgp",
            Self::Smime => "smime",
        }
    }
}

/// Why a message is not proven to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ends too early to tell. Where it is the beginning of a longer one, the rest may prove it.
    Cut,
    /// Something in it contradicts it, whatever may follow.
    Refuted,
}

/// `Ok` where it `holds`.
fn demand(holds: bool) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Refuted) }
}

/// How the message with this `head` and `body` is encrypted; `None` when it is to be sealed. `whole` tells that `body`
/// is not only the beginning of the body.
#[must_use]
pub fn classify(head: Head<'_>, body: &[u8], whole: bool) -> Option<Encrypted> {
    judge(head, body, whole).ok()
}

/// The same, with the reason. Only [`Stop::Refuted`] is final where the message is not `whole`.
///
/// # Errors
/// The reason why it is not proven to be encrypted.
pub fn judge(head: Head<'_>, body: &[u8], whole: bool) -> Result<Encrypted, Stop> {
    // Some readers take what is in a tail for the body: nothing of a body may stand there.
    demand(head.split().1.is_repeated_whole())?;
    judge_structure(head, body, whole)
}

/// The same for the way back, whatever text there is in the header: version 0.1 left it outside.
///
/// # Errors
/// As [`judge`].
pub fn judge_structure(head: Head<'_>, body: &[u8], whole: bool) -> Result<Encrypted, Stop> {
    // A cut in what ends the ciphertext could be taken for text there: of a beginning, only what must lie before that.
    let body = if whole { body } else { &body[..body.len().saturating_sub(limits::ENDING)] };
    judge_to_the_end(head, body, whole)
}

fn judge_to_the_end(head: Head<'_>, body: &[u8], whole: bool) -> Result<Encrypted, Stop> {
    let root = Part::root(head, body, whole).ok_or(Stop::Refuted)?;
    let (how, proof) = match &root.content_type {
        Some(it) if it.is("multipart/encrypted") => (Encrypted::PgpMime, prove_pgp_mime(&root, it)),
        Some(it) if it.is("multipart/mixed") => (Encrypted::ExchangePgp, prove_exchange_pgp(&root, it)),
        Some(it) if !it.is("text/plain") => (Encrypted::Smime, prove_smime(&root, it)),
        _ => (Encrypted::PgpInline, prove_inline(&root)),
    };
    match proof {
        Err(Stop::Cut) if whole => Err(Stop::Refuted),
        proof => proof.map(|()| how),
    }
}

fn prove_pgp_mime(root: &Part<'_>, content_type: &ContentType) -> Result<(), Stop> {
    let protocol = content_type.attribute("protocol");
    demand(protocol.is_some_and(|it| it.eq_ignore_ascii_case("application/pgp-encrypted")))?;
    prove_parts(&root.parts(content_type)?, &[prove_control, prove_data])
}

fn prove_exchange_pgp(root: &Part<'_>, content_type: &ContentType) -> Result<(), Stop> {
    let parts = root.parts(content_type)?;
    if parts.found.first().is_some_and(|first| first.is("text/plain")) {
        prove_parts(&parts, &[prove_blank, prove_control, prove_data])
    } else {
        prove_parts(&parts, &[prove_control, prove_data])
    }
}

/// Proves that a part is what it should be.
type Proof = fn(&Part<'_>) -> Result<(), Stop>;

/// Proves each part to be what it should be, and that there are no others.
fn prove_parts(parts: &Parts<'_>, proofs: &[Proof]) -> Result<(), Stop> {
    demand(parts.found.len() <= proofs.len())?;
    parts.found.iter().zip(proofs).try_for_each(|(part, prove)| prove(part))?;
    match parts.found.len() == proofs.len() {
        true => Ok(()),
        false if parts.complete => Err(Stop::Refuted),
        false => Err(Stop::Cut),
    }
}

/// The empty text that Exchange puts in front.
fn prove_blank(part: &Part<'_>) -> Result<(), Stop> {
    demand(part.is("text/plain") && part.decoded().is_some_and(|text| text.trim_ascii().is_empty()))
}

/// The control part of RFC 3156.
fn prove_control(part: &Part<'_>) -> Result<(), Stop> {
    demand(part.is("application/pgp-encrypted"))?;
    let says = |text: &[u8]| text.trim_ascii().eq_ignore_ascii_case(b"Version: 1");
    if part.whole { demand(part.decoded().is_some_and(|text| says(&text))) } else { Err(Stop::Cut) }
}

/// The encrypted part of RFC 3156.
fn prove_data(part: &Part<'_>) -> Result<(), Stop> {
    demand(part.is("application/octet-stream"))?;
    prove_pgp_message(part.decoded().ok_or(Stop::Refuted)?, part.whole)
}

fn prove_inline(root: &Part<'_>) -> Result<(), Stop> {
    demand(root.encoding == Encoding::Identity)?;
    prove_pgp_message(root.body.into(), root.whole)
}

/// Proves `text` to be one armored encrypted message and nothing else.
fn prove_pgp_message(text: Cow<'_, [u8]>, whole: bool) -> Result<(), Stop> {
    let armored = armor::decode(&text, whole)?;
    // Before the judge takes memory of its own.
    drop(text);
    packets::prove(&armored.data, armored.ended)
}

fn prove_smime(root: &Part<'_>, content_type: &ContentType) -> Result<(), Stop> {
    demand(claims_smime(root.head, content_type))?;
    cms::prove(&root.decoded().ok_or(Stop::Refuted)?, root.whole)
}

/// Whether a part with this `head` and `content_type` says that it is S/MIME's `application/pkcs7-mime`: encrypted,
/// signed or something else.
pub(crate) fn claims_smime(head: Head<'_>, content_type: &ContentType) -> bool {
    let by_name = || {
        let disposition = head.only("Content-Disposition").and_then(ContentType::parse);
        [content_type.attribute("name"), disposition.as_ref().and_then(|it| it.attribute("filename"))]
            .into_iter()
            .flatten()
            .any(|name| name.to_ascii_lowercase().ends_with(".p7m"))
    };
    content_type.is("application/pkcs7-mime")
        || content_type.is("application/x-pkcs7-mime")
        || content_type.is("application/octet-stream") && by_name()
}

/// Whether a preamble is short enough to hide nothing: Thunderbird writes a line for readers without OpenPGP.
fn is_harmless_preamble(preamble: &[u8]) -> bool {
    preamble.len() <= limits::PREAMBLE
        && preamble.trim_ascii_end().split(|&byte| byte == b'\n').count() <= limits::PREAMBLE_LINES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is refuted by a beginning is refuted by the whole; what is proven by a beginning may still be refuted.
    #[test]
    fn beginnings_contradict_no_whole() {
        for folder in ["encrypted", "forged"] {
            let folder = format!("{}/../../fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let message = std::fs::read(&path).unwrap();
                let Some((fields_end, start)) = Head::find_end(&message, 0) else { continue };
                let head = Head::new(&message[..fields_end], &message[fields_end..start]);
                let whole = judge_to_the_end(head, &message[start..], true);
                for end in (start..=message.len()).step_by(5) {
                    match (judge_to_the_end(head, &message[start..end], false), whole) {
                        (Err(Stop::Refuted), Ok(how)) => panic!("{}: {how:?}, not at {end}", path.display()),
                        (Ok(how), Ok(whole)) => assert_eq!(how, whole, "{} at {end}", path.display()),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Every message of a folder of the fixtures: its name, and what it is taken for.
    fn judged(folder: &str) -> Vec<(String, Option<Encrypted>)> {
        let folder = format!("{}/../../fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let messages = paths.filter(|path| path.extension().is_some_and(|end| end == "eml"));
        let judged = messages.filter_map(|path| {
            let message = std::fs::read(&path).unwrap();
            let (fields_end, start) = Head::find_end(&message, 0)?;
            let head = Head::new(&message[..fields_end], &message[fields_end..start]);
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Some((name, classify(head, &message[start..], true)))
        });
        judged.collect()
    }

    #[test]
    fn what_programs_encrypt_is_known_and_what_looks_like_it_is_not() {
        let encrypted = judged("encrypted");
        for (name, found) in &encrypted {
            let expected = match name.split('-').next() {
                Some("inline") => Encrypted::PgpInline,
                Some("exchange") => Encrypted::ExchangePgp,
                Some("smime") => Encrypted::Smime,
                _ => Encrypted::PgpMime,
            };
            assert_eq!(*found, Some(expected), "{name}");
        }
        let forged = judged("forged");
        for (name, found) in &forged {
            assert_eq!(*found, None, "{name}");
        }
        assert!(encrypted.len() > 50 && forged.len() > 100);
    }

    fn armored(octets: &[u8]) -> String {
        let lines = base64_simd::STANDARD.encode_to_string(octets);
        let lines = lines.as_bytes().chunks(64).map(|line| format!("{}\n", str::from_utf8(line).unwrap()));
        format!("-----BEGIN PGP MESSAGE-----\n\n{}-----END PGP MESSAGE-----\n", lines.collect::<String>())
    }

    /// A session key of no form that is known, and random octets.
    fn packets(length: usize) -> Vec<u8> {
        let length = length as u32;
        [
            &[0xc1, 2, 3, 0, 0xd2, 255][..],
            &(length + 1).to_be_bytes(),
            &[1],
            &samples::noise(length as usize, 1),
        ]
        .concat()
    }

    fn pgp_mime(subtype: &str, parts: &[(&str, &str)]) -> (String, String) {
        let fields = format!(
            "Content-Type: multipart/{subtype}; protocol=\"application/pgp-encrypted\"; boundary=b\n"
        );
        let parts = parts.iter().map(|(kind, body)| format!("--b\nContent-Type: {kind}\n\n{body}\n"));
        (fields, format!("{}--b--\n", parts.collect::<String>()))
    }

    fn found(fields: &str, body: &str, whole: bool) -> Result<Encrypted, Stop> {
        judge(Head::new(fields.as_bytes(), b"\n"), body.as_bytes(), whole)
    }

    #[test]
    fn each_part_is_proven() {
        const CONTROL: (&str, &str) = ("application/pgp-encrypted", "Version: 1\n");
        const OCTETS: &str = "application/octet-stream";
        let armor = armored(&packets(600));
        let (data, blank) = ((OCTETS, &*armor), ("text/plain", " \n"));
        let judged = |subtype: &str, parts: &[(&str, &str)]| {
            let (fields, body) = pgp_mime(subtype, parts);
            found(&fields, &body, true)
        };
        for (subtype, parts, expected) in [
            ("encrypted", &[CONTROL, data][..], Some(Encrypted::PgpMime)),
            ("encrypted", &[("Application/PGP-encrypted", "version: 1"), data], Some(Encrypted::PgpMime)),
            ("mixed", &[CONTROL, data], Some(Encrypted::ExchangePgp)),
            ("mixed", &[blank, CONTROL, data], Some(Encrypted::ExchangePgp)),
            ("encrypted", &[blank, CONTROL, data], None),
            ("encrypted", &[CONTROL], None),
            ("encrypted", &[data, CONTROL], None),
            ("encrypted", &[CONTROL, data, data], None),
            ("encrypted", &[(CONTROL.0, "Version: 2\n"), data], None),
            ("encrypted", &[("text/plain", CONTROL.1), data], None),
            ("encrypted", &[CONTROL, ("text/plain", &armor)], None),
            ("encrypted", &[CONTROL, (OCTETS, "text")], None),
            ("encrypted", &[CONTROL, (OCTETS, "")], None),
            ("mixed", &[("text/plain", "x"), CONTROL, data], None),
            ("mixed", &[("text/html", ""), CONTROL, data], None),
            ("mixed", &[blank, CONTROL], None),
            ("signed", &[CONTROL, data], None),
        ] {
            assert_eq!(judged(subtype, parts).ok(), expected, "{subtype} {parts:?}");
        }
        let (fields, body) = pgp_mime("encrypted", &[CONTROL, data]);
        for (from, to) in [("protocol", "protokoll"), ("application/pgp", "application/pgb")] {
            assert_eq!(found(&fields.replace(from, to), &body, true), Err(Stop::Refuted), "{to}");
        }
        let tail = format!("{fields}junk\n");
        assert_eq!(found(&tail, &body, true), Err(Stop::Refuted), "a text in the header");
        let head = Head::new(tail.as_bytes(), b"\n");
        assert_eq!(judge_structure(head, body.as_bytes(), true), Ok(Encrypted::PgpMime));
    }

    #[test]
    fn a_body_is_one_armored_message() {
        let armor = armored(&packets(6000));
        for (fields, expected) in [
            ("A: b\n", Some(Encrypted::PgpInline)),
            ("Content-Type: text/plain\n", Some(Encrypted::PgpInline)),
            ("Content-Type: text/html\n", None),
            ("Content-Transfer-Encoding: 8bit\n", Some(Encrypted::PgpInline)),
            ("Content-Transfer-Encoding: quoted-printable\n", None),
            ("Content-Transfer-Encoding: base64\n", None),
        ] {
            assert_eq!(found(fields, &armor, true).ok(), expected, "{fields}");
        }
        assert_eq!(found("", &format!("text\n{armor}"), true), Err(Stop::Refuted));
        assert_eq!(found("", "", true), Err(Stop::Refuted));
        // Of a beginning, what may be the end of the ciphertext is not looked at.
        for (length, expected) in
            [(0, Err(Stop::Cut)), (5000, Err(Stop::Cut)), (armor.len(), Ok(Encrypted::PgpInline))]
        {
            let long = armored(&packets(9000));
            let seen = if length == armor.len() { &long } else { &armor[..length] };
            assert_eq!(found("", seen, false), expected, "{length}");
        }
        let blanks = " ".repeat(limits::ENDING);
        assert_eq!(found("", &format!("{armor}text{blanks}"), false), Err(Stop::Refuted));
        assert_eq!(found("", &format!("{armor}{blanks}text"), false), Ok(Encrypted::PgpInline));
        let head = Head::new(b"", b"\n");
        assert_eq!(classify(head, armor.as_bytes(), true), Some(Encrypted::PgpInline));
        assert_eq!(classify(head, b"text", true), None);
    }

    #[test]
    fn smime_is_claimed_by_type_or_by_name() {
        for (fields, claims) in [
            ("Content-Type: application/pkcs7-mime\n", true),
            ("Content-Type: application/x-pkcs7-mime\n", true),
            ("Content-Type: application/octet-stream; name=smime.p7m\n", true),
            ("Content-Type: application/octet-stream; name=SMIME.P7M\n", true),
            (
                "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=a.p7m\n",
                true,
            ),
            ("Content-Type: application/octet-stream\n", false),
            ("Content-Type: application/octet-stream; name=a.p7s\n", false),
            ("Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=a\n", false),
            ("Content-Type: application/pkcs7-signature; name=smime.p7m\n", false),
            ("Content-Type: text/html; name=smime.p7m\n", false),
        ] {
            let head = Head::new(fields.as_bytes(), b"\n");
            let content_type = head.only("Content-Type").and_then(ContentType::parse).unwrap();
            assert_eq!(claims_smime(head, &content_type), claims, "{fields}");
        }
    }

    #[test]
    fn a_preamble_has_a_bounded_length_and_few_lines() {
        for (preamble, harmless) in [
            (String::new(), true),
            ("a\nb\n".into(), true),
            ("a\nb\n\n \n".into(), true),
            ("a\nb\nc".into(), false),
            ("x".repeat(limits::PREAMBLE), true),
            ("x".repeat(limits::PREAMBLE + 1), false),
        ] {
            assert_eq!(is_harmless_preamble(preamble.as_bytes()), harmless, "{preamble:?}");
        }
    }

    #[test]
    fn each_kind_has_a_name() {
        use Encrypted::{ExchangePgp, PgpInline, PgpMime, Smime};

        let names = [PgpMime, PgpInline, ExchangePgp, Smime].map(Encrypted::name);
        assert_eq!(names, ["pgp-mime", "pgp-inline", "exchange-pgp", "smime"]);
    }
}
