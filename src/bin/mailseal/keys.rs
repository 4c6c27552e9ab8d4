//! `mailseal keys`: its command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use clap::{ArgGroup, Args, Subcommand};
use mailseal::cli::{self, parse_user};
use mailseal::config::Config;
use mailseal::console::date;
use mailseal::delivery::deadline::Deadline;
use mailseal::dovecot::lda;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::admin::owners::Telling;
use mailseal::keys::admin::pending::Pending;
use mailseal::keys::admin::refresh::Refresh;
use mailseal::keys::admin::register::UserList;
use mailseal::keys::admin::{Action, Addition, Existing, Input, Keys, read_inputs};
#[cfg(feature = "network")]
use mailseal::keys::fetch::Keyserver;
use mailseal::keys::receive::{self, Cause, Session};
use mailseal::keystore::user::User;
use mailseal::limits;
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
    Check(CheckArguments),
    /// Write a sealed test message to standard output, to be delivered to the user
    Test {
        #[command(flatten)]
        user: UserArguments,
        /// Deliver it to the user's INBOX, through dovecot-lda
        #[arg(long)]
        deliver: bool,
        /// Dovecot's main configuration, if another than its default
        #[arg(long, value_name = "FILE", requires = "deliver")]
        dovecot_config: Option<PathBuf>,
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
    /// Take over what is new about enrolled certificates: what owners have published, what authorities have revoked
    ///
    /// Only certificates with the fingerprint of an enrolled one count. Exit status 1 when a server could not be asked, another
    /// certificate is published, a revocation list says nothing, or mail cannot be sealed for a user any more.
    Refresh(RefreshArguments),
    /// Write enrolled certificates as a Web Key Directory, for a web server to publish
    Export {
        /// The root of what the web server hands out: .well-known/openpgpkey is made below it
        #[arg(long, value_name = "FOLDER")]
        wkd: PathBuf,
        /// The certificates of all who are enrolled
        #[arg(long, conflicts_with = "users")]
        all: bool,
        /// Those of these users, and of nobody else
        #[arg(value_name = "USER", value_parser = parse_user, required_unless_present = "all")]
        users: Vec<User>,
    },
    /// Answer a message that a user has saved in their own mailbox to be enrolled (imapsieve)
    ///
    /// Made to be run by Dovecot's Sieve filter with the user's rights: the message comes on standard input, the answer that takes
    /// its place goes to standard output. Exit status 1, and no output, when the message stays as it is.
    Receive {
        /// How the message came into the folder
        #[arg(long, value_enum, ignore_case = true)]
        cause: Cause,
        /// Write the sealed message with a code that the last answer has promised
        #[arg(long)]
        test: bool,
        /// The user [default: $USER]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// The user's home [default: $HOME]
        #[arg(long, value_name = "DIR")]
        home: Option<PathBuf>,
    },
    /// List what users have sent to be enrolled and is not in effect
    Pending {
        #[command(flatten)]
        users: UsersArguments,
        /// Have what has waited long enough take effect, and tell the owners: for a timer
        #[arg(long)]
        advance: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Enrol what a user has sent and confirmed, or stop sealing where the user has asked for that
    Approve {
        #[command(flatten)]
        user: UserArguments,
        /// The key that is meant; it has to be said where it takes the place of another
        fingerprint: Option<String>,
        /// Dovecot's main configuration, if another than its default
        #[arg(long, value_name = "FILE")]
        dovecot_config: Option<PathBuf>,
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
#[command(group(ArgGroup::new("telling").multiple(true).args(["mail_owner", "digest"])))]
pub struct CheckArguments {
    /// How soon, as 30d or 4w
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = date::parse_span)]
    within: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell the owners, each thing once: 30, 7 and 1 days before a certificate expires, when it cannot be used any more, and when mail
    /// waits for that
    #[arg(long)]
    mail_owner: bool,
    /// Send an admin a list of who is enrolled, which certificates are pending, expire or cannot be used, and whose mail waits; sealed by [[outgoing]]
    #[arg(long, value_name = "ADDRESS")]
    digest: Option<String>,
    /// The log that tells whose mail waits; for several, several times [default: the log of this machine]
    #[arg(long, value_name = "FILE", requires = "telling")]
    log: Vec<PathBuf>,
    /// The users in whose homes certificates may lie, one a line [default: those that Dovecot lists]
    #[arg(long, value_name = "FILE", requires = "telling")]
    users: Option<PathBuf>,
    /// Dovecot's main configuration, if another than its default
    #[arg(long, value_name = "FILE", requires = "telling")]
    dovecot_config: Option<PathBuf>,
}

impl CheckArguments {
    /// Who is told what.
    fn telling(&self) -> Telling {
        Telling {
            owners: self.mail_owner,
            digest: self.digest.clone(),
            within: self.within,
            users: UserList { file: self.users.clone(), dovecot_config: self.dovecot_config.clone() },
            logs: self.log.clone(),
        }
    }
}

/// Of which at least one says what is asked.
const ASKED: &[&str] =
    if cfg!(feature = "network") { &["wkd", "keyserver", "crl", "crl_points"] } else { &["crl"] };

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("asked").multiple(true).required(true).args(ASKED)))]
pub struct RefreshArguments {
    /// Ask the Web Key Directories of the users' domains; in builds with the feature network
    #[cfg(feature = "network")]
    #[arg(long)]
    wkd: bool,
    /// Ask a keyserver: https://HOST with the interface of keys.openpgp.org, hkps://HOST by HKP; for several, several times
    #[cfg(feature = "network")]
    #[arg(long, value_name = "URL")]
    keyserver: Vec<String>,
    /// Disable the S/MIME certificates that the revocation lists in `smime-crl` name
    #[arg(long)]
    crl: bool,
    /// The same by the lists that the certificates name, fetched over HTTP; in builds with the feature network
    #[cfg(feature = "network")]
    #[arg(long)]
    crl_points: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// These users [default: all who are enrolled]
    #[arg(value_name = "USER", value_parser = parse_user)]
    users: Vec<User>,
}

