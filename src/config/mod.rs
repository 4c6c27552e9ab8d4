//! The configuration file, `/etc/mailseal.toml`.

mod fault;
pub mod outgoing;
pub mod serve;
pub mod style;

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use mailseal_core::openpgp::compress::Compression;
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::{Additions, Policy};
use mailseal_core::recipients::WhenExpired;
use mailseal_core::smime::recipient::KeyTransport;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use self::fault::Fault;
use self::serve::Serve;
use self::style::{Style, Subject};
use crate::cli::sealing::Sealing;
use crate::error::Error;
use crate::keystore::source::{Source, Template};
use crate::keystore::trust::{Reached, Trust};
use crate::keystore::user::User;
use crate::limits;
use crate::log::Target;

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
    /// Whose mail is treated in another way; the first that matches decides.
    pub users: Vec<Rule>,
    /// The doors of `mailseal serve`.
    pub serve: Serve,
    /// What becomes of mail that leaves this machine; the first that matches decides.
    pub outgoing: Vec<outgoing::Rule>,
    /// The program in the place of sendmail.
    pub sendmail: outgoing::Sendmail,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keys {
    /// In order; the first that has a certificate for the user decides.
    pub sources: Vec<Source>,
    /// The address that is looked for in keyrings.
    pub address: Option<Template>,
    /// The register of the users who ever had a certificate.
    pub known: PathBuf,
    /// Folders in which homes lie: a home below one of them may not exist yet.
    pub homes: Vec<PathBuf>,
    /// Groups that may write to key files and folders.
    pub trusted_groups: Groups,
    /// The group that may read what `keys scan` says of each user.
    pub helpdesk: Option<Group>,
    /// Certificates that every message is sealed to as well.
    pub recovery: Vec<PathBuf>,
    /// What becomes of the mail of a user without a certificate.
    pub missing: WhenMissing,
    /// Users who must have a certificate: names, with `*` for any text.
    pub require: Vec<String>,
    /// What becomes of the mail of a user whose certificates have expired.
    pub expired: WhenExpired,
    /// Whether users may enrol through their mailboxes.
    pub receive: Receive,
    /// Whether they may where there is no recovery certificate.
    pub receive_without_recovery: bool,
    /// A file with what the owner of a certificate is told that expires.
    pub owner_notice: Option<PathBuf>,
    /// With what mail is sealed for a user who has OpenPGP and S/MIME certificates.
    pub format: Format,
    /// How the key of an S/MIME message is encrypted with RSA.
    pub smime_rsa: KeyTransport,
    /// Certificates of authorities, to one of which an S/MIME certificate must lead to be enrolled; where there are none, any may be.
    pub smime_ca: Vec<PathBuf>,
    /// Lists of S/MIME certificates that these authorities, or those below them, have revoked.
    pub smime_crl: Vec<PathBuf>,
}

/// Whether users may enrol through their mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receive {
    /// They may not.
    #[default]
    Off,
    /// They may, and it takes effect some days later.
    Mailbox,
    /// They may, and an admin approves it.
    Approve,
}

/// With what mail is sealed for a user who has certificates of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// OpenPGP.
    #[default]
    #[serde(rename = "openpgp")]
    OpenPgp,
    /// S/MIME.
    Smime,
}

impl Format {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::OpenPgp => Self::Smime,
            Self::Smime => Self::OpenPgp,
        }
    }
}

/// What is taken where a message could be sealed in several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Preference {
    /// Of the kinds of certificates.
    pub format: Format,
    /// Of the ways to use RSA in S/MIME.
    pub smime_rsa: KeyTransport,
}

impl Keys {
    /// What is taken where a message could be sealed in several ways.
    #[must_use]
    pub fn preference(&self) -> Preference {
        Preference { format: self.format, smime_rsa: self.smime_rsa }
    }
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

/// Groups, as numbers: a delivery asks no name service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<GroupName>")]
pub struct Groups(Vec<u32>);

/// A group as the configuration names it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected names or numbers of groups")]
enum GroupName {
    Number(u32),
    Name(String),
}

/// A group, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "GroupName")]
pub struct Group(pub u32);

impl TryFrom<GroupName> for Group {
    type Error = String;

    fn try_from(name: GroupName) -> Result<Self, String> {
        let Groups(ids) = Groups::try_from(vec![name])?;
        ids.first().copied().map(Self).ok_or_else(|| "expected a group".into())
    }
}

impl Groups {
    /// Their numbers.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

impl TryFrom<Vec<GroupName>> for Groups {
    type Error = String;

