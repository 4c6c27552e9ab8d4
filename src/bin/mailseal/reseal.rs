//! `mailseal reseal`: its command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use mailseal::delivery::filter::load_config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::enrol;
use mailseal::keystore::trust::Trust;
use mailseal::mailbox::decrypt::Opener;
use mailseal::mailbox::decrypt::owners::{self, Work};
use mailseal::mailbox::reseal;
use mailseal::{cli, keystore};
use mailseal_core::recipients::{Recipients, WhenExpired};
use sequoia_openpgp::Cert;

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
pub fn run(
    arguments: &Arguments,
    config: Option<&Path>,
    out: &mut (impl Write + Send),
) -> Result<Exit, Error> {
    let Arguments { secret, key_files, rewrite, paths } = arguments;
    let config = load_config(cli::ADMIN, config, key_files)?;
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    let certs = keystore::read_all_named(key_files, &trust, None)?;
    let recovery = keystore::read_recovery(&config.keys.recovery, &trust, None)?;
    // Before a passphrase is asked for.
    Recipients::choose(reseal::USER, &certs, &recovery, WhenExpired::Defer, SystemTime::now())?;
    let serialized = |certs: &[Cert]| {
        certs.iter().map(|cert| enrol::serialize(std::slice::from_ref(cert))).collect::<Result<_, _>>()
    };
    let work = Work::Reseal {
        keep_uids: rewrite.keep_uids(),
        certs: serialized(&certs)?,
        recovery: serialized(&recovery)?,
        protect_headers: config.message.protect_headers,
        compression: config.message.compression,
    };
    let keys = secret.keys()?;
    let opener = Opener { keys: &*keys, expansion: secret.expansion() };
    owners::run(&rewrite.sweep(paths), opener, &work, out)
}
