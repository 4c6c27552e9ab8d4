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
use super::odd::{Odd, Why};
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

#[test]
fn a_batch_is_committed_in_order_and_each_for_itself() {
    for uids in [Uids::New, Uids::Keep] {
        let site = Site::new();
        let names = ["cur/1.a:2,S", "new/2.b", "cur/3.c:2,", "cur/4.d:2,F", "new/5.e"];
        names.iter().for_each(|name| site.write(name, b"text"));
        site.write(UIDLIST, b"3 V1 N9\n1 :1.a\n2 :2.b\n3 :3.c\n4 :4.d\n5 :5.e\n");
        let messages = site.folder.list().unwrap().messages;
        let batch: Vec<_> = messages
            .iter()
            .map(|message| {
                let drafted = site.folder.draft(message, |_, draft| {
                    draft.write_all(b"new")?;
                    Ok::<_, Failed>(Change::Replace(()))
                });
                match drafted.unwrap() {
                    Drafted::Ready(ready, ()) => ready,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let order: Vec<_> = messages.iter().map(|message| message.name.unique()[0]).collect();
        fs::remove_file(site.path("cur/3.c:2,")).unwrap();
        site.write("cur/4.d:2,F", b"longer than it was");
        fs::rename(site.path("new/5.e"), site.path("cur/5.e:2,S")).unwrap();
        let results: Vec<_> = site.folder.commit(batch, uids).into_iter().map(Result::unwrap).collect();
        let expected = |number: &u8| match number {
            b'3' => Committed::Gone,
            b'4' => Committed::Changed,
            _ => REPLACED,
        };
        assert_eq!(results, order.iter().map(expected).collect::<Vec<_>>(), "{uids:?}");
        let listed = fs::read_to_string(site.path(UIDLIST)).unwrap();
        for (number, replaced) in [(b'1', true), (b'2', true), (b'4', false), (b'5', true)] {
            let found: Vec<_> = site.folder.list().unwrap().messages;
            let of: Vec<_> = found.iter().filter(|it| it.name.unique()[0] == number).collect();
            assert_eq!(of.len(), 1, "{uids:?} {number}");
            assert_eq!(Tag::in_name(&of[0].name).is_some(), replaced, "{uids:?} {number}");
            let base = String::from_utf8(of[0].name.base().to_vec()).unwrap();
            assert_eq!(
                listed.contains(&format!(":{base}")),
                uids == Uids::Keep || !replaced,
                "{uids:?} {base}"
            );
        }
        assert!(site.names("tmp").is_empty());
    }
}

/// An error of a transformation.
#[derive(Debug)]
struct Failed;

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        panic!("{error}")
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        panic!("{error}")
    }
}

#[test]
fn a_new_message_has_the_rights_and_times_of_the_old_one() {
    for mode in [0o600, 0o640, 0o664, 0o4644] {
        let site = Site::with("cur/1.host,S=5,W=6:2,S");
        let old = site.path("cur/1.host,S=5,W=6:2,S");
        fs::set_permissions(&old, fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&old).unwrap();
        let ready = site.draft();
        assert_eq!((ready.size(), ready.original().size()), (9, 5));
        assert_eq!(ready.original().message(), &site.message());
        assert_eq!(site.commit(ready, Uids::New).unwrap(), REPLACED);
        let after = fs::metadata(site.folder.path_of(&site.message())).unwrap();
        assert_eq!(after.mode() & 0o7777, mode & 0o777, "{mode:o}");
        assert_eq!((after.gid(), after.uid()), (before.gid(), before.uid()));
        assert_eq!((after.modified().unwrap(), after.atime()), (before.modified().unwrap(), before.atime()));
    }
    if nix::unistd::geteuid().is_root() {
        let site = Site::with("cur/1.host:2,S");
        std::os::unix::fs::chown(site.path("cur/1.host:2,S"), None, Some(12345)).unwrap();
        assert_eq!(site.commit(site.draft(), Uids::New).unwrap(), REPLACED);
        assert_eq!(fs::metadata(site.folder.path_of(&site.message())).unwrap().gid(), 12345);
        std::os::unix::fs::chown(site.folder.path_of(&site.message()), Some(12345), None).unwrap();
        let drafted = site.folder.draft(&site.message(), |_, _| Ok::<_, Error>(Change::Replace(())));
        assert!(drafted.unwrap_err().to_string().contains("belongs to user 12345"));
    }
}

#[test]
fn a_draft_counts_what_is_written() {
    let site = Site::with("cur/1.host,S=5,W=6:2,S");
    let drafted = site.folder.draft(&site.message(), |original, draft| {
        assert_eq!((original.size(), original.links()?), (5, 1));
        draft.flush()?;
        for piece in [&b"a\r"[..], b"\nb", b"\n", b"\n"] {
            draft.write_all(piece)?;
        }
        draft.flush()?;
        assert_eq!(fs::metadata(site.path("tmp").join(&site.names("tmp")[0]))?.len(), 6, "it is flushed");
        Ok::<_, Failed>(Change::Replace(()))
    });
    let Drafted::Ready(ready, ()) = drafted.unwrap() else { panic!() };
    assert_eq!((ready.sizes.physical, ready.sizes.virtual_), (6, 8));
    assert!(site.names("tmp")[0].starts_with("mailseal."));
    drop(ready);
    assert!(site.names("tmp").is_empty());
    fs::remove_dir(site.path("tmp")).unwrap();
    let drafted = site.folder.draft(&site.message(), |_, draft| {
        assert!(draft.write_all(b"text").is_err(), "there is no place for it");
        Ok::<_, Failed>(Change::Keep(()))
    });
    assert!(matches!(drafted.unwrap(), Drafted::Kept(())));
}

#[test]
fn a_message_is_drafted_under_the_name_that_it_has_now() {
    let site = Site::with("new/1.host");
    let seen = site.message();
    fs::rename(site.path("new/1.host"), site.path("cur/1.host:2,S")).unwrap();
    let read = |message: &Message| {
        let mut name = None;
        let drafted = site.folder.draft(message, |original, _| {
            name = Some(original.message().clone());
            Ok::<_, Error>(Change::Keep(()))
        });
        (matches!(drafted.unwrap(), Drafted::Gone), name)
    };
    assert_eq!(read(&seen), (false, Some(site.message())));
    fs::rename(site.path("cur/1.host:2,S"), site.path("cur/2.host:2,S")).unwrap();
    assert_eq!(read(&seen), (true, None), "another message");
    fs::create_dir(site.path("new/1.host")).unwrap();
    let drafted = site.folder.draft(&seen, |_, _| Ok::<_, Error>(Change::Keep(())));
    assert!(matches!(drafted, Err(Error::Mail { path, .. }) if path == site.path("new/1.host")));
}

#[test]
fn a_folder_tells_messages_from_all_else() {
    let site = Site::with("cur/1.host:2,S");
    fs::create_dir(site.path("cur/folder")).unwrap();
    for name in ["cur/.hidden", "cur/:2,S", "cur/,S=1:2,S"] {
        fs::write(site.path(name), "").unwrap();
    }
    std::os::unix::fs::symlink("1.host:2,S", site.path("new/link")).unwrap();
    nix::unistd::mkfifo(&site.path("new/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let listing = site.folder.list().unwrap();
    assert_eq!(listing.messages, [site.message()]);
    let mut odd = listing.odd;
    odd.sort();
    let expected = [
        ("cur/,S=1:2,S", Why::Unnamed),
        ("cur/:2,S", Why::Unnamed),
        ("new/fifo", Why::NotAFile),
        ("new/link", Why::NotAFile),
    ];
    assert_eq!(odd, expected.map(|(name, why)| Odd { path: site.path(name), why }));
    assert_eq!(site.folder.path_of(&site.message()), site.path("cur/1.host:2,S"));
    let inode = |name: &str| fs::metadata(site.path(name)).unwrap().ino();
    let (message, right) = (site.message(), inode("cur/1.host:2,S"));
    assert_eq!(site.folder.locate(&message, right).unwrap(), Some(message.clone()));
    assert_eq!(site.folder.locate(&message, right + 1).unwrap(), None);
    fs::rename(site.path("cur/1.host:2,S"), site.path("new/1.host")).unwrap();
    assert_eq!(site.folder.stat(&message).unwrap().map(|stat| stat.st_size), None);
    assert_eq!(site.folder.locate(&message, right).unwrap().map(|found| found.place), Some(Place::New));
    assert_eq!(site.folder.stat(&site.message()).unwrap().map(|stat| stat.st_size), Some(5));
    let long = Message { name: super::name::Name::parse("x".repeat(300).as_ref()).unwrap(), ..message };
    assert!(site.folder.stat(&long).is_err());
    for (text, found) in [(Some("a"), Some(b"a".to_vec())), (None, None)] {
        match text {
            Some(text) => fs::write(site.path("dovecot-keywords"), text).unwrap(),
            None => fs::remove_file(site.path("dovecot-keywords")).unwrap(),
        }
        assert_eq!(site.folder.companion("dovecot-keywords".as_ref()), found);
    }
    for (length, read) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        fs::write(site.path("dovecot-keywords"), "a".repeat(length)).unwrap();
        assert_eq!(site.folder.companion("dovecot-keywords".as_ref()).is_some(), read, "{length}");
    }
}

#[test]
fn a_missing_tmp_is_made_as_cur_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cur", "new"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::set_permissions(dir.path().join("cur"), fs::Permissions::from_mode(0o750)).unwrap();
    let open = || Maildir::open(dir.path(), None).unwrap().folder(Path::new(""));
    open().unwrap();
    assert_eq!(fs::metadata(dir.path().join("tmp")).unwrap().mode() & 0o777, 0o750);
    open().unwrap();
    fs::remove_dir(dir.path().join("tmp")).unwrap();
    fs::write(dir.path().join("tmp"), "").unwrap();
    match open() {
        Err(Error::Mail { path, source }) => {
            assert_eq!((path, source.kind()), (dir.path().join("tmp"), std::io::ErrorKind::NotADirectory));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_others_left_in_tmp_stays_and_so_does_what_may_be_anothers() {
    let site = Site::new();
    for name in ["mailseal.1.M2P3Q4", "mailseal.5", "1.M2P3.host", "notmailseal.1"] {
        site.write(&format!("tmp/{name}"), b"half");
    }
    fs::create_dir(site.path("tmp/mailseal.folder")).unwrap();
    let mut hold = site.folder.hold(|| ()).unwrap();
    hold.alone = false;
    assert_eq!(recover(&hold).unwrap(), Recovered::default(), "all of it is new");
    hold.alone = true;
    assert_eq!(recover(&hold).unwrap().temporary, 2);
    assert_eq!(site.names("tmp"), ["1.M2P3.host", "mailseal.folder", "notmailseal.1"]);
}

#[test]
fn twins_of_another_time_are_no_twins() {
    let site = killed("cur/1.host:2,S", "S");
    let new = site.names("cur").into_iter().find(|name| name.contains(".s")).unwrap();
    let path = site.path(&format!("cur/{new}"));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(recover(&site.folder.hold(|| ()).unwrap()).unwrap().replaced, []);
    let site = killed("cur/1.host:2,S", "S");
    let new = site.names("cur").into_iter().find(|name| name.contains(".s")).unwrap();
    site.write(&format!("cur/{new}"), b"");
    assert_eq!(recover(&site.folder.hold(|| ()).unwrap()).unwrap().replaced, [], "an empty one is not whole");
    assert_eq!(site.names("cur").len(), 2);
}

mod rewriting {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::sys::stat::FileStat;

    use super::*;
    use crate::draft::{Draft, Original};
    use crate::rewrite::{Event, Manner, Outcome, Work, rewrite};

    /// What its unique name begins with tells what becomes of a message.
    #[derive(Default)]
    struct Task {
        told: Mutex<BTreeMap<String, String>>,
        alive: AtomicUsize,
        recovered: AtomicUsize,
        begun: AtomicUsize,
        stops_after: Option<usize>,
    }

    impl Work for Task {
        type Finding = u64;
        type Error = Error;

        fn transform(&self, original: &Original, draft: &mut Draft<'_>) -> Result<Change<u64>, Error> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            match original.message().name.unique()[0] {
                b'r' => {
                    draft.write_all(b"replaced").unwrap();
                    Ok(Change::Replace(original.size()))
                }
                b'k' => Ok(Change::Keep(original.size())),
                _ => Err(Error::Mail { path: "transform".into(), source: std::io::Error::other("no") }),
            }
        }

        fn tell(&self, event: Event<'_, u64, Error>) {
            let (name, what) = match event {
                Event::Waiting => panic!("nobody is there"),
                Event::Recovered(_) => {
                    self.recovered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Event::Alive => {
                    self.alive.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Event::Odd(odd) => (odd.path.file_name().unwrap().to_owned(), "odd".into()),
                Event::Message(item, outcome) => {
                    let what = match outcome {
                        Ok(Outcome::Replaced { finding, bytes, old }) => {
                            format!("replaced {finding} {bytes} {} of {}", old.links, item.bytes)
                        }
                        Ok(Outcome::Kept(finding)) => format!("kept {finding}"),
                        Ok(other) => format!("{other:?}"),
                        Err(error) => error.to_string(),
                    };
                    (item.message.name.as_os_str().to_owned(), what)
                }
            };
            assert_eq!(self.told.lock().unwrap().insert(name.into_string().unwrap(), what), None);
        }

        fn wants(&self, message: &Message, stat: &FileStat) -> bool {
            message.name.unique()[0] != b'n' && stat.st_size > 0
        }

        fn stopped(&self) -> bool {
            self.stops_after.is_some_and(|most| self.begun.load(Ordering::Relaxed) >= most)
        }
    }

    fn site() -> Site {
        let site = Site::new();
        for name in ["cur/r1:2,S", "new/r2", "cur/k1:2,", "cur/e1:2,", "cur/n1:2,"] {
            site.write(name, b"text");
        }
        site.write("cur/r-empty:2,", b"");
        std::os::unix::fs::symlink("r1:2,S", site.path("cur/odd")).unwrap();
        fs::hard_link(site.path("new/r2"), site.path("backup")).unwrap();
        site
    }

    #[test]
    fn each_message_is_told_of_once() {
        for threads in [None, Some(1), Some(3)] {
            let (site, task) = (site(), Task::default());
            let run = || rewrite(&site.folder, Manner::Replace(Uids::New), &task);
            match threads {
                None => run(),
                Some(threads) => {
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
                }
            }
            .unwrap();
            let told = task.told.into_inner().unwrap();
            let expected = [
                ("e1:2,", "transform: no"),
                ("k1:2,", "kept 4"),
                ("odd", "odd"),
                ("r1:2,S", "replaced 4 8 0 of 4"),
                ("r2", "replaced 4 8 1 of 4"),
            ];
            let told: Vec<_> = told.iter().map(|(name, what)| (&**name, &**what)).collect();
            assert_eq!(told, expected, "{threads:?}");
            assert_eq!((task.recovered.into_inner(), task.alive.into_inner()), (1, 1));
            let mut texts: Vec<_> = site
                .folder
                .list()
                .unwrap()
                .messages
                .iter()
                .map(|message| fs::read_to_string(site.folder.path_of(message)).unwrap())
                .collect();
            texts.sort();
            assert_eq!(texts, ["", "replaced", "replaced", "text", "text", "text"]);
        }
    }

    #[test]
    fn a_dry_run_changes_nothing_and_holds_nobody_off() {
        let (site, task) = (site(), Task::default());
        let _hold = site.folder.hold(|| ()).unwrap();
        let before = (site.names("cur"), site.names("new"));
        rewrite(&site.folder, Manner::DryRun, &task).unwrap();
        assert_eq!((site.names("cur"), site.names("new"), site.names("tmp").len()), (before.0, before.1, 0));
        assert_eq!((task.recovered.into_inner(), task.told.into_inner().unwrap().len()), (0, 5));
    }

    #[test]
    fn what_was_drafted_before_the_stop_is_committed() {
        let site = Site::new();
        for number in 0..40 {
            site.write(&format!("cur/r{number:02}:2,S"), b"text");
        }
        let task = Task { stops_after: Some(5), ..Task::default() };
        rewrite(&site.folder, Manner::Replace(Uids::New), &task).unwrap();
        let told = task.told.into_inner().unwrap();
        assert!(told.len() == 5 && told.values().all(|what| what.starts_with("replaced")), "{told:?}");
        assert_eq!(site.names("cur").len(), 40);
    }

    /// One that does not say what it wants, or when it stops.
    struct Plain(Mutex<u32>);

    impl Work for Plain {
        type Finding = ();
        type Error = Error;

        fn transform(&self, _: &Original, _: &mut Draft<'_>) -> Result<Change<()>, Error> {
            Ok(Change::Keep(()))
        }

        fn tell(&self, event: Event<'_, (), Error>) {
            if let Event::Message(_, Ok(Outcome::Kept(()))) = event {
                *self.0.lock().unwrap() += 1;
            }
        }
    }

    #[test]
    fn every_message_is_wanted_unless_it_is_said() {
        let (site, task) = (site(), Plain(Mutex::new(0)));
        rewrite(&site.folder, Manner::Replace(Uids::New), &task).unwrap();
        assert_eq!(task.0.into_inner().unwrap(), 6);
    }

    /// One whose messages wait until two of them are worked on at once.
    #[derive(Default)]
    struct Together(AtomicUsize);

    impl Work for Together {
        type Finding = ();
        type Error = Error;

        fn transform(&self, _: &Original, _: &mut Draft<'_>) -> Result<Change<()>, Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let begin = std::time::Instant::now();
            while self.0.load(Ordering::SeqCst) < 2 {
                assert!(begin.elapsed() < Duration::from_secs(30), "it is alone");
                std::thread::yield_now();
            }
            Ok(Change::Keep(()))
        }

        fn tell(&self, _: Event<'_, (), Error>) {}
    }

    #[test]
    fn every_thread_has_some_messages() {
        let (site, task) = (Site::with("cur/1.host:2,S"), Together::default());
        site.write("cur/2.host:2,S", b"text");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| rewrite(&site.folder, Manner::DryRun, &task)).unwrap();
    }
}
