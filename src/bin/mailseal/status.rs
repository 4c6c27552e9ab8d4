//! `mailseal status`: its command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use mailseal::cli::parse_user;
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::admin::Keys;
use mailseal::keys::admin::survey::Options;
use mailseal::keystore::user::User;

use super::keys::{UsersArguments, stop_on_signals};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this user
    #[arg(value_parser = parse_user)]
    user: Option<User>,
    /// Say what became of the user's message with this Message-ID, and what to do
    #[arg(long, value_name = "MESSAGE-ID", requires = "user")]
    why: Option<String>,
    /// The log to look for it in (may be repeated) [default: the journal or the mail log of this machine]
    #[arg(long = "log", value_name = "FILE", requires = "why")]
    logs: Vec<PathBuf>,
    #[command(flatten)]
    users: UsersArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(
    arguments: Arguments,
    config: &Config,
    path: Option<&Path>,
    out: &mut impl Write,
) -> Result<Exit, Error> {
    let Arguments { user, why, logs, users, json } = arguments;
    let stop = stop_on_signals()?;
    let keys = Keys::new(config, path.map(Path::to_owned), None, SystemTime::now()).until(&stop);
    keys.status(&Options { user, why, logs, users: users.choice(), json }, out)
}
