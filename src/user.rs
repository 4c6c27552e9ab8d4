//! The delivery user: a name that can never become a path.

use crate::error::Error;
use crate::limits;

/// A user name as Dovecot gives it, `alice` or `alice@example.org`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
}

impl User {
    /// Takes a name that is fit to be a file name.
    ///
    /// # Errors
    /// [`Error::User`] when it is empty, begins with a dot, holds `/`, NUL or another control character, or is longer
    /// than [`limits::USER_NAME`]; the same for what stands before and after its last `@`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let name = name.to_lowercase();
        let user = Self { name };
        let parts = [Some(user.name()), Some(user.local()), user.domain()];
        let fault = parts.into_iter().flatten().find_map(|part| check(part).err());
        match fault {
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

    /// Whether the name is matched by `pattern`, in which `*` stands for any text.
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let pattern = pattern.to_lowercase();
        let mut pieces = pattern.split('*');
        // The first piece is there even when the pattern is empty.
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = self.name.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// Why `part` cannot be a file name.
fn check(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        Err("is empty or has an empty part")
    } else if part.starts_with('.') {
        Err("begins with a dot")
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
        for name in ["a", "a..b", "a+b@c.d", "-x", "a%{home}", "\u{e9}@x"] {
            assert!(User::parse(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let user = User::parse("alice@example.org").unwrap();
        for pattern in
            ["*", "*@example.org", "alice@*", "a*@*.org", "ALICE@example.org", "*alice@example.org*"]
        {
            assert!(user.matches(pattern), "{pattern}");
        }
        for pattern in ["", "alice", "*@example.com", "b*", "*z*", "example.org", "alice@example.org*g"] {
            assert!(!user.matches(pattern), "{pattern}");
        }
    }
}
