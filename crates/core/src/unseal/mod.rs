//! The way back: a sealed message becomes the original again, as a stream.
//!
//! ```text
//! outer header, armor ─ armor ─ packet ─ seipd1 or seipd2 ─ content (inflate, literal) ─ lines ─┐
//!            └──────────────────── original: both headers and the record ──────────────── the message
//! ```
//!
//! Of S/MIME, [`crate::smime`] reads what is armor and packets there, and nothing is compressed.
//!
//! Each layer demands that the one below ends where it does itself. So who has read the end of the message, and no
//! error, knows that it is whole and unchanged: the integrity check of the encrypted packet, the armor and the MIME
//! structure round it. **Before the end nothing is proven**: whoever reads must not give anything away until then. S/MIME
//! with AES-CBC has no integrity check: of it, the end proves that nothing was cut off there, and no more.
//!
//! Memory is bounded whatever the message holds. Where the secret keys are, whoever implements [`keys::Keys`] knows.

mod armor;
mod content;
mod gpgit;
pub mod keys;
pub mod original;
mod packet;
mod protected;
mod seipd1;
mod seipd2;
mod server;
#[cfg(test)]
mod tests;
mod version1;

use std::io::{self, Chain, Cursor, Read, Write};
use std::num::NonZeroU64;

use aes::{Aes128, Aes192, Aes256};
use cms::enveloped_data::RecipientInfo;
use sequoia_openpgp::KeyID;
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::types::SymmetricAlgorithm;
use serde::{Deserialize, Serialize};

use self::armor::Armor;
use self::content::{Content, Expands};
use self::keys::{Key, Keys};
use self::original::{Endings, Header};
use self::packet::Body;
use self::seipd1::Seipd1;
use crate::classify::mime::ContentType;
use crate::classify::{Encrypted, judge_structure, packets};
use crate::error::Error;
use crate::limits;
use crate::message::head::Head;
use crate::message::lines::{FromCrlf, LineEnding};
use crate::message::opening::{Opening, copy};
use crate::openpgp::header::{AEAD_HEADER, Length, read_header, tag};
use crate::protect::{Appearance, Undone};
use crate::record::{HeaderRecord, Protected, Record};
use crate::seal::envelope::{BOUNDARY_PREFIX, DESCRIPTION};
use crate::smime::base64::Decoder;
use crate::smime::open::{self, Enveloped};

/// Octets that [`prove`] reads at once: inflating copies the last 32 KiB of them aside each time.
const PROVED_SIZE: usize = 256 * 1024;

/// A layer of the stream.
pub type Stream<'a> = Box<dyn Read + Send + Sync + 'a>;

/// What a message turned out to be.
pub enum Unsealed<'a> {
    /// Sealed at rest, by mailseal or by gpgit before it: the original.
    Original(Original<'a>),
    /// Not at rest: in clear, or encrypted by its sender. It is to stay as it is.
    Foreign(Foreign),
}

/// A message that mailseal did not seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is not encrypted.
    Clear,
    /// Its sender encrypted it.
    Encrypted,
}

/// The original message: a reader. It is proven only when all of it has been read without an error.
pub struct Original<'a> {
    stream: Stream<'a>,
    /// Whether it is the message that was sealed, byte for byte, but for fields that were put into its header since.
    /// Otherwise its header could not be restored exactly: the record did not hold all of it, or did not agree with what
    /// stands outside, which stays then.
    pub exact: bool,
    whole: bool,
}

impl Original<'_> {
    /// Demands that it may take the place of the sealed message: every header field is there that only the inside has.
    ///
    /// # Errors
    /// [`Error::HiddenFields`] where the outside was changed after the message was sealed, and does not show any more what it should.
    pub fn demand_whole(&self) -> Result<(), Error> {
        if self.whole { Ok(()) } else { Err(Error::HiddenFields) }
    }

    /// Writes all of it to `out`. It is proven when this has returned without an error, and not before. `out` is not flushed.
    ///
    /// # Errors
    /// Those of [`read_error`]; [`Error::Write`] when `out` fails.
    pub fn write_to(&mut self, out: &mut (impl Write + ?Sized)) -> Result<(), Error> {
        copy(self, out, read_error)
    }
}

