//! `mailseal config`: its command line.

use std::io::Write;
use std::path::Path;

use clap::Subcommand;
use mailseal::config::{Config, DEFAULT_PATH};
use mailseal::console::escape;
use mailseal::error::Error;
use mailseal::exit::Exit;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether the configuration can be taken, and which line of it cannot; exit status 78 then
    Check,
}

/// Runs it.
pub fn run(command: &Command, path: Option<&Path>, out: &mut impl Write) -> Result<Exit, Error> {
    match command {
        Command::Check => {
            Config::load(path)?;
            let path = path.unwrap_or(Path::new(DEFAULT_PATH)).display().to_string();
            writeln!(out, "{}: nothing is wrong with it", escape::display(path.as_bytes()))
                .map_err(Error::Output)?;
            Ok(Exit::Ok)
        }
    }
}
