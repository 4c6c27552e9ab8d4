//! What a program did to files, as strace saw it, and every state that a disk may be in when the power goes.
//!
//! The model is stricter than any file system: what a file holds, its rights and dates, and each entry of a folder
//! are on the disk for certain only once that file or that folder was flushed; until then each may be missing,
//! alone or with others, in any order, and data may be cut or zeros. Only a rename within one folder is whole.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use testing::filter;

const CALLS: &str = "trace=openat,openat2,write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,link,linkat,\
                     fchmod,utimensat,ftruncate,mkdirat,mkdir,pwrite64,writev,copy_file_range";

/// One thing done to the files below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create { path: PathBuf, file: usize },
    Write { file: usize, bytes: Vec<u8> },
    Attributes { file: usize },
    Flush { file: usize },
    FlushFolder { folder: PathBuf },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Unlink { path: PathBuf },
}

/// A file of a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// As it was before the program began, with its inode; the number is that of the file.
    Initial(usize),
    /// Written by the program.
    Written { bytes: Vec<u8>, attributes: bool },
}

/// What is on the disk.
pub type State = BTreeMap<PathBuf, Content>;

/// What a program did.
#[derive(Clone, Debug)]
pub struct Record {
    /// The files that were there, by their numbers.
    pub initial: BTreeMap<PathBuf, usize>,
    pub ops: Vec<Op>,
    /// The attributes that each file had in the end: mode and modification time.
    attributes: BTreeMap<usize, (u32, SystemTime)>,
}

impl Record {
    /// Runs `command` to its end, with exit status 0 or 1, and records what it does below `root`.
    pub fn of(command: &Command, root: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut traced = Command::new("strace");
        traced.args(["-ff", "-ttt", "-y", "-xx", "-s", "10000000", "-E", "PATH=", "-e", CALLS, "-o"]);
        traced.arg(dir.path().join("log")).arg(command.get_program()).args(command.get_args());
        let initial: BTreeMap<PathBuf, usize> =
            files_below(root).into_iter().enumerate().map(|(number, path)| (path, number)).collect();
        let run = filter::run(traced.stdin(Stdio::null()), b"", 1);
        assert!(matches!(run.status, Some(0 | 1)), "{run:?}");
        let logs: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        // One thread does it all but for flushes, and waits for those before it goes on: so the calls are in the order in which
        // they began.
        let changing = logs.iter().filter(|log| log.lines().any(|line| changes(line, root)));
        assert!(changing.count() <= 1, "more than one thread changed files");
        let mut lines: Vec<(&str, &str)> =
            logs.iter().flat_map(|log| log.lines().filter_map(|line| line.split_once(' '))).collect();
        // Seconds since 1970, with six digits behind the point.
        lines.sort_by_key(|(time, _)| *time);
        let log: Vec<&str> = lines.into_iter().map(|(_, call)| call).collect();
        Self::parse(&log.join("\n"), root, initial)
    }

