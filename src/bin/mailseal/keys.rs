//! `mailseal keys`: its command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use mailseal::cli::parse_user;
use mailseal::config::Config;
use mailseal::console::date;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::admin::register::UserList;
use mailseal::keys::admin::{Action, Addition, Existing, Input, Keys, read_inputs};
use mailseal::keystore::user::User;
#[cfg(feature = "network")]
use mailseal::system::owner::Bytes;
use mailseal::system::process;
use mailseal_core::error::Error as CoreError;

/// The argument without which a file is required.
const WKD: &str = if cfg!(feature = "network") { "wkd" } else { "help" };

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol certificates: check them, try them, and put them where deliveries find them
    Add(AddArguments),
    /// List the enrolled certificates
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a user's certificates, wherever they are found
    Show {
        #[command(flatten)]
        user: UserArguments,
        /// Print JSON
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
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a sealed test message to standard output, to be delivered to the user
    Test {
        #[command(flatten)]
        user: UserArguments,
    },
    /// Mark the key stores and note who has a certificate: only then can a user have none
    Init {
        #[command(flatten)]
        users: UsersArguments,
        /// Take this store as it is, though it bore another marker before: after a restore, or on a new disk
        #[arg(long, value_name = "FOLDER")]
        accept: Vec<PathBuf>,
    },
    /// Note every user for whom a source has a certificate; exit status 1 when some could not be asked
    Scan {
        #[command(flatten)]
        users: UsersArguments,
    },
    /// Move a user's certificates, and that the user is known, to another name
    Rename {
        /// The name until now
        #[arg(value_parser = parse_user)]
        old: User,
        /// The new name
        #[arg(value_parser = parse_user)]
        new: User,
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
pub struct UsersArguments {
    /// The users, one a line [default: those that Dovecot lists]
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Dovecot's main configuration, if another than its default
    #[arg(long, value_name = "FILE")]
    dovecot_config: Option<PathBuf>,
}

impl UsersArguments {
    fn choice(&self) -> UserList {
        UserList { file: self.users.clone(), dovecot_config: self.dovecot_config.clone() }
    }
}

#[derive(Debug, Args)]
pub struct UserArguments {
    /// The delivery user, as Dovecot knows it
    #[arg(value_parser = parse_user)]
    user: User,
    /// The user's home, where a key source asks for it
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AddArguments {
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
    /// Refuse a user whom Dovecot does not know
    #[arg(long)]
    check: bool,
}

/// Runs it.
pub fn run(
    command: &Command,
    config: &Config,
    path: Option<&Path>,
    out: &mut (impl Write + Send + Sync),
) -> Result<Exit, Error> {
    // The processes that it starts end with it.
    let stop = Arc::new(AtomicBool::new(false));
    process::heed_signals(&stop)?;
    process::end_after(&stop, process::END).map_err(CoreError::Read)?;
    let keys = |user: Option<&UserArguments>| {
        let home = user.and_then(|it| it.home.clone());
        Keys::new(config, path.map(Path::to_owned), home, SystemTime::now()).until(&stop)
    };
    let (user, action) = match command {
        Command::Add(add) => (&add.user, Action::Add(addition(add, &keys(None))?)),
        Command::Show { user, json } => (user, Action::Show { json: *json }),
        Command::Remove { user, fingerprint } => (user, Action::Remove { fingerprint: fingerprint.clone() }),
        Command::Test { user } => (user, Action::Test),
        Command::Confirm { user, code } => (user, Action::Confirm { code: code.clone() }),
        Command::List { json } => return keys(None).list(*json, out),
        Command::Check { within, json } => return keys(None).check(*within, *json, out),
        Command::Init { users, accept } => return keys(None).init(&users.choice(), accept, out),
        Command::Scan { users } => return keys(None).scan(&users.choice(), out),
        Command::Rename { old, new } => return keys(None).rename(old, new, out),
    };
    keys(Some(user)).run(&user.user, &action, out)
}

/// What is to be enrolled, and what Dovecot has against it.
fn addition(add: &AddArguments, keys: &Keys<'_>) -> Result<Addition, Error> {
    let existing = match (add.also, add.replace) {
        (true, _) => Existing::Keep,
        (_, true) => Existing::Replace,
        _ => Existing::Refuse,
    };
    let inputs = inputs(add)?;
    Ok(Addition { inputs, existing, doubt: keys.doubt_of_dovecot(&add.user.user, add.check)? })
}

/// The files with it, and what is fetched.
fn inputs(add: &AddArguments) -> Result<Vec<Input>, Error> {
    #[cfg_attr(not(feature = "network"), expect(unused_mut, reason = "nothing is fetched"))]
    let mut inputs = read_inputs(&add.files)?;
    #[cfg(feature = "network")]
    for address in &add.wkd {
        let (url, bytes) = mailseal::keys::fetch::fetch(address)?;
        inputs.push(Input { name: url.into(), contents: Bytes(bytes) });
    }
    Ok(inputs)
}
