//! Messages are replaced in a real folder, and what other programs do meanwhile is done between the steps.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::commit::{Committed, Uids};
use super::draft::{Change, Drafted, Ready};
use super::folder::{Folder, Message, Place};
use super::layout::Maildir;
use super::lock::UIDLIST;
use super::recover::{Recovered, Unlinked, recover};
use super::tag::Tag;
use crate::error::Error;

struct Site {
    dir: TempDir,
    folder: Folder,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cur", "new", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let folder = Maildir::open(dir.path(), None).unwrap().folder(Path::new("")).unwrap();
        Self { dir, folder }
    }

    fn with(name: &str) -> Self {
        let site = Self::new();
        site.write(name, b"a\nb\r\n");
        site
    }

    fn write(&self, name: &str, text: &[u8]) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn message(&self) -> Message {
        let messages = self.folder.list().unwrap().messages;
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.into_iter().next().unwrap()
    }

    fn names(&self, place: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(place)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A draft of the only message: a mark before what it is.
    fn draft(&self) -> Box<Ready<'_>> {
        let drafted = self.folder.draft(&self.message(), |original, draft| {
            let mut text = b"new\n".to_vec();
            original.file().read_to_end(&mut text).unwrap();
            draft.write_all(&text).unwrap();
            Ok::<_, Error>(Change::Replace(()))
        });
        match drafted.unwrap() {
            Drafted::Ready(ready, ()) => ready,
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self, ready: Box<Ready<'_>>, uids: Uids) -> Result<Committed, Error> {
        self.folder.commit(vec![ready], uids).pop().unwrap()
    }
}

const REPLACED: Committed = Committed::Replaced { links: 0 };

#[test]
fn a_message_is_replaced_with_all_that_belongs_to_it() {
    let site = Site::with("cur/1.host,S=5,W=6,X=y:2,FSa");
    let before = fs::metadata(site.path("cur/1.host,S=5,W=6,X=y:2,FSa")).unwrap();
    assert_eq!(site.commit(site.draft(), Uids::New).unwrap(), REPLACED);
    let message = site.message();
    let name = message.name.as_os_str().to_str().unwrap();
    assert!(name.starts_with("1.host.s") && name.ends_with(",S=9,W=11,X=y:2,FSa"), "{name}");
    let path = site.folder.path_of(&message);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"new\na\nb\r\n");
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.mode(), before.mode());
    assert_eq!((site.names("tmp").len(), site.path("dovecot-uidlist.lock").exists()), (0, false));
}

#[test]
fn what_clients_do_meanwhile_is_kept() {
    let site = Site::with("new/1.host");
    let ready = site.draft();
    fs::rename(site.path("new/1.host"), site.path("cur/1.host:2,S")).unwrap();
    assert_eq!(site.commit(ready, Uids::New).unwrap(), REPLACED);
    assert_eq!((site.message().place, site.message().name.flags()), (Place::Cur, &b"S"[..]));

    let site = Site::with("cur/1.host:2,S");
    let ready = site.draft();
    fs::remove_file(site.path("cur/1.host:2,S")).unwrap();
    assert_eq!(site.commit(ready, Uids::New).unwrap(), Committed::Gone);
    assert!(site.names("cur").is_empty() && site.names("tmp").is_empty());

    let site = Site::with("cur/1.host:2,S");
    let ready = site.draft();
    fs::rename(site.path("cur/1.host:2,S"), site.path("elsewhere")).unwrap();
    assert_eq!(site.commit(ready, Uids::New).unwrap(), Committed::Moved);
    assert!(site.names("cur").is_empty() && site.path("elsewhere").exists());

    let site = Site::with("cur/1.host:2,S");
    let ready = site.draft();
    site.write("cur/1.host:2,S", b"longer than it was");
    assert_eq!(site.commit(ready, Uids::New).unwrap(), Committed::Changed);
    assert_eq!(site.names("cur"), ["1.host:2,S"]);
}

#[test]
fn a_draft_that_is_not_wanted_leaves_nothing() {
    let site = Site::with("cur/1.host:2,S");
    let kept = site.folder.draft(&site.message(), |_, draft| {
        draft.write_all(b"half").unwrap();
        Ok::<_, Error>(Change::Keep("reason"))
    });
    assert!(matches!(kept.unwrap(), Drafted::Kept("reason")));
    let failed = site.folder.draft::<(), Error>(&site.message(), |_, draft| {
        draft.write_all(b"half").unwrap();
        Err(Error::NoMaildir { path: "caller".into(), what: String::new(), hint: String::new() })
    });
    assert!(matches!(failed, Err(Error::NoMaildir { path, .. }) if path == Path::new("caller")));
    let nothing = site.folder.draft(&site.message(), |_, _| Ok::<_, Error>(Change::Replace(())));
    assert!(matches!(nothing, Err(Error::Mail { .. })), "an empty message never takes the place of one");
    drop(site.draft());
    assert_eq!((site.names("cur"), site.names("tmp").len()), (vec!["1.host:2,S".to_owned()], 0));
}

