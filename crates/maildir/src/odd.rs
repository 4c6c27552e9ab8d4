//! What mail programs find in a Maildir and nothing here works on: it is named, never passed over.

use std::fmt;
use std::path::PathBuf;

/// Something in a Maildir that is left alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Odd {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is left alone.
    pub why: Why,
}

/// Why something is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A message that is no regular file: a link could lead anywhere, a FIFO has no end.
    NotAFile,
    /// A message whose name has nothing that tells it from others. Dovecot renames such a one when it finds it.
    Unnamed,
    /// A folder, or its `cur` or `new`, that is a symbolic link: it could lead anywhere.
    Linked,
    /// A folder that whoever runs this has no right to open.
    Closed,
    /// A folder with messages that lacks `cur` or `new`. Dovecot makes what is missing when the folder is opened.
    Incomplete,
}

impl Why {
    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAFile => "not-a-file",
            Self::Unnamed => "unnamed",
            Self::Linked => "linked",
            Self::Closed => "closed",
            Self::Incomplete => "incomplete",
        }
    }

    /// What is odd about it.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::NotAFile => "it is a link, FIFO, socket or device",
            Self::Unnamed => {
                "its name is not that of a message: nothing stands before the first comma or colon"
            }
            Self::Linked => "it is a symbolic link to where messages may be, and no link is followed",
            Self::Closed => "it cannot be opened: permission denied",
            Self::Incomplete => "the folder has messages and lacks `cur` or `new`",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotAFile => "remove it, or put the message there",
            Self::Unnamed => {
                "open the folder with a mail program, for which Dovecot renames it; then run this again"
            }
            Self::Linked => {
                "put the folder there in place of the link, or run this on the Maildir that the link leads to as well"
            }
            Self::Closed => "give the Maildir's owner the rights to open it (chmod u+rwx)",
            Self::Incomplete => {
                "open the folder with a mail program, for which Dovecot makes what is missing; then run this again"
            }
        }
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.why.what())
    }
}
