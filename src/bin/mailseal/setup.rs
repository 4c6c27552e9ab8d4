//! `mailseal setup`: its command line.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use mailseal::config::DEFAULT_PATH;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::setup::{self, Options, STATE};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take away what setup made; certificates, the register and the configuration stay
    #[arg(long)]
    undo: bool,
    /// Dovecot's main configuration [default: Dovecot's own]
    #[arg(long, value_name = "FILE")]
    dovecot_config: Option<PathBuf>,
    /// The users, one a line [default: those that Dovecot lists]
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    users: Option<PathBuf>,
    /// The folder for the trap, the scripts, and what setup notes
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
    /// The folder that mailseal-filter is in [default: ../lib/mailseal/bin beside this program]
    #[arg(long, value_name = "DIR", conflicts_with = "undo")]
    filter_dir: Option<PathBuf>,
}

/// Runs it.
pub fn run(
    arguments: Arguments,
    config: Option<PathBuf>,
    out: &mut (impl Write + Send + Sync),
) -> Result<Exit, Error> {
    let Arguments { dry_run, undo, dovecot_config, users, state, filter_dir } = arguments;
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|error| Error::Usage {
            what: format!("{}: {error}", path.display()),
            hint: "give a whole path".into(),
        })
    };
    let options = Options {
        config: absolute(config.unwrap_or_else(|| DEFAULT_PATH.into()))?,
        dovecot_config: dovecot_config.map(absolute).transpose()?,
        users,
        state: absolute(state)?,
        filter_dir: filter_dir.map(absolute).transpose()?,
        dry_run,
    };
    if undo { setup::undo(&options, out) } else { setup::run(&options, out) }
}
