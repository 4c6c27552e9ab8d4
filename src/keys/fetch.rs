//! Edge: Fetches certificates over HTTPS, from Web Key Directories and keyservers, and revocation lists over HTTP (the cargo feature
//! `network`).
//!
//! Nothing that delivers mail comes here: only `mailseal keys add --wkd` and `keys refresh`, for an admin or a timer that waits.
//! A proxy is the HTTP client's own matter: `ALL_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, for one that speaks HTTP or SOCKS. What that
//! client would pass over in silence, or have this machine look up beside the proxy, is refused first ([`check_proxy`]).

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use dns_lookup::{LookupError, LookupErrorKind};
use ureq::http::Uri;
use ureq::{Agent, Proxy, ProxyProtocol};

use crate::error::Error;
use crate::keystore::wkd_names;
use crate::limits;

/// How long one server is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the HTTP client looks for a proxy, in its order.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// How the HTTP client words a SOCKS proxy's reply 4 (RFC 1928, section 6), which Tor gives for a name that it does not find.
const UNREACHABLE: &str = "host unreachable";

/// What was fetched: the URL, and what it holds.
pub type Fetched = (String, Vec<u8>);

/// Why nothing can be said.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, for people.
    pub why: String,
    /// Whether it is about this request alone, so that asking the server for something else may do.
    pub answered: bool,
    /// Whether a SOCKS proxy says that it finds no such host.
    no_host: bool,
}

/// A keyserver, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyserver {
    given: String,
    interface: Interface,
    /// Where it is, from `https://` on, without a slash at the end.
    base: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// That of keys.openpgp.org, `/vks/v1`.
    Vks,
    /// HKP over TLS (draft-gallagher-openpgp-hkp).
    Hkp,
}

impl Keyserver {
    /// Reads `https://HOST`, with the interface of keys.openpgp.org, or `hkps://HOST`, with that of HKP.
    ///
    /// # Errors
    /// [`Error::Usage`] for everything else. So for `hkp://`: nobody between could forge an answer, because only what an enrolled
    /// certificate itself has signed counts, but whoever listens would learn whose certificates these are.
    pub fn parse(given: &str) -> Result<Self, Error> {
        let refused = |what: String, hint: &str| Err(Error::Usage { what, hint: hint.into() });
        let (interface, rest) = match given.split_once("://") {
            Some(("https", rest)) => (Interface::Vks, rest),
            Some(("hkps", rest)) => (Interface::Hkp, rest),
            Some(("hkp", _)) => {
                let what = format!(
                    "the keyserver {given} would be asked in clear: whoever listens would learn whose keys are here"
                );
                return refused(what, "give it as hkps://HOST");
            }
            _ => {
                let what = format!("the keyserver {given} is not asked over HTTPS");
                return refused(what, "give it as https://HOST, or as hkps://HOST where it speaks HKP");
            }
        };
        let base = format!("https://{}", rest.trim_end_matches('/'));
        let is_place = base.parse::<Uri>().is_ok_and(|uri| {
            uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
                && !rest.contains(['#', '@'])
        });
        if !is_place {
            return refused(
                format!("the keyserver {given} has no host"),
                "give it as https://HOST or hkps://HOST",
            );
        }
        Ok(Self { given: given.into(), interface, base })
    }

    /// As it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.given
    }

    /// Fetches the certificate with this fingerprint, in hexadecimal; `None` where the server has none.
    ///
    /// # Errors
    /// As [`published`].
    pub fn fetch(&self, fingerprint: &str) -> Result<Option<Fetched>, Failure> {
        get(self.url(fingerprint))
    }

    fn url(&self, fingerprint: &str) -> String {
        let base = &self.base;
        match self.interface {
            Interface::Vks => format!("{base}/vks/v1/by-fingerprint/{fingerprint}"),
            Interface::Hkp => format!("{base}/pks/lookup?op=get&options=mr&search=0x{fingerprint}"),
        }
    }
}

/// Checks the proxy that the environment names, before anything is asked.
///
/// # Errors
/// [`Error::Usage`] for one that the HTTP client would pass over, asking without it, and for one by which this machine would look up
/// the names of the servers itself (`socks5://`, `socks4://`).
pub fn check_proxy() -> Result<(), Error> {
    let named = |name: &&'static str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(|value: OsString| (*name, value))
    };
    PROXY_VARIABLES.iter().find_map(named).map_or(Ok(()), |(name, value)| check_proxy_in(name, &value))
}

/// The value may hold a password, and is not repeated.
fn check_proxy_in(name: &str, value: &OsStr) -> Result<(), Error> {
    let refused = |what: &str, hint: &str| {
        Err(Error::Usage { what: format!("the proxy in the environment's {name} {what}"), hint: hint.into() })
    };
    match value.to_str().map(Proxy::new) {
        Some(Ok(proxy)) if proxy.resolve_target() => refused(
            "would leave it to this machine to look up names",
            "give it as socks5h://HOST:PORT: then the proxy looks them up",
        ),
        Some(Ok(_)) => Ok(()),
        _ => refused("is not understood", "give it as socks5h://HOST:PORT or http://HOST:PORT, or unset it"),
    }
}

