//! Certificates: any file is read or refused in bounded time, and what is fit can be sealed to.
#![no_main]

use std::path::Path;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use mailseal::console::escape;
use mailseal::keystore;
use mailseal::limits;
use mailseal_core::cert::{Fitness, assess};
use mailseal_core::recipients::{Recipients, WhenExpired};

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
        assert!(!cert.is_tsk());
        let assessment = assess(cert, now);
        assert_eq!(assessment.keys.is_empty(), matches!(assessment.fitness, Fitness::Unfit(_)));
        usable += assessment.keys.len();
    }
    let Ok(recipients) = Recipients::choose("fuzz", &certs, &[], WhenExpired::Encrypt, now) else {
        assert_eq!(usable, 0);
        return;
    };
    assert!(usable > 0);
    if let Ok(session) = recipients.session() {
        assert!(!session.key_ids.is_empty() && session.key_ids.len() <= usable);
    }
});
