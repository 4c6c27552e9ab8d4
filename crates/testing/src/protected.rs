//! What the sealed form of a message with a protected header must be, by the contract and RFC 9788.

use super::{
    decrypt::{Decrypt, decrypt},
    filter::Run,
    header::{Item, Kind, Split, content, lines, split},
    openers::{self, GnuPg, Opened},
    oracle::{MARK, check_outside_of, check_run, compare, has_crlf, line_ending, mended},
    restore::restore,
    variants::to_crlf,
};

/// RFC 9788's policies, and the contract's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing is hidden: what a mail gets that only claims to be protected.
    Open,
    Baseline,
    Shy,
    Strict,
}

/// What was found inside a message.
#[derive(Debug)]
pub struct Inside {
    pub opened: Opened,
    /// The parameters that the Content-Type got.
    pub parameters: String,
    /// What was put into the body.
    pub display: Vec<u8>,
}

/// Whether the literal packet's file name tells of a protected header.
pub fn is_protected(file_name: &[u8]) -> bool {
    String::from_utf8_lossy(file_name).contains(";hp=")
}

/// Whether some reader may find in a message's header the claim that it is protected.
pub fn may_claim(message: &[u8]) -> bool {
    split(message).items.iter().any(|item| {
        let text = String::from_utf8_lossy(item.bytes).to_ascii_lowercase();
        text.contains("content-type") && ["hp", "protected-headers"].iter().any(|it| text.contains(it))
    })
}

/// Checks in every respect a message that was sealed without a policy: its header goes inside only where it claims to be
/// protected.
pub fn check_unasked(message: &[u8], run: &Run, cert: &str) -> Result<(), String> {
    if !may_claim(message) {
        return check_run(message, run, cert, None).map(drop);
    }
    if run.status != Some(0) || run.stdout == message {
        return Err(format!("exit {:?}, stderr {:?}", run.status, run.stderr));
    }
    let opened = openers::rpgp(cert, armor(&run.stdout))?;
    if is_protected(&opened.file_name) {
        return check(message, run, Policy::Open, cert, None).map(drop);
    }
    if !String::from_utf8_lossy(&opened.file_name).contains(";lost=1") {
        return check_run(message, run, cert, None).map(drop);
    }
    let back = decrypt(cert, &run.stdout);
    let told = back.status == Some(0) && back.stderr.contains("could not be restored");
    (told && back.stdout.ends_with(split(message).body))
        .then_some(())
        .ok_or_else(|| "mailseal decrypt does not tell what is lost, or loses the body".to_owned())
}

/// Checks in every respect a message that was sealed with its header protected, to the fixture certificate `cert`.
pub fn check(
    message: &[u8],
    run: &Run,
    policy: Policy,
    cert: &str,
    gnupg: Option<&GnuPg>,
) -> Result<Inside, String> {
    check_with(decrypt, message, run, policy, cert, gnupg)
}

