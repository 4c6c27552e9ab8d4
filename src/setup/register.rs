//! Edge: The register of known users and the markers of stores, which setup has `mailseal keys init` make; and the
//! configuration, where there is none yet.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use crate::config::{self, Config};
use crate::dovecot::userdb::{Account, Answer, Userdb};
use crate::error::Error;
use crate::exit::Exit;
use crate::keys::admin::Keys;
use crate::keys::admin::register::UserList;
use crate::keystore::absence::{check_marker, stores};
use crate::keystore::known::Known;
use crate::keystore::marker::Marker;
use crate::keystore::names::MARKER;
use crate::keystore::trust::Trust;

/// The configuration with every setting's default.
const TEMPLATE: &str = include_str!("../../sieve/mailseal.toml");

/// Most folders of homes that are written into a new configuration.
const MOST_HOMES: usize = 8;

/// What there was before `keys init`.
#[derive(Debug)]
pub struct Before {
    known: PathBuf,
    had_known: bool,
    /// Markers that were not there.
    new: Vec<PathBuf>,
}

impl Before {
    /// What there is now.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let known = config.keys.known.clone();
        let folders = stores(&config.keys).into_iter().chain([known.clone()]);
        let markers = folders.map(|folder| folder.join(MARKER));
        Self { had_known: known.exists(), new: markers.filter(|path| !path.exists()).collect(), known }
    }

    /// Takes away what was made since; what could not be.
    #[must_use]
    pub fn restore(self) -> Option<String> {
        for marker in &self.new {
            if marker.exists()
                && let Err(error) = std::fs::remove_file(marker)
            {
                return Some(format!("{}: {error}", marker.display()));
            }
        }
        if self.had_known || !self.known.exists() {
            return None;
        }
        std::fs::remove_dir_all(&self.known).err().map(|error| format!("{}: {error}", self.known.display()))
    }
}

/// Whether the register is complete, and every store bears its marker.
///
/// # Errors
/// [`Error::KeyStore`] where that cannot be found out, or a store is another one than it was.
pub fn is_complete(config: &Config) -> Result<bool, Error> {
    let groups = config.keys.trusted_groups.ids();
    let known = Known::new(&config.keys.known, Trust::of_process(groups));
    let Some(marker) = known.marker()? else { return Ok(false) };
    for store in stores(&config.keys) {
        let trust = Trust::of_owner(&store, groups);
        if marker.id_of(&store).is_some() {
            check_marker(&store, &marker, &trust)?;
        } else if Marker::read(&store, &trust).is_err() || marker.id_of(&store).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Has `mailseal keys init` do its work; [`Exit::Negative`] where some users could not be asked.
///
/// # Errors
/// Those of `keys init`.
pub fn init(
    config: &Config,
    path: &Path,
    users: &UserList,
    stop: &Arc<AtomicBool>,
    out: &mut impl Write,
) -> Result<Exit, Error> {
    Keys::new(config, Some(path.into()), None, SystemTime::now()).until(stop).init(users, &[], out)
}

/// The text of a new configuration at `path`, for state in the folder `state`.
#[must_use]
pub fn configuration(path: &Path, state: &Path, homes: &[PathBuf]) -> String {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let homes: Vec<String> = homes.iter().map(|home| format!("{:?}", home.display().to_string())).collect();
    TEMPLATE
        .replace(config::DEFAULT_PATH, &path.display().to_string())
        .replace("/etc/mailseal/", &format!("{}/", folder.join("mailseal").display()))
        .replace("/var/lib/mailseal", &state.display().to_string())
        .replace("\nhomes = []\n", &format!("\nhomes = [{}]\n", homes.join(", ")))
}

/// The folders in which homes lie, as the running Dovecot tells; none where it does not, or they are too many to be right.
#[must_use]
pub fn homes(dovecot_config: Option<&Path>) -> Vec<PathBuf> {
    let listed = Userdb::of_dovecot(dovecot_config).and_then(|mut userdb| {
        let names = userdb.list()?;
        userdb.look_up(&names)
    });
    let accounts = listed.unwrap_or_default().into_iter().filter_map(|answer| match answer {
        Answer::Found(account) => Some(account),
        _ => None,
    });
    let folders: BTreeSet<PathBuf> = accounts.filter_map(|account| folder_of(&account)).collect();
    if folders.len() > MOST_HOMES {
        Vec::new()
    } else {
        folders.into_iter().filter(|it| it.is_dir()).collect()
    }
}

/// The folder of a home: the one of all domains, where each domain has one.
fn folder_of(account: &Account) -> Option<PathBuf> {
    let folder = account.home.as_deref()?.parent()?;
    let domain = account.name.split_once('@').map(|(_, domain)| domain);
    let is_of_domain = domain.is_some() && folder.file_name().and_then(|it| it.to_str()) == domain;
    let folder = if is_of_domain { folder.parent()? } else { folder };
    (folder.is_absolute() && folder != Path::new("/")).then(|| folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_configuration_is_one_that_can_be_read() {
        let homes = ["/var/vmail".into(), "/home".into()];
        let text = configuration(Path::new("/opt/etc/mailseal.toml"), Path::new("/opt/state"), &homes);
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.keys.homes, homes);
        assert_eq!(config.keys.known, Path::new("/opt/state/known"));
        assert!(text.contains("\"file:/opt/etc/mailseal/keys/%{user}.pgp\""), "{text}");
    }

    #[test]
    fn homes_lie_in_the_folder_of_all_domains() {
        let folder = |name: &str, home: &str| {
            folder_of(&Account { name: name.into(), home: Some(home.into()), ..Account::default() })
        };
        assert_eq!(folder("a@example.org", "/var/vmail/example.org/a"), Some("/var/vmail".into()));
        assert_eq!(folder("a@example.org", "/var/vmail/a@example.org"), Some("/var/vmail".into()));
        assert_eq!(folder("a", "/home/a"), Some("/home".into()));
        assert_eq!(folder("root", "/root"), None);
    }
}
