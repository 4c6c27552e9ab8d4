//! `mailseal decrypt`: its command line.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::Args;
use mailseal::cli;
use mailseal::decrypt::{self, Outcome};
use mailseal::error::Error;
use mailseal::exit::Exit;

use crate::arguments::{RewriteArguments, SecretArguments};

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
    let maildirs = paths.iter().filter(|path| path.is_dir()).count();
    if maildirs < paths.len() && (paths.len() > 1 || into.is_some()) {
        return Err(Error::Usage {
            what: "several paths, or --into, and not all of them are Maildirs".into(),
            hint: "decrypt single messages one by one: each goes to standard output".into(),
        });
    }
    let keys = secret.keys()?;
    if maildirs > 0 {
        let sweep = rewrite.sweep(paths);
        return match into {
            Some(target) => decrypt::maildir::into(&sweep, target, &*keys, secret.expansion(), out),
            None => decrypt::maildir::in_place(&sweep, rewrite.uids(), &*keys, secret.expansion(), out),
        };
    }
    let path = &paths[0];
    let input = if path.as_os_str() == "-" {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let named = |source| Error::Mail { path: path.clone(), source };
    match decrypt::decrypt(input.map_err(named)?, out, &*keys, secret.expansion())? {
        Outcome::Original => {}
        Outcome::Inexact => {
            cli::note(cli::ADMIN, "the header could not be restored exactly: what stood outside stays");
        }
        Outcome::Foreign => cli::note(cli::ADMIN, "mailseal did not seal this message: it stays as it is"),
    }
    Ok(Exit::Ok)
}
