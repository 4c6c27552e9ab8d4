//! `mailseal deliver`: its command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use mailseal::delivery::deliver;
use mailseal::delivery::options::{Options, Said, WhenUnchanged};
use mailseal::system::sandbox::Sandbox;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    said: Said,
    /// The agent and its arguments, as: dovecot-lda -d alice
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it, and gives the exit status of the agent.
pub fn run(arguments: Arguments, config: Option<PathBuf>) -> i32 {
    // It has a program to run afterwards.
    let (unchanged, sandbox) = (WhenUnchanged::Copy, Sandbox::Off);
    let options = Options { said: arguments.said, config, unchanged, sandbox };
    deliver::run(&options, &arguments.command)
}
