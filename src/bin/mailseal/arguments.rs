//! Arguments that several commands share: secret keys, and how Maildirs are rewritten.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;
use mailseal::cli::parse_jobs;
use mailseal::error::Error;
use mailseal::keys::secret::SecretKeys;
use mailseal::keys::secret::agent::Agent;
use mailseal::keys::secret::files::{KeyFiles, Passphrases};
use mailseal::mailbox::sweep::Sweep;
use mailseal::system::process;
use mailseal_core::limits;
use mailseal_core::unseal::Expansion;

#[derive(Debug, Args)]
pub struct SecretArguments {
    /// The secret key, as gpg --export-secret-keys writes it, or for S/MIME as PKCS #12 or PEM; for several keys, several times
    #[arg(long, value_name = "FILE", required_unless_present = "gpg_agent")]
    secret_key: Vec<PathBuf>,
    /// The secret keys that gpg, for S/MIME gpgsm, and their agent hold
    #[arg(long, conflicts_with = "secret_key")]
    gpg_agent: bool,
    /// Read the passphrases from this file descriptor, one a line, and ask for none
    #[arg(long, value_name = "N", conflicts_with = "gpg_agent", value_parser = parse_descriptor)]
    passphrase_fd: Option<i32>,
    /// How many times its sealed size a message beyond 64 MiB may grow to
    #[arg(long, value_name = "RATIO", default_value_t = limits::EXPANSION, value_parser = parse_expansion)]
    max_expansion: NonZeroU64,
}

fn parse_expansion(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "expected a number of at least 1".into())
}

fn parse_descriptor(text: &str) -> Result<i32, String> {
    let descriptor = text.parse().ok().filter(|descriptor| *descriptor >= 0);
    descriptor.ok_or_else(|| "expected the number of an open file descriptor".into())
}

impl SecretArguments {
    /// How long messages may become.
    pub fn expansion(&self) -> Expansion {
        Expansion::new(self.max_expansion)
    }

    /// The secret keys; from here on the process leaves no core dump.
    pub fn keys(&self) -> Result<Box<dyn SecretKeys>, Error> {
        let keys: Box<dyn SecretKeys> = if self.gpg_agent {
            Box::new(Agent::default())
        } else {
            let passphrases = self.passphrase_fd.map_or(Ok(Passphrases::Prompt), Passphrases::read)?;
            Box::new(KeyFiles::read(&self.secret_key, passphrases)?)
        };
        process::forbid_dumps()?;
        Ok(keys)
    }
}

#[derive(Debug, Args)]
pub struct RewriteArguments {
    /// Keep the UIDs, for mailboxes whose users are logged out
    #[arg(long)]
    keep_uids: bool,
    /// Dovecot's control folder (CONTROL=) [default: the Maildir]
    #[arg(long, value_name = "DIR")]
    control: Option<PathBuf>,
    /// Messages at once [default: the processors]
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<NonZeroUsize>,
}

impl RewriteArguments {
    /// The Maildirs to go through.
    pub fn sweep(&self, paths: &[PathBuf]) -> Sweep {
        Sweep { paths: paths.to_vec(), control: self.control.clone(), jobs: self.jobs, owned: None }
    }

    /// Whether the messages keep their UIDs.
    pub fn keep_uids(&self) -> bool {
        self.keep_uids
    }
}
