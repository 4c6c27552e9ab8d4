//! `mailseal decrypt`: its command line.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use mailseal::cli;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::mailbox::decrypt::Opener;
use mailseal::mailbox::decrypt::owners::{self, Work};
use mailseal::mailbox::decrypt::{self, Outcome, single};
use mailseal::system::process;

use super::arguments::{RewriteArguments, SecretArguments};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    secret: SecretArguments,
    /// Write the messages to this new Maildir, and leave the others as they are
    #[arg(long, value_name = "MAILDIR")]
    into: Option<PathBuf>,
    #[command(flatten)]
    rewrite: RewriteArguments,
    /// A message, which goes to standard output, or Maildirs, which are decrypted in place; - is standard input
    #[arg(value_name = "PATH", default_value = "-")]
    paths: Vec<PathBuf>,
}

/// Runs it.
pub fn run(arguments: &Arguments, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let Arguments { paths, into, rewrite, secret } = arguments;
    let message = paths.iter().find(|path| !path.is_dir());
    if let Some(message) = message
        && (paths.len() > 1 || into.is_some())
    {
        let only = if into.is_some() { "--into takes" } else { "several paths must be" };
        return Err(Error::Usage {
            what: format!("{only} Maildirs, and {} is not one", message.display()),
            hint: "decrypt single messages one by one: each goes to standard output".into(),
        });
    }
    let keys = secret.keys()?;
    let opener = Opener { keys: &*keys, expansion: secret.expansion() };
    if message.is_none() {
        let work = match into {
            Some(target) => Work::Into { target: target.clone().into() },
            None => Work::Decrypt { keep_uids: rewrite.keep_uids() },
        };
        return owners::run(&rewrite.sweep(paths), opener, &work, out);
    }
    let path = &paths[0];
    let outcome = if path.as_os_str() == "-" {
        decrypt::decrypt(process::stdin()?, out, opener)?
    } else {
        single::run(path, opener, out)?
    };
    match outcome {
        Outcome::Original => {}
        Outcome::Inexact => {
            cli::note(cli::ADMIN, "the header could not be restored exactly: what stood outside stays");
        }
        Outcome::Foreign => cli::note(cli::ADMIN, "mailseal did not seal this message: it stays as it is"),
    }
    Ok(Exit::Ok)
}
