//! Edge: A local Web Key Directory as `gpg-wks-server` lays it out: `DOMAIN/hu/HASH` (draft-koch-openpgp-webkey-service).

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::keystore::wkd_names;
use crate::limits;

/// Looks for the address of `search` in the directory at `base`. A domain without a folder has no certificates.
///
/// # Errors
/// Those of [`safe_file::read`].
pub fn search(base: &Place, search: &mut Search<'_>) -> Result<(), Error> {
    for address in search.written().to_vec() {
        let Some((local, domain)) = address.rsplit_once('@') else { continue };
        let file = base.join(domain.to_lowercase()).join("hu").join(wkd_names::hash(local));
        if let Some(bytes) = safe_file::read(&file, limits::KEY_FILE)? {
            search.add_ring(&bytes, &file.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;
    use crate::config::Keys;
    use crate::keystore::samples::Site;

    #[test]
    fn a_certificate_lies_under_the_hash_of_its_address() {
        let site = Site::new();
        let address = Some("%{user}@Example.ORG".to_owned().try_into().unwrap());
        let keys = Keys { address, ..site.keys(&["wkd-dir:DIR/keys"]) };
        let alice = made::cert("alice@example.org");
        assert!(site.find(&keys, "alice").unwrap().is_none());
        site.write(&format!("keys/example.org/hu/{}", wkd_names::hash("alice")), &made::public(&alice));
        assert_eq!(site.find(&keys, "alice").unwrap().unwrap()[0].fingerprint(), alice.fingerprint());
        assert!(site.find(&keys, "bob").unwrap().is_none());
        let keys =
            Keys { address: Some("%{user}@xn--bcher-kva.example".to_owned().try_into().unwrap()), ..keys };
        let carol = made::cert("carol@b\u{fc}cher.example");
        site.write(
            &format!("keys/b\u{fc}cher.example/hu/{}", wkd_names::hash("carol")),
            &made::public(&carol),
        );
        assert_eq!(site.find(&keys, "carol").unwrap().unwrap()[0].fingerprint(), carol.fingerprint());
    }
}
