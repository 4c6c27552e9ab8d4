//! Edge: A local Web Key Directory as `gpg-wks-server` lays it out: `DOMAIN/hu/HASH` (draft-koch-openpgp-webkey-service).

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::keystore::wkd_names;
use crate::limits;

/// Looks for `address` in the directory at `base`. A domain
/// without a folder has no certificates.
///
/// # Errors
/// Those of [`safe_file::read`].
pub fn search(base: &Place, address: &str, search: &mut Search<'_>) -> Result<(), Error> {
    let Some((local, domain)) = address.rsplit_once('@') else { return Ok(()) };
    let file = base.join(domain.to_lowercase()).join("hu").join(wkd_names::hash(local));
    if let Some(bytes) = safe_file::read(&file, limits::KEY_FILE)? {
        search.add_ring(&bytes, &file.path)?;
    }
    Ok(())
}
