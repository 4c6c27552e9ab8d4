//! `mailseal sendmail`: its command line.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;

use clap::{ArgAction, Args};
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::outgoing::held::{list, release};
use mailseal::outgoing::{program, sendmail};

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Try again all mail that is held
    #[arg(long, conflicts_with = "arguments")]
    held: bool,
    /// Only list what is held
    #[arg(long, requires = "held")]
    list: bool,
    /// Print JSON
    #[arg(long, requires = "list")]
    json: bool,
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// The arguments of sendmail: options and recipients
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs it.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<Exit, Error> {
    let Arguments { held, list: is_list, json, arguments, .. } = arguments;
    match (held, is_list) {
        (true, true) => list::run(&Config::load(config)?, *json, out),
        (true, false) => release::run(&Config::load(config)?),
        _ => Ok(sendmail::run(config, OsStr::new(program::NAME), arguments)),
    }
}

/// Where this program was started in the place of sendmail, does what sendmail would do, and ends.
pub fn run_in_its_place() {
    let mut arguments = std::env::args_os();
    if let Some(name) = sendmail::started_as(arguments.next().as_deref()) {
        let arguments: Vec<OsString> = arguments.collect();
        sendmail::run(None, &name, &arguments).leave();
    }
}
