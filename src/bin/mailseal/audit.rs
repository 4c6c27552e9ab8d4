//! `mailseal audit`: its command line.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use mailseal::cli;
use mailseal::cli::parse_jobs;
use mailseal::delivery::filter::load_config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::mailbox::audit::{self, Options};
use mailseal::mailbox::sweep::Sweep;
use mailseal::system::sandbox::Sandbox;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Maildirs, or patterns with %{user}, %{local} and %{domain}
    #[arg(value_name = "MAILDIR", required = true)]
    paths: Vec<PathBuf>,
    /// The user whose certificates the keys are compared with (with a pattern, several) [default: the Maildir's owner]
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// The user's home, where a key source asks for it
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Compare with exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE")]
    key_files: Vec<PathBuf>,
    /// Name each message that is in clear, cannot be read, or is not sealed to a key that the user has now
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Messages at once [default: the processors]
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<NonZeroUsize>,
    /// Whether what reads mail must be confined to the Maildir
    #[arg(long, value_enum, default_value_t)]
    sandbox: Sandbox,
}

/// Runs it.
pub fn run(arguments: Arguments, named: Option<PathBuf>, out: &mut impl Write) -> Result<Exit, Error> {
    let Arguments { paths, users, home, key_files, list, json, jobs, sandbox } = arguments;
    let config = load_config(cli::ADMIN, named.as_deref(), &key_files)?;
    let sweep = Sweep { paths, control: None, jobs, owned: None };
    audit::run(&Options { sweep, users, home, config: named, key_files, list, json, sandbox }, &config, out)
}
