//! `mailseal keys init`, `scan` and `rename`: the markers of stores, and the register of the users who ever had a
//! certificate. What they are good for is told in [`crate::keystore::absence`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::dovecot::userdb::{self, Account, Userdb};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::admin::ask::{self, Answer};
use crate::keys::admin::{Keys, say};
use crate::keystore::absence::{check_marker, stores};
use crate::keystore::census;
use crate::keystore::known::{Known, Lock};
use crate::keystore::marker::{Id, Marker, Store};
use crate::keystore::source::Kind;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::limits;

/// How many users are named of those who cannot be asked.
const NAMED: usize = 20;

/// Which users there are.
#[derive(Clone, Debug, Default)]
pub struct UserList {
    /// A file with one a line; those of Dovecot, otherwise.
    pub file: Option<PathBuf>,
    /// Dovecot's main configuration, if another than its default.
    pub dovecot_config: Option<PathBuf>,
}

/// What a scan has found.
#[derive(Debug, Default)]
struct Census {
    /// Who has a certificate, or something that may be one.
    known: BTreeSet<User>,
    /// Who was asked.
    asked: BTreeSet<User>,
    /// Who could not be, and why.
    unasked: BTreeMap<User, String>,
    /// What lies in a store under a name that no delivery reads.
    odd: Vec<PathBuf>,
    /// Names that are not those of users.
    refused: Vec<String>,
}

