//! `mailseal decrypt`: its command line.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::Args;
use mailseal::decrypt::{self, Outcome};
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::unseal::agent::Agent;
use mailseal::unseal::keys::{KeyFiles, Keys as SecretKeys, Passphrases};
use mailseal::{cli, process};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    secret: SecretArguments,
    /// A message; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    path: PathBuf,
}

#[derive(Debug, Args)]
pub struct SecretArguments {
    /// The secret key, as gpg --export-secret-keys writes it; for several keys, several times
    #[arg(long, value_name = "FILE", required_unless_present = "gpg_agent")]
    secret_key: Vec<PathBuf>,
    /// The secret keys that gpg and its agent hold
    #[arg(long, conflicts_with = "secret_key")]
    gpg_agent: bool,
    /// Read the passphrases from this file descriptor, one a line, and ask for none
    #[arg(long, value_name = "N", conflicts_with = "gpg_agent")]
    passphrase_fd: Option<i32>,
}

impl SecretArguments {
    /// The secret keys; from here on the process leaves no core dump.
    pub fn keys(&self) -> Result<Box<dyn SecretKeys>, Error> {
        let keys: Box<dyn SecretKeys> = if self.gpg_agent {
            Box::new(Agent)
        } else {
            let passphrases = self.passphrase_fd.map_or(Ok(Passphrases::Prompt), Passphrases::read)?;
            Box::new(KeyFiles::read(&self.secret_key, passphrases)?)
        };
        process::forbid_dumps()?;
        Ok(keys)
    }
}

/// Runs it.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Exit, Error> {
    let keys = arguments.secret.keys()?;
    let input = if arguments.path.as_os_str() == "-" {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(&arguments.path)
    };
    match decrypt::decrypt(input.map_err(Error::Read)?, out, &*keys)? {
        Outcome::Original => {}
        Outcome::Inexact => {
            cli::note(cli::ADMIN, "the places of the MIME fields in the header could not be restored")
        }
        Outcome::Foreign => cli::note(cli::ADMIN, "mailseal did not seal this message: it stays as it is"),
    }
    Ok(Exit::Ok)
}
