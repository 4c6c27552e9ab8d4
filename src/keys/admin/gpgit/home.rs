//! Edge: The certificates that gpgit uses, out of a user's GnuPG home, with the rights of the home's owner. Where only gpg can
//! read them, gpg is run.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::time::SystemTime;

use mailseal_core::cert::{Fitness, assess};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::raw::RawCertParser;
use sequoia_openpgp::parse::Parse as _;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::keys::admin::by_owner;
use crate::keys::enrol::{self, has_user_id};
use crate::keystore::any_cert;
use crate::keystore::gnupg::{self, Rings};
use crate::keystore::source::Place;
use crate::keystore::trust::Trust;
use crate::limits;
use crate::system::owner::process::{Report, Watch};
use crate::system::owner::{Bytes, cut};
use crate::system::program;

/// The kind of the task.
pub const KIND: &str = "gpgit";

/// Longest certificate that is handed on, in bytes, without what a delivery does not need: in base64 it fits into a report.
const LONGEST: usize = 40 * 1024;

/// Most certificates that are named of those among which nobody can choose.
const NAMED: usize = 20;

/// What is asked of a home.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The GnuPG home.
    pub gnupg: OsString,
    /// The address that gpgit encrypts to, where it is known.
    pub address: Option<String>,
}

/// A certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its first User ID.
    pub user_id: String,
}

/// What is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Answer {
    /// No certificate that gpgit could use.
    None,
    /// The one that it uses, without what a delivery does not need.
    One(Bytes),
    /// Several that it could use.
    Several(Vec<Named>),
    /// One that is not to be enrolled, and why.
    Refused {
        /// Which.
        fingerprint: Option<String>,
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The home cannot be looked into.
    Unasked(String),
}

impl Report for Answer {}

impl by_owner::Answer for Answer {
    fn unasked(why: String) -> Self {
        Self::Unasked(cut(why))
    }
}

impl Question {
    /// Looks into the home.
    #[must_use]
    pub fn answer(&self, config: &Config) -> Answer {
        self.look(config).unwrap_or_else(|error| refused(None, &error))
    }

    fn look(&self, config: &Config) -> Result<Answer, Error> {
        let path = PathBuf::from(&self.gnupg);
        if !is_there(&path)? {
            return Ok(Answer::None);
        }
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let home = Place::named(path.join("pubring.kbx"), trust).at(path);
        let address = self.address.as_deref();
        let rings = match gnupg::rings(&home)? {
            Rings::None => return Ok(Answer::None),
            Rings::Keyboxd => vec![export(&home.path, address)?],
            Rings::Files(rings) => rings,
        };
        let certs = certificates(&rings, &home.path, address)?;
        let now = SystemTime::now();
        let Some(cert) = (match address {
            Some(_) => one_of(certs, now),
            None => only(&home, certs, now)?,
        }) else {
            return Ok(Answer::None);
        };
        let cert = match cert {
            Ok(cert) => cert,
            Err(several) => return Ok(Answer::Several(several)),
        };
        let fingerprint = cert.fingerprint().to_hex();
        if let Err(error) = gnupg::refuse_secret_keys(&home, slice::from_ref(&cert)) {
            return Ok(refused(Some(fingerprint), &error));
        }
        let checked = any_cert::serialize(&[cert.strip_secret_key_material().into()])
            .and_then(|bytes| enrol::candidates(&bytes, &home.path, address, now))
            .and_then(|found| any_cert::serialize(&found.into_iter().map(|it| it.cert).collect::<Vec<_>>()));
        Ok(match checked {
            Ok(bytes) if bytes.len() <= LONGEST => Answer::One(Bytes(bytes)),
            Ok(bytes) => Answer::Refused {
                fingerprint: Some(fingerprint),
                what: format!("the certificate is {} bytes long", bytes.len()),
                hint: "enrol it by hand: gpg --export FINGERPRINT | mailseal keys add USER -".into(),
            },
            Err(error) => refused(Some(fingerprint), &error),
        })
    }
}

/// Whether there is a GnuPG home. A link that leads nowhere is one: what it led to may not be mounted.
fn is_there(home: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(home) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::KeyStore {
            path: home.into(),
            what: error.to_string(),
            hint: "give the user access to that home, or mount it".into(),
        }),
    }
}

fn refused(fingerprint: Option<String>, error: &Error) -> Answer {
    Answer::Refused { fingerprint, what: cut(error.to_string()), hint: cut(error.hint()) }
}

/// The certificates in `rings`; those with `address`, where it is known.
fn certificates(rings: &[Vec<u8>], home: &Path, address: Option<&str>) -> Result<Vec<Cert>, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::KeyStore {
        path: home.into(),
        what: format!("what may be the user's certificate cannot be read: {error}"),
        hint: "let gpg read it: gpg --list-keys; or enrol it: gpg --export FINGERPRINT | mailseal keys add USER -"
            .into(),
    }
    };
    let mut found = Vec::new();
    for ring in rings.iter().filter(|ring| !ring.is_empty()) {
        for raw in RawCertParser::from_bytes(ring).map_err(|error| failed(&error))? {
            let cert =
                Cert::try_from(raw.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
            if address.is_none_or(|address| has_user_id(&cert, address)) {
                crate::keystore::merge(&mut found, [cert]);
            }
            if found.len() > limits::KEY_FILE_CERTIFICATES {
                return Err(failed(&"there are too many"));
            }
        }
    }
    Ok(found)
}