/// The same with another way to decrypt.
pub fn check_with(
    decrypt: Decrypt,
    message: &[u8],
    run: &Run,
    policy: Policy,
    cert: &str,
    gnupg: Option<&GnuPg>,
) -> Result<Inside, String> {
    let eol = line_ending(split(&run.stdout).separator.unwrap_or_default());
    let shown = |item: &Item<'_>| {
        if item.is_mime() {
            None
        } else if item.goes_inside() {
            outside(item, policy, eol).map(|line| mended(line, eol))
        } else {
            // An `HP-Outer` of the tail is inside already.
            let region = split(message).region_and_tail().0.len();
            let in_region = split(message).items[..region].iter().any(|other| other.bytes == item.bytes);
            in_region.then(|| mended(item.bytes.to_vec(), eol))
        }
    };
    let sealed = check_outside_of(message, &run.stdout, shown)?;
    let opened = openers::rpgp(cert, sealed.armor)?;
    if opened.file_name.len() > 255 || !is_protected(&opened.file_name) {
        return Err(format!("the record {:?}", String::from_utf8_lossy(&opened.file_name)));
    }
    let entity = split(&opened.data);
    let crlf = has_crlf(message);
    let converted = |bytes: Vec<u8>| if crlf { bytes } else { to_crlf(&bytes) };

    // The header inside: every field in order, the only Content-Type completed, and what the outside shows.
    let cut = split(message);
    let (region, tail) = cut.region_and_tail();
    let tail: Vec<u8> = tail.iter().flat_map(|item| item.bytes).copied().collect();
    let fields: Vec<&Item<'_>> = region.iter().filter(|item| item.goes_inside()).collect();
    let tail = if tail.is_empty() { tail } else { converted(mended(tail, eol)) };
    let header = header_of(&entity);
    let before_tail = header.strip_suffix(&tail[..]).ok_or("the tail is not the end of the header inside")?;
    let before_tail = split(before_tail).items;
    let marked = tail.is_empty();
    let records = before_tail.iter().position(|item| item.is("hp-outer"));
    let records = records.unwrap_or(before_tail.len() - usize::from(marked));
    let (inside, records) = before_tail.split_at(records);
    let mut inside = inside.iter();
    let new_type = !cut.may_have_type();
    let mut parameters = String::new();
    if new_type && policy != Policy::Open {
        let field = inside.next().ok_or("no Content-Type")?;
        parameters = added_parameters(field.bytes, b"Content-Type: text/plain\r\n")?;
    }
    for field in fields {
        let found = inside.next().ok_or("a field is missing inside")?;
        let wanted = converted(mended(field.bytes.to_vec(), eol));
        if field.is("content-type") && policy != Policy::Open {
            parameters = added_parameters(found.bytes, &wanted)?;
        } else {
            compare("inside", found.bytes, &[wanted])?;
        }
    }
    if inside.next().is_some() {
        return Err("more fields inside than the message has".to_owned());
    }
    let stands_first = cut.tail_stands_first();
    let shown_fields: Vec<Vec<u8>> = cut
        .region_and_tail()
        .0
        .iter()
        .chain(&cut.repeated())
        .filter(|item| item.goes_inside() && !item.is_mime() && !stands_first)
        .filter_map(|item| outside(&item.before_blank_lines(), policy, eol))
        .map(|field| converted([b"HP-Outer: ", &mended(field, eol)[..]].concat()))
        .collect();
    let shown_fields: Vec<Vec<u8>> =
        shown_fields.into_iter().chain(marked.then(|| converted([MARK, eol.as_bytes()].concat()))).collect();
    compare(
        "HP-Outer",
        &records.iter().flat_map(|item| item.bytes).copied().collect::<Vec<u8>>(),
        &[shown_fields.concat()],
    )?;

    // The body, but for one piece.
    let body = converted(cut.body.to_vec());
    let added = entity.body.len().checked_sub(body.len()).ok_or("the body is shorter inside")?;
    let same = entity.body.iter().zip(&body).take_while(|(a, b)| a == b).count();
    // The piece may begin as what follows it does.
    let start =
        (0..=same).rev().find(|&at| entity.body[at + added..] == body[at..]).ok_or("another body inside")?;
    let display = entity.body[start..start + added].to_vec();
    if display.is_empty() == parameters.contains("hp-legacy-display")
        || !display.is_empty() && !tail.is_empty()
    {
        return Err(format!("parameters {parameters:?} with a display of {added} bytes"));
    }

    match restore(&run.stdout, &opened).map_err(|why| format!("restoring: {why}"))? {
        Some(original) => compare("restored", &original, &[message.to_vec()])?,
        None => return Err("the record is said not to fit".to_owned()),
    }
    gives_back(message, &decrypt(cert, &run.stdout))?;
    if cert.contains("v6") {
        compare("Sequoia", &openers::sequoia(cert, sealed.armor)?, std::slice::from_ref(&opened.data))?;
    } else if let Some(gnupg) = gnupg {
        compare("gpg", &gnupg.decrypt(sealed.armor)?, std::slice::from_ref(&opened.data))?;
    }
    Ok(Inside { opened, parameters, display })
}

/// All of a header, without its empty line.
fn header_of(cut: &Split<'_>) -> Vec<u8> {
    cut.items.iter().flat_map(|item| item.bytes).copied().collect()
}

/// Checks only that the way back gives the message, and that no display name is left where an address was shortened: for
/// addresses and dates of any form.
pub fn check_restored(message: &[u8], run: &Run, cert: &str) -> Result<(), String> {
    check_restored_with(decrypt, message, run, cert)
}

