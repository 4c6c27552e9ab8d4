//! `mailseal keys recovery`: its command line.

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};
use mailseal::cli::parse_number;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::recovery::{LEAST, MOST, Recovery};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a recovery certificate, and write the shares of its secret key as pages to print
    ///
    /// The certificate waits as recovery.pending, to which nothing can be sealed, until `mailseal keys recovery test` has
    /// proven the shares. No configuration is read: do it on a machine that is not the mail server.
    New {
        /// How many shares to make
        #[arg(long, value_name = "N", value_parser = parse_count())]
        shares: u8,
        /// How many of them recover the key
        #[arg(long, value_name = "K", value_parser = parse_count())]
        threshold: u8,
        /// The folder to make for them, best one in memory
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Rehearse the recovery: join shares, open a sealed message, and only then write the certificate as recovery.pgp; exit
    /// status 1 when the shares do not give the key
    Test {
        /// The recovery.pending that `new` wrote, or the recovery.pgp that is in use, which then tells of this rehearsal
        #[arg(value_name = "CERTIFICATE")]
        certificate: PathBuf,
        #[command(flatten)]
        shares: ShareArguments,
    },
    /// Join shares, and write the secret key, for `mailseal decrypt --secret-key`; exit status 1 when they do not give it
    Join {
        #[command(flatten)]
        shares: ShareArguments,
        /// The file to make, or - for standard output. No passphrase protects it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ShareArguments {
    /// A file with a share: a page, the text of its QR code, or its lines; for several, several times [default: standard
    /// input, where the lines are asked for]
    #[arg(long, value_name = "FILE")]
    share: Vec<PathBuf>,
}

/// A number of shares.
fn parse_count() -> impl TypedValueParser<Value = u8> {
    parse_number(u64::from(LEAST)..=u64::from(MOST)).try_map(u8::try_from)
}

/// Runs it.
pub fn run(command: Command, out: &mut impl Write) -> Result<Exit, Error> {
    let recovery = match command {
        Command::New { shares, threshold, out } => Recovery::New { shares, threshold, out },
        Command::Test { certificate, shares } => Recovery::Test { certificate, shares: shares.share },
        Command::Join { shares, out } => Recovery::Join { shares: shares.share, out },
    };
    recovery.run(SystemTime::now(), out)
}
