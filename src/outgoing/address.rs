//! An address of a recipient in the one form in which rules and certificates are looked for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, NO_DOMAIN};
use crate::keystore::user::wildcard;
use crate::serve::smtp::path::{Mailbox, Path};

/// The name of every host for itself.
const LOOPBACK: &str = "localhost";

/// An address in lower case, without quotes, its domain in Unicode and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: String,
    domain: String,
}

impl Address {
    /// The address that `mailbox` names; one without a domain is of `domain`.
    ///
    /// # Errors
    /// [`Error::User`] for what cannot be told for sure: a domain that is no name or not well formed (UTS 46), a local part that
    /// holds another address or a route, or neither domain.
    pub fn of(mailbox: &Mailbox, domain: Option<&str>) -> Result<Self, Error> {
        let refused = |what| Error::User { name: format!("{}", Written(mailbox)), what };
        let local = normal(&mailbox.local);
        if local.contains(['@', '%', '!']) {
            return Err(refused("holds a second address"));
        }
        if local.is_empty() || local.chars().any(|c| c.is_control() || c == '/') || local.trim() != local {
            return Err(refused("is not an address that a rule could be found for"));
        }
        let domain = mailbox.domain.as_deref().or(domain).ok_or_else(|| refused(NO_DOMAIN))?;
        let domain = normal_domain(domain).ok_or_else(|| refused("has a domain that is not a name"))?;
        Ok(Self { local, domain })
    }

    /// Reads an address, as somebody types it.
    ///
    /// # Errors
    /// Those of [`Address::of`].
    pub fn parse(text: &str, domain: Option<&str>) -> Result<Self, Error> {
        let path = format!("<{text}>");
        let mailbox = Path::read(path.as_bytes()).filter(|(_, end)| *end == path.len());
        let mailbox = mailbox.and_then(|(path, _)| path.mailbox());
        Self::of(
            &mailbox.ok_or_else(|| Error::User { name: text.into(), what: "is not an address" })?,
            domain,
        )
    }

    /// Before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Behind it.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The same without what follows one of the `delimiters` in the local part; `None` where none does.
    #[must_use]
    pub fn without_detail(&self, delimiters: &str) -> Option<Self> {
        let at = self.local.find(|c| delimiters.contains(c)).filter(|at| *at > 0)?;
        Some(Self { local: self.local[..at].into(), domain: self.domain.clone() })
    }

    /// Whether `pattern` is for it: an address in which `*` stands for any text.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let Some((local, domain)) = pattern.rsplit_once('@') else {
            return wildcard(&normal(pattern), &self.to_string());
        };
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        // A part of a name is none that could be in another form.
        let label = |label: &str| {
            if label.contains('*') { normal(label) } else { unicode_name(label).unwrap_or_default() }
        };
        let labels = || domain.split('.').map(label).collect::<Vec<_>>().join(".");
        let domain = if is_loopback(domain) { LOOPBACK.into() } else { labels() };
        wildcard(&normal(local), &self.local) && wildcard(&domain, &self.domain)
    }

    /// Whether there is an address that `pattern` could be for: one with a letter in the place of each `*` is an address, and
    /// matches.
    #[must_use]
    pub fn could_match(pattern: &str) -> bool {
        let has_at = pattern.contains('@');
        let sample = if has_at { pattern.to_owned() } else { pattern.replacen('*', "x@x", 1) };
        Self::parse(&sample.replace('*', "x"), None).is_ok_and(|address| address.matches(pattern))
    }
}

/// As it was written.
struct Written<'a>(&'a Mailbox);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.local)?;
        self.0.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// In lower case and Unicode's normal form KC, in which letters that only look otherwise are the same (UAX #15).
fn normal(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

/// A domain as Unicode has it, and this host's own address as its name; `None` where it is no name.
fn normal_domain(domain: &str) -> Option<String> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if is_loopback(domain) {
        return Some(LOOPBACK.into());
    }
    // A name that ends in a number is an address, whatever that is (RFC 1123, section 2.1).
    let is_number = |label: &str| label.bytes().all(|c| c.is_ascii_digit()) || label.starts_with("0x");
    unicode_name(domain).filter(|name| !name.rsplit('.').next().is_some_and(is_number))
}

/// A name, or a part of one, as Unicode has it.
fn unicode_name(name: &str) -> Option<String> {
    let (unicode, sound) = idna::domain_to_unicode(name);
    let is_name = !unicode.is_empty()
        && unicode.split('.').all(|label| !label.is_empty())
        && unicode.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii());
    (sound.is_ok() && is_name).then_some(unicode)
}

