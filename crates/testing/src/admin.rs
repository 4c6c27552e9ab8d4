//! `mailseal keys` as an admin runs it, on a key folder of the test's own.

use std::{fs, path::PathBuf, process::Command};

use super::filter::{self, Run};

/// A folder with a configuration and an empty key folder; everything belongs to who runs the test.
#[derive(Debug)]
pub struct Admin {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Admin {
    /// Keys lie in `keys/USER.pgp`, and addresses are at example.org.
    pub fn new() -> Self {
        Self::with(r#"sources = ["file:DIR/keys/%{user}.pgp"]"#)
    }

    /// With these lines under `[keys]`; `DIR` in them is the folder.
    pub fn with(keys: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        let config = dir.path().join("mailseal.toml");
        let admin = Self { dir, config };
        admin.configure(keys);
        admin
    }

    /// Puts other lines under `[keys]`.
    pub fn configure(&self, keys: &str) {
        let keys = keys.replace("DIR", self.dir.path().to_str().unwrap());
        let known = self.path("known");
        let text =
            format!("[keys]\nknown = \"{}\"\naddress = \"%{{user}}@example.org\"\n{keys}\n", known.display());
        fs::write(&self.config, text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file of a user.
    pub fn key_file(&self, user: &str) -> PathBuf {
        self.path(&format!("keys/{user}.pgp"))
    }

    /// Writes a file to enrol from, and returns its path as an argument.
    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A command line that has not been run yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::program("mailseal"));
        command.arg("--config").arg(&self.config).arg("keys").args(arguments);
        command
    }

    /// `mailseal keys ARGUMENTS…`
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, b"")
    }

    /// The same with something on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        filter::run(&mut self.command(arguments), input, input.len().max(1))
    }
}

impl Run {
    /// What it said, if it succeeded.
    #[track_caller]
    pub fn said(&self) -> String {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", String::from_utf8_lossy(&self.stdout));
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}
