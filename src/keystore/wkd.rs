//! [edge] A local Web Key Directory as `gpg-wks-server` lays it out: `DOMAIN/hu/HASH` (draft-koch-openpgp-webkey-service).

use data_encoding::{Encoding, Specification};
use sha1::{Digest as _, Sha1};

use super::keyring::Search;
use super::safe_file;
use super::source::Place;
use crate::error::Error;
use crate::limits;

/// Looks for `address` in the directory at `base`; true when there is one. A domain
/// without a folder has no certificates.
///
/// # Errors
/// Those of [`safe_file::read`].
pub fn search(base: &Place, address: &str, search: &mut Search<'_>) -> Result<bool, Error> {
    let Some((local, domain)) = address.rsplit_once('@') else { return Ok(false) };
    let below = |name: &str, of: &Place| Place { path: of.path.join(name), home: of.home.clone() };
    let domain = below(&domain.to_lowercase(), base);
    if !safe_file::folder_exists(base)? {
        return Ok(false);
    }
    if !safe_file::folder_exists(&domain)? {
        return Ok(true);
    }
    let file = below(&hash(local), &below("hu", &domain));
    if let Some(bytes) = safe_file::read(&file, limits::KEY_FILE)? {
        search.add_ring(&bytes, &file.path)?;
    }
    Ok(true)
}

/// SHA-1 of the local part in lower case, in z-base-32.
fn hash(local: &str) -> String {
    zbase32().encode(&Sha1::digest(local.to_lowercase()))
}

fn zbase32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    // The alphabet has 32 different characters.
    #[expect(clippy::expect_used, reason = "the specification is a constant, and a test uses it")]
    specification.encoding().expect("32 different symbols")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_draft() {
        assert_eq!(hash("Joe.Doe"), "iy9q119eutrkn8s1mk4r39qejnbu3n5q");
    }
}
