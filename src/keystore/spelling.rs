//! Edge: What could be a user's certificate under a name that no delivery reads: capitals, another normal form of Unicode,
//! a domain in ASCII for one in Unicode, another suffix, a dot or a blank too many.
//!
//! A delivery tries a fixed set of names and lists no folder of many users. [`read_back`] finds the rest, in a scan.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization as _;

use super::names::BESIDE;
use super::source::{Kind, Part, Source, Values};
use super::user::domain_forms;
use crate::error::Error;

/// What may stand behind a user's name in the name of a file that holds a certificate.
const SUFFIXES: [&str; 34] = [
    "", ".pgp", ".asc", ".gpg", ".key", ".pub", ".txt", ".pem", ".crt", ".cer", ".der", ".p7b", ".p7c",
    ".p7m", ".p12", ".pfx", ".PGP", ".ASC", ".GPG", ".KEY", ".PUB", ".TXT", ".PEM", ".CRT", ".CER", ".DER",
    ".P7B", ".P7C", ".P12", ".PFX", ".pgp.asc", ".asc.txt", ".pem.txt", ".crt.txt",
];

/// What may stand behind the whole name.
const TRAILING: [&str; 2] = [".", " "];

/// Refuses to take a user for one without a certificate where something lies in the place of `source` that could be it.
///
/// # Errors
/// [`Error::KeyStore`], which names it; those of [`super::source::Template::expand`].
pub fn refuse(source: &Source, values: &Values<'_>, given: &str) -> Result<(), Error> {
    if !matches!(source.kind, Kind::File | Kind::Dir) {
        return Ok(());
    }
    let parts = source.path.parts(values.user, values.home)?;
    let mut folder = PathBuf::from("/");
    for (number, part) in parts.iter().enumerate() {
        let name = part.name();
        let mut others = spellings(part, given);
        if number + 1 == parts.len() && (!part.value.is_empty() || source.kind == Kind::File) {
            others.extend(endings(&name));
        }
        for other in others.iter().filter(|other| **other != name && !other.is_empty()) {
            let path = folder.join(other);
            if is_there(&path)? {
                return Err(Error::KeyStore {
                    path,
                    what: format!(
                        "it looks like a certificate of {}, and no delivery reads it",
                        values.user.name()
                    ),
                    hint: format!("rename it to {}, or move it elsewhere", folder.join(name).display()),
                });
            }
        }
        folder.push(name);
    }
    Ok(())
}

/// Other spellings of the user's name in a part of a path: those that are the same in lower case and normal form C.
fn spellings(part: &Part, given: &str) -> Vec<String> {
    let Part { before, value, after } = part;
    if value.is_empty() {
        return Vec::new();
    }
    let mut rest = value.chars();
    let capital: String = rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect();
    // The last one is as the user's name was given.
    let mut values = vec![capital.clone(), value.to_uppercase(), value.replace(&given.to_lowercase(), given)];
    if !value.is_ascii() {
        values.extend([value.nfd().collect(), capital.nfd().collect()]);
    }
    values.extend(domain_forms(value).into_iter().filter(|form| !form.contains('/')));
    let names = values.iter().map(|value| format!("{before}{value}{after}"));
    names.chain([part.name().to_uppercase()]).collect()
}

/// The same name with other endings.
fn endings(part: &str) -> Vec<String> {
    let known =
        SUFFIXES.iter().filter(|end| !end.is_empty() && part.ends_with(**end)).max_by_key(|end| end.len());
    let stem = known.map_or(part, |end| &part[..part.len() - end.len()]);
    let suffixed = SUFFIXES.iter().map(|end| format!("{stem}{end}"));
    let trailing = TRAILING.iter().chain(&BESIDE).map(|end| format!("{part}{end}"));
    suffixed.chain(trailing).collect()
}