impl Read for Original<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

/// What a message looks like without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// PGP/MIME: it may be ours.
    Sealed {
        /// What separates its parts.
        boundary: String,
    },
    /// S/MIME, in base64: it may be ours.
    Smime {
        /// Whether it looks like ours. That proves nothing.
        ours: bool,
    },
    /// It is not.
    Foreign(Foreign),
}

/// What the message that begins with `opening` looks like.
///
/// # Errors
/// [`Error::Damaged`] when it says that it is encrypted, and is not in accord with that.
pub fn recognise(opening: &Opening) -> Result<Look, Error> {
    let head = opening.head();
    match judge_structure(head, opening.body(), opening.is_whole()).ok() {
        Some(Encrypted::PgpMime) => Ok(Look::Sealed {
            boundary: boundary(head).ok_or_else(|| damaged("its boundary cannot be read"))?,
        }),
        Some(Encrypted::Smime) if is_base64(head) => Ok(Look::Smime { ours: is_described(head) }),
        Some(_) => Ok(Look::Foreign(Foreign::Encrypted)),
        None if claims_encryption(head) => {
            Err(damaged("its parts are not those of an encrypted message, or cut off"))
        }
        None => Ok(Look::Foreign(Foreign::Clear)),
    }
}

/// What a message shows without a key.
pub enum Inspected<R> {
    /// An encrypted message.
    Sealed(Box<Envelope<R>>),
    /// In clear, or encrypted in a way that mailseal does not use.
    Foreign(Foreign),
}

/// An encrypted message, read up to its ciphertext.
pub struct Envelope<R> {
    sealed: Container<Chain<Cursor<Vec<u8>>, R>>,
    /// Whether it looks like ours. That proves nothing.
    pub ours: bool,
    /// Whether it looks like gpgit's. That proves nothing either.
    pub gpgit: bool,
}

/// What the ciphertext of a message is in.
enum Container<R> {
    OpenPgp(Sealed<Armor<R>>),
    Smime(Enveloped<Decoder<R>>),
}

impl<R: Read> Envelope<R> {
    /// The key ids it is sealed to, 16 hexadecimal digits each; zeros for one that is not named. With S/MIME, what the log
    /// calls the certificates ([`Certificate::id`](crate::smime::certificate::Certificate::id)).
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        match &self.sealed {
            Container::OpenPgp(sealed) => sealed.recipients(),
            Container::Smime(sealed) => sealed.ids(),
        }
    }

    /// Whether it is S/MIME.
    #[must_use]
    pub fn is_smime(&self) -> bool {
        matches!(self.sealed, Container::Smime(_))
    }

    /// What carries its key to the recipients, with S/MIME.
    #[must_use]
    pub fn smime_recipients(&self) -> Option<&[RecipientInfo]> {
        match &self.sealed {
            Container::OpenPgp(_) => None,
            Container::Smime(sealed) => Some(&sealed.recipients),
        }
    }

    /// Reads it to its end: there is nothing in it but the encrypted packet. Its ciphertext goes to `ciphertext`, without
    /// what stands before it in the packet.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there is more, or it is cut off; [`Error::Read`].
    pub fn prove(self, ciphertext: &mut impl Write) -> Result<(), Error> {
        let mut body = match self.sealed {
            Container::OpenPgp(sealed) => sealed.body,
            Container::Smime(mut sealed) => {
                return io::copy(&mut sealed.strings, ciphertext).map(|_| ()).map_err(read_error);
            }
        };
        let mut version = [0];
        body.read_exact(&mut version).map_err(read_error)?;
        let beside = if version == [1] { 0 } else { AEAD_HEADER as u64 - 1 };
        io::copy(&mut body.by_ref().take(beside), &mut io::sink()).map_err(read_error)?;
        io::copy(&mut body, ciphertext).map(|_| ()).map_err(read_error)
    }
}

