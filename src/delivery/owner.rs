//! Whose mail it is, as Dovecot's user database tells.

use std::path::PathBuf;

use crate::cli::sealing::{ProtectHeaders, Sealing};
use crate::delivery::options::Said;
use crate::dovecot::userdb::Account;
use crate::error::Error;

/// A delivery user, and what is said of how the user's mail is sealed.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The name.
    pub name: String,
    /// The home, where it is known.
    pub home: Option<PathBuf>,
    /// With whose rights Dovecot delivers, where it says so.
    pub uid: Option<u32>,
    /// The settings of the user's own.
    pub said: Said,
}

impl Owner {
    /// A user with the settings that are for us, as the Sieve scripts take them.
    ///
    /// # Errors
    /// [`Error::Dovecot`] for a setting that is wrong.
    pub fn of(account: Account) -> Result<Self, Error> {
        let Account { name, uid, home, settings, .. } = account;
        let set = |setting: &str| settings.get(setting).map(String::as_str).filter(|value| !value.is_empty());
        let wrong = |what: String| Error::Dovecot { what: format!("the user {name:?}: {what}") };
        let protect_headers = match set("protect_headers") {
            None => None,
            Some(value) => match <ProtectHeaders as clap::ValueEnum>::from_str(value, false) {
                Ok(policy) => Some(policy),
                Err(_) => return Err(wrong(format!("mailseal_protect_headers is {value:?}"))),
            },
        };
        let key_files: Vec<PathBuf> = set("key").into_iter().map(PathBuf::from).collect();
        if let Some(path) = key_files.iter().find(|path| !path.is_absolute()) {
            return Err(wrong(format!("mailseal_key is {path:?}, which is not an absolute path")));
        }
        let off = set("off").is_some_and(|value| ["on", "true", "1"].contains(&value));
        let sealing = Sealing { protect_headers, ..Sealing::default() };
        Ok(Self { home, uid, said: Said { key_files, sealing, off, ..Said::default() }, name })
    }
}
