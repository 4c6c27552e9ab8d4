//! Edge: How root works on users' files: it does not. For each owner it starts a process with that owner's rights.
//!
//! ```text
//! identity  whose rights a process gets: uid, primary group, groups
//! process   root's side: starts it, hands it its task, watches over it, reads what it reports   [edge]
//! child     the other side: gives up root's rights, takes the task, reports                     [edge]
//! slots     how many owners are worked on side by side
//! ```
//!
//! The process is this program once more: executed by root with an empty environment, with no descriptor but the pipes, and
//! then it drops to the owner's ids for good, undumpable from before the first of them. So there is no moment at which the
//! owner could trace it, read root's environment out of it, or write to its pipes. What an owner can do to it, stop or end
//! it, the watchdog and the next run put right.
//!
//! What it reports is taken as an owner's word: lines of bounded length and number, of known form, about its own task only.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

pub mod child;
pub mod identity;
pub mod process;
pub mod slots;

/// The option that makes the program such a process; the kind of the task follows.
pub const OPTION: &str = "--as-owner";

/// Longest line that a process reports, in bytes.
pub const LINE: usize = 64 * 1024;

/// Longest text of a person's in a report, in bytes: a path, and what is wrong with it.
pub const TEXT: usize = 8 * 1024;

/// Bytes in a task or a report, where they stand as base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

/// What a process says in one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Line<T> {
    /// Of its task.
    Said(T),
    /// That it could not do it, or not to its end.
    Failed {
        /// What failed.
        what: String,
        /// What to do.
        hint: String,
        /// The exit status.
        status: u8,
    },
}

impl<T> Line<T> {
    /// The end of a task that failed.
    #[must_use]
    pub fn failed(error: &Error) -> Self {
        Self::Failed { what: cut(error.to_string()), hint: cut(error.hint()), status: error.exit() as u8 }
    }
}

/// What was said, cut to [`TEXT`].
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_value_are_text_in_a_line() {
        let bytes = Bytes((0..=255).collect());
        let line = serde_json::to_vec(&bytes).unwrap();
        assert!(line.is_ascii() && !line.contains(&b'\n') && line.len() < 400);
        assert_eq!(serde_json::from_slice::<Bytes>(&line).unwrap(), bytes);
        assert!(
            serde_json::from_str::<Bytes>("\"?\"").is_err() && serde_json::from_str::<Bytes>("[1]").is_err()
        );
    }
}
