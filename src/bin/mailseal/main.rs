//! `mailseal`: the admin's program. It reads the command line, in a module for each command; what they do is in the
//! library.

mod arguments;
mod audit;
mod config;
mod decrypt;
mod deliver;
mod doctor;
mod keys;
mod migrate;
mod outgoing;
mod recovery;
mod report;
mod reseal;
mod sendmail;
mod serve;
mod setup;
mod status;

use std::ffi::OsStr;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use mailseal::cli;
use mailseal::config::Config;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::system::owner;

/// Looks after a mail server that cannot read the mail it stores.
#[derive(Debug, Parser)]
#[command(name = cli::ADMIN, version, arg_required_else_help = false)]
pub struct Arguments {
    /// The configuration [default: /etc/mailseal.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The certificates of users
    #[command(subcommand, arg_required_else_help = false)]
    Keys(KeysCommand),
    /// Move to mailseal from another program
    #[command(subcommand, arg_required_else_help = false)]
    Migrate(migrate::Command),
    /// The configuration
    #[command(subcommand, arg_required_else_help = false)]
    Config(config::Command),
    /// Say what becomes of the mail of every user, or of one: sealed to which key, clear and why, deferred and why
    Status(status::Arguments),
    /// Check whether the installation could leave a delivery in clear or lose it, and say how to fix that; exit status 1 then
    Doctor(doctor::Arguments),
    /// Put mailseal into the Dovecot that is there, or take it away again; exit status 1 when it is refused or was taken back,
    /// or when doctor finds a failure then
    Setup(setup::Arguments),
    /// Give back the original of sealed messages, byte for byte
    Decrypt(decrypt::Arguments),
    /// Seal messages to a new key that are sealed to an old one; their plaintext is never stored
    Reseal(reseal::Arguments),
    /// Say which messages are in clear, and which are sealed to which keys; exit status 1 when one is in clear
    Audit(audit::Arguments),
    /// Say from the mail log how long sealing takes, what failed, and whose mail waits; exit status 1 when a user's mail
    /// has been deferred for more than an hour
    Report(report::Arguments),
    /// Seal a message before Dovecot: read it from standard input and hand it, sealed, to a local delivery agent
    ///
    /// Ends with the status of the agent, and with 75 on any failure of its own: the MTA keeps the mail. One recipient at a
    /// time.
    Deliver(deliver::Arguments),
    /// Say what would become of mail that leaves for ADDRESS; exit status 1 when it would stay here
    Outgoing(outgoing::Arguments),
    /// Take the place of sendmail: seal what leaves, and hand it to the program that sends mail
    ///
    /// Takes sendmail's arguments, and does the same when it is started under the name sendmail. What cannot leave sealed is held,
    /// and tried again.
    Sendmail(sendmail::Arguments),
    /// Run as a service that seals mail on its way: LMTP before Dovecot, Dovecot's script socket, and mail that leaves
    Serve(serve::Arguments),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    #[command(flatten)]
    OfUsers(keys::Command),
    /// A certificate whose secret key is divided into shares on paper: for the day on which a user's key is lost
    #[command(subcommand, arg_required_else_help = false)]
    Recovery(recovery::Command),
}

fn main() {
    sendmail::run_in_its_place();
    if let Some(kind) = owner::child::asked() {
        as_owner(&kind).map_or_else(|error| error.exit(), |()| Exit::Ok).leave();
    }
    let arguments: Arguments = match cli::parse(cli::ADMIN) {
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

/// What the process of an owner does, which root has started. It reports what it has to say.
fn as_owner(kind: &OsStr) -> Result<(), Error> {
    match kind.to_str() {
        Some(mailseal::mailbox::decrypt::owners::KIND) => mailseal::mailbox::decrypt::owners::main(),
        Some(mailseal::mailbox::decrypt::single::KIND) => mailseal::mailbox::decrypt::single::main(),
        Some(mailseal::mailbox::audit::owned::KIND) => mailseal::mailbox::audit::owned::main(),
        Some(mailseal::keys::admin::ask::KIND) => mailseal::keys::admin::ask::main(),
        Some(mailseal::keys::admin::pending::KIND) => mailseal::keys::admin::pending::main(),
        Some(mailseal::keys::admin::owners::facts::KIND) => mailseal::keys::admin::owners::facts::main(),
        Some(mailseal::keys::admin::survey::KIND) => mailseal::keys::admin::survey::main(),
        Some(mailseal::keys::admin::gpgit::home::KIND) => mailseal::keys::admin::gpgit::home::main(),
        Some(mailseal::keys::admin::owned::KIND) => mailseal::keys::admin::owned::main(),
        Some(mailseal::doctor::home::KIND) => mailseal::doctor::home::main(),
        Some(mailseal::doctor::round_trip::KIND) => mailseal::doctor::round_trip::main(),
        _ => Err(Error::Usage { what: "no such task".into(), hint: "this is for the program itself".into() }),
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
    let config_path = arguments.config.as_deref();
    let config = || Config::load(config_path);
    let status = match arguments.command {
        Command::Keys(KeysCommand::OfUsers(command)) => {
            keys::run(&command, &config()?, config_path, &mut out)?
        }
        Command::Keys(KeysCommand::Recovery(command)) => recovery::run(command, &mut out)?,
        Command::Migrate(command) => migrate::run(&command, &config()?, config_path, &mut out)?,
        Command::Config(command) => config::run(&command, config_path, &mut out)?,
        Command::Status(arguments) => status::run(arguments, &config()?, config_path, &mut out)?,
        Command::Doctor(command) => doctor::run(command, arguments.config, &mut out)?,
        Command::Setup(command) => setup::run(command, arguments.config, &mut out)?,
        Command::Decrypt(arguments) => decrypt::run(&arguments, &mut out)?,
        Command::Reseal(command) => reseal::run(&command, arguments.config.as_deref(), &mut out)?,
        Command::Audit(command) => audit::run(command, arguments.config, &mut out)?,
        Command::Report(arguments) => report::run(arguments, &mut out)?,
        Command::Outgoing(arguments) => outgoing::run(&arguments, &config()?, &mut out)?,
        Command::Sendmail(arguments) => sendmail::run(&arguments, config_path, &mut out)?,
        Command::Serve(arguments) => serve::run(&arguments, config_path, &mut out)?,
        Command::Deliver(command) => return Ok(deliver::run(command, arguments.config)),
    };
    out.flush().map_err(Error::Output)?;
    Ok(status as i32)
}
