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
    /// Anything else.
    NoField,
}

/// What the contract lists of a tail.
const LISTED: &str = "from sender reply-to to cc date subject message-id in-reply-to references received return-path \
                      delivered-to authentication-results precedence auto-submitted x-auto-response-suppress";

impl<'a> Item<'a> {
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

    /// Whether a protected header has it inside, and not only in its tail: all fields but `HP-Outer`, which would be taken
    /// for ours.
    pub fn goes_inside(&self) -> bool {
        matches!(&self.kind, Kind::Field(name) if name != "hp-outer")
    }

    /// Whether some reader may take it, or what follows in it or behind it, for the body.
    pub fn ends_region(&self) -> bool {
        self.kind == Kind::NoField || lines(self.bytes).any(is_blank)
    }

    fn is_listed(&self) -> bool {
        let prefixes = ["resent-", "list-", "arc-", "x-spam", "x-rspamd"];
        matches!(&self.kind, Kind::Field(name)
            if LISTED.split_whitespace().any(|it| it == name) || prefixes.iter().any(|it| name.starts_with(it)))
    }

    /// Its lines up to the first ones that hold blanks only, those included: to some readers the rest is the body.
    fn with_blank_lines(&self) -> Item<'a> {
        let all: Vec<&[u8]> = lines(self.bytes).collect();
        let from = all.iter().position(|line| is_blank(line)).unwrap_or(all.len());
        let to = all[from..].iter().position(|line| !is_blank(line)).map_or(all.len(), |count| from + count);
        let length: usize = all[..to].iter().map(|line| line.len()).sum();
        Item { kind: self.kind.clone(), bytes: &self.bytes[..length] }
    }

    /// Its lines up to the first one that holds blanks only.
    pub fn before_blank_lines(&self) -> Item<'a> {
        let length: usize = lines(self.bytes).take_while(|line| !is_blank(line)).map(<[u8]>::len).sum();
        Item { kind: self.kind.clone(), bytes: &self.bytes[..length] }
    }

    /// The text after the colon, folds taken out.
    pub fn value(&self) -> String {
        let text: String =
            lines(self.bytes).map(|line| String::from_utf8_lossy(content(line)).into_owned()).collect();
        text.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }
}

impl<'a> Split<'a> {
    /// The items that every reader takes for fields, and the others.
    pub fn region_and_tail(&self) -> (&[Item<'a>], &[Item<'a>]) {
        let end = self.items.iter().position(Item::ends_region).unwrap_or(self.items.len());
        self.items.split_at(end)
    }

    /// What of the tail is shown outside as well.
    pub fn repeated(&self) -> Vec<Item<'a>> {
        let (_, tail) = self.region_and_tail();
        let shown = tail.iter().enumerate().filter(|(n, item)| {
            let field = matches!(item.kind, Kind::Field(_)) && !item.is_mime();
            field && (*n == 0 || item.is_listed())
        });
        shown.map(|(_, item)| item.with_blank_lines()).collect()
    }

    /// Whether a line before the tail would change what readers see: the tail would continue it, or its mbox line would not
    /// be the first any more.
    pub fn tail_stands_first(&self) -> bool {
        let (region, tail) = self.region_and_tail();
        tail.first().is_some_and(|item| {
            item.bytes.starts_with(b" ")
                || item.bytes.starts_with(b"\t")
                || region.is_empty() && item.bytes.starts_with(b"From ")
        })
    }

    /// Whether some reader may find a Content-Type in it, or would find an added one continued.
    pub fn may_have_type(&self) -> bool {
        let (region, tail) = self.region_and_tail();
        let tail = tail.iter().flat_map(|item| item.bytes).copied().collect::<Vec<u8>>();
        let named = |line: &[u8]| {
            let colon = line.iter().position(|&byte| byte == b':');
            colon.is_some_and(|colon| line[..colon].trim_ascii_end().eq_ignore_ascii_case(b"content-type"))
        };
        region.iter().any(|item| item.is("content-type"))
            || self.tail_stands_first()
            || tail.split(|byte| b"\r\n".contains(byte)).any(named)
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
            return Split { items: kinded(items), separator: None, body: line };
        }
        if content(line).is_empty() && line.ends_with(b"\n") {
            return Split { items: kinded(items), separator: Some(line), body: &message[end..] };
        }
        // Nothing continues an mbox line.
        let folded = matches!(line[0], b' ' | b'\t') && !(items.len() == 1 && message.starts_with(b"From "));
        match items.last_mut() {
            Some(last) if folded => {
                last.bytes = &message[start - last.bytes.len()..end];
            }
            _ => items.push(Item { kind: Kind::NoField, bytes: line }),
        }
    }
    Split { items: kinded(items), separator: None, body: b"" }
}

/// The items with their kinds, which can be told only when all their lines are known.
fn kinded(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    let kinds: Vec<Kind> = items.iter().enumerate().map(|(n, item)| kind(item.bytes, n == 0)).collect();
    items.into_iter().zip(kinds).map(|(item, kind)| Item { kind, ..item }).collect()
}

fn kind(item: &[u8], first: bool) -> Kind {
    if has_lone_cr(item) {
        return Kind::NoField;
    }
    if first && item.starts_with(b"From ") {
        return Kind::FromLine;
    }
    let line = lines(item).next().unwrap_or_default();
    match line.iter().position(|&byte| byte == b':') {
        Some(colon) if colon > 0 && line[..colon].iter().all(|byte| (33..=126).contains(byte)) => {
            Kind::Field(String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase())
        }
        _ => Kind::NoField,
    }
}

fn has_lone_cr(text: &[u8]) -> bool {
    lines(text).any(|line| content(line).contains(&b'\r'))
}

/// Whether there is nothing in a line but blanks.
fn is_blank(line: &[u8]) -> bool {
    content(line).iter().all(|byte| b" \t".contains(byte))
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
