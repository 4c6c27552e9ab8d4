//! `mailseal keys export --wkd`: the certificates of enrolled users as a Web Key Directory, which a web server hands out
//! (draft-koch-openpgp-webkey-service, section 3.1).
//!
//! A list in the directory names what was written there before: only that is replaced and taken away. Each file is replaced
//! whole.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use mailseal_maildir::durable;

use super::{Keys, say};
use crate::cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::enrol;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::trust::{Reached, Trust};
use crate::keystore::user::User;
use crate::keystore::wkd_names;
use crate::system::folder;

/// Where a web server looks, below its root.
const WELL_KNOWN: &str = ".well-known/openpgpkey";

/// The list of what was written, a path a line.
const LIST: &str = ".mailseal";

/// The file that says that a domain has a directory: empty, it says nothing else (section 4.5).
const POLICY: &str = "policy";

const MODE: u32 = 0o644;

/// Files of the directory by their paths in it; those without content stay as they are.
type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Keys<'_> {
    /// Makes the directory below `folder` hold the certificates of these `users`, or of all who are enrolled where there are
    /// none: for each domain by the advanced method, and by the direct one where there is one domain only. Of a certificate it
    /// has the User ID with the user's address. [`Exit::Negative`] where some users' could not be exported, each named on
    /// standard error; what was exported of them before stays.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where others could write to `folder`, where another program's file is in the way, and those of the
    /// file system.
    pub fn export(&self, folder: &Path, users: &[User], out: &mut impl Write) -> Result<Exit, Error> {
        let folder = std::path::absolute(folder).map_err(|error| failed(folder, &error))?;
        if let Reached::Missing = Trust::of_process(&[]).walk(&folder, Path::new("/"))? {
            return Err(refused(
                &folder,
                "there is no such folder",
                "make it: the root of what the web server hands out",
            ));
        }
        let root = folder.join(WELL_KNOWN);
        let before = listed(&root)?;
        let mut exit = Exit::Ok;
        let mut found: BTreeMap<(String, String), Option<Vec<u8>>> = BTreeMap::new();
        for user in self.exported(users)? {
            let page = self.page(&user).unwrap_or_else(|error| {
                cli::complain(cli::ADMIN, Some(user.name()), &error);
                exit = Exit::Negative;
                Some(Page { content: None, address: self.address(&user).unwrap_or_default() })
            });
            let Some(page) = page else { continue };
            let Some(place) = place(&page.address) else { continue };
            match found.entry(place) {
                Entry::Vacant(place) => {
                    if page.content.is_some() {
                        say(out, format_args!("{}", page.address))?;
                    }
                    place.insert(page.content);
                }
                Entry::Occupied(_) => {
                    cli::note(
                        cli::ADMIN,
                        &format!("{} is another user's, too: left out for {}", page.address, user.name()),
                    );
                    exit = Exit::Negative;
                }
            }
        }
        let files = layout(found);
        replace(&root, &before, &files)?;
        say(out, format_args!("{} certificates in {}", count(&files), root.display()))?;
        Ok(exit)
    }

    fn exported(&self, users: &[User]) -> Result<Vec<User>, Error> {
        if !users.is_empty() {
            return Ok(users.to_vec());
        }
        let entries = self.enrolled()?.entries()?;
        Ok(entries.into_iter().filter(|entry| entry.is_read).filter_map(|entry| entry.user).collect())
    }

    /// What is to be published of `user`; `None` for one who has S/MIME certificates alone.
    fn page(&self, user: &User) -> Result<Option<Page>, Error> {
        let address = self.address(user).filter(|address| place(address).is_some());
        let address = address.ok_or_else(|| Error::Address { address: user.name().into() })?;
        let file = self.enrolled()?.file(user, self.home.as_deref())?;
        let all = file.load()?;
        if !all.is_empty() && all.iter().all(|cert| cert.smime().is_some()) {
            return Ok(None);
        }
        let openpgp = all.iter().filter_map(AnyCert::openpgp).cloned();
        let certs = openpgp.filter(|cert| enrol::has_user_id(cert, &address)).map(|cert| {
            let is_address = |other: Option<&str>| other.is_some_and(|it| it.eq_ignore_ascii_case(&address));
            cert.retain_userids(|user_id| user_id.userid().email().is_ok_and(is_address)).into()
        });
        let certs: Vec<_> = certs.collect();
        if certs.is_empty() {
            let what = format!("no OpenPGP certificate in it has the address {address}");
            return Err(refused(file.path(), &what, "enrol one that has, or leave the user out"));
        }
        Ok(Some(Page { content: Some(any_cert::serialize(&certs)?), address }))
    }
}

/// The domain of an address as URLs have it, and the hash; `None` where it is no address of the Internet's.
fn place(address: &str) -> Option<(String, String)> {
    let (local, domain) = address.rsplit_once('@')?;
    let domain = idna::domain_to_ascii(domain).ok()?;
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (!local.is_empty() && domain.split('.').all(is_label)).then(|| (domain, wkd_names::hash(local)))
}