/// The same with another way to decrypt.
pub fn check_restored_with(decrypt: Decrypt, message: &[u8], run: &Run, cert: &str) -> Result<(), String> {
    let items = split(&run.stdout).items;
    for item in items.iter().filter(|item| ["from", "to", "cc"].iter().any(|name| item.is(name))) {
        // Of a field of the tail, what stands before a line of blanks.
        let is_it = |other: &Item<'_>| {
            [other.bytes, other.before_blank_lines().bytes].map(strip_eol).contains(&strip_eol(item.bytes))
        };
        let same = split(message).items.iter().any(is_it);
        if !same && item.value().contains(['<', '"', '(']) {
            return Err(format!("outside: {:?}", item.value()));
        }
    }
    let opened = openers::rpgp(cert, armor(&run.stdout))?;
    match restore(&run.stdout, &opened).map_err(|why| format!("restoring: {why}"))? {
        Some(original) => {
            compare("restored", &original, &[message.to_vec()])?;
            gives_back(message, &decrypt(cert, &run.stdout))
        }
        None => Err("the record is said not to fit".to_owned()),
    }
}

/// The same for the strict policy: nothing is outside that the contract does not list, and no display name.
pub fn check_strict_with(decrypt: Decrypt, message: &[u8], run: &Run, cert: &str) -> Result<(), String> {
    for item in split(&run.stdout).items {
        let Kind::Field(name) = &item.kind else { continue };
        let is_addresses = ["from", "to", "cc", "reply-to"].contains(&&**name);
        if is_addresses && item.value().contains(['<', '"', '(']) {
            return Err(format!("outside: {:?}", item.value()));
        }
        let ours = ["subject", "mime-version", "content-type", "hp-outer"];
        if !is_addresses
            && !STRICT.split(' ').chain(ours).any(|listed| listed == name)
            && !name.starts_with("list-")
        {
            return Err(format!("outside: {name}"));
        }
    }
    check_restored_with(decrypt, message, run, cert)
}

/// Whether what was decrypted is the message.
fn gives_back(message: &[u8], back: &Run) -> Result<(), String> {
    if back.status != Some(0) || !back.stderr.is_empty() {
        return Err(format!("mailseal decrypt: exit {:?}, {}", back.status, back.stderr));
    }
    compare("mailseal decrypt", &back.stdout, &[message.to_vec()])
}

/// The armor in a sealed message.
pub fn armor(sealed: &[u8]) -> &[u8] {
    let last = |text: &[u8]| sealed.windows(text.len()).rposition(|window| window == text).unwrap();
    let end = last(b"\n-----END PGP MESSAGE-----");
    let line = sealed[end + 1..].iter().position(|&byte| byte == b'\n').unwrap();
    &sealed[last(b"\n-----BEGIN PGP MESSAGE-----") + 1..end + line + 2]
}

/// What was appended to a Content-Type, folds taken out: parameters of header protection and nothing else.
fn added_parameters(found: &[u8], original: &[u8]) -> Result<String, String> {
    // A header that is cut may end in a lone CR, which is no ending of its own.
    let line =
        |text: &'_ [u8]| text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    let (found, original) = (&found[..line(found)], &original[..line(original)]);
    let added = found.strip_prefix(original).ok_or("another Content-Type inside")?;
    let text = String::from_utf8_lossy(added).split_whitespace().collect::<Vec<_>>().join(" ");
    let known = ["hp-legacy-display=\"1\"", "hp=\"cipher\"", "protected-headers=\"v1\""];
    let pieces: Vec<&str> = text.split(';').map(str::trim).filter(|piece| !piece.is_empty()).collect();
    let whole = String::from_utf8_lossy(found).to_ascii_lowercase();
    let marked = (whole.contains("hp=") || whole.contains("hp*=")) && whole.contains("protected-headers=");
    let in_order = pieces.is_sorted_by_key(|piece| known.iter().position(|it| it == piece));
    let separated = text.starts_with(';') || original.trim_ascii_end().ends_with(b";") || text.is_empty();
    if !pieces.iter().all(|piece| known.contains(piece)) || !marked || !in_order || !separated {
        return Err(format!("the Content-Type got {text:?}"));
    }
    Ok(text)
}

