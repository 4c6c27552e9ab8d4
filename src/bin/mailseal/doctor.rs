//! `mailseal doctor`: its command line.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use mailseal::cli::parse_user;
use mailseal::doctor::{self, Options};
use mailseal::error::Error;
use mailseal::exit::Exit;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Send a message for this user through the script and the filter (may be repeated)
    #[arg(long = "user", value_name = "NAME", allow_hyphen_values = true, value_parser = as_dovecot_has_it)]
    users: Vec<String>,
    /// Dovecot's main configuration [default: Dovecot's own]
    #[arg(long, value_name = "FILE")]
    dovecot_config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A user's name, which Dovecot may tell from another that differs by case.
fn as_dovecot_has_it(name: &str) -> Result<String, String> {
    parse_user(name).map(|_| name.into())
}

/// Runs it.
pub fn run(arguments: Arguments, config: Option<PathBuf>, out: &mut impl Write) -> Result<Exit, Error> {
    let Arguments { users, dovecot_config, json } = arguments;
    doctor::run(&Options { config, dovecot_config, users, json }, out)
}
