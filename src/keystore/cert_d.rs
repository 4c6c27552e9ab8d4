//! Edge: The shared OpenPGP certificate directory (draft-nwjw-openpgp-cert-d), searched by address.

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::limits;

/// Looks for the search's address in the directory at `base`. A certificate lies at `XX/REST`: the first two digits of its
/// fingerprint, and the others. Other names are not certificates.
///
/// # Errors
/// [`Error::KeyStore`] when it cannot be read or must not be trusted.
pub fn search(base: &Place, search: &mut Search<'_>) -> Result<(), Error> {
    for start in safe_file::names(base, |name| is_digits(name, &[2]))? {
        let folder = base.join(start);
        for rest in safe_file::names_in_folder(&folder, |name| is_digits(name, &[V4 - 2, V6 - 2]))? {
            let file = folder.join(rest);
            // It may have been removed meanwhile.
            if let Some(bytes) = safe_file::read_in_folder(&file, limits::KEY_FILE)? {
                search.add_ring(&bytes, &file.path)?;
            }
        }
    }
    Ok(())
}

/// Digits of a fingerprint.
const V4: usize = 40;
const V6: usize = 64;

/// Whether a name is one of so many digits, letters among them in lower case.
fn is_digits(name: &str, lengths: &[usize]) -> bool {
    lengths.contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use testing::made;

    use crate::keystore::samples::{Site, open_to_all};

    #[test]
    fn every_certificate_is_looked_at_and_every_folder_judged() {
        let site = Site::new();
        let keys = site.keys(&["cert-d:DIR/keys"]);
        let enrol = |user_id: &str| {
            let cert = made::cert(user_id);
            let name = made::fingerprint(&cert).to_lowercase();
            site.write(&format!("keys/{}/{}", &name[..2], &name[2..]), &made::public(&cert));
            (cert, site.at("keys").join(&name[..2]))
        };
        assert!(site.find(&keys, "alice").unwrap().is_none());
        for other in ["trust-root", "writelock", "ab/README", "ab/0123", "abc/0123"] {
            site.write(&format!("keys/{other}"), b"no certificate");
        }
        let bobs: Vec<_> = (0..5).map(|_| enrol("bob@example.org").1).collect();
        assert!(site.find(&keys, "alice").unwrap().is_none());
        let (alice, folder) = enrol("alice@example.org");
        assert_eq!(site.find(&keys, "alice").unwrap().unwrap()[0].fingerprint(), alice.fingerprint());
        for folder in bobs.iter().chain([&folder]) {
            open_to_all(folder, true);
            assert!(site.find(&keys, "alice").is_err(), "others could have put a certificate there");
            open_to_all(folder, false);
        }
        assert!(site.find(&keys, "alice").is_ok());
    }

    #[test]
    fn a_folder_may_be_a_link_that_is_judged() {
        let site = Site::new();
        let keys = site.keys(&["cert-d:DIR/keys"]);
        let alice = made::cert("alice@example.org");
        let name = made::fingerprint(&alice).to_lowercase();
        site.write(&format!("elsewhere/real/{}", &name[2..]), &made::public(&alice));
        let link = site.at("keys").join(&name[..2]);
        std::os::unix::fs::symlink(site.at("elsewhere/real"), &link).unwrap();
        assert!(site.find(&keys, "alice").unwrap().is_some());
        for folder in ["elsewhere", "elsewhere/real"] {
            open_to_all(&site.at(folder), true);
            assert!(site.find(&keys, "alice").is_err(), "{folder}");
            open_to_all(&site.at(folder), false);
        }
        std::fs::remove_file(&link).unwrap();
        site.write(&format!("keys/{}", &name[..2]), b"a file in its place");
        assert!(site.find(&keys, "alice").is_err());
    }
}
