//! Whatever becomes of homes, stores, names, rights and mounts: a user who ever had a certificate never gets clear mail, and a
//! user who never had one does, where nothing has happened. `PROPTEST_CASES=10000 cargo test --test programs absence_trees::` for more.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use mailseal::config::{Config, Keys};
use mailseal::error::Error;
use mailseal::keystore::absence::{self, stores};
use mailseal::keystore::known::Known;
use mailseal::keystore::marker::{Id, Marker, Store};
use mailseal::keystore::trust::Trust;
use mailseal::keystore::user::User;
use mailseal::keystore::{self, Request};
use proptest::prelude::*;
use testing::made;

const NAMES: [&str; 6] =
    ["alice@a.org", "bob@a.org", "carol", "zo\u{eb}@b.org", "d.e+f@b.org", "alice@b.org"];

/// Sources, and where each has the certificate of a user: `NAME`, `LOCAL`, `DOMAIN` are the user's.
const SOURCES: [(&str, &str); 5] = [
    ("file:DIR/store/%{user}.pgp", "store/NAME.pgp"),
    ("file:DIR/nested/%{domain}/%{local}.asc", "nested/DOMAIN/LOCAL.asc"),
    ("dir:DIR/folders/%{user}", "folders/NAME/key.pgp"),
    ("dir:%{home}/.config/mailseal", "homes/NAME/.config/mailseal/key.asc"),
    ("file:%{home}/key.pgp", "homes/NAME/key.pgp"),
];

/// Something that happens to a tree.
#[derive(Clone, Debug)]
enum Event {
    /// This file or folder, or one above it, goes.
    Lose(usize, usize, usize),
    /// It gets another name.
    Rename(usize, usize, usize),
    /// It becomes a link that leads nowhere.
    Dangle(usize, usize, usize),
    /// It gets these rights.
    Chmod(usize, usize, usize, u32),
    /// It is emptied, as a file, or as a folder on which nothing is mounted.
    Empty(usize, usize, usize),
    /// A home is made, as Dovecot does it.
    MakeHome(usize),
}

/// A tree: who has a certificate, in which sources, what happens, and to whom is delivered then.
#[derive(Clone, Debug)]
struct Case {
    sources: Vec<usize>,
    homes: bool,
    enrolled: Vec<(usize, usize)>,
    events: Vec<Event>,
    spelling: usize,
}

fn event() -> impl Strategy<Value = Event> {
    let place = || (0..NAMES.len(), 0..SOURCES.len(), 0..4usize);
    prop_oneof![
        place().prop_map(|(user, source, up)| Event::Lose(user, source, up)),
        place().prop_map(|(user, source, up)| Event::Rename(user, source, up)),
        place().prop_map(|(user, source, up)| Event::Dangle(user, source, up)),
        (place(), prop_oneof![Just(0o777), Just(0o770), Just(0o700), Just(0o1777)])
            .prop_map(|((user, source, up), mode)| Event::Chmod(user, source, up, mode)),
        place().prop_map(|(user, source, up)| Event::Empty(user, source, up)),
        (0..NAMES.len()).prop_map(Event::MakeHome),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::sample::subsequence((0..SOURCES.len()).collect::<Vec<_>>(), 1..=SOURCES.len()),
        any::<bool>(),
        prop::collection::vec((0..NAMES.len(), 0..SOURCES.len()), 0..6),
        prop::collection::vec(event(), 0..6),
        0..4usize,
    )
        .prop_map(|(sources, homes, enrolled, events, spelling)| Case {
            sources,
            homes,
            enrolled,
            events,
            spelling,
        })
}

static CERTIFICATE: LazyLock<Vec<u8>> =
    LazyLock::new(|| made::armored(&made::cert("Somebody <somebody@example.org>")));

struct Tree {
    dir: tempfile::TempDir,
    keys: Keys,
}

