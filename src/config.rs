//! The configuration file, `/etc/mailseal.toml`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::error::Error;
use crate::keystore::source::{Source, Template};
use crate::log::Target;
use crate::openpgp::compress::Compression;
use crate::protect::Policy;
use crate::recipients::WhenExpired;

/// Where the configuration is when no other file is named.
pub const DEFAULT_PATH: &str = "/etc/mailseal.toml";

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where certificates are and which are asked for.
    pub keys: Keys,
    /// How messages are sealed.
    pub message: Message,
    /// What is logged.
    pub log: Log,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keys {
    /// In order; the first that has a certificate for the user decides.
    pub sources: Vec<Source>,
    /// The address that is looked for in keyrings.
    pub address: Option<Template>,
    /// Certificates that every message is sealed to as well.
    pub recovery: Vec<PathBuf>,
    /// What becomes of the mail of a user without a certificate.
    pub missing: WhenMissing,
    /// Users who must have a certificate: names, with `*` for any text.
    pub require: Vec<String>,
    /// What becomes of the mail of a user whose certificates have expired.
    pub expired: WhenExpired,
}

/// What to do with the mail of a user without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenMissing {
    /// Pass it through.
    #[default]
    Unchanged,
    /// Defer it.
    Defer,
}

/// `[message]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Message {
    /// RFC 9788's header confidentiality policy.
    pub protect_headers: Policy,
    /// How messages are compressed.
    #[serde(deserialize_with = "parse_str")]
    pub compression: Compression,
    /// Seconds that a delivery may take.
    #[serde(deserialize_with = "seconds")]
    pub deadline: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// Where the log line goes.
    #[serde(deserialize_with = "parse_str")]
    pub to: Target,
    /// Whether it holds the Message-ID.
    pub msgid: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            sources: Source::defaults(),
            address: None,
            recovery: Vec::new(),
            missing: WhenMissing::default(),
            require: Vec::new(),
            expired: WhenExpired::default(),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self {
            protect_headers: Policy::default(),
            compression: Compression::default(),
            deadline: Duration::from_secs(50),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { to: Target::Syslog, msgid: true }
    }
}

impl Config {
    /// Reads the file `named`, or the default file, which need not be there.
    ///
    /// # Errors
    /// [`Error::Config`] when a named file is missing, when one cannot be read, and with the line of what is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::Config { path: path.into(), what: error.to_string() }),
        };
        let failed = |what| Error::Config { path: path.into(), what };
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            failed(format!("line {line}: {}", error.message()))
        })?;
        if config.keys.sources.is_empty() {
            return Err(failed("`sources` in [keys] is empty: nobody's mail would be sealed".into()));
        }
        if let Some(path) = config.keys.recovery.iter().find(|path| !path.is_absolute()) {
            return Err(failed(format!("recovery {path:?} is no absolute path")));
        }
        if config.keys.address.is_none() && config.keys.sources.iter().any(Source::needs_address) {
            return Err(failed(
                "a keyring is searched by address, and `address` in [keys] is not set".into(),
            ));
        }
        Ok(config)
    }
}

fn parse_str<'de, T: FromStr<Err = String>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    match u64::deserialize(from)? {
        0 => Err(serde::de::Error::custom("a deadline of 0 seconds")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_file_is_read() {
        let config = load(
            r#"
            [keys]
            sources = ["file:/etc/mailseal/keys/%{user}.pgp", "gnupg:%{home}/.gnupg"]
            address = "%{user}@example.org"
            recovery = ["/etc/mailseal/recovery.pgp"]
            missing = "defer"
            require = ["*@example.org"]
            expired = "defer"
            [message]
            protect-headers = "shy"
            compression = "zlib:9"
            deadline = 20
            [log]
            to = "file:/var/log/mailseal.log"
            msgid = false
            "#,
        )
        .unwrap();
        assert_eq!(config.keys.sources.len(), 2);
        assert_eq!(config.keys.missing, WhenMissing::Defer);
        assert_eq!(config.keys.expired, WhenExpired::Defer);
        assert_eq!(config.message.protect_headers, Policy::Shy);
        assert_eq!(config.message.compression, Compression::Zlib(9));
        assert_eq!(config.message.deadline, Duration::from_secs(20));
        assert_eq!(config.log.to, Target::File("/var/log/mailseal.log".into()));
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        assert_eq!(load(include_str!("../sieve/mailseal.toml")), Ok(Config::default()));
    }

    #[test]
    fn faults_name_their_line() {
        let cases = [
            ("[keys]\n\nsource = []", "line 3: unknown field"),
            ("[keys]\nsources = [\"ldap:x\"]", "line 2: "),
            ("[keys]\nsources = [\"file:/x/%{usr}\"]", "line 2: "),
            ("[message]\ncompression = \"zip\"", "line 2: "),
            ("[message]\ndeadline = 0", "line 2: "),
            ("[message]\nprotect-headers = \"some\"", "line 2: "),
            ("[log]\nto = \"mail\"", "line 2: "),
            ("[keys]\nsources = [\"file:/x/%u.pgp\"]", "line 2: "),
            ("[keys]\nsources = []", "`sources`"),
            ("[keys]\nrecovery = [\"a.pgp\"]", "recovery \"a.pgp\""),
            ("[keys]\nsources = [\"gnupg:/x\"]", "`address`"),
            ("[keys", "line 1: "),
        ];
        for (text, expected) in cases {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        assert!(Config::load(Some(Path::new("/nonexistent/mailseal.toml"))).is_err());
    }
}
