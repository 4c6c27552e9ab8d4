//! To whom a mailbox is sealed, and how: on files and through Dovecot alike.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::{Recipients, Warning};
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;

use crate::config::{Config, Mode};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keystore::enrolled::Enrolled;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::mailbox::encrypt::event::{Complaint, Event, Settings, Target};
use crate::mailbox::encrypt::message::StoredSealer;

/// The configuration; where certificates were given, it may be missing.
pub(super) fn config(settings: &Settings) -> Result<Config, Error> {
    let path = settings.config.as_deref().map(Path::new);
    // The process that a person has started says that it is missing.
    Config::load_beside_keys(path, !settings.certs.is_empty(), |_| {})
}

/// To whom the mail is sealed: to the certificates that were given, or as at a delivery; but nobody's mail is sealed
/// whole to what nobody has shown to be able to read, and who is observed keeps clear mail.
///
/// # Errors
/// Those of [`addressee::find`]; [`Error::Unconfirmed`].
pub(super) fn addressee(settings: &Settings, target: &Target, config: &Config) -> Result<Addressee, Error> {
    let (user, now) = (&*target.user, SystemTime::now());
    if !settings.certs.is_empty() {
        let certs: Result<Vec<Cert>, _> =
            settings.certs.iter().map(|bytes| Cert::from_bytes(bytes).map_err(CoreError::OpenPgp)).collect();
        let certs = certs?;
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let recipients = addressee::recipients(&config.keys, user, &certs, (&trust, None), now)?;
        return Ok(Addressee::Sealed { recipients, certs, looked_up: false });
    }
    let home = target.home.as_deref().map(Path::new);
    let whose = Whose { user, home, key_files: &[], cache: None };
    if addressee::rule(config, &whose)?.is_some_and(|rule| rule.mode == Mode::Observe) {
        return Ok(Addressee::Clear(Unchanged::Off(Off::Observed)));
    }
    let found = addressee::find(config, &whose, now)?;
    if let Addressee::Sealed { certs, looked_up: true, .. } = &found
        && !settings.how.unconfirmed
        && !settings.how.dry_run
    {
        let confirmed = Enrolled::of(&config.keys)
            .and_then(|enrolled| enrolled.file(&User::parse(user)?, home)?.is_confirmed(certs));
        if !confirmed.unwrap_or(false) {
            return Err(Error::Unconfirmed { user: user.into() });
        }
    }
    Ok(found)
}

/// Says what should be known of the keys that all of a mailbox is about to be sealed to.
pub(super) fn warn(target: &Target, recipients: &Recipients, report: &(dyn Fn(Event) + Sync)) {
    if recipients.warnings().contains(&Warning::Expired) {
        let what = format!("{}: sealed to certificates that have expired", target.user);
        let hint = "enrol a new one (mailseal keys add --replace), and seal anew with mailseal reseal";
        report(Event::Problem(Complaint { what, hint: hint.into() }));
    }
}

/// How the mail is sealed: as the command line says, else as configured.
pub(super) fn sealer<'a>(
    settings: &Settings,
    target: &Target,
    config: &Config,
    recipients: &'a Recipients,
) -> StoredSealer<'a> {
    let how = &settings.how;
    let said = (how.protect_headers.map(Policy::from), how.compression);
    StoredSealer { sealer: config.sealer(&target.user, recipients, said), unpack: how.unpack }
}
