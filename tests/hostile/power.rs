//! The power goes at any moment of a run: whatever the disk then holds, no message is lost, and the next run ends with
//! each there once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::record::{Content, Op, Random, Record, State};
use crate::strace::{self, measured};
use testing::admin::Admin;
use testing::mailbox::{CERT, plain_mails, program};
use testing::{filter, fixtures, openers, oracle};

/// States of a run that always run, and subsets at each of its points from which they are chosen.
const SOME: (usize, u32) = (30, 1 << 6);

/// The same in the long form.
const ALL: (usize, u32) = (usize::MAX, 1 << 7);

#[test]
fn a_power_cut_amid_a_rewrite_loses_nothing() {
    rewrites(SOME);
}

#[test]
#[ignore = "many minutes: 5,000 states"]
fn a_power_cut_at_any_moment_of_a_rewrite_loses_nothing() {
    let states = rewrites(ALL);
    assert!(states >= 5000, "{states} states");
}

/// Sealing and opening again, with new and kept UIDs, and the run after a kill; the number of states.
fn rewrites(most: (usize, u32)) -> usize {
    if !strace::is_there() {
        return 0;
    }
    let mut all = 0;
    for (name, way, options) in [
        ("encrypt-maildir", Way::Seal, &[][..]),
        ("encrypt-maildir --keep-uids", Way::Seal, &["--keep-uids"][..]),
        ("encrypt-maildir after a kill", Way::SealTwins, &[][..]),
        ("decrypt in place", Way::Open, &[][..]),
        ("decrypt in place --keep-uids", Way::Open, &["--keep-uids"][..]),
    ] {
        let site = Site::new(way);
        let record = site.record(options);
        let states = site.states(&record, most);
        for (number, (done, state)) in states.iter().enumerate() {
            let when = format!("{name}: state {number}, after {done} of {:?}", record.ops.len());
            site.lay(&record, state);
            site.check_kept().unwrap_or_else(|why| panic!("{when}: {why}; {state:?}"));
            let run = filter::run(&mut site.command(options), b"", 1);
            // 1: the clear text has a name elsewhere, in the bank.
            assert!(matches!(run.status, Some(0 | 1)), "{when}: {run:?}; {state:?}");
            site.check_done().unwrap_or_else(|why| panic!("{when}: {why}; {state:?}"));
        }
        measured(&format!(
            "power loss, {name}: {} states after each of {} operations: 0 lost, 0 twice after the next run",
            states.len(),
            record.ops.len()
        ));
        all += states.len();
    }
    all
}

