//! A path, `<local@domain>`, as a client wrote it (RFC 5321, section 4.1.2).

use std::fmt;

/// Longest path, in bytes: a longer one than RFC 5321, section 4.5.3.1.3, allows.
const LONGEST: usize = 1024;

/// A path. It is handed on as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    written: String,
}

/// Whom a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The part before the `@`, without quotes.
    pub local: String,
    /// The part behind it, where there is one.
    pub domain: Option<String>,
}

impl Path {
    /// Reads the path that `text` begins with, and how long it is. `None` where there is none.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<(Self, usize)> {
        let mut quoted = false;
        let mut bytes = text.iter().enumerate().skip(1);
        if text.first() != Some(&b'<') {
            return None;
        }
        let end = loop {
            let (at, byte) = bytes.next()?;
            match byte {
                b'"' => quoted = !quoted,
                b'\\' if quoted => {
                    bytes.next().filter(|(_, byte)| !byte.is_ascii_control())?;
                }
                b'>' if !quoted => break at + 1,
                b' ' | b'<' if !quoted => return None,
                0..b' ' | 0x7f => return None,
                _ => {}
            }
        };
        let written = String::from_utf8(text[..end].to_vec()).ok().filter(|text| text.len() <= LONGEST)?;
        Some((Self { written }, end))
    }

    /// With its angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whom it names; `None` for the null path and one that is not well formed. A source route is left out, as everybody does
    /// (RFC 5321, appendix C).
    #[must_use]
    pub fn mailbox(&self) -> Option<Mailbox> {
        let mut text = &self.written[1..self.written.len() - 1];
        if text.starts_with('@') {
            let (route, rest) = text.split_once(':')?;
            if !route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(is_name)) {
                return None;
            }
            text = rest;
        }
        let (local, rest) = if text.starts_with('"') { unquoted(text)? } else { bare(text)? };
        let domain = match rest.strip_prefix('@') {
            Some(domain) if is_name(domain) || is_literal(domain) => Some(domain.into()),
            None if rest.is_empty() => None,
            _ => return None,
        };
        (!local.is_empty()).then_some(Mailbox { local, domain })
    }

    /// Whether it is the null path, of a message that nobody is told of.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.written == "<>"
    }
}

/// Whether it is the name of a domain, as far as anybody could read it in another way.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(plain)
}

/// Whether it is an address in square brackets (RFC 5321, section 4.1.3).
fn is_literal(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inside.is_some_and(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-')))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The text within the quotes that `text` begins with, and what stands behind them.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    loop {
        match chars.next()? {
            (_, '\\') => local.push(chars.next()?.1),
            (at, '"') => return Some((local, &text[at + 1..])),
            (_, c) => local.push(c),
        }
    }
}

/// What stands before the `@`, of letters that need no quotes, and what stands from there on.
fn bare(text: &str) -> Option<(String, &str)> {
    let (local, rest) = text.split_at(text.rfind('@').unwrap_or(text.len()));
    let plain = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    local.chars().all(plain).then(|| (local.into(), rest))
}

impl Mailbox {
    /// The delivery user: local part and domain, without what follows the first of `delimiters` in the local part, as Dovecot's
    /// LMTP has it (`recipient_delimiter`).
    #[must_use]
    pub fn user(&self, delimiters: &str) -> String {
        let end = self.local.find(|c| delimiters.contains(c)).filter(|at| *at > 0);
        let user = &self.local[..end.unwrap_or(self.local.len())];
        self.domain.as_ref().map_or_else(|| user.into(), |domain| format!("{user}@{domain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Option<String> {
        let (path, length) = Path::read(text.as_bytes())?;
        assert_eq!(path.as_str(), &text[..length]);
        Some(path.mailbox()?.user("+-"))
    }

    #[test]
    fn a_path_names_a_user() {
        for (text, expected) in [
            ("<alice@example.org>", Some("alice@example.org")),
            ("<alice+lists@example.org> BODY=8BITMIME", Some("alice@example.org")),
            ("<alice-x+y@example.org>", Some("alice@example.org")),
            ("<+x@example.org>", Some("+x@example.org")),
            ("<alice>", Some("alice")),
            ("<\"a b\\\"c>\"@example.org>", Some("a b\"c>@example.org")),
            ("<\"a@b\"@example.org>", Some("a@b@example.org")),
            ("<@relay.example,@other.example:alice@example.org>", Some("alice@example.org")),
            ("<zo\u{eb}@example.org>", Some("zo\u{eb}@example.org")),
            ("<alice@[IPv6:::1]>", Some("alice@[IPv6:::1]")),
            ("<>", None),
            ("<@[IPv6:::1]:alice@example.org>", None),
            ("<@a:b:alice@example.org>", None),
            ("<a\"> FOO=BAR X=\"b@example.org>", None),
            ("<a(b)@example.org>", None),
            ("<alice@exa mple.org>", None),
            ("<alice@[::1>", None),
            ("<a@b@example.org>", None),
            ("<a b@example.org>", None),
            ("<alice@>", None),
            ("<@example.org>", None),
            ("<\"alice@example.org>", None),
            ("<\"a\"b@example.org>", None),
            ("<alice@example.org", None),
            ("<ali\rce@example.org>", None),
            ("<\"a\\\u{1}b\"@example.org>", None),
            ("alice@example.org>", None),
        ] {
            assert_eq!(user(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_null_path_is_a_path_of_nobody() {
        let (path, length) = Path::read(b"<> SIZE=1").unwrap();
        assert_eq!((path.as_str(), length, path.mailbox()), ("<>", 2, None));
    }
}
