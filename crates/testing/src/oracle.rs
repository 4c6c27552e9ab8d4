//! What the sealed form of a message must be, computed from the message by the contract, and compared byte for byte.

use std::path::Path;

use super::{
    decrypt::{Decrypt, decrypt},
    filter::Run,
    fixtures,
    header::{Item, Kind, content, lines, split},
    openers::{self, GnuPg},
    restore::restore,
    variants::to_crlf,
};

/// Beginning of the file name of our literal packets.
pub const NAME_PREFIX: &[u8] = b"mailseal1;";
/// The field that ends the header inside.
pub const MARK: &[u8] = b"Sealed-At-Rest: v1";
const BOUNDARY_PREFIX: &str = "=_mailseal-";
const CONTENT_TYPE: &str = "multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"";

/// A sealed message taken apart.
#[derive(Debug)]
pub struct Sealed<'a> {
    pub boundary: String,
    pub armor: &'a [u8],
}

/// Checks a run of the filter to the fixture certificate `cert` in every respect, and returns the boundary.
///
/// rPGP opens all; the second reader is GnuPG, or Sequoia for v6 certificates, which GnuPG 2.2 does not know.
pub fn check_run(message: &[u8], run: &Run, cert: &str, gnupg: Option<&GnuPg>) -> Result<String, String> {
    check_run_with(decrypt, message, run, cert, gnupg)
}

/// The same with another way to decrypt.
pub fn check_run_with(
    decrypt: Decrypt,
    message: &[u8],
    run: &Run,
    cert: &str,
    gnupg: Option<&GnuPg>,
) -> Result<String, String> {
    if run.status != Some(0) || !run.stderr.is_empty() {
        return Err(format!("exit {:?}, stderr {:?}", run.status, run.stderr));
    }
    if run.stdout == message {
        return Err("came out unchanged".to_owned());
    }
    let sealed = check_outside(message, &run.stdout)?;
    let entities = expected_entities(message);

    let opened = openers::rpgp(cert, sealed.armor)?;
    if !opened.file_name.starts_with(NAME_PREFIX) {
        return Err(format!(
            "the literal packet's file name is {:?}",
            String::from_utf8_lossy(&opened.file_name)
        ));
    }
    compare("rPGP", &opened.data, &entities)?;
    let back = decrypt(cert, &run.stdout);
    if back.status != Some(0) {
        return Err(format!("mailseal decrypt: exit {:?}, {}", back.status, back.stderr));
    }
    match restore(&run.stdout, &opened).map_err(|why| format!("restoring: {why}"))? {
        Some(original) => {
            compare("restored", &original, &[message.to_vec()])?;
            compare("mailseal decrypt", &back.stdout, &[original])?;
            if !back.stderr.is_empty() {
                return Err(format!("mailseal decrypt: {}", back.stderr));
            }
        }
        None if is_plain(message) => return Err("the record of a plain header is said not to fit".to_owned()),
        None => {
            let told = back.stderr.contains("could not be restored");
            if !told || !back.stdout.ends_with(split(message).body) {
                return Err("mailseal decrypt does not tell what is lost, or loses the body".to_owned());
            }
        }
    }
    if cert.contains("v6") {
        compare("Sequoia", &openers::sequoia(cert, sealed.armor)?, &entities)?;
    } else if let Some(gnupg) = gnupg {
        compare("gpg", &gnupg.decrypt(sealed.armor)?, &entities)?;
    }
    Ok(sealed.boundary)
}

/// Whether the record of this header must fit into a file name: few MIME fields, and short MIME-Versions.
fn is_plain(message: &[u8]) -> bool {
    let header = split(message);
    let moved: Vec<&Item<'_>> = header.region_and_tail().0.iter().filter(|item| item.is_mime()).collect();
    let versions: usize =
        moved.iter().filter(|item| item.is("mime-version")).map(|item| item.bytes.len()).sum();
    moved.len() <= 20 && versions <= 40
}

pub fn compare(reader: &str, found: &[u8], expected: &[Vec<u8>]) -> Result<(), String> {
    if expected.iter().any(|entity| entity == found) {
        return Ok(());
    }
    let wanted = &expected[0];
    let at = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let show = |text: &[u8]| {
        let from = at.saturating_sub(30);
        String::from_utf8_lossy(&text[from.min(text.len())..(at + 50).min(text.len())]).into_owned()
    };
    Err(format!("{reader}: other bytes from {at} on: {:?} instead of {:?}", show(found), show(wanted)))
}

/// Whether the filter left the message as it is, with exit 0.
pub fn is_unchanged(message: &[u8], run: &Run) -> bool {
    run.status == Some(0) && run.stderr.is_empty() && run.stdout == message
}

/// The certificate's file, for the filter's `--key`.
pub fn key(cert: &str) -> std::path::PathBuf {
    let path = fixtures::cert(cert);
    assert!(Path::exists(&path), "no fixture {cert}");
    path
}

