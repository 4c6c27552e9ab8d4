//! `mailseal`: the admin's program. It reads the command line; each command has its own module in the library.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::{self, Existing, Keys};
use mailseal::{cli, date};

/// Looks after a mail server that cannot read the mail it stores.
#[derive(Debug, Parser)]
#[command(name = cli::ADMIN, version)]
struct Arguments {
    /// The configuration [default: /etc/mailseal.toml, which need not exist]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The certificates of users
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Enrol certificates: check them, try them, and put them where deliveries find them
    Add(AddArguments),
    /// List the enrolled certificates
    List {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Show a user's certificates, wherever they are found
    Show {
        #[command(flatten)]
        user: UserArguments,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Remove a user's enrolled certificates, or one of them
    Remove {
        #[command(flatten)]
        user: UserArguments,
        /// The fingerprint of the one, or its end
        fingerprint: Option<String>,
    },
    /// Say which enrolled certificates are unfit or expire soon; exit status 1 when there are any
    Check {
        /// How soon, as 30d or 4w
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = date::parse_span)]
        within: Duration,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Write a sealed test message to standard output, to be delivered to the user
    Test {
        #[command(flatten)]
        user: UserArguments,
    },
    /// Record the code that the user has read in the test message
    Confirm {
        #[command(flatten)]
        user: UserArguments,
        /// The code
        code: String,
    },
}

#[derive(Debug, Args)]
struct UserArguments {
    /// The delivery user, as Dovecot knows it
    user: String,
    /// The user's home, where a key source asks for it
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AddArguments {
    #[command(flatten)]
    user: UserArguments,
    /// Certificates, armored or binary; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Keep the certificates that the user has already
    #[arg(long, conflicts_with = "replace")]
    also: bool,
    /// Put the new ones in the place of those the user has
    #[arg(long)]
    replace: bool,
}

fn main() {
    let result = cli::parse().map(|arguments| run(&arguments));
    match result {
        Err(status) | Ok(Ok(status)) => status.leave(),
        Ok(Err(error)) => {
            cli::complain(cli::ADMIN, None, &error);
            error.exit().leave()
        }
    }
}

fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let config = Config::load(arguments.config.as_deref())?;
    let mut out = BufWriter::new(std::io::stdout());
    let status = match &arguments.command {
        Command::Keys(command) => run_keys(command, &config, &mut out)?,
    };
    out.flush().map_err(Error::Write)?;
    Ok(status)
}

fn run_keys(
    command: &KeysCommand,
    config: &Config,
    out: &mut BufWriter<std::io::Stdout>,
) -> Result<Exit, Error> {
    let now = SystemTime::now();
    let of = |user: &UserArguments| Keys::new(config, user.home.clone(), now);
    let of_all = || Keys::new(config, None, now);
    match command {
        KeysCommand::Add(add) => {
            let existing = match (add.also, add.replace) {
                (true, _) => Existing::Keep,
                (_, true) => Existing::Replace,
                _ => Existing::Refuse,
            };
            of(&add.user).add(&add.user.user, &keys::read_inputs(&add.files)?, existing, out)
        }
        KeysCommand::List { json } => of_all().list(*json, out),
        KeysCommand::Show { user, json } => of(user).show(&user.user, *json, out),
        KeysCommand::Remove { user, fingerprint } => of(user).remove(&user.user, fingerprint.as_deref(), out),
        KeysCommand::Check { within, json } => of_all().check(*within, *json, out),
        KeysCommand::Test { user } => of(user).test(&user.user, out),
        KeysCommand::Confirm { user, code } => of(user).confirm(&user.user, code, out),
    }
}
