//! Edge: Fetches certificates over HTTPS, from Web Key Directories and keyservers, and revocation lists over HTTP (the cargo feature
//! `network`).
//!
//! Nothing that delivers mail comes here: only `mailseal keys add --wkd` and `keys refresh`, for an admin or a timer that waits.
//! A proxy is the HTTP client's own matter: `HTTPS_PROXY` and `ALL_PROXY`, for a proxy that speaks HTTP.

use std::io;
use std::time::Duration;

use dns_lookup::{LookupError, LookupErrorKind};
use ureq::Agent;

use crate::error::Error;
use crate::keystore::wkd_names;
use crate::limits;

/// How long one server is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What was fetched: the URL, and what it holds.
pub type Fetched = (String, Vec<u8>);

/// Why nothing can be said.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, for people.
    pub why: String,
    /// Whether it is about this request alone, so that asking the server for something else may do.
    pub answered: bool,
}

/// Fetches what is published for `address`.
///
/// # Errors
/// [`Error::Enrol`] where [`published`] fails, and where nothing is published.
pub fn fetch(address: &str) -> Result<Fetched, Error> {
    let found = published(address).map_err(|failure| failure.why);
    found.and_then(|found| found.ok_or_else(|| "its domain publishes nothing for it".into())).map_err(
        |what| Error::Enrol {
            path: address.into(),
            what,
            hint: "ask the owner for the certificate, and give it as a file".into(),
        },
    )
}

/// Fetches what is published for `address`; `None` where the server says that there is nothing.
///
/// # Errors
/// When the address is none, it cannot be found out whether there is a server, it cannot be reached, or it gives more than
/// [`limits::KEY_FILE`] bytes.
pub fn published(address: &str) -> Result<Option<Fetched>, Failure> {
    let (local, domain) = address
        .rsplit_once('@')
        .filter(|(local, domain)| !local.is_empty() && is_host(domain))
        .ok_or_else(|| Failure { why: "it is not an address".into(), answered: true })?;
    let [advanced, direct] = wkd_names::urls(local, domain);
    // The direct method counts only where the host of the advanced one does not exist: elsewhere it may know less.
    get(if exists(&format!("openpgpkey.{domain}"))? { advanced } else { direct })
}

/// Whether `host` has an address. That it has none is an answer of the name service; that this cannot say is a failure.
fn exists(host: &str) -> Result<bool, Failure> {
    match dns_lookup::getaddrinfo(Some(host), None, None) {
        Ok(_) => Ok(true),
        Err(error) if is_no(&error) => Ok(false),
        Err(error) => {
            let why = format!("whether there is a host {host}: {}", io::Error::from(error));
            Err(Failure { why, answered: false })
        }
    }
}

fn is_no(error: &LookupError) -> bool {
    matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData)
}

/// Fetches the certificate with this fingerprint from `server`, which begins with `https://` and has the interface of
/// keys.openpgp.org (`/vks/v1`); `None` where it has none.
///
/// # Errors
/// As [`published`].
pub fn from_keyserver(server: &str, fingerprint: &str) -> Result<Option<Fetched>, Failure> {
    get(format!("{}/vks/v1/by-fingerprint/{fingerprint}", server.trim_end_matches('/')))
}

/// Fetches the revocation list at `url`, with or without TLS: what it says is signed. `None` where there is none.
///
/// # Errors
/// As [`published`].
pub fn list(url: &str) -> Result<Option<Fetched>, Failure> {
    get_by(url.to_owned(), false)
}

fn get(url: String) -> Result<Option<Fetched>, Failure> {
    get_by(url, true)
}

fn get_by(url: String, https_only: bool) -> Result<Option<Fetched>, Failure> {
    let agent: Agent = Agent::config_builder()
        .https_only(https_only)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(3)
        .tls_config(
            ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build(),
        )
        .user_agent(concat!("mailseal/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let failed = |error: ureq::Error| {
        // What asks for patience, or has trouble of its own, is not asked on.
        let answered = match error {
            ureq::Error::StatusCode(status) => status != 429 && status < 500,
            ureq::Error::BodyExceedsLimit(_) => true,
            _ => false,
        };
        Failure { why: format!("{url}: {error}"), answered }
    };
    let mut response = match agent.get(&url).call() {
        Err(ureq::Error::StatusCode(404)) => return Ok(None),
        response => response.map_err(failed)?,
    };
    let bytes = response.body_mut().with_config().limit(limits::KEY_FILE).read_to_vec().map_err(failed)?;
    Ok(Some((url, bytes)))
}

/// A domain name: nothing in it can lead to another place of a URL.
fn is_host(domain: &str) -> bool {
    !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