/// The same check on programs that do not flush finds what they would lose.
#[test]
fn without_a_flush_the_states_show_a_loss() {
    if !strace::is_there() {
        return;
    }
    for broken in [Record::without_folder_flushes, Record::without_file_flushes] {
        let site = Site::new(Way::Seal);
        let record = broken(site.record(&[]));
        let lost = site.states(&record, (usize::MAX, SOME.1)).iter().any(|(_, state)| {
            site.lay(&record, state);
            site.check_kept().is_err()
        });
        assert!(lost, "no state shows it");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Clear messages are sealed.
    Seal,
    /// The same after a kill that left old and new ones together.
    SealTwins,
    /// Sealed messages are opened.
    Open,
}

/// A Maildir, laid out again for each state.
struct Site {
    way: Way,
    /// Beside the Maildir: hard links to what was in it in the beginning.
    dir: tempfile::TempDir,
    messages: Vec<Message>,
    opened: std::cell::RefCell<HashMap<(usize, Vec<u8>), bool>>,
}

struct Message {
    id: String,
    info: &'static str,
    bytes: Vec<u8>,
    modified: SystemTime,
}

const MESSAGES: usize = 5;

impl Site {
    fn new(way: Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bank", "md/cur", "md/new", "md/tmp"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("mailseal.toml"), "[log]\nto = \"none\"\n").unwrap();
        let mut list = format!("3 V1 N{} G00\n", MESSAGES + 1);
        let mut messages = Vec::new();
        for (number, mail) in plain_mails().into_iter().take(MESSAGES).enumerate() {
            let (place, info) = [("cur", ":2,FS"), ("new", ""), ("cur", ":2,")][number % 3];
            let id = format!("{}.M{number}P7.host", 1_700_000_000 + number);
            let path = dir.path().join("md").join(place).join(format!("{id}{info}"));
            fs::write(&path, &mail.bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + number as u64, 123_456_789);
            fs::File::open(&path).unwrap().set_modified(modified).unwrap();
            list += &format!("{} :{id}\n", number + 1);
            messages.push(Message { id, info, bytes: mail.bytes, modified });
        }
        fs::write(dir.path().join("md/dovecot-uidlist"), list).unwrap();
        let mut site = Self { way: Way::Seal, dir, messages, opened: Default::default() };
        if way == Way::SealTwins {
            // Killed when it unlinks the first old one.
            let traced = strace::Traced::new(&site.command(&[]), b"");
            let run = traced.run(&["-e", "inject=unlinkat:signal=KILL:when=1"], Path::new("/dev/null"));
            assert_ne!(run.status, Some(0), "{run:?}");
            let lock = site.md().join("dovecot-uidlist.lock");
            if lock.exists() {
                let old = SystemTime::now() - Duration::from_secs(600);
                fs::File::open(lock).unwrap().set_modified(old).unwrap();
            }
            let twice = site.messages.iter().filter(|message| site.files_of(message).len() == 2).count();
            assert!(twice > 1, "{twice} messages are there twice");
        }
        if way == Way::Open {
            assert_eq!(filter::run(&mut site.command(&[]), b"", 1).status, Some(0));
        }
        site.way = way;
        let initial = crate::record::files_below(&site.md());
        Record::bank(&initial, &site.dir.path().join("bank"));
        site
    }

    fn md(&self) -> PathBuf {
        self.dir.path().join("md")
    }

    fn command(&self, options: &[&str]) -> Command {
        if self.way == Way::Open {
            let mut command = Command::new(testing::program("mailseal"));
            command.args(["decrypt", "--jobs", "1", "--secret-key"]).arg(fixtures::secret(CERT));
            command.args(options).arg(self.md());
            return command;
        }
        let mut command = program();
        command.arg("--config").arg(self.dir.path().join("mailseal.toml"));
        command.arg("--key").arg(oracle::key(CERT)).args(["--jobs", "1"]).args(options).arg(self.md());
        command
    }

    fn record(&self, options: &[&str]) -> Record {
        let record = Record::of(&self.command(options), &self.md());
        self.check_done().unwrap();
        let flushes = record.ops.iter().filter(|op| matches!(op, Op::FlushFolder { .. })).count();
        assert!(flushes > 1 && record.ops.len() > 3 * MESSAGES, "{:?}", record.ops);
        record
    }

    /// States after each operation, each with the number of operations; about `most` of them, evenly chosen.
    fn states(&self, record: &Record, (most, subsets): (usize, u32)) -> Vec<(usize, State)> {
        let mut random = Random(1);
        let mut seen = HashSet::new();
        let mut states = Vec::new();
        for done in 0..=record.ops.len() {
            for mut state in record.states(done, subsets, &mut random) {
                let lock = self.md().join("dovecot-uidlist.lock");
                // Nobody can tell whose a torn lock is: Dovecot waits two minutes for it, and so do we.
                if matches!(state.get(&lock), Some(Content::Written { bytes, .. }) if !bytes.contains(&b':'))
                {
                    state.remove(&lock);
                }
                if seen.insert(state.clone()) {
                    states.push((done, state));
                }
            }
        }
        let step = states.len().div_ceil(most).max(1);
        states.into_iter().step_by(step).collect()
    }

    fn lay(&self, record: &Record, state: &State) {
        record.lay(state, &self.md(), &self.dir.path().join("bank"));
    }

    fn files_of(&self, message: &Message) -> Vec<PathBuf> {
        let found = ["cur", "new"].map(|place| crate::record::files_below(&self.md().join(place))).concat();
        let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&message.id);
        found.into_iter().filter(is_it).collect()
    }

    /// At every instant each message is there whole, at least once; nothing is there that is not whole.
    fn check_kept(&self) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate() {
            let files = self.files_of(message);
            if files.is_empty() {
                return Err(format!("{} is lost", message.id));
            }
            for path in files {
                let stored = fs::read(&path).unwrap();
                if stored != message.bytes && !self.opens(number, &stored) {
                    return Err(format!("{} is neither the original nor opens to it", path.display()));
                }
            }
        }
        Ok(())
    }

    /// After a whole run each message is there once, sealed or opened, with its flags, rights and date, and nothing else is.
    fn check_done(&self) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate() {
            let files = self.files_of(message);
            let [path] = &files[..] else { return Err(format!("{} is there as {files:?}", message.id)) };
            let stored = fs::read(path).unwrap();
            let is_sealed = stored != message.bytes && self.opens(number, &stored);
            if is_sealed != (self.way != Way::Open) {
                return Err(format!("{} is not as it should be", path.display()));
            }
            let metadata = fs::metadata(path).unwrap();
            if !path.to_str().unwrap().ends_with(message.info)
                || metadata.modified().unwrap() != message.modified
                || metadata.permissions().mode() & 0o777 != 0o640
            {
                return Err(format!("{} has other flags, rights or another date", path.display()));
            }
        }
        let others: Vec<_> = crate::record::files_below(&self.md())
            .into_iter()
            .filter(|path| !path.ends_with("dovecot-uidlist"))
            .collect();
        if others.len() != self.messages.len() {
            return Err(format!("there is more than the messages: {others:?}"));
        }
        Ok(())
    }

    fn opens(&self, number: usize, stored: &[u8]) -> bool {
        let mut opened = self.opened.borrow_mut();
        *opened.entry((number, stored.to_vec())).or_insert_with(|| {
            let original = &self.messages[number].bytes;
            let open = || {
                let sealed = oracle::check_outside(original, stored)?;
                Ok::<_, String>(openers::rpgp(CERT, sealed.armor)?.data)
            };
            open().is_ok_and(|data| oracle::expected_entities(original).contains(&data))
        })
    }
}

