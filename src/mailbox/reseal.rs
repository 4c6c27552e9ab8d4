//! Edge: `mailseal reseal`: messages that are sealed to an old key are sealed to a new one, each in its place.
//!
//! What is decrypted goes straight into the new seal: it is never on a disk. The new message takes the old one's place
//! only when the old one was proven to its end. Nothing else is sealed or opened: clear mail is `encrypt-maildir`'s.

use std::io::{Read, Write as _};
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use mailseal_core::recipients::{Recipients, WhenExpired};
use mailseal_core::seal::Sealer;
use mailseal_core::unseal::{Envelope, Foreign, Inspected, Unsealed, inspect, read_error};
use mailseal_maildir::commit::Uids;
use mailseal_maildir::draft::{Change, Draft, Original};

use crate::config::Preference;
use crate::error::Error;
use crate::keys::addressee;
use crate::keystore::any_cert::AnyCert;
use crate::mailbox::decrypt::{Opener, Stored};
use crate::mailbox::sweep::{Event, Sweep, Tell, Verdict};
use crate::system::owner::child::Pulse;

/// Who is named where the new certificate is of no use.
pub const USER: &str = "the new key";

/// To whom they are sealed: new certificates, none of which may have expired, and those of recovery.
///
/// # Errors
/// Those of [`addressee::choose`].
pub fn recipients(
    certs_and_recovery: (&[AnyCert], &[AnyCert]),
    preference: Preference,
) -> Result<Recipients, Error> {
    addressee::choose(USER, certs_and_recovery, preference, WhenExpired::Defer, SystemTime::now())
}

/// Seals the messages of Maildirs anew.
///
/// # Errors
/// Those of the folders; single messages that fail are told.
pub fn run(
    sweep: &Sweep,
    uids: Uids,
    opener: Opener<'_>,
    new: Sealer<'_>,
    tell: &Tell<'_>,
) -> Result<(), Error> {
    let transform = |original: &Original, draft: &mut Draft<'_>| reseal(original, draft, opener, new, tell);
    sweep.rewrite(uids, &transform, tell)
}

/// Whether a message is for the new keys alone: of a run before, or delivered since the key was changed.
fn is_done<R: Read>(envelope: &Envelope<R>, opener: Opener<'_>, new: &Recipients) -> Result<bool, Error> {
    let recipients = envelope.recipients();
    if recipients.is_empty() || !recipients.iter().all(|id| new.have_key(id)) {
        return Ok(false);
    }
    let Some(recipients) = envelope.smime_recipients() else { return Ok(true) };
    // Issuer and serial number, which is all that is said of an S/MIME certificate, may be those of the old one as well. What
    // the old keys do not open is not for that.
    let opened = opener.keys.content_key(recipients)?;
    Ok(opened.is_none_or(|opened| new.have_smime_key(&opened.public)))
}

fn reseal(
    original: &Original,
    draft: &mut Draft<'_>,
    opener: Opener<'_>,
    new: Sealer<'_>,
    tell: &Tell<'_>,
) -> Result<Change<Verdict>, Error> {
    let Some((opening, stored)) = Stored::open(original.file())? else {
        return Ok(Change::Keep(Verdict::Clear));
    };
    if let Ok(Inspected::Sealed(envelope)) = inspect(&opening, std::io::empty())
        && is_done(&envelope, opener, new.recipients)?
    {
        return Ok(Change::Keep(Verdict::Encrypted));
    }
    let alive = || tell(Event::Alive);
    opener.open(&opening, &stored, &alive, |unsealed| {
        let mut plain = match unsealed {
            Unsealed::Original(plain) => plain,
            Unsealed::Foreign(Foreign::Clear) => return Ok(Change::Keep(Verdict::Clear)),
            Unsealed::Foreign(Foreign::Encrypted) => return Ok(Change::Keep(Verdict::Encrypted)),
        };
        plain.demand_whole()?;
        let read_failed = |error| match error {
            CoreError::Read(error) => read_error(error),
            error => error,
        };
        let beginning = Opening::read(&mut plain).map_err(read_failed)?;
        // It reads to the end: what is not proven there is an error, and the draft is thrown away.
        draft.restart();
        new.seal(&beginning, &mut plain, Pulse::new(&mut *draft, &alive)).map_err(read_failed)?;
        draft.flush().map_err(CoreError::Write)?;
        Ok(Change::Replace(Verdict::Done { exact: plain.exact }))
    })
}
