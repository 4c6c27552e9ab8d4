//! Edge: For whom something lies in a store of many users, whatever it is called: what only a scan can find out, because it
//! lists the store.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::names::BESIDE;
use super::source::{Kind, Pattern, Place, Source, Variable};
use super::spelling::read_back;
use super::trust::Trust;
use super::{may_be_certificate, safe_file};
use crate::error::Error;
use crate::keystore::user::User;
use crate::limits;

/// Something in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// For whom it is meant; `None` where its name is not that of a user.
    pub user: Option<User>,
    /// Whether a delivery to that user reads it.
    pub is_read: bool,
}

/// Whether the names in the store of `source` tell for whom it has certificates. Keyrings do not, nor does what lies in homes,
/// nor a path in which a user's name is cut in pieces that cannot be told apart.
#[must_use]
pub fn tells_users(source: &Source) -> bool {
    let has = |parts: &[Pattern], wanted| parts.iter().any(|part| part.variable == Some(wanted));
    matches!(source.kind, Kind::File | Kind::Dir)
        && source.path.patterns().is_some_and(|parts| {
            has(&parts, Variable::User) || has(&parts, Variable::Local) && has(&parts, Variable::Domain)
        })
}

/// What lies in the store of `source`; nothing where its names do not tell for whom ([`tells_users`]).
///
/// # Errors
/// [`Error::KeyStore`] where the store cannot be listed.
pub fn take(source: &Source) -> Result<Vec<Entry>, Error> {
    let Some(patterns) = source.path.patterns().filter(|_| tells_users(source)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    gather(Path::new("/"), &patterns, &Names::default(), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What the parts of a path say of the user.
#[derive(Clone, Debug)]
struct Names {
    user: Option<String>,
    local: Option<String>,
    domain: Option<String>,
    exact: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self { user: None, local: None, domain: None, exact: true }
    }
}

impl Names {
    fn with(&self, variable: Variable, value: String, exact: bool) -> Self {
        let mut names = self.clone();
        names.exact &= exact;
        match variable {
            Variable::User => names.user = Some(value),
            Variable::Local => names.local = Some(value),
            Variable::Domain => names.domain = Some(value),
            Variable::Home => {}
        }
        names
    }

    fn user(&self) -> Option<User> {
        let name = match (&self.user, &self.local, &self.domain) {
            (Some(user), ..) => user.clone(),
            (None, Some(local), Some(domain)) => format!("{local}@{domain}"),
            (None, Some(local), None) => local.clone(),
            (None, None, _) => return None,
        };
        User::parse(&name).ok()
    }
}

fn gather(folder: &Path, parts: &[Pattern], names: &Names, found: &mut Vec<Entry>) -> Result<(), Error> {
    let Some((part, rest)) = parts.split_first() else {
        let user = names.user();
        let is_read = names.exact && user.is_some();
        if is_read || may_be_somebodys(folder) {
            found.push(Entry { path: folder.into(), user, is_read });
        }
        return Ok(());
    };
    let Some(variable) = part.variable else {
        let path = folder.join(&part.before);
        return if rest.is_empty() && !is_there(&path)? { Ok(()) } else { gather(&path, rest, names, found) };
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Below another part that varies, not every folder has what the path goes on with.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                && (names.user.is_some() || names.local.is_some() || names.domain.is_some()) =>
        {
            return Ok(());
        }
        Err(error) => return Err(failed(folder, &error)),
    };
    let entries: Result<Vec<_>, _> = entries.collect();
    let entries = entries.map_err(|error| failed(folder, &error))?;
    let all: BTreeSet<OsString> = entries.iter().map(std::fs::DirEntry::file_name).collect();
    for entry in entries {
        let name = entry.file_name();
        let path = entry.path();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Some(name) = name.to_str() else {
            found.push(Entry { path, user: None, is_read: false });
            continue;
        };
        // What lies beside a user's file is not one.
        let beside = BESIDE.iter().filter_map(|end| name.strip_suffix(end));
        if beside.into_iter().any(|of| all.contains(std::ffi::OsStr::new(of))) {
            continue;
        }
        match read_back(name, &part.before, &part.after) {
            Some((value, exact)) => gather(&path, rest, &names.with(variable, value, exact), found)?,
            None if may_be_somebodys(&path) => found.push(Entry { path, user: None, is_read: false }),
            None => {}
        }
    }
    Ok(())
}

/// Whether what is not read may all the same be meant for a user: a folder, a file with the name of a key file, and one that
/// holds what may be a certificate; not a note.
fn may_be_somebodys(path: &Path) -> bool {
    if path.is_dir()
        || safe_file::is_named_as_key(path)
        || BESIDE.iter().any(|end| path.to_string_lossy().ends_with(end))
    {
        return true;
    }
    let place = Place::named(path.into(), Trust::of_owner(path, &[]));
    match safe_file::read_in_folder(&place, limits::KEY_FILE) {
        Ok(bytes) => bytes.is_some_and(|bytes| may_be_certificate(&bytes)),
        Err(_) => true,
    }
}

fn is_there(path: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(failed(path, &error)),
    }
}

fn failed(folder: &Path, error: &std::io::Error) -> Error {
    Error::KeyStore {
        path: folder.into(),
        what: error.to_string(),
        hint: "mount it, or make it: install -d -m 755 FOLDER".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn census(source: &str, files: &[&str]) -> Vec<(String, Option<String>, bool)> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let source = Source::try_from(source.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let entries = take(&source).unwrap().into_iter();
        let name = |path: &Path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        entries.map(|it| (name(&it.path), it.user.map(|user| user.name().to_owned()), it.is_read)).collect()
    }

    #[test]
    fn every_name_in_a_store_is_somebody_s() {
        let entry =
            |path: &str, user: Option<&str>, is_read| (path.to_owned(), user.map(str::to_owned), is_read);
        assert_eq!(
            census(
                "file:DIR/%{user}.pgp",
                &[
                    "alice.pgp",
                    "alice.pgp.confirmed",
                    "Bob.pgp",
                    "carol.asc",
                    "dave.pgp.test",
                    ".mailseal",
                    "...",
                ]
            ),
            [
                entry("Bob.pgp", Some("bob"), false),
                entry("alice.pgp", Some("alice"), true),
                entry("carol.asc", Some("carol"), false),
                entry("dave.pgp.test", Some("dave"), false),
            ]
        );
        assert_eq!(
            census(
                "file:DIR/%{domain}/%{local}.pgp",
                &["a.org/x.pgp", "A.net/y.pgp", "a.org/z.key", "notes"]
            ),
            [
                entry("A.net/y.pgp", Some("y@a.net"), false),
                entry("a.org/x.pgp", Some("x@a.org"), true),
                entry("a.org/z.key", Some("z@a.org"), false),
            ]
        );
        assert_eq!(census("dir:DIR/%{user}", &["alice/x.pgp"]), [entry("alice", Some("alice"), true)]);
        assert!(census("dir:%{home}/keys", &[]).is_empty() && census("cert-d:DIR", &["x"]).is_empty());
    }

    #[test]
    fn a_path_tells_users_where_all_of_their_name_is_in_it() {
        for (source, tells) in [
            ("file:/k/%{user}.pgp", true),
            ("dir:/k/%{user}", true),
            ("dir:/k/%{domain}/%{local}", true),
            ("dir:/k/%{domain}/%{user}", true),
            ("file:/k/%{local}.pgp", false),
            ("file:/k/%{domain}.pgp", false),
            ("file:/k/all.pgp", false),
            ("file:/k/%{local}@%{domain}", false),
            ("gnupg:/k/%{user}", false),
            ("file:%{home}/%{user}", false),
        ] {
            assert_eq!(tells_users(&Source::try_from(source.to_owned()).unwrap()), tells, "{source}");
        }
    }

    #[test]
    fn a_path_goes_on_behind_a_user_s_name() {
        let entry = |path: &str, user: &str, is_read| (path.to_owned(), Some(user.to_owned()), is_read);
        assert_eq!(
            census("file:DIR/%{user}/key.pgp", &["alice/key.pgp", "bob/other.pgp", "Carol/key.pgp", "file"]),
            [entry("Carol/key.pgp", "carol", false), entry("alice/key.pgp", "alice", true)]
        );
        assert_eq!(
            census(
                "dir:DIR/%{domain}/keys/%{local}",
                &["a.org/keys/alice/x.pgp", "a.org/bob/x.pgp", "b.org/x", "c.org", "d.org/keys"]
            ),
            [entry("a.org/keys/alice", "alice@a.org", true)]
        );
    }

    #[test]
    fn what_is_not_read_may_be_somebody_s() {
        let certificate = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        for name in ["k-", "k-alice.note", "note"] {
            write(name, "a note");
        }
        for name in ["k-.", "k-bob.backup", "k-carol.pgp.test"] {
            write(name, certificate);
        }
        write("k-.pgp", "");
        write(".k-dave.pgp", certificate);
        write("k-eve.asc", "");
        std::fs::create_dir(dir.path().join("k-frank")).unwrap();
        let name = std::ffi::OsStr::from_bytes(b"k-\xff.pgp");
        std::fs::write(dir.path().join(name), "").unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("k-heidi.pgp")).unwrap();
        let source = format!("file:{}/k-%{{user}}.pgp", dir.path().display());
        let entries = take(&Source::try_from(source).unwrap()).unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|it| (it.path.file_name().unwrap(), it.user.as_ref().map(User::name), it.is_read))
            .collect();
        let other = |name: &'static str, user| (std::ffi::OsStr::new(name), user, false);
        assert_eq!(
            found,
            [
                other("k-.", None),
                other("k-.pgp", None),
                other("k-bob.backup", Some("bob.backup")),
                other("k-carol.pgp.test", Some("carol")),
                other("k-eve.asc", Some("eve")),
                other("k-frank", Some("frank")),
                (std::ffi::OsStr::new("k-heidi.pgp"), Some("heidi"), true),
                (name, None, false),
            ]
        );
    }

    #[test]
    fn a_store_that_cannot_be_listed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::create_dir(dir.path().join("alice")).unwrap();
        let take =
            |text: &str| take(&Source::try_from(text.replace("DIR", dir.path().to_str().unwrap())).unwrap());
        assert!(take("file:DIR/gone/%{user}.pgp").is_err());
        assert!(take("file:DIR/file/%{user}.pgp").is_err());
        assert!(take(&format!("file:DIR/%{{user}}/{}", "x".repeat(300))).is_err());
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(
            take("file:DIR/%{domain}/%{local}.pgp").is_err(),
            "a link to itself may be a folder of users"
        );
    }
}
