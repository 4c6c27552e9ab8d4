//! Names in a Web Key Directory (draft-koch-openpgp-webkey-service): the hash of an address, and its URLs.

use data_encoding::{Encoding, Specification};
use sha1::{Digest as _, Sha1};

/// SHA-1 of the local part in lower case, in z-base-32.
#[must_use]
pub fn hash(local: &str) -> String {
    zbase32().encode(&Sha1::digest(local.to_lowercase()))
}

/// Where the certificate of `local@domain` is published: by the advanced method, and by the direct one, which counts
/// only where the host of the first does not exist.
#[must_use]
pub fn urls(local: &str, domain: &str) -> [String; 2] {
    let (domain, hash) = (domain.to_lowercase(), hash(local));
    let local: String = local
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    [
        format!("https://openpgpkey.{domain}/.well-known/openpgpkey/{domain}/hu/{hash}?l={local}"),
        format!("https://{domain}/.well-known/openpgpkey/hu/{hash}?l={local}"),
    ]
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
    fn names_are_those_of_the_draft() {
        assert_eq!(hash("Joe.Doe"), "iy9q119eutrkn8s1mk4r39qejnbu3n5q");
        assert_eq!(
            urls("Joe.Doe", "Example.ORG"),
            [
                "https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/\
                 iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
                "https://example.org/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
            ]
        );
        assert!(urls("a&b/c", "x")[1].ends_with("?l=a%26b%2Fc"));
    }
}
