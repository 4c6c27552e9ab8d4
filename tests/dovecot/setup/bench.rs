//! A site that runs, and `mailseal setup` on it, installed below a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use testing::dovecot::flavour::Flavour;
use testing::dovecot::server::{Server, Setup};
use testing::dovecot::site::Site;
use testing::dovecot::users::{ALICE, BOB, CAROL, DASH};

use super::sites::Sample;

/// What a run of the program said.
#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// Files with what they hold and when they were changed.
pub type Snapshot = BTreeMap<PathBuf, (i64, i64, Vec<u8>)>;

/// A site that runs.
pub struct Bench {
    server: Server,
    pub sample: Sample,
    /// What `doveconf -n` said when it started.
    pub settings: String,
}

impl Deref for Bench {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Bench {
    /// Starts the site; `None` where this Dovecot cannot be run.
    pub fn start(flavour: Flavour, sample: impl Fn(&Site) -> Sample) -> Option<Self> {
        let setup = Setup::with(flavour, "mailseal.sieve")?;
        let site = setup.site();
        for name in [
            "sieve/mailseal.sieve",
            "sieve/mailseal-imap.sieve",
            "mailseal.toml",
            "mailseal.conf",
            "users.list",
        ] {
            fs::remove_file(site.path(name)).unwrap();
        }
        for name in ["known", "keys", "failclosed", "bin"] {
            fs::remove_dir_all(site.path(name)).unwrap();
        }
        let sample = sample(site);
        for (name, text) in &sample.files {
            put(site, name, text);
        }
        for folder in ["prefix/bin", "prefix/lib/mailseal/bin"] {
            fs::create_dir_all(site.path(folder)).unwrap();
        }
        testing::install("mailseal", site.path("prefix/bin/mailseal"));
        fs::rename(
            site.path("libexec/mailseal-filter"),
            site.path("prefix/lib/mailseal/bin/mailseal-filter"),
        )
        .unwrap();
        for user in [ALICE, BOB, CAROL, DASH] {
            site.write_home(user, ".keep", b"");
        }
        let mut bench = Self { server: setup.start(), sample, settings: String::new() };
        bench.settings = bench.doveconf();
        Some(bench)
    }

    /// `mailseal setup` with these arguments, as its own command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.mailseal(&["setup"]);
        command.arg("--state").arg(self.path("var")).args(arguments);
        command
    }

    /// `mailseal` with a command that asks Dovecot.
    pub fn mailseal(&self, words: &[&str]) -> Command {
        let mut command = self.flavour.command(self.path("prefix/bin/mailseal").to_str().unwrap());
        command.arg("--config").arg(self.path("mailseal.toml")).args(words);
        command.arg("--dovecot-config").arg(self.path("dovecot.conf"));
        command
    }

    /// What the package brings: the configuration that it ships, and the folder of certificates.
    pub fn install_package(&self) {
        let dir = self.dir().display();
        let shipped = fs::read_to_string(testing::repository().join("sieve/mailseal.toml")).unwrap();
        let text = shipped.replace("/etc/mailseal", &format!("{dir}/mailseal"));
        put(self, "mailseal.toml", &text.replace("/var/lib/mailseal", &format!("{dir}/var")));
        fs::create_dir_all(self.path("mailseal/keys")).unwrap();
    }

    /// Runs `mailseal setup`.
    pub fn setup(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// Runs it, and expects it to do what it should.
    #[track_caller]
    pub fn set_up(&self) -> String {
        let Said { status, out, err } = self.setup(&[]);
        assert!(status == 0 && err.is_empty(), "{}: {status}\n{out}{err}\n{}", self.sample.name, self.log());
        out
    }

    /// Runs it, expects it to refuse with these words, and everything to be as it was.
    #[track_caller]
    pub fn assert_refused(&self, arguments: &[&str], words: &[&str]) {
        let (before, settings) = (self.snapshot(), self.doveconf());
        let said = self.setup(arguments);
        assert_eq!(said.status, 1, "{said:?}");
        for word in words {
            assert!(said.err.contains(word), "no {word:?} in {}{}", said.out, said.err);
        }
        assert_eq!(said.err.lines().count(), 2, "what failed, and what to do: {}", said.err);
        self.assert_as(&before, "a refusal");
        assert_eq!(self.doveconf(), settings);
    }

    /// All files are as in `before`.
    #[track_caller]
    pub fn assert_as(&self, before: &Snapshot, after: &str) {
        let now = self.snapshot();
        let names = |from: &Snapshot, to: &Snapshot| -> Vec<PathBuf> {
            from.iter()
                .filter(|(path, file)| to.get(*path) != Some(file))
                .map(|(path, _)| path.clone())
                .collect()
        };
        let (changed, new) = (names(before, &now), names(&now, before));
        assert!(changed.is_empty() && new.is_empty(), "after {after}: {changed:?} {new:?}");
    }

    /// Puts a certificate where `mailseal keys add` would.
    pub fn enrol(&self, user: &str, certificate: &[u8]) {
        self.write(&format!("mailseal/keys/{user}.pgp"), certificate, 0o644);
    }

    /// What `doveconf -n` says, without its comments.
    pub fn doveconf(&self) -> String {
        let mut command = self.flavour.command("doveconf");
        let output = command.arg("-c").arg(self.path("dovecot.conf")).arg("-n").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect()
    }

    /// Every file that is no mail and that no running program of the site's changes.
    pub fn snapshot(&self) -> Snapshot {
        let mut found = Snapshot::new();
        walk(self.dir(), &mut found);
        let is_alive = |path: &Path| {
            ["run", "state", "tmp", "home", "system-homes", "dovecot.log"]
                .iter()
                .any(|name| path.starts_with(self.path(name)))
        };
        found.retain(|path, _| !is_alive(path));
        found
    }

    /// Writes a file of the site.
    pub fn put(&self, name: &str, text: &str) {
        put(self, name, text);
    }

    /// Stops Dovecot.
    pub fn stop(&mut self) {
        self.server.kill();
        // It listens before it writes the file.
        match fs::remove_file(self.path("run/master.pid")) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    /// Starts it where it was stopped.
    pub fn start_again(&mut self) {
        self.server.start_again();
    }

    /// Has Dovecot read its settings again.
    pub fn reload(&self) {
        let mut command = self.flavour.command("doveadm");
        assert!(command.arg("-c").arg(self.path("dovecot.conf")).arg("reload").status().unwrap().success());
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn put(site: &Site, name: &str, text: &str) {
    let path = site.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn walk(folder: &Path, found: &mut Snapshot) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let content = if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        // A folder that was changed and changed back holds the same names.
        let time = if metadata.is_dir() { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) };
        found.insert(path.clone(), (time.0, time.1, content));
        if metadata.is_dir() {
            walk(&path, found);
        }
    }
}
