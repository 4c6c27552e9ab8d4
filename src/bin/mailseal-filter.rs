//! `mailseal-filter`: one message from standard input to standard output, sealed or unchanged.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use clap::builder::TypedValueParser as _;
use mailseal::error::Error;
use mailseal::exit::{self, Exit};
use mailseal::filter::{Options, Unchanged, leave, run};
use mailseal::log::Target;
use mailseal::openpgp::compress::Compression;
use mailseal::protect::Policy;
use mailseal::{cli, process};

/// Encrypts a message to its owner's OpenPGP certificate (PGP/MIME, RFC 3156).
///
/// Reads a message on standard input and writes it sealed to standard output; the message of a user without a
/// certificate and an encrypted message go out as they came in. Made to be run by Dovecot's Sieve filter.
#[derive(Debug, Parser)]
#[command(name = cli::FILTER, version, after_help = exit::HELP)]
struct Args {
    /// The delivery user [default: $USER, else the name of the effective user]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    user: Option<String>,
    /// The user's home [default: $HOME]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Seal to exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE", value_parser = NonEmptyStringValueParser::new().map(PathBuf::from))]
    keys: Vec<PathBuf>,
    /// The configuration [default: /etc/mailseal.toml, which need not exist]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What an unchanged message gives: itself and status 0, or nothing and status 1
    #[arg(long, value_enum, default_value_t)]
    unchanged: Unchanged,
    /// Which header fields are hidden inside (RFC 9788) [default: none]
    #[arg(long, value_enum)]
    protect_headers: Option<Policy>,
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
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    deadline: Option<u64>,
    /// Where the log line goes: syslog, stderr, none, file:PATH [default: syslog]
    #[arg(long, value_name = "WHERE")]
    log: Option<Target>,
}

fn main() {
    leave(deliver().unwrap_or_else(|error| {
        cli::complain(cli::FILTER, None, &error);
        error.exit()
    }))
}

fn deliver() -> Result<Exit, Error> {
    process::harden()?;
    let args: Args = match cli::parse() {
        Ok(args) => args,
        Err(status) => return Ok(status),
    };
    let (input, output) = standard_files()?;
    Ok(run(&args.into(), input, output))
}

/// Standard input and output, without the buffers round them.
fn standard_files() -> Result<(File, File), Error> {
    if !process::stdout_was_open() {
        return Err(Error::Write(nix::Error::EBADF.into()));
    }
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::Read)?;
    let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(Error::Write)?;
    Ok((input.into(), output.into()))
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        Self {
            user: args.user,
            home: args.home,
            key_files: args.keys,
            config: args.config,
            unchanged: args.unchanged,
            protect_headers: args.protect_headers,
            compression: args.compression,
            off: args.off,
            always: args.always,
            deadline: args.deadline.map(Duration::from_secs),
            log: args.log,
        }
    }
}
