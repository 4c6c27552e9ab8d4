//! `mailseal-filter`: one message from standard input to standard output, sealed or unchanged.

use std::path::PathBuf;

use clap::Parser;
use mailseal::cli;
use mailseal::delivery::filter::{leave, run};
use mailseal::delivery::options::{Options, Said, WhenUnchanged};
use mailseal::error::Error;
use mailseal::exit::{self, Exit};
use mailseal::system::process;
use mailseal::system::sandbox::Sandbox;

/// Encrypts a message to its owner's OpenPGP certificate (PGP/MIME, RFC 3156).
///
/// Reads a message on standard input and writes it sealed to standard output; the message of a user without a
/// certificate and an encrypted message go out as they came in. Made to be run by Dovecot's Sieve filter.
#[derive(Debug, Parser)]
#[command(name = cli::FILTER, version, after_help = exit::HELP)]
struct Args {
    #[command(flatten)]
    said: Said,
    /// The configuration [default: /etc/mailseal.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What an unchanged message gives: itself and status 0, or nothing and status 1
    #[arg(long, value_enum, default_value_t)]
    unchanged: WhenUnchanged,
    /// Whether the process must give up everything but the message, once the certificates are read
    #[arg(long, value_enum, default_value_t)]
    sandbox: Sandbox,
}

fn main() {
    leave(deliver().unwrap_or_else(|error| {
        cli::complain(cli::FILTER, None, &error);
        error.exit()
    }))
}

fn deliver() -> Result<Exit, Error> {
    process::harden()?;
    let args: Args = match cli::parse(cli::FILTER) {
        Ok(args) => args,
        Err(status) => return Ok(status),
    };
    let Args { said, config, unchanged, sandbox } = args;
    let (input, output) = (process::stdin()?, process::stdout()?);
    Ok(run(cli::FILTER, &Options { said, config, unchanged, sandbox }, input, output))
}
