//! What time brings about, and an admin: a certificate that has waited takes effect, and until then is announced each day.

use serde::{Deserialize, Serialize};

use super::Session;
use super::state::{self, Pending, Stage, State, Stop, Store};
use crate::cli::sealing::Sealing;
use crate::config::Receive;
use crate::error::Error;
use crate::keys::enrol;
use crate::keystore;
use crate::keystore::any_cert;
use crate::system::owner::Bytes;

/// After so many seconds a certificate that waits is announced again: a timer is not that exact.
const AGAIN: u64 = 23 * 60 * 60;

/// What waits of a user's, as an admin sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// What is awaited.
    pub what: Awaited,
    /// The certificates, one after the other; those that are there, where sealing is to be stopped.
    pub certs: Bytes,
    /// Whether those that are there stay.
    pub also: bool,
    /// When it began, in seconds since 1970.
    pub since: u64,
}

/// What certificates wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Awaited {
    /// A message of the user's own.
    Message,
    /// The code sealed to the new key.
    Code,
    /// The code sealed to the old key, or an admin.
    OldCode,
    /// This time, in seconds since 1970.
    Until(u64),
    /// An admin.
    Admin,
    /// An admin, who is to stop sealing.
    Stop,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Nothing.
    Nothing,
    /// It is to be announced again.
    Announce,
    /// The certificates are in effect.
    Enrolled,
}

/// The state of one user without a change to it; `None` where nothing waits.
///
/// # Errors
/// Those of [`Store`].
pub fn look(session: &Session<'_>) -> Result<Option<Waiting>, Error> {
    let Some(store) = session.opened()? else { return Ok(None) };
    waiting(session, &store.load()?)
}

/// Does what is due, and says what waits or waited.
///
/// # Errors
/// Those of [`Store`], of the key sources, and of sealing: it is tried again the next time.
pub fn advance(session: &Session<'_>) -> Result<Option<(Waiting, Event)>, Error> {
    let Some(store) = session.opened()? else { return Ok(None) };
    let mut state = store.load()?;
    let before = state.clone();
    let seen = waiting(session, &state)?;
    let event = session.advance(&mut state)?;
    if state != before {
        store.save(&state)?;
    }
    Ok(seen.map(|waiting| (waiting, event)))
}

/// Drops what waits, where it is `certs`: an admin has enrolled it.
///
/// # Errors
/// Those of [`Store`].
pub fn clear(session: &Session<'_>, certs: &[u8]) -> Result<(), Error> {
    let Some(store) = session.opened()? else { return Ok(()) };
    let mut state = store.load()?;
    if state.pending.as_ref().is_some_and(|pending| pending.certs.0 == certs) {
        state.pending = None;
        store.save(&state)?;
    }
    Ok(())
}

/// Takes away what was enrolled through the mailbox: the user has asked for it.
///
/// # Errors
/// Those of [`Store`]; [`Error::Usage`] where the user has not.
pub fn stop(session: &Session<'_>) -> Result<(), Error> {
    let nothing = || Error::Usage {
        what: format!("{} has not asked for it", session.user.name()),
        hint: "look with `mailseal keys pending`".into(),
    };
    let store = session.opened()?.ok_or_else(nothing)?;
    let mut state = store.load()?;
    if !matches!(state.stop, Some(Stop { proof: None, .. })) {
        return Err(nothing());
    }
    if let Some(received) = session.received()? {
        received.store(&[])?;
    }
    state.stop = None;
    store.save(&state)
}

fn waiting(session: &Session<'_>, state: &State) -> Result<Option<Waiting>, Error> {
    if let Some(Pending { certs, also, since, stage, .. }) = &state.pending {
        let what = match stage {
            Stage::Own(_) => Awaited::Message,
            Stage::New(_) => Awaited::Code,
            Stage::Old(_) => Awaited::OldCode,
            Stage::Time { until, .. } => Awaited::Until(*until),
            Stage::Admin => Awaited::Admin,
        };
        return Ok(Some(Waiting { what, certs: certs.clone(), also: *also, since: *since }));
    }
    match &state.stop {
        Some(Stop { proof: None, .. }) => {
            let certs = Bytes(any_cert::serialize(&session.existing()?)?);
            Ok(Some(Waiting { what: Awaited::Stop, certs, also: false, since: session.seconds() }))
        }
        _ => Ok(None),
    }
}

impl Session<'_> {
    fn opened(&self) -> Result<Option<Store>, Error> {
        Store::open(&self.home, self.user.name(), &self.trust)
    }

    fn advance(&self, state: &mut State) -> Result<Event, Error> {
        let now = self.seconds();
        if let Some((purpose, proof)) = state.awaited()
            && proof.since.saturating_add(state::CODE_LIFE) < now
        {
            state.drop_awaited(purpose);
            return Ok(Event::Nothing);
        }
        let Some(pending) = &mut state.pending else { return Ok(Event::Nothing) };
        let Stage::Time { until, announced } = &mut pending.stage else { return Ok(Event::Nothing) };
        if self.config.keys.receive == Receive::Off {
            return Ok(Event::Nothing);
        }
        let (until, is_day_over) = (*until, now.saturating_sub(*announced) >= AGAIN);
        let existing = self.existing()?;
        // What came in the meantime was not agreed to by its owner.
        let is_same = state::fingerprints(&existing).iter().all(|it| pending.before.contains(it));
        if !is_same || !self.may_enrol(&existing)? {
            pending.stage = Stage::Admin;
            return Ok(Event::Nothing);
        }
        if now >= until {
            self.enrol(pending)?;
            state.pending = None;
            return Ok(Event::Enrolled);
        }
        if is_day_over {
            *announced = now;
            return Ok(Event::Announce);
        }
        Ok(Event::Nothing)
    }

    /// Puts the certificates where deliveries find them.
    fn enrol(&self, pending: &Pending) -> Result<(), Error> {
        let mut certs = pending.certs()?;
        let new = state::fingerprints(&certs);
        let Some(received) = self.received()? else { return Ok(()) };
        let old = received.load()?;
        for cert in &old {
            if pending.also || new.contains(&cert.fingerprint()) {
                any_cert::merge(&mut certs, [cert.clone()]);
            }
        }
        let recovery = keystore::read_recovery(&self.config.keys.recovery, &self.trust, None)?;
        let (name, preference) = (self.user.name(), self.config.keys.preference());
        let style = self.config.style(name, &Sealing::default());
        enrol::test_seal(name, (&certs, &recovery), preference, &style, self.now)?;
        received.store(&certs)?;
        // Not where another source, or another file in the folder, has the last word.
        let found = self.existing().map(|found| state::fingerprints(&found));
        if !matches!(&found, Ok(found) if *found == state::fingerprints(&certs)) {
            received.store(&old)?;
            found?;
            return Err(Error::KeyStore {
                path: received.path(),
                what: "deliveries would not take the certificate from there".into(),
                hint: "see which source comes first: mailseal keys show USER".into(),
            });
        }
        Ok(())
    }
}