    fn parse(log: &str, root: &Path, initial: BTreeMap<PathBuf, usize>) -> Self {
        let mut files = initial.clone();
        let mut count = files.len();
        let mut record = Self { initial, ops: Vec::new(), attributes: BTreeMap::new() };
        // A thread that the process's end meets before strace has seen its call leaves question marks.
        for line in log.lines().filter(|line| !line.contains(" = -1 ") && !line.starts_with("???")) {
            let Some((name, arguments)) = line.split_once('(') else { continue };
            let (folder, strings) = arguments_of(arguments);
            let own = |path: &PathBuf| path.starts_with(root);
            let op = match name {
                "openat" | "openat2" if line.contains("O_CREAT") => {
                    let path = strings[0].clone();
                    if !own(&path) || files.contains_key(&path) {
                        assert!(!own(&path) || !line.contains("O_TRUNC"), "written in place: {path:?}");
                        continue;
                    }
                    files.insert(path.clone(), count);
                    count += 1;
                    Op::Create { path, file: count - 1 }
                }
                "write" => match files.get(&folder) {
                    Some(&file) => Op::Write { file, bytes: strings_of(arguments).remove(0) },
                    None => continue,
                },
                "fchmod" => match files.get(&folder) {
                    Some(&file) => Op::Attributes { file },
                    None => continue,
                },
                "utimensat" => match files.get(&folder) {
                    Some(&file) => Op::Attributes { file },
                    None => continue,
                },
                "fsync" | "fdatasync" => match files.get(&folder) {
                    Some(&file) => Op::Flush { file },
                    None if own(&folder) || folder == *root => Op::FlushFolder { folder },
                    None => continue,
                },
                "rename" | "renameat" | "renameat2" if own(&strings[0]) => {
                    let (from, to) = (strings[0].clone(), strings[1].clone());
                    let file = files.remove(&from).unwrap_or_else(|| panic!("{from:?} is renamed: {line}"));
                    files.insert(to.clone(), file);
                    Op::Rename { from, to, file }
                }
                "unlink" | "unlinkat" if own(&strings[0]) => {
                    files.remove(&strings[0]);
                    Op::Unlink { path: strings[0].clone() }
                }
                "openat" | "openat2" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" => {
                    continue;
                }
                _ => panic!("not understood: {line}"),
            };
            record.ops.push(op);
        }
        for (path, file) in files {
            if let Ok(metadata) = fs::metadata(&path) {
                record.attributes.insert(file, (metadata.mode() & 0o7777, metadata.modified().unwrap()));
            }
        }
        record
    }

    /// The record of a program that flushes no folders: a harness that finds no loss in it finds none at all.
    pub fn without_folder_flushes(mut self) -> Self {
        self.ops.retain(|op| !matches!(op, Op::FlushFolder { .. }));
        self
    }

    /// The same for files.
    pub fn without_file_flushes(mut self) -> Self {
        self.ops.retain(|op| !matches!(op, Op::Flush { .. }));
        self
    }

    /// The states in which the disk may be when the power goes after the first `done` operations: all of them where
    /// they are few, else those of `most` subsets of what is not there for certain.
    pub fn states(&self, done: usize, most: u32, random: &mut Random) -> Vec<State> {
        let ops = &self.ops[..done];
        let steps = steps(&self.initial, ops);
        let open: Vec<usize> = (0..steps.len()).filter(|&at| !steps[at].is_certain(ops)).collect();
        let all = 1u32.checked_shl(open.len() as u32).filter(|all| *all <= most);
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for number in 0..all.unwrap_or(most) {
            let subset = match (all, number) {
                (Some(_), _) => u64::from(number),
                // Nothing and all of it are always among them.
                (None, 0) => 0,
                (None, 1) => u64::MAX,
                (None, _) => random.next(),
            };
            for variant in 0..4 {
                let missing = |at: usize| {
                    open.iter()
                        .position(|&other| other == at)
                        .is_some_and(|bit| subset >> (bit % 64) & 1 == 0)
                };
                let state = self.state(ops, &steps, &missing, variant);
                if seen.insert(state.clone()) {
                    found.push(state);
                }
            }
        }
        found
    }

    fn state(&self, ops: &[Op], steps: &[Step], missing: &dyn Fn(usize) -> bool, variant: u32) -> State {
        let mut entries = self.initial.clone();
        for (_, step) in steps.iter().enumerate().filter(|(at, _)| !missing(*at)) {
            match &step.change {
                Change::Add(path, file) => {
                    entries.insert(path.clone(), *file);
                }
                Change::Remove(path, file) => {
                    if entries.get(path) == Some(file) {
                        entries.remove(path);
                    }
                }
                Change::Move(from, to, file) => {
                    if entries.get(from) == Some(file) {
                        entries.remove(from);
                    }
                    entries.insert(to.clone(), *file);
                }
            }
        }
        entries.into_iter().map(|(path, file)| (path, self.content(ops, file, variant))).collect()
    }

    /// What a file holds: all of it where it was flushed; else everything, nothing, a part, or zeros.
    fn content(&self, ops: &[Op], file: usize, variant: u32) -> Content {
        if self.initial.values().any(|initial| *initial == file) {
            return Content::Initial(file);
        }
        let flushed = ops.iter().rposition(|op| *op == Op::Flush { file }).unwrap_or(0);
        let (mut bytes, mut certain, mut attributes) = (Vec::new(), 0, true);
        for (at, op) in ops.iter().enumerate() {
            match op {
                Op::Write { file: of, bytes: written } if *of == file => {
                    bytes.extend_from_slice(written);
                    if at < flushed {
                        certain = bytes.len();
                    }
                }
                Op::Attributes { file: of } if *of == file => {
                    attributes = at < flushed || variant.is_multiple_of(2)
                }
                _ => {}
            }
        }
        match variant {
            0 => {}
            1 => bytes.truncate(certain),
            2 => bytes.truncate(certain + (bytes.len() - certain) / 2),
            _ => bytes[certain..].fill(0),
        }
        Content::Written { bytes, attributes }
    }

    /// Puts a state on the disk below `root`. `bank` holds the initial files by their numbers, hard links: their inodes
    /// are part of the state.
    pub fn lay(&self, state: &State, root: &Path, bank: &Path) {
        for path in files_below(root) {
            fs::remove_file(path).unwrap();
        }
        for (path, content) in state {
            match content {
                Content::Initial(file) => fs::hard_link(bank.join(file.to_string()), path).unwrap(),
                Content::Written { bytes, attributes } => {
                    fs::write(path, bytes).unwrap();
                    let file = fs::File::open(path).unwrap();
                    if let Some((mode, modified)) = self.attributes_of(path).filter(|_| *attributes) {
                        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                            .unwrap();
                        file.set_modified(modified).unwrap();
                    } else {
                        // A lock that is younger than two seconds is waited for.
                        file.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
                    }
                }
            }
        }
    }

    fn attributes_of(&self, path: &Path) -> Option<(u32, SystemTime)> {
        let named = |op: &Op| match op {
            Op::Create { path: of, file } if of == path => Some(*file),
            Op::Rename { to, file, .. } if to == path => Some(*file),
            _ => None,
        };
        self.attributes.get(&self.ops.iter().rev().find_map(named)?).copied()
    }

    /// Keeps the initial files, whatever becomes of their names.
    pub fn bank(initial: &[PathBuf], bank: &Path) {
        for (number, path) in initial.iter().enumerate() {
            fs::hard_link(path, bank.join(number.to_string())).unwrap();
        }
    }
}