impl Keys<'_> {
    /// Gives every store a marker and does the first scan; after that, a user for whom none is found can have none. Stores
    /// in `accepted` are taken as they are, whatever marker they bore before.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where a store is not there, or does not bear the marker that the register lists;
    /// [`Error::Dovecot`] where the users cannot be listed.
    pub fn init(&self, users: &UserList, accepted: &[PathBuf], out: &mut impl Write) -> Result<Exit, Error> {
        let known = self.known();
        let _scans = known.lock_scans()?;
        let before = known.users()?;
        let mut census = Census::default();
        // Before a store is marked: where the users cannot be listed, nothing is changed.
        let accounts = self.accounts(users, &mut census, out)?;
        let lock = known.lock()?;
        let mut marker = match known.marker()? {
            Some(marker) => marker,
            None => Marker { id: Id::new()?, stores: Vec::new() },
        };
        let wanted = stores(&self.config.keys);
        // Another server, which shares the register, may have stores of its own.
        marker.stores.retain(|store| !accepted.contains(&store.path));
        for path in wanted {
            let id = self.mark(&path, marker.id_of(&path), out)?;
            if marker.id_of(&path).is_none() {
                marker.stores.push(Store { path, id });
            }
        }
        drop(lock);
        self.ask_all(accounts, &mut census)?;
        let lock = known.lock()?;
        note(&known, &lock, &before, &census)?;
        known.complete(&lock, &marker)?;
        say(out, format_args!("the register {} is complete", known.folder().display()))?;
        tell(&census, out)
    }

    /// Notes every user for whom a source has a certificate, and everybody who could not be asked; and leaves for the helpdesk
    /// what becomes of each user's mail.
    ///
    /// # Errors
    /// [`Error::KeyStore`]; [`Error::Dovecot`] where the users cannot be listed; [`Error::Owner`] where it is interrupted, and
    /// nothing is noted.
    pub fn scan(&self, users: &UserList, out: &mut impl Write) -> Result<Exit, Error> {
        let exit = self.note_all(users, out)?;
        self.leave_survey(users)?;
        Ok(exit)
    }

    fn note_all(&self, users: &UserList, out: &mut impl Write) -> Result<Exit, Error> {
        let known = self.known();
        let _scans = known.lock_scans()?;
        let (before, marker) = (known.users()?, known.marker()?);
        if let Some(marker) = &marker {
            // What is not mounted says of nobody that there is no certificate.
            for store in stores(&self.config.keys) {
                check_marker(&store, marker, &self.trust_in(&store))?;
            }
        }
        let mut census = Census::default();
        let accounts = self.accounts(users, &mut census, out)?;
        self.ask_all(accounts, &mut census)?;
        note(&known, &known.lock()?, &before, &census)?;
        if marker.is_none() {
            say(out, format_args!("note: the register has no marker yet: run `mailseal keys init`"))?;
        }
        tell(&census, out)
    }

    /// Makes the certificates of the user `old`, and that the user is known, those of `new`.
    ///
    /// # Errors
    /// [`Error::Usage`] where `old` has and is none of this, or `new` has certificates; [`Error::KeyStore`].
    pub fn rename(&self, old: &User, new: &User, out: &mut impl Write) -> Result<Exit, Error> {
        if old == new {
            return Err(Error::Usage {
                what: format!("{} is the same name", new.name()),
                hint: "names are compared in lower case".into(),
            });
        }
        let enrolled = self.enrolled()?;
        let (from, to) = (enrolled.file(old, None)?, enrolled.file(new, None)?);
        let _folders =
            (from.lock()?, (from.path().parent() != to.path().parent()).then(|| to.lock()).transpose()?);
        let known = self.known();
        let lock = known.lock()?;
        let usage = |what: String| Error::Usage { what, hint: "look with `mailseal keys list`".into() };
        if to.path().exists() {
            return Err(usage(format!(
                "{} has certificates already, in {}",
                new.name(),
                to.path().display()
            )));
        }
        let was_known = known.users()?.contains(old);
        if !was_known && !from.path().exists() {
            return Err(usage(format!("{} has no certificate, and never had one", old.name())));
        }
        // First what makes a delivery careful.
        known.note(&lock, [new])?;
        from.rename(&to)?;
        known.forget(&lock, old)?;
        say(out, format_args!("{} is {} now", old.name(), new.name()))?;
        Ok(Exit::Ok)
    }

    pub(super) fn known(&self) -> Known {
        let trust = Trust::of_process(self.config.keys.trusted_groups.ids());
        Known::new(&self.config.keys.known, trust)
    }

    /// The marker of the store in `folder`, which is made where there is none; `expected` is what the register lists.
    fn mark(&self, folder: &Path, expected: Option<&Id>, out: &mut impl Write) -> Result<Id, Error> {
        let found = Marker::read(folder, &self.trust_in(folder))?;
        let refused = |what: &str| Error::KeyStore {
            path: folder.into(),
            what: what.into(),
            hint: format!(
                "mount the right one; or take it as it is: mailseal keys init --accept {}",
                folder.display()
            ),
        };
        match (expected, found) {
            (Some(expected), Some(marker)) if marker.id == *expected => Ok(marker.id),
            (Some(_), Some(_)) => Err(refused("it bears another marker than it did")),
            (Some(_), None) => Err(refused("it does not bear the marker that it did")),
            (None, Some(marker)) => Ok(marker.id),
            (None, None) => {
                let marker = Marker { id: Id::new()?, stores: Vec::new() };
                marker.write(folder)?;
                say(out, format_args!("marked {}", folder.display()))?;
                Ok(marker.id)
            }
        }
    }

    /// A store may be the mail user's, who is not known here.
    fn trust_in(&self, store: &Path) -> Trust {
        Trust::of_owner(store, self.config.keys.trusted_groups.ids())
    }

    /// Asks every source for every user.
    fn ask_all(&self, accounts: Vec<(User, Account)>, census: &mut Census) -> Result<(), Error> {
        for source in &self.config.keys.sources {
            for entry in census::take(source)? {
                if !entry.is_read {
                    census.odd.push(entry.path);
                    census.known.extend(entry.user);
                } else if source.kind == Kind::File || !is_empty(&entry.path) {
                    census.known.extend(entry.user);
                }
            }
        }
        let in_stores: Vec<Answer> =
            accounts.iter().map(|(user, account)| self.ask_stores(user, account, census)).collect();
        let missing: Vec<(User, Account)> = accounts
            .iter()
            .zip(&in_stores)
            .filter(|(_, answer)| **answer == Answer::None)
            .map(|(account, _)| account.clone())
            .collect();
        let mut in_homes =
            ask::homes(self.config, self.config_path.as_deref(), &missing, &self.stop)?.into_iter();
        for ((user, _), answer) in accounts.into_iter().zip(in_stores) {
            let answer = if answer == Answer::None { in_homes.next().unwrap_or(answer) } else { answer };
            match answer {
                Answer::Some => _ = census.known.insert(user.clone()),
                Answer::None => {}
                Answer::Unasked(why) => _ = census.unasked.insert(user.clone(), why),
            }
            census.asked.insert(user);
        }
        Ok(())
    }

    fn ask_stores(&self, user: &User, account: &Account, census: &Census) -> Answer {
        if census.known.contains(user) {
            return Answer::Some;
        }
        let groups = self.config.keys.trusted_groups.ids();
        let trust = account.uid.map_or_else(|| self.trust_in_stores(), |uid| Trust::of(uid, groups));
        ask::one(self.config, user, account.home.as_deref(), trust, false)
    }

    /// Who is trusted with the stores where the mail user is not known: they may be the mail user's.
    pub(super) fn trust_in_stores(&self) -> Trust {
        let groups = self.config.keys.trusted_groups.ids();
        let mut owned = stores(&self.config.keys).into_iter().map(|store| Trust::of_owner(&store, groups));
        owned.find(|trust| !trust.is_root()).unwrap_or_else(|| Trust::of_process(groups))
    }

    /// The users in the file at `path`, or those of Dovecot, with what Dovecot and the system know of them.
    fn accounts(
        &self,
        users: &UserList,
        census: &mut Census,
        out: &mut impl Write,
    ) -> Result<Vec<(User, Account)>, Error> {
        let connection = Userdb::of_dovecot(users.dovecot_config.as_deref());
        let (names, connection) = match (&users.file, connection) {
            (Some(path), connection) => {
                let names = read_names(path)?;
                if names.is_empty() && ask::needs_users(self.config) {
                    let file = path.display();
                    say(out, format_args!("warning: {file} names nobody: no home and no keyring was asked"))?;
                }
                (names, connection.ok())
            }
            (None, Ok(mut connection)) => (connection.list()?, Some(connection)),
            (None, Err(error)) if ask::needs_users(self.config) => return Err(unlisted(&error)),
            (None, Err(_)) => {
                say(out, format_args!("note: Dovecot was not asked; the stores were gone through"))?;
                (Vec::new(), None)
            }
        };
        let answers = look_up(connection, &names)?;
        let mut accounts = Vec::new();
        for (name, answer) in names.into_iter().zip(answers) {
            let account = match answer {
                userdb::Answer::Found(account) => account,
                userdb::Answer::NotFound | userdb::Answer::Failed => of_system(&name),
            };
            match User::parse(&name) {
                Ok(user) => accounts.push((user, account)),
                Err(error) => census.refused.push(error.to_string()),
            }
        }
        Ok(accounts)
    }
}