/// Reads the message that begins with `opening` and goes on in `rest` up to its ciphertext.
///
/// # Errors
/// As [`unseal`].
pub fn inspect<R: Read>(opening: &Opening, rest: R) -> Result<Inspected<R>, Error> {
    let boundary = match recognise(opening)? {
        Look::Sealed { boundary } => boundary,
        Look::Smime { ours } => return inspect_smime(opening, rest, ours),
        Look::Foreign(foreign) => return Ok(Inspected::Foreign(foreign)),
    };
    let ours = boundary.starts_with(BOUNDARY_PREFIX);
    let gpgit = gpgit::is_framed(&boundary, opening.body());
    let stored = Cursor::new(opening.body().to_vec()).chain(rest);
    let Some(armor) = Armor::begin(stored, &boundary).map_err(read_error)? else {
        return unknown(ours, "there is no armor in it").map(Inspected::Foreign);
    };
    match Sealed::read(armor).map_err(read_error)? {
        Some(sealed) => {
            Ok(Inspected::Sealed(Envelope { sealed: Container::OpenPgp(sealed), ours, gpgit }.into()))
        }
        None => unknown(ours, "its packets are not those that mailseal writes").map(Inspected::Foreign),
    }
}

fn inspect_smime<R: Read>(opening: &Opening, rest: R, ours: bool) -> Result<Inspected<R>, Error> {
    let stored = Cursor::new(opening.body().to_vec()).chain(rest);
    match Enveloped::read(Decoder::new(stored)).map_err(read_error)? {
        Some(sealed) => {
            Ok(Inspected::Sealed(Envelope { sealed: Container::Smime(sealed), ours, gpgit: false }.into()))
        }
        None => unknown(ours, "its CMS is not what mailseal writes").map(Inspected::Foreign),
    }
}

/// What mailseal does not write may be a sender's, or ours and damaged; the boundary is as good a guess as any.
fn unknown(ours: bool, what: &str) -> Result<Foreign, Error> {
    if ours { Err(damaged(what)) } else { Ok(Foreign::Encrypted) }
}

/// How many bytes the content of a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expansion(NonZeroU64);

impl Default for Expansion {
    /// [`limits::EXPANSION`] times.
    fn default() -> Self {
        Self(limits::EXPANSION)
    }
}

impl Expansion {
    /// So many times the bytes of the sealed message, beyond [`limits::CONTENT`].
    #[must_use]
    pub fn new(ratio: NonZeroU64) -> Self {
        Self(ratio)
    }

    /// For a sealed message of so many bytes.
    #[must_use]
    pub fn most(self, sealed: u64) -> u64 {
        limits::CONTENT.saturating_add(sealed.saturating_mul(self.0.get()))
    }
}

/// Opens the message that begins with `opening` and goes on in `rest`, with the secret keys of `keys`. Its content may have
/// `most` bytes.
///
/// # Errors
/// [`Error::Damaged`] when the message says that it is encrypted and cannot be opened or is not whole;
/// [`Error::Expands`] when it has more bytes inside, which turns out while it is read as well;
/// [`Error::NoSecretKey`] when it looks like ours and is sealed to other keys; [`Error::Read`] when `rest` fails; those
/// of `keys`.
pub fn unseal<'a, R: Read + Send + Sync + 'a>(
    opening: &Opening,
    rest: R,
    keys: &dyn Keys,
    endings: Endings,
    most: u64,
) -> Result<Unsealed<'a>, Error> {
    match Inside::read(opening, rest, keys, most)? {
        Inside::Ours(record, data) => {
            original_of(opening.head(), &record, data, endings).map(Unsealed::Original)
        }
        Inside::Gpgit(data) => original_of_gpgit(opening.head(), data),
        Inside::Foreign(foreign) => Ok(Unsealed::Foreign(foreign)),
    }
}

