//! Edge: Fetches a certificate from a Web Key Directory over HTTPS (the cargo feature `network`).
//!
//! Nothing that delivers mail comes here: only `mailseal keys add --wkd`, for an admin who waits.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use ureq::Agent;

use crate::error::Error;
use crate::keystore::wkd_names;
use crate::limits;

const HTTPS: u16 = 443;

/// How long the admin waits for one server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Fetches what is published for `address`: its URL and contents.
///
/// # Errors
/// [`Error::Enrol`] when the address is none, the server cannot be reached or has nothing, or gives more than
/// [`limits::KEY_FILE`] bytes.
pub fn fetch(address: &str) -> Result<(String, Vec<u8>), Error> {
    let failed = |what: String| Error::Enrol {
        path: address.into(),
        what,
        hint: "ask the owner for the certificate, and give it as a file".into(),
    };
    let (local, domain) = address
        .rsplit_once('@')
        .filter(|(local, domain)| !local.is_empty() && is_host(domain))
        .ok_or_else(|| failed("it is not an address".into()))?;
    let agent: Agent = Agent::config_builder()
        .https_only(true)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(3)
        .tls_config(
            ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build(),
        )
        .user_agent(concat!("mailseal/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let [advanced, direct] = wkd_names::urls(local, domain);
    // The direct method counts only where the host of the advanced one does not exist.
    let exists = (format!("openpgpkey.{domain}"), HTTPS).to_socket_addrs().is_ok();
    let url = if exists { advanced } else { direct };
    let mut response = agent.get(&url).call().map_err(|error| failed(format!("{url}: {error}")))?;
    let bytes = response.body_mut().with_config().limit(limits::KEY_FILE).read_to_vec();
    let bytes = bytes.map_err(|error| failed(format!("{url}: {error}")))?;
    Ok((url, bytes))
}

/// A domain name: nothing in it can lead to another place of a URL.
fn is_host(domain: &str) -> bool {
    !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
