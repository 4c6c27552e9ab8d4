//! Certificates: any file is read or refused in bounded time, and what is fit can be sealed to.
#![no_main]

use std::path::Path;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use mailseal::config::{Format, Preference};
use mailseal::console::escape;
use mailseal::keys::addressee::choose;
use mailseal::keystore;
use mailseal::limits;
use mailseal_core::cert::Fitness;
use mailseal_core::recipients::WhenExpired;

/// A time at which the certificates of the fixtures are what they are called.
const NOW: Duration = Duration::from_secs(1_795_000_000);

fuzz_target!(|bytes: &[u8]| {
    let certs = match keystore::parse(bytes, Path::new("fuzz.pgp")) {
        Ok(certs) => certs,
        Err(error) => {
            let text = escape::display(format!("{error} {}", error.hint()).as_bytes());
            assert!(!text.contains(char::is_control));
            return;
        }
    };
    assert!(!certs.is_empty() && certs.len() <= limits::KEY_FILE_CERTIFICATES);
    let now = SystemTime::UNIX_EPOCH + NOW;
    let mut usable = 0;
    for cert in &certs {
        assert!(!cert.openpgp().is_some_and(|cert| cert.is_tsk()));
        let worth = cert.assess(now);
        assert_eq!(worth.algorithms.is_empty(), matches!(worth.fitness, Fitness::Unfit(_)));
        usable += worth.algorithms.len();
    }
    // A user with both kinds gets mail in one of them, which may be the one that is of no use.
    for format in [Format::OpenPgp, Format::Smime] {
        let preference = Preference { format, ..Preference::default() };
        let Ok(recipients) = choose("fuzz", (&certs, &[]), preference, WhenExpired::Encrypt, now) else {
            continue;
        };
        assert!(usable > 0);
        if let Ok(session) = recipients.session() {
            assert!(!session.key_ids().is_empty() && session.key_ids().len() <= usable);
        }
    }
});
