//! `mailseal keys check --mail-owner` and `--digest`: the owners of certificates are told that one expires soon, is of no use any
//! more, or that their mail waits for that; and an admin, how all of it stands.
//!
//! ```text
//! facts     what is known of each user's certificates               [edge]
//! deferred  whose mail waits, from the log                          [edge]
//! told      of what owners were told, and were about to be          [edge]
//! digest    all of it, for an admin
//! ```
//!
//! An owner is told once of each: 30, 7 and 1 days before, when it cannot be used, and when mail waits for the first time since.

mod deferred;
mod digest;
pub mod facts;
mod told;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::deferred::{Waiting, Waits};
use self::facts::{Facts, Seen, Subject, Subjects};
use self::told::Told;
use crate::cli;
use crate::config;
use crate::console::date::day;
use crate::dovecot::doveadm;
use crate::error::Error;
use crate::keys::admin::Keys;
use crate::keys::admin::register::UserList;
use crate::keys::receive::answer;
use crate::keystore::user::User;
use crate::limits;

/// So many days before it expires the owner is told.
const DAYS: [u64; 3] = [1, 7, 30];

/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where it stands what was told, beside the register.
const FILE: &str = "owners-told";

/// Why mail waits that waits for its owner: in the log, and of a delivery that is tried.
const NO_USABLE_KEY: &str = "no-usable-key";

/// What an admin's text may say, unless another is configured.
const TEXT: &str = "\
New mail to you is encrypted on this server to your key

    %{fingerprint}

%{why}

Please make your key valid for longer, or make a new one, and give its public
part to your administrator, or put it into the folder from which this server
takes keys. Keep your old key: your old mail opens with it only.
";

/// Who is told what.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// Whether owners are told.
    pub owners: bool,
    /// The address of an admin who is told how it stands.
    pub digest: Option<String>,
    /// Certificates that expire within this time stand in the digest.
    pub within: Duration,
    /// Which users there are, where a key source lies in homes; and Dovecot's main configuration.
    pub users: UserList,
    /// The logs that tell whose mail waits; none are those of this machine.
    pub logs: Vec<PathBuf>,
}

/// One thing that an owner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    /// What it is about, the same for the same: it is told once.
    id: String,
    fingerprint: String,
    why: String,
}

/// Where messages to users are put.
trait Post {
    /// Whether the user has the message with this Message-ID.
    fn has(&self, user: &User, id: &str) -> Result<bool, Error>;
    /// Puts a message into the user's INBOX.
    fn save(&self, user: &User, message: &[u8]) -> Result<(), Error>;
}

/// Dovecot, with its main configuration, if another than its default.
struct Dovecot<'a>(Option<&'a Path>);

impl Post for Dovecot<'_> {
    fn has(&self, user: &User, id: &str) -> Result<bool, Error> {
        doveadm::has(user.name(), id, self.0)
    }

    fn save(&self, user: &User, message: &[u8]) -> Result<(), Error> {
        doveadm::save(user.name(), "INBOX", message, self.0)
    }
}

