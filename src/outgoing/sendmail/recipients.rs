//! The addresses in a list of them: an argument, a field of the header, an entry of an alias file (RFC 5322, section 3.4).
//!
//! Parsers of mail are made to find something in any list; here what could be read in two ways is an error, since a wrong guess
//! sends a message to somebody else. So this is written strictly, and only splits: what an address is, [`Address`] knows.
//!
//! [`Address`]: crate::outgoing::address::Address

use std::iter::Peekable;
use std::str::Chars;

use mailseal_core::message::head::{Head, Kind};

use crate::error::Error;

/// Fields that name recipients, and those that do when a message is sent again.
const FIELDS: [&str; 4] = ["To", "Cc", "Bcc", "Apparently-To"];
const AGAIN: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];

/// Fields beside those that say that a message is sent again.
const SENT_AGAIN: [&str; 5] =
    ["Resent-From", "Resent-Sender", "Resent-Date", "Resent-Message-ID", "Resent-Reply-To"];

/// What stands between addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Commas.
    Commas,
    /// Commas or blanks, as in arguments.
    Blanks,
}

/// The addresses in `list`, each as it is written there, without names and comments.
///
/// # Errors
/// What cannot be told for sure.
pub fn split(list: &str, between: Between) -> Result<Vec<String>, &'static str> {
    let mut splitter = Splitter { chars: list.chars().peekable(), between, ..Splitter::default() };
    splitter.run()?;
    Ok(splitter.found)
}

/// The recipients that a header names. Of a message that is sent again, those whom it is sent to now, as in Postfix.
///
/// # Errors
/// [`Error::Unresolved`] where readers of the header could find others.
pub fn named_by(head: Head<'_>) -> Result<Vec<String>, Error> {
    let doubt = |what: &str| Error::Unresolved { recipient: "the header (-t)".into(), what: what.into() };
    let (region, tail) = head.split();
    let names = || FIELDS.iter().chain(&AGAIN);
    let hides = |raw: &[u8]| {
        raw.split(|byte| matches!(byte, b'\n' | b'\r'))
            .filter_map(|line| line.split(|byte| *byte == b':').next().filter(|name| name.len() < line.len()))
            .any(|name| names().any(|it| name.trim_ascii_end().eq_ignore_ascii_case(it.as_bytes())))
    };
    if tail.items().any(|item| hides(item.raw)) || region.items().any(|item| item.kind == Kind::Malformed) {
        return Err(doubt("has a recipient behind a line that is not a field"));
    }
    let is_again = region.items().any(|item| {
        AGAIN.iter().chain(&SENT_AGAIN).any(|it| item.name().eq_ignore_ascii_case(it.as_bytes()))
    });
    let wanted: &[&str] = if is_again { &AGAIN } else { &FIELDS };
    let mut found = Vec::new();
    for item in region.items() {
        for value in wanted.iter().filter_map(|name| item.value_of(name)) {
            let list = split(&String::from_utf8_lossy(value), Between::Commas);
            found.extend(list.map_err(doubt)?);
        }
    }
    Ok(found)
}

/// Reads a list from its beginning to its end.
struct Splitter<'a> {
    chars: Peekable<Chars<'a>>,
    between: Between,
    found: Vec<String>,
    /// Words that are an address or the name before one; what follows without a blank goes on with the last one.
    words: Vec<String>,
    /// Whether the last word is over.
    over: bool,
    angle: Option<String>,
    in_group: bool,
}

