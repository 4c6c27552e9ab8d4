//! `mailseal reseal`: its command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use mailseal::cli::sealing::Sealing;
use mailseal::delivery::filter::load_config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keystore::any_cert::{self, AnyCert};
use mailseal::keystore::trust::Trust;
use mailseal::mailbox::decrypt::Opener;
use mailseal::mailbox::decrypt::owners::{self, Work};
use mailseal::mailbox::reseal;
use mailseal::{cli, keystore};

use super::arguments::{RewriteArguments, SecretArguments};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    secret: SecretArguments,
    /// The new certificate; for several keys, several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    key_files: Vec<PathBuf>,
    /// Seal to a certificate that its owner has confirmed through the mailbox only: whoever had its password could do that
    #[arg(long)]
    accept_mailbox: bool,
    #[command(flatten)]
    rewrite: RewriteArguments,
    /// The Maildirs
    #[arg(value_name = "MAILDIR", required = true)]
    paths: Vec<PathBuf>,
}

/// Runs it.
pub fn run(
    arguments: &Arguments,
    config: Option<&Path>,
    out: &mut (impl Write + Send),
) -> Result<Exit, Error> {
    let Arguments { secret, key_files, accept_mailbox, rewrite, paths } = arguments;
    if !accept_mailbox {
        refuse_received(key_files)?;
    }
    let config = load_config(cli::ADMIN, config, key_files)?;
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    let certs = keystore::read_all_named(key_files, &trust, None)?;
    let recovery = keystore::read_recovery(&config.keys.recovery, &trust, None)?;
    // Before a passphrase is asked for.
    reseal::recipients((&certs, &recovery), config.keys.preference())?;
    let serialized = |certs: &[AnyCert]| {
        certs.iter().map(|cert| any_cert::serialize(std::slice::from_ref(cert))).collect::<Result<_, _>>()
    };
    let work = Work::Reseal {
        keep_uids: rewrite.keep_uids(),
        certs: serialized(&certs)?,
        recovery: serialized(&recovery)?,
        preference: config.keys.preference(),
        style: config.style(reseal::USER, &Sealing::default()),
    };
    let keys = secret.keys()?;
    let opener = Opener { keys: &*keys, expansion: secret.expansion() };
    owners::run(&rewrite.sweep(paths), opener, &work, out)
}

/// Refuses certificates that were enrolled through the mailbox.
fn refuse_received(key_files: &[PathBuf]) -> Result<(), Error> {
    let is_received = |path: &&PathBuf| {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        real.file_name().is_some_and(|name| name == keystore::names::RECEIVED)
    };
    match key_files.iter().find(is_received) {
        Some(path) => Err(Error::Usage {
            what: format!("{}: the key was confirmed through the mailbox only", path.display()),
            hint: "make sure whose it is, then give --accept-mailbox".into(),
        }),
        None => Ok(()),
    }
}
