//! Whether a message is encrypted already, and how: proven by its structure, never claimed by a field.
//!
//! Only a form that hides the whole entity counts: next to nothing readable beside the ciphertext, which begins with the
//! packets of an encrypted message and looks like random octets (`noise`). Signed is not encrypted, and whatever is
//! unclear, unusual or broken is taken for clear: sealing it is always safe. Nobody can prove that bytes are ciphertext.
//!
//! One rule makes everybody agree who sees more or less of a message: what is refuted by its beginning stays refuted,
//! whatever follows. README states how many bytes a sender can leave readable; `tests/readable.rs` computes it.

mod armor;
mod cms;
pub(crate) mod mime;
pub mod noise;
pub mod packets;
#[cfg(test)]
mod samples;
mod session_keys;

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
}
