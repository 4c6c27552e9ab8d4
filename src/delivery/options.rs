//! The options of a delivery, which are those of `mailseal-filter`: read once, and handed down as they are.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};

use crate::cli::sealing::Sealing;
use crate::cli::{self, parse_number};
use crate::exit;
use crate::log::Target;
use crate::system::sandbox::Sandbox;

/// Encrypts a message to its owner's OpenPGP certificate (PGP/MIME, RFC 3156).
///
/// Reads a message on standard input and writes it sealed to standard output; the message of a user without a
/// certificate and an encrypted message go out as they came in. Made to be run by Dovecot's Sieve filter.
#[derive(Clone, Debug, Parser)]
#[command(name = cli::FILTER, version, after_help = exit::HELP)]
pub struct Options {
    /// What the command line says of the user and of sealing.
    #[command(flatten)]
    pub said: Said,
    /// The configuration [default: /etc/mailseal.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What an unchanged message gives: itself and status 0, or nothing and status 1
    #[arg(long, value_enum, default_value_t)]
    pub unchanged: WhenUnchanged,
    /// Whether the process must give up everything but the message, once the certificates are read
    #[arg(long, value_enum, default_value_t)]
    pub sandbox: Sandbox,
}

/// Whose mail it is and how it is sealed: the options of `mailseal-filter` and `mailseal deliver`.
#[derive(Clone, Debug, Default, clap::Args)]
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
    /// How it is sealed.
    #[command(flatten)]
    pub sealing: Sealing,
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