#[test]
fn names_elsewhere_are_counted() {
    let site = Site::with("cur/1.host:2,S");
    fs::hard_link(site.path("cur/1.host:2,S"), site.path("backup")).unwrap();
    assert_eq!(site.commit(site.draft(), Uids::New).unwrap(), Committed::Replaced { links: 1 });
    assert_eq!(fs::read(site.path("backup")).unwrap(), b"a\nb\r\n");
}

#[test]
fn a_kept_uid_follows_the_name() {
    let site = Site::with("cur/1.host,S=5:2,S");
    site.write(UIDLIST, b"3 V1 N3 G0\n1 W9 :0.host\n2 :1.host,S=5:2,\n");
    assert_eq!(site.commit(site.draft(), Uids::Keep).unwrap(), REPLACED);
    let list = fs::read_to_string(site.path(UIDLIST)).unwrap();
    let base = String::from_utf8(site.message().name.base().to_vec()).unwrap();
    assert_eq!(list, format!("3 V1 N3 G0\n1 W9 :0.host\n2 :{base}:2,\n"));
    assert_eq!(fs::metadata(site.path(UIDLIST)).unwrap().mode() & 0o777, 0o640);

    let site = Site::with("cur/1.host:2,S");
    site.write(UIDLIST, b"1 1 3\n2 1.host\n");
    assert!(site.commit(site.draft(), Uids::Keep).is_err());
    assert_eq!(site.names("cur"), ["1.host:2,S"], "nothing is changed under a list that is not understood");
}

/// A kill after the new message got its place: both are there.
fn killed(old: &str, flags: &str) -> Site {
    let site = Site::with(old);
    let ready = site.draft();
    let message = site.message();
    let tag = Tag::of(&message.name, &ready.original().stamp());
    let name = tag.rename(&message.name, ready.sizes).with_flags(flags.as_bytes());
    fs::rename(site.path("tmp").join(&ready.temporary.name), site.path("cur").join(name.as_os_str()))
        .unwrap();
    drop(ready);
    site.write("tmp/mailseal.1.M2P3Q4", b"half");
    site.write("dovecot-uidlist.lock.mailseal.1.M2P3Q5", b"");
    site
}

#[test]
fn after_a_kill_the_new_message_stays() {
    for (old, flags, expected) in
        [("cur/1.host:2,S", "S", "S"), ("cur/1.host:2,ST", "F", "FS"), ("new/1.host", "", "")]
    {
        let site = killed(old, flags);
        fs::hard_link(site.path(old), site.path("backup")).unwrap();
        let inode = fs::metadata(site.path(old)).unwrap().ino();
        let hold = site.folder.hold(|| ()).unwrap();
        let replaced = vec![Unlinked { inode, links: 1 }];
        assert_eq!(recover(&hold).unwrap(), Recovered { temporary: 2, replaced });
        assert_eq!(site.message().name.flags(), expected.as_bytes());
        assert!(site.message().name.unique().starts_with(b"1.host.s"));
        assert_eq!(recover(&hold).unwrap(), Recovered::default());
        assert_eq!(site.names("tmp").len(), 0);
    }
}

#[test]
fn what_is_not_proven_to_be_the_same_message_stays() {
    // A copy from a backup has the name, size and date of the old one, and another inode.
    let site = killed("cur/1.host:2,S", "S");
    let old = site.path("cur/1.host:2,S");
    let text = fs::read(&old).unwrap();
    let keep = fs::File::open(&old).unwrap();
    fs::remove_file(&old).unwrap();
    site.write("cur/1.host:2,S", &text);
    assert_eq!(recover(&site.folder.hold(|| ()).unwrap()).unwrap().replaced, []);
    drop(keep);
    // The new one is not whole.
    let site = killed("cur/1.host,S=5:2,S", "S");
    let new = site.names("cur").into_iter().find(|name| name.contains(".s")).unwrap();
    site.write(&format!("cur/{new}"), b"cut");
    assert_eq!(recover(&site.folder.hold(|| ()).unwrap()).unwrap().replaced, []);
    assert_eq!(site.names("cur").len(), 2);
}

#[test]
fn two_runs_do_not_work_on_one_folder() {
    let site = Site::new();
    let first = site.folder.hold(|| panic!("nobody is there")).unwrap();
    let (said, saying) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| site.folder.hold(|| said.send(()).unwrap()).unwrap());
        saying.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap();
    });
}
