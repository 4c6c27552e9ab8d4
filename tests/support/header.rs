//! The tests' own header splitter, written from the contract and not from the product.

/// A message, cut where its header ends.
#[derive(Debug)]
pub struct Split<'a> {
    pub items: Vec<Item<'a>>,
    /// The empty line as it stands in the message; `None` where the message ends within its header.
    pub separator: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// A line of the header with the lines that continue it.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    pub kind: Kind,
    pub bytes: &'a [u8],
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The first line of an mbox message.
    FromLine,
    /// A field, its name in lower case.
    Field(String),
    /// A continuation that nothing stands before.
    Orphan,
    /// None of these.
    Junk,
}

impl Item<'_> {
    /// Whether the item goes away from the outer header: `Content-*` and MIME-Version.
    pub fn is_mime(&self) -> bool {
        self.is_content() || self.is("mime-version")
    }

    pub fn is_content(&self) -> bool {
        matches!(&self.kind, Kind::Field(name) if name.starts_with("content-"))
    }

    pub fn is(&self, wanted: &str) -> bool {
        matches!(&self.kind, Kind::Field(name) if name == wanted)
    }

    /// Whether some reader takes it, or what follows it, for the body.
    pub fn ends_header_for_some(&self) -> bool {
        match self.kind {
            Kind::Junk => true,
            // mbox readers want it first, whatever is in it.
            Kind::FromLine => false,
            // Behind our fields it would continue them, and spoil the boundary.
            Kind::Orphan => false,
            Kind::Field(_) => lines(self.bytes).any(|line| content(line).contains(&b'\r')),
        }
    }

    /// The text after the colon, folds taken out.
    pub fn value(&self) -> String {
        let text: String =
            lines(self.bytes).map(|line| String::from_utf8_lossy(content(line)).into_owned()).collect();
        text.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }
}

/// Cuts a message at its first empty line.
pub fn split(message: &[u8]) -> Split<'_> {
    let (mut items, mut at): (Vec<Item<'_>>, usize) = (Vec::new(), 0);
    for line in lines(message) {
        let (start, end) = (at, at + line.len());
        at = end;
        // With an ending it would be the empty line.
        if line == b"\r" {
            return Split { items, separator: None, body: line };
        }
        if content(line).is_empty() && line.ends_with(b"\n") {
            return Split { items, separator: Some(line), body: &message[end..] };
        }
        let folded = matches!(line[0], b' ' | b'\t');
        match items.last_mut() {
            Some(last) if folded => last.bytes = &message[start - last.bytes.len()..end],
            None if folded => items.push(Item { kind: Kind::Orphan, bytes: line }),
            _ => items.push(Item { kind: kind(line, start == 0), bytes: line }),
        }
    }
    Split { items, separator: None, body: b"" }
}

fn kind(line: &[u8], first: bool) -> Kind {
    if first && line.starts_with(b"From ") {
        return Kind::FromLine;
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Kind::Junk };
    // Old mail has blanks before the colon (RFC 5322, section 4.5), and lenient readers take more than that for MIME
    // fields: none of it may stay outside. Other fields must be sound to count.
    let name = line[..colon].trim_ascii_end();
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let sound = colon > 0 && line[..colon].iter().all(|byte| (33..=126).contains(byte));
    if sound || lower.starts_with("content-") || lower == "mime-version" {
        Kind::Field(lower)
    } else {
        Kind::Junk
    }
}

/// The lines, each with its ending; only LF ends a line.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// A line without its LF or CRLF.
pub fn content(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(message: &[u8]) -> Vec<Kind> {
        split(message).items.into_iter().map(|item| item.kind).collect()
    }

    #[test]
    fn tells_fields_from_other_lines() {
        let field = |name: &str| Kind::Field(name.to_owned());
        assert_eq!(
            kinds(b"From x\nFrom y\nA: 1\n 2\nb c: 3\n\nD: 4\n"),
            [Kind::FromLine, Kind::Junk, field("a"), Kind::Junk]
        );
        assert_eq!(kinds(b" x\nContent-Type:\r\n"), [Kind::Orphan, field("content-type")]);
        assert_eq!(kinds(b": x\nX\xf6: y\nTo : z\n"), [Kind::Junk, Kind::Junk, Kind::Junk]);
        assert_eq!(kinds(b"Content-Type : x\n"), [field("content-type")]);
    }

    #[test]
    fn cuts_at_the_empty_line() {
        let cut = split(b"A: 1\r\n \r\n\r\nbody\n\n");
        assert_eq!((cut.items.len(), cut.separator, cut.body), (1, Some(&b"\r\n"[..]), &b"body\n\n"[..]));
        assert_eq!(split(b"\nbody").body, b"body");
        assert!(split(b"A: 1\n\r").separator.is_none());
        assert_eq!(split(b"A: 1\n\r").body, b"\r");
    }

    #[test]
    fn a_carriage_return_inside_a_line_is_seen() {
        assert!(split(b"A: 1\r2\n").items[0].ends_header_for_some());
        assert!(split(b"A: 1\r").items[0].ends_header_for_some());
        assert!(!split(b"A: 1\r\n 2\r\n").items[0].ends_header_for_some());
    }
}