/// What is published of a user.
struct Page {
    address: String,
    /// `None` where that is not known.
    content: Option<Vec<u8>>,
}

/// Where the certificates of domains and hashes lie, with the policies of the domains.
fn layout(found: BTreeMap<(String, String), Option<Vec<u8>>>) -> Files {
    let domains: BTreeSet<String> = found.keys().map(|(domain, _)| domain.clone()).collect();
    let mut files = Files::new();
    for ((domain, hash), content) in found {
        let page = Path::new("hu").join(hash);
        if domains.len() == 1 {
            files.insert(page.clone(), content.clone());
        }
        files.insert(Path::new(&domain).join(page), content);
    }
    if domains.len() == 1 {
        files.insert(POLICY.into(), Some(Vec::new()));
    }
    files.extend(domains.iter().map(|domain| (Path::new(domain).join(POLICY), Some(Vec::new()))));
    files
}

/// How many certificates of the advanced method there are.
fn count(files: &Files) -> usize {
    files.keys().filter(|path| path.components().count() == 3).count()
}

/// Puts `files` in the place of those that were there `before`.
fn replace(root: &Path, before: &BTreeSet<PathBuf>, files: &Files) -> Result<(), Error> {
    let exists = |path: &Path| root.join(path).symlink_metadata().is_ok();
    if let Some(foreign) = files.keys().find(|path| !before.contains(*path) && exists(path)) {
        let what = "it is there already, and not from `mailseal keys export`";
        return Err(refused(&root.join(foreign), what, "export to another folder, or remove it"));
    }
    make_folder(root)?;
    // After a crash, what was written since can be told from what is another's.
    write_list(root, before.iter().chain(files.keys()))?;
    for (path, content) in files {
        let Some(content) = content else { continue };
        let file = root.join(path);
        make_folder(file.parent().unwrap_or(root))?;
        durable::write(&file, content, MODE).map_err(|error| failed(&file, &error))?;
    }
    for gone in before.iter().filter(|path| !files.contains_key(*path)) {
        let file = root.join(gone);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&file, &error)),
            _ => {}
        }
    }
    write_list(root, files.keys().filter(|path| exists(path)))
}

/// What was written before. Only paths that stay in the directory are believed.
fn listed(root: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let list = root.join(LIST);
    let text = match std::fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(&list, &error)),
    };
    let stays = |path: &&Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    Ok(text.lines().map(Path::new).filter(stays).map(Path::to_owned).collect())
}

fn write_list<'a>(root: &Path, paths: impl Iterator<Item = &'a PathBuf>) -> Result<(), Error> {
    let paths: BTreeSet<&PathBuf> = paths.collect();
    let text: String = paths.iter().map(|path| format!("{}\n", path.display())).collect();
    let list = root.join(LIST);
    durable::write(&list, text.as_bytes(), MODE).map_err(|error| failed(&list, &error))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    folder::make_all(path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    refused(path, &error.to_string(), "let whoever runs this write there")
}

fn refused(path: &Path, what: &str, hint: &str) -> Error {
    Error::KeyStore { path: path.into(), what: what.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_place_only_in_a_domain_of_the_internet() {
        let alice = "kei1q4tipxxu1yj79k9kfukdhfy631xe";
        for (address, domain) in [
            ("alice@example.org", Some("example.org")),
            ("Alice@Example.ORG", Some("example.org")),
            ("alice@b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("alice@localhost", Some("localhost")),
            ("alice@..", None),
            ("alice@../../etc", None),
            ("alice@", None),
            ("@example.org", None),
            ("alice", None),
            ("alice@[127.0.0.1]", None),
            ("alice@a b", None),
        ] {
            let expected = domain.map(|domain| (domain.to_owned(), alice.to_owned()));
            assert_eq!(place(address), expected, "{address}");
        }
    }

    #[test]
    fn only_what_stays_in_the_directory_is_taken_from_a_list() {
        let dir = tempfile::tempdir().unwrap();
        assert!(listed(dir.path()).unwrap().is_empty());
        std::fs::write(dir.path().join(LIST), "hu/x\n../y\n/etc/z\na/../../b\n").unwrap();
        assert_eq!(listed(dir.path()).unwrap(), BTreeSet::from([PathBuf::from("hu/x")]));
    }

    #[test]
    fn the_direct_method_is_for_one_domain() {
        let page = |domain: &str| ((domain.to_owned(), "h".to_owned()), Some(vec![1]));
        let paths =
            |files: Files| files.into_keys().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let one = layout(BTreeMap::from([page("a.example")]));
        assert_eq!(count(&one), 1);
        assert_eq!(paths(one), ["a.example/hu/h", "a.example/policy", "hu/h", "policy"]);
        let two = layout(BTreeMap::from([page("a.example"), page("b.example")]));
        assert_eq!(count(&two), 2);
        assert_eq!(paths(two), ["a.example/hu/h", "a.example/policy", "b.example/hu/h", "b.example/policy"]);
    }
}
