//! The options of every program that seals a delivery: `mailseal-filter` and `mailseal deliver`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use mailseal_core::openpgp::compress::Compression;
use mailseal_core::protect::Policy;
use serde::{Deserialize, Serialize};

use crate::cli::parse_number;
use crate::delivery::filter::{Options, WhenUnchanged};
use crate::log::Target;
use crate::system::sandbox::Sandbox;

/// What `--protect-headers` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum ProtectHeaders {
    /// None
    None,
    /// Subject, Comments, Keywords, and what repeats the Subject or tells of the body
    Baseline,
    /// These, the display names in From, To and Cc, and the time zone of Date
    Shy,
}

impl From<ProtectHeaders> for Policy {
    fn from(said: ProtectHeaders) -> Self {
        match said {
            ProtectHeaders::None => Self::None,
            ProtectHeaders::Baseline => Self::Baseline,
            ProtectHeaders::Shy => Self::Shy,
        }
    }
}

/// Whose mail it is and how it is sealed.
#[derive(Clone, Debug, clap::Args)]
pub struct SealingArguments {
    /// The delivery user [default: $USER]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    user: Option<String>,
    /// The user's home [default: $HOME]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Seal to exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(PathBuf::from))]
    keys: Vec<PathBuf>,
    /// Which header fields are hidden inside (RFC 9788) [default: none]
    #[arg(long, value_enum)]
    protect_headers: Option<ProtectHeaders>,
    /// auto, none, zlib or zlib:1 to zlib:9 [default: auto]
    #[arg(long, value_name = "HOW")]
    compression: Option<Compression>,
    /// Pass every message through
    #[arg(long)]
    off: bool,
    /// Seal even what is encrypted already
    #[arg(long)]
    always: bool,
    /// Give up after so many seconds; must be below Dovecot's sieve_filter_exec_timeout [default: 50]
    #[arg(long, value_name = "SECONDS", value_parser = parse_number(1..=u64::MAX))]
    deadline: Option<u64>,
    /// Where the log line goes: syslog, stderr, none, file:PATH [default: syslog]
    #[arg(long, value_name = "WHERE")]
    log: Option<Target>,
}

impl SealingArguments {
    /// What they say about a delivery, with what the programs differ in.
    #[must_use]
    pub fn options(self, config: Option<PathBuf>, unchanged: WhenUnchanged, sandbox: Sandbox) -> Options {
        Options {
            user: self.user,
            home: self.home,
            key_files: self.keys,
            config,
            unchanged,
            protect_headers: self.protect_headers.map(Into::into),
            compression: self.compression,
            off: self.off,
            always: self.always,
            deadline: self.deadline.map(Duration::from_secs),
            log: self.log,
            sandbox,
        }
    }
}