/// The one of `certs` that gpg takes: what has expired or cannot encrypt it leaves alone. Where none is fit, the first, which is
/// refused then with the reason.
fn one_of(certs: Vec<Cert>, now: SystemTime) -> Option<Result<Cert, Vec<Named>>> {
    let (fit, other): (Vec<_>, Vec<_>) =
        certs.into_iter().partition(|cert| assess(cert, now).fitness == Fitness::Fit);
    match fit.len() {
        0 => other.into_iter().next().map(Ok),
        1 => fit.into_iter().next().map(Ok),
        _ => Some(Err(fit.iter().take(NAMED).map(named).collect())),
    }
}

/// The only certificate of the home that can be encrypted to and whose secret key is elsewhere: gpgit needs a key of its own to
/// sign with, which nobody encrypts to. Where there is only such a one, that one, which is refused then.
fn only(home: &Place, certs: Vec<Cert>, now: SystemTime) -> Result<Option<Result<Cert, Vec<Named>>>, Error> {
    let (mut public, mut secret, mut failure) = (Vec::new(), Vec::new(), None);
    for cert in certs {
        match gnupg::refuse_secret_keys(home, slice::from_ref(&cert)) {
            Ok(()) => public.push(cert),
            Err(error) => {
                failure.get_or_insert(error);
                secret.push(cert);
            }
        }
    }
    secret.retain(|cert| assess(cert, now).fitness == Fitness::Fit);
    match (one_of(public, now), secret.is_empty(), failure) {
        (None, false, Some(error)) => Err(error),
        (found, ..) => Ok(found),
    }
}

fn named(cert: &Cert) -> Named {
    let user_id = cert.userids().next().map(|it| String::from_utf8_lossy(it.userid().value()).into_owned());
    Named {
        fingerprint: cert.fingerprint().to_hex(),
        user_id: user_id.unwrap_or_default().chars().take(200).collect(),
    }
}

/// What gpg exports, which alone can read a keyboxd.
fn export(home: &Path, address: Option<&str>) -> Result<Vec<u8>, Error> {
    let failed = |what: String| {
        Error::KeyStore {
        path: home.into(),
        what: format!("gpg, which alone can read this home, {what}"),
        hint: "look with gpg --list-keys as this user; or enrol: gpg --export ADDRESS | mailseal keys add USER -"
            .into(),
    }
    };
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home).args([
        "--batch",
        "--no-tty",
        "--quiet",
        "--no-auto-check-trustdb",
        "--export",
        "--",
    ]);
    let output = program::run(gpg.args(address), &Watch::alone())
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("failed: {}", said.lines().next().unwrap_or_default())));
    }
    Ok(output.stdout)
}

/// What the owner's process does.
///
/// # Errors
/// Those of its beginning and of the configuration.
pub fn main() -> Result<(), Error> {
    by_owner::main(|config, question: Question| question.answer(config))
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;

    fn chosen(certs: Vec<Cert>) -> Option<Result<String, usize>> {
        let one = one_of(certs, SystemTime::now())?;
        Some(one.map(|cert| made::fingerprint(&cert)).map_err(|several| several.len()))
    }

    #[test]
    fn one_fit_certificate_is_taken_and_of_several_none() {
        let [alice, other] = [made::DAY * 400, made::DAY * 500]
            .map(|left| made::expires_in("Alice <alice@example.org>", left).strip_secret_key_material());
        assert_eq!(chosen(vec![]), None);
        assert_eq!(chosen(vec![alice.clone()]), Some(Ok(made::fingerprint(&alice))));
        assert_eq!(chosen(vec![alice.clone(), other]), Some(Err(2)));
        let expired = Cert::from_file(testing::fixtures::cert("expired")).unwrap();
        assert_eq!(chosen(vec![expired.clone(), alice.clone()]), Some(Ok(made::fingerprint(&alice))));
        assert_eq!(chosen(vec![expired.clone()]), Some(Ok(made::fingerprint(&expired))), "to be refused");
    }

    #[test]
    fn a_home_that_cannot_be_looked_at_is_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let found = |name: &str| {
            let gnupg = dir.path().join(name).into();
            Question { gnupg, address: None }.answer(&Config::default())
        };
        assert_eq!(found("none"), Answer::None);
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("link")).unwrap();
        for name in ["file/.gnupg", "link"] {
            assert!(matches!(found(name), Answer::Refused { .. }), "{name}: {:?}", found(name));
        }
    }

    #[test]
    fn only_those_with_the_address_count() {
        let [alice, bob] = ["Alice <alice@example.org>", "Malice <malice@example.org>"].map(made::cert);
        let rings = [made::public(&alice), made::public(&bob)];
        let found = |address| certificates(&rings, Path::new("/h"), address).unwrap().len();
        assert_eq!(
            (found(None), found(Some("Alice@Example.org")), found(Some("carol@example.org"))),
            (2, 1, 0)
        );
        assert_eq!(certificates(&[rings.concat()], Path::new("/h"), None).unwrap().len(), 2);
        assert!(certificates(&[b"x".to_vec()], Path::new("/h"), None).is_err());
        assert!(certificates(&[Vec::new()], Path::new("/h"), None).unwrap().is_empty());
    }
}