impl Default for Splitter<'_> {
    fn default() -> Self {
        Self {
            chars: "".chars().peekable(),
            between: Between::Commas,
            found: Vec::new(),
            words: Vec::new(),
            over: true,
            angle: None,
            in_group: false,
        }
    }
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        while let Some(c) = self.chars.next() {
            match c {
                ' ' | '\t' | '\r' | '\n' => self.over = true,
                '(' => {
                    self.comment()?;
                    self.over = true;
                }
                ',' => self.end_of_one()?,
                ':' => self.begin_group()?,
                ';' if self.in_group => {
                    self.end_of_one()?;
                    self.in_group = false;
                }
                '<' if self.angle.is_none() => self.angle = Some(self.angle()?),
                ';' | '<' | '>' | ')' => return Err("holds a list that is not well formed"),
                c if c.is_control() => return Err("holds a control character"),
                c => self.word(c)?,
            }
        }
        self.end_of_one()
    }

    /// A piece of a word that begins with `c`: a character, or what is quoted.
    fn word(&mut self, c: char) -> Result<(), &'static str> {
        if self.angle.is_some() {
            return Err("holds text behind an address in angle brackets");
        }
        let piece = match c {
            '"' => self.quoted()?,
            '[' => self.literal()?,
            c => c.to_string(),
        };
        match self.words.last_mut().filter(|_| !self.over) {
            Some(word) => word.push_str(&piece),
            None => self.words.push(piece),
        }
        self.over = false;
        Ok(())
    }

    fn begin_group(&mut self) -> Result<(), &'static str> {
        let named = !self.words.is_empty() && self.angle.is_none() && !self.in_group;
        if !named || self.words.iter().any(|word| is_address(word)) {
            return Err("holds a colon where none belongs");
        }
        self.words.clear();
        self.over = true;
        self.in_group = true;
        Ok(())
    }

    fn end_of_one(&mut self) -> Result<(), &'static str> {
        self.over = true;
        let words = std::mem::take(&mut self.words);
        let addresses = match self.angle.take() {
            Some(_) if words.iter().any(|word| is_address(word)) => {
                return Err("holds an address before another");
            }
            Some(address) => vec![address],
            None if words.len() > 1 && self.between == Between::Commas => {
                return Err("holds several words that are not an address");
            }
            None => words,
        };
        if addresses.iter().any(|address| address.is_empty() || address.contains(char::REPLACEMENT_CHARACTER))
        {
            return Err("holds an address that is empty or not UTF-8");
        }
        self.found.extend(addresses);
        Ok(())
    }

    /// The rest of an address in angle brackets.
    fn angle(&mut self) -> Result<String, &'static str> {
        let mut address = String::new();
        let mut blank = false;
        while let Some(c) = self.chars.next() {
            let piece = match c {
                '>' => return Ok(address),
                ' ' | '\t' | '\r' | '\n' => {
                    blank = true;
                    continue;
                }
                '(' => {
                    self.comment()?;
                    blank = true;
                    continue;
                }
                '"' => self.quoted()?,
                '[' => self.literal()?,
                '<' | ')' => break,
                c if c.is_control() => break,
                c => c.to_string(),
            };
            if blank && !address.is_empty() {
                break;
            }
            blank = false;
            address.push_str(&piece);
        }
        Err("holds angle brackets that are not well formed")
    }

    fn comment(&mut self) -> Result<(), &'static str> {
        let mut depth = 1_usize;
        while let Some(c) = self.chars.next() {
            match c {
                '\\' => drop(self.chars.next()),
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err("holds a comment without an end")
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut text = String::from('"');
        while let Some(c) = self.chars.next() {
            text.push(c);
            match c {
                '"' => return Ok(text),
                '\\' => text.extend(self.chars.next()),
                _ => {}
            }
        }
        Err("holds a quote without an end")
    }

    fn literal(&mut self) -> Result<String, &'static str> {
        let mut text = String::from('[');
        for c in self.chars.by_ref() {
            text.push(c);
            if c == ']' {
                return Ok(text);
            }
        }
        Err("holds a bracket without an end")
    }
}