/// Checks all of a sealed message that can be seen without a key, and takes it apart.
pub fn check_outside<'a>(message: &[u8], sealed: &'a [u8]) -> Result<Sealed<'a>, String> {
    let eol = line_ending(split(sealed).separator.unwrap_or_default());
    let shown = |item: &Item<'_>| (!item.is_mime()).then(|| mended(item.bytes.to_vec(), eol));
    check_outside_of(message, sealed, shown)
}

/// The same where the outside shows not the items themselves, but what `shown` makes of them.
pub fn check_outside_of<'a>(
    message: &[u8],
    sealed: &'a [u8],
    shown: impl Fn(&Item<'_>) -> Option<Vec<u8>>,
) -> Result<Sealed<'a>, String> {
    let (kept_before, kept_after) = expected_outside(message, shown);
    let out = split(sealed);
    let separator = out.separator.ok_or("the sealed message has no body")?;
    let eol = line_ending(separator);
    if style(message).is_some_and(|wanted| wanted != eol) {
        return Err(format!("line ending {eol:?} is not the message's"));
    }

    // Byte for byte: the kept lines around our two fields, a last line without an ending mended.
    let header = &sealed[..sealed.len() - out.body.len() - separator.len()];
    let ours = header
        .strip_prefix(&kept_before[..])
        .ok_or("the lines before our fields are not those of the message")?
        .strip_suffix(&kept_after[..])
        .ok_or("the lines after our fields are not those of the message")?;
    let boundary = check_our_fields(ours, eol)?;

    // Once more, as a reader counts fields.
    for (name, wanted) in [("mime-version", 1), ("content-type", 1)] {
        let found = out.items.iter().filter(|item| item.is(name)).count();
        if found != wanted {
            return Err(format!("{found} fields {name} outside"));
        }
    }
    if out.items.iter().filter(|item| item.is_content()).count() != 1 {
        return Err("another Content-* field outside".to_owned());
    }
    if !out.items.iter().any(|item| item.is("content-type") && ours.ends_with(item.bytes)) {
        return Err("our Content-Type is continued by a line of the message".to_owned());
    }
    // Nothing that any reader takes for the body stays outside, and nothing at all that ends the header before our fields.
    if out.items.iter().any(|item| item.kind == Kind::NoField) {
        return Err("a line outside that is no field".to_owned());
    }
    if out.items.iter().take_while(|item| !item.is("content-type")).any(Item::ends_region) {
        return Err("our Content-Type stands after a line of blanks".to_owned());
    }

    let armor = check_parts(out.body, &boundary, eol)?;
    Ok(Sealed { boundary, armor })
}

/// The entities that the ciphertext may hold. More than one only where the contract leaves the ending of an added line
/// open, in a message of mixed line endings.
pub fn expected_entities(message: &[u8]) -> Vec<Vec<u8>> {
    if !has_crlf(message) {
        return vec![to_crlf(&entity(message, b"\n"))];
    }
    let mut both = vec![entity(message, b"\r\n")];
    if style(message).is_none() {
        both.push(entity(message, b"\n"));
        both.dedup();
    }
    both
}

fn entity(message: &[u8], eol: &[u8]) -> Vec<u8> {
    let cut = split(message);
    let (region, tail) = cut.region_and_tail();
    let mut entity = Vec::new();
    if !cut.may_have_type() {
        entity.extend_from_slice(b"Content-Type: text/plain");
        entity.extend_from_slice(eol);
    }
    for item in region.iter().filter(|item| item.is_content()).chain(tail) {
        entity.extend_from_slice(item.bytes);
        if !item.bytes.ends_with(b"\n") {
            entity.extend_from_slice(eol);
        }
    }
    if tail.is_empty() {
        entity.extend_from_slice(MARK);
        entity.extend_from_slice(eol);
    }
    entity.extend_from_slice(cut.separator.unwrap_or(eol));
    entity.extend_from_slice(cut.body);
    entity
}

