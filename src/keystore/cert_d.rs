//! Edge: The shared OpenPGP certificate directory (draft-nwjw-openpgp-cert-d), searched by address.

use std::path::PathBuf;

use openpgp_cert_d::CertD;

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::limits;

/// Looks for the search's address in the directory at `base`.
///
/// # Errors
/// [`Error::KeyStore`] when it cannot be read or must not be trusted.
pub fn search(base: &Place, search: &mut Search<'_>) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::KeyStore {
        path: base.path.clone(),
        what: error.to_string(),
        hint: "let the mail user read the certificate directory".into(),
    };
    let directory = CertD::with_base_dir(&base.path).map_err(|error| failed(&error))?;
    let mut checked = PathBuf::new();
    for fingerprint in directory.fingerprints() {
        let fingerprint = fingerprint.map_err(|error| failed(&error))?;
        let file = base.at(directory.get_path(&fingerprint).map_err(|error| failed(&error))?);
        // Files come folder by folder.
        if let Some(folder) = file.path.parent().filter(|folder| *folder != checked) {
            safe_file::reach(&base.at(folder.into()))?;
            checked = folder.into();
        }
        // It may have been removed meanwhile.
        if let Some(bytes) = safe_file::read_in_folder(&file, limits::KEY_FILE)? {
            search.add_ring(&bytes, &file.path)?;
        }
    }
    Ok(())
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
}
