//! S/MIME authorities: whatever certificates are given, a way is found in bounded time, to what is trusted only; and whatever a list of
//! revoked certificates is, it is read or refused.
//!
//! An input is a file, as a list and as certificates, the first of which is the user's.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use mailseal_core::smime::bundle;
use mailseal_core::smime::certificate::Certificate;
use mailseal_core::smime::chain::Authorities;
use mailseal_core::smime::crl::List;
use testing::smime;

/// A time at which the certificates of the fixtures are what they are called.
const NOW: Duration = Duration::from_secs(1_795_000_000);

static TRUSTED: LazyLock<Authorities> = LazyLock::new(|| {
    let certificates = [certificate("root"), certificate("inter")];
    Authorities::new(certificates.into()).expect("authorities")
});

fn certificate(name: &str) -> Certificate {
    let pem = std::fs::read(smime::file(&format!("chain/{name}.pem"))).expect("a fixture");
    bundle::read(&pem).expect("a certificate").remove(0)
}

fuzz_target!(|bytes: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + NOW;
    for list in List::read(bytes).unwrap_or_default() {
        for authority in TRUSTED.certificates() {
            let (ours, held) = (list.is_of(authority), list.check(authority, now).is_ok());
            for certificate in TRUSTED.certificates() {
                let revocation = list.revokes(certificate);
                assert!(!ours || !held || revocation.is_none_or(|it| it.worse(it) == it));
                list.covers(certificate);
            }
        }
    }
    let Ok(certificates) = bundle::read(bytes) else { return };
    let Some((own, given)) = certificates.split_first() else { return };
    if let Ok(way) = TRUSTED.chain(own, given, now) {
        assert!(way.last().is_some_and(|last| TRUSTED.certificates().contains(last)));
        assert!(
            way[..way.len() - 1]
                .iter()
                .all(|one| given.contains(one) || TRUSTED.certificates().contains(one))
        );
        assert!(way.len() <= 7);
    }
    // What is noted with a certificate is read as it was written.
    assert!(bundle::read(own.to_pem().as_bytes()).is_ok_and(|again| again == [own.clone()]));
});
