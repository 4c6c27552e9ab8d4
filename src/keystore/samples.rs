//! What the tests of the key store keep certificates in.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sequoia_openpgp::Cert;
use tempfile::TempDir;

use super::any_cert::AnyCert;
use super::known::Known;
use super::marker::{Id, Marker, Store};
use super::source::Source;
use super::trust::Trust;
use super::user::User;
use super::{Request, absence};
use crate::config::Keys;
use crate::error::Error;

/// A folder of its own, `DIR` in sources, with homes in `DIR/homes`.
pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.folder("keys");
        site.folder("homes/alice");
        site
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn source(&self, text: &str) -> Source {
        Source::try_from(text.replace("DIR", self.dir.path().to_str().unwrap())).unwrap()
    }

    /// A configuration with these sources.
    pub(crate) fn keys(&self, sources: &[&str]) -> Keys {
        Keys {
            sources: sources.iter().map(|text| self.source(text)).collect(),
            address: Some("%{user}@example.org".to_owned().try_into().unwrap()),
            known: self.at("known"),
            ..Keys::default()
        }
    }

    /// Makes the register, complete, and a marker in each store.
    pub(crate) fn init(&self, keys: &Keys) -> Known {
        let known = Known::new(&keys.known, Trust::of_process(&[]));
        let stores = absence::stores(keys).into_iter().map(|path| {
            let id = Id::new().unwrap();
            Marker { id: id.clone(), stores: Vec::new() }.write(&path).unwrap();
            Store { path, id }
        });
        let marker = Marker { id: Id::new().unwrap(), stores: stores.collect() };
        known.complete(&known.lock().unwrap(), &marker).unwrap();
        known
    }

    /// What `ask` answers for the user called `name`, whose home is `DIR/homes/alice`.
    pub(crate) fn ask<T>(&self, keys: &Keys, name: &str, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let (user, home) = (User::parse(name).unwrap(), self.at("homes/alice"));
        let now = SystemTime::now();
        let request = Request::new(keys, &user, Some(&home), now, Trust::of_process(&[]));
        ask(&Request { given: name, ..request })
    }

    /// The certificates of the user called `name`: OpenPGP's.
    pub(crate) fn find(&self, keys: &Keys, name: &str) -> Result<Option<Vec<Cert>>, Error> {
        Ok(self.ask(keys, name, |request| super::find(&keys.sources, request))?.map(openpgp))
    }
}

/// Certificates that are OpenPGP's all.
pub(crate) fn openpgp(certs: Vec<AnyCert>) -> Vec<Cert> {
    certs.iter().map(|cert| cert.openpgp().unwrap().clone()).collect()
}

/// Lets everybody write to `path`, or takes that away again.
pub(crate) fn open_to_all(path: &Path, open: bool) {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = if open { 0o777 } else { 0o755 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What an error says that a key store gave.
#[track_caller]
pub(crate) fn refusal<T>(result: Result<T, Error>) -> String {
    match result.map(drop) {
        Err(Error::KeyStore { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}
