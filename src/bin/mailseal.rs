//! `mailseal`: the admin's program. It reads the command line; each command has its own module in the library.

use std::ffi::OsString;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use mailseal::cli::sealing::SealingArguments;
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::filter::Unchanged;
use mailseal::keys::{self, Existing, Keys};
use mailseal::{cli, date, deliver, doctor};

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
    /// Check the installation: what could let a delivery end in clear or be lost, and what mends it; exit status 1 then
    Doctor(DoctorArguments),
    /// Seal a message before Dovecot: standard input, sealed, becomes that of a local delivery agent
    ///
    /// Ends with the status of the agent, and with 75 on any failure of its own: the MTA keeps the mail. One recipient at a
    /// time.
    Deliver(DeliverArguments),
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
        /// The fingerprint of the one, or at least the last 8 digits of it
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
    #[arg(required_unless_present = WKD, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fetch the certificate that the address's domain publishes (Web Key Directory)
    #[cfg(feature = "network")]
    #[arg(long, value_name = "ADDRESS")]
    wkd: Vec<String>,
    /// Keep the certificates that the user has already
    #[arg(long, conflicts_with = "replace")]
    also: bool,
    /// Put the new ones in the place of those the user has
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// Send a message for this user through the script and the filter (may be repeated)
    #[arg(long = "user", value_name = "NAME", allow_hyphen_values = true)]
    users: Vec<String>,
    /// Dovecot's main configuration [default: Dovecot's own]
    #[arg(long, value_name = "FILE")]
    dovecot_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DeliverArguments {
    #[command(flatten)]
    sealing: SealingArguments,
    /// The agent and its arguments, as: dovecot-lda -d alice
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The argument without which a file is required.
const WKD: &str = if cfg!(feature = "network") { "wkd" } else { "help" };

fn main() {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(Exit::Usage) if is_deliver() => Exit::Temporary.leave(),
        Err(status) => status.leave(),
    };
    match run(arguments) {
        Ok(status) => std::process::exit(status),
        Err(error) => {
            cli::complain(cli::ADMIN, None, &error);
            error.exit().leave()
        }
    }
}

/// Whether the command line, wrong as it is, is that of a delivery.
fn is_deliver() -> bool {
    let matches = Arguments::command().ignore_errors(true).try_get_matches();
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("deliver"))
}

/// The exit status: one of ours, or that of the program that `deliver` runs.
fn run(arguments: Arguments) -> Result<i32, Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let config = || Config::load(arguments.config.as_deref());
    let status = match arguments.command {
        Command::Keys(command) => run_keys(&command, &config()?, &mut out)?,
        Command::Doctor(doctor) => {
            let DoctorArguments { users, dovecot_config } = doctor;
            doctor::run(&doctor::Options { config: arguments.config, dovecot_config, users }, &mut out)?
        }
        Command::Deliver(deliver) => {
            let options = deliver.sealing.options(arguments.config, Unchanged::Copy);
            return Ok(deliver::run(&options, &deliver.command));
        }
    };
    out.flush().map_err(Error::Write)?;
    Ok(status as i32)
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
            of(&add.user).add(&add.user.user, &inputs(add)?, existing, out)
        }
        KeysCommand::List { json } => of_all().list(*json, out),
        KeysCommand::Show { user, json } => of(user).show(&user.user, *json, out),
        KeysCommand::Remove { user, fingerprint } => of(user).remove(&user.user, fingerprint.as_deref(), out),
        KeysCommand::Check { within, json } => of_all().check(*within, *json, out),
        KeysCommand::Test { user } => of(user).test(&user.user, out),
        KeysCommand::Confirm { user, code } => of(user).confirm(&user.user, code, out),
    }
}

/// What is to be enrolled: the files, and what is fetched.
fn inputs(add: &AddArguments) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
    #[cfg_attr(not(feature = "network"), expect(unused_mut, reason = "nothing is fetched"))]
    let mut inputs = keys::read_inputs(&add.files)?;
    #[cfg(feature = "network")]
    for address in &add.wkd {
        let (url, bytes) = mailseal::fetch::fetch(address)?;
        inputs.push((url.into(), bytes));
    }
    Ok(inputs)
}
