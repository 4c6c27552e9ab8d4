//! GnuPG as the reader's side: keys made once for the test process, decryption in homes that are thrown away.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// A key pair, exported.
pub struct Key {
    /// What goes onto the server.
    pub certificate: Vec<u8>,
    /// The same with its secret parts.
    pub secret: Vec<u8>,
}

/// Alice's key.
pub static ALICE_KEY: LazyLock<Key> = LazyLock::new(|| generate("alice@example.org"));
/// Bob's key.
pub static BOB_KEY: LazyLock<Key> = LazyLock::new(|| generate("bob@example.org"));

/// A decrypted message and how many keys could have opened it.
pub struct Opened {
    /// The content of the literal packet.
    pub plaintext: Vec<u8>,
    /// The number of recipients the message was sealed to.
    pub recipients: usize,
}

/// A GnuPG home with the secret keys of some users; its agent ends with it.
pub struct Home(TempDir);

impl Home {
    /// A home that can read what was sealed to `keys`.
    pub fn with(keys: &[&Key]) -> Self {
        let home = Self::empty();
        for key in keys {
            succeeded(&home.run(&["--import"], &key.secret));
        }
        home
    }

    /// Decrypts an OpenPGP message, or says why it cannot.
    pub fn decrypt(&self, armoured: &[u8]) -> Result<Opened, String> {
        let output = self.run(&["--status-fd", "2", "--decrypt"], armoured);
        let status = String::from_utf8_lossy(&output.stderr).into_owned();
        // Success alone is not enough: gpg exits 0 for messages without integrity protection in some cases.
        if !output.status.success() || !status.contains("[GNUPG:] GOODMDC") {
            return Err(status);
        }
        let recipients = status.lines().filter(|line| line.starts_with("[GNUPG:] ENC_TO ")).count();
        Ok(Opened { plaintext: output.stdout, recipients })
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("gnupg-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(self.0.path()).args(["--batch", "--quiet", "--no-tty"]);
        gpg.args(["--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"])
            .args(arguments);
        let gpg = gpg.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = gpg.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).output();
    }
}

/// A new key pair for the address.
pub fn generate(address: &str) -> Key {
    let home = Home::empty();
    succeeded(&home.run(&["--quick-generate-key", address, "ed25519", "cert,sign", "never"], b""));
    let listing = home.run(&["--with-colons", "--list-keys"], b"");
    let listing = String::from_utf8(succeeded(&listing)).unwrap();
    let fingerprint =
        listing.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap();
    succeeded(&home.run(&["--quick-add-key", fingerprint, "cv25519", "encr", "never"], b""));
    Key {
        certificate: succeeded(&home.run(&["--export", address], b"")),
        secret: succeeded(&home.run(&["--export-secret-keys", address], b"")),
    }
}

fn succeeded(output: &Output) -> Vec<u8> {
    assert!(output.status.success(), "gpg: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.clone()
}
