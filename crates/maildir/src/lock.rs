//! Edge: Dovecot's lock on a folder: the file `dovecot-uidlist.lock`, taken and honoured as Dovecot does it.
//!
//! It holds back STORE, EXPUNGE, APPEND, SELECT and deliveries while messages get other names. A lock is stale when its
//! process is on this host and ended, or when neither it nor `dovecot-uidlist` has changed for two minutes
//! (Dovecot's `file-dotlock.c` and `maildir-uidlist.c`).

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::Pid;

use super::dir::{Dir, Kind, Stamp};
use super::patience::Patience;

/// Dovecot's list of the UIDs of a folder.
pub const UIDLIST: &str = "dovecot-uidlist";

const LOCK: &str = "dovecot-uidlist.lock";

/// What the name of a lock begins with until it is in its place; the next run removes those that a killed one left.
pub(super) const PREFIX: &str = "dovecot-uidlist.lock.mailseal.";

/// As `MAILDIR_UIDLIST_LOCK_STALE_TIMEOUT`.
const STALE: Duration = Duration::from_secs(120);

/// How long a lock is waited for at most: longer than one can be stale without being seen to be.
const LONGEST: Duration = Duration::from_secs(180);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock<'a> {
    control: &'a Dir,
    inode: u64,
}

impl<'a> Lock<'a> {
    /// Waits for the lock of the folder whose control folder this is.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] when it could not be had within three minutes, those of [`Patience::wait`], and those of the
    /// file system.
    pub fn take(control: &'a Dir, patience: &Patience) -> io::Result<Self> {
        let begin = Instant::now();
        let mut watch = Watch::default();
        loop {
            if !control.has(LOCK, Kind::File)
                && let Some(lock) = Self::place(control)?
            {
                return Ok(lock);
            }
            if watch.is_stale(control)? {
                match control.unlink(OsStr::new(LOCK)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    // Whoever found it stale at the same time must not remove the next one.
                    _ => std::thread::sleep(PAUSE * 3),
                }
                continue;
            }
            if begin.elapsed() > LONGEST {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("{LOCK} is held by another process"),
                ));
            }
            patience.wait(PAUSE, LOCK)?;
        }
    }

    /// Removes the lock of a process that was killed; another's is waited for.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn clear(control: &'a Dir, patience: &Patience) -> io::Result<()> {
        if control.has(LOCK, Kind::File) { Self::take(control, patience).map(drop) } else { Ok(()) }
    }

    /// Puts a lock in its place together with what it holds: from one that names no process, whoever was killed just then
    /// would keep everybody else waiting. `None` where there is one already.
    fn place(control: &'a Dir) -> io::Result<Option<Self>> {
        let (name, mut file) = control.create_unique(PREFIX, 0o666)?;
        let inode = Stamp::of(&fstat(&file)?).inode;
        let placed = file
            .write_all(format!("{}:{}", std::process::id(), host()).as_bytes())
            .and_then(|()| control.rename(&name, control, OsStr::new(LOCK)));
        match placed {
            Ok(()) => Ok(Some(Self { control, inode })),
            Err(error) => {
                // What stays is removed by the next run.
                let _ = control.unlink(&name);
                if error.kind() == ErrorKind::AlreadyExists { Ok(None) } else { Err(error) }
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Another's, if ours was taken to be stale.
        if self.control.stat(OsStr::new(LOCK)).is_ok_and(|stat| Stamp::of(&stat).inode == self.inode) {
            // A lock that cannot be removed is found stale: our process will have ended.
            let _ = self.control.unlink(OsStr::new(LOCK));
        }
    }
}

/// What was seen of another's lock.
#[derive(Default)]
struct Watch {
    seen: Option<(Stamp, i64)>,
    list: Option<(Stamp, i64)>,
    last_change: Option<SystemTime>,
}

impl Watch {
    /// Whether the lock that is there now may be removed.
    fn is_stale(&mut self, control: &Dir) -> io::Result<bool> {
        let now = SystemTime::now();
        let (file, stat) = match control.open_file(OsStr::new(LOCK)) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        note(&mut self.seen, &mut self.last_change, &stat, now);
        let mut text = String::new();
        // What cannot be read names no process.
        let _ = file.take(512).read_to_string(&mut text);
        if let Some(pid) = local_process(&text) {
            let ended = pid == Pid::this() || kill(pid, None) == Err(Errno::ESRCH);
            let same =
                control.stat(OsStr::new(LOCK)).is_ok_and(|again| Stamp::of(&again) == Stamp::of(&stat));
            return Ok(ended && same);
        }
        if since(self.last_change, now) > STALE
            && let Ok(list) = control.stat(OsStr::new(UIDLIST))
        {
            note(&mut self.list, &mut self.last_change, &list, now);
        }
        Ok(since(self.last_change, now) > STALE)
    }
}

/// Notes that a file is not as it was: at its own time of change when it is seen first, now otherwise.
fn note(
    seen: &mut Option<(Stamp, i64)>,
    last_change: &mut Option<SystemTime>,
    stat: &FileStat,
    now: SystemTime,
) {
    let state = (Stamp::of(stat), stat.st_ctime);
    if *seen == Some(state) {
        return;
    }
    let own = if time(stat.st_mtime) <= now { stat.st_mtime.max(stat.st_ctime) } else { stat.st_ctime };
    let changed = if seen.is_none() { time(own) } else { now };
    *last_change = (*last_change).max(Some(changed));
    *seen = Some(state);
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

fn since(then: Option<SystemTime>, now: SystemTime) -> Duration {
    then.and_then(|then| now.duration_since(then).ok()).unwrap_or_default()
}

/// The process on this host that a lock names.
fn local_process(text: &str) -> Option<Pid> {
    let (pid, of) = text.trim_end_matches('\n').split_once(':')?;
    let pid: i32 = pid.parse().ok().filter(|pid| *pid > 0)?;
    (of == host()).then(|| Pid::from_raw(pid))
}

fn host() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// No process: above what Linux gives.
    const NOBODY: u32 = 2_000_000_000;

    fn aged(path: &std::path::Path, text: &str) {
        fs::write(path, text).unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn the_lock_is_dovecots_and_goes_with_its_holder() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join(LOCK);
        let control = Dir::open(temporary.path()).unwrap();
        let lock = Lock::take(&control, &Patience::default()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}:{}", std::process::id(), host()));
        drop(lock);
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_is_never_seen_without_its_process() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join(LOCK);
        let control = Dir::open(temporary.path()).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    if let Ok(text) = fs::read_to_string(&path) {
                        assert_eq!(local_process(&text), Some(Pid::this()), "{text:?}");
                    }
                }
            });
            for _ in 0..5000 {
                Lock::take(&control, &Patience::default()).unwrap();
            }
            ended.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(control.entries().unwrap(), [], "nothing is left behind");
    }

    #[test]
    fn the_lock_of_a_process_that_ended_is_removed_at_once() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        aged(&temporary.path().join(LOCK), &format!("{NOBODY}:{}", host()));
        let begin = Instant::now();
        Lock::take(&control, &Patience::default()).unwrap();
        assert!(begin.elapsed() < STALE);
    }

    #[test]
    fn anothers_lock_is_honoured() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        let path = temporary.path().join(LOCK);
        // Init is alive; of a process on another host nothing is known.
        for text in [format!("1:{}", host()), "1:elsewhere.example".into(), "nonsense".into()] {
            aged(&path, &text);
            assert!(!Watch::default().is_stale(&control).unwrap(), "{text}");
        }
    }

    #[test]
    fn without_a_process_two_minutes_without_change_make_it_stale() {
        let now = SystemTime::now();
        let at = |seconds| now - Duration::from_secs(seconds);
        assert!(since(Some(at(121)), now) > STALE);
        assert!(since(Some(at(119)), now) <= STALE);
    }

    #[test]
    fn a_lock_that_was_lost_is_not_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        let path = temporary.path().join(LOCK);
        let lock = Lock::take(&control, &Patience::default()).unwrap();
        let other = temporary.path().join("other");
        fs::write(&other, "1:elsewhere").unwrap();
        fs::rename(&other, &path).unwrap();
        drop(lock);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1:elsewhere");
    }

    #[test]
    fn a_process_of_this_host_is_named_by_a_number_above_zero() {
        for (text, expected) in [
            (format!("7:{}", host()), Some(7)),
            (format!("7:{}\n", host()), Some(7)),
            (format!("0:{}", host()), None),
            (format!("-7:{}", host()), None),
            (format!("x:{}", host()), None),
            ("7:elsewhere.example".into(), None),
            ("7".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(local_process(&text), expected.map(Pid::from_raw), "{text:?}");
        }
        assert!(!host().is_empty());
        let named = nix::unistd::gethostname().unwrap();
        assert_eq!(host(), named.to_string_lossy());
    }

    #[test]
    fn a_file_has_changed_when_it_says_so_first_and_when_it_is_seen_to_after() {
        let temporary = tempfile::tempdir().unwrap();
        let mut stat = Dir::open(temporary.path()).unwrap().stat_self().unwrap();
        let now = time(1_000_000);
        let (mut seen, mut last) = (None, None);
        (stat.st_mtime, stat.st_ctime) = (500, 400);
        note(&mut seen, &mut last, &stat, now);
        assert_eq!(last, Some(time(500)), "the later of its times");
        note(&mut seen, &mut last, &stat, time(2_000_000));
        assert_eq!(last, Some(time(500)), "it is as it was");
        stat.st_ctime = 450;
        note(&mut seen, &mut last, &stat, now);
        assert_eq!(last, Some(now), "it has changed since");
        let (mut seen, mut last) = (None, None);
        (stat.st_mtime, stat.st_ctime) = (1_000_001, 400);
        note(&mut seen, &mut last, &stat, now);
        assert_eq!(last, Some(time(400)), "a time to come is not believed");
        let (mut seen, mut last) = (None, Some(time(600)));
        (stat.st_mtime, stat.st_ctime) = (1_000_000, 400);
        note(&mut seen, &mut last, &stat, now);
        assert_eq!(last, Some(now), "this moment is");
        assert_eq!(time(-1), SystemTime::UNIX_EPOCH);
        assert_eq!((since(None, now), since(Some(time(2_000_000)), now)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_lock_without_a_process_is_stale_when_neither_it_nor_the_list_changes() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        let path = temporary.path().join(LOCK);
        fs::write(&path, "1:elsewhere.example").unwrap();
        let stat = control.stat(OsStr::new(LOCK)).unwrap();
        let watch = |ago: u64| Watch {
            seen: Some((Stamp::of(&stat), stat.st_ctime)),
            list: None,
            last_change: Some(SystemTime::now() - Duration::from_secs(ago)),
        };
        assert!(watch(125).is_stale(&control).unwrap());
        assert!(!watch(115).is_stale(&control).unwrap());
        fs::write(temporary.path().join(UIDLIST), "").unwrap();
        assert!(!watch(125).is_stale(&control).unwrap(), "the list has just changed");
        fs::remove_file(&path).unwrap();
        assert!(!watch(125).is_stale(&control).unwrap(), "there is none any more");
        fs::create_dir(&path).unwrap();
        assert!(watch(125).is_stale(&control).is_err());
    }

    #[test]
    fn our_own_lock_is_of_a_process_that_ended() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        for (process, stale) in [(std::process::id(), true), (NOBODY, true), (1, false)] {
            fs::write(temporary.path().join(LOCK), format!("{process}:{}", host())).unwrap();
            assert_eq!(Watch::default().is_stale(&control).unwrap(), stale, "{process}");
        }
    }

    #[test]
    fn a_lock_is_waited_for_and_a_dead_one_cleared() {
        let temporary = tempfile::tempdir().unwrap();
        let control = Dir::open(temporary.path()).unwrap();
        let path = temporary.path().join(LOCK);
        let patience = || Patience::of(Some(Duration::from_millis(60)), Default::default());
        fs::write(&path, format!("1:{}", host())).unwrap();
        assert_eq!(Lock::take(&control, &patience()).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(Lock::clear(&control, &patience()).unwrap_err().kind(), ErrorKind::TimedOut);
        fs::write(&path, format!("{NOBODY}:{}", host())).unwrap();
        Lock::clear(&control, &patience()).unwrap();
        assert!(!path.exists());
        Lock::clear(&control, &patience()).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Lock::take(&control, &patience()).is_err());
        let gone = tempfile::tempdir().unwrap();
        let control = Dir::open(gone.path()).unwrap();
        gone.close().unwrap();
        assert_eq!(Lock::take(&control, &patience()).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
