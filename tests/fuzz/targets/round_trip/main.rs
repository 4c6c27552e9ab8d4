//! Seals a message and opens it with other implementations: the tests' oracle computes everything there must be, and
//! restores the message.
#![no_main]

mod decrypt;

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use mailseal::config::Preference;
use mailseal::keys::addressee::choose;
use mailseal::keystore::read_named;
use mailseal::keystore::trust::Trust;
use mailseal_core::message::opening::Opening;
use mailseal_core::openpgp::compress::Compression;
use mailseal_core::openpgp::padding::Padding;
use mailseal_core::protect::{self, Additions, Policy};
use mailseal_core::recipients::{Recipients, WhenExpired};
use mailseal_core::seal::Sealer;
use testing::filter::Run;
use testing::fixtures;
use testing::oracle::check_run_with;
use testing::protected::{Policy as Shown, check_restored_with, check_strict_with, check_with};

use crate::decrypt::decrypt;

static RECIPIENTS: LazyLock<[(&str, Recipients); 2]> = LazyLock::new(|| {
    ["curve25519", "v6"].map(|name| {
        let certs = read_named(&fixtures::cert(name), &Trust::of_process(&[]), None).expect("a fixture");
        let recipients =
            choose(name, (&certs, &[]), Preference::default(), WhenExpired::Encrypt, SystemTime::now());
        (name, recipients.expect("a certificate that is fit"))
    })
});

/// A class of sizes.
const SIZE: Padding = Padding::Multiple(NonZeroU64::new(1024).expect("it is not zero"));

fuzz_target!(|message: &[u8]| {
    if message.is_empty() {
        return;
    }
    // Any bytes will do to choose among the ways.
    let choice = message.iter().fold(message.len(), |sum, &byte| sum.wrapping_mul(31) ^ usize::from(byte));
    let (name, recipients) = &RECIPIENTS[usize::from(choice % 8 == 0)];
    let compression = [Compression::Auto, Compression::None, Compression::Zlib(1)][choice / 8 % 3];
    let mut reader = Pieces { rest: message, size: [1, 7, 4096][choice / 24 % 3] };

    let opening = Opening::read(&mut reader).expect("a short message can be read");
    let mut stdout = Vec::new();
    let policy = [Policy::None, Policy::Baseline, Policy::Shy, Policy::Strict][choice / 72 % 4];
    let plan = protect::plan(policy.into(), Additions::default(), &opening);
    // What the policy cannot protect is copied inside all the same, where it claims to be protected.
    let shown = plan.protection.is_some().then_some(match policy {
        Policy::Baseline if plan.warning.is_none() => Shown::Baseline,
        Policy::Shy if plan.warning.is_none() => Shown::Shy,
        Policy::Strict if plan.warning.is_none() => Shown::Strict,
        _ => Shown::Open,
    });
    let padding = [Padding::None, Padding::Padme, SIZE][choice / 288 % 3];
    let sealer = Sealer { compression, padding, ..Sealer::to(recipients, policy) };
    sealer.seal(&opening, &mut reader, &mut stdout).expect("a vector takes all");
    let run = Run { status: Some(0), stdout, stderr: String::new() };
    let result = match shown {
        None => check_run_with(decrypt, message, &run, name, None).map(drop),
        Some(Shown::Shy) => check_restored_with(decrypt, message, &run, name),
        Some(Shown::Strict) => check_strict_with(decrypt, message, &run, name),
        Some(shown) => check_with(decrypt, message, &run, shown, name, None).map(drop),
    };
    if let Err(why) = result {
        panic!("{name}, {compression:?}, {policy:?}, {padding}: {why}");
    }
});

/// Gives a few bytes a call.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.size.min(buffer.len());
        self.rest.read(&mut buffer[..most])
    }
}