impl RefreshArguments {
    fn how(&self) -> Result<Refresh, Error> {
        Ok(Refresh {
            #[cfg(feature = "network")]
            wkd: self.wkd,
            #[cfg(feature = "network")]
            keyservers: self
                .keyserver
                .iter()
                .map(|given| Keyserver::parse(given))
                .collect::<Result<_, _>>()?,
            #[cfg(feature = "network")]
            points: self.crl_points,
            lists: self.crl,
            dry_run: self.dry_run,
        })
    }
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
    pub fn choice(&self) -> UserList {
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
    /// Fetch the certificate that the address's domain publishes (Web Key Directory); in builds with the feature network
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
    let stop = stop_on_signals()?;
    let keys = |user: Option<&UserArguments>| {
        let home = user.and_then(|it| it.home.clone());
        Keys::new(config, path.map(Path::to_owned), home, SystemTime::now()).until(&stop)
    };
    let (user, action) = match command {
        Command::Add(add) => (&add.user, Action::Add(addition(add, &keys(None))?)),
        Command::Show { user, json } => (user, Action::Show { json: *json }),
        Command::Remove { user, fingerprint } => (user, Action::Remove { fingerprint: fingerprint.clone() }),
        Command::Test { user, deliver: true, dovecot_config } => {
            return deliver_test(&keys(Some(user)), &user.user, dovecot_config.as_deref(), out);
        }
        Command::Test { user, .. } => (user, Action::Test),
        Command::Confirm { user, code } => (user, Action::Confirm { code: code.clone() }),
        Command::Receive { cause, test, user, home } => {
            let session = Session::new(config, user.clone(), home.clone(), SystemTime::now())?;
            return answer(&session, *cause, *test, config.message.deadline, out);
        }
        Command::Pending { users, advance, json } => {
            let how = Pending { users: users.choice(), advance: *advance, json: *json };
            return keys(None).pending(&how, out);
        }
        Command::Approve { user, fingerprint, dovecot_config } => {
            let (fingerprint, dovecot) = (fingerprint.as_deref(), dovecot_config.as_deref());
            return keys(Some(user)).approve(&user.user, fingerprint, dovecot, out);
        }
        Command::List { json } => return keys(None).list(*json, out),
        Command::Check(check) => {
            let is_told = check.mail_owner || check.digest.is_some();
            let told = if is_told { keys(None).tell(&check.telling()) } else { Ok(()) };
            if is_told && !keys(None).has_folder() {
                return told.map(|()| Exit::Ok);
            }
            let exit = keys(None).check(check.within, check.json, out)?;
            return told.map(|()| exit);
        }
        Command::Init { users, accept } => return keys(None).init(&users.choice(), accept, out),
        Command::Scan { users } => return keys(None).scan(&users.choice(), out),
        Command::Refresh(refresh) => return keys(None).refresh(&refresh.how()?, &refresh.users, out),
        Command::Export { wkd, users, .. } => return keys(None).export(wkd, users, out),
        Command::Rename { old, new } => return keys(None).rename(old, new, out),
    };
    keys(Some(user)).run(&user.user, &action, out)
}

/// Has a test message delivered to `user`, and says what comes next.
fn deliver_test(
    keys: &Keys<'_>,
    user: &User,
    dovecot_config: Option<&Path>,
    out: &mut impl Write,
) -> Result<Exit, Error> {
    let mut message = Vec::new();
    keys.run(user, &Action::Test, &mut message)?;
    let name = user.name();
    lda::deliver(name, &message, dovecot_config)?;
    writeln!(out, "delivered to {name}; next, with the code that is in it: mailseal keys confirm {name} CODE")
        .map(|()| Exit::Ok)
        .map_err(Error::Output)
}

/// Answers one message of a user's, or writes the code that was promised in the answer to one, within `limit`: Dovecot's own
/// would end the user's IMAP session.
fn answer(
    session: &Session<'_>,
    cause: Cause,
    test: bool,
    limit: Duration,
    out: &mut (impl Write + Send + Sync),
) -> Result<Exit, Error> {
    process::bound_memory(limits::RECEIVED_MEMORY)?;
    let late = |limit: Duration| {
        cli::complain(cli::ADMIN, None, &Error::Deadline { seconds: limit.as_secs() });
    };
    let deadline = Deadline::start(Instant::now(), limit, late, || {}).map_err(CoreError::Read)?;
    let mut input = process::stdin()?;
    let result = if test {
        std::io::copy(&mut input, &mut std::io::sink()).map_err(CoreError::Read)?;
        receive::test(session, out)
    } else {
        receive::receive(session, cause, &mut input, out)
    };
    deadline.finish();
    result
}

/// Set when the program is to end: the processes that it starts end with it.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    process::heed_signals(&stop)?;
    process::end_after(&stop, process::END).map_err(CoreError::Read)?;
    Ok(stop)
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