impl Keys<'_> {
    /// Tells owners what they have not been told, and an admin how it stands.
    ///
    /// # Errors
    /// The last of these, after all others were told, and the rest were said: [`Error::Owner`] where some could not be asked; [`Error::Dovecot`] where the users cannot
    /// be listed, [`Error::Log`] and [`Error::Usage`] where no log tells whose mail waits, [`Error::Command`] where a message is not
    /// taken. At once: [`Error::KeyStore`] where the folder cannot be read, or it cannot be noted what was told.
    pub fn tell(&self, how: &Telling) -> Result<(), Error> {
        let Subjects { all, failure } = self.subjects(&how.users)?;
        // Without anybody of whom it could tell, the log is not gone through.
        let is_deferred = |subject: &Subject| subject.facts.as_ref().is_ok_and(|it| it.deferral.is_some());
        let waiting = if all.iter().any(is_deferred) {
            deferred::read(self.config, &how.logs)
        } else {
            Ok(Waiting::new())
        };
        let (waiting, no_log) = match waiting {
            Ok(waiting) => (waiting, None),
            Err(error) => (Waiting::new(), Some(error)),
        };
        let post = Dovecot(how.users.dovecot_config.as_deref());
        let untold = if how.owners { self.tell_owners(&all, &waiting, &post)? } else { None };
        let unsent = how.digest.as_ref().and_then(|to| self.send_digest(to, &all, &waiting, how).err());
        let mut failures: Vec<Error> = [failure, no_log, untold, unsent].into_iter().flatten().collect();
        let last = failures.pop();
        failures.iter().for_each(|error| cli::complain(cli::ADMIN, None, error));
        last.map_or(Ok(()), Err)
    }

    /// Tells the owners what they have not been told. Of those who could not be, it says why; for the last one that is given back.
    fn tell_owners(
        &self,
        all: &[Subject],
        waiting: &Waiting,
        post: &impl Post,
    ) -> Result<Option<Error>, Error> {
        let mut told = Told::open(&self.config.keys.known.with_file_name(FILE))?;
        let mut failure = None;
        for subject in all {
            let Ok(facts) = &subject.facts else { continue };
            let (user, certs) = (&subject.user, &facts.certs);
            for notice in due(&told, user, facts, waiting.get(user), self.now) {
                match self.tell_owner(subject, &notice, &mut told, post) {
                    Ok(()) => {}
                    Err(error @ Error::KeyStore { .. }) => return Err(error),
                    Err(error) => {
                        if let Some((user, error)) = failure.replace((user, error)) {
                            cli::complain(cli::ADMIN, Some(user.name()), &error);
                        }
                        break;
                    }
                }
            }
            // Those that could not be looked up are not gone.
            if !certs.is_empty() || facts.deferral.is_none() {
                told.forget_others(user, certs);
            }
        }
        told.finish()?;
        Ok(failure.map(|(_, error)| error))
    }

    /// Sends a notice, unless one that was begun has arrived.
    fn tell_owner(
        &self,
        subject: &Subject,
        notice: &Notice,
        told: &mut Told,
        post: &impl Post,
    ) -> Result<(), Error> {
        let user = &subject.user;
        let begun = told.begun(&notice.id).map(str::to_owned);
        if begun.map_or(Ok(false), |message| post.has(user, &message))? {
            return told.done(&notice.id);
        }
        let id = answer::new_id()?;
        let message = self.seal_for(subject, self.message(user, notice, &id)?)?;
        told.begin(&notice.id, &id)?;
        post.save(user, &message)?;
        told.done(&notice.id)
    }

    /// The message, in clear.
    fn message(&self, user: &User, notice: &Notice, id: &str) -> Result<Vec<u8>, Error> {
        let text = match &self.config.keys.owner_notice {
            Some(path) => owner_notice(path)?,
            None => TEXT.into(),
        };
        let text = text
            .replace("%{user}", user.name())
            .replace("%{fingerprint}", &notice.fingerprint)
            .replace("%{why}", &notice.why);
        let to = self.address(user).unwrap_or_else(|| user.name().to_owned());
        Ok(answer::notice(&to, &("Your key for encrypted mail", text), id, self.now))
    }
}

/// The text that an admin has configured.
fn owner_notice(path: &Path) -> Result<String, Error> {
    let failed = |what: String| Error::Config {
        path: path.into(),
        what,
        hint: "write the text for owners there, or take owner-notice out of [keys]".into(),
    };
    let text = config::read_trusted(path)?.ok_or_else(|| failed("there is no such file".into()))?;
    if text.len() > limits::OWNER_NOTICE {
        return Err(failed(format!("it is longer than {} bytes", limits::OWNER_NOTICE)));
    }
    Ok(text)
}

