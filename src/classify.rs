//! Whether a message is encrypted already, and how: proven by its structure, never claimed by a field.
//!
//! Only a form that hides the whole entity counts: nothing readable beside the ciphertext, and the ciphertext begins
//! with the packets of an encrypted message. Signed is not encrypted, and whatever is unclear, unusual or broken is
//! taken for clear: sealing it is always safe. Nobody can prove that bytes are ciphertext.

mod armor;
mod cms;
pub(crate) mod mime;
pub(crate) mod packets;

use crate::head::Head;
use crate::limits;

use self::mime::{ContentType, Encoding, Part};

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
    /// The name in the log line.
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

/// How the message with this `head` and `body` is encrypted; `None` when it is to be sealed. `whole` tells that `body`
/// is not only the beginning of the body.
#[must_use]
pub fn classify(head: Head<'_>, body: &[u8], whole: bool) -> Option<Encrypted> {
    // A cut in what ends the ciphertext could be taken for text there: of a beginning, only what must lie before that.
    let body = if whole { body } else { &body[..body.len().saturating_sub(limits::ENDING)] };
    let root = Part::root(head, body, whole)?;
    let Some(content_type) = &root.content_type else {
        return is_inline(&root).then_some(Encrypted::PgpInline);
    };
    if content_type.is("multipart/encrypted") {
        is_pgp_mime(&root, content_type).then_some(Encrypted::PgpMime)
    } else if content_type.is("multipart/mixed") {
        is_exchange_pgp(&root, content_type).then_some(Encrypted::ExchangePgp)
    } else if content_type.is("text/plain") {
        is_inline(&root).then_some(Encrypted::PgpInline)
    } else {
        is_smime(&root, content_type).then_some(Encrypted::Smime)
    }
}

fn is_pgp_mime(root: &Part<'_>, content_type: &ContentType) -> bool {
    content_type.attribute("protocol").is_some_and(|it| it.eq_ignore_ascii_case("application/pgp-encrypted"))
        && matches!(root.parts(content_type).as_deref(), Some([control, data]) if is_pgp_pair(control, data))
}

fn is_exchange_pgp(root: &Part<'_>, content_type: &ContentType) -> bool {
    match root.parts(content_type).as_deref() {
        Some([control, data]) => is_pgp_pair(control, data),
        Some([text, control, data]) => {
            text.is("text/plain")
                && text.decoded().is_some_and(|text| text.trim_ascii().is_empty())
                && is_pgp_pair(control, data)
        }
        _ => false,
    }
}

/// The control part and the encrypted part of RFC 3156.
fn is_pgp_pair(control: &Part<'_>, data: &Part<'_>) -> bool {
    control.is("application/pgp-encrypted")
        && control.decoded().is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"Version: 1"))
        && data.is("application/octet-stream")
        && data.decoded().is_some_and(|text| is_pgp_message(&text, data.whole))
}

fn is_inline(root: &Part<'_>) -> bool {
    root.encoding == Encoding::Identity && is_pgp_message(root.body, root.whole)
}

/// Whether `text` is one armored encrypted message and nothing else.
fn is_pgp_message(text: &[u8], whole: bool) -> bool {
    armor::decode(text, whole).is_some_and(|armored| packets::is_encrypted(&armored.data, armored.ended))
}

fn is_smime(root: &Part<'_>, content_type: &ContentType) -> bool {
    claims_smime(root.head, content_type)
        && root.decoded().is_some_and(|data| cms::is_enveloped(&data, root.whole))
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