    /// Names are looked up in `/etc/group` (`group(5)`).
    fn try_from(names: Vec<GroupName>) -> Result<Self, String> {
        let listed = if names.iter().any(|name| matches!(name, GroupName::Name(_))) {
            std::fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?
        } else {
            String::new()
        };
        let id = |name: &GroupName| match name {
            GroupName::Number(id) => Ok(*id),
            GroupName::Name(name) => {
                let mut groups = listed.lines().map(|line| line.split(':'));
                let found = groups.find_map(|mut fields| {
                    (fields.next() == Some(&**name)).then(|| fields.nth(1)?.parse().ok()).flatten()
                });
                found.ok_or_else(|| format!("the group {name:?} is not in /etc/group: give its number"))
            }
        };
        names.iter().map(id).collect::<Result<_, _>>().map(Self)
    }
}

/// `[[users]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Names, with `*` for any text.
    #[serde(rename = "match")]
    pub patterns: Vec<String>,
    /// What becomes of their mail.
    #[serde(default)]
    pub mode: Mode,
    /// Files with the certificates to seal to; where there are any, none are looked up.
    #[serde(default)]
    pub key: Vec<PathBuf>,
    /// Which header fields are hidden inside, if not as for all.
    pub protect_headers: Option<Policy>,
    /// What sealed messages are filled up to, if not as for all.
    #[serde(default, deserialize_with = "parse_optional")]
    pub pad: Option<Padding>,
    /// Whether they must have a certificate.
    #[serde(default)]
    pub require: bool,
}

/// What becomes of the mail of some users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is sealed, as everybody's.
    #[default]
    Seal,
    /// It is passed through.
    Off,
    /// It is passed through, and the log says what would have become of it.
    Observe,
}

