//! Finds the fixtures and, where it is at hand, the corpus of real mail.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A mail of a folder: its file name without `.eml`, and its bytes.
#[derive(Debug, Clone)]
pub struct Mail {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// `fixtures/FOLDER`.
pub fn folder(name: &str) -> PathBuf {
    crate::repository().join("fixtures").join(name)
}

/// The certificate `fixtures/certs/NAME.pgp`.
pub fn cert(name: &str) -> PathBuf {
    folder("certs").join(format!("{name}.pgp"))
}

/// The secret key `fixtures/certs/NAME.sec.pgp`.
pub fn secret(name: &str) -> PathBuf {
    folder("certs").join(format!("{name}.sec.pgp"))
}

/// Every mail of `fixtures/FOLDER`.
pub fn mails(name: &str) -> Vec<Mail> {
    let mails = read(&folder(name));
    assert!(!mails.is_empty(), "no mail in fixtures/{name}");
    mails
}

/// Every mail of `../shared/corpus`, or `None` and a line that says so where that folder is missing.
pub fn corpus() -> Option<Vec<Mail>> {
    let folder = crate::repository().join("../shared/corpus");
    if !folder.is_dir() {
        eprintln!("skipped: no corpus of real mail at ../shared/corpus");
        return None;
    }
    let index = fs::read_to_string(folder.join("INDEX.tsv")).expect("the corpus has an index");
    let mails = read(&folder);
    assert_eq!(mails.len(), index.lines().count() - 1, "the corpus is not what its index says");
    Some(mails)
}

fn read(folder: &Path) -> Vec<Mail> {
    let mut mails: Vec<Mail> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| Mail {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            bytes: fs::read(&path).unwrap(),
        })
        .collect();
    mails.sort_by(|a, b| a.name.cmp(&b.name));
    mails
}
