//! GnuPG homes as real gpg makes them, at a place of the test's choice.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::filter;

/// A GnuPG home; its agent ends with it, the folder stays.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// At `path`, which is made where it does not exist.
    pub fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        Self { path: path.into() }
    }

    /// At `path`, with the keyring of GnuPG before 2.1.
    pub fn old_at(path: &Path) -> Self {
        let home = Self::at(path);
        fs::write(path.join("pubring.gpg"), "").unwrap();
        home
    }

    /// Imports as an admin who trusts the input does: User IDs without a signature included.
    pub fn import(&self, keys: &[u8]) {
        self.gpg(&["--allow-non-selfsigned-uid", "--import"], keys);
    }

    /// Makes a key, with its secret half in this home: `algorithm` as `--quick-generate-key` knows it.
    pub fn generate(&self, user_id: &str, algorithm: &str, usage: &str, expires: &str) {
        self.gpg(&["--quick-generate-key", user_id, algorithm, usage, expires], b"");
    }

    /// Adds an encryption subkey to the key with this User ID.
    pub fn add_subkey(&self, user_id: &str, algorithm: &str, expires: &str) {
        let listing = self.gpg(&["--with-colons", "--list-keys", user_id], b"");
        let listing = String::from_utf8(listing).unwrap();
        let fingerprint =
            listing.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap();
        self.gpg(&["--quick-add-key", fingerprint, algorithm, "encr", expires], b"");
    }

    pub fn export(&self, user_id: &str) -> Vec<u8> {
        self.gpg(&["--export", user_id], b"")
    }

    #[track_caller]
    pub fn gpg(&self, options: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.path);
        command.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        let run = filter::run(command.args(options), input, input.len().max(1));
        assert_eq!(run.status, Some(0), "gpg {options:?}: {}", run.stderr);
        run.stdout
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The agent would outlive the test.
        drop(Command::new("gpgconf").arg("--homedir").arg(&self.path).args(["--kill", "all"]).output());
    }
}