fn strip_eol(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What the outside shows of a field.
fn outside(item: &Item<'_>, policy: Policy, eol: &str) -> Option<Vec<u8>> {
    let same = Some(item.bytes.to_vec());
    let Kind::Field(name) = &item.kind else { return same };
    if policy == Policy::Open {
        return same;
    }
    let value = value_of(item.bytes);
    let instead = |new: String| {
        if value.trim_ascii() == new.as_bytes() {
            return Some(item.bytes.to_vec());
        }
        let spelled = String::from_utf8_lossy(&item.bytes[..name.len()]).into_owned();
        Some(format!("{spelled}: {new}{eol}").into_bytes())
    };
    match &**name {
        "subject" => instead("[...]".to_owned()),
        _ if policy == Policy::Strict => strict(name, value).and_then(|shown| shown.map_or(same, instead)),
        "comments" | "keywords" | "thread-topic" | "x-spam-report" | "domainkey-signature" => None,
        _ if name.starts_with("arc-") || name.ends_with("dkim-signature") => None,
        _ if name.starts_with("x-") && name.ends_with("-subject") => None,
        "from" | "to" | "cc" if policy == Policy::Shy => {
            addresses(value).map_or(same, |list| instead(list.join(", ")))
        }
        "date" if policy == Policy::Shy => utc(value).map_or(same, instead),
        _ => same,
    }
}

/// What the contract lists for `strict`, beside addresses, the Subject, List-\* and our own fields.
const STRICT: &str = "date message-id in-reply-to references auto-submitted received return-path";

/// What the contract lists for `strict`: `None` for a field that is not, `Some(None)` for one that stays as it is.
fn strict(name: &str, value: &[u8]) -> Option<Option<String>> {
    let text = String::from_utf8_lossy(value).trim().to_owned();
    match name {
        "message-id" | "in-reply-to" | "references" | "received" => Some(None),
        _ if name.starts_with("list-") => Some(None),
        "from" | "to" | "cc" | "reply-to" => {
            let list = addresses(value).or_else(|| local_names(value)).map(|list| list.join(", "));
            let sender = (name == "from").then(|| "hidden@mailseal.invalid".to_owned());
            list.or(sender).map(Some)
        }
        "date" if text.ends_with(" +0000") => Some(None),
        "date" => utc(value).map(Some),
        "return-path" => {
            let inside = text.strip_prefix('<')?.strip_suffix('>')?;
            (inside.is_empty() || inside.contains('@') && !inside.contains([' ', '<'])).then_some(None)
        }
        "auto-submitted" => {
            let word = text.split([';', ' ', '(']).next()?.to_ascii_lowercase();
            ["no", "auto-generated", "auto-replied", "auto-notified"].contains(&&*word).then_some(Some(word))
        }
        _ => None,
    }
}

/// The names of a list of people of one host, without `@`.
fn local_names(value: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(value);
    let name = |entry: &str| {
        let name = entry.split(" (").next()?.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-_.$".contains(c);
        (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
    };
    text.split(',').map(name).collect()
}

fn value_of(field: &[u8]) -> &[u8] {
    field.iter().position(|&byte| byte == b':').map_or(&[], |colon| &field[colon + 1..])
}

/// The addresses of the plainest kinds of lists: `name <address>`, `"name" <address>`, `address`, `address (comment)`.
/// The fixtures have no other that the product reads.
fn addresses(value: &[u8]) -> Option<Vec<String>> {
    let text: String = lines(value).map(|line| String::from_utf8_lossy(content(line)).into_owned()).collect();
    let mut quoted = false;
    let pieces = text.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    pieces
        .map(|piece| {
            let piece = piece.trim();
            let address = match piece.split_once('<') {
                Some((_, rest)) => rest.strip_suffix('>')?,
                None => piece.split(" (").next()?,
            };
            (address.contains('@') && !address.contains([' ', ':', ';'])).then(|| address.to_owned())
        })
        .collect()
}

/// The fixtures' dates, which all are on one day.
fn utc(value: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(value);
    match text.trim() {
        "Mon, 3 Mar 2025 10:00:00 +0100" => Some("Mon, 3 Mar 2025 09:00:00 +0000".to_owned()),
        _ => None,
    }
}
