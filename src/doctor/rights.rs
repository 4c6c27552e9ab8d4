//! Checks of every user's home: whether a delivery would refuse what lies there for its owners and rights, and which groups
//! may be trusted. It looks at names and rights, and opens nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use nix::unistd::{Gid, Group};

use super::findings::{Causes, Findings};
use super::users::{Account, Users};
use crate::config::{Config, Mode};
use crate::console::names::NAMED;
use crate::error::Error;
use crate::keystore::safe_file;
use crate::keystore::source::{Kind, Source, Values};
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::keystore::{self, Request};

/// The name of this check.
const CHECK: &str = "homes";

/// Looks at the home of every user, by the rules of a delivery to that user and in its order: no delivery asks a home behind a
/// source that has a certificate, or where somebody has said what becomes of the mail.
pub fn check(config: &Config, users: &Users, findings: &mut Findings) {
    let in_homes = |source: &&Source| source.path.store(source.kind).is_none();
    if !config.keys.sources.iter().any(|source| in_homes(&source)) || users.accounts().is_empty() {
        return;
    }
    let mut causes = Causes::default();
    for account in users.accounts() {
        if is_decided(config, account) {
            continue;
        }
        for (number, source) in config.keys.sources.iter().enumerate().filter(|(_, source)| in_homes(source))
        {
            if let Err(error) = look_at(config, source, account)
                && !is_found_before(config, number, account)
            {
                let mend = proposal(&error, account, users).unwrap_or_else(|| error.hint());
                causes.add(&account.name, error.to_string(), mend);
                break;
            }
        }
    }
    findings.fail_for(CHECK, causes);
    findings.ok_unless_said(CHECK, "their owners and rights are those that a delivery accepts");
}

/// Whether no source is asked for this user.
fn is_decided(config: &Config, account: &Account) -> bool {
    let key = account.settings.get("key").is_some_and(|value| !value.is_empty());
    let rule = User::parse(&account.name).ok().and_then(|user| config.rule(&user));
    account.is_off() || key || rule.is_some_and(|rule| rule.mode == Mode::Off || !rule.key.is_empty())
}

/// Whether a store before the source of this number ends the search of a delivery: it has a certificate, or cannot be asked,
/// which is said of the store.
fn is_found_before(config: &Config, number: usize, account: &Account) -> bool {
    let Ok(user) = User::parse(&account.name) else { return false };
    let trust = Trust::of(account.identity.uid, config.keys.trusted_groups.ids());
    // Homes are looked into by nobody but their owners.
    let stores = config.keys.sources[..number].iter().filter(|it| it.path.store(it.kind).is_some());
    let request = Request::new(&config.keys, &user, None, SystemTime::now(), trust);
    !matches!(keystore::find(stores, &request), Ok(None))
}

/// Goes the way of a delivery to the place of `source`, and up from there.
fn look_at(config: &Config, source: &Source, account: &Account) -> Result<(), Error> {
    let user = User::parse(&account.name)?;
    let values = Values { user: &user, home: account.home.as_deref(), homes: &config.keys.homes };
    let trust = Trust::of(account.identity.uid, config.keys.trusted_groups.ids());
    let place = source.path.place(source.kind, &values, &trust)?;
    let folder = match source.kind {
        Kind::File => place.at(place.path.parent().unwrap_or(Path::new("/")).into()),
        _ => place,
    };
    if safe_file::reach(&folder)? { safe_file::check_above(&folder) } else { Ok(()) }
}

/// What an admin could say in the configuration, where that mends it.
fn proposal(error: &Error, account: &Account, users: &Users) -> Option<String> {
    match error {
        Error::Home { path, .. } if !path.exists() => {
            let homes = path.parent()?.display();
            Some(format!(
                "where homes are made with the first mail: homes = [\"{homes}\"] in [keys], then mailseal keys init"
            ))
        }
        Error::KeyStore { path, .. } => {
            let metadata = std::fs::metadata(path).ok()?;
            let (mode, gid) = (metadata.mode(), metadata.gid());
            if mode & 0o022 != 0o020 || ![0, account.identity.uid].contains(&metadata.uid()) {
                return None;
            }
            let others = members(gid, account, users);
            Some(if others.is_empty() {
                format!(
                    "nobody else is in that group: trusted-groups = [{gid}] in [keys]; or chmod g-w {}",
                    path.display()
                )
            } else {
                format!("chmod g-w {}: {} may write to it as well", path.display(), others.join(", "))
            })
        }
        _ => None,
    }
}

/// Who is in the group beside the user, as far as the system and Dovecot know.
fn members(gid: u32, account: &Account, users: &Users) -> Vec<String> {
    let listed =
        Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.mem).unwrap_or_default();
    let primary = users
        .accounts()
        .iter()
        .filter(|other| other.identity.gid == gid && other.identity.uid != account.identity.uid);
    let mut members: Vec<String> =
        listed.into_iter().chain(primary.map(|other| other.name.clone())).collect();
    members.retain(|name| *name != account.name);
    members.sort();
    members.dedup();
    members.truncate(NAMED);
    members
}