/// Whether a domain is an address of the host itself, with or without brackets (RFC 5321, section 4.1.3).
fn is_loopback(domain: &str) -> bool {
    let inside = domain.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let v6 = inside
        .and_then(|text| text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map(|_| &text[5..]))
        .and_then(|text| text.parse::<Ipv6Addr>().ok())
        .map(IpAddr::V6);
    let address = v6.or_else(|| inside.unwrap_or(domain).parse().ok());
    address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_form() {
        for (written, expected) in [
            ("Alice@Example.ORG", Some("alice@example.org")),
            ("\"alice\"@example.org", Some("alice@example.org")),
            ("\"al\\ice\"@example.org", Some("alice@example.org")),
            ("alice@example.org.", Some("alice@example.org")),
            ("alice@xn--bcher-kva.example", Some("alice@bücher.example")),
            ("alice@XN--BCHER-KVA.example", Some("alice@bücher.example")),
            ("alice@BÜCHER.example", Some("alice@bücher.example")),
            ("alice@bu\u{308}cher.example", Some("alice@bücher.example")),
            ("A\u{301}lice@example.org", Some("álice@example.org")),
            ("@relay.example:alice@example.org", Some("alice@example.org")),
            ("alice", Some("alice@here.example")),
            ("alice@[127.0.0.1]", Some("alice@localhost")),
            ("alice@127.0.0.1", Some("alice@localhost")),
            ("alice@127.1.2.3.", Some("alice@localhost")),
            ("alice@[IPv6:::1]", Some("alice@localhost")),
            ("alice@[ipv6:::ffff:127.0.0.1]", Some("alice@localhost")),
            ("alice@[IPv6:::2]", None),
            ("alice@[192.0.2.1]", None),
            ("alice@192.0.2.1", None),
            ("alice@127.1", None),
            ("alice@0x7f000001", None),
            ("alice@2130706433", None),
            ("alice@3.example", Some("alice@3.example")),
            ("alice@xn--zzzzzzz99999.example", None),
            ("alice@example..org", None),
            ("alice%example.org@relay.example", None),
            ("example.org!alice@relay.example", None),
            ("\"alice@example.org\"@relay.example", None),
            ("\" alice\"@example.org", None),
            ("alice@example.org, bob@example.org", None),
            ("", None),
            ("@example.org", None),
        ] {
            let found = Address::parse(written, Some("here.example"));
            assert_eq!(found.ok().map(|address| address.to_string()).as_deref(), expected, "{written:?}");
        }
        assert!(Address::parse("alice", None).is_err());
    }

    #[test]
    fn patterns_match_whatever_their_form() {
        let address = |text| Address::parse(text, None).unwrap();
        for (pattern, text, expected) in [
            ("alice@example.org", "ALICE@example.org", true),
            ("Alice@Example.Org.", "alice@example.org", true),
            ("*@example.org", "a@example.org", true),
            ("*@example.org", "a@sub.example.org", false),
            ("*@*.example.org", "a@sub.example.org", true),
            ("*@*.example.org", "a@example.org", false),
            ("*@xn--bcher-kva.example", "a@bücher.example", true),
            ("*@bücher.example", "a@xn--bcher-kva.example", true),
            ("team-*@example.org", "team-a@example.org", true),
            ("*", "a@example.org", true),
            ("*example.org", "a@example.org", true),
            ("alice@example.org", "alice+x@example.org", false),
            ("*@*.xn--bcher-kva.example", "a@x.bücher.example", true),
            ("*@*.BÜCHER.example.", "a@x.xn--bcher-kva.example", true),
            ("*@*.example.org.", "a@x.example.org", true),
            ("*@3.example", "a@3.example", true),
            ("root@[127.0.0.1]", "root@localhost", true),
            ("*@localhost", "root@127.0.0.1", true),
        ] {
            assert_eq!(address(text).matches(pattern), expected, "{pattern} {text}");
            assert!(Address::could_match(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_is_for_nobody_is_known() {
        for pattern in [
            "",
            "team",
            "\"team\"@example.org",
            "<team@example.org>",
            "Team <team@example.org>",
            "a@x.org, b@x.org",
            " team@example.org",
            "team@[192.0.2.1]",
            "*@team..example",
            "*@xn--*.example",
            "*@xn--zzzzzzz99999.example",
            "@example.org",
            "team@",
            "mailto:team@example.org",
        ] {
            assert!(!Address::could_match(pattern), "{pattern:?}");
        }
        for pattern in ["*", "*example.org", "*@example.org", "team-*@*.org"] {
            assert!(Address::could_match(pattern), "{pattern:?}");
        }
    }

    #[test]
    fn a_detail_is_what_follows_a_delimiter() {
        let address = |text| Address::parse(text, None).unwrap();
        for (text, delimiters, expected) in [
            ("alice+a-b@c.d", "+", Some("alice@c.d")),
            ("alice-a+b@c.d", "+-", Some("alice@c.d")),
            ("alice@c.d", "+", None),
            ("+alice@c.d", "+", None),
            ("alice+a@c.d", "", None),
        ] {
            assert_eq!(address(text).without_detail(delimiters), expected.map(address), "{text}");
        }
    }
}