/// Notes what a scan has found, which began when the users of `before` were known. The register may have changed since: who was
/// noted stays so, and who was known then and is not any more was removed, with what the scan has found.
fn note(known: &Known, lock: &Lock, before: &BTreeSet<User>, census: &Census) -> Result<(), Error> {
    let now = known.users()?;
    let removed: BTreeSet<&User> = before.difference(&now).collect();
    known.note(lock, census.known.iter().filter(|user| !removed.contains(user)))?;
    let asked = census.asked.iter().filter(|user| !census.unasked.contains_key(user));
    known.note_asked(lock, asked, census.unasked.keys())
}

/// The users in the file, or those of Dovecot, with what Dovecot says of each, or else the system.
///
/// # Errors
/// [`Error::Dovecot`] where nobody lists them, [`Error::Usage`] for a file that cannot be read.
pub(super) fn everybody(users: &UserList) -> Result<Vec<(String, userdb::Answer)>, Error> {
    let connection = Userdb::of_dovecot(users.dovecot_config.as_deref());
    let (names, connection) = match (&users.file, connection) {
        (Some(path), connection) => (read_names(path)?, connection.ok()),
        (None, Ok(mut connection)) => {
            (connection.list().map_err(|error| unlisted(&error))?, Some(connection))
        }
        (None, Err(error)) => return Err(unlisted(&error)),
    };
    let answers = look_up(connection, &names)?;
    let answers = names.into_iter().zip(answers).map(|(name, answer)| {
        // Name services are asked for nobody whom Dovecot tells of: there may be very many.
        let account = (answer == userdb::Answer::Failed).then(|| of_system(&name));
        let answer = match account.filter(|account| account.home.is_some()) {
            Some(account) => userdb::Answer::Found(account),
            None => answer,
        };
        (name, answer)
    });
    Ok(answers.collect())
}

/// What Dovecot says of each of `names`; nothing, where it was not reached.
fn look_up(connection: Option<Userdb>, names: &[String]) -> Result<Vec<userdb::Answer>, Error> {
    match connection {
        Some(mut connection) => connection.look_up(names),
        None => Ok(vec![userdb::Answer::Failed; names.len()]),
    }
}

/// A user as the system knows it: without Dovecot, an admin may ask name services.
pub(super) fn of_system(name: &str) -> Account {
    let user = nix::unistd::User::from_name(name).ok().flatten();
    Account {
        name: name.into(),
        uid: user.as_ref().map(|user| user.uid.as_raw()),
        gid: user.as_ref().map(|user| user.gid.as_raw()),
        home: user.map(|user| user.dir),
        ..Account::default()
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The names in a file, one a line.
fn read_names(path: &Path) -> Result<Vec<String>, Error> {
    use std::io::Read as _;
    let failed = |what: String| Error::Usage {
        what: format!("{}: {what}", path.display()),
        hint: "give a file with one user a line".into(),
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(limits::KEYRING).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    // Some editors put a byte order mark first.
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let names = lines.filter(|name| !name.is_empty() && !name.starts_with('#'));
    Ok(names.map(str::to_owned).collect())
}

fn unlisted(error: &Error) -> Error {
    Error::Dovecot {
        what: format!(
            "its users cannot be listed ({error}): start it, or give them with --users FILE, one a line"
        ),
    }
}

/// Says what was found; [`Exit::Negative`] where users could not be asked.
fn tell(census: &Census, out: &mut impl Write) -> Result<Exit, Error> {
    let Census { known, asked, unasked, odd, refused } = census;
    say(out, format_args!("users asked: {}; known to have a certificate: {}", asked.len(), known.len()))?;
    for path in odd {
        say(out, format_args!("warning: {}: no delivery reads a file of this name", path.display()))?;
    }
    for what in refused {
        say(out, format_args!("warning: {what}: mail to it is deferred"))?;
    }
    for (user, why) in unasked.iter().take(NAMED) {
        say(out, format_args!("not asked, and deferred until it can be: {}: {why}", user.name()))?;
    }
    if unasked.len() > NAMED {
        say(out, format_args!("and {} more", unasked.len() - NAMED))?;
    }
    Ok(if unasked.is_empty() && refused.is_empty() { Exit::Ok } else { Exit::Negative })
}
