//! A Maildir of which every message is known, and what must hold for it after anything.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::filter::Run;
use crate::fixtures::{self, Mail};
use crate::oracle;

/// The fixture certificate that everything is sealed to.
pub const CERT: &str = "curve25519";

/// A message that was put into the Maildir.
#[derive(Clone, Debug)]
pub struct Known {
    /// What its file is called up to its sizes; no other file begins so.
    pub id: String,
    folder: String,
    place: &'static str,
    name: String,
    info: String,
    bytes: Vec<u8>,
    sealed: bool,
}

/// The Maildir.
#[derive(Debug)]
pub struct Mailbox {
    dir: TempDir,
    config: tempfile::NamedTempFile,
    /// What is in it.
    pub known: Vec<Known>,
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Mailbox {
    /// A Maildir with an INBOX and these folders.
    pub fn new(folders: &[&str]) -> Self {
        Self::below(Path::new(&std::env::temp_dir()), folders)
    }

    /// The same, somewhere.
    pub fn below(parent: &Path, folders: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("maildir-").tempdir_in(parent).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in folders.iter().chain(&[""]) {
            for place in ["cur", "new", "tmp"] {
                fs::create_dir_all(dir.path().join(folder).join(place)).unwrap();
            }
        }
        // Elsewhere: what lies in a folder of the owner's configures nothing that root runs.
        let config = tempfile::Builder::new().prefix("mailseal-").suffix(".toml").tempfile().unwrap();
        fs::write(config.path(), "[log]\nto = \"none\"\n").unwrap();
        fs::set_permissions(config.path(), fs::Permissions::from_mode(0o644)).unwrap();
        Self { dir, config, known: Vec::new() }
    }

    /// One with the first `count` fixture mails in an INBOX.
    pub fn small(count: usize) -> Self {
        let mut mailbox = Self::new(&[]);
        for mail in plain_mails().into_iter().take(count) {
            mailbox.put("", "cur", ":2,S", &mail.bytes);
        }
        mailbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a message in that is to be sealed; its name carries its sizes, now and then.
    pub fn put(&mut self, folder: &str, place: &'static str, info: &str, bytes: &[u8]) {
        let number = self.known.len();
        let virtual_size = bytes.len() + bare_line_feeds(bytes);
        let sizes = match number % 3 {
            0 => format!(",S={},W={virtual_size}", bytes.len()),
            1 => format!(",S={}", bytes.len()),
            _ => String::new(),
        };
        self.put_as(folder, place, &sizes, info, bytes, true);
    }

    /// Puts a message into the INBOX that is to be sealed.
    pub fn put_as_is(&mut self, text: &str) {
        self.put("", "cur", ":2,S", text.as_bytes());
    }

    /// Puts a message in that is to stay as it is.
    pub fn put_unchanged(&mut self, folder: &str, place: &'static str, info: &str, bytes: &[u8]) {
        self.put_as(folder, place, "", info, bytes, false);
    }

    fn put_as(
        &mut self,
        folder: &str,
        place: &'static str,
        sizes: &str,
        info: &str,
        bytes: &[u8],
        sealed: bool,
    ) {
        let number = self.known.len();
        let id = format!("{}.M{number}P7.host", 1_700_000_000 + number);
        let name = format!("{id}{sizes}{info}");
        let path = self.path(folder).join(place).join(&name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode(number))).unwrap();
        fs::File::open(&path).unwrap().set_modified(time(number)).unwrap();
        let known =
            Known { id, folder: folder.into(), place, name, info: info.into(), bytes: bytes.into(), sealed };
        self.known.push(known);
    }

    /// The configuration.
    pub fn config(&self) -> &Path {
        self.config.path()
    }

    /// Where a known message was put.
    pub fn path_of(&self, known: &Known) -> PathBuf {
        self.path(&known.folder).join(known.place).join(&known.name)
    }

    /// Gives everything to another user.
    pub fn give(&self, user: u32) {
        give(self.dir.path(), user);
    }

    /// The program, sealing this Maildir to the fixture certificate.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.config());
        command.arg("--key").arg(oracle::key(CERT)).args(options).arg(self.dir.path());
        command
    }

    pub fn run(&self, options: &[&str]) -> Ended {
        ended(self.command(options).spawn().unwrap())
    }

    /// Runs it and expects it to leave nothing in clear.
    pub fn seal(&self) -> Ended {
        let ended = self.run(&[]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        ended
    }

    /// The files of a known message.
    pub fn files_of(&self, known: &Known) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for place in ["cur", "new"] {
            for entry in fs::read_dir(self.path(&known.folder).join(place)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if name
                    .strip_prefix(&*known.id)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
                {
                    found.push(path);
                }
            }
        }
        found
    }

    /// What must hold at every instant: each message is there, whole, at least once.
    pub fn assert_nothing_lost(&self, when: &str) {
        for known in &self.known {
            let files = self.files_of(known);
            assert!(!files.is_empty(), "{when}: {} is lost", known.name);
            for path in files {
                let stored = fs::read(&path).unwrap();
                let whole = stored == known.bytes || looks_whole(&stored);
                assert!(whole, "{when}: {} is torn: {} bytes", path.display(), stored.len());
            }
        }
    }

    /// What must hold in the end: each message is there once, sealed or as it was, with its flags, date and rights, and
    /// nothing else is.
    pub fn assert_sealed(&self, when: &str) {
        self.assert_done(when, |known| known.sealed);
    }