/// Opens a message as [`unseal`] does and reads it to its end. If mailseal sealed it, what is inside goes to `out` as it is:
/// with an `out` that throws it away, this takes a fraction of the time that writing the original takes.
///
/// # Errors
/// As [`unseal`]; [`Error::Write`] when `out` fails.
pub fn prove<R: Read + Send + Sync>(
    opening: &Opening,
    rest: R,
    keys: &dyn Keys,
    most: u64,
    out: &mut impl Write,
) -> Result<(), Error> {
    let (Inside::Ours(_, mut data) | Inside::Gpgit(mut data)) = Inside::read(opening, rest, keys, most)?
    else {
        return Ok(());
    };
    let mut piece = vec![0; PROVED_SIZE];
    loop {
        match data.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => out.write_all(&piece[..count]).map_err(Error::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(error)),
        }
    }
}

/// What is inside an encrypted packet.
enum Inside<'a> {
    /// What mailseal sealed: the record, and the entity.
    Ours(Record, Stream<'a>),
    /// What gpgit sealed: the entity.
    Gpgit(Stream<'a>),
    /// Something else.
    Foreign(Foreign),
}

impl<'a> Inside<'a> {
    /// As [`unseal`].
    fn read<R: Read + Send + Sync + 'a>(
        opening: &Opening,
        rest: R,
        keys: &dyn Keys,
        most: u64,
    ) -> Result<Self, Error> {
        let (sealed, ours, gpgit) = match inspect(opening, rest)? {
            Inspected::Sealed(envelope) => (envelope.sealed, envelope.ours, envelope.gpgit),
            Inspected::Foreign(foreign) => return Ok(Self::Foreign(foreign)),
        };
        let sealed = match sealed {
            Container::OpenPgp(sealed) => sealed,
            Container::Smime(sealed) => return Self::read_smime(sealed, keys, ours),
        };
        let Some(key) = keys.session_key(&sealed.session_keys)? else {
            let error = Error::NoSecretKey { recipients: sealed.recipients().join(", ") };
            return if ours { Err(error) } else { Ok(Self::Foreign(Foreign::Encrypted)) };
        };
        let Some(plain) = sealed.decrypt(&key, gpgit)? else {
            return unknown(ours, "it is encrypted in a way that mailseal does not use").map(Self::Foreign);
        };
        match content::open(plain, most).map_err(read_error)? {
            Content::Literal { name, data } => match Record::parse(&name) {
                Some(record) => Ok(Self::Ours(record, Box::new(data))),
                None if gpgit => Ok(Self::Gpgit(Box::new(data))),
                None => foreign(data.into_inner()).map(Self::Foreign),
            },
            Content::Other(rest) => foreign(rest).map(Self::Foreign),
        }
    }

    /// The same of S/MIME.
    fn read_smime<R: Read + Send + Sync + 'a>(
        sealed: Enveloped<R>,
        keys: &dyn Keys,
        ours: bool,
    ) -> Result<Self, Error> {
        let Some(opened) = keys.content_key(&sealed.recipients)? else {
            let error = Error::NoSecretKey { recipients: sealed.ids().join(", ") };
            return if ours { Err(error) } else { Ok(Self::Foreign(Foreign::Encrypted)) };
        };
        let mut content = sealed.decrypt(&opened.content_key);
        match open::take_record(&mut content).map_err(read_error)? {
            Some(record) => Ok(Self::Ours(record, Box::new(content))),
            // With the wrong key, or changed, it begins with something else as well.
            None => unknown(ours, "there is no restore record in it").map(Self::Foreign),
        }
    }
}

/// The original of the message with this `outer` header, that was sealed with this `record` and holds this `entity`. Both come
/// from whoever sealed it, and may be anything.
///
/// # Errors
/// [`Error::Damaged`] where the header inside is too long, or reading the entity fails.
pub fn original_of<'a>(
    outer: Head<'_>,
    record: &Record,
    mut entity: Stream<'a>,
    endings: Endings,
) -> Result<Original<'a>, Error> {
    let ending = original::ending(outer, record, endings);
    match &record.header {
        HeaderRecord::Plain(plain) => {
            entity = in_ending(entity, ending);
            let inside = begin(&mut entity)?;
            let header = original::header(outer, &inside, plain, record.line_ending, ending);
            Ok(message(header, &inside, entity))
        }
        HeaderRecord::Protected(protected) => {
            let written = match record.line_ending {
                LineEnding::Lf => LineEnding::Crlf,
                other => other,
            };
            restore(outer, entity, protected, written, ending)
        }
    }
}

