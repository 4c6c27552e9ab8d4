//! `mailseal setup`: puts mailseal into the Dovecot that is there, and takes it away again.
//!
//! ```text
//! source     Dovecot's files as one text, with ours put in or left out
//! dovecot    what Dovecot makes of such a text                                    [edge]
//! plan       what is to be set, from what the site has; which of it would not count
//! settings   the text of our one file
//! prepare    all of that, tried before anything is changed                        [edge]
//! work       does it: what the settings need first, the settings last             [edge]
//! undo       takes it away: the settings first, what they need last               [edge]
//! journal    what was made, and how it is taken back                              [edge]
//! register, timer, reload, advice, diff
//! ```
//!
//! Invariants: a site's own files are never changed; our settings are put in place as a whole, when everything that they name is
//! there; where anything fails, everything is as it was. Dovecot 2.3 replaces lists, so our file repeats the site's: it is
//! written anew from what the site has without it.

mod advice;
mod diff;
mod dovecot;
mod journal;
mod plan;
mod prepare;
mod register;
mod reload;
mod settings;
mod source;
mod timer;
mod undo;
mod work;

use std::path::PathBuf;

use crate::error::Error;

pub use undo::undo;
pub use work::run;

/// Where mailseal's state is, unless another folder is named.
pub const STATE: &str = "/var/lib/mailseal";

/// What is to be set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// mailseal's configuration.
    pub config: PathBuf,
    /// Dovecot's main configuration, if another than its default.
    pub dovecot_config: Option<PathBuf>,
    /// A file with the users, one a line; those of Dovecot otherwise.
    pub users: Option<PathBuf>,
    /// The folder for the trap, the scripts and the journal.
    pub state: PathBuf,
    /// The folder that the filter is in, if another than the one beside this program.
    pub filter_dir: Option<PathBuf>,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

fn refusal(what: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Setup { what: what.into(), hint: hint.into() }
}

/// Only root may read and write all of it.
fn must_be_root() -> Result<(), Error> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(refusal("this is not root", "run it as root: it reads and writes Dovecot's settings"))
}
