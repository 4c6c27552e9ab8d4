//! `mailseal keys check --mail-owner`: the owners of certificates are told that one expires soon, or is of no use any more.
//!
//! Each is told once of each: 30, 7 and 1 days before, and when it cannot be used. What was told stands in a file of root's
//! beside the register.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mailseal_core::cert::Fitness;
use mailseal_core::message::opening::Opening;
use mailseal_core::recipients::WhenExpired;
use mailseal_maildir::durable;

use crate::cli::sealing::Sealing;
use crate::config;
use crate::console::date::day;
use crate::dovecot::doveadm;
use crate::error::Error;
use crate::keys::addressee;
use crate::keys::admin::Keys;
use crate::keys::receive::answer;
use crate::keystore::any_cert::AnyCert;
use crate::keystore::user::User;

/// So many days before it expires the owner is told.
const DAYS: [u64; 3] = [1, 7, 30];

/// Where it stands what was told, beside the register.
const FILE: &str = "owners-told";

/// What an admin's text may say, unless another is configured.
const TEXT: &str = "\
New mail to you is encrypted on this server to your key

    %{fingerprint}

%{why}

Please make your key valid for longer, or make a new one, and give its public
part to your administrator, or put it into the folder from which this server
takes keys. Keep your old key: your old mail opens with it only.
";

/// One thing that an owner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    /// What it is about, the same for the same: it is told once.
    id: String,
    fingerprint: String,
    why: String,
}

impl Keys<'_> {
    /// Tells the owners of the enrolled certificates what they have not been told. `dovecot_config` is Dovecot's main
    /// configuration, if another than its default.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where the folder cannot be read, or it cannot be noted what was told; [`Error::Command`] where Dovecot
    /// does not take a message: the others are told first.
    pub fn tell_owners(&self, dovecot_config: Option<&Path>) -> Result<(), Error> {
        let path = self.told_path();
        let mut told = read(&path)?;
        let mut failure = None;
        for entry in self.enrolled()?.entries()? {
            let Some(user) = entry.user.filter(|_| entry.is_read) else { continue };
            let file = self.enrolled()?.file(&user, self.home.as_deref())?;
            // Of what cannot be read, the admin is told.
            let certs = file.load().unwrap_or_default();
            for notice in due(&told, &user, &certs, self.now) {
                let message = self.notice(&user, &certs, &notice);
                let save = |message: Vec<u8>| doveadm::save(user.name(), "INBOX", &message, dovecot_config);
                if let Err(error) = message.and_then(save) {
                    failure = Some(error);
                    break;
                }
                told.insert(notice.id);
                write(&path, &told)?;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn told_path(&self) -> PathBuf {
        self.config.keys.known.parent().unwrap_or(Path::new("/")).join(FILE)
    }

    /// The message, sealed where that can be done still.
    fn notice(&self, user: &User, certs: &[AnyCert], notice: &Notice) -> Result<Vec<u8>, Error> {
        let text = match &self.config.keys.owner_notice {
            Some(path) => config::read_trusted(path)?.ok_or_else(|| Error::KeyStore {
                path: path.clone(),
                what: "there is no such file".into(),
                hint: "write the text for owners there, or take owner-notice out of [keys]".into(),
            })?,
            None => TEXT.into(),
        };
        let text = text
            .replace("%{user}", user.name())
            .replace("%{fingerprint}", &notice.fingerprint)
            .replace("%{why}", &notice.why);
        let to = self.address(user).unwrap_or_else(|| user.name().to_owned());
        let message = answer::notice(&to, &("Your key for encrypted mail", text), self.now)?;
        let recovery = self.recovery()?;
        let preference = self.config.keys.preference();
        let chosen =
            addressee::choose(user.name(), (certs, &recovery), preference, WhenExpired::Encrypt, self.now);
        let Ok(recipients) = chosen else { return Ok(message) };
        let (mut rest, mut sealed) = (&*message, Vec::new());
        let opening = Opening::read(&mut rest)?;
        let style = self.config.style(user.name(), &Sealing::default());
        style.sealer(&recipients).seal(&opening, &mut rest, &mut sealed)?;
        Ok(sealed)
    }
}

/// What the owner of `certs` is to be told, and has not been.
fn due(told: &BTreeSet<String>, user: &User, certs: &[AnyCert], now: SystemTime) -> Vec<Notice> {
    let notice = |cert: &AnyCert| {
        let assessment = cert.assess(now);
        let fingerprint = cert.fingerprint();
        let expires = day(assessment.expires);
        let id = |what: &str| format!("{} {fingerprint} {expires} {what}", user.name());
        if assessment.fitness != Fitness::Fit {
            let why = format!("It is of no use any more: {}.", assessment.fitness);
            return Some(Notice { id: id("unfit"), fingerprint: fingerprint.clone(), why });
        }
        let left = assessment.expires?.duration_since(now).ok()?;
        let days = DAYS.into_iter().find(|days| left <= Duration::from_secs(days * 24 * 60 * 60))?;
        let why = format!("It expires on {expires}.");
        Some(Notice { id: id(&days.to_string()), fingerprint: fingerprint.clone(), why })
    };
    certs.iter().filter_map(notice).filter(|notice| !told.contains(&notice.id)).collect()
}

fn read(path: &Path) -> Result<BTreeSet<String>, Error> {
    let text = config::read_trusted(path)?.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

fn write(path: &Path, told: &BTreeSet<String>) -> Result<(), Error> {
    let text: String = told.iter().map(|id| format!("{id}\n")).collect();
    durable::write(path, text.as_bytes(), 0o600).map_err(|error| Error::KeyStore {
        path: path.into(),
        what: error.to_string(),
        hint: "let root write there: otherwise owners are told again and again".into(),
    })
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;

    #[test]
    fn each_notice_is_seen_once_in_a_year() {
        let user = User::parse("alice").unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let begin = SystemTime::now();
        let cert = |name, days| AnyCert::from(made::expires_in(name, days * day).strip_secret_key_material());
        let certs = [cert("Alice", 200), cert("Alice's phone", 400)];
        let mut told = BTreeSet::new();
        let mut seen = Vec::new();
        for hour in (0..365 * 24).step_by(6) {
            let now = begin + Duration::from_secs(hour * 60 * 60 + 60);
            for notice in due(&told, &user, &certs, now) {
                seen.push((hour / 24, notice.id.rsplit(' ').next().unwrap().to_owned()));
                told.insert(notice.id);
            }
        }
        let expected = [(170, "30"), (193, "7"), (199, "1"), (200, "unfit")];
        assert_eq!(seen, expected.map(|(day, what)| (day, what.to_owned())));
        // Who comes late is told of what is nearest only.
        let late = due(&BTreeSet::new(), &user, &certs[..1], begin + 195 * day);
        assert_eq!(late.len(), 1);
        assert!(late[0].id.ends_with(" 7") && late[0].why.contains("It expires on 20"), "{late:?}");
        // A key that was made valid for longer is another story.
        let longer = [cert("Alice", 300)];
        assert!(due(&told, &user, &longer, begin + 200 * day).is_empty());
        assert_eq!(due(&told, &user, &longer, begin + 280 * day).len(), 1);
    }

    #[test]
    fn what_was_told_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(read(&path).unwrap().is_empty());
        let told = BTreeSet::from(["a".to_owned(), "b 2020-01-01 7".to_owned()]);
        write(&path, &told).unwrap();
        assert_eq!(read(&path).unwrap(), told);
        assert!(write(&folder.path().join("none/x"), &told).is_err());
    }
}