/// The original of a message with this `outer` header, that gpgit sealed and holds this `entity`. What has other fields inside
/// than gpgit puts there stays as it is, if it is whole.
fn original_of_gpgit<'a>(outer: Head<'_>, mut entity: Stream<'a>) -> Result<Unsealed<'a>, Error> {
    if original::stored(outer) == LineEnding::Lf {
        entity = in_ending(entity, LineEnding::Lf);
    }
    let inside = begin(&mut entity)?;
    match gpgit::header(outer, &inside, gpgit::ending(outer, &inside)) {
        Some(header) => Ok(Unsealed::Original(message(header, &inside, entity))),
        None => foreign(entity).map(Unsealed::Foreign),
    }
}

/// The original of an entity whose header was protected, whose lines were written with `written` and are to end with
/// `ending`.
fn restore<'a>(
    outer: Head<'_>,
    mut entity: Stream<'a>,
    record: &Protected,
    written: LineEnding,
    ending: LineEnding,
) -> Result<Original<'a>, Error> {
    let inside = begin(&mut entity)?;
    let outside = original::with_ending(outer.fields(), original::stored(outer), written);
    let outside = Head::new(&outside, outer.separator());
    let recorded = protected::is_recorded(outside, inside.head());
    let mut lines: Vec<Vec<u8>> = protected::only_outside(outside).map(<[u8]>::to_vec).collect();
    let appearance = record.policy.map(|policy| Appearance::recorded(policy, inside.head()));
    let count = record.insertions.outside().len();
    let sound = recorded && lines.len() == count;
    lines.truncate(count);
    let insertions = record.insertions.clone().for_lines(lines.len());
    let entity = Cursor::new(inside.into_bytes()).chain(entity);
    let mut message = in_ending(Box::new(Undone::new(entity, insertions, lines)), ending);
    let inside = begin(&mut message)?;
    let outside = original::with_ending(outer.fields(), original::stored(outer), ending);
    let outside = Head::new(&outside, outer.separator());
    let header = protected::header(outside, &inside, record, appearance.as_ref(), sound);
    Ok(self::message(header, &inside, message))
}

/// The beginning of what is inside.
fn begin(entity: &mut Stream<'_>) -> Result<Opening, Error> {
    Opening::read_entity(entity).map_err(|error| match error {
        Error::Read(error) => read_error(error),
        error => damaged(&error.to_string()),
    })
}

/// What was written with CRLF, in the line ending that it is to have.
fn in_ending(entity: Stream<'_>, ending: LineEnding) -> Stream<'_> {
    match ending {
        LineEnding::Lf => Box::new(FromCrlf::new(entity)),
        LineEnding::Crlf | LineEnding::Mixed => entity,
    }
}

/// A message with this header, whose body begins as that of `inside` and goes on in `rest`.
fn message<'a>(header: Header, inside: &Opening, rest: Stream<'a>) -> Original<'a> {
    let body = Cursor::new(inside.body().to_vec()).chain(rest);
    let stream = Box::new(Cursor::new(header.bytes).chain(body));
    Original { stream, exact: header.exact, whole: header.whole }
}

/// The encrypted packet behind its session key packets.
struct Sealed<R> {
    session_keys: Vec<PKESK>,
    body: Body<R>,
}

impl<R: Read> Sealed<R> {
    /// Reads up to the encrypted packet; `None` where there is something that mailseal does not write.
    fn read(mut message: R) -> io::Result<Option<Self>> {
        let mut session_keys = Vec::new();
        loop {
            let Some((tag, length)) = read_header(&mut message)? else { return Ok(None) };
            match (tag, length) {
                (tag::PKESK, Length::Definite(length)) if length <= packets::LONGEST_SESSION_KEY as u64 => {
                    let mut body = vec![0; length as usize];
                    message.read_exact(&mut body)?;
                    // A key of a version or algorithm that is not known cannot be ours.
                    session_keys.extend(PKESK::from_bytes(&body).ok());
                }
                (tag::SEIPD, length) => {
                    return Ok(Some(Self { session_keys, body: Body::new(message, length) }));
                }
                _ => return Ok(None),
            }
        }
    }

