//! Why a Maildir cannot be worked on.

use std::io;
use std::path::PathBuf;

use crate::odd::Odd;

/// Why a Maildir, or a message in it, cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path is not, or not safely, a Maildir.
    #[error("{}: {what}", path.display())]
    NoMaildir {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A message, or a folder of messages, could not be worked on; what it held is still there.
    #[error("{}: {source}", path.display())]
    Mail {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Mail programs find messages where nothing is worked on.
    #[error("{0}")]
    Odd(Odd),
}
