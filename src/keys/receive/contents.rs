//! What a message holds that is about its owner's certificate: the certificates themselves, codes, and words.
//!
//! The message is anybody's: it is only looked through, and nothing in it is believed. What lies in a message that is
//! attached to it is somebody else's, and is not taken.

use data_encoding::BASE64;
use mail_parser::decoders::html::html_to_text;
use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use memchr::memmem;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use crate::keys::code;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::safe_file;
use crate::limits;

/// The field by which answers are recognised.
pub const ANSWER: &str = "Mailseal-Answer";

/// What stands before each code.
pub const CODE: &str = "code-";

/// Characters of a code: 130 bits.
pub const CODE_LENGTH: usize = 26;

/// Most codes that are looked at in one message.
const CODES: usize = 20;

/// Fields that a message has which was delivered.
const DELIVERED: [&str; 3] = ["Received", "Return-Path", "Delivered-To"];

/// How deep messages in messages are looked through for secret keys.
const DEPTH: usize = 8;

/// Longest line with which an armor begins, in bytes.
const ARMOR_LINE: usize = 80;

const PUBLIC: (&str, &str) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");

/// What a user asks for with one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// That nothing be enrolled, or that mail be no longer sealed.
    Stop,
    /// That certificates which are there stay beside the new one.
    Add,
}

/// What was found in a message.
#[derive(Debug, Default)]
pub struct Contents {
    /// The certificates, copies of one made one.
    pub certs: Vec<AnyCert>,
    /// Whether there are more than [`limits::RECEIVED_CERTIFICATES`].
    pub too_many: bool,
    /// Whether a secret key is in it.
    pub has_secret: bool,
    /// Whether something looks like a certificate and cannot be read.
    pub broken: bool,
    /// Whether a certificate is only named, by a link.
    pub is_link: bool,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Whether it was delivered as mail, so that anybody may have written it.
    pub was_delivered: bool,
    /// The codes in it, without what stands before them.
    pub codes: Vec<String>,
    /// The word.
    pub word: Option<Word>,
    /// Its Message-ID, without the angle brackets.
    pub message_id: Option<String>,
    /// Its Subject.
    pub subject: String,
}

