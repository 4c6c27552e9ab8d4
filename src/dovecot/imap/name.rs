//! Names of folders: as IMAP writes them (RFC 3501, section 5.1.3), and as people read them.

use data_encoding::{Encoding, Specification};

/// The name in quotes, to be sent; `None` for one that cannot be sent so.
#[must_use]
pub fn quoted(name: &str) -> Option<String> {
    let fit = name.chars().all(|c| !matches!(c, '\r' | '\n' | '\0'));
    fit.then(|| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The name that stands between quotes, its backslashes taken away.
#[must_use]
pub fn unquoted(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        name.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    name
}

/// The name as people read it; as it is where it is written wrongly.
#[must_use]
pub fn readable(name: &str) -> String {
    decode(name).unwrap_or_else(|| name.to_owned())
}

fn decode(name: &str) -> Option<String> {
    let base64 = modified_base64()?;
    let mut out = String::new();
    let mut rest = name;
    while let Some((plain, coded)) = rest.split_once('&') {
        out.push_str(plain);
        let (coded, behind) = coded.split_once('-')?;
        rest = behind;
        if coded.is_empty() {
            out.push('&');
            continue;
        }
        let bytes = base64.decode(coded.as_bytes()).ok()?;
        let units: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        out.push_str(&String::from_utf16(&units).ok()?);
    }
    out.push_str(rest);
    Some(out)
}

/// Base64 without padding, and with `,` in the place of `/`.
fn modified_base64() -> Option<Encoding> {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,");
    specification.encoding().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (written, read) in [
            ("INBOX", "INBOX"),
            ("Entw&APw-rfe", "Entw\u{fc}rfe"),
            ("A&-B.C", "A&B.C"),
            ("&U,BTFw-", "\u{53f0}\u{5317}"),
            ("&2DzfCQ-", "\u{1f309}"),
            ("broken &", "broken &"),
            ("&!-", "&!-"),
        ] {
            assert_eq!(readable(written), read);
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted(r#"a"b\c"#).unwrap(), r#""a\"b\\c""#);
        assert_eq!(unquoted(r#"a\"b\\c"#), r#"a"b\c"#);
        assert_eq!(quoted("a\r\nx"), None);
    }
}