    /// The key ids.
    fn recipients(&self) -> Vec<String> {
        let ids = self.session_keys.iter().map(|packet| match packet.recipient() {
            Some(recipient) => KeyID::from(recipient).to_hex(),
            None => KeyID::wildcard().to_hex(),
        });
        ids.collect()
    }

    /// The packets inside; `None` where they are encrypted in a way that mailseal does not use, nor GnuPG for `gpgit`.
    fn decrypt<'a>(mut self, key: &Key, gpgit: bool) -> Result<Option<Stream<'a>>, Error>
    where
        R: Send + Sync + 'a,
    {
        let mut version = [0];
        self.body.read_exact(&mut version).map_err(read_error)?;
        Ok(match (version, key.cipher) {
            ([1], Some(SymmetricAlgorithm::AES256)) => {
                Some(Box::new(Seipd1::<_, Aes256>::new(self.body, &key.key).map_err(read_error)?))
            }
            ([1], Some(SymmetricAlgorithm::AES192)) if gpgit => {
                Some(Box::new(Seipd1::<_, Aes192>::new(self.body, &key.key).map_err(read_error)?))
            }
            ([1], Some(SymmetricAlgorithm::AES128)) if gpgit => {
                Some(Box::new(Seipd1::<_, Aes128>::new(self.body, &key.key).map_err(read_error)?))
            }
            ([2], None) => Some(Box::new(seipd2::open(self.body, &key.key).map_err(read_error)?)),
            _ => None,
        })
    }
}

/// A message that its sender encrypted: whole, or it is damaged.
fn foreign(mut rest: impl Read) -> Result<Foreign, Error> {
    io::copy(&mut rest, &mut io::sink()).map_err(read_error)?;
    Ok(Foreign::Encrypted)
}

fn boundary(head: Head<'_>) -> Option<String> {
    ContentType::parse(head.only("Content-Type")?)?.attribute("boundary").map(str::to_owned)
}

/// Whether a message that is proven by nothing says that it is encrypted, or was ours: it is damaged then, not clear.
fn claims_encryption(head: Head<'_>) -> bool {
    head.items().filter_map(|item| item.value_of("Content-Type")).any(|value| {
        let value = value.to_ascii_lowercase();
        let holds = |text: &str| memchr::memmem::find(&value, text.as_bytes()).is_some();
        holds("multipart/encrypted")
            || holds(BOUNDARY_PREFIX)
            || holds("application/pkcs7-mime") && is_described(head)
    })
}

fn is_base64(head: Head<'_>) -> bool {
    let encoding = head.only("Content-Transfer-Encoding");
    encoding.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"base64"))
}

/// Whether an S/MIME message says that it is ours.
fn is_described(head: Head<'_>) -> bool {
    head.only("Content-Description").is_some_and(|value| value.trim_ascii() == DESCRIPTION.as_bytes())
}

/// What an error of reading an [`Original`] means: [`Error::Expands`], [`Error::Read`] where it is the operating system's,
/// else [`Error::Damaged`].
#[must_use]
pub fn read_error(error: io::Error) -> Error {
    if let Some(Expands(most)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Error::Expands { most: *most };
    }
    if error.raw_os_error().is_some() { Error::Read(error) } else { damaged(&error.to_string()) }
}

fn damaged(what: &str) -> Error {
    Error::Damaged { what: what.into() }
}

/// The error of a layer that finds the message changed or cut off.
pub(crate) fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The end of a layer: nothing may come after it.
pub(crate) fn demand_end(reader: &mut impl Read, what: &'static str) -> io::Result<()> {
    loop {
        match reader.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(broken(what)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
