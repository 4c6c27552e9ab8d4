//! Where the body of an HTML text begins, and how text is written into it.

use std::fmt::Write as _;

/// Elements whose content is no markup.
const RAW: [&[u8]; 4] = [b"script", b"style", b"title", b"textarea"];

/// The place behind the `<body>` tag; the very beginning, where the text is only a piece of a body. `None` where it is
/// not found. Quoted-printable may be read as it stands: a tag that it breaks is not found.
#[must_use]
pub fn body_start(html: &[u8]) -> Option<usize> {
    let mut tags = Tags { html, at: 0 };
    let mut first = true;
    while let Some((name, end)) = tags.next_tag() {
        if name.eq_ignore_ascii_case(b"body") {
            return Some(end);
        }
        let document =
            [&b"!doctype"[..], b"html", b"head", b"meta", b"title", b"style", b"base", b"link", b"?xml"];
        if first && !document.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            return Some(0);
        }
        first = false;
        if RAW.iter().any(|raw| name.eq_ignore_ascii_case(raw)) {
            tags.skip_content(name)?;
        }
    }
    None
}

/// `text` with everything escaped that is not plain ASCII or means something in HTML.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            ' '..='~' => out.push(c),
            // Writing to a String cannot fail.
            _ => _ = write!(out, "&#{};", u32::from(c)),
        }
    }
    out
}

struct Tags<'a> {
    html: &'a [u8],
    at: usize,
}

impl<'a> Tags<'a> {
    /// The name of the next start tag or declaration, and where it ends.
    fn next_tag(&mut self) -> Option<(&'a [u8], usize)> {
        loop {
            self.at += memchr::memchr(b'<', &self.html[self.at..])?;
            let rest = &self.html[self.at..];
            if rest.starts_with(b"<!--") {
                self.at += memchr::memmem::find(rest, b"-->")? + 3;
                continue;
            }
            let tag = &rest[1..];
            let length =
                tag.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"!?:-".contains(byte)).count();
            if length == 0 {
                self.at += 1;
                continue;
            }
            let end = tag_end(rest)?;
            self.at += end;
            return Some((&tag[..length], self.at));
        }
    }

    /// Goes on behind the content of the element called `name`.
    fn skip_content(&mut self, name: &[u8]) -> Option<()> {
        loop {
            self.at += memchr::memmem::find(&self.html[self.at..], b"</")? + 2;
            let rest = &self.html[self.at..];
            if rest.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)) {
                return Some(());
            }
        }
    }
}

/// Behind the `>` of the tag that `html` begins with: one inside quotes is none.
fn tag_end(html: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, &byte) in html.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_begins_behind_its_tag() {
        for (html, expected) in [
            ("<html><body>|x", true),
            ("<!DOCTYPE html>\n<HTML><head><title><body></title></head><BODY class=\"a>b\" id='c>'>|x", true),
            ("<html><head><!-- <body> --><style>body > a{}</style></head><body>|x</body>", true),
            ("|<p>Hello</p>", true),
            ("|Hello <b>you</b>", true),
            ("<html><p>no tag", false),
            ("<html><body class=\"open", false),
            ("plain", false),
        ] {
            let place = expected.then(|| html.find('|').unwrap());
            assert_eq!(body_start(html.replace('|', "").as_bytes()), place, "{html}");
        }
    }

    #[test]
    fn text_is_only_text() {
        assert_eq!(escaped("<b>&\u{e9}\u{1f600}"), "&lt;b&gt;&amp;&#233;&#128512;");
    }
}
