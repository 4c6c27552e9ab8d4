//! Deliveries as a mail server makes them: an unprivileged user, a configuration, a home, a log file.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt, chown, lchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use sequoia_openpgp::Cert;

use super::{
    filter::{self, Run},
    openers,
    oracle::{check_outside, expected_entities, is_unchanged},
    skip,
};

/// The user and the group that deliveries run as.
pub const UID: u32 = 5000;
pub const GID: u32 = 5000;

/// What is delivered.
pub const MAIL: &[u8] =
    b"Subject: canary in the field\nMessage-ID: <one@example.net>\n\ncanary in the body\n";

/// A folder in which everything lies that a mail server has; it belongs to root, `home/alice` to the mail user.
#[derive(Debug)]
pub struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// `None`, visibly, where the test does not run as root and cannot become another user.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip::unless_ci("it delivers as another user, and so runs as root");
            return None;
        }
        let host = Self { dir: tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap() };
        host.mode("", 0o755);
        for folder in ["home/alice", "log"] {
            host.folder(folder);
            host.own(folder, UID, GID);
        }
        let filter = host.path("mailseal-filter");
        if fs::hard_link(crate::program("mailseal-filter"), &filter).is_err() {
            crate::install("mailseal-filter", &filter);
        }
        Some(host)
    }

    /// A path inside; of the folder itself, where `name` is empty.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a folder, and those that it lies in.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        while let Some(folder) = missing.pop() {
            fs::create_dir(folder).unwrap();
            chmod(folder, 0o755);
        }
        path
    }

    /// Writes a file that all can read and root can write.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder);
        }
        fs::write(&path, bytes).unwrap();
        chmod(&path, 0o644);
        path
    }

    pub fn mode(&self, name: &str, mode: u32) {
        chmod(&self.path(name), mode);
    }

    pub fn own(&self, name: &str, uid: u32, gid: u32) {
        chown(self.path(name), Some(uid), Some(gid)).unwrap();
    }

    /// Gives a folder and all in it to the mail user, but for what goes meanwhile: GnuPG's daemons end when they like and
    /// take their sockets with them.
    pub fn give(&self, name: &str) {
        let path = self.path(name);
        match lchown(&path, Some(UID), Some(GID)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            done => done.unwrap(),
        }
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(&path).unwrap() {
                self.give(entry.unwrap().path().to_str().unwrap());
            }
        }
    }

    /// Puts this host's folder where `text` says `DIR`.
    pub fn text(&self, text: &str) -> String {
        text.replace("DIR", self.dir.path().to_str().unwrap())
    }

    /// Marks the stores of a configuration with these lines under `[keys]`, as `mailseal keys init` does, and notes who has
    /// a certificate, as far as the stores tell and for the `users` named.
    #[track_caller]
    pub fn init(&self, keys: &str, users: &[&str]) {
        let run = self.keys(keys, &["init"], users);
        assert_eq!(run.status, Some(0), "{}{}", String::from_utf8_lossy(&run.stdout), run.stderr);
    }

    /// `mailseal keys COMMAND --users FILE` as root, with these users in the file.
    pub fn keys(&self, keys: &str, command: &[&str], users: &[&str]) -> Run {
        let users = self.write("users", users.join("\n").as_bytes());
        self.admin(keys, &[command, &["--users", users.to_str().unwrap()]].concat())
    }

    /// `mailseal keys ARGUMENTS` as root, with these lines under `[keys]`.
    pub fn admin(&self, keys: &str, arguments: &[&str]) -> Run {
        let config = self.write("admin.toml", self.config(keys).as_bytes());
        let mut mailseal = Command::new(crate::program("mailseal"));
        filter::run(mailseal.arg("--config").arg(config).arg("keys").args(arguments), b"", 1)
    }

    /// Makes the register of known users one that was never filled, with what the stores bear.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.path("known"));
    }

    fn config(&self, keys: &str) -> String {
        self.text(&format!("[keys]\nknown = \"DIR/known\"\n{keys}\n"))
    }

    /// A delivery to `alice`, whose home is `home/alice`, with these lines under `[keys]`; `DIR` in them is this folder.
    pub fn delivery(&self, keys: &str) -> Delivery<'_> {
        Delivery {
            host: self,
            config: self.config(keys),
            user: "alice".into(),
            option: true,
            unnamed: false,
            home: Some(self.path("home/alice")),
            options: Vec::new(),
            message: MAIL.into(),
        }
    }
}

