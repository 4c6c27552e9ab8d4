//! What the tests of mailseal share: fixtures, keys, runs of the programs, the oracle that works out what a sealed message
//! must be, and a real Dovecot.
//!
//! Nothing here uses the product's library: the oracle must not repeat the product's mistakes.

use std::path::{Path, PathBuf};

pub mod admin;
pub mod decrypt;
pub mod delivery;
pub mod dovecot;
pub mod filter;
pub mod fixtures;
pub mod gnupg;
pub mod header;
pub mod jobs;
pub mod made;
pub mod mailbox;
pub mod openers;
pub mod oracle;
pub mod planted;
pub mod protected;
pub mod restore;
pub mod skip;
pub mod variants;

/// One of the package's programs, which Cargo has built for the test that runs: it lies above the test's own `deps`.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "there is no {}: `cargo build --bins` makes it", path.display());
    path
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
