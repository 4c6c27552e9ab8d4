//! `mailseal reseal`: its command line.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use mailseal::config::Config;
use mailseal::decrypt::owners::{self, Work};
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::recipients::{Recipients, WhenExpired};
use mailseal::{enrol, keystore, reseal};

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
    // Before a passphrase is asked for.
    Recipients::choose(reseal::USER, &certs, &[], WhenExpired::Defer, SystemTime::now())?;
    let work = Work::Reseal {
        keep_uids: rewrite.keep_uids(),
        certs: certs
            .iter()
            .map(|cert| enrol::serialize(std::slice::from_ref(cert)))
            .collect::<Result<_, _>>()?,
        protect_headers: config.message.protect_headers,
        compression: config.message.compression,
    };
    let keys = secret.keys()?;
    owners::run(&rewrite.sweep(paths), &*keys, &work, out)
}
