//! `mailseal reseal`: its command line.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::recipients::{Recipients, WhenExpired};
use mailseal::{keystore, reseal};

use crate::arguments::{RewriteArguments, SecretArguments};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    secret: SecretArguments,
    /// The new certificate; for several keys, several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    key_files: Vec<PathBuf>,
    #[command(flatten)]
    rewrite: RewriteArguments,
    /// The Maildirs
    #[arg(value_name = "MAILDIR", required = true)]
    paths: Vec<PathBuf>,
}

/// Runs it.
pub fn run(arguments: &Arguments, config: &Config, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let Arguments { secret, key_files, rewrite, paths } = arguments;
    let certs = keystore::read_all_named(key_files)?;
    let new = reseal::Seal {
        recipients: Recipients::choose(reseal::USER, &certs, &[], WhenExpired::Defer, SystemTime::now())?,
        protect_headers: config.message.protect_headers,
        compression: config.message.compression,
    };
    let keys = secret.keys()?;
    reseal::run(&rewrite.sweep(paths), rewrite.uids(), &*keys, secret.expansion(), &new, out)
}