/// `[message]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Message {
    /// RFC 9788's header confidentiality policy.
    pub protect_headers: Policy,
    /// What the outside shows for a hidden Subject.
    pub subject: Subject,
    /// What sealed messages are filled up to.
    #[serde(deserialize_with = "parse_str")]
    pub pad: Padding,
    /// Whether sealed messages bear a mark inside that says so.
    pub mark: bool,
    /// Whether a hidden Subject is repeated at the top of the text.
    pub legacy_display: bool,
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
            known: "/var/lib/mailseal/known".into(),
            homes: Vec::new(),
            trusted_groups: Groups::default(),
            helpdesk: None,
            recovery: Vec::new(),
            missing: WhenMissing::default(),
            require: Vec::new(),
            expired: WhenExpired::default(),
            receive: Receive::default(),
            receive_without_recovery: false,
            owner_notice: None,
            format: Format::default(),
            smime_rsa: KeyTransport::default(),
            smime_ca: Vec::new(),
            smime_crl: Vec::new(),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self {
            protect_headers: Policy::default(),
            subject: Subject::default(),
            pad: Padding::default(),
            mark: true,
            legacy_display: true,
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
    /// Reads the file `named`, or the default one.
    ///
    /// # Errors
    /// [`Error::Config`] when it is missing, when someone other than root and the user who runs this owns it or could
    /// have written it, when it cannot be read, and with the line of what is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        Self::read(path)?.ok_or_else(|| Error::Config {
            path: path.into(),
            what: "there is no such file".into(),
            hint: "create it; sieve/mailseal.toml holds the defaults".into(),
        })
    }

    /// The same for a run to which certificates may be `given`: where they are and the configuration is missing, the
    /// defaults, and `missing` hears of it.
    ///
    /// # Errors
    /// Those of [`Config::load`]; where certificates are given, but for a missing file.
    pub fn load_beside_keys(
        named: Option<&Path>,
        given: bool,
        missing: impl FnOnce(&Path),
    ) -> Result<Self, Error> {
        if !given {
            return Self::load(named);
        }
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        Self::read(path)?.map_or_else(
            || {
                missing(path);
                Ok(Self::default())
            },
            Ok,
        )
    }

    /// Reads the file at `path`; `None` where there is none.
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |what, hint| Error::Config { path: path.into(), what, hint };
        let text = read_trusted(path).map_err(|error| match error {
            Error::KeyStore { path: part, what, .. } => failed(
                if part == path { what } else { format!("{}: {what}", part.display()) },
                "make it a regular file that this user can read, and that only root and this user can change"
                    .into(),
            ),
            other => other,
        })?;
        let wrong = |what: String| {
            let hint = if what.ends_with("duplicate key") {
                "that table or setting is in the file already: put what is new into the first one"
            } else {
                "correct the file; mailseal.toml(5) describes every setting"
            };
            failed(what, hint.into())
        };
        text.map(|text| Self::parse(&text).map_err(wrong)).transpose()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| fault::line(text, &span));
            format!("line {line}: {}", error.message())
        })?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(fault) => Err(fault.in_line(text)),
        }
    }

    /// What of it cannot be meant, beside what each setting must be.
    fn check(&self) -> Result<(), Fault> {
        let Self { keys, users, .. } = self;
        if keys.sources.is_empty() {
            return Err(Fault::new(
                "keys.sources",
                "`sources` in [keys] is empty: nobody's mail would be sealed",
            ));
        }
        absolute("keys.recovery", &keys.recovery)?;
        absolute("keys.homes", &keys.homes)?;
        absolute("keys.smime-ca", &keys.smime_ca)?;
        absolute("keys.smime-crl", &keys.smime_crl)?;
        if keys.smime_ca.is_empty() && !keys.smime_crl.is_empty() {
            let what =
                "nobody vouches for the revocation lists in `smime-crl`: `smime-ca` in [keys] is not set";
            return Err(Fault::new("keys.smime-crl", what));
        }
        absolute("keys.known", std::slice::from_ref(&keys.known))?;
        absolute("keys.owner-notice", keys.owner_notice.as_slice())?;
        for (number, rule) in users.iter().enumerate() {
            absolute(&format!("users.{number}.key"), &rule.key)?;
            if rule.patterns.is_empty() {
                let what = "`match` in [[users]] is empty: the rule is for nobody";
                return Err(Fault::new(format!("users.{number}.match"), what));
            }
        }
        self.serve.check()?;
        self.check_outgoing()?;
        if keys.address.is_none() && keys.sources.iter().any(Source::needs_address) {
            let what = "a keyring is searched by address, and `address` in [keys] is not set";
            return Err(Fault::new("keys.sources", what));
        }
        Ok(())
    }

    /// The rule for `user`; `None` for a user who is treated like all.
    #[must_use]
    pub fn rule(&self, user: &User) -> Option<&Rule> {
        self.users.iter().find(|rule| rule.patterns.iter().any(|pattern| user.matches(pattern)))
    }

    /// How mail for the delivery user `user` is sealed: as `said` on the command line, else as the user's rule, else as for
    /// all.
    #[must_use]
    pub fn style(&self, user: &str, said: &Sealing) -> Style {
        self.style_under(User::parse(user).ok().and_then(|user| self.rule(&user)), said)
    }

    /// How mail under `rule` is sealed, or that of users under none: as `said` on the command line, else as the rule says, else as
    /// for all.
    #[must_use]
    pub fn style_under(&self, rule: Option<&Rule>, said: &Sealing) -> Style {
        let general = &self.message;
        let protect_headers =
            said.protect_headers.map(Policy::from).or(rule.and_then(|rule| rule.protect_headers));
        Style {
            protect_headers: protect_headers.unwrap_or(general.protect_headers),
            subject: said.subject.as_ref().unwrap_or(&general.subject).clone(),
            pad: said.pad.or(rule.and_then(|rule| rule.pad)).unwrap_or(general.pad),
            compression: said.compression.unwrap_or(general.compression),
            additions: Additions { mark: general.mark, legacy_display: general.legacy_display },
            again: false,
        }
    }
}

/// Reads a file that nobody but root and the user who runs this could have written; `None` where there is none. The null
/// device is an empty file.
///
/// # Errors
/// [`Error::KeyStore`], which names the part of the path that is at fault.
pub(crate) fn read_trusted(path: &Path) -> Result<Option<String>, Error> {
    read_trusted_up_to(path, limits::CONFIGURATION)
}

/// The same with at most `limit` bytes.
///
/// # Errors
/// As [`read_trusted`].
pub(crate) fn read_trusted_up_to(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    let failed = |what: String| Error::KeyStore { path: path.into(), what, hint: String::new() };
    let unreadable = |error: io::Error| failed(error.to_string());
    let path = std::path::absolute(path).map_err(unreadable)?;
    let trust = Trust::of_process(&[]);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if matches!(trust.walk(folder, Path::new("/"))?, Reached::Missing) {
        return Ok(None);
    }
    let options = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(options).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    let is_null = || std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == metadata.rdev());
    if metadata.file_type().is_char_device() && is_null() {
        return Ok(Some(String::new()));
    }
    if !metadata.is_file() {
        return Err(failed("it is not a regular file".into()));
    }
    // Behind a link, the folders that it leads through, too.
    trust.walk(&path, Path::new("/"))?;
    trust.check(&path, &metadata)?;
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(failed(format!("it is larger than {limit} bytes")));
    }
    Ok(Some(text))
}