    /// The same, where it is open which messages have been sealed.
    pub fn assert_each_once(&self, when: &str) {
        for known in &self.known {
            assert_eq!(self.files_of(known).len(), 1, "{when}: {}", known.name);
        }
        self.assert_done(when, |known| fs::read(&self.files_of(known)[0]).unwrap() != known.bytes);
    }

    fn assert_done(&self, when: &str, is_sealed: impl Fn(&Known) -> bool) {
        for (number, known) in self.known.iter().enumerate() {
            let files = self.files_of(known);
            assert_eq!(files.len(), 1, "{when}: {} is there {files:?}", known.name);
            let (stored, metadata) = (fs::read(&files[0]).unwrap(), fs::metadata(&files[0]).unwrap());
            let name = files[0].file_name().unwrap().to_str().unwrap();
            if is_sealed(known) {
                let run = Run { status: Some(0), stdout: stored.clone(), stderr: String::new() };
                oracle::check_run(&known.bytes, &run, CERT, None)
                    .unwrap_or_else(|why| panic!("{when}: {}: {why}", known.name));
                assert_sizes(name, known, &stored);
            } else {
                assert_eq!(name, known.name, "{when}");
                assert!(stored == known.bytes, "{when}: {} was changed", known.name);
            }
            assert!(name.ends_with(&known.info), "{when}: {name} has not the flags of {}", known.name);
            assert_eq!(metadata.modified().unwrap(), time(number), "{when}: the date of {name}");
            assert_eq!(metadata.mode() & 0o777, mode(number), "{when}: the rights of {name}");
        }
        for Snapshot { path, .. } in snapshot(self.dir.path()) {
            assert!(
                !path.to_string_lossy().contains("/tmp/mailseal."),
                "{when}: {} was left",
                path.display()
            );
            assert!(!path.ends_with("dovecot-uidlist.lock"), "{when}: the lock was left");
        }
        let all = snapshot(self.dir.path()).iter().filter(|file| is_message(&file.path)).count();
        assert_eq!(all, self.known.len(), "{when}: messages in all");
    }
}

/// The program, with nothing but errors on standard error, and no doveadm in its reach.
pub fn program() -> Command {
    let mut command = Command::new(crate::program("encrypt-maildir"));
    command.args(["--progress", "never"]).env("PATH", "").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The fixture mails, shortest first; none is empty.
pub fn plain_mails() -> Vec<Mail> {
    let mut mails = fixtures::mails("mails");
    mails.sort_by_key(|mail| mail.bytes.len());
    mails
}

/// A file with all that a change would change.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub path: PathBuf,
    inode: u64,
    changed: (i64, i64),
    bytes: Vec<u8>,
}

/// Every file below `path`.
pub fn snapshot(path: &Path) -> Vec<Snapshot> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(snapshot(&path));
        } else {
            let mut bytes = Vec::new();
            if metadata.is_file() {
                fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            }
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            found.push(Snapshot { path, inode: metadata.ino(), changed, bytes });
        }
    }
    found
}

fn is_message(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::file_name);
    [Some(OsStr::new("cur")), Some(OsStr::new("new"))].contains(&parent)
}

fn assert_sizes(name: &str, known: &Known, stored: &[u8]) {
    let size = |letter: &str, of: &str| {
        let base = of.split(':').next().unwrap();
        base.split(',').find_map(|field| field.strip_prefix(letter)?.parse::<usize>().ok())
    };
    assert_eq!(size("S=", name), size("S=", &known.name).map(|_| stored.len()), "S of {name}");
    let virtual_size = stored.len() + bare_line_feeds(stored);
    assert_eq!(size("W=", name), size("W=", &known.name).map(|_| virtual_size), "W of {name}");
    let base = |name: &str| name.split(':').next().unwrap().to_owned();
    assert_ne!(base(name), base(&known.name), "the base of the old one");
}

/// A sealed message with its end; whether it opens is for the end of a test.
fn looks_whole(stored: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stored);
    let end = text.trim_end();
    text.contains("=_mailseal-") && end.ends_with("--") && end.contains("-----END PGP MESSAGE-----")
}

fn bare_line_feeds(bytes: &[u8]) -> usize {
    (0..bytes.len()).filter(|&at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r')).count()
}

fn mode(number: usize) -> u32 {
    [0o600, 0o640, 0o644][number % 3]
}

fn time(number: usize) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + number as u64 * 86_400, 123_456_789)
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

/// A sealed message of more than the look-ahead, as a run makes it.
pub fn large_ciphertext() -> String {
    let mut mailbox = Mailbox::new(&[]);
    let mut state = 1u64;
    let noise: String = (0..2_500_000)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if at % 77 == 76 { '\n' } else { char::from(b'!' + (state >> 58) as u8) }
        })
        .collect();
    mailbox.put_as_is(&format!("Subject: noise\n\n{noise}\n"));
    mailbox.seal();
    let stored = fs::read_to_string(&mailbox.files_of(&mailbox.known[0])[0]).unwrap();
    assert!(stored.len() > 2_000_000);
    stored
}

/// The armor of a sealed message as the text of another one.
pub fn inline(sealed: &str) -> String {
    let (begin, end) = ("-----BEGIN PGP MESSAGE-----", "-----END PGP MESSAGE-----");
    let armor = &sealed[sealed.find(begin).unwrap()..sealed.find(end).unwrap()];
    format!("Subject: inline\n\n{armor}{end}\n")
}
