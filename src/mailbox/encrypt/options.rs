//! The options of `encrypt-maildir`: read from the command line once, and handed down as they are.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use serde::{Deserialize, Serialize};

use crate::cli::sealing::Sealing;
use crate::cli::{parse_jobs, parse_number};
use crate::console::date;
use crate::console::progress::Show;
use crate::system::owner::process::PATIENCE;
use crate::system::process;
use crate::system::sandbox::Sandbox;

/// Everything that is said.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which mailboxes.
    #[command(flatten)]
    pub which: Which,
    /// How their messages are sealed.
    #[command(flatten)]
    pub how: How,
    /// Whether to show progress
    #[arg(long, value_enum, default_value_t)]
    pub progress: Show,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// End the work on an owner's mail when it makes no progress for so long; the others go on
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs(), value_parser = parse_number(1..=86_400))]
    pub patience: u64,
}

/// Which mailboxes, whose they are, and where what is known of them stands.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// Maildirs, or patterns with %{user}, %{local} and %{domain}
    #[arg(required_unless_present_any = ["dovecot", "rate"], value_name = "MAILDIR")]
    pub maildirs: Vec<PathBuf>,
    /// The mailboxes of these users, through Dovecot: live, of any storage. Dovecot expands patterns with * and ?
    #[arg(long, value_name = "USER", num_args = 1.., allow_hyphen_values = false, value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["maildirs", "users", "home", "offline", "keep_uids", "control", "unpack"])]
    pub dovecot: Vec<String>,
    /// With --dovecot, at most N messages a second, of all users together
    #[arg(long, value_name = "N", value_parser = parse_rate, requires = "dovecot", conflicts_with = "maildirs")]
    pub rate: Option<f64>,
    /// The delivery user whose certificates to use (with a pattern, several) [default: the Maildir's owner]
    #[arg(long = "user", value_name = "NAME", allow_hyphen_values = true)]
    pub users: Vec<String>,
    /// The user's home, with variables [default: as Dovecot or the system knows it]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Seal to exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(PathBuf::from))]
    pub key_files: Vec<PathBuf>,
    /// The configuration [default: /etc/mailseal.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Dovecot's configuration, for doveadm
    #[arg(long, value_name = "FILE")]
    pub dovecot_config: Option<PathBuf>,
    /// Nobody is logged in and nothing is delivered: refuse the mailbox otherwise
    #[arg(long)]
    pub offline: bool,
    /// Dovecot's control folder (CONTROL=), with variables [default: as Dovecot says, else the Maildir]
    #[arg(long, value_name = "DIR")]
    pub control: Option<PathBuf>,
}

/// How messages are sealed: what the processes that touch mail are told as well.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// In which style.
    #[command(flatten)]
    pub sealing: Sealing,
    /// Keep the UIDs, for mailboxes whose users are logged out
    #[arg(long)]
    pub keep_uids: bool,
    /// Unpack compressed messages, seal them and store them plain
    #[arg(long)]
    pub unpack: bool,
    /// Change nothing, and say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Whether what touches mail must be confined to the Maildir
    #[arg(long, value_enum, default_value_t)]
    pub sandbox: Sandbox,
    /// Messages at once; with --dovecot, users at once [default: the processors]
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    pub jobs: Option<NonZeroUsize>,
    /// Seal even to certificates whose owner has not confirmed being able to read mail (mailseal keys confirm)
    #[arg(long)]
    pub unconfirmed: bool,
    /// Seal to certificates that their owner has confirmed through the mailbox only: whoever had its password could do that
    #[arg(long)]
    pub accept_mailbox: bool,
    /// Only messages whose file changed within AGE (1h, 30d); with --dovecot, those that arrived within AGE
    #[arg(long, value_name = "AGE", value_parser = date::parse_span)]
    pub newer_than: Option<Duration>,
    /// Only messages whose file did not change within AGE; with --dovecot, those that arrived before
    #[arg(long, value_name = "AGE", value_parser = date::parse_span)]
    pub older_than: Option<Duration>,
}

impl Options {
    /// How long an owner may make no progress.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

impl How {
    /// Messages at once.
    #[must_use]
    pub fn jobs(&self) -> usize {
        process::jobs(self.jobs)
    }
}

/// Parses a number of messages a second, `20` or `0.5`.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number of messages a second above 0, as 20 or 0.5".into())
}