/// Whether a word of a name would be an address by itself.
fn is_address(word: &str) -> bool {
    !word.starts_with('"') && word.contains('@')
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    #[test]
    fn lists_are_split() {
        for (list, expected) in [
            ("a@b", Some("a@b")),
            ("a@b, c@d", Some("a@b c@d")),
            ("root", Some("root")),
            ("Alice <a@b>, Bob Smith <c@d>", Some("a@b c@d")),
            ("\"Smith, Bob\" <c@d>", Some("c@d")),
            ("\"root@evil\" <c@d>", Some("c@d")),
            ("a@b (Alice, at home), c@d (Bob (or so \\) ))", Some("a@b c@d")),
            ("\"a, b\"@c", Some("\"a, b\"@c")),
            ("team: a@b, Bob <c@d>;, e@f", Some("a@b c@d e@f")),
            ("undisclosed-recipients:;", Some("")),
            ("undisclosed-recipients:", Some("")),
            (" a@b,\r\n\tc@d\r\n", Some("a@b c@d")),
            (",a@b,,", Some("a@b")),
            ("< a@b >", Some("a@b")),
            ("=?utf-8?q?J=C3=B6rg?= <a@b>", Some("a@b")),
            ("a@[IPv6:::1]", Some("a@[IPv6:::1]")),
            ("J\u{fffd}rg <a@b>", Some("a@b")),
            ("", Some("")),
            ("a b@c", None),
            ("a@b c@d", None),
            ("a@b; c@d", None),
            ("a@b <c@d>", None),
            ("<a@b> c@d", None),
            ("<a@b> <c@d>", None),
            ("<a b@c>", None),
            ("<a@b", None),
            ("a@b>", None),
            ("(a@b", None),
            ("\"a@b", None),
            ("<>", None),
            ("a\u{fffd}@b", None),
            (":include:/etc/passwd", None),
            ("a@b: c@d;", None),
            ("x: y: a@b;;", None),
            ("a@b\0", None),
        ] {
            let found = split(list, Between::Commas).ok().map(|found| found.join(" "));
            assert_eq!(found.as_deref(), expected, "{list:?}");
        }
    }

    #[test]
    fn arguments_may_hold_blanks() {
        for (list, expected) in [
            ("a@b c@d", Some("a@b c@d")),
            ("root,a@b c@d", Some("root a@b c@d")),
            ("Bob Smith <c@d>", Some("c@d")),
            ("a@b <c@d>", None),
        ] {
            let found = split(list, Between::Blanks).ok().map(|found| found.join(" "));
            assert_eq!(found.as_deref(), expected, "{list:?}");
        }
    }

    /// Whatever is taken, mail-parser reads in the same way.
    #[test]
    fn another_parser_finds_the_same() {
        for list in [
            "a@b.example, c@d.example",
            "Alice <a@b.example>, \"Smith, Bob\" <c@d.example>",
            "team: a@b.example, Bob <c@d.example>;",
            "a@b.example (Alice)",
            "a@b.example,\r\n\tc@d.example",
        ] {
            let message = format!("To: {list}\r\n\r\n");
            let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
            let theirs: Vec<String> =
                parsed.to().unwrap().iter().filter_map(|it| it.address().map(str::to_owned)).collect();
            assert_eq!(split(list, Between::Commas).unwrap(), theirs, "{list}");
        }
    }

    #[test]
    fn a_header_names_recipients() {
        let named = |header: &str| named_by(Head::new(header.as_bytes(), b"\n")).ok().map(|it| it.join(" "));
        for (header, expected) in [
            ("From: x@y\nTo: a@b\ncc: c@d,\n e@f\nBCC: g@h\nTo: i@j\n", Some("a@b c@d e@f g@h i@j")),
            ("To: a@b\nResent-To: c@d\nResent-Bcc: e@f\n", Some("c@d e@f")),
            ("To: a@b\nResent-From: c@d\n", Some("")),
            ("Subject: To: a@b\n", Some("")),
            ("To: a b c\n", None),
            ("X: y\nnot a field\nTo: a@b\n", None),
            ("To : a@b\n", None),
            ("X: y\rBcc: a@b\nTo: c@d\n", None),
            ("To: c@d\n \nBcc: a@b\n", None),
        ] {
            assert_eq!(named(header).as_deref(), expected, "{header:?}");
        }
    }
}
