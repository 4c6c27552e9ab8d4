//! Seals one message: its entity becomes one OpenPGP message inside RFC 3156's `multipart/encrypted`, or an enveloped-data or
//! authEnveloped-data of S/MIME.
//!
//! The beginning has been read; the rest is streamed, in constant memory. What the header becomes is
//! [`envelope`]'s business, the ciphertext [`crate::openpgp`]'s and [`crate::smime`]'s.

mod again;
pub mod envelope;

use std::io::{Read, Write};

use self::envelope::{BOUNDARY_OCTETS, Envelope, Shell};
use crate::base64::Lines;
use crate::error::Error;
use crate::limits;
use crate::message::lines::ToCrlf;
use crate::message::opening::{Opening, copy};
use crate::openpgp::Encryption;
use crate::openpgp::compress::Compression;
use crate::openpgp::padding::Padding;
use crate::openpgp::relay::stage;
use crate::protect::policy::HIDDEN_SUBJECT;
use crate::protect::{self, Additions, Appearance, Plan, Policy};
use crate::recipients::{Format, Recipients, Session, Warning, smime};
use crate::smime::enveloped::Enveloped;
use crate::smime::open::RECORD_FIELD;

/// Bytes that the threads which work on a long message hand on at once. Each time one is woken, which takes as long as
/// encrypting some kilobytes: with pieces of 32 KiB a message of 28 MB takes a tenth longer.
const STAGE_BUFFER: usize = 128 * 1024;

/// The same beside a header of more than [`LONG_HEADER`]: what is held is bounded together.
const STAGE_BUFFER_BESIDE_LONG_HEADER: usize = 32 * 1024;
const LONG_HEADER: usize = 1024 * 1024;

/// How messages are sealed.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    /// To whom.
    pub recipients: &'a Recipients,
    /// Which header fields are hidden inside.
    pub protect_headers: Policy,
    /// What the outside shows for a hidden Subject: one line.
    pub subject: &'a str,
    /// How they are compressed before they are encrypted, with OpenPGP: S/MIME's readers know no compression.
    pub compression: Compression,
    /// What they are filled up to, with OpenPGP: with S/MIME there must be none.
    pub padding: Padding,
    /// What is put inside for the sake of mail programs.
    pub additions: Additions,
}

impl<'a> Sealer<'a> {
    /// To `recipients`, with the fields hidden that `protect_headers` says, and all else as usual.
    #[must_use]
    pub fn to(recipients: &'a Recipients, protect_headers: Policy) -> Self {
        Self {
            recipients,
            protect_headers,
            subject: HIDDEN_SUBJECT,
            compression: Compression::Auto,
            padding: Padding::None,
            additions: Additions::default(),
        }
    }
}

/// One message for which all is decided, and of which nothing is written yet.
#[derive(Debug)]
pub struct Sealing<'a> {
    opening: &'a Opening,
    session: Session,
    envelope: Envelope<'a>,
    warning: Option<Warning>,
    compression: Compression,
    padding: Padding,
}

/// What a message was sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The encryption container.
    pub format: Format,
    /// What the log calls the keys ([`Session::key_ids`]).
    pub key_ids: Vec<String>,
    /// What to warn about, each once.
    pub warnings: Vec<Warning>,
}

impl Sealed {
    /// Whether header fields that should have been hidden stay readable outside.
    #[must_use]
    pub fn leaves_fields(&self) -> bool {
        let skipped = [Warning::HpSkipped, Warning::HpSkippedSigned];
        self.warnings.iter().any(|warning| skipped.contains(warning))
    }
}

impl Sealer<'_> {
    /// Decides how the message that begins with `opening` is sealed, and makes its session key.
    ///
    /// # Errors
    /// [`Error::HeaderTooLong`]; those of [`Recipients::session`], and of the random number generator; [`Error::Padding`] or [`Error::SmimePadding`]
    /// where it cannot be filled up; [`Error::SealedHeaderTooLong`].
    pub fn begin<'a>(&self, opening: &'a Opening) -> Result<Sealing<'a>, Error> {
        if opening.head().fields().len() > limits::HEADER {
            return Err(Error::HeaderTooLong);
        }
        let session = self.recipients.session()?;
        if self.needs_length(&session)? && !opening.is_whole() {
            return Err(Error::Padding);
        }
        let (envelope, warning) = self.envelope(opening, &session)?;
        Ok(Sealing {
            opening,
            session,
            envelope,
            warning,
            compression: self.compression,
            padding: self.padding,
        })
    }

    /// What the message is wrapped into, and why its header is not protected as it should be. A header that protection would make
    /// longer than any reader takes is left as it is.
    fn envelope<'a>(
        &self,
        opening: &'a Opening,
        session: &Session,
    ) -> Result<(Envelope<'a>, Option<Warning>), Error> {
        let appearance = Appearance::of(self.protect_headers, self.subject, opening.head());
        let shell = shell(session)?;
        let wrap = |plan: Plan<'a>, shell: Shell| {
            let (head, line_ending) = (opening.head(), opening.line_ending());
            Envelope::new(head, line_ending, plan.protection, self.additions.mark, shell)
        };
        let plan = protect::plan(appearance.map_err(Error::OpenPgp)?, self.additions, opening);
        let warning = plan.warning;
        let envelope = wrap(plan, shell.clone());
        if envelope.can_be_read() {
            return Ok((envelope, warning));
        }
        // What is on its way out shows nothing.
        if matches!(self.protect_headers, Policy::None | Policy::Sent) {
            return Err(Error::SealedHeaderTooLong);
        }
        let envelope = wrap(protect::plan(Policy::None.into(), self.additions, opening), shell);
        let can_be_read = envelope.can_be_read();
        can_be_read.then_some((envelope, Some(Warning::HpSkipped))).ok_or(Error::SealedHeaderTooLong)
    }

    /// Whether it seals only messages that are not longer than their [`Opening`]: what fills them up stands before them, where the
    /// recipients take nothing but uncompressed data.
    ///
    /// # Errors
    /// Those of [`Recipients::session`]; [`Error::SmimePadding`] where it seals none.
    pub fn seals_short_only(&self) -> Result<bool, Error> {
        self.needs_length(&self.recipients.session()?)
    }

    /// Whether it must be known how long a message becomes before it is written.
    fn needs_length(&self, session: &Session) -> Result<bool, Error> {
        match session {
            Session::OpenPgp(session) => Ok(self.padding.needs_length(session, self.compression)),
            Session::Smime(_) if self.padding != Padding::None => Err(Error::SmimePadding),
            Session::Smime(_) => Ok(false),
        }
    }

    /// Writes the sealed form of the message that begins with `opening` and goes on in `rest`. `out` is not flushed.
    ///
    /// # Errors
    /// Those of [`Sealer::begin`] and [`Sealing::write`].
    pub fn seal<W: Write + Send + Sync>(
        &self,
        opening: &Opening,
        rest: &mut impl Read,
        out: W,
    ) -> Result<Sealed, Error> {
        let sealing = self.begin(opening)?;
        let sealed = sealing.sealed();
        sealing.write(rest, out).map(|_| sealed)
    }
}

