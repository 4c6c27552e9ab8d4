//! `mailseal`: the admin's program. It reads the command line; each command has its own module in the library.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use mailseal::config::Config;
use mailseal::decrypt::Outcome;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::keys::{self, Existing, Keys};
use mailseal::maildir::commit::Uids;
use mailseal::recipients::{Recipients, WhenExpired};
use mailseal::report::{self, Form};
use mailseal::sweep::Sweep;
use mailseal::unseal::agent::Agent;
use mailseal::unseal::keys::{KeyFiles, Keys as SecretKeys, Passphrases};
use mailseal::{audit, cli, date, decrypt, keystore, process, reseal};

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
    /// Give back the original of sealed messages, byte for byte
    Decrypt(DecryptArguments),
    /// Seal messages that are sealed to an old key to a new one; they are in clear nowhere meanwhile
    Reseal(ResealArguments),
    /// Say which messages are in clear, and which are sealed to which keys; exit status 1 when one is in clear
    Audit(AuditArguments),
    /// Say from the mail log how long sealing takes, what failed, and whose mail waits; exit status 1 when a user's mail
    /// has been deferred for more than an hour
    Report(ReportArguments),
}

#[derive(Debug, Args)]
struct ReportArguments {
    /// Logs of syslog or `journalctl -o short-iso` or `-o json`, plain or compressed with gzip, in any order; - is
    /// standard input, and so is none
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// For scripts
    #[arg(long)]
    json: bool,
    /// For the textfile collector of Prometheus's node_exporter
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    /// Write a web page to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "prometheus"])]
    html: Option<PathBuf>,
}

impl ReportArguments {
    fn options(&self) -> report::Options {
        let form = match (&self.html, self.json, self.prometheus) {
            (Some(path), ..) => Form::Html(path.clone()),
            (_, true, _) => Form::Json,
            (_, _, true) => Form::Prometheus,
            _ => Form::Text,
        };
        report::Options { files: self.files.clone(), form }
    }
}

#[derive(Debug, Args)]
struct AuditArguments {
    /// Maildirs, or patterns with %{user}, %{local} and %{domain}
    #[arg(value_name = "MAILDIR", required = true)]
    paths: Vec<PathBuf>,
    /// The user whose certificates the keys are compared with (with a pattern, several) [default: the Maildir's owner]
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// The user's home, where a key source asks for it
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Compare with exactly the certificates in FILE, and look none up (may be repeated)
    #[arg(long = "key", value_name = "FILE")]
    key_files: Vec<PathBuf>,
    /// Name each message that is in clear, cannot be read, or is not sealed to a key that the user has now
    #[arg(long)]
    list: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
    /// Messages at once [default: the processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
struct DecryptArguments {
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

#[derive(Debug, Args)]
struct ResealArguments {
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

#[derive(Debug, Args)]
struct RewriteArguments {
    /// Keep the UIDs, for mailboxes whose users are logged out
    #[arg(long)]
    keep_uids: bool,
    /// Dovecot's control folder (CONTROL=) [default: the Maildir]
    #[arg(long, value_name = "DIR")]
    control: Option<PathBuf>,
    /// Messages at once [default: the processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl RewriteArguments {
    fn sweep(&self, paths: &[PathBuf]) -> Sweep {
        Sweep { paths: paths.to_vec(), control: self.control.clone(), jobs: self.jobs }
    }

    fn uids(&self) -> Uids {
        if self.keep_uids { Uids::Keep } else { Uids::New }
    }
}

#[derive(Debug, Args)]
struct SecretArguments {
    /// The secret key, as gpg --export-secret-keys writes it; for several keys, several times
    #[arg(long, value_name = "FILE", required_unless_present = "gpg_agent")]
    secret_key: Vec<PathBuf>,
    /// The secret keys that gpg and its agent hold
    #[arg(long, conflicts_with = "secret_key")]
    gpg_agent: bool,
    /// Read the passphrases from this file descriptor, one a line, and ask for none
    #[arg(long, value_name = "N", conflicts_with = "gpg_agent")]
    passphrase_fd: Option<i32>,
}

impl SecretArguments {
    /// The secret keys; from here on the process leaves no core dump.
    fn keys(&self) -> Result<Box<dyn SecretKeys>, Error> {
        let keys: Box<dyn SecretKeys> = if self.gpg_agent {
            Box::new(Agent)
        } else {
            let passphrases = self.passphrase_fd.map_or(Ok(Passphrases::Prompt), Passphrases::read)?;
            Box::new(KeyFiles::read(&self.secret_key, passphrases)?)
        };
        process::forbid_dumps()?;
        Ok(keys)
    }
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

/// The argument without which a file is required.
const WKD: &str = if cfg!(feature = "network") { "wkd" } else { "help" };

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
        Command::Decrypt(arguments) => run_decrypt(arguments, &mut out)?,
        Command::Reseal(arguments) => run_reseal(arguments, &config, &mut out)?,
        Command::Audit(arguments) => {
            let AuditArguments { paths, users, home, key_files, list, json, jobs } = arguments;
            let options = audit::Options {
                sweep: Sweep { paths: paths.clone(), control: None, jobs: *jobs },
                users: users.clone(),
                home: home.clone(),
                key_files: key_files.clone(),
                list: *list,
                json: *json,
            };
            audit::run(&options, &config, &mut out)?
        }
        Command::Report(arguments) => report::run(&arguments.options(), &mut out)?,
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

fn run_decrypt(arguments: &DecryptArguments, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let DecryptArguments { paths, into, rewrite, secret } = arguments;
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
            Some(target) => decrypt::maildir::into(&sweep, target, &*keys, out),
            None => decrypt::maildir::in_place(&sweep, rewrite.uids(), &*keys, out),
        };
    }
    let path = &paths[0];
    let input = if path.as_os_str() == "-" {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let named = |source| Error::Mail { path: path.clone(), source };
    match decrypt::decrypt(input.map_err(named)?, out, &*keys)? {
        Outcome::Original => {}
        Outcome::Inexact => {
            cli::note(cli::ADMIN, "the places of the MIME fields in the header could not be restored");
        }
        Outcome::Foreign => cli::note(cli::ADMIN, "mailseal did not seal this message: it stays as it is"),
    }
    Ok(Exit::Ok)
}

fn run_reseal(
    arguments: &ResealArguments,
    config: &Config,
    out: &mut (impl Write + Send),
) -> Result<Exit, Error> {
    let ResealArguments { secret, key_files, rewrite, paths } = arguments;
    let certs = keystore::read_all_named(key_files)?;
    let new = reseal::Seal {
        recipients: Recipients::choose(reseal::USER, &certs, &[], WhenExpired::Defer, SystemTime::now())?,
        compression: config.message.compression,
    };
    let keys = secret.keys()?;
    reseal::run(&rewrite.sweep(paths), rewrite.uids(), &*keys, &new, out)
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
