//! Edge: The markers of key stores: a file `.mailseal` with a random number, which an unmounted folder does not have.
//!
//! That a name is not there tells nothing of a folder that may not be the store. Each store, each folder that homes lie
//! in, and the register of known users bear a marker of their own; the register lists those of the others.

use std::path::{Path, PathBuf};

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::durable;

use super::names::MARKER;
use super::safe_file;
use super::source::Place;
use super::trust::Trust;
use crate::error::Error;
use crate::limits;

/// What a marker begins with.
const MAGIC: &str = "mailseal marker 1";

/// Rights of what is written: everybody may read it, and only root changes it.
const MODE: u32 = 0o644;

/// Octets of an id.
const OCTETS: usize = 16;

/// The number in a marker: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(String);

/// A store that the register knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Its folder.
    pub path: PathBuf,
    /// The number in its marker.
    pub id: Id,
}

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its own number.
    pub id: Id,
    /// The stores that it lists, where it is the register's.
    pub stores: Vec<Store>,
}

impl Id {
    /// A new one.
    ///
    /// # Errors
    /// [`CoreError::OpenPgp`] where there is no randomness.
    pub fn new() -> Result<Self, Error> {
        let mut random = [0; OCTETS];
        sequoia_openpgp::crypto::random(&mut random).map_err(CoreError::OpenPgp)?;
        Ok(Self(data_encoding::HEXLOWER.encode(&random)))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 2 * OCTETS && text.bytes().all(digits)).then(|| Self(text.into()))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Marker {
    /// Reads the marker of `folder`; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where the folder is not there, somebody else could have written the marker, or it is not one.
    pub fn read(folder: &Path, trust: &Trust) -> Result<Option<Self>, Error> {
        let place = Place::named(folder.join(MARKER), trust.clone());
        let Some(bytes) = safe_file::read_in_store(&place, folder, limits::KEY_FILE)? else {
            return Ok(None);
        };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        parsed.map(Some).ok_or_else(|| Error::KeyStore {
            path: place.path,
            what: "it is not a marker of mailseal's".into(),
            hint: "restore it from a backup, or remove it and run `mailseal keys init`".into(),
        })
    }

    /// Writes it into `folder`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::KeyStore`].
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut text = format!("{MAGIC}\nid {}\n", self.id);
        for Store { path, id } in &self.stores {
            text.push_str(&format!("store {id} {}\n", path.display()));
        }
        let path = folder.join(MARKER);
        durable::write(&path, text.as_bytes(), MODE).map_err(|error| Error::KeyStore {
            path,
            what: error.to_string(),
            hint: "run it as root, with the store mounted for writing".into(),
        })
    }

    /// The number that the store in `folder` is known by.
    #[must_use]
    pub fn id_of(&self, folder: &Path) -> Option<&Id> {
        self.stores.iter().find(|store| store.path == folder).map(|store| &store.id)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != MAGIC {
            return None;
        }
        let id = Id::parse(lines.next()?.strip_prefix("id ")?)?;
        let stores = lines.map(|line| {
            let (id, path) = line.strip_prefix("store ")?.split_once(' ')?;
            Some(Store { path: path.into(), id: Id::parse(id)? })
        });
        Some(Self { id, stores: stores.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::of_process(&[]);
        assert_eq!(Marker::read(dir.path(), &trust).unwrap(), None);
        assert!(Marker::read(&dir.path().join("gone"), &trust).is_err());
        let stores = vec![Store { path: "/a b/c".into(), id: Id::new().unwrap() }];
        let marker = Marker { id: Id::new().unwrap(), stores };
        marker.write(dir.path()).unwrap();
        assert_eq!(Marker::read(dir.path(), &trust).unwrap(), Some(marker.clone()));
        assert_eq!(marker.id_of(Path::new("/a b/c")), Some(&marker.stores[0].id));
        assert_eq!(marker.id_of(Path::new("/a b")), None);
        for text in [
            "",
            "mailseal marker 2\n",
            "mailseal marker 1\nid 12\n",
            &format!("{MAGIC}\nid {}\nx\n", marker.id),
        ] {
            std::fs::write(dir.path().join(MARKER), text).unwrap();
            assert!(Marker::read(dir.path(), &trust).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_is_32_hexadecimal_digits() {
        let id = Id::new().unwrap();
        assert_eq!(Id::parse(&id.to_string()), Some(id.clone()));
        assert_ne!(Id::new().unwrap(), id);
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(Id::parse(digits).unwrap().to_string(), digits);
        for text in
            ["", &digits[1..], &format!("{digits}0"), &digits.replace('a', "A"), &digits.replace('a', "g")]
        {
            assert_eq!(Id::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_gets_no_marker() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker { id: Id::new().unwrap(), stores: Vec::new() };
        assert!(marker.write(&dir.path().join("gone")).is_err());
    }
}