/// `keys add`: the certificates are those of before or those of after, whole; after success those of after.
#[test]
fn a_power_cut_amid_keys_add_leaves_the_old_or_the_new_certificate() {
    if !strace::is_there() {
        return;
    }
    let mut all = 0;
    for replaced in [false, true] {
        let admin = Admin::new();
        // The register of known users is there.
        admin.run(&["scan", "--users", "/dev/null"]).said();
        let (first, second) = (fixtures::cert("curve25519"), fixtures::cert("rsa3072"));
        let mut arguments = vec!["add", "alice"];
        if replaced {
            admin.run(&["add", "alice", first.to_str().unwrap()]).said();
            arguments.push("--replace");
        }
        arguments.push(second.to_str().unwrap());
        let root = admin.path("keys");
        let bank = tempfile::tempdir_in(admin.path("")).unwrap();
        Record::bank(&crate::record::files_below(&root), bank.path());
        let before = fs::read(admin.key_file("alice")).ok();
        let record = Record::of(&admin.command(&arguments), &root);
        let after = fs::read(admin.key_file("alice")).unwrap();
        assert_ne!(before.as_ref(), Some(&after));
        let mut random = Random(1);
        for done in 0..=record.ops.len() {
            for state in record.states(done, SOME.1, &mut random) {
                record.lay(&state, &root, bank.path());
                let when = format!("after {done} of {:?}: {state:?}", record.ops);
                let found = fs::read(admin.key_file("alice")).ok();
                assert!(found == before || found.as_ref() == Some(&after), "{when}: torn");
                if done == record.ops.len() {
                    assert_eq!(found.as_ref(), Some(&after), "{when}: the new one is lost");
                }
                // The next one works.
                let again = admin.run(&["add", "alice", "--replace", second.to_str().unwrap()]);
                assert_eq!(again.status, Some(0), "{when}: {}", again.stderr);
                all += 1;
            }
        }
    }
    measured(&format!("power loss, keys add: {all} states: the old or the new certificate, whole"));
}
