//! What the shy policy leaves of addresses and dates (RFC 9788, section 3.2.2). What is not understood beyond doubt stays
//! as it is: mail must find its way, and be sorted by the right time.

use mail_parser::parsers::MessageStream;
use mail_parser::{Address, DateTime, HeaderValue};

use crate::limits;

/// Where a list of addresses is broken.
const LINE: usize = 72;

/// The addresses of a mailbox list, without display names and comments, in lines that end with `ending`; `None` where
/// `value` is no such list.
pub fn addresses(value: &[u8], ending: &str) -> Option<String> {
    if value.len() > limits::PROTECTED_FIELD {
        return None;
    }
    let line_ended = [value.trim_ascii(), b"\n"].concat();
    let HeaderValue::Address(Address::List(list)) = MessageStream::new(&line_ended).parse_address() else {
        return None;
    };
    let plain = skeleton(value)?;
    let mut entries = plain.split(',');
    let mut out = String::new();
    let mut line = 0;
    for mailbox in &list {
        let address = mailbox.address.as_deref().filter(|address| is_plain(address))?;
        if entries.next().is_none_or(|entry| !is_mailbox(entry, address)) {
            return None;
        }
        if !out.is_empty() {
            out.push(',');
            if line + address.len() > LINE {
                out.push_str(ending);
                line = 0;
            }
            out.push(' ');
        }
        out.push_str(address);
        line += address.len() + 2;
    }
    (entries.next().is_none() && !out.is_empty()).then_some(out)
}

/// The names of a list of mailboxes of this host, none of which has a domain, without display names and comments; `None` where
/// `value` is no such list.
pub fn local_parts(value: &[u8]) -> Option<String> {
    if value.len() > limits::PROTECTED_FIELD {
        return None;
    }
    let atom = |text: &str| {
        // As a login name has them, and no encoded word.
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"+-_.$".contains(&c);
        !text.is_empty() && text.bytes().all(allowed)
    };
    let entry = |entry: &str| {
        let name = match entry.trim().split_once('<') {
            Some((name, rest)) if !name.contains(['>', ':', ';']) => {
                rest.strip_suffix('>')?.trim().to_owned()
            }
            Some(_) => return None,
            None => entry.trim().to_owned(),
        };
        atom(&name).then_some(name)
    };
    let entries: Option<Vec<String>> = skeleton(value)?.split(',').map(entry).collect();
    entries.map(|entries| entries.join(", "))
}

/// A list of addresses in which a quote stands for each quoted string, and a blank for each comment; `None` where one of them is
/// not ended, and where a backslash stands elsewhere.
fn skeleton(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?;
    let (mut out, mut depth, mut quoted) = (String::new(), 0_usize, false);
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if quoted || depth > 0 => drop(rest.next()?),
            '\\' => return None,
            '"' if depth == 0 => {
                quoted = !quoted;
                if quoted {
                    out.push('"');
                }
            }
            _ if quoted => {}
            '(' => {
                depth += 1;
                out.push(' ');
            }
            ')' => depth = depth.checked_sub(1)?,
            _ if depth > 0 => {}
            c => out.push(c),
        }
    }
    (depth == 0 && !quoted).then_some(out)
}

/// Whether every reader finds `address` in an entry of a [`skeleton`], and nothing else that could be one.
fn is_mailbox(entry: &str, address: &str) -> bool {
    match entry.trim().split_once('<') {
        Some((name, rest)) => {
            !name.contains(['@', '>', ':', ';']) && rest.strip_suffix('>').map(str::trim) == Some(address)
        }
        None => entry.trim() == address,
    }
}

/// An address that can stand alone, without quotes or brackets.
fn is_plain(address: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !"()<>[]:;,\\\"".contains(c);
    let Some((local, domain)) = address.split_once('@') else { return false };
    !local.is_empty() && !domain.is_empty() && !domain.contains('@') && address.chars().all(allowed)
}

/// The same moment in UTC; `None` where `value` is no date.
pub fn date(value: &[u8]) -> Option<String> {
    if value.len() > limits::MIME_FIELD {
        return None;
    }
    let value = [value.trim_ascii(), b"\n"].concat();
    let HeaderValue::DateTime(date) = MessageStream::new(&value).parse_date() else { return None };
    let year = 1970..10_000;
    (date.is_valid() && year.contains(&date.year))
        .then(|| DateTime::from_timestamp(date.to_timestamp()).to_rfc822())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_left() {
        for (value, expected) in [
            (" Alice <alice@example.org>\n", Some("alice@example.org")),
            (
                " \"Last, First\" <a@b.c>, d@e.f (Dee),\n\t=?utf-8?Q?=C3=A9?= <g@h.i>\n",
                Some("a@b.c, d@e.f, g@h.i"),
            ),
            (" undisclosed-recipients:;\n", None),
            (" friends: a@b.c, d@e.f;\n", None),
            (" Alice\n", None),
            (" \"a b\"@example.org\n", None),
            (" \"boss@b.c\" <bob@example.net>\n", Some("bob@example.net")),
            (" boss@b.c <bob@example.net>\n", None),
            (" \"boss@b.c\" bob@example.net\n", None),
            (" boss@b.c (x) <bob@example.net>\n", None),
            (" (boss@b.c) <bob@example.net>\n", Some("bob@example.net")),
            (" <boss@b.c> <bob@example.net>\n", None),
            (" bob@example.net <boss@b.c\n", None),
            (" Bob <bob@example.net> boss@b.c\n", None),
            (" Bob \\\"<boss@b.c> <bob@example.net>\n", None),
            (" \"Bob <bob@example.net>\n", None),
            (" =?utf-8?Q?a,b?= <bob@example.net>\n", None),
            (" Alice <alice@example.org>, Bob\n", None),
            ("\n", None),
        ] {
            assert_eq!(addresses(value.as_bytes(), "\n").as_deref(), expected, "{value:?}");
        }
        let many = "Name <somebody@example.org>, ".repeat(9);
        let shown = addresses(many.trim_end_matches(", ").as_bytes(), "\r\n").unwrap();
        assert_eq!(shown.matches("somebody").count(), 9);
        assert!(shown.split("\r\n").all(|line| line.len() < 80));
    }

    #[test]
    fn names_of_this_host_are_left() {
        for (value, expected) in [
            (" root\n", Some("root")),
            (" root (Cron Daemon)\n", Some("root")),
            (" Cron Daemon <root>, \"A, B\" <b.c>\n", Some("root, b.c")),
            (" root@example.org\n", None),
            (" Cron Daemon\n", None),
            (" friends: root;\n", None),
            (" friends: <root>\n", None),
            (" <root\n", None),
            (" \n", None),
        ] {
            assert_eq!(local_parts(value.as_bytes()).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn dates_are_the_same_moment() {
        for (value, expected) in [
            (" Fri, 21 Jan 2022 20:40:48 -0500\r\n", Some("Sat, 22 Jan 2022 01:40:48 +0000")),
            (" 1 Mar 2024 00:30 +0100 (CET)\n", Some("Thu, 29 Feb 2024 23:30:00 +0000")),
            (" yesterday\n", None),
            ("\n", None),
        ] {
            assert_eq!(date(value.as_bytes()).as_deref(), expected, "{value:?}");
        }
    }
}
