//! A Maildir whose owner turns it into links, FIFOs, devices and other folders while root seals it: nothing outside is
//! opened or changed, and no message is lost.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::record::{Random, files_below};
use crate::strace::measured;
use testing::mailbox::{CERT, ended, plain_mails, program};
use testing::{openers, oracle, skip};

const OWNER: u32 = 5000;
const MESSAGES: usize = 12;
const SWAPS: usize = 3000;
const MANY_SWAPS: usize = 100_000;

#[test]
fn a_hostile_owner_reaches_nothing_through_root() {
    race(SWAPS);
}

#[test]
#[ignore = "minutes: MAILSEAL_SWAPS=N says how many swaps"]
fn a_hostile_owner_reaches_nothing_through_root_in_many_races() {
    let swaps = std::env::var("MAILSEAL_SWAPS").ok().and_then(|text| text.parse().ok());
    race(swaps.unwrap_or(MANY_SWAPS));
}

fn race(swaps: usize) {
    if !nix::unistd::geteuid().is_root() {
        return skip::unless_ci("only root can be tricked");
    }
    let site = Site::new();
    let before = site.outside();
    let watch = site.watch();
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut runs = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(1);
            while done.load(Ordering::Relaxed) < swaps && !stop.load(Ordering::Relaxed) {
                let swapped = done.fetch_add(site.swap(&mut random), Ordering::Relaxed);
                if swapped % 50 == 0 {
                    site.renew();
                }
            }
        });
        let stopper = Stopper(&stop);
        while done.load(Ordering::Relaxed) < swaps {
            let sandbox = ["auto", "off"][runs % 2];
            site.run(&["--sandbox", sandbox]);
            runs += 1;
        }
        drop(stopper);
    });
    let opened = opened(&watch);
    assert!(opened.is_empty(), "opened or changed outside: {opened:?}");
    drop(watch);
    assert_eq!(before, site.outside(), "changed outside");
    for message in &site.messages {
        assert!(site.is_kept(message), "{} is lost", message.id);
    }
    measured(&format!(
        "{} swaps of folders and messages for links, FIFOs, devices and others' folders during {runs} runs as root: \
         nothing outside opened or changed, 0 lost",
        done.into_inner()
    ));
}

/// Ends the other thread when a check fails.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Message {
    id: String,
    bytes: Vec<u8>,
}

/// `home/Maildir` and `home/decoys` belong to the owner, `outside` to root.
struct Site {
    dir: tempfile::TempDir,
    messages: Vec<Message>,
}

