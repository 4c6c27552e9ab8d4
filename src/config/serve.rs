//! `[serve]`: the doors of `mailseal serve`.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use super::fault::Fault;
use super::{Config, parse_str};
use crate::keystore::source::Source;
use crate::log::Door;
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
    /// Where mail that leaves this machine comes, by LMTP.
    #[serde(deserialize_with = "some_address")]
    pub outgoing: Option<Address>,
    /// Where it goes on.
    #[serde(deserialize_with = "some_next")]
    pub outgoing_next: Option<Next>,
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
    #[serde(deserialize_with = "nets")]
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
pub struct Next {
    /// What is spoken there.
    pub speaks: Speaks,
    /// Where it is.
    pub address: Address,
}

/// What a next hop speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// LMTP: it answers for each recipient.
    Lmtp,
    /// SMTP: it answers once for all.
    Smtp,
}

impl std::str::FromStr for Next {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (speaks, address) = match text.split_once(':') {
            Some(("lmtp", address)) => (Speaks::Lmtp, address),
            Some(("smtp", address)) => (Speaks::Smtp, address),
            _ => return Err("expected lmtp: or smtp:, and an address".into()),
        };
        Ok(Self { speaks, address: address.parse()? })
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speaks = match self.speaks {
            Speaks::Lmtp => "lmtp",
            Speaks::Smtp => "smtp",
        };
        write!(f, "{speaks}:{}", self.address)
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
            next: Next { speaks: Speaks::Lmtp, address: Address::Unix("/run/dovecot/lmtp".into()) },
            outgoing: None,
            outgoing_next: None,
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
    pub(super) fn check(&self) -> Result<(), Fault> {
        for (name, address) in [("lmtp", &self.lmtp), ("outgoing", &self.outgoing)] {
            if let Some(address) =
                address.as_ref().filter(|address| !address.is_local() && self.from.is_empty())
            {
                let what = format!(
                    "`{name}` in [serve] is {address}, which others reach, and `from` does not say who may"
                );
                return Err(Fault::new(format!("serve.{name}"), what));
            }
        }
        if self.next.speaks != Speaks::Lmtp {
            return Err(Fault::new("serve.next", "`next` in [serve] does not begin with lmtp:"));
        }
        if self.outgoing.is_some() && self.outgoing_next.is_none() {
            let what = "`outgoing` in [serve] is set, and `outgoing-next` does not say where mail goes on";
            return Err(Fault::new("serve.outgoing", what));
        }
        if self.metrics.is_some_and(|address| !address.ip().is_loopback()) {
            let what = "`metrics` in [serve] is not an address of this machine alone";
            return Err(Fault::new("serve.metrics", what));
        }
        if self.sieve.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(Fault::new("serve.sieve", "`sieve` in [serve] is not an absolute path"));
        }
        Ok(())
    }
}

impl Serve {
    /// Where mail that came through `door` goes on.
    #[must_use]
    pub fn next_of(&self, door: Door) -> Option<&Next> {
        match door {
            Door::Lmtp => Some(&self.next),
            Door::Outgoing => self.outgoing_next.as_ref(),
            Door::Sieve => None,
        }
    }
}

impl Config {
    /// Whether certificates are looked for in users' homes.
    #[must_use]
    pub fn reads_homes(&self) -> bool {
        self.keys.sources.iter().any(Source::needs_home)
    }
}

fn some_next<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Next>, D::Error> {
    parse_str(from).map(Some)
}

fn some_address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    parse_str(from).map(Some)
}

fn nets<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::deserialize(from)?.into_iter().map(canonical).collect())
}

/// An IPv4 net that is written as an IPv6 one, as `::ffff:10.0.0.0/104`, becomes what it is, as the addresses of clients do.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let length = mapped.prefix_len().checked_sub(96);
    let plain = mapped.addr().to_ipv4_mapped().zip(length);
    plain.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn nets_of_ipv4_are_the_same_however_they_are_written() {
        let from =
            |net: &str| toml::from_str::<Serve>(&format!("from = [\"{net}\"]")).map(|serve| serve.from[0]);
        for (net, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            // All of IPv6, and nothing else.
            ("::/0", "::/0"),
        ] {
            assert_eq!(from(net).unwrap().to_string(), expected);
        }
        let client: IpAddr = "::ffff:10.200.3.4".parse().unwrap();
        assert!(from("::ffff:10.0.0.0/104").unwrap().contains(&client.to_canonical()));
        assert!(from("::ffff:10.0.0.0/200").is_err() && from("10.0.0.1").is_err());
    }
}
