//! What a stored message must be, worked out from the mail that was sent: the tests' own reading of RFC 3156,
//! which shares no code with the product.

use super::gpg::Home;
use super::lmtp::with_crlf;

/// A message split where its header ends: fields with their continuation lines, and the body.
struct Split<'a> {
    fields: Vec<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> Split<'a> {
    fn new(mail: &'a [u8]) -> Self {
        let mut fields: Vec<&[u8]> = Vec::new();
        let mut start = 0;
        let mut end = 0;
        for line in mail.split_inclusive(|byte| *byte == b'\n') {
            if line == b"\r\n" {
                fields.extend((end > start).then(|| &mail[start..end]));
                return Self { fields, body: &mail[end + line.len()..] };
            }
            if !line.starts_with(b" ") && !line.starts_with(b"\t") && end > start {
                fields.push(&mail[start..end]);
                start = end;
            }
            end += line.len();
        }
        fields.extend((end > start).then(|| &mail[start..end]));
        Self { fields, body: b"" }
    }

    /// The fields whose name begins with `prefix`.
    fn named(&self, prefix: &str) -> Vec<&'a [u8]> {
        self.fields.iter().copied().filter(|field| is_named(field, prefix)).collect()
    }

    /// The fields that stay outside when a message is sealed.
    fn outer(&self) -> Vec<&'a [u8]> {
        let inner = |field: &[u8]| is_named(field, "content-") || is_named(field, "mime-version:");
        self.fields.iter().copied().filter(|field| !inner(field)).collect()
    }
}

fn is_named(field: &[u8], prefix: &str) -> bool {
    field.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// The entity of `mail`, in canonical form: its `Content-*` fields, the mark, an empty line, the body.
pub fn entity(mail: &[u8]) -> Vec<u8> {
    let mail = with_crlf(mail);
    let split = Split::new(&mail);
    let mut entity = Vec::new();
    if split.named("content-type:").is_empty() {
        entity.extend_from_slice(b"Content-Type: text/plain\r\n");
    }
    entity.extend(split.named("content-").concat());
    entity.extend_from_slice(b"Sealed-At-Rest: v1\r\n\r\n");
    entity.extend_from_slice(split.body);
    entity
}

/// `stored` is `mail` sealed to the one key in `reader`, and nothing of its entity is beside the ciphertext.
pub fn assert_sealed(stored: &[u8], mail: &[u8], reader: &Home) {
    let shown = String::from_utf8_lossy(stored);
    let armour = armour(stored).unwrap_or_else(|fault| panic!("not sealed, {fault}:\n{shown}"));
    let opened = reader.decrypt(armour).unwrap_or_else(|status| panic!("cannot be read: {status}\n{shown}"));
    assert_eq!(opened.recipients, 1, "sealed to exactly one key");
    assert_same(&opened.plaintext, &entity(mail), "the entity");
    let sent = with_crlf(mail);
    let (outer, sent) = (Split::new(stored).outer().concat(), Split::new(&sent).outer().concat());
    assert_same(&outer[outer.len().saturating_sub(sent.len())..], &sent, "the outer header");
    assert_added_at_delivery(&outer[..outer.len() - sent.len()]);
}

/// `stored` is `mail` as it was sent, below what delivery puts on top of every message.
pub fn assert_unchanged(stored: &[u8], mail: &[u8]) {
    let sent = with_crlf(mail);
    let added = stored.len().saturating_sub(sent.len());
    assert_same(&stored[added..], &sent, "the message");
    assert_added_at_delivery(&stored[..added]);
}

/// Whether a stored message has the outer form of a sealed one.
pub fn is_sealed(stored: &[u8]) -> bool {
    armour(stored).is_ok()
}

/// The ciphertext of an RFC 3156 message; strict, because the product writes it.
pub fn armour(stored: &[u8]) -> Result<&[u8], &'static str> {
    let top = Split::new(stored);
    let content = top.named("content-");
    let [kind] = content[..] else { return Err("not exactly one Content-* field outside") };
    if top.named("mime-version:") != [b"MIME-Version: 1.0\r\n"] {
        return Err("not exactly one MIME-Version: 1.0");
    }
    let kind = std::str::from_utf8(kind).map_err(|_| "Content-Type is not text")?;
    if !kind.starts_with("Content-Type: multipart/encrypted;")
        || !kind.contains("protocol=\"application/pgp-encrypted\"")
    {
        return Err("another Content-Type");
    }
    let boundary = kind.split_once("boundary=\"").ok_or("no boundary")?.1;
    let boundary = boundary.split_once('"').ok_or("an open boundary")?.0;
    let delimiter = format!("--{boundary}\r\n");
    let rest = top.body.strip_prefix(delimiter.as_bytes()).ok_or("text before the first part")?;
    let (version, rest) = split_at(rest, format!("\r\n{delimiter}").as_bytes()).ok_or("no second part")?;
    let (data, rest) = split_at(rest, format!("\r\n--{boundary}--").as_bytes()).ok_or("no end")?;
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err("text after the last part");
    }
    let version = Split::new(version);
    if !version.fields.first().is_some_and(|field| is_named(field, "content-type: application/pgp-encrypted"))
        || version.body.trim_ascii_end() != b"Version: 1"
    {
        return Err("another first part");
    }
    let data = Split::new(data);
    if !data.fields.first().is_some_and(|field| is_named(field, "content-type: application/octet-stream")) {
        return Err("another second part");
    }
    let ciphertext = data.body.trim_ascii();
    if ciphertext.starts_with(b"-----BEGIN PGP MESSAGE-----\r\n")
        && ciphertext.ends_with(b"\r\n-----END PGP MESSAGE-----")
    {
        Ok(ciphertext)
    } else {
        Err("no armour")
    }
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

fn assert_added_at_delivery(header: &[u8]) {
    let text = [header, b"\r\n"].concat();
    for field in Split::new(&text).fields {
        let known = ["return-path:", "delivered-to:", "x-original-to:", "received:"]
            .iter()
            .any(|name| is_named(field, name));
        assert!(known, "an added field: {}", String::from_utf8_lossy(field));
    }
}

fn assert_same(actual: &[u8], expected: &[u8], what: &str) {
    if actual != expected {
        let at = actual.iter().zip(expected).take_while(|(left, right)| left == right).count();
        let near = |bytes: &[u8]| {
            let end = bytes.len().min(at + 60);
            String::from_utf8_lossy(&bytes[at.saturating_sub(40).min(end)..end]).into_owned()
        };
        panic!(
            "{what} differs at byte {at} ({} and {} bytes): {:?} where {:?} was sent",
            actual.len(),
            expected.len(),
            near(actual),
            near(expected)
        );
    }
}