/// What takes the place of folders, and what that of files. Each points at what everybody could open and change.
const FOLDER_DECOYS: [&str; 4] = ["link-to-maildir", "link-to-folder", "other-folder", "fifo"];
const FILE_DECOYS: [&str; 6] = ["link-to-file", "linked", "shadow", "fifo", "device", "other-folder"];

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["home/decoys", "outside/Maildir/cur", "outside/Maildir/new", "outside/Maildir/tmp"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for (name, mode) in
            [("bait", 0o666), ("Maildir/cur/1.M1P1.host:2,S", 0o666), ("linked", 0o644), ("shadow", 0o600)]
        {
            fs::write(path("outside").join(name), "Subject: of root\n\nNobody else's business.\n").unwrap();
            chmod(&path("outside").join(name), mode);
        }
        for folder in ["outside/Maildir", "outside/Maildir/cur", "outside/Maildir/new", "outside/Maildir/tmp"]
        {
            chmod(&path(folder), 0o777);
        }
        for folder in ["", "home", "outside"] {
            chmod(&path(folder), 0o755);
        }
        fs::write(path("mailseal.toml"), "[log]\nto = \"none\"\n").unwrap();
        chmod(&path("mailseal.toml"), 0o644);
        let mut messages = Vec::new();
        for folder in ["", ".Sent"] {
            for place in ["cur", "new", "tmp"] {
                fs::create_dir_all(path("home/Maildir").join(folder).join(place)).unwrap();
            }
        }
        for (number, mail) in plain_mails().into_iter().take(MESSAGES).enumerate() {
            let (folder, id) =
                (["", ".Sent"][number % 2], format!("{}.M{number}P7.host", 1_700_000_000 + number));
            let file = path("home/Maildir").join(folder).join("cur").join(format!("{id}:2,S"));
            fs::write(file, &mail.bytes).unwrap();
            messages.push(Message { id, bytes: mail.bytes });
        }
        let site = Self { dir, messages };
        site.give(&site.path("home"));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn give(&self, path: &Path) {
        lchown(path, Some(OWNER), Some(OWNER)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| self.give(&entry.unwrap().path()));
        }
    }

    /// What is outside: its bytes, rights, owner and time of change; not its names, one of which is a decoy.
    fn outside(&self) -> Vec<(PathBuf, Vec<u8>, u32, u32, i64)> {
        let files = files_below(&self.path("outside")).into_iter();
        files
            .map(|path| {
                let stat = fs::metadata(&path).unwrap();
                (path.clone(), fs::read(&path).unwrap(), stat.mode(), stat.uid(), stat.mtime_nsec())
            })
            .collect()
    }

    /// Sees whatever is opened outside; of the file that lies in the Maildir as well, only what changes it.
    fn watch(&self) -> Inotify {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let mut flags = AddWatchFlags::IN_ALL_EVENTS;
        // A name of the file that lies in the Maildir as well may come and go.
        let names = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF;
        flags.remove(names);
        for name in ["bait", "shadow", "Maildir", "Maildir/cur", "Maildir/new", "Maildir/tmp"] {
            watch.add_watch(&self.path("outside").join(name), flags).unwrap();
        }
        let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        watch.add_watch(&self.path("outside/linked"), changes).unwrap();
        watch
    }

    /// Puts a decoy in the place of something and that back again, at any moment of the run. The number of swaps.
    fn swap(&self, random: &mut Random) -> usize {
        let maildir = self.path("home/Maildir");
        let mut below = |limit: usize| (random.next() >> 17) as usize % limit;
        let folder = maildir.join(["", ".Sent"][below(2)]);
        let (target, decoys) = match below(7) {
            0 => (maildir, &FOLDER_DECOYS[..]),
            1 => (folder, &FOLDER_DECOYS[..]),
            2..=4 => (folder.join(["cur", "new", "tmp"][below(3)]), &FOLDER_DECOYS[..]),
            _ => {
                let place = folder.join(["cur", "tmp"][below(2)]);
                let Ok(entries) = fs::read_dir(place) else { return 0 };
                let names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
                match names.len() {
                    0 => return 0,
                    many => (names[below(many)].clone(), &FILE_DECOYS[..]),
                }
            }
        };
        let decoy = self.path("home/decoys").join(decoys[below(decoys.len())]);
        self.make(&decoy);
        if exchange(&decoy, &target).is_err() {
            return 0;
        }
        // From none at all to the time of a rewrite.
        std::thread::sleep(Duration::from_micros([0, 20, 200, 2000][below(4)]));
        if exchange(&decoy, &target).is_err() {
            // The decoy is gone, renamed or removed as the message it was taken for.
            let _ = renameat2(AT_FDCWD, &decoy, AT_FDCWD, &target, RenameFlags::RENAME_NOREPLACE);
        }
        1
    }

    /// Makes the decoy where it is not there.
    fn make(&self, decoy: &Path) {
        let outside = self.path("outside");
        let all = Mode::from_bits_truncate(0o666);
        let result = match decoy.file_name().unwrap().to_str().unwrap() {
            "link-to-maildir" => symlink(outside.join("Maildir"), decoy),
            "link-to-folder" => symlink(outside.join("Maildir/cur"), decoy),
            "link-to-file" => symlink(outside.join("bait"), decoy),
            "linked" => fs::hard_link(outside.join("linked"), decoy),
            "shadow" => fs::hard_link(outside.join("shadow"), decoy),
            "fifo" => nix::unistd::mkfifo(decoy, all).map_err(Into::into),
            "device" => mknod(decoy, SFlag::S_IFCHR, all, makedev(1, 5)).map_err(Into::into),
            _ => fs::create_dir(decoy),
        };
        // Root's files stay root's; what an owner can make is the owner's.
        if result.is_ok() && !["linked", "shadow", "device"].iter().any(|name| decoy.ends_with(name)) {
            lchown(decoy, Some(OWNER), Some(OWNER)).unwrap();
        }
    }

    /// Puts clear messages in again, so that there is always something to seal. Nothing is swapped meanwhile.
    fn renew(&self) {
        for (number, message) in self.messages.iter().enumerate().skip(1).step_by(3) {
            let folder = self.path("home/Maildir").join(["", ".Sent"][number % 2]).join("cur");
            let file = folder.join(format!("{}:2,S", message.id));
            let temporary = self.path("home").join("renewed");
            fs::write(&temporary, &message.bytes).unwrap();
            chown(&temporary, Some(OWNER), Some(OWNER)).unwrap();
            let _ = renameat2(AT_FDCWD, &temporary, AT_FDCWD, &file, RenameFlags::RENAME_NOREPLACE);
        }
    }

    fn run(&self, options: &[&str]) {
        let sealing = program();
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60"]).arg(sealing.get_program()).args(sealing.get_args());
        command.arg("--config").arg(self.path("mailseal.toml")).arg("--key").arg(oracle::key(CERT));
        command.args(["--jobs", "2"]).args(options).arg(self.path("home/Maildir"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = ended(command.spawn().unwrap());
        assert!(matches!(run.status, Some(0 | 1 | 64 | 75)), "{run:?}");
        assert!(!run.stderr.contains("Nobody else's business"), "{run:?}");
    }

    /// Whether a message is there whole, where the swaps may have left it.
    fn is_kept(&self, message: &Message) -> bool {
        let mut found = files_below(&self.path("home")).into_iter().filter(|path| path.is_file());
        found.any(|path| {
            let stored = fs::read(path).unwrap();
            stored == message.bytes || opens_to(&stored, &message.bytes)
        })
    }
}

fn opens_to(stored: &[u8], original: &[u8]) -> bool {
    oracle::check_outside(original, stored)
        .and_then(|sealed| openers::rpgp(CERT, sealed.armor))
        .is_ok_and(|opened| oracle::expected_entities(original).contains(&opened.data))
}

fn exchange(one: &Path, other: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
}

fn opened(watch: &Inotify) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok(events) = watch.read_events() {
        found.extend(events.into_iter().map(|event| format!("{:?} {:?}", event.mask, event.name)));
    }
    found
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