/// A delivery that has not been made yet.
#[derive(Debug)]
pub struct Delivery<'a> {
    host: &'a Host,
    config: String,
    user: OsString,
    /// Whether the user is named in an option, or in the environment.
    option: bool,
    /// Whether the user is named at all.
    unnamed: bool,
    home: Option<PathBuf>,
    options: Vec<String>,
    message: Vec<u8>,
}

impl Delivery<'_> {
    pub fn user(mut self, name: &str) -> Self {
        self.user = name.into();
        self
    }

    /// The user as Dovecot says it.
    pub fn user_in_environment(mut self, name: &[u8]) -> Self {
        self.user = OsStr::from_bytes(name).into();
        self.option = false;
        self
    }

    pub fn home(mut self, path: Option<&Path>) -> Self {
        self.home = path.map(Path::to_owned);
        self
    }

    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| self.host.text(option)));
        self
    }

    /// Lines after those under `[keys]`.
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    pub fn message(mut self, message: &[u8]) -> Self {
        self.message = message.into();
        self
    }

    /// Named nowhere.
    pub fn without_user(mut self) -> Self {
        self.unnamed = true;
        self
    }

    /// Makes it.
    #[track_caller]
    pub fn run(self) -> Delivered {
        self.run_after(&|| ())
    }

    /// Makes it after something was done to the configuration, which is written before.
    #[track_caller]
    pub fn run_after(self, prepare: &dyn Fn()) -> Delivered {
        let host = self.host;
        let (config, log) =
            (host.write("mailseal.toml", self.config.as_bytes()), host.path("log/mailseal.log"));
        let _ = fs::remove_file(&log);
        prepare();
        let mut command = Command::new(host.path("mailseal-filter"));
        command.uid(UID).gid(GID).current_dir("/").env_clear();
        command.arg("--config").arg(config).arg("--log").arg(format!("file:{}", log.display()));
        match self.option {
            _ if self.unnamed => &mut command,
            true => command.arg("--user").arg(&self.user),
            false => command.env("USER", &self.user),
        };
        if let Some(home) = &self.home {
            command.arg("--home").arg(home);
        }
        let run = filter::run(command.args(&self.options), &self.message, self.message.len().max(1));
        let line = fs::read_to_string(log).unwrap_or_default();
        Delivered { message: self.message, run, line }
    }
}

/// What became of a delivery.
#[derive(Debug)]
pub struct Delivered {
    message: Vec<u8>,
    pub run: Run,
    /// The log line; empty where there is none.
    pub line: String,
}

impl Delivered {
    /// What the log line says.
    pub fn log(&self) -> HashMap<&str, &str> {
        self.line.split_whitespace().filter_map(|pair| pair.split_once('=')).collect()
    }

    /// Fails unless it was sealed, every one of `certs` opens it, and no other key can; returns the armour.
    #[track_caller]
    pub fn assert_sealed(&self, name: &str, certs: &[&Cert]) -> Vec<u8> {
        assert_eq!(self.run.status, Some(0), "{name}: {}", self.run.stderr);
        assert!(self.run.stdout != self.message, "{name}: came out unchanged");
        let sealed =
            check_outside(&self.message, &self.run.stdout).unwrap_or_else(|why| panic!("{name}: {why}"));
        let entities = expected_entities(&self.message);
        for cert in certs {
            let data = openers::open(cert, sealed.armor).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(entities.contains(&data), "{name}: {:?}", String::from_utf8_lossy(&data));
        }
        let log = self.log();
        assert_eq!((log["outcome"], log["reason"]), ("sealed", "-"), "{name}: {}", self.line);
        assert_eq!(log["keys"].split(',').count(), certs.len(), "{name}: {}", self.line);
        sealed.armor.to_vec()
    }

    /// Fails unless it came out as it went in, for this reason.
    #[track_caller]
    pub fn assert_unchanged(&self, name: &str, reason: &str) {
        assert!(is_unchanged(&self.message, &self.run), "{name}: {:?} {}", self.run.status, self.run.stderr);
        let log = self.log();
        assert_eq!((log["outcome"], log["reason"]), ("unchanged", reason), "{name}: {}", self.line);
    }

    /// Fails unless it ended with this status, logged this reason, and named `what` on standard error.
    #[track_caller]
    pub fn assert_failed(&self, name: &str, status: i32, reason: &str, what: &str) {
        self.run.assert_failed(name, status);
        let log = self.log();
        assert_eq!((log["outcome"], log["reason"]), ("deferred", reason), "{name}: {}", self.line);
        assert!(self.run.stderr.contains(what), "{name}: {what:?} is not in {}", self.run.stderr);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
