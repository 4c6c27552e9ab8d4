//! Everything that can go wrong: what failed and where, what to do, and with which exit status.
//!
//! `Display` is the first line (what and where), [`Error::hint`] the second (what to do). Both are escaped by whoever
//! prints them.

use std::io;
use std::path::PathBuf;

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::error::Error as MaildirError;

use crate::exit::Exit;
use crate::keystore::standing::Standing;

/// The reason in the log where a key store, or what proves that it is whole, could not be read.
pub const KEY_STORE: &str = "key-store";

/// What is wrong with a recipient on a host that has no domain to complete it with, in [`Error::User`] and [`Error::Unresolved`].
pub const NO_DOMAIN: &str = "has no domain";

const NAME_THE_DOMAIN: &str = "name this host: domain = \"HOST.example.org\" in [sendmail], or in /etc/mailname; without it no alias is looked up";

/// Stands for the path of a home that nobody knows, in [`Error::Home`].
pub const UNKNOWN_HOME: &str = "of this user";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message cannot be sealed or opened.
    #[error("{}", worded(.0))]
    Core(#[source] CoreError),
    /// A Maildir, or another file with a message in it, cannot be worked on.
    #[error(transparent)]
    Maildir(#[from] MaildirError),
    /// The command line is wrong.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The configuration file is wrong.
    #[error("configuration {}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A delivery as root.
    #[error("running as root, and root has no mail user's certificates")]
    Root,
    /// The process could not give up root's rights.
    #[error("cannot give up root's rights: {what}")]
    Privileges {
        /// Which step.
        what: String,
    },
    /// What an owner's process could not do, or what had to be done to it.
    #[error("{what}")]
    Owner {
        /// What.
        what: String,
        /// What to do.
        hint: String,
        /// The exit status.
        exit: Exit,
    },
    /// The delivery user's name is unknown, or no name for a file.
    #[error("the user name {name:?} {what}")]
    User {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The user's home is unknown or does not exist.
    #[error("the home {} {what}", path.display())]
    Home {
        /// The home, as far as it is known.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A report, a list or another answer cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The message could not be passed on unchanged.
    #[error("cannot pass the message on: {0}")]
    Pass(#[source] io::Error),
    /// The program that a sealed message goes to could not be run to its end.
    #[error("{} {what}", program.display())]
    Command {
        /// The program.
        program: PathBuf,
        /// What happened.
        what: String,
    },
    /// What sealed mail is handed to does not take it.
    #[error("the next hop {address}: {what}")]
    NextHop {
        /// Where it is.
        address: String,
        /// What happened.
        what: String,
    },
    /// Nobody can tell where mail for a recipient ends.
    #[error("the recipient {recipient:?} {what}")]
    Unresolved {
        /// The recipient, as it was given.
        recipient: String,
        /// Why.
        what: String,
    },
    /// The folder of held mail, or what is in it, cannot be used.
    #[error("held mail {}: {what}", path.display())]
    Held {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A door cannot be opened.
    #[error("cannot listen on {address}: {what}")]
    Door {
        /// Where it is to be.
        address: String,
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The deadline has passed.
    #[error("not done within {seconds} seconds")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// A key file or key folder is not there, or not to be trusted.
    #[error("key store {}: {what}", path.display())]
    KeyStore {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A certificate cannot be enrolled.
    #[error("cannot enrol {}: {what}", path.display())]
    Enrol {
        /// Where the certificate was read.
        path: PathBuf,
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A keyring has several certificates for the user, and nobody said which.
    #[error("several certificates for {address:?}: {fingerprints}")]
    Ambiguous {
        /// The address that was looked for.
        address: String,
        /// The fingerprints.
        fingerprints: String,
    },
    /// What is to be looked for in a keyring is no address.
    #[error("{address:?} is not an address to look for in a keyring")]
    Address {
        /// What `address` in the configuration gives for this user.
        address: String,
    },
    /// The user must have a certificate and has none.
    #[error("the user {user:?} has no certificate")]
    Missing {
        /// The user.
        user: String,
    },
    /// No certificate is found for a user of whom it cannot be said that there is none.
    #[error("no certificate is found for {user:?}, {}", because(*standing))]
    Known {
        /// The user.
        user: String,
        /// What the register of known users says.
        standing: Standing,
    },
    /// A secret key cannot be used.
    #[error("secret key {}: {what}", path.display())]
    SecretKey {
        /// The file it is in, or the passphrase.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Shares of a recovery key cannot be made or joined, or do not give the key.
    #[error("{what}")]
    Shares {
        /// What is wrong, and where.
        what: String,
        /// What to do.
        hint: String,
    },
    /// GnuPG's agent did not open a key.
    #[error("GnuPG: {what}")]
    Agent {
        /// What is wrong.
        what: String,
    },
    /// A log to report on cannot be read.
    #[error("log {}: {source}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody has shown to be able to read what is sealed to the user's certificates.
    #[error("nobody has confirmed that {user:?} can read what is sealed to the certificates found")]
    Unconfirmed {
        /// The user.
        user: String,
    },
    /// The user's certificates were confirmed through the mailbox alone, and stored mail is to be sealed to them.
    #[error("{user:?} has confirmed the key through the mailbox only")]
    ByMailbox {
        /// The user.
        user: String,
    },
    /// Somebody is logged in whose mailbox must not be in use.
    #[error("{user:?} is logged in")]
    InUse {
        /// The user.
        user: String,
    },
    /// Dovecot does not do what it is asked for.
    #[error("Dovecot: {what}")]
    Dovecot {
        /// What it says.
        what: String,
    },
    /// Dovecot cannot be set up, or what was set up cannot be taken away; all is as it was.
    #[error("{what}")]
    Setup {
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A part of the sandbox is missing, and was required.
    #[error("the sandbox cannot be built: {what}")]
    Sandbox {
        /// What is missing.
        what: String,
    },
}

impl From<CoreError> for Error {
    /// What one of the programs' own [`SecretKeys`](crate::keys::secret::SecretKeys) could not do is their own error again.
    fn from(error: CoreError) -> Self {
        match error {
            CoreError::Keys(error) => match error.downcast() {
                Ok(own) => *own,
                Err(other) => Self::Core(CoreError::Keys(other)),
            },
            error => Self::Core(error),
        }
    }
}

impl From<Error> for CoreError {
    /// What the programs' own [`SecretKeys`](crate::keys::secret::SecretKeys) fail with, for the library to hand back.
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => error,
            own => Self::Keys(own.into()),
        }
    }
}

/// How the programs say it, whose message comes from standard input.
fn worded(error: &CoreError) -> String {
    match error {
        CoreError::Empty => "there is no message on standard input".into(),
        error => error.to_string(),
    }
}

/// Why none being found does not mean that there is none.
fn because(standing: Standing) -> &'static str {
    match standing {
        Standing::Known => "and the user once had one",
        Standing::Near => "and a user whose name differs only by a domain or a suffix has one",
        Standing::Unasked => "whose key sources could not be asked yet",
        Standing::Unknown => "and nothing is known of the user",
    }
}

impl Error {
    /// Whether a key source asks for a home that nobody has named.
    #[must_use]
    pub fn is_of_unknown_home(&self) -> bool {
        matches!(self, Self::Home { path, .. } if path.as_os_str() == UNKNOWN_HOME)
    }

    /// The exit status: the only place that tells temporary from permanent.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Owner { exit, .. } => *exit,
            Self::Usage { .. } | Self::Maildir(MaildirError::NoMaildir { .. }) => Exit::Usage,
            Self::Enrol { .. }
            | Self::Setup { .. }
            | Self::Maildir(MaildirError::Odd(_))
            | Self::Shares { .. }
            | Self::Core(CoreError::NoSecretKey { .. }) => Exit::Negative,
            Self::Core(
                CoreError::Empty
                | CoreError::HeaderTooLong
                | CoreError::SealedHeaderTooLong
                | CoreError::Padding
                | CoreError::Damaged { .. }
                | CoreError::HiddenFields
                | CoreError::Expands { .. },
            ) => Exit::Message,
            Self::Config { .. }
            | Self::Root
            | Self::Core(CoreError::Recovery(_) | CoreError::SmimePadding)
            | Self::Address { .. }
            | Self::Sandbox { .. } => Exit::Config,
            Self::Privileges { .. }
            | Self::User { .. }
            | Self::Home { .. }
            | Self::Output(_)
            | Self::Pass(_)
            | Self::Command { .. }
            | Self::NextHop { .. }
            | Self::Unresolved { .. }
            | Self::Held { .. }
            | Self::Door { .. }
            | Self::Deadline { .. }
            | Self::KeyStore { .. }
            | Self::Ambiguous { .. }
            | Self::Missing { .. }
            | Self::Known { .. }
            | Self::SecretKey { .. }
            | Self::Agent { .. }
            | Self::Log { .. }
            | Self::Maildir(MaildirError::Mail { .. })
            | Self::Unconfirmed { .. }
            | Self::ByMailbox { .. }
            | Self::InUse { .. }
            | Self::Dovecot { .. }
            | Self::Core(
                CoreError::Read(_)
                | CoreError::Write(_)
                | CoreError::NoUsableKey { .. }
                | CoreError::Keys(_)
                | CoreError::OpenPgp(_),
            ) => Exit::Temporary,
        }
    }

    /// The short name in the log line.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "usage",
            Self::Config { .. } => "config",
            Self::Root => "root",
            Self::Privileges { .. } => "privileges",
            Self::Owner { .. } => "owner",
            Self::User { .. } => "user",
            Self::Home { .. } => "home",
            Self::Core(CoreError::Empty) => "empty",
            Self::Core(CoreError::HeaderTooLong | CoreError::SealedHeaderTooLong) => "header-too-long",
            Self::Core(CoreError::Padding | CoreError::SmimePadding) => "padding",
            Self::Core(CoreError::Read(_)) => "read",
            Self::Core(CoreError::Write(_)) => "write",
            Self::Output(_) => "output",
            Self::Pass(_) => "pass",
            Self::Command { .. } => "command",
            Self::NextHop { .. } => "next-hop",
            Self::Unresolved { .. } => "unresolved",
            Self::Held { .. } => "held",
            Self::Door { .. } => "door",
            Self::Deadline { .. } => "deadline",
            Self::KeyStore { .. } => KEY_STORE,
            Self::Enrol { .. } => "enrol",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Address { .. } => "address",
            Self::Missing { .. } => "key-required",
            Self::Known { .. } => "known",
            Self::Core(CoreError::NoUsableKey { .. }) => "no-usable-key",
            Self::Core(CoreError::Recovery(_)) => "recovery",
            Self::Sandbox { .. } => "sandbox",
            Self::Core(CoreError::Damaged { .. }) => "damaged",
            Self::Core(CoreError::HiddenFields) => "hidden-fields",
            Self::Core(CoreError::Expands { .. }) => "expands",
            Self::Core(CoreError::NoSecretKey { .. }) => "no-secret-key",
            Self::SecretKey { .. } => "secret-key",
            Self::Shares { .. } => "shares",
            Self::Agent { .. } => "agent",
            Self::Log { .. } => "log",
            Self::Maildir(MaildirError::NoMaildir { .. }) => "no-maildir",
            Self::Maildir(MaildirError::Mail { .. }) => "mail",
            Self::Maildir(MaildirError::Odd(_)) => "not-worked-on",
            Self::Unconfirmed { .. } | Self::ByMailbox { .. } => "unconfirmed",
            Self::InUse { .. } => "in-use",
            Self::Dovecot { .. } => "dovecot",
            Self::Setup { .. } => "setup",
            Self::Core(CoreError::Keys(_)) => "secret-key",
            Self::Core(CoreError::OpenPgp(_)) => "openpgp",
        }
    }

    /// What to do about it.
    #[must_use]
    // A table: a line for each cause.
    pub fn hint(&self) -> String {
        match self {
            Self::Usage { hint, .. }
            | Self::Config { hint, .. }
            | Self::Owner { hint, .. }
            | Self::KeyStore { hint, .. }
            | Self::Enrol { hint, .. }
            | Self::Door { hint, .. }
            | Self::Setup { hint, .. }
            | Self::Held { hint, .. }
            | Self::SecretKey { hint, .. }
            | Self::Shares { hint, .. }
            | Self::Maildir(MaildirError::NoMaildir { hint, .. }) => hint.clone(),
            Self::Maildir(MaildirError::Odd(odd)) => odd.why.hint().into(),
            Self::Root => "run it as the mail user, or name the certificate with --key".into(),
            Self::Privileges { .. } => "start it as the mail user, without root among its user ids".into(),
            Self::User { what, .. } if *what == NO_DOMAIN => NAME_THE_DOMAIN.into(),
            Self::User { .. } => "give the user's whole name, as Dovecot knows it".into(),
            Self::Home { .. } if self.is_of_unknown_home() => {
                "look for a mistyped name (doveadm user '*'), or give the user's home with --home".into()
            }
            Self::Home { .. } => {
                "mount it; where homes are made with the first mail, name the folder that they lie in: homes = [\"FOLDER\"] in [keys], then mailseal keys init".into()
            }
            Self::Core(CoreError::Empty) => "give the whole message on standard input".into(),
            Self::Core(CoreError::HeaderTooLong | CoreError::SealedHeaderTooLong) => {
                "no mail program writes such a header: look at the message in the queue, and remove it if nobody misses it".into()
            }
            Self::Core(CoreError::Padding) => {
                "let its owner allow ZIP in the certificate's preferences (gpg --edit-key, setpref), or send it in parts".into()
            }
            Self::Core(CoreError::SmimePadding) => {
                "set `pad` to none for those with S/MIME certificates, in a rule of [[users]]".into()
            }
            Self::Core(CoreError::Read(_)) => "the sender of the message broke off; deliver it again".into(),
            Self::Core(CoreError::Write(_)) | Self::Pass(_) => {
                "look for a full disk (mail_temp_dir) or a reader that ended; deliver it again".into()
            }
            Self::Output(error) if error.kind() == io::ErrorKind::NotFound => {
                "name a file in a folder that is there".into()
            }
            Self::Output(_) => "look for a full disk or a reader that ended".into(),
            Self::Command { .. } => "give a program that is there and may be run, or see its own log".into(),
            Self::Unresolved { what, .. } if what == NO_DOMAIN => NAME_THE_DOMAIN.into(),
            Self::Unresolved { .. } => {
                "correct it, or give it an alias that ends in an address (before the door of mailseal serve: one that the MTA resolves), or a rule of [[outgoing]] for the address at this host".into()
            }
            Self::NextHop { .. } => "start it again, or correct the address; the mail is then delivered by itself".into(),
            Self::Deadline { .. } => {
                "find out what is slow, or raise --deadline and sieve_filter_exec_timeout together".into()
            }
            Self::Ambiguous { .. } => {
                "pin the right one: gpg --export FINGERPRINT | mailseal keys add USER -".into()
            }
            Self::Address { .. } => "set `address` in [keys], as \"%{user}@example.org\"".into(),
            Self::Missing { user } => format!("enrol one: mailseal keys add {user} FILE"),
            Self::Known { user, standing: Standing::Unasked } => {
                format!("mount their home and make it readable, then run `mailseal keys scan`; or enrol one: mailseal keys add {user} FILE")
            }
            Self::Known { standing: Standing::Near, .. } => {
                "deliver under the enrolled name; or say in [[users]] that this one's mail stays clear (mode = \"off\")".into()
            }
            Self::Known { user, .. } => {
                format!("restore it, or mount the disk that it is on; if the user is to have none: mailseal keys remove {user}")
            }
            Self::Core(CoreError::NoUsableKey { .. }) => {
                "enrol a valid one with `mailseal keys add --replace`, or give a valid one with --key".into()
            }
            Self::Core(CoreError::Recovery(_)) => {
                "replace the certificate that `recovery` names, or remove it from there".into()
            }
            Self::Sandbox { .. } => {
                "use a kernel with Landlock and seccomp, or do without --sandbox require".into()
            }
            Self::Core(CoreError::Damaged { .. }) => "leave it as it is, and look for a whole copy of it, in a backup".into(),
            Self::Core(CoreError::HiddenFields) => {
                "it stays sealed: read it in a mail program, or decrypt it into another Maildir (--into), which loses nothing"
                    .into()
            }
            Self::Core(CoreError::Expands { .. }) => {
                "if you trust its sender, decrypt it with a larger --max-expansion; there must be room for it".into()
            }
            Self::Core(CoreError::NoSecretKey { .. }) => "name the secret key of one of them".into(),
            Self::Core(CoreError::Keys(_)) => "give a secret key that can be used".into(),
            Self::Agent { .. } => {
                "install gpg (for S/MIME gpgsm), see that its --decrypt works here, or name the key with --secret-key".into()
            }
            Self::Log { .. } => {
                "name a log that is there and that you may read (as root, or in its group, often adm), plain or compressed with gzip"
                    .into()
            }
            Self::Maildir(MaildirError::Mail { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                "look for a mistyped path, or whether another program has removed it".into()
            }
            Self::Maildir(MaildirError::Mail { .. }) => {
                "what it held is still there; look for a full disk, missing rights, or another program, and run it again".into()
            }
            Self::Unconfirmed { user } => format!(
                "sealing what is stored cannot be undone by the server. Deliver a test message, `mailseal keys test {user}`, \
                 and record its code, `mailseal keys confirm {user} CODE`; or be sure, and give --unconfirmed"
            ),
            Self::ByMailbox { user } => format!(
                "whoever has had its password could have done that, and sealing what is stored cannot be undone. Ask the user in \
                 person, and record a code, `mailseal keys confirm {user} CODE`; or be sure, and give --accept-mailbox"
            ),
            Self::InUse { .. } => {
                "wait until nobody is, or log them out: doveadm kick USER; or do without --offline".into()
            }
            Self::Dovecot { .. } => {
                "see that Dovecot runs and `doveadm exec imap -u USER` works, and look at its log; then run this again: it goes on where it ended".into()
            }
            Self::Core(CoreError::OpenPgp(_)) => "deliver it again; if it stays, report it with the certificate".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    use mailseal_maildir::odd::{Odd, Why};

    fn io(kind: io::ErrorKind) -> io::Error {
        io::Error::from(kind)
    }

    fn core() -> Vec<Error> {
        let anyhow = sequoia_openpgp::anyhow::anyhow!("WHAT");
        [
            CoreError::Empty,
            CoreError::HeaderTooLong,
            CoreError::SealedHeaderTooLong,
            CoreError::Read(io(io::ErrorKind::UnexpectedEof)),
            CoreError::Write(io(io::ErrorKind::StorageFull)),
            CoreError::NoUsableKey { user: "alice".into(), why: "WHY".into() },
            CoreError::Recovery("WHY".into()),
            CoreError::Padding,
            CoreError::SmimePadding,
            CoreError::Damaged { what: "WHAT".into() },
            CoreError::HiddenFields,
            CoreError::Expands { most: 67_108_864 },
            CoreError::NoSecretKey { recipients: "C37FA4B9682ECB87".into() },
            CoreError::Keys("WHAT".into()),
            CoreError::OpenPgp(anyhow),
        ]
        .map(Error::Core)
        .into()
    }

    fn stores() -> Vec<Error> {
        let (path, what, hint) = (PathBuf::from("/FILE"), String::from("WHAT"), String::from("HINT"));
        let known = |standing| Error::Known { user: "alice".into(), standing };
        vec![
            Error::KeyStore { path: path.clone(), what: what.clone(), hint: hint.clone() },
            Error::Enrol { path: path.clone(), what: what.clone(), hint: hint.clone() },
            Error::SecretKey { path, what: what.clone(), hint: hint.clone() },
            Error::Shares { what: what.clone(), hint },
            Error::Agent { what },
            Error::Ambiguous { address: "alice@example.org".into(), fingerprints: "ONE, OTHER".into() },
            Error::Address { address: "alice".into() },
            Error::Missing { user: "alice".into() },
            known(Standing::Known),
            known(Standing::Near),
            known(Standing::Unasked),
            known(Standing::Unknown),
            Error::Unconfirmed { user: "alice".into() },
            Error::ByMailbox { user: "alice".into() },
        ]
    }

    fn deliveries() -> Vec<Error> {
        let (path, what, hint) = (PathBuf::from("/FILE"), String::from("WHAT"), String::from("HINT"));
        vec![
            Error::Usage { what: what.clone(), hint: hint.clone() },
            Error::Config { path: path.clone(), what: what.clone(), hint: hint.clone() },
            Error::Root,
            Error::Privileges { what: what.clone() },
            Error::Owner { what: what.clone(), hint: hint.clone(), exit: Exit::Temporary },
            Error::User { name: "alice".into(), what: "WHAT" },
            Error::Home { path: path.clone(), what: what.clone() },
            Error::Output(io(io::ErrorKind::NotFound)),
            Error::Output(io(io::ErrorKind::StorageFull)),
            Error::Pass(io(io::ErrorKind::StorageFull)),
            Error::Command { program: path.clone(), what: what.clone() },
            Error::NextHop { address: "ADDRESS".into(), what: what.clone() },
            Error::Unresolved { recipient: "alice".into(), what: what.clone() },
            Error::Held { path: path.clone(), what: what.clone(), hint: hint.clone() },
            Error::Door { address: "ADDRESS".into(), what: what.clone(), hint: hint.clone() },
            Error::Deadline { seconds: 50 },
            Error::Sandbox { what: what.clone() },
            Error::Log { path: path.clone(), source: io(io::ErrorKind::NotFound) },
            Error::Maildir(MaildirError::NoMaildir {
                path: path.clone(),
                what: what.clone(),
                hint: hint.clone(),
            }),
            Error::Maildir(MaildirError::Mail { path: path.clone(), source: io(io::ErrorKind::NotFound) }),
            Error::Maildir(MaildirError::Mail { path: path.clone(), source: io(io::ErrorKind::StorageFull) }),
            Error::Maildir(MaildirError::Odd(Odd { path: path.clone(), why: Why::Linked })),
            Error::Maildir(MaildirError::Odd(Odd { path, why: Why::Incomplete })),
            Error::InUse { user: "alice".into() },
            Error::Dovecot { what: what.clone() },
            Error::Setup { what, hint },
        ]
    }

    /// `ERRORS=overwrite cargo test --lib error::` writes the table, to be read in the diff. Words in capitals are given where the
    /// error arises.
    #[test]
    fn every_error_says_what_failed_and_what_to_do() {
        let mut table = String::new();
        let errors: Vec<Error> = [core(), stores(), deliveries()].into_iter().flatten().collect();
        for error in &errors {
            let (reason, status) = (error.reason(), error.exit() as u8);
            writeln!(table, "{reason} {status}\n  {error}\n  hint: {}\n", error.hint()).unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/errors.txt");
        if std::env::var("ERRORS").is_ok_and(|value| value == "overwrite") {
            std::fs::write(path, &table).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), table, "{path}: ERRORS=overwrite writes it");
        let variants: std::collections::HashSet<_> = errors.iter().map(std::mem::discriminant).collect();
        let source = include_str!("error.rs");
        let (_, list) = source.split_once("pub enum Error {").unwrap();
        let (list, _) = list.split_once("\n}\n").unwrap();
        let declared = list.lines().filter(|line| {
            line.strip_prefix("    ")
                .is_some_and(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        });
        assert_eq!(variants.len(), declared.count(), "an error is missing from the table");
    }
}
