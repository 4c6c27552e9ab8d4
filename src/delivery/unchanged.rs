//! Every reason for which a message may go out as it came in, and the proof that each asks for.
//!
//! The list is closed: nothing else is ever passed through. `docs/unchanged.md` has it as a table, with the tests that
//! attack each line.

use mailseal_core::classify::Encrypted;

use crate::keystore::absence::Absent;

/// Why a message goes out as it came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// Its user has no certificate, which was proven.
    NoKey(Absent),
    /// An admin said so.
    Off(Off),
    /// It leaves this machine, and no rule of `[[outgoing]]` is for its recipient.
    NoPolicy,
    /// It is encrypted already, which its structure proves.
    Encrypted(Encrypted),
}

/// How an admin said that mail is to lie in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// `--off`, which a Sieve script gives for a user whose userdb field says so.
    Option,
    /// A rule of `[[users]]` with `mode = "off"`.
    Rule,
    /// A rule of `[[users]]` with `mode = "observe"`: what would have become of the mail is tried and logged.
    Observed,
}

impl Unchanged {
    /// The word in the log line.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoKey(_) => "no-key",
            Self::Off(_) => "off",
            Self::NoPolicy => "no-policy",
            Self::Encrypted(encrypted) => encrypted.name(),
        }
    }
}