/// Fetches what is published for `address`.
///
/// # Errors
/// [`Error::Enrol`] where [`published`] fails, and where nothing is published; those of [`check_proxy`].
pub fn fetch(address: &str) -> Result<Fetched, Error> {
    check_proxy()?;
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
        .ok_or_else(|| Failure { why: "it is not an address".into(), answered: true, no_host: false })?;
    let [advanced, direct] = wkd_names::urls(local, domain);
    // The direct method counts only where the host of the advanced one does not exist: elsewhere it may know less.
    if goes_by_socks(&advanced) {
        return match get(advanced) {
            Err(failure) if failure.no_host => get(direct),
            answer => answer,
        };
    }
    get(if exists(&format!("openpgpkey.{domain}"))? { advanced } else { direct })
}

/// Whether a SOCKS proxy is asked for this page, which looks up the name of its host.
fn goes_by_socks(url: &str) -> bool {
    let is_socks = |proxy: &Proxy| {
        matches!(proxy.protocol(), ProxyProtocol::Socks4A | ProxyProtocol::Socks5h)
            && url.parse().is_ok_and(|uri| !proxy.is_no_proxy(&uri))
    };
    Proxy::try_from_env().as_ref().is_some_and(is_socks)
}

/// Whether `host` has an address. That it has none is an answer of the name service; that this cannot say is a failure.
fn exists(host: &str) -> Result<bool, Failure> {
    match dns_lookup::getaddrinfo(Some(host), None, None) {
        Ok(_) => Ok(true),
        Err(error) if is_no(&error) => Ok(false),
        Err(error) => {
            let why = format!("whether there is a host {host}: {}", io::Error::from(error));
            Err(Failure { why, answered: false, no_host: false })
        }
    }
}

fn is_no(error: &LookupError) -> bool {
    matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData)
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
        let no_host = matches!(&error, ureq::Error::Io(error) if error.to_string() == UNREACHABLE);
        // What asks for patience, or has trouble of its own, is not asked on.
        let answered = match error {
            ureq::Error::StatusCode(status) => status != 429 && status < 500,
            ureq::Error::BodyExceedsLimit(_) => true,
            _ => false,
        };
        Failure { why: format!("{url}: {error}"), answered, no_host }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyserver_is_asked_as_its_scheme_says() {
        for (given, url) in [
            ("https://keys.example.org", "https://keys.example.org/vks/v1/by-fingerprint/AB"),
            ("https://keys.example.org/", "https://keys.example.org/vks/v1/by-fingerprint/AB"),
            ("hkps://keys.example.org", "https://keys.example.org/pks/lookup?op=get&options=mr&search=0xAB"),
            ("hkps://[::1]:11372/", "https://[::1]:11372/pks/lookup?op=get&options=mr&search=0xAB"),
        ] {
            let server = Keyserver::parse(given).unwrap();
            assert_eq!((server.url("AB").as_str(), server.name()), (url, given));
        }
        for (given, why) in [
            ("hkp://keys.example.org", "in clear"),
            ("http://keys.example.org", "HTTPS"),
            ("keys.example.org", "HTTPS"),
            ("", "HTTPS"),
            ("hkps://", "has no host"),
            ("https:///", "has no host"),
            ("hkps://keys.example.org?op=index", "has no host"),
            ("hkps://keys.example.org#", "has no host"),
            ("https://me:secret@keys.example.org", "has no host"),
        ] {
            let refused = Keyserver::parse(given).unwrap_err().to_string();
            assert!(refused.contains(why), "{given}: {refused}");
        }
    }

    #[test]
    fn a_proxy_that_would_be_passed_over_or_leak_names_is_refused() {
        for value in
            ["socks5h://127.0.0.1:9050", "socks4a://127.0.0.1", "http://127.0.0.1:8118", "127.0.0.1:8118"]
        {
            assert!(check_proxy_in("ALL_PROXY", OsStr::new(value)).is_ok(), "{value}");
        }
        for (value, why) in [
            ("socks5://127.0.0.1:9050", "look up names"),
            ("socks4://127.0.0.1:9050", "look up names"),
            ("socks://127.0.0.1:9050", "look up names"),
            ("sock5h://127.0.0.1:9050", "not understood"),
            ("http://a:secret@", "not understood"),
            ("://", "not understood"),
        ] {
            let refused = check_proxy_in("ALL_PROXY", OsStr::new(value)).unwrap_err().to_string();
            assert!(refused.contains(why) && refused.contains("ALL_PROXY"), "{value}: {refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