/// A change of the entries of one folder.
#[derive(Debug)]
struct Step {
    at: usize,
    folder: PathBuf,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Add(PathBuf, usize),
    Remove(PathBuf, usize),
    Move(PathBuf, PathBuf, usize),
}

impl Step {
    /// Whether the folder was flushed since.
    fn is_certain(&self, ops: &[Op]) -> bool {
        ops[self.at..].iter().any(|op| matches!(op, Op::FlushFolder { folder } if *folder == self.folder))
    }
}

fn steps(initial: &BTreeMap<PathBuf, usize>, ops: &[Op]) -> Vec<Step> {
    let folder = |path: &Path| path.parent().unwrap().to_owned();
    let mut names: BTreeMap<&Path, usize> = initial.iter().map(|(path, file)| (&**path, *file)).collect();
    let mut steps = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Create { path, file } => {
                names.insert(path, *file);
                steps.push(Step { at, folder: folder(path), change: Change::Add(path.clone(), *file) });
            }
            Op::Rename { from, to, file } => {
                names.remove(&**from);
                names.insert(to, *file);
                if folder(from) == folder(to) {
                    let change = Change::Move(from.clone(), to.clone(), *file);
                    steps.push(Step { at, folder: folder(to), change });
                } else {
                    steps.push(Step { at, folder: folder(to), change: Change::Add(to.clone(), *file) });
                    steps.push(Step {
                        at,
                        folder: folder(from),
                        change: Change::Remove(from.clone(), *file),
                    });
                }
            }
            Op::Unlink { path } => {
                let file = names.remove(&**path).unwrap();
                steps.push(Step { at, folder: folder(path), change: Change::Remove(path.clone(), file) });
            }
            _ => {}
        }
    }
    steps
}

/// Numbers that look random, and are the same each time.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }
}

/// The files below a folder, sorted.
pub fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether a line of strace's is of a call that changes something below `root`: not one that flushes it, or reads.
fn changes(line: &str, root: &Path) -> bool {
    let call = line.split_once(' ').map_or(line, |(_, call)| call);
    let Some((name, arguments)) = call.split_once('(') else { return false };
    let (folder, strings) = arguments_of(arguments);
    let reads = name.starts_with("open") && !call.contains("O_CREAT");
    let changes = !reads && !["fsync", "fdatasync"].contains(&name) && !call.contains(" = -1 ");
    changes && strings.iter().chain([&folder]).any(|path| path.starts_with(root))
}

/// The path of the last descriptor, and the paths that the strings are, each below the descriptor before it.
fn arguments_of(arguments: &str) -> (PathBuf, Vec<PathBuf>) {
    let arguments = arguments.rsplit_once(") = ").map_or(arguments, |(before, _)| before);
    let (mut folder, mut strings) = (PathBuf::new(), Vec::new());
    for (at, piece) in arguments.match_indices(['<', '"']) {
        let rest = &arguments[at + 1..];
        // The end of a string is a quote as well; no escaped byte follows it.
        if !rest.starts_with("\\x") {
            continue;
        }
        let bytes = unescaped(rest);
        if piece == "<" {
            folder = PathBuf::from(OsString::from_vec(bytes));
        } else {
            strings.push(folder.join(std::ffi::OsStr::from_bytes(&bytes)));
        }
    }
    (folder, strings)
}

fn strings_of(arguments: &str) -> Vec<Vec<u8>> {
    arguments.match_indices("\"\\x").map(|(at, _)| unescaped(&arguments[at + 1..])).collect()
}

/// `\x41\x42…` up to whatever else.
fn unescaped(text: &str) -> Vec<u8> {
    let octets = text.as_bytes().chunks(4).take_while(|piece| piece.starts_with(b"\\x") && piece.len() == 4);
    octets.map(|piece| u8::from_str_radix(std::str::from_utf8(&piece[2..]).unwrap(), 16).unwrap()).collect()
}
