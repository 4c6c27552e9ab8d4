//! The options of a delivery: read from the command line once, and handed down as they are.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use mailseal_core::openpgp::compress::Compression;

use crate::cli::parse_number;
use crate::cli::protect_headers::ProtectHeaders;
use crate::log::Target;
use crate::system::sandbox::Sandbox;

/// How a message is delivered.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the command line says.
    pub said: Said,
    /// The configuration file, if another than the default.
    pub config: Option<PathBuf>,
    /// What an unchanged message gives.
    pub unchanged: WhenUnchanged,
    /// What keeps the process from everything but the message, once the certificates are read.
    pub sandbox: Sandbox,
}

/// Whose mail it is and how it is sealed: the options of `mailseal-filter` and `mailseal deliver`.
#[derive(Clone, Debug, clap::Args)]
pub struct Said {
    /// The delivery user [default: $USER]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// The user's home [default: $HOME]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Seal to exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(PathBuf::from))]
    pub key_files: Vec<PathBuf>,
    /// Which header fields are hidden inside (RFC 9788) [default: none]
    #[arg(long, value_enum)]
    pub protect_headers: Option<ProtectHeaders>,
    /// auto, none, zlib or zlib:1 to zlib:9 [default: auto]
    #[arg(long, value_name = "HOW")]
    pub compression: Option<Compression>,
    /// Pass every message through
    #[arg(long)]
    pub off: bool,
    /// Seal even what is encrypted already
    #[arg(long)]
    pub always: bool,
    /// Give up after so many seconds; must be below Dovecot's sieve_filter_exec_timeout [default: 50]
    #[arg(long, value_name = "SECONDS", value_parser = parse_number(1..=u64::MAX).map(Duration::from_secs))]
    pub deadline: Option<Duration>,
    /// Where the log line goes: syslog, stderr, none, file:PATH [default: syslog]
    #[arg(long, value_name = "WHERE")]
    pub log: Option<Target>,
}

/// What a message gives that needs no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenUnchanged {
    /// Itself, and exit status 0.
    #[default]
    Copy,
    /// Nothing, and exit status 1.
    Fail,
}
