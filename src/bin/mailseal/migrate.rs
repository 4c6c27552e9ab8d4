//! `mailseal migrate`: its command line.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::admin::Keys;
use mailseal::keys::admin::gpgit::Options;
use mailseal::keystore::source::Template;

use super::keys::{UsersArguments, stop_on_signals};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol the certificates that gpgit uses, before mailseal takes its place; exit status 1 when it is not clear which one is a user's
    Gpgit(Arguments),
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The users' addresses, as %{user}@example.org [default: as the site's Sieve script calls gpgit, else the user's name]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_template)]
    address: Option<Template>,
    #[command(flatten)]
    users: UsersArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_template(text: &str) -> Result<Template, String> {
    Template::try_from(text.to_owned())
}

/// Runs it.
pub fn run(
    command: &Command,
    config: &Config,
    path: Option<&Path>,
    out: &mut (impl Write + Send + Sync),
) -> Result<Exit, Error> {
    let Command::Gpgit(Arguments { dry_run, address, users, json }) = command;
    let stop = stop_on_signals()?;
    let keys = Keys::new(config, path.map(Path::to_owned), None, SystemTime::now()).until(&stop);
    let options = Options { users: users.choice(), address: address.clone(), dry_run: *dry_run, json: *json };
    keys.migrate_gpgit(&options, out)
}
