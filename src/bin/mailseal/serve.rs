//! `mailseal serve`: its command line.

use std::io::Write;
use std::path::Path;

use clap::Args;
use mailseal::config::Config;
use mailseal::console::escape;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::serve::{self, check};
use mailseal::system::sandbox::Sandbox;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Only try the doors of one that runs, and what stands behind them; exit status 1 when one does not answer
    #[arg(long)]
    check: bool,
    /// Whether the process must give up everything but its doors and the folders of certificates
    #[arg(long, value_enum, default_value_t)]
    sandbox: Sandbox,
}

/// Serves, or tries the doors.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<Exit, Error> {
    if !arguments.check {
        return serve::run(config, arguments.sandbox).map(|()| Exit::Ok);
    }
    let tried = check::check(&Config::load(config)?);
    for tried in &tried {
        let said = tried.failed.as_deref().unwrap_or("ok");
        writeln!(out, "{}: {}", escape::display(tried.what.as_bytes()), escape::display(said.as_bytes()))
            .map_err(Error::Output)?;
    }
    let well = !tried.is_empty() && tried.iter().all(|tried| tried.failed.is_none());
    Ok(if well { Exit::Ok } else { Exit::Negative })
}
