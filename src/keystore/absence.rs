//! Edge: The proof that a user has no certificate: the only thing, beside an admin's word, that lets clear mail through.
//!
//! [`prove`] decides, and only it makes an [`Absent`]. All of this must hold, and every doubt is an error:
//!
//! - every source could be asked ([`super::find`]);
//! - the register of known users is complete, and each store and each folder of homes bears the marker that it lists;
//! - neither the user nor one with a name like the user's ever had a certificate, and the user's sources were asked;
//! - nothing in the user's places looks like a certificate that was not read.

use std::path::{Path, PathBuf};

use super::known::Known;
use super::marker::Marker;
use super::source::{Source, Values};
use super::standing::Standing;
use super::trust::Trust;
use super::{Request, spelling};
use crate::config::Keys;
use crate::error::Error;

/// The user was proven to have no certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Absent(());

/// The folders that must bear a marker under this configuration: those of sources, and those in which homes lie.
#[must_use]
pub fn stores(keys: &Keys) -> Vec<PathBuf> {
    let of_source = |source: &Source| source.path.store(source.kind);
    let mut stores: Vec<PathBuf> =
        keys.sources.iter().filter_map(of_source).chain(keys.homes.iter().cloned()).collect();
    stores.sort();
    stores.dedup();
    stores
}

/// Proves that the user of `request`, for whom [`super::find`] found nothing, has no certificate.
///
/// # Errors
/// [`Error::Known`] where the user, or one with such a name, had one; [`Error::KeyStore`] for every other doubt.
pub fn prove(keys: &Keys, request: &Request<'_>) -> Result<Absent, Error> {
    let known = Known::new(&keys.known, request.trust.clone());
    let marker = known.marker()?.ok_or_else(|| Error::KeyStore {
        path: keys.known.clone(),
        what: "the register of known users bears no marker: it is not mounted, or was never made".into(),
        hint: "mount it; on a new installation run `mailseal keys init`".into(),
    })?;
    for store in stores(keys) {
        check_marker(&store, &marker, &request.trust)?;
    }
    match known.standing(request.user)? {
        Standing::Unknown => {}
        standing => return Err(Error::Known { user: request.user.name().into(), standing }),
    }
    let values = Values { user: request.user, home: request.home, homes: &keys.homes };
    for source in &keys.sources {
        spelling::refuse(source, &values, request.given)?;
    }
    Ok(Absent(()))
}

/// Refuses a store that does not bear the marker which `known` lists for it.
///
/// # Errors
/// [`Error::KeyStore`].
pub fn check_marker(store: &Path, known: &Marker, trust: &Trust) -> Result<(), Error> {
    let refused = |what: &str, hint: &str| {
        Err(Error::KeyStore { path: store.into(), what: what.into(), hint: hint.into() })
    };
    let Some(id) = known.id_of(store) else {
        return refused("it is not among the stores that the register lists", "run `mailseal keys init`");
    };
    match Marker::read(store, trust)? {
        None => refused(
            "it does not bear its marker, .mailseal: it is not mounted, or is another one",
            "mount it",
        ),
        Some(marker) if marker.id != *id => refused(
            "it bears another marker than it did: another store is mounted there",
            "mount the right one; after a restore, `mailseal keys init --accept FOLDER` takes it as it is",
        ),
        Some(_) => Ok(()),
    }
}