impl Sealing<'_> {
    /// What the message is sealed to.
    #[must_use]
    pub fn sealed(&self) -> Sealed {
        let warnings = self.session.warnings().iter().copied().chain(self.warning).collect();
        Sealed { format: self.session.format(), key_ids: self.session.key_ids().to_vec(), warnings }
    }

    /// Writes the sealed form of the message, which goes on in `rest`, and says what size its content was filled up to, where
    /// it was. `out` is not flushed.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`] and [`Error::OpenPgp`]; what was written until then is no message.
    pub fn write<W: Write + Send + Sync>(
        self,
        rest: &mut impl Read,
        mut out: W,
    ) -> Result<Option<u64>, Error> {
        let Self { opening, session, envelope, compression, padding, .. } = self;
        envelope.write_before(&mut out).map_err(Error::Write)?;
        let record = envelope.record().encode();
        let size = if opening.head().fields().len() > LONG_HEADER {
            STAGE_BUFFER_BESIDE_LONG_HEADER
        } else {
            STAGE_BUFFER
        };
        let pieces = (!opening.is_whole()).then_some(size);
        let mut write_data = |data: &mut dyn Write, before: &[u8]| {
            if envelope.converts_lines() {
                write_entity(&envelope, opening, rest, (before, &mut ToCrlf::new(data)))
            } else {
                write_entity(&envelope, opening, rest, (before, data))
            }
        };
        let (mut out, class) = match &session {
            Session::OpenPgp(session) => {
                let (name, ending) = (record.as_bytes(), envelope.ending());
                let encryption = Encryption { session, compression, padding, name, ending, pieces };
                encryption.write(out, |data| write_data(data, b""))?
            }
            Session::Smime(session) => {
                let field = format!("{RECORD_FIELD}{record}{}", envelope.ending());
                let write = |data: &mut dyn Write| write_data(data, field.as_bytes());
                (write_enveloped(session, (out, envelope.ending()), pieces, write)?, None)
            }
        };
        envelope.write_after(&mut out).map_err(Error::Write)?;
        Ok(class)
    }
}

/// What a ciphertext of this session stands in.
fn shell(session: &Session) -> Result<Shell, Error> {
    match session {
        Session::OpenPgp(_) => {
            let mut random = [0; BOUNDARY_OCTETS];
            sequoia_openpgp::crypto::random(&mut random).map_err(Error::OpenPgp)?;
            Ok(Shell::pgp_mime(random))
        }
        Session::Smime(session) => Ok(Shell::Smime { kind: session.method.name() }),
    }
}

/// Writes the body of an S/MIME message with what `write_data` writes to `out`, in lines with this ending, and gives `out` back.
/// Encrypting and encoding work at the same time where `pieces` says how many bytes they pass on at once.
fn write_enveloped<W: Write + Send + Sync>(
    session: &smime::Session,
    (out, ending): (W, &'static str),
    pieces: Option<usize>,
    write_data: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<W, Error> {
    let lines = stage(Lines::new(out, ending), pieces, |out| {
        let content = Enveloped::new(out, session.method, &session.key, &session.recipients);
        let mut content = content.map_err(Error::Write)?;
        write_data(&mut content)?;
        content.finish().map(drop).map_err(Error::Write)
    })?;
    lines.finish().map_err(Error::Write)
}

/// Writes the entity to `data`, with what is to stand before it.
fn write_entity(
    envelope: &Envelope<'_>,
    opening: &Opening,
    rest: &mut impl Read,
    (first, mut data): (&[u8], &mut dyn Write),
) -> Result<(), Error> {
    data.write_all(first).map_err(Error::Write)?;
    envelope.write_entity_header(&mut data).map_err(Error::Write)?;
    let (at, display) = envelope.display().unwrap_or_default();
    let (before, behind) = opening.body().split_at(at);
    for piece in [before, display, behind] {
        data.write_all(piece).map_err(Error::Write)?;
    }
    if opening.is_whole() { Ok(()) } else { copy(rest, data, Error::Read) }
}
