//! S/MIME: whatever the body of a message is, opening it ends, and takes no more than the message has; and whatever octets of one of
//! ours are changed, what comes out of one with AES-GCM is the original or an error.
//!
//! An input is a byte that chooses: a body as it is, or how a message of ours is encrypted. Then that body, or where octets change:
//! two bytes for the place, and one that is added to what stands there.
#![no_main]

use std::io::Read;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use mailseal::keys::secret::files::{KeyFiles, Passphrases};
use mailseal_core::message::opening::Opening;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::{Recipients, WhenExpired};
use mailseal_core::seal::Sealer;
use mailseal_core::smime::bundle;
use mailseal_core::unseal::original::Endings;
use mailseal_core::unseal::{Unsealed, unseal};
use testing::smime;

const MAIL: &[u8] = b"From: bob@example.org\nSubject: canary\n\nthe canary sings at noon\n";

/// What a message with any body begins with.
const HEADER: &str = "Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n";

/// The header of a message of ours, and the octets of its CMS: with AES-CBC, and with AES-GCM.
static OURS: LazyLock<[(String, Vec<u8>); 2]> = LazyLock::new(|| ["p256", "p256-gcm"].map(seal));

static KEYS: LazyLock<KeyFiles> = LazyLock::new(|| {
    KeyFiles::read(&[smime::key("p256")], Passphrases::Given(Vec::new())).expect("a private key")
});

fn seal(name: &str) -> (String, Vec<u8>) {
    let pem = std::fs::read(smime::file(&format!("{name}.pem"))).expect("a fixture");
    let certificates = bundle::read(&pem).expect("a certificate");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let to = Recipients::choose_smime("fuzz", &certificates, &[], WhenExpired::Encrypt, now);
    let (mut rest, mut sealed) = (MAIL, Vec::new());
    let opening = Opening::read(&mut rest).expect("a message");
    let sealer = &Sealer::to(to.as_ref().expect("a fit certificate"), Policy::Baseline);
    sealer.seal(&opening, &mut rest, &mut sealed).expect("it can be sealed");
    let sealed = String::from_utf8(sealed).expect("text");
    let (header, body) = sealed.split_once("\n\n").expect("a header");
    let octets = BASE64.decode(body.replace('\n', "").as_bytes()).expect("base64");
    (format!("{header}\n\n"), octets)
}

/// What comes out of a message, where all of it does.
fn opened(message: &[u8]) -> Option<Vec<u8>> {
    let mut rest = message;
    let opening = Opening::read(&mut rest).ok()?;
    let most = message.len() as u64;
    let Unsealed::Original(mut original) = unseal(&opening, rest, &*KEYS, Endings::Original, most).ok()?
    else {
        return None;
    };
    let mut found = Vec::new();
    original.read_to_end(&mut found).ok().map(|_| found)
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let Some((header, octets)) = OURS.get(usize::from(choice % 3)) else {
        let message = format!("{HEADER}{}\n", BASE64.encode(input));
        if let Some(found) = opened(message.as_bytes()) {
            assert!(found.len() <= 2 * message.len(), "{}", found.len());
        }
        return;
    };
    let mut octets = octets.clone();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % octets.len();
        octets[at] = octets[at].wrapping_add(change[2]);
    }
    // What is left of it.
    if let [less] = input.chunks_exact(3).remainder() {
        octets.truncate(octets.len().saturating_sub((*less).into()));
    }
    let found = opened(format!("{header}{}\n", BASE64.encode(&octets)).as_bytes());
    match found {
        Some(found) if choice % 3 == 1 => assert_eq!(found, MAIL),
        Some(found) => assert!(found.len() < 10_000),
        None => {
            let changed = input.chunks_exact(3).any(|change| change[2] != 0);
            assert!(changed || input.len() % 3 == 1, "what was not changed is not opened");
        }
    }
});