/// Refuses paths in the setting `at` that depend on where a program is started.
fn absolute(at: &str, paths: &[PathBuf]) -> Result<(), Fault> {
    let name = at.rsplit_once('.').map_or(at, |(_, name)| name);
    let relative = paths.iter().find(|path| !path.is_absolute());
    relative.map_or(Ok(()), |path| Err(Fault::new(at, format!("{name} {path:?} is not an absolute path"))))
}

fn parse_str<'de, T: FromStr<Err = String>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|error: String| {
        let expected = error.strip_prefix("expected ").unwrap_or(&error);
        serde::de::Error::invalid_value(Unexpected::Str(&text), &expected)
    })
}

fn parse_optional<'de, T: FromStr<Err = String>, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    parse_str(from).map(Some)
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of at least 1")
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
            match u64::try_from(number) {
                Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
                _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
            }
        }
    }

    from.deserialize_i64(Seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sealing::ProtectHeaders;

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
            known = "/srv/known"
            homes = ["/home", "/srv/mail"]
            trusted-groups = ["root", 8]
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
            [[users]]
            match = ["*@pilot.example.org", "bob"]
            mode = "observe"
            [[users]]
            match = ["*"]
            key = ["/etc/mailseal/all.pgp"]
            protect-headers = "baseline"
            require = true
            "#,
        )
        .unwrap();
        assert_eq!(config.keys.sources.len(), 2);
        assert_eq!(config.keys.trusted_groups.ids(), [0, 8]);
        let rule = |name: &str| config.rule(&User::parse(name).unwrap()).unwrap().mode;
        assert_eq!(rule("Bob"), Mode::Observe);
        assert_eq!(rule("a@pilot.example.org"), Mode::Observe);
        assert_eq!(rule("a@example.org"), Mode::Seal);
        assert_eq!(config.keys.missing, WhenMissing::Defer);
        assert_eq!(config.keys.expired, WhenExpired::Defer);
        assert_eq!(config.message.protect_headers, Policy::Shy);
        assert_eq!(config.message.compression, Compression::Zlib(9));
        assert_eq!(config.message.deadline, Duration::from_secs(20));
        assert_eq!(config.log.to, Target::File("/var/log/mailseal.log".into()));
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        assert_eq!(load(include_str!("../../sieve/mailseal.toml")), Ok(Config::default()));
    }

    /// Each setting that has no default stands there too, as a comment that may be taken as it is.
    #[test]
    fn the_shipped_file_shows_every_setting_of_serve() {
        let file = include_str!("../../sieve/mailseal.toml");
        let section = file.split("[serve]\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let is_setting = |line: &&str| {
            line.split_once(" = ").is_some_and(|(name, _)| !name.is_empty() && !name.contains([' ', '`']))
        };
        let lines: Vec<&str> =
            section.lines().map(|line| line.trim_start_matches("# ")).filter(is_setting).collect();
        assert_eq!(lines.len(), 16, "{lines:?}");
        let config = load(&format!("[serve]\n{}", lines.join("\n"))).unwrap().serve;
        assert!(config.lmtp.is_some() && config.sieve.is_some() && config.metrics.is_some());
        assert!(config.size.is_some() && config.user.is_some() && config.lmtp_owner.is_some());
    }

    #[test]
    fn the_settings_that_the_page_of_serve_shows_are_some() {
        let page = include_str!("../../docs/serve.md");
        let mut blocks = page.split("```toml\n").skip(1);
        let text = |block: &str| block.split("```").next().unwrap().replace("\n   ", "\n");
        assert!(blocks.clone().count() > 1 && blocks.all(|block| load(&text(block)).is_ok()));
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
            ("[keys]\nknown = \"known\"", "known \"known\""),
            ("[keys]\nhomes = [\"home\"]", "homes \"home\""),
            ("[keys]\ntrusted-groups = [\"no such group\"]", "line 2: "),
            ("[[users]]\nmode = \"off\"", "line 1: missing field `match`"),
            ("[[users]]\nmatch = []", "`match`"),
            ("[[users]]\nmatch = [\"*\"]\nmode = \"on\"", "line 3: "),
            ("[[users]]\nmatch = [\"*\"]\nmodus = \"off\"", "line "),
            ("[keys", "line 1: "),
        ];
        for (text, expected) in cases {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_but_beside_keys() {
        let gone = Some(Path::new("/nonexistent/mailseal.toml"));
        assert!(Config::load(gone).is_err());
        assert!(Config::load_beside_keys(gone, false, |_| {}).is_err());
        let mut said = false;
        assert_eq!(Config::load_beside_keys(gone, true, |_| said = true).unwrap(), Config::default());
        assert!(said);
        assert_eq!(Config::load(Some(Path::new("/dev/null"))).unwrap(), Config::default());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mailseal.toml");
        std::fs::write(&path, "").unwrap();
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (file, folder, fit) in
            [(0o644, 0o755, true), (0o666, 0o755, false), (0o644, 0o777, false), (0o600, 0o700, true)]
        {
            chmod(&path, file);
            chmod(dir.path(), folder);
            for load in [Config::load(Some(&path)), Config::load_beside_keys(Some(&path), true, |_| {})] {
                assert_eq!(load.is_ok(), fit, "{file:o} {folder:o}");
            }
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("gone", &path).unwrap();
        assert!(Config::load_beside_keys(Some(&path), true, |_| {}).is_err(), "a link that leads nowhere");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(Config::load(Some(&path)).is_err(), "and it does not wait");
    }

    #[test]
    fn a_fault_names_the_part_of_the_path_that_has_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mailseal.toml");
        std::fs::write(&path, "").unwrap();
        let error = |at: &Path| {
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o777)).unwrap();
            let error = Config::load(Some(&path)).unwrap_err().to_string();
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
            error
        };
        let (file, folder) = (path.display(), dir.path().display());
        assert_eq!(error(&path), format!("configuration {file}: everybody can write to it"));
        assert_eq!(error(dir.path()), format!("configuration {file}: {folder}: everybody can write to it"));
    }

    #[test]
    fn only_a_file_of_a_bounded_size_is_read() {
        let limit = limits::CONFIGURATION as usize;
        assert!(load(&"#".repeat(limit)).is_ok());
        assert!(load(&"#".repeat(limit + 1)).unwrap_err().contains("larger than"));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/dev/zero"), dir.path(), &socket] {
            assert!(Config::load_beside_keys(Some(path), true, |_| ()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn groups_have_names_or_numbers() {
        let listed = std::fs::read_to_string("/etc/group").unwrap();
        let groups = listed.lines().map(|line| line.split(':').collect::<Vec<_>>());
        for group in groups.filter(|fields| fields.len() == 4).take(5) {
            let config = load(&format!("[keys]\ntrusted-groups = [{:?}, 12345]", group[0])).unwrap();
            assert_eq!(config.keys.trusted_groups.ids(), [group[2].parse().unwrap(), 12345], "{group:?}");
        }
        assert_eq!(Config::default().keys.trusted_groups.ids(), [0; 0]);
    }

    #[test]
    fn the_nearest_word_on_how_to_seal_counts() {
        let config = load(
            r#"
            [message]
            protect-headers = "shy"
            compression = "zlib:1"
            subject = "Sealed"
            pad = "4KiB"
            mark = false
            legacy-display = false
            [[users]]
            match = ["alice"]
            protect-headers = "baseline"
            pad = "padme"
            [[users]]
            match = ["*"]
            "#,
        )
        .unwrap();
        let general = Style {
            protect_headers: Policy::Shy,
            subject: "Sealed".parse().unwrap(),
            pad: "4KiB".parse().unwrap(),
            compression: Compression::Zlib(1),
            additions: Additions { mark: false, legacy_display: false },
            again: false,
        };
        let nothing = Sealing::default();
        assert_eq!(config.style("bob", &nothing), general);
        assert_eq!(config.style("a/b", &nothing), general, "a name that is none");
        let alice = Style { protect_headers: Policy::Baseline, pad: Padding::Padme, ..general.clone() };
        assert_eq!(config.style("Alice", &nothing), alice);
        let said = Sealing {
            protect_headers: Some(ProtectHeaders::Strict),
            subject: Some("Other".parse().unwrap()),
            pad: Some(Padding::None),
            compression: Some(Compression::Zlib(2)),
        };
        let all = Style {
            protect_headers: Policy::Strict,
            subject: "Other".parse().unwrap(),
            pad: Padding::None,
            compression: Compression::Zlib(2),
            additions: general.additions,
            again: false,
        };
        assert_eq!(config.style("alice", &said), all);
        assert_eq!(Config::default().style("alice", &nothing), Style::default());
    }

    #[test]
    fn a_deadline_is_at_least_a_second() {
        for (text, seconds) in [("1", Some(1)), ("0", None), ("-1", None), ("\"1\"", None)] {
            match load(&format!("[message]\ndeadline = {text}")) {
                Ok(config) => assert_eq!(Some(config.message.deadline.as_secs()), seconds, "{text}"),
                Err(error) => {
                    assert!(seconds.is_none() && error.contains("a number of at least 1"), "{text}: {error}")
                }
            }
        }
    }
}
