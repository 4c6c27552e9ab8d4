//! What the programs say on a command line alone: help, versions, refusals. Each data file here holds one behaviour.
//!
//! A `*.trycmd` is Markdown. A block `console` holds commands, each with all that it says and, after `?`, its exit status;
//! nothing is on their standard input. A block `toml NAME` or `text NAME` is a file that the commands find in their working
//! folder; with a name that ends with `/`, an empty folder. All data files share that folder, in which `certs` is a copy of
//! `fixtures/certs`. `[CWD]` stands for its path, and `[..]` in what is said for any text.
//!
//! A `*.toml` is one command with an environment or standard input of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use trycmd::schema::Bin;

#[test]
fn says() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    for cert in files(&repository.join("fixtures/certs")) {
        write(&dir.path().join("certs").join(cert.file_name().unwrap()), &fs::read(&cert).unwrap());
    }
    let network = if cfg!(feature = "network") { "network" } else { "no-network" };
    let folders = ["help", "refusals", network].map(|name| repository.join("tests/cli").join(name));
    let mut written = HashMap::new();
    for path in folders.iter().flat_map(|folder| files(folder)) {
        for (name, text) in blocks(&fs::read_to_string(&path).unwrap()) {
            let old = written.insert(name.to_owned(), path.clone());
            assert!(old.is_none(), "{name} is in {} and in {}", path.display(), old.unwrap().display());
            let place = dir.path().join(name);
            if name.ends_with('/') {
                make_folder(&place)
            } else {
                write(&place, text.replace("[CWD]", dir.path().to_str().unwrap()).as_bytes())
            }
        }
    }
    // This process has no other test.
    std::env::set_current_dir(dir.path()).unwrap();
    let cases = trycmd::TestCases::new();
    for (name, path) in [
        ("mailseal", env!("CARGO_BIN_EXE_mailseal")),
        ("mailseal-filter", env!("CARGO_BIN_EXE_mailseal-filter")),
        ("encrypt-maildir", env!("CARGO_BIN_EXE_encrypt-maildir")),
    ] {
        cases.register_bin(name, Bin::Path(path.into()));
    }
    // The same on every machine: no colours, one width, neither Dovecot nor gpg.
    cases.env("NO_COLOR", "1").env("COLUMNS", "100").env("PATH", "/nonexistent");
    for folder in &folders {
        cases.case(folder.join("*.trycmd")).case(folder.join("*.toml"));
    }
    cases.run();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The files in a data file, with their names.
fn blocks(data: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut lines = data.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let inside = lines.by_ref().take_while(|line| !line.starts_with("```"));
        let text = inside.map(|line| format!("{line}\n")).collect();
        if let Some((_, name)) = info.split_once(' ') {
            found.push((name, text));
        }
    }
    found
}

/// Makes a folder that nobody else can write to, whatever the umask: the programs refuse others.
fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes a file of which the same is true, and makes the folder that it is in.
fn write(path: &Path, bytes: &[u8]) {
    make_folder(path.parent().unwrap());
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
