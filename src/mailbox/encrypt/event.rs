//! What the process that touches mail is told, and what it reports: lines of JSON between it and the one that was
//! started, which may be root.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mailbox::encrypt::options::How;
use crate::mailbox::tally::Tally;
use crate::system::owner::cut;
use crate::system::owner::process::Report;

/// What one process works on: Maildirs of one owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The Maildirs.
    pub targets: Vec<Target>,
    /// How.
    pub settings: Settings,
}

/// What one process works on through Dovecot: the mailbox of one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mailbox {
    /// Whose it is.
    pub target: Target,
    /// How.
    pub settings: Settings,
    /// At most so many messages a second.
    pub rate: Option<f64>,
    /// Messages over which Dovecot has ended a session, or the batches that they are in.
    pub suspects: Vec<Suspect>,
}

/// Messages that were asked for when a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Their folder, as IMAP writes it.
    pub folder: String,
    /// Under which their UIDs are valid.
    pub uid_validity: u32,
    /// Their UIDs. One alone is not asked for any more; several are asked for one by one; none means that sizes are not
    /// asked for.
    pub uids: Vec<u32>,
}

impl Mailbox {
    /// The least time that a message takes.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let longest = Duration::from_secs(3600);
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::try_from_secs_f64(1.0 / rate).unwrap_or(longest).min(longest)
        })
    }
}

/// A Maildir and whose mail it holds. Paths are as the system has them: they need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The Maildir; the user's name where the mailbox is Dovecot's business.
    pub path: OsString,
    /// The delivery user.
    pub user: String,
    /// The user's home, where it is known.
    pub home: Option<OsString>,
    /// Dovecot's control folder, where it is elsewhere.
    pub control: Option<OsString>,
}

/// What the command line says of how it is to be done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The configuration file, if another than the default.
    pub config: Option<OsString>,
    /// Certificates, each serialized; when there are any, none are looked up.
    pub certs: Vec<Vec<u8>>,
    /// How messages are sealed.
    pub how: How,
}

impl Settings {
    /// The same with so many messages at once, one at least.
    #[must_use]
    pub fn with_jobs(&self, jobs: usize) -> Self {
        let how = How { jobs: NonZeroUsize::new(jobs.max(1)), ..self.how.clone() };
        Self { how, ..self.clone() }
    }
}

/// What is reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Event {
    /// How much there is to do in one Maildir.
    Survey {
        /// Messages.
        messages: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Another run works on this folder, and is waited for.
    Waiting {
        /// Its path.
        folder: String,
    },
    /// The work goes on, although nothing is done yet.
    Alive,
    /// So much has been done.
    Step {
        /// Messages.
        messages: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// A message that failed, or that the server can still read.
    Problem(Complaint),
    /// A folder is done.
    Folder {
        /// Its Maildir, as the number of the target.
        target: usize,
        /// Its path below the Maildir; empty for the Maildir itself.
        folder: String,
        /// What became of its messages.
        tally: Tally,
    },
    /// A Maildir is done.
    Maildir {
        /// The number of the target.
        target: usize,
        /// Names elsewhere that still hold the clear text of sealed messages.
        elsewhere: u64,
        /// Whether a message got another name, so that Dovecot's caches and the quota are out of date.
        changed: bool,
    },
    /// Dovecot has ended the session when it was asked for these messages.
    Broken(Suspect),
    /// A Maildir could not be worked on, or not to its end.
    Failed {
        /// The number of the target.
        target: usize,
        /// Why.
        complaint: Complaint,
        /// The exit status.
        status: u8,
    },
}

/// What is said on standard error, not escaped yet: what failed and where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complaint {
    /// What failed.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Complaint {
    /// The complaint about an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        Self { what: cut(error.to_string()), hint: cut(error.hint()) }
    }
}

impl Event {
    /// The same event of a job whose targets have other numbers elsewhere.
    ///
    /// # Errors
    /// `InvalidData` for a target that is none of the job's.
    pub fn renumbered(self, number: impl Fn(usize) -> Option<usize>) -> io::Result<Self> {
        let of = |target: usize| {
            let unknown =
                || io::Error::new(io::ErrorKind::InvalidData, format!("there is no Maildir {target}"));
            number(target).ok_or_else(unknown)
        };
        Ok(match self {
            Self::Folder { target, folder, tally } => Self::Folder { target: of(target)?, folder, tally },
            Self::Maildir { target, elsewhere, changed } => {
                Self::Maildir { target: of(target)?, elsewhere, changed }
            }
            Self::Failed { target, complaint, status } => {
                Self::Failed { target: of(target)?, complaint, status }
            }
            other => other,
        })
    }

    /// The end of a Maildir that could not be worked on.
    #[must_use]
    pub fn failed(target: usize, error: &Error) -> Self {
        Self::Failed { target, complaint: Complaint::of(error), status: error.exit() as u8 }
    }
}

impl Report for Event {
    fn is_progress(&self) -> bool {
        !matches!(self, Self::Waiting { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_speaks_of_its_own_maildirs_only() {
        let own = |number: usize| [7, 9].get(number).copied();
        let of = |target| Event::Maildir { target, elsewhere: 0, changed: true };
        assert!(matches!(of(1).renumbered(own), Ok(Event::Maildir { target: 9, .. })));
        for target in [2, 7, 9, usize::MAX] {
            assert!(of(target).renumbered(own).is_err(), "{target}");
            let tally = Tally::default();
            assert!(Event::Folder { target, folder: String::new(), tally }.renumbered(own).is_err());
            assert!(Event::failed(target, &Error::Root).renumbered(own).is_err());
        }
    }
}