/// What is shown before and after the place of our fields.
fn expected_outside(message: &[u8], shown: impl Fn(&Item<'_>) -> Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let cut = split(message);
    let (region, _) = cut.region_and_tail();
    let place = region.iter().position(Item::is_mime).unwrap_or(region.len());
    let join = |items: &[Item<'_>]| items.iter().filter_map(&shown).flatten().collect::<Vec<u8>>();
    (join(&region[..place]), [join(&region[place..]), join(&cut.repeated())].concat())
}

/// `lines`, the last one given the ending that it lacked: something of ours follows.
pub fn mended(mut lines: Vec<u8>, eol: &str) -> Vec<u8> {
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        lines.extend_from_slice(eol.as_bytes());
    }
    lines
}

fn check_our_fields(ours: &[u8], eol: &str) -> Result<String, String> {
    let text = std::str::from_utf8(ours).map_err(|_| "our fields are not text")?;
    let rest = text
        .strip_prefix(&format!("MIME-Version: 1.0{eol}"))
        .ok_or_else(|| format!("our fields do not begin with MIME-Version: {text:?}"))?;
    let items = split(rest.as_bytes()).items;
    let [field] = &items[..] else {
        return Err(format!("not one field after MIME-Version: {text:?}"));
    };
    if !field.is("content-type") || !lines(rest.as_bytes()).all(|line| line_ending(line) == eol) {
        return Err(format!("no proper Content-Type: {text:?}"));
    }
    let value = field.value().split_whitespace().collect::<Vec<_>>().join(" ");
    let boundary = value
        .strip_prefix(CONTENT_TYPE)
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| format!("Content-Type is {value:?}"))?;
    let random = boundary.strip_prefix(BOUNDARY_PREFIX).ok_or("the boundary has not our prefix")?;
    // 128 bits need 22 characters in base64 and 32 in hexadecimal.
    let hexadecimal = random.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'+_./=?-".contains(&byte));
    if !plain || random.len() < if hexadecimal { 32 } else { 22 } || boundary.len() > 70 {
        return Err(format!("the boundary {boundary:?} is no good one"));
    }
    Ok(boundary.to_owned())
}

/// Exactly two parts and nothing around them; returns the armour.
fn check_parts<'a>(body: &'a [u8], boundary: &str, eol: &str) -> Result<&'a [u8], String> {
    if let Some(line) = lines(body).find(|line| line_ending(line) != eol) {
        return Err(format!("a line that does not end in {eol:?}: {:?}", String::from_utf8_lossy(line)));
    }
    // As the most lenient reader does, take every line that begins with the delimiter for one, and look for it within
    // lines, too.
    let delimiter = format!("--{boundary}");
    let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
    for line in lines(body) {
        let text = content(line);
        let found = text.windows(delimiter.len()).any(|window| window == delimiter.as_bytes());
        if found {
            pieces.push((&body[start..at], text));
            start = at + line.len();
        }
        at += line.len();
    }
    let epilogue = &body[start..];
    let [(preamble, open), (first, middle), (second, close)] = &pieces[..] else {
        return Err(format!("{} boundary lines instead of 3", pieces.len()));
    };
    let closing = format!("{delimiter}--");
    if *open != delimiter.as_bytes() || *middle != delimiter.as_bytes() || *close != closing.as_bytes() {
        return Err("a boundary line holds more than the boundary".to_owned());
    }
    if !preamble.is_empty() && !preamble.starts_with(b"This is an OpenPGP/MIME encrypted message") {
        return Err("a preamble of unknown text".to_owned());
    }
    if !blank(epilogue) {
        return Err("text in the epilogue".to_owned());
    }
    let first = split(first);
    if field(&first.items, "content-type") != "application/pgp-encrypted"
        || String::from_utf8_lossy(first.body).trim() != "Version: 1"
    {
        return Err("the control part is not as RFC 3156 has it".to_owned());
    }
    let second = split(second);
    if !field(&second.items, "content-type").starts_with("application/octet-stream") {
        return Err("the second part is no application/octet-stream".to_owned());
    }
    check_armor(second.body)
}

fn check_armor(body: &[u8]) -> Result<&[u8], String> {
    let text = std::str::from_utf8(body).map_err(|_| "the armour is not ASCII")?;
    let mut lines = text.trim_end().lines();
    let framed = lines.next() == Some("-----BEGIN PGP MESSAGE-----")
        && lines.next_back() == Some("-----END PGP MESSAGE-----")
        && lines.next() == Some("");
    if !framed || !lines.all(|line| line.len() <= 76 && line.bytes().all(is_base64)) {
        return Err("the second part holds more than a plain armour".to_owned());
    }
    Ok(body)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn field(items: &[Item<'_>], name: &str) -> String {
    items.iter().find(|item| item.is(name)).map(Item::value).unwrap_or_default()
}

fn blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// What the line ending is judged by: the header and 1 MiB of the body.
fn judged(message: &[u8]) -> &[u8] {
    let body = split(message).body.len();
    &message[..message.len() - body.saturating_sub(1 << 20)]
}

pub fn has_crlf(message: &[u8]) -> bool {
    judged(message).windows(2).any(|pair| pair == b"\r\n")
}

/// The message's line ending; `None` if it is mixed.
fn style(message: &[u8]) -> Option<&'static str> {
    let message = judged(message);
    let all = lines(message).filter(|line| line.ends_with(b"\n")).count();
    let crlf = lines(message).filter(|line| line.ends_with(b"\r\n")).count();
    match crlf {
        0 => Some("\n"),
        _ if crlf == all => Some("\r\n"),
        _ => None,
    }
}

pub fn line_ending(line: &[u8]) -> &'static str {
    if line.ends_with(b"\r\n") {
        "\r\n"
    } else if line.ends_with(b"\n") {
        "\n"
    } else {
        ""
    }
}