impl Contents {
    /// Looks through a message.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let mut found = Self::default();
        if nested(message) > limits::RECEIVED_MESSAGES {
            return Self { was_delivered: true, ..found };
        }
        let Some(parsed) = MessageParser::default().parse(message) else { return found };
        let has = |name: &&str| parsed.headers_raw().any(|(field, _)| field.eq_ignore_ascii_case(name));
        found.was_delivered = DELIVERED.iter().any(has);
        found.message_id = parsed.message_id().map(str::to_owned);
        found.subject = parsed.subject().unwrap_or_default().to_owned();
        found.word = word(subject_core(&found.subject));
        let subject = found.subject.clone();
        found.take_codes(&subject);
        let autocrypt: Vec<String> = parsed
            .headers_raw()
            .filter(|(field, _)| field.eq_ignore_ascii_case("Autocrypt"))
            .map(|(_, value)| value.to_owned())
            .collect();
        autocrypt.iter().for_each(|value| found.take_autocrypt(value));
        parsed.parts.iter().for_each(|part| found.look_at(part));
        found.has_secret |= holds_secret(&parsed, 0);
        found
    }

    fn look_at(&mut self, part: &MessagePart<'_>) {
        self.is_encrypted |= part.is_content_type("multipart", "encrypted");
        match &part.body {
            PartType::Text(text) if is_vcard(part) => self.take_vcard(text),
            PartType::Text(text) => self.take_text(text),
            PartType::Html(html) => {
                self.take_text(&html_to_text(html));
                // Armor is lines, and the text of a page is not.
                self.take_armors(&lines_of(html));
            }
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                let named = part.attachment_name().map(std::path::Path::new);
                if is_vcard(part) {
                    self.take_vcard(&String::from_utf8_lossy(bytes));
                } else if part.is_content_type("application", "pgp-keys")
                    || named.is_some_and(safe_file::is_named_as_key)
                {
                    self.take_key(bytes);
                } else if let Ok(text) = std::str::from_utf8(bytes) {
                    self.take_armors(text);
                }
            }
            PartType::Message(_) | PartType::Multipart(_) => {}
        }
    }

    fn take_text(&mut self, text: &str) {
        self.is_encrypted |= text.contains("-----BEGIN PGP MESSAGE-----");
        self.take_codes(text);
        self.take_armors(text);
        let mut own = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('>'));
        self.word = self.word.or_else(|| word(own.next()?));
    }

    fn take_codes(&mut self, text: &str) {
        let text = text.to_ascii_lowercase();
        for (at, _) in text.match_indices(CODE) {
            let rest = &text.as_bytes()[at + CODE.len()..];
            let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let found = &rest[..length];
            if length != CODE_LENGTH || !found.iter().all(|byte| code::ALPHABET.contains(byte)) {
                continue;
            }
            let found: String = found.iter().copied().map(char::from).collect();
            if self.codes.len() < CODES && !self.codes.contains(&found) {
                self.codes.push(found);
            }
        }
    }

    /// The certificates that stand in a text, armored.
    fn take_armors(&mut self, text: &str) {
        for (number, (at, _)) in text.match_indices(PUBLIC.0).enumerate() {
            // Each may reach to the end of the text.
            if number >= limits::RECEIVED_CERTIFICATES {
                self.too_many = true;
                return;
            }
            match text[at..].find(PUBLIC.1) {
                Some(end) => self.take_packets(&text.as_bytes()[at..at + end + PUBLIC.1.len()]),
                None => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// A file that is to hold certificates.
    fn take_key(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains(PUBLIC.0) => self.take_armors(text),
            // A signature, or a message: `signature.asc`.
            Ok(text) if text.contains("-----BEGIN ") => {}
            _ => self.take_packets(bytes),
        }
    }

    fn take_packets(&mut self, bytes: &[u8]) {
        if bytes.len() > limits::RECEIVED_KEY || self.too_many {
            self.too_many = true;
            return;
        }
        let Ok(certs) = CertParser::from_bytes(bytes) else {
            self.broken = true;
            return;
        };
        for cert in certs {
            if self.certs.len() >= limits::RECEIVED_CERTIFICATES {
                self.too_many = true;
                return;
            }
            match cert {
                Ok(cert) if cert.is_tsk() => self.has_secret = true,
                Ok(cert) => any_cert::merge(&mut self.certs, [cert.into()]),
                Err(_) => self.broken = true,
            }
        }
    }

    /// `addr=alice@example.org; prefer-encrypt=mutual; keydata=BASE64` (Autocrypt 1.1, section 2.1).
    fn take_autocrypt(&mut self, value: &str) {
        let mut attributes = value.split(';').filter_map(|attribute| attribute.split_once('='));
        if let Some((_, data)) = attributes.find(|(name, _)| name.trim().eq_ignore_ascii_case("keydata")) {
            match base64(data) {
                Some(bytes) => self.take_packets(&bytes),
                None => self.broken = true,
            }
        }
    }

    /// `KEY:data:application/pgp-keys;base64,…` (RFC 6350, section 6.8.1), `KEY;ENCODING=b:…` (RFC 2426).
    fn take_vcard(&mut self, text: &str) {
        let unfolded = text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
        for line in unfolded.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let property = name.split(';').next().unwrap_or_default();
            if !property.rsplit('.').next().is_some_and(|it| it.eq_ignore_ascii_case("KEY")) {
                continue;
            }
            let data = match value.split_once("base64,") {
                Some((_, data)) => data,
                None if value.contains("://") => {
                    self.is_link = true;
                    continue;
                }
                None => value,
            };
            match base64(data) {
                Some(bytes) => self.take_key(&bytes),
                None => self.broken = true,
            }
        }
    }
}

/// Whether a message is an answer of ours, or claims to be.
#[must_use]
pub fn is_answer(message: &[u8]) -> bool {
    let mut lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let is_field = |line: &[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii_end().eq_ignore_ascii_case(ANSWER.as_bytes())
    };
    lines.by_ref().take_while(|line| !line.is_empty()).any(is_field)
}

