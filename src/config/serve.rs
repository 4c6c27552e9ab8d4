//! `[serve]`: the doors of `mailseal serve`.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Config, parse_str};
use crate::keystore::source::Source;
use crate::serve::address::Address;

/// `[serve]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Serve {
    /// Where LMTP is spoken with the MTA.
    #[serde(deserialize_with = "some_address")]
    pub lmtp: Option<Address>,
    /// Who may connect there, where it is a Unix socket: its mode.
    #[serde(deserialize_with = "parse_str")]
    pub lmtp_mode: Mode,
    /// The owner of that socket, if another than the user who runs this.
    pub lmtp_owner: Option<String>,
    /// Where sealed mail goes: Dovecot's LMTP.
    #[serde(deserialize_with = "parse_str")]
    pub next: Next,
    /// Dovecot's script socket.
    pub sieve: Option<PathBuf>,
    /// Its mode.
    #[serde(deserialize_with = "parse_str")]
    pub sieve_mode: Mode,
    /// Whom Dovecot says that a recipient is.
    #[serde(deserialize_with = "parse_str")]
    pub userdb: Userdb,
    /// The characters behind which the local part of an address has a detail, as Dovecot's `recipient_delimiter`.
    pub recipient_delimiter: String,
    /// Whether the mail of addresses without a certificate goes on unchanged where no user database is asked.
    pub unchanged: bool,
    /// Whose connections are taken where a door is not on this machine alone.
    pub from: Vec<IpNet>,
    /// How many connections each door takes at once.
    pub connections: NonZeroUsize,
    /// Longest message, in bytes.
    pub size: Option<NonZeroU64>,
    /// Where Prometheus asks, on this machine.
    pub metrics: Option<SocketAddr>,
    /// Whom a process that root has started becomes.
    pub user: Option<String>,
}

/// Whom a process that root has started becomes, if the configuration does not say.
pub const USER: &str = "mailseal";

/// Rights of a socket, as chmod(1) takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| "expected octal digits, as 0660".into())
    }
}

/// Where sealed mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next(pub Address);

impl std::str::FromStr for Next {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("lmtp:").ok_or("expected lmtp: and an address")?;
        address.parse().map(Self)
    }
}

/// Who says whose mail it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Userdb {
    /// Dovecot, over this socket.
    Dovecot(PathBuf),
    /// Nobody: the address is the user.
    None,
}

impl std::str::FromStr for Userdb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ if text.starts_with('/') => Ok(Self::Dovecot(text.into())),
            _ => Err("expected the path of Dovecot's socket auth-userdb, or none".into()),
        }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            lmtp: None,
            lmtp_mode: Mode(0o600),
            lmtp_owner: None,
            next: Next(Address::Unix("/run/dovecot/lmtp".into())),
            sieve: None,
            sieve_mode: Mode(0o666),
            userdb: Userdb::Dovecot("/run/dovecot/auth-userdb".into()),
            recipient_delimiter: "+".into(),
            unchanged: false,
            from: Vec::new(),
            connections: NonZeroUsize::MIN.saturating_add(63),
            size: None,
            metrics: None,
            user: None,
        }
    }
}

impl Serve {
    /// What of it cannot be meant, beside what each setting must be.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(address) =
            self.lmtp.as_ref().filter(|address| !address.is_local() && self.from.is_empty())
        {
            return Err(format!(
                "`lmtp` in [serve] is {address}, which others reach, and `from` does not say who may"
            ));
        }
        if self.metrics.is_some_and(|address| !address.ip().is_loopback()) {
            return Err("`metrics` in [serve] is not an address of this machine alone".into());
        }
        if self.sieve.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("`sieve` in [serve] is not an absolute path".into());
        }
        Ok(())
    }
}

impl Config {
    /// Whether certificates are looked for in users' homes.
    #[must_use]
    pub fn reads_homes(&self) -> bool {
        self.keys.sources.iter().any(Source::needs_home)
    }
}

fn some_address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    parse_str(from).map(Some)
}
