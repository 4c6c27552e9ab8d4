//! Edge: Takes away what setup made: the settings first, and what they need only when the Dovecot that runs has them no more.
//! Keys, the register and the configuration stay; what is sealed stays sealed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use mailseal_maildir::durable;

use super::dovecot::Dovecot;
use super::journal::{self, Journal};
use super::prepare::read_site;
use super::work::say;
use super::{Options, must_be_root, refusal, reload};
use crate::error::Error;
use crate::exit::Exit;

/// Takes it away, or says what would be.
///
/// # Errors
/// [`Error::Setup`] with the reason where it cannot be; all is as it was then.
pub fn undo(options: &Options, out: &mut impl Write) -> Result<Exit, Error> {
    must_be_root()?;
    let is_made = match journal::read(&options.state)? {
        Some(contents) => contents.settings.is_some() || !contents.made.is_empty(),
        None => false,
    };
    let mut dovecot = Dovecot::find(options.dovecot_config.as_deref())?;
    let (source, _) = read_site(&mut dovecot)?;
    let settings = source.ours.map(|ours| ours.path);
    if !is_made && settings.is_none() {
        say(out, format_args!("nothing to take away"))?;
        return Ok(Exit::Ok);
    }
    let script = options.state.join("sieve/mailseal.sieve");
    if options.dry_run {
        return show(options, settings.as_deref(), out).map(|()| Exit::Ok);
    }
    let journal = Journal::open(&options.state)?;
    if let Some(path) = &settings {
        remove_settings(&dovecot, &journal, path, &script)?;
        say(out, format_args!("removed {}: mail is not sealed any more", path.display()))?;
    } else if reload::is_running(&dovecot) && reload::names(&dovecot, &script)? {
        reload::tell(&dovecot).map_err(|what| refusal(what, "see Dovecot's log"))?;
        reload::wait_until(|| Ok(!reload::names(&dovecot, &script)?))?;
    }
    let stays = journal.remove_all()?;
    for why in &stays {
        say(out, format_args!("left: {why}"))?;
    }
    say(
        out,
        format_args!(
            "certificates, the register of known users and {} stay; what is sealed stays sealed (mailseal decrypt opens it)",
            options.config.display()
        ),
    )?;
    Ok(if stays.is_empty() { Exit::Ok } else { Exit::Negative })
}

/// Removes the settings, and has Dovecot go on without them; they are put back where that fails.
fn remove_settings(dovecot: &Dovecot, journal: &Journal, path: &Path, script: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| refusal(format!("{}: {error}", path.display()), "see what is there");
    let bytes = std::fs::read(path).map_err(failed)?;
    if !journal.is_own(path, &bytes) {
        return Err(refusal(
            format!("{} was changed since setup wrote it", path.display()),
            "remove it yourself, reload Dovecot, and run this again",
        ));
    }
    let is_running = reload::is_running(dovecot);
    let removed = std::fs::remove_file(path)
        .and_then(|()| durable::flush(File::open(path.parent().unwrap_or(Path::new("/")))?));
    removed.map_err(failed)?;
    if !is_running {
        return Ok(());
    }
    let told = reload::tell(dovecot).map_err(|what| refusal(what, "see Dovecot's log"));
    let gone = || Ok(!reload::names(dovecot, script)?);
    told.and_then(|()| reload::wait_until(gone)).inspect_err(|_| {
        // The files that it names are all there.
        let _ = durable::write(path, &bytes, 0o644);
        let _ = reload::tell(dovecot);
    })
}

fn show(options: &Options, settings: Option<&Path>, out: &mut impl Write) -> Result<(), Error> {
    let contents = journal::read(&options.state)?.unwrap_or_default();
    if let Some(path) = settings {
        say(out, format_args!("would remove {}", path.display()))?;
        say(out, format_args!("would run: doveadm reload"))?;
    }
    let mut others = contents
        .made
        .iter()
        .rev()
        .map(journal::Made::place)
        .filter(|place| Some(Path::new(place)) != settings);
    others.try_for_each(|place| say(out, format_args!("would remove {place}, if it is unchanged")))
}
