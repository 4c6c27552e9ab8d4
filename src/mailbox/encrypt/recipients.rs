//! To whom a mailbox is sealed, and how: on files and through Dovecot alike.

use std::path::Path;
use std::time::SystemTime;

use mailseal_core::recipients::{Recipients, Warning};

use crate::config::style::Style;
use crate::config::{Config, Mode};
use crate::delivery::unchanged::{Off, Unchanged};
use crate::error::Error;
use crate::keys::addressee::{self, Addressee, Whose};
use crate::keys::receive::state::Received;
use crate::keystore::any_cert::{self, AnyCert};
use crate::keystore::enrolled::Enrolled;
use crate::keystore::trust::Trust;
use crate::keystore::user::User;
use crate::mailbox::encrypt::event::{Complaint, Event, Settings, Target};

/// The configuration; where certificates were given, it may be missing.
pub(super) fn config(settings: &Settings) -> Result<Config, Error> {
    let path = settings.config.as_deref().map(Path::new);
    // The process that a person has started says that it is missing.
    Config::load_beside_keys(path, !settings.certs.is_empty(), |_| {})
}

/// To whom the mail is sealed: to the certificates that were given, or as at a delivery; but nobody's mail is sealed
/// whole to what nobody has shown to be able to read, and who is observed keeps clear mail. A dry run goes on, and says what the
/// other one would be refused for.
///
/// # Errors
/// Those of [`addressee::find`] and [`Received::find`]; [`Error::Unconfirmed`], [`Error::ByMailbox`].
pub(super) fn addressee(
    settings: &Settings,
    target: &Target,
    config: &Config,
    report: &(dyn Fn(Event) + Sync),
) -> Result<Addressee, Error> {
    let (user, now) = (&*target.user, SystemTime::now());
    if !settings.certs.is_empty() {
        let certs = any_cert::parse_each(&settings.certs)?;
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
        && let Some(refusal) = why_unproven(settings, &User::parse(user)?, (certs, home), config)?
    {
        if !settings.how.dry_run {
            return Err(refusal);
        }
        report(Event::Problem(Complaint::of(&refusal)));
    }
    Ok(found)
}

/// Why the user's mail is not sealed whole to `certs`: nobody has shown well enough that they can be read with.
fn why_unproven(
    settings: &Settings,
    user: &User,
    (certs, home): (&[AnyCert], Option<&Path>),
    config: &Config,
) -> Result<Option<Error>, Error> {
    let confirmed =
        Enrolled::of(&config.keys).and_then(|enrolled| enrolled.file(user, home)?.is_confirmed(certs));
    if confirmed.unwrap_or(false) {
        return Ok(None);
    }
    let trust = Trust::of_process(config.keys.trusted_groups.ids());
    // Where no home is known, they were found elsewhere.
    let received = match home {
        Some(_) => Received::find(&config.keys, user, home, &trust)?,
        None => None,
    };
    let name = || user.name().to_owned();
    Ok(match received.map_or(Ok(false), |it| it.holds(certs))? {
        true if !settings.how.accept_mailbox => Some(Error::ByMailbox { user: name() }),
        false if !settings.how.unconfirmed => Some(Error::Unconfirmed { user: name() }),
        _ => None,
    })
}

/// Says what should be known of the keys that all of a mailbox is about to be sealed to.
pub(super) fn warn(target: &Target, recipients: &Recipients, report: &(dyn Fn(Event) + Sync)) {
    if recipients.warnings().contains(&Warning::Expired) {
        let what = format!("{}: sealed to certificates that have expired", target.user);
        let hint =
            "enrol a new one (mailseal keys add --replace), and seal stored mail again with mailseal reseal";
        report(Event::Problem(Complaint { what, hint: hint.into() }));
    }
}

/// How the mail is sealed: as the command line says, else as configured.
pub(super) fn style(settings: &Settings, target: &Target, config: &Config) -> Style {
    config.style(&target.user, &settings.how.sealing)
}
