//! Decrypts in this process, as `mailseal decrypt` does it.

use std::io::{Seek, Write};
use std::sync::LazyLock;

use mailseal::keys::secret::files::{KeyFiles, Passphrases};
use mailseal::mailbox::decrypt::{self as product, Opener, Outcome};
use mailseal_core::limits;
use mailseal_core::unseal::Expansion;

use testing::filter::Run;
use testing::fixtures;

static KEYS: LazyLock<KeyFiles> = LazyLock::new(|| {
    let files = ["curve25519", "v6"].map(fixtures::secret);
    KeyFiles::read(&files, Passphrases::Given(Vec::new())).expect("the fixtures' keys")
});

/// Decrypts with the secret keys of the fixtures that are fuzzed with.
pub fn decrypt(_cert: &str, sealed: &[u8]) -> Run {
    let mut file = tempfile::tempfile().expect("a file without a name");
    file.write_all(sealed).expect("room for a message");
    file.rewind().expect("a file can be read again");
    let mut stdout = Vec::new();
    let opener = Opener { keys: &*KEYS, expansion: Expansion::new(limits::EXPANSION) };
    let (status, stderr) = match product::decrypt(file, &mut stdout, opener) {
        Ok(Outcome::Original) => (0, String::new()),
        Ok(Outcome::Inexact) => (0, "the header could not be restored exactly".to_owned()),
        Ok(Outcome::Foreign) => (0, "mailseal did not seal this message".to_owned()),
        Err(error) => (error.exit() as i32, error.to_string()),
    };
    Run { status: Some(status), stdout, stderr }
}