/// What the owner of the certificates is to be told, and has not been.
fn due(told: &Told, user: &User, facts: &Facts, waits: Option<&Waits>, now: SystemTime) -> Vec<Notice> {
    let notice = |seen: &Seen, what: &str, why: String| Notice {
        id: told::id(user, seen, what),
        fingerprint: seen.fingerprint.clone(),
        why,
    };
    let about_one = |seen: &Seen| {
        if let Some(unfit) = &seen.unfit {
            return Some(notice(seen, "unfit", format!("It can no longer be used: {unfit}.")));
        }
        let left = seen.expiry()?.duration_since(now).ok()?;
        let days = DAYS.into_iter().find(|days| left <= DAY * u32::try_from(*days).unwrap_or(u32::MAX))?;
        Some(notice(seen, &days.to_string(), format!("It expires on {}.", day(seen.expiry()))))
    };
    let is_owners = facts.deferral.as_ref().is_some_and(|it| it.reason == NO_USABLE_KEY);
    // Of several, which does not matter: none of them can be used.
    let first = facts.certs.first().filter(|_| is_owners);
    let waits = first.zip(waits.filter(|waits| waits.reason == NO_USABLE_KEY));
    let about_mail = waits.map(|(seen, waits)| {
        let since = waits.since.map_or_else(String::new, |since| format!(" since {}", since.strftime("%F %H:%M UTC")));
        let why = format!(
            "Mail for you waits{since}, because no key of yours can be used. If that lasts,\nit goes back to its senders."
        );
        notice(seen, "deferred", why)
    });
    let all = facts.certs.iter().filter_map(about_one).chain(about_mail);
    all.filter(|notice| !told.has(&notice.id)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use mail_parser::MessageParser;
    use mailseal_core::recipients::WhenExpired;
    use testing::made;

    use super::*;
    use crate::config::Config;
    use crate::keystore::samples::Site;

    /// Mailboxes, and how often the program ends before or after a message is put into one.
    #[derive(Default)]
    struct Mailboxes {
        messages: RefCell<Vec<(User, String, Vec<u8>)>>,
        /// What the next messages meet.
        faults: RefCell<Vec<Fault>>,
    }

    /// What happens to a message.
    enum Fault {
        /// It is lost, with the program that sends it.
        Lost,
        /// It arrives, and the program does not hear of it.
        Unheard,
    }

    impl Post for Mailboxes {
        fn has(&self, user: &User, id: &str) -> Result<bool, Error> {
            Ok(self.messages.borrow().iter().any(|(to, other, _)| to == user && other == id))
        }

        fn save(&self, user: &User, message: &[u8]) -> Result<(), Error> {
            let fault = self.faults.borrow_mut().pop();
            if !matches!(fault, Some(Fault::Lost)) {
                let id = MessageParser::default().parse(message).unwrap().message_id().unwrap().to_owned();
                self.messages.borrow_mut().push((user.clone(), id, message.to_vec()));
            }
            let failed = Error::Command { program: "save".into(), what: "was ended".into() };
            if fault.is_some() { Err(failed) } else { Ok(()) }
        }
    }

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    /// A server with its users: alice is enrolled, bob has enrolled through the mailbox, carol's mail waits once her key has expired.
    struct World {
        site: Site,
        config: Config,
        post: Mailboxes,
        begin: SystemTime,
    }

    impl World {
        fn new() -> Self {
            let site = Site::new();
            let keys = site.keys(&["file:DIR/keys/%{user}.pgp", "dir:%{home}/.config/mailseal"]);
            let config = Config { keys, ..Config::default() };
            site.init(&config.keys);
            Self { site, config, post: Mailboxes::default(), begin: SystemTime::now() }
        }

        fn enrol(&self, place: &str, name: &str, days: u32) {
            let cert = made::expires_in(&format!("{name} <{name}@example.org>"), days * DAY);
            self.site.write(place, &made::public(&cert));
        }

        /// One run, so long after the beginning; what each user was told in it.
        fn run(&self, after: Duration, waiting: &Waiting) -> Vec<(String, String)> {
            let keys = Keys::new(&self.config, None, None, self.begin + after);
            let mut subjects = Vec::new();
            for name in ["alice", "carol"] {
                subjects.push(keys.enrolled_subject(user(name)).unwrap());
            }
            subjects.push(facts::at_home(&keys, "bob", &self.site.at("homes/bob")));
            let before = Told::open(&self.told()).unwrap();
            let due: BTreeMap<User, Vec<Notice>> = subjects
                .iter()
                .map(|it| {
                    (
                        it.user.clone(),
                        due(&before, &it.user, it.facts.as_ref().unwrap(), waiting.get(&it.user), keys.now),
                    )
                })
                .collect();
            drop(before);
            let count = self.post.messages.borrow().len();
            keys.tell_owners(&subjects, waiting, &self.post).unwrap();
            let messages = self.post.messages.borrow();
            // In the order in which they were due.
            let mut left = due;
            messages[count..]
                .iter()
                .map(|(to, ..)| {
                    let notice = left.get_mut(to).unwrap().remove(0);
                    (to.name().to_owned(), notice.id.rsplit(' ').next().unwrap().to_owned())
                })
                .collect()
        }

        fn told(&self) -> PathBuf {
            self.config.keys.known.with_file_name(FILE)
        }
    }

    #[test]
    fn each_notice_is_seen_once_in_a_year() {
        let mut world = World::new();
        world.config.keys.expired = WhenExpired::Defer;
        world.enrol("keys/alice.pgp", "alice", 200);
        world.enrol("homes/bob/.config/mailseal/received.pgp", "bob", 100);
        world.enrol("keys/carol.pgp", "carol", 50);
        let waits = Waits { since: None, reason: NO_USABLE_KEY.into() };
        // Bob's log says that, too, before it is so, and of somebody who has no key at all.
        let early = Waiting::from([(user("bob"), waits.clone()), (user("dave"), waits.clone())]);
        let late = Waiting::from([(user("carol"), waits)]);
        let mut seen = Vec::new();
        for hour in (0..365 * 24).step_by(6) {
            let day = hour / 24;
            let waiting = match day {
                20..30 => &early,
                60.. => &late,
                _ => &Waiting::new(),
            };
            let told = world.run(Duration::from_secs(hour * 3600 + 60), waiting);
            seen.extend(told.into_iter().map(|(name, what)| (day, name, what)));
        }
        let expected = [
            (20, "carol", "30"),
            (43, "carol", "7"),
            (49, "carol", "1"),
            (50, "carol", "unfit"),
            (60, "carol", "deferred"),
            (70, "bob", "30"),
            (93, "bob", "7"),
            (99, "bob", "1"),
            (100, "bob", "unfit"),
            (170, "alice", "30"),
            (193, "alice", "7"),
            (199, "alice", "1"),
            (200, "alice", "unfit"),
        ];
        assert_eq!(seen, expected.map(|(day, name, what)| (day, name.to_owned(), what.to_owned())));
        let sealed = |message: &[u8]| memchr::memmem::find(message, b"multipart/encrypted").is_some();
        // An expired key serves for a notice.
        assert!(world.post.messages.borrow().iter().all(|(.., message)| sealed(message)));
    }

    #[test]
    fn who_comes_late_is_told_of_what_is_nearest_and_a_longer_life_is_another_story() {
        let world = World::new();
        world.site.folder("homes/bob");
        world.enrol("keys/alice.pgp", "alice", 200);
        let told = world.run(195 * DAY, &Waiting::new());
        assert_eq!(told, [("alice".to_owned(), "7".to_owned())]);
        world.enrol("keys/alice.pgp", "alice", 300);
        assert!(world.run(200 * DAY, &Waiting::new()).is_empty());
        assert_eq!(world.run(280 * DAY, &Waiting::new()).len(), 1);
        let told = std::fs::read_to_string(world.told()).unwrap();
        assert_eq!(told.lines().count(), 1, "what was told of the other is forgotten: {told}");
    }

    #[test]
    fn a_run_that_is_ended_loses_no_notice_and_sends_none_twice() {
        for fault in [Fault::Lost, Fault::Unheard] {
            let world = World::new();
            world.enrol("homes/bob/.config/mailseal/received.pgp", "bob", 3);
            world.post.faults.borrow_mut().push(fault);
            for _ in 0..3 {
                world.run(Duration::ZERO, &Waiting::new());
            }
            assert_eq!(world.post.messages.borrow().len(), 1);
            let told = std::fs::read_to_string(world.told()).unwrap();
            assert!(told.ends_with(" 7\n"), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_sealed_is_told_in_clear_without_anything_of_the_mail() {
        let mut world = World::new();
        let cert = made::revoked(
            made::cert("bob@example.org"),
            sequoia_openpgp::types::ReasonForRevocation::KeyCompromised,
        );
        world.site.write("homes/bob/.config/mailseal/received.pgp", &made::public(&cert));
        let text = world.site.write("notice.txt", b"%{user}: %{why}\n");
        world.config.keys.owner_notice = Some(text.clone());
        let waits = Waits { since: Some(jiff::Timestamp::UNIX_EPOCH), reason: NO_USABLE_KEY.into() };
        let told = world.run(Duration::ZERO, &Waiting::from([(user("bob"), waits)]));
        assert_eq!(told.iter().map(|(_, what)| &**what).collect::<Vec<_>>(), ["unfit", "deferred"]);
        let messages = world.post.messages.borrow();
        let bodies: Vec<String> = messages
            .iter()
            .map(|(.., message)| {
                MessageParser::default().parse(message).unwrap().body_text(0).unwrap().into_owned()
            })
            .collect();
        assert!(bodies[0].starts_with("bob: It can no longer be used: revoked as compromised"), "{bodies:?}");
        assert!(bodies[1].starts_with("bob: Mail for you waits since 1970-01-01 00:00 UTC"), "{bodies:?}");
        std::fs::write(&text, vec![b'x'; limits::OWNER_NOTICE + 1]).unwrap();
        let (keys, notice) = (
            Keys::new(&world.config, None, None, world.begin),
            Notice { id: String::new(), fingerprint: String::new(), why: String::new() },
        );
        assert!(keys.message(&user("bob"), &notice, "x").unwrap_err().to_string().contains("longer"));
    }
}
