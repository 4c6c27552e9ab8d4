//! What the tests of mailseal share: fixtures, keys, runs of the programs, the oracle that works out what a sealed message
//! must be, and a real Dovecot.
//!
//! Nothing here uses the product's library: the oracle must not repeat the product's mistakes.

use std::path::{Path, PathBuf};
use std::process::Command;

pub mod admin;
pub mod alerts;
pub mod alone;
pub mod canary;
pub mod decrypt;
pub mod delivery;
pub mod dovecot;
pub mod drop_in;
pub mod filter;
pub mod fixtures;
pub mod gnupg;
pub mod header;
pub mod jobs;
pub mod made;
pub mod mailbox;
pub mod milter;
pub mod next_hop;
pub mod openers;
pub mod oracle;
pub mod planted;
pub mod protected;
pub mod restore;
pub mod serve;
pub mod skip;
pub mod smime;
pub mod variants;
pub mod world;

/// One of the package's programs, which Cargo has built for the test that runs: it lies above the test's own `deps`.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "there is no {}: `cargo build --bins` makes it", path.display());
    path
}

/// Puts one of the package's programs at another place.
///
/// Another process writes it. A program cannot be started while it is open for writing anywhere, and what is open in this
/// process is for a moment open in the children that other tests start.
pub fn install(name: &str, place: impl AsRef<Path>) {
    let place = place.as_ref();
    let copied = Command::new("cp").arg(program(name)).arg(place).status().unwrap();
    assert!(copied.success(), "{} cannot be written", place.display());
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
