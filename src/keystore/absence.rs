//! Edge: The proof that a user has no certificate: the only thing, beside an admin's word, that lets clear mail through.
//!
//! [`prove`] decides, and only it makes an [`Absent`]. All of this must hold, and every doubt is an error:
//!
//! - every source could be asked ([`super::find`]);
//! - the register of known users is complete, and each store and the folder of homes in which the user's lies bear the markers
//!   that it lists;
//! - neither the user nor one with a name like the user's ever had a certificate, and the user's sources were asked;
//! - nothing in the user's places looks like a certificate that was not read.

use std::path::{Path, PathBuf};

use super::known::Known;
use super::marker::Marker;
use super::source::{Source, Values, holding};
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
    with_homes(keys, &mut keys.homes.iter())
}

/// The same, of those that matter for a user with this home: where system users and virtual ones have their homes in folders of
/// their own, the folder of the ones need not be there, nor be trusted, for the others. Where it is not known in which of them the
/// home lies, it may be any.
fn stores_of(keys: &Keys, home: Option<&Path>) -> Vec<PathBuf> {
    let mut own = home.into_iter().flat_map(|home| holding(home, &keys.homes)).peekable();
    if own.peek().is_some() { with_homes(keys, &mut own) } else { stores(keys) }
}

fn with_homes(keys: &Keys, homes: &mut dyn Iterator<Item = &PathBuf>) -> Vec<PathBuf> {
    let of_source = |source: &Source| source.path.store(source.kind);
    let mut stores: Vec<PathBuf> = keys.sources.iter().filter_map(of_source).chain(homes.cloned()).collect();
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
    for store in stores_of(keys, request.home) {
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

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::keystore::marker::Id;
    use crate::keystore::samples::{Site, refusal};

    fn prove_for(site: &Site, keys: &Keys, user: &str) -> Result<Absent, Error> {
        site.ask(keys, user, |request| prove(keys, request))
    }

    #[test]
    fn stores_are_listed_once() {
        let site = Site::new();
        let mut keys = site.keys(&[
            "file:DIR/z/%{user}.pgp",
            "dir:%{home}/keys",
            "file:DIR/a/%{user}.asc",
            "dir:DIR/z",
            "cert-d:DIR/b",
        ]);
        keys.homes = vec![site.at("homes"), site.at("b")];
        assert_eq!(stores(&keys), ["a", "b", "homes", "z"].map(|name| site.at(name)));
    }

    #[test]
    fn only_the_folder_of_the_users_own_home_must_bear_its_marker() {
        let site = Site::new();
        let mut keys = site.keys(&["file:DIR/keys/%{user}.pgp"]);
        keys.homes = vec![site.at("homes"), site.folder("vmail")];
        site.init(&keys);
        std::fs::remove_file(site.at("vmail/.mailseal")).unwrap();
        let prove_in = |home: Option<PathBuf>| {
            site.ask(&keys, "alice", |request| {
                prove(&keys, &Request { home: home.as_deref(), ..request.clone() })
            })
        };
        assert!(prove_in(Some(site.at("homes/alice"))).is_ok());
        for home in [Some("vmail/alice"), Some("elsewhere/alice"), Some("homes"), None] {
            let said = refusal(prove_in(home.map(|home| site.at(home))));
            assert!(said.contains("does not bear its marker"), "{home:?}: {said}");
        }
    }

    #[test]
    fn every_part_of_the_proof_is_needed() {
        let site = Site::new();
        let mut keys = site.keys(&["file:DIR/keys/%{user}.pgp", "dir:DIR/more/%{user}"]);
        keys.homes = vec![site.at("homes")];
        site.folder("more");
        assert!(refusal(prove_for(&site, &keys, "alice")).contains("bears no marker"));
        let known = site.init(&keys);
        assert!(prove_for(&site, &keys, "alice").is_ok());

        for store in ["keys", "more", "homes"] {
            let path = site.at(store).join(".mailseal");
            let marker = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(
                refusal(prove_for(&site, &keys, "alice")).contains("does not bear its marker"),
                "{store}"
            );
            Marker { id: Id::new().unwrap(), stores: Vec::new() }.write(&site.at(store)).unwrap();
            assert!(refusal(prove_for(&site, &keys, "alice")).contains("another marker"), "{store}");
            std::fs::write(&path, marker).unwrap();
            assert!(prove_for(&site, &keys, "alice").is_ok(), "{store}");
        }
        let more = Keys { homes: vec![site.folder("further")], ..keys.clone() };
        assert!(refusal(prove_for(&site, &more, "alice")).contains("not among the stores"));

        for (user, file) in
            [("carol", "keys/Carol.pgp"), ("CaroL", "keys/CaroL.pgp"), ("carol", "more/CAROL/x")]
        {
            let path = site.write(file, &made::public(&made::cert("Carol")));
            assert!(refusal(prove_for(&site, &keys, user)).contains("it looks like a certificate"), "{file}");
            std::fs::remove_file(&path).unwrap();
            let _ = std::fs::remove_dir(path.parent().unwrap());
            assert!(prove_for(&site, &keys, user).is_ok(), "{file}");
        }

        let user = |name: &str| crate::keystore::user::User::parse(name).unwrap();
        let lock = known.lock().unwrap();
        known.note(&lock, [&user("alice")]).unwrap();
        known.note_asked(&lock, [], [&user("bob")]).unwrap();
        for (name, expected) in
            [("alice", Standing::Known), ("alice@example.org", Standing::Near), ("bob", Standing::Unasked)]
        {
            match prove_for(&site, &keys, name) {
                Err(Error::Known { user, standing }) => assert_eq!((&*user, standing), (name, expected)),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(prove_for(&site, &keys, "dave").is_ok());
    }
}