/// What a user's name, or a part of one, may be in the name of a file or folder, which is made of `before`, it, and `after`;
/// with whether a delivery finds it under just that name.
#[must_use]
pub fn read_back(name: &str, before: &str, after: &str) -> Option<(String, bool)> {
    let exact =
        name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).filter(|it| !it.is_empty());
    if let Some(exact) = exact.filter(|it| trimmed(&fold(it)) == *it) {
        return Some((exact.to_owned(), true));
    }
    if name.starts_with('.') {
        return None;
    }
    let folded = fold(name);
    let rest = trimmed(&folded);
    let rest = rest.strip_prefix(&fold(before)).unwrap_or(rest);
    let ends = SUFFIXES.iter().copied().chain([after]).chain(BESIDE).filter(|end| rest.ends_with(end));
    let stem = ends.max_by_key(|end| end.len()).map_or(rest, |end| &rest[..rest.len() - end.len()]);
    let stem = trimmed(stem.strip_suffix(after).unwrap_or(stem));
    (!stem.is_empty()).then(|| (stem.to_owned(), false))
}

fn fold(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '.')
}

fn is_there(path: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => Ok(false),
        // Below a file there is nothing.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Error::KeyStore {
            path: path.into(),
            what: error.to_string(),
            hint: "let the mail user look for files there".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::user::User;

    /// Whatever is read in a folder is a certificate of the user's under the user's name, too.
    #[test]
    fn each_key_file_has_another_spelling_here() {
        for end in crate::keystore::names::KEY_FILES {
            for end in [format!(".{end}"), format!(".{}", end.to_uppercase())] {
                assert!(SUFFIXES.contains(&&*end), "{end}");
                let name = format!("alice{end}");
                let found = Some(("alice".to_owned(), end == ".pgp"));
                assert_eq!(read_back(&name, "", ".pgp"), found, "{name}");
                assert_eq!(refuses("file:DIR/%{user}.pgp", "alice", &name), end != ".pgp", "{name}");
                assert_eq!(refuses("file:DIR/%{user}.pem", "alice", &name), end != ".pem", "{name}");
            }
        }
    }

    fn refuses(source: &str, user: &str, file: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        let home = dir.path().join("home");
        let source = source.replace("DIR", dir.path().to_str().unwrap());
        let parsed = User::parse(user).unwrap();
        let values = Values { user: &parsed, home: Some(&home), homes: &[] };
        refuse(&Source::try_from(source).unwrap(), &values, user).is_err()
    }

    #[test]
    fn other_spellings_are_refused() {
        const FILE: &str = "file:DIR/%{user}.pgp";
        const NESTED: &str = "file:DIR/%{domain}/%{local}.pgp";
        for (source, user, file) in [
            (FILE, "alice", "Alice.pgp"),
            (FILE, "alice", "ALICE.PGP"),
            (FILE, "AliCe", "AliCe.pgp"),
            (FILE, "alice", "alice.asc"),
            (FILE, "alice", "alice.PGP"),
            (FILE, "alice", "alice.gpg"),
            (FILE, "alice", "alice.key"),
            (FILE, "alice", "alice.txt"),
            (FILE, "alice", "alice"),
            (FILE, "alice", "alice.pgp."),
            (FILE, "alice", "alice.pgp "),
            (FILE, "alice", "alice.pgp.confirmed"),
            (FILE, "zo\u{eb}", "zoe\u{308}.pgp"),
            (FILE, "alice@example.org", "Alice@example.org.pgp"),
            (FILE, "bob@xn--bcher-kva.example", "bob@b\u{fc}cher.example.pgp"),
            (FILE, "bob@b\u{fc}cher.example", "bob@xn--bcher-kva.example.pgp"),
            (NESTED, "bob@b\u{fc}cher.example", "xn--bcher-kva.example/bob.pgp"),
            (NESTED, "alice@example.org", "example.org/alice.asc"),
            (NESTED, "alice@example.org", "EXAMPLE.ORG/alice.pgp"),
            ("dir:DIR/%{user}", "alice", "Alice/x.pgp"),
            ("dir:DIR/%{user}", "alice", "alice.pgp"),
            ("file:%{home}/key.pgp", "alice", "home/key.asc"),
        ] {
            assert!(refuses(source, user, file), "{source} {user} {file}");
        }
        for (source, user, file) in [
            (FILE, "alice", "bob.pgp"),
            (FILE, "alice", "malice.pgp"),
            (FILE, "alice", "alice2.pgp"),
            (FILE, "alice", "alice@example.org.pgp"),
            (NESTED, "alice@example.org", "example.com/alice.pgp"),
            ("dir:%{home}/.config/mailseal", "alice", "home/.config/Mailseal/x.pgp"),
            ("gnupg:DIR/%{user}", "alice", "Alice/pubring.kbx"),
        ] {
            assert!(!refuses(source, user, file), "{source} {user} {file}");
        }
    }

    #[test]
    fn a_scan_tells_for_whom_a_file_is_meant() {
        let of = |name: &str| read_back(name, "", ".pgp");
        let alice = |exact| Some(("alice".to_owned(), exact));
        assert_eq!(of("alice.pgp"), alice(true));
        for name in [
            "Alice.pgp",
            "alice.asc",
            "ALICE.PGP",
            "alice",
            "alice.pgp.",
            "alice .pgp",
            "alice.pgp.asc",
            "alice.pgp.confirmed",
        ] {
            assert_eq!(of(name), alice(false), "{name:?}");
        }
        assert_eq!(of("zoe\u{308}.pgp"), Some(("zo\u{eb}".into(), false)));
        assert_eq!(of(".pgp"), None);
        assert_eq!(read_back("K-Bob.txt", "k-", ""), Some(("bob".into(), false)));
        assert_eq!(read_back("k-bob", "k-", ""), Some(("bob".into(), true)));
    }

    #[test]
    fn what_no_delivery_could_mean_is_nobody_s() {
        const NESTED: &str = "file:DIR/%{domain}/%{local}.pgp";
        for (source, user, file) in [
            // Only the last part is the name of a file.
            (NESTED, "alice@example.org", "example.org.asc"),
            (NESTED, "alice@example.org", "example.org.pgp/x"),
            // A folder that is the same for all has no other endings.
            ("dir:%{home}/.config/mailseal", "alice", "home/.config/mailseal.pgp"),
            ("dir:DIR/keys", "alice", "keys.asc"),
            // Its name consists of an ending.
            ("file:DIR/.pgp", "alice", "note"),
            ("file:DIR/%{user}.pgp", "alice", "alice.pgp"),
        ] {
            assert!(!refuses(source, user, file), "{source} {user} {file}");
        }
        assert!(refuses("file:DIR/all.pgp", "alice", "all.pgp.confirmed"));
    }

    #[test]
    fn a_place_that_cannot_be_looked_at_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let user = User::parse("alice").unwrap();
        let values = Values { user: &user, home: None, homes: &[] };
        for (folder, fit) in [("loop", false), ("file", true), ("gone", true)] {
            let source = format!("file:{}/{folder}/%{{user}}.pgp", dir.path().display());
            let refused = refuse(&Source::try_from(source).unwrap(), &values, "alice");
            assert_eq!(refused.is_ok(), fit, "{folder}");
        }
    }

    #[test]
    fn a_name_is_read_back_only_where_there_is_one() {
        for (name, before, after) in [
            ("k-.pgp", "k-", ".pgp"),
            ("k-", "k-", ""),
            (" . ", "", ""),
            ("...", "", ""),
            (".alice.asc", "", ".pgp"),
        ] {
            assert_eq!(read_back(name, before, after), None, "{name:?}");
        }
        for (name, exact) in
            [(" alice", false), ("alice.", false), (".alice", false), ("alice", true), ("a b.c", true)]
        {
            let read = read_back(name, "", "");
            assert_eq!(read.is_some_and(|(_, exact)| exact), exact, "{name:?}");
        }
        assert_eq!(
            read_back("alice.asc.pgp.asc", "", ".x"),
            Some(("alice.asc".into(), false)),
            "the longest ending"
        );
    }
}
