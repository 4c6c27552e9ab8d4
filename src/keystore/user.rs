//! The delivery user: a name that can never become a path, and when two names are so near that one may be the other.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::error::Error;
use crate::limits;

/// What sets a suffix off from the name of its user (`alice+lists`), as Dovecot's `recipient_delimiter` does by default.
const DELIMITER: char = '+';

/// A user name as Dovecot gives it, `alice` or `alice@example.org`, in lower case and in Unicode's normal form C.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    name: String,
}

impl User {
    /// Takes a name that is fit to be a file name.
    ///
    /// # Errors
    /// [`Error::User`] when it is empty, begins with a dot or a blank, ends with one, holds `/`, NUL or another control
    /// character, is not in normal form C (UAX #15), or is longer than [`limits::USER_NAME`]; the same for what stands
    /// before and after its last `@`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let normal = is_nfc(name);
        let name = name.to_lowercase();
        let normal = normal && is_nfc(&name);
        let user = Self { name };
        let parts = [Some(user.name()), Some(user.local()), user.domain()];
        let fault = parts.into_iter().flatten().find_map(|part| check(part).err());
        match fault.or((!normal).then_some("is not in Unicode's normal form C")) {
            None => Ok(user),
            Some(what) => Err(Error::User { name: user.name, what }),
        }
    }

    /// The whole name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands before the last `@`; the whole name where there is none.
    #[must_use]
    pub fn local(&self) -> &str {
        self.name.rsplit_once('@').map_or(&*self.name, |(local, _)| local)
    }

    /// What stands after the last `@`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.name.rsplit_once('@').map(|(_, domain)| domain)
    }

    /// What an index of users has to hold so that [`User::is_near`] can be answered without going through it: two users
    /// are near each other exactly when one's [`sought`](User::sought) and the other's `indexed` have a text in common.
    #[must_use]
    pub fn indexed(&self) -> Vec<String> {
        let base = self.base();
        match self.domain() {
            Some(domain) => vec![format!("{base}@{}", fold_domain(domain)), format!("{base}@")],
            None => vec![base],
        }
    }

    /// What is looked for in such an index.
    #[must_use]
    pub fn sought(&self) -> Vec<String> {
        let base = self.base();
        match self.domain() {
            Some(domain) => vec![format!("{base}@{}", fold_domain(domain)), base],
            None => vec![format!("{base}@"), base],
        }
    }

    /// Whether the two names are the same but for a missing domain, a suffix behind `+`, case, a form of Unicode, or a domain
    /// that is written in ASCII (RFC 5890's A-labels) in one and in Unicode in the other.
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        let same_domain = match (self.domain(), other.domain()) {
            (Some(one), Some(another)) => fold_domain(one) == fold_domain(another),
            _ => true,
        };
        same_domain && self.base() == other.base()
    }

    /// The local part without its suffix, folded.
    fn base(&self) -> String {
        let local = self.local();
        fold(match local.split_once(DELIMITER) {
            Some((base, _)) if !base.is_empty() => base,
            _ => local,
        })
    }

    /// Whether the name is matched by `pattern`, in which `*` stands for any text. Their domains may be written in ASCII or in
    /// Unicode.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.to_lowercase();
        let forms = || domain_forms(&self.name).iter().any(|form| wildcard(&pattern, form));
        wildcard(&pattern, &self.name) || self.domain().is_some() && forms()
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    // The first piece is there even when the pattern is empty.
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What names have in common that differ by case or by a form of Unicode only. One round of lower case tells some apart
/// (sharp s and `ss`, the two small sigmas, dotless i and `i`), as normal form C does with wide and stylistic letters.
fn fold(text: &str) -> String {
    let upper = text.nfkc().collect::<String>().to_uppercase();
    // A capital I with a dot becomes an i and a dot.
    let lower = upper.to_lowercase().replace("i\u{307}", "i").replace('\u{3c2}', "\u{3c3}");
    // It is to be a file name: some characters become a slash, or a dot.
    let folded = lower.nfkc().collect::<String>().replace('/', "|");
    if folded.starts_with('.') { format!("|{folded}") } else { folded }
}

