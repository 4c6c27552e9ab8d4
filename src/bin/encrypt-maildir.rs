//! `encrypt-maildir`: seals the messages of mailboxes that exist. It reads the command line; [`mailseal::mailbox::encrypt`] does it.

use std::ffi::OsStr;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use mailseal::cli;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::mailbox::encrypt::options::Options;
use mailseal::mailbox::encrypt::{self, child};
use mailseal::system::{owner, process};
use mailseal_core::error::Error as CoreError;

/// Encrypts every message of existing mailboxes to its owner's certificate, as deliveries are encrypted.
///
/// It can be interrupted at any moment, and run again: no message is lost, none is sealed twice. Messages get new UIDs:
/// mail programs download them again.
#[derive(Debug, Parser)]
#[command(name = cli::BULK, version, after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    options: Options,
}

const HELP: &str = "\
Exit status:
   0  nothing is left in clear but the mail of users without a certificate
   1  some messages failed or stay readable for another reason; each is named
  64  usage; what is named is not a Maildir
  75  temporary: input or output, key store, no usable or confirmed certificate, interrupted
  78  configuration";

fn main() {
    run()
        .unwrap_or_else(|error| {
            cli::complain(cli::BULK, None, &error);
            error.exit()
        })
        .leave()
}

fn run() -> Result<Exit, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    if let Some(kind) = owner::child::asked() {
        return owner_main(&kind, &stop).map(|()| Exit::Ok);
    }
    process::harden()?;
    let args: Args = match cli::parse(cli::BULK) {
        Ok(args) => args,
        Err(status) => return Ok(status),
    };
    process::heed_signals(&stop)?;
    process::raise_file_limit();
    process::end_after(&stop, process::END).map_err(CoreError::Read)?;
    let mut out = BufWriter::new(std::io::stdout());
    let status = encrypt::run(&args.options, &stop, &mut out)?;
    out.flush().map_err(Error::Output)?;
    Ok(status)
}

/// What the process of an owner does.
fn owner_main(kind: &OsStr, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    process::heed_signals(stop)?;
    child::main(kind, stop)
}