impl Tree {
    fn new(case: &Case) -> Self {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o755);
        let text = |name: &str| name.replace("DIR", dir.path().to_str().unwrap());
        let sources: Vec<String> =
            case.sources.iter().map(|at| format!("{:?}", text(SOURCES[*at].0))).collect();
        let homes = if case.homes { text("homes = [\"DIR/homes\"]\n") } else { String::new() };
        let config =
            format!("[keys]\nsources = [{}]\n{homes}{}", sources.join(", "), text("known = \"DIR/known\"\n"));
        let path = dir.path().join("mailseal.toml");
        fs::write(&path, config).unwrap();
        let keys = Config::load(Some(&path)).unwrap().keys;
        for folder in ["store", "nested", "folders", "homes"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let tree = Self { dir, keys };
        for name in NAMES {
            fs::create_dir_all(tree.home(name)).unwrap();
        }
        for (user, source) in &case.enrolled {
            let path = tree.path(*user, *source);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &*CERTIFICATE).unwrap();
        }
        tree.init();
        tree
    }

    /// What `keys init` does: marks, and notes whom a source has a certificate for.
    fn init(&self) {
        let known = self.known();
        let lock = known.lock().unwrap();
        let ids = stores(&self.keys).into_iter().map(|path| {
            let marker = Marker { id: Id::new().unwrap(), stores: Vec::new() };
            marker.write(&path).unwrap();
            Store { path, id: marker.id }
        });
        let marker = Marker { id: Id::new().unwrap(), stores: ids.collect() };
        for name in NAMES {
            // A source that asks for a domain cannot be asked for who has none: that one is deferred for ever.
            if !matches!(self.find(name), Ok(None) | Err(Error::User { .. })) {
                known.note(&lock, [&User::parse(name).unwrap()]).unwrap();
            }
        }
        known.complete(&lock, &marker).unwrap();
    }

    fn known(&self) -> Known {
        Known::new(&self.keys.known, Trust::of_process(&[]))
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join("homes").join(name)
    }

    fn path(&self, user: usize, source: usize) -> PathBuf {
        let name = NAMES[user];
        let (local, domain) = name.rsplit_once('@').unwrap_or((name, "none"));
        let path = SOURCES[source].1.replace("NAME", name).replace("LOCAL", local).replace("DOMAIN", domain);
        self.dir.path().join(path)
    }

    fn find(&self, name: &str) -> Result<Option<usize>, Error> {
        self.request(name, |request| {
            keystore::find(&self.keys.sources, request).map(|found| found.map(|certs| certs.len()))
        })
    }

    /// Whether a delivery to `name` would be passed on in clear.
    fn is_clear(&self, name: &str) -> bool {
        let found = self.request(name, |request| match keystore::find(&self.keys.sources, request)? {
            Some(_) => Ok(false),
            None => absence::prove(&self.keys, request).map(|_| true),
        });
        found.unwrap_or(false)
    }

    fn request<T>(
        &self,
        name: &str,
        look: impl FnOnce(&Request<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let user = User::parse(name)?;
        let home = self.home(user.name());
        let (trust, now) = (Trust::of_process(&[]), SystemTime::now());
        look(&Request { given: name, ..Request::new(&self.keys, &user, Some(&home), now, trust) })
    }

    /// Lets something happen below the test's folder; what is not there cannot have it.
    fn happen(&self, event: &Event) {
        let place = |user: usize, source: usize, up: usize| {
            let path = self.path(user, source);
            let path = path.ancestors().nth(up).unwrap().to_owned();
            (path.starts_with(self.dir.path()) && path != self.dir.path()).then_some(path)
        };
        match *event {
            Event::Lose(user, source, up) => {
                if let Some(path) = place(user, source, up) {
                    remove(&path);
                }
            }
            Event::Rename(user, source, up) => {
                if let Some(path) = place(user, source, up) {
                    let name = path.file_name().unwrap().to_str().unwrap().to_uppercase();
                    let _ = fs::rename(&path, path.with_file_name(name));
                }
            }
            Event::Dangle(user, source, up) => {
                if let Some(path) = place(user, source, up) {
                    remove(&path);
                    let _ = symlink("/nonexistent/place", &path);
                }
            }
            Event::Chmod(user, source, up, mode) => {
                if let Some(path) = place(user, source, up).filter(|path| path.exists()) {
                    chmod(&path, mode);
                }
            }
            Event::Empty(user, source, up) => {
                if let Some(path) = place(user, source, up) {
                    let folder = path.is_dir();
                    remove(&path);
                    let _ = if folder { fs::create_dir(&path) } else { fs::write(&path, "") };
                }
            }
            Event::MakeHome(user) => drop(fs::create_dir_all(self.home(NAMES[user]))),
        }
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The name as some delivery might give it.
fn spelled(name: &str, how: usize) -> String {
    match how {
        0 => name.to_owned(),
        1 => name.to_uppercase(),
        2 => name.rsplit_once('@').map_or(name, |(local, _)| local).to_owned(),
        _ => name.replacen('@', "+lists@", 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_ever_had_a_certificate_never_gets_clear_mail(case in case()) {
        let tree = Tree::new(&case);
        let had: Vec<bool> = (0..NAMES.len())
            .map(|user| case.enrolled.iter().any(|(who, source)| *who == user && case.sources.contains(source)))
            .collect();
        // Nothing has happened yet: who has none gets clear mail, unless the name is near that of one who has.
        for (user, name) in NAMES.iter().enumerate() {
            let parsed = User::parse(name).unwrap();
            let near = NAMES.iter().enumerate().any(|(other, it)| had[other] && User::parse(it).unwrap().is_near(&parsed));
            let other_source = case.enrolled.iter().any(|(who, _)| *who == user);
            let asks_domain = case.sources.contains(&1) && parsed.domain().is_none();
            if had[user] {
                prop_assert!(!tree.is_clear(name), "{name}");
            } else if !near && !other_source && !asks_domain {
                prop_assert!(tree.is_clear(name), "{name}: {:?}", tree.find(name));
            }
        }
        for event in &case.events {
            tree.happen(event);
            for (user, name) in NAMES.iter().enumerate().filter(|(user, _)| had[*user]) {
                for name in [(*name).to_owned(), spelled(name, case.spelling)] {
                    prop_assert!(!tree.is_clear(&name), "{name} ({user}) after {event:?}");
                }
            }
        }
    }
}
