//! `mailseal outgoing`: its command line.

use std::io::Write;

use clap::Args;
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::outgoing::{heartbeat, verdict};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Send a numbered message to each ADDRESS, which looks like any other under its rule
    #[arg(long)]
    heartbeat: bool,
    /// Addresses as mail is sent to
    #[arg(value_name = "ADDRESS", required = true)]
    addresses: Vec<String>,
}

/// Runs it.
pub fn run(arguments: &Arguments, config: &Config, out: &mut impl Write) -> Result<Exit, Error> {
    if arguments.heartbeat {
        return heartbeat::send(config, &arguments.addresses).map(|()| Exit::Ok);
    }
    let mut exit = Exit::Ok;
    for address in &arguments.addresses {
        if verdict::tell(config, address, out)? != Exit::Ok {
            exit = Exit::Negative;
        }
    }
    Ok(exit)
}