/// How many messages may lie in a message: the parser works through them one in the other.
fn nested(message: &[u8]) -> usize {
    let lower = message.to_ascii_lowercase();
    memmem::find_iter(&lower, "message/").count() + memmem::find_iter(&lower, "digest").count()
}

/// Whether a secret key is in a message, or in one that is attached to it.
fn holds_secret(message: &Message<'_>, depth: usize) -> bool {
    message.parts.iter().any(|part| match &part.body {
        PartType::Text(text) | PartType::Html(text) => is_secret(text.as_bytes()),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
            let is_pkcs12 = part.is_content_type("application", "x-pkcs12")
                || part.is_content_type("application", "pkcs12");
            is_pkcs12 || is_secret(bytes) || is_secret_packet(bytes)
        }
        PartType::Message(inner) => depth < DEPTH && holds_secret(inner, depth + 1),
        PartType::Multipart(_) => false,
    })
}

/// Whether a secret key stands in a text: OpenPGP's, or any other in PEM.
fn is_secret(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, "-----BEGIN ").any(|at| {
        let begin = &bytes[at..bytes.len().min(at + ARMOR_LINE)];
        let line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
        memmem::find(line, b"PRIVATE KEY").is_some()
    })
}

/// Whether packets begin with a secret key.
fn is_secret_packet(bytes: &[u8]) -> bool {
    // Tags 5 and 7 (RFC 9580, section 4.2), in both formats.
    let tag = match bytes.first() {
        Some(first) if first & 0xc0 == 0xc0 => first & 0x3f,
        Some(first) if first & 0x80 != 0 => (first >> 2) & 0x0f,
        _ => return false,
    };
    [5, 7].contains(&tag)
        && CertParser::from_bytes(bytes)
            .is_ok_and(|certs| certs.take(limits::RECEIVED_CERTIFICATES).flatten().any(|cert| cert.is_tsk()))
}

fn is_vcard(part: &MessagePart<'_>) -> bool {
    let named = part.attachment_name().is_some_and(|name| name.to_ascii_lowercase().ends_with(".vcf"));
    named || ["vcard", "x-vcard", "directory"].iter().any(|it| part.is_content_type("text", it))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| !bytes.is_empty())
}

fn word(text: &str) -> Option<Word> {
    match text.trim().trim_end_matches(['.', '!']).to_ascii_lowercase().as_str() {
        "stop" => Some(Word::Stop),
        "add" => Some(Word::Add),
        _ => None,
    }
}

/// A Subject without the marks of answers: `Re:`, `AW:`, `Fwd:`.
fn subject_core(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some((mark, behind)) = rest.split_once(':') {
        if mark.is_empty() || mark.len() > 4 || !mark.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            break;
        }
        rest = behind.trim();
    }
    rest
}