/// The same name with its domain, which is all of it where there is no `@`, in Unicode and, where it has that form, in ASCII.
pub(super) fn domain_forms(name: &str) -> Vec<String> {
    let (user, domain) = name.split_at(name.rfind('@').map_or(0, |at| at + 1));
    let forms = [Some(idna::domain_to_unicode(domain).0), idna::domain_to_ascii(domain).ok()];
    forms.into_iter().flatten().map(|form| user.to_owned() + &form).collect()
}

/// Whether `one` and `other` are one address: their domains may be written in ASCII or in Unicode, in any case and form.
pub(super) fn is_same_address(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((local, domain)), Some((other_local, other_domain))) => {
            let is_same_local = local.eq_ignore_ascii_case(other_local)
                || !local.is_ascii() && fold(local) == fold(other_local);
            is_same_local
                && (domain.eq_ignore_ascii_case(other_domain)
                    || fold_domain(domain) == fold_domain(other_domain))
        }
        _ => false,
    }
}

/// The same for a domain, whose labels may be written in ASCII: an MTA without SMTPUTF8 knows no other form.
fn fold_domain(domain: &str) -> String {
    fold(&idna::domain_to_unicode(&fold(domain)).0)
}

/// Why `part` cannot be a file name.
fn check(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        Err("is empty or has an empty part")
    } else if part.starts_with('.') {
        Err("begins with a dot")
    } else if part.ends_with('.') {
        Err("ends with a dot, or a part of it does")
    } else if part.trim() != part {
        Err("begins or ends with a blank, or a part of it does")
    } else if part.contains('/') {
        Err("holds a slash")
    } else if part.contains(char::is_control) {
        Err("holds a control character")
    } else if part.len() > limits::USER_NAME {
        Err("is too long for a file name")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_lower_case_and_have_parts() {
        let user = User::parse("Alice.B@Example.ORG").unwrap();
        assert_eq!(
            (user.name(), user.local(), user.domain()),
            ("alice.b@example.org", "alice.b", Some("example.org"))
        );
        let user = User::parse("bob").unwrap();
        assert_eq!((user.local(), user.domain()), ("bob", None));
    }

    #[test]
    fn no_name_leads_out_of_a_folder() {
        let long = "a".repeat(limits::USER_NAME + 1);
        for name in [
            "", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\nb", "a@..", "a@.x", "@x", "a@",
            "a@b/c", &long,
        ] {
            assert!(matches!(User::parse(name), Err(Error::User { .. })), "{name:?}");
        }
        for name in ["a", "a..b", "a+b@c.d", "-x", "a%{home}", "\u{e9}@x", "+x", "a b"] {
            assert!(User::parse(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn what_is_indexed_and_sought_is_a_file_s_name() {
        for name in [
            "\u{ff0f}etc\u{ff0f}x",
            "\u{2024}\u{2024}",
            "\u{2100}@x.org",
            "a@\u{2100}.org",
            "a@\u{ff0f}x",
            "\u{2025}+x",
        ] {
            let user = User::parse(name).unwrap();
            for text in user.indexed().iter().chain(&user.sought()) {
                assert!(!text.contains('/') && !text.starts_with('.') && !text.is_empty(), "{name}: {text}");
            }
        }
    }

    #[test]
    fn a_name_that_some_file_system_takes_for_another_is_refused() {
        for name in [
            "alice.",
            "alice ",
            " alice",
            "a.@x.org",
            "a@x.org.",
            "a@x.org ",
            "a\u{a0}",
            "e\u{301}",
            "E\u{301}@x",
        ] {
            assert!(matches!(User::parse(name), Err(Error::User { .. })), "{name:?}");
        }
    }

    #[test]
    fn near_names_lack_a_domain_or_have_a_suffix() {
        let names = [
            "alice",
            "alice+x",
            "alice@a.org",
            "alice+x@a.org",
            "alice+y+z@a.org",
            "alice@b.org",
            "bob",
            "bob@a.org",
            "+alice",
            "+",
            "+@a.org",
            "a@b@a.org",
        ];
        let users = names.map(|name| User::parse(name).unwrap());
        for one in &users {
            for other in &users {
                let indexed = other.indexed();
                let found = one.sought().iter().any(|text| indexed.contains(text));
                assert_eq!(found, one.is_near(other), "{} {}", one.name(), other.name());
                assert_eq!(one.is_near(other), other.is_near(one));
            }
            assert!(one.is_near(one));
        }
        let near = |one: &str, other: &str| User::parse(one).unwrap().is_near(&User::parse(other).unwrap());
        assert!(
            near("alice", "alice@a.org") && near("ALICE+x@a.org", "alice@a.org") && near("alice+x", "alice")
        );
        for (one, other) in [
            ("\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c2}", "\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c3}@x.org"),
            ("stra\u{df}e", "STRASSE"),
            ("sam", "\u{17f}am"),
            ("\u{131}pek", "IPEK"),
            ("\u{130}pek", "ipek@x.org"),
            ("\u{ff41}lice", "alice"),
            ("bob@xn--bcher-kva.example", "bob@b\u{fc}cher.example"),
            ("bob+x@XN--BCHER-KVA.example", "bob@B\u{dc}CHER.example"),
            ("bob@b\u{fc}ch\u{ad}er\u{3002}example", "bob@b\u{fc}cher.example"),
            ("bob@xn--strae-oqa.example", "bob@strasse.example"),
            (
                "bob@xn--kxae4bafwg.xn--pxaix.gr",
                "bob@\u{3bf}\u{3c5}\u{3c4}\u{3bf}\u{3c0}\u{3af}\u{3b1}.\u{3b4}\u{3c0}\u{3b8}.gr",
            ),
        ] {
            assert!(near(one, other) && near(other, one), "{one} {other}");
        }
        assert!(!near("alice@a.org", "alice@b.org") && !near("alice", "bob@a.org"));
    }

    #[test]
    fn patterns_match_whole_names() {
        let user = User::parse("alice@example.org").unwrap();
        for pattern in
            ["*", "*@example.org", "alice@*", "a*@*.org", "ALICE@example.org", "*alice@example.org*"]
        {
            assert!(user.matches(pattern), "{pattern}");
        }
        for (name, pattern) in [
            ("bob@xn--bcher-kva.example", "*@b\u{fc}cher.example"),
            ("bob@b\u{fc}cher.example", "bob@XN--bcher-kva.*"),
            ("bob@b\u{fc}cher\u{3002}example", "*@b\u{fc}cher.example"),
        ] {
            assert!(User::parse(name).unwrap().matches(pattern), "{name} {pattern}");
        }
        for pattern in ["", "alice", "*@example.com", "b*", "*z*", "example.org", "alice@example.org*g"] {
            assert!(!user.matches(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_name_is_in_normal_form_as_given_and_in_lower_case() {
        // The Kelvin sign becomes a k; j with a caron has a character of its own, and its capital has none.
        for name in ["\u{212a}elvin", "J\u{30c}an"] {
            assert!(matches!(User::parse(name), Err(Error::User { .. })), "{name:?}");
        }
        assert_eq!(User::parse("\u{1f0}an").unwrap().name(), "\u{1f0}an");
    }

    #[test]
    fn the_longest_name_is_a_file_s() {
        let name = "a".repeat(limits::USER_NAME);
        assert!(User::parse(&name).is_ok());
        assert!(User::parse(&(name + "a")).is_err());
    }

    /// A pattern's meaning, told character by character.
    fn is_matched(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| is_matched(rest, &name[at..])),
            Some((first, rest)) => {
                name.split_first().is_some_and(|(it, name)| it == first && is_matched(rest, name))
            }
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_text(pattern in "[ab*]{0,6}", name in "[ab]{1,7}") {
            let user = User::parse(&name).unwrap();
            prop_assert_eq!(user.matches(&pattern), is_matched(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
