//! `encrypt-maildir`: seals the messages of mailboxes that exist. It reads the command line; [`mailseal::mailbox::encrypt`] does it.

use std::ffi::OsStr;
use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use mailseal::cli::sealing::ProtectHeaders;
use mailseal::cli::{self, parse_jobs};
use mailseal::console::date;
use mailseal::console::progress::Show;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::mailbox::encrypt::{self, Options, child};
use mailseal::system::owner::process::PATIENCE;
use mailseal::system::sandbox::Sandbox;
use mailseal::system::{owner, process};
use mailseal_core::error::Error as CoreError;
use mailseal_core::openpgp::compress::Compression;

/// Encrypts every message of existing mailboxes to its owner's OpenPGP certificate, as deliveries are encrypted.
///
/// It can be interrupted at any moment, and run again: no message is lost, none is sealed twice. Messages get new UIDs:
/// mail programs download them again.
#[derive(Debug, Parser)]
#[command(name = cli::BULK, version, after_help = HELP)]
struct Args {
    /// Maildirs, or patterns with %{user}, %{local} and %{domain}
    #[arg(required_unless_present = "dovecot", value_name = "MAILDIR")]
    maildirs: Vec<PathBuf>,
    /// The mailboxes of these users, through Dovecot: live, of any storage. Patterns with * and ? are Dovecot's to fill in
    #[arg(long, value_name = "USER", num_args = 1.., allow_hyphen_values = false, value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["maildirs", "users", "home", "offline", "keep_uids", "control", "unpack"])]
    dovecot: Vec<String>,
    /// With --dovecot, at most N messages a second, of all users together
    #[arg(long, value_name = "N", value_parser = parse_rate, requires = "dovecot", conflicts_with = "maildirs")]
    rate: Option<f64>,
    /// The delivery user whose certificates to use (with a pattern, several) [default: the Maildir's owner]
    #[arg(long = "user", value_name = "NAME", allow_hyphen_values = true)]
    users: Vec<String>,
    /// The user's home, with variables [default: as Dovecot or the system knows it]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Seal to exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(PathBuf::from))]
    keys: Vec<PathBuf>,
    /// The configuration [default: /etc/mailseal.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Dovecot's configuration, for doveadm
    #[arg(long, value_name = "FILE")]
    dovecot_config: Option<PathBuf>,
    /// Which header fields are hidden inside (RFC 9788)
    #[arg(long, value_enum)]
    protect_headers: Option<ProtectHeaders>,
    /// auto, none, zlib or zlib:1 to zlib:9 [default: auto]
    #[arg(long, value_name = "HOW")]
    compression: Option<Compression>,
    /// Nobody is logged in and nothing is delivered: refuse the mailbox otherwise
    #[arg(long)]
    offline: bool,
    /// Keep the UIDs, for mailboxes whose users are logged out
    #[arg(long)]
    keep_uids: bool,
    /// Dovecot's control folder (CONTROL=), with variables [default: as Dovecot says, else the Maildir]
    #[arg(long, value_name = "DIR")]
    control: Option<PathBuf>,
    /// Unpack compressed messages, seal them and store them plain
    #[arg(long)]
    unpack: bool,
    /// Change nothing, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Whether what touches mail must be confined to the Maildir
    #[arg(long, value_enum, default_value_t)]
    sandbox: Sandbox,
    /// Messages at once; with --dovecot, users at once [default: the processors]
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<NonZeroUsize>,
    /// Whether to show how far it is
    #[arg(long, value_enum, default_value_t)]
    progress: Show,
    /// The summary for scripts
    #[arg(long)]
    json: bool,
    /// Seal to certificates that nobody has confirmed to be able to read with (mailseal keys confirm)
    #[arg(long)]
    unconfirmed: bool,
    /// Only messages whose file changed within AGE (1h, 30d); with --dovecot, those that arrived within AGE
    #[arg(long, value_name = "AGE", value_parser = date::parse_span)]
    newer_than: Option<Duration>,
    /// Only messages whose file did not change within AGE; with --dovecot, those that arrived before
    #[arg(long, value_name = "AGE", value_parser = date::parse_span)]
    older_than: Option<Duration>,
    /// How long one owner may make no progress before that owner's process is ended; the others go on
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
}

const HELP: &str = "\
Exit status:
   0  nothing is left in clear but the mail of users without a certificate
   1  some messages failed or stay readable for another reason; each is named
  64  usage; what is named is no Maildir
  75  temporary: input or output, key store, no usable or confirmed certificate, interrupted
  78  configuration";

fn main() {
    run()
        .unwrap_or_else(|error| {
            cli::complain(cli::BULK, None, &error);
            error.exit()
        })
        .leave()
}

fn run() -> Result<Exit, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    if let Some(kind) = owner::child::asked() {
        return owner_main(&kind, &stop).map(|()| Exit::Ok);
    }
    process::harden()?;
    let args: Args = match cli::parse() {
        Ok(args) => args,
        Err(status) => return Ok(status),
    };
    process::heed_signals(&stop)?;
    process::raise_file_limit();
    process::end_after(&stop, process::END).map_err(CoreError::Read)?;
    let mut out = BufWriter::new(std::io::stdout());
    let status = encrypt::run(&options(args), &stop, &mut out)?;
    out.flush().map_err(Error::Output)?;
    Ok(status)
}

/// What the process of an owner does.
fn owner_main(kind: &OsStr, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    process::heed_signals(stop)?;
    child::main(kind, stop)
}

/// Parses a number of messages a second, `20` or `0.5`.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{text:?} is no number of messages a second"))
}

fn options(args: Args) -> Options {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Options {
        maildirs: args.maildirs,
        users: args.users,
        dovecot: args.dovecot,
        rate: args.rate,
        home: args.home,
        key_files: args.keys,
        config: args.config,
        dovecot_config: args.dovecot_config,
        protect_headers: args.protect_headers.map(Into::into),
        compression: args.compression,
        offline: args.offline,
        keep_uids: args.keep_uids,
        control: args.control,
        unpack: args.unpack,
        dry_run: args.dry_run,
        sandbox: args.sandbox,
        jobs: args.jobs.map_or_else(cores, NonZeroUsize::get),
        patience: Duration::from_secs(args.patience),
        progress: args.progress,
        json: args.json,
        unconfirmed: args.unconfirmed,
        newer_than: args.newer_than,
        older_than: args.older_than,
    }
}