/// A page's text with its line breaks: enough for armor.
fn lines_of(html: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(html.len()), html);
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, behind) = tag.split_once('>').unwrap_or((tag, ""));
        let name = tag.trim_start_matches('/').to_ascii_lowercase();
        if ["br", "p", "div", "pre", "tr"].iter().any(|it| name.starts_with(it)) {
            text.push('\n');
        }
        rest = behind;
    }
    text.push_str(rest);
    text.replace("&nbsp;", " ").replace("&#43;", "+").replace("&#61;", "=").replace("&#47;", "/")
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp::Cert;
    use sequoia_openpgp::armor::{Kind, Writer};
    use sequoia_openpgp::serialize::SerializeInto as _;
    use std::io::Write as _;
    use testing::made;

    use super::*;

    fn armored(cert: &Cert) -> String {
        let mut writer = Writer::new(Vec::new(), Kind::PublicKey).unwrap();
        writer.write_all(&made::public(cert)).unwrap();
        String::from_utf8(writer.finalize().unwrap()).unwrap()
    }

    fn fingerprints(message: &str) -> Vec<String> {
        let found = Contents::of(message.as_bytes());
        assert!(!found.has_secret && !found.broken && !found.too_many, "{message}: {found:?}");
        found.certs.iter().map(AnyCert::fingerprint).collect()
    }

    #[test]
    fn certificates_are_found_wherever_mail_programs_put_them() {
        let alice = made::cert("Alice <alice@example.org>");
        let (armor, binary) = (armored(&alice), BASE64.encode(&made::public(&alice)));
        let folded: String =
            binary.as_bytes().chunks(70).map(|it| format!(" {}\r\n", String::from_utf8_lossy(it))).collect();
        let html = armor.replace('\n', "<br>").replace('+', "&#43;");
        let quoted = armor.replace('=', "=3D");
        for message in [
            format!("Subject: x\r\n\r\nHello\r\n{armor}\r\nbye\r\n"),
            format!(
                "Autocrypt: addr=alice@example.org; prefer-encrypt=mutual; keydata=\r\n{folded}Subject: x\r\n\r\nHi\r\n"
            ),
            format!("Content-Type: application/pgp-keys; name=\"k.asc\"\r\n\r\n{armor}"),
            format!(
                "Content-Type: application/pgp-keys\r\nContent-Transfer-Encoding: base64\r\n\r\n{binary}\r\n"
            ),
            format!(
                "Content-Type: application/octet-stream; name=\"k.gpg\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{binary}\r\n"
            ),
            format!(
                "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{quoted}"
            ),
            format!("Content-Type: text/html\r\n\r\n<html><body><p>Hi</p><div>{html}</div></body></html>"),
            format!("Content-Type: text/html\r\n\r\n<pre>{armor}</pre>"),
            format!(
                "Content-Type: text/vcard\r\n\r\nBEGIN:VCARD\r\nVERSION:4.0\r\nKEY:data:application/pgp-keys;base64,\r\n{folded}END:VCARD\r\n"
            ),
            format!(
                "Content-Type: text/x-vcard; name=a.vcf\r\n\r\nBEGIN:VCARD\r\nitem1.KEY;TYPE=PGP;ENCODING=b:\r\n{folded}END:VCARD\r\n"
            ),
            format!(
                "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee attached\r\n\
                 --b\r\nContent-Type: application/pgp-keys\r\n\r\n{armor}\r\n--b\r\nContent-Type: application/pgp-keys\r\n\r\n{armor}\r\n--b--\r\n"
            ),
        ] {
            assert_eq!(fingerprints(&message), [made::fingerprint(&alice)], "{message}");
        }
        let forwarded = format!("Content-Type: message/rfc822\r\n\r\nSubject: mine\r\n\r\n{armor}");
        assert_eq!(fingerprints(&forwarded), [""; 0], "it is somebody else's");
    }

    #[test]
    fn secret_keys_are_seen_and_never_taken() {
        let alice = made::cert("Alice");
        let secret = alice.as_tsk().to_vec().unwrap();
        let mut writer = Writer::new(Vec::new(), Kind::SecretKey).unwrap();
        writer.write_all(&secret).unwrap();
        let armor = String::from_utf8(writer.finalize().unwrap()).unwrap();
        let binary = BASE64.encode(&secret);
        for message in [
            format!("Subject: x\r\n\r\n{armor}"),
            format!("Content-Type: application/pgp-keys\r\n\r\n{armor}"),
            format!(
                "Content-Type: application/pgp-keys\r\nContent-Transfer-Encoding: base64\r\n\r\n{binary}\r\n"
            ),
            format!(
                "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n{binary}\r\n"
            ),
            format!("Content-Type: message/rfc822\r\n\r\nSubject: mine\r\n\r\n{armor}"),
            format!("Autocrypt: addr=a; keydata={binary}\r\n\r\nHi\r\n"),
            format!("Subject: x\r\n\r\n{}{armor}", armored(&alice)),
            "Subject: x\r\n\r\n-----BEGIN RSA PRIVATE KEY-----\r\n".into(),
            "Content-Type: application/x-pkcs12\r\n\r\nx\r\n".into(),
        ] {
            let found = Contents::of(message.as_bytes());
            assert!(found.has_secret, "{message}");
            assert!(found.certs.iter().filter_map(AnyCert::openpgp).all(|cert| !cert.is_tsk()), "{message}");
        }
        assert!(!Contents::of(b"Subject: PRIVATE KEY\r\n\r\nmy PRIVATE KEY is secret\r\n").has_secret);
    }

    #[test]
    fn codes_and_words_are_found_in_what_people_write() {
        let code: String = code::ALPHABET[..CODE_LENGTH].iter().copied().map(char::from).collect();
        for text in [
            format!("Subject: code-{code}\r\n\r\n"),
            format!("Subject: Re: x\r\n\r\n> code-{code}\r\n"),
            format!("Subject: x\r\n\r\n(Code-{})\r\n", code.to_uppercase()),
            format!("Subject: x\r\nContent-Type: text/html\r\n\r\n<p>it is <b>code-{code}</b></p>\r\n"),
        ] {
            assert_eq!(Contents::of(text.as_bytes()).codes, std::slice::from_ref(&code), "{text}");
        }
        for text in ["code-short", "code-", &format!("code-{code}y"), &format!("code-{}v", &code[1..])] {
            assert!(
                Contents::of(format!("Subject: x\r\n\r\n{text}\r\n").as_bytes()).codes.is_empty(),
                "{text}"
            );
        }
        for (text, expected) in [
            ("Subject: stop\r\n\r\n", Some(Word::Stop)),
            ("Subject: Re: AW: Stop!\r\n\r\n", Some(Word::Stop)),
            ("Subject: Re: your key\r\n\r\n> Add\r\n\r\nSTOP\r\n> more\r\n", Some(Word::Stop)),
            ("Subject: add\r\n\r\n", Some(Word::Add)),
            ("Subject: non-stop\r\n\r\nPlease do not stop.\r\n", None),
            ("Subject: x\r\n\r\n> stop\r\n", None),
        ] {
            assert_eq!(Contents::of(text.as_bytes()).word, expected, "{text}");
        }
    }

    /// Somebody sends it, and a filter moves it.
    #[test]
    fn no_message_takes_long_to_look_through() {
        let alice = made::cert("Alice");
        let armor = armored(&alice);
        let begin = std::time::Instant::now();
        for piece in [
            PUBLIC.0,
            &format!("{}\n\nmQ\n", PUBLIC.0),
            &armor,
            "code-",
            "code-y",
            "<",
            "<p",
            "KEY:data:;base64,\r\n ",
            ">",
        ] {
            for kind in ["text/plain", "text/html", "text/vcard", "application/pgp-keys"] {
                let mut message = format!("Content-Type: {kind}\r\n\r\n");
                while message.len() < limits::RECEIVED {
                    message += piece;
                }
                message += PUBLIC.1;
                let found = Contents::of(message.as_bytes());
                assert!(found.certs.len() <= 1, "{kind} {piece}");
            }
        }
        let mut nested = String::new();
        while nested.len() < limits::RECEIVED {
            nested += "Content-Type: message/rfc822\r\n\r\n";
        }
        assert!(Contents::of(nested.as_bytes()).certs.is_empty());
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }

    #[test]
    fn delivered_mail_answers_and_encrypted_mail_are_told_apart() {
        let of = |text: &str| Contents::of(text.as_bytes());
        assert!(!of("Subject: x\r\n\r\nReceived: x\r\n").was_delivered);
        assert!(of("Received: from x\r\nSubject: x\r\n\r\n").was_delivered);
        assert!(of("delivered-to: x\r\nSubject: x\r\n\r\n").was_delivered);
        assert!(is_answer(b"Subject: x\r\nMAILSEAL-ANSWER: v1\r\n\r\n"));
        assert!(!is_answer(b"Subject: Mailseal-Answer: x\r\n\r\nMailseal-Answer: v1\r\n"));
        assert!(of("Subject: x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n").is_encrypted);
        assert!(of("Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n").is_encrypted);
        assert!(of("Subject: x\r\n\r\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n").broken);
        assert!(of("Content-Type: text/vcard\r\n\r\nKEY:https://example.org/k.asc\r\n").is_link);
        for odd in [&b""[..], b"\0\0\0", b"\r\n\r\n", b"Subject"] {
            assert!(Contents::of(odd).certs.is_empty());
        }
    }
}
