//! Reads enveloped-data and authEnveloped-data as [`super::enveloped`] writes them, as a stream.
//!
//! What is written in another way is none of ours. **The content of enveloped-data is not authenticated**: that it decrypts
//! says only that it was not cut off, and that its last block was filled up as it should be. That of authEnveloped-data is, and
//! is proven where reading has come to its end, and not before.

use std::io::{self, Read};

use aes::Aes256;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use cbc::Decryptor;
use cms::enveloped_data::{RecipientInfo, RecipientInfos};
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::enveloped::{
    AES256_CBC, AES256_GCM, BLOCK, CIPHERTEXT, CONTENT, DIFFERENCE, GcmParameters, INNER_ENDS, Method,
    OUTER_ENDS, TAG_HEADER,
};
use super::gcm::{Gcm, NONCE, TAG};
use super::recipient::{self, ContentKey};
use crate::limits;
use crate::record::Record;
use crate::unseal::{broken, demand_end};

/// The field that the content begins with: it holds the restore record ([`crate::record`]). No mail program shows it.
pub const RECORD_FIELD: &str = "Mailseal-Record: ";

/// Most octets of that field, with the end of its line.
const RECORD_LINE: u64 = (RECORD_FIELD.len() + limits::LITERAL_NAME + 2) as u64;

/// Octets that are decrypted at once.
const DECRYPTED_SIZE: usize = 16 * 1024;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;

/// Least octets that the length of a string is written with in a long form.
const LONG: u8 = 0x80;

/// A message, read up to its ciphertext.
pub struct Enveloped<R> {
    /// Those it is for.
    pub recipients: Vec<RecipientInfo>,
    start: Start,
    /// The ciphertext.
    pub strings: Strings<R>,
}

/// What a cipher starts from.
enum Start {
    /// The initialisation vector of AES-256-CBC.
    Cbc([u8; BLOCK]),
    /// The nonce of AES-256-GCM.
    Gcm([u8; NONCE]),
}

impl<R: Read> Enveloped<R> {
    /// Reads up to the ciphertext; `None` where there is something that mailseal does not write.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn read(mut inner: R) -> io::Result<Option<Self>> {
        let mut version = [0];
        let Some(method) = method(&mut inner)? else { return Ok(None) };
        inner.read_exact(&mut version)?;
        let Some(recipients) = value(&mut inner, SET, limits::CMS_FRAMES)? else { return Ok(None) };
        // To put them in order takes time that grows with the square of their number.
        if !is_at_most(&recipients, limits::CMS_RECIPIENTS) {
            return Ok(None);
        }
        let Ok(RecipientInfos(recipients)) = RecipientInfos::from_der(&recipients) else { return Ok(None) };
        if !is_next(&mut inner, &CONTENT)? {
            return Ok(None);
        }
        let Some(cipher) = value(&mut inner, SEQUENCE, limits::CMS_ALGORITHM)? else { return Ok(None) };
        let Some(start) = start(method, &cipher) else { return Ok(None) };
        if !is_next(&mut inner, &CIPHERTEXT)? {
            return Ok(None);
        }
        let strings = Strings { inner, method, tag: [0; TAG], left: 0, ended: false };
        Ok(Some(Self { recipients: recipients.into_vec(), start, strings }))
    }

    /// What the log calls those it is for.
    pub fn ids(&self) -> Vec<String> {
        self.recipients.iter().flat_map(recipient::ids).collect()
    }

    /// The content, decrypted with `key`.
    pub fn decrypt(self, key: &ContentKey) -> Content<R> {
        let cipher = match &self.start {
            Start::Cbc(vector) => Cipher::Cbc(Decryptor::new(&(**key).into(), vector.into()).into()),
            Start::Gcm(nonce) => Cipher::Gcm(Some(Gcm::new(key, nonce).into())),
        };
        let plain = Vec::with_capacity(DECRYPTED_SIZE + BLOCK);
        Content { inner: self.strings, cipher, plain, next: 0, end: 0, ended: false }
    }
}

/// Whether the value `set` holds at most so many others.
fn is_at_most(set: &[u8], most: usize) -> bool {
    let Ok(set) = AnyRef::from_der(set) else { return false };
    let Ok(mut reader) = SliceReader::new(set.value()) else { return false };
    let mut count = 0;
    while !reader.is_finished() && count <= most && AnyRef::decode(&mut reader).is_ok() {
        count += 1;
    }
    reader.is_finished() && count <= most
}

/// Takes the record off the beginning of `content`; `None` where it begins with something else.
///
/// # Errors
/// Those of `content`.
pub fn take_record(content: &mut impl Read) -> io::Result<Option<Record>> {
    let mut line = Vec::new();
    let mut rest = content.take(RECORD_LINE);
    // An octet at a time, of what is decrypted already: what follows is not to be touched.
    while !line.ends_with(b"\n") && (&mut rest).take(1).read_to_end(&mut line)? > 0 {}
    let line = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(line.and_then(|line| line.strip_prefix(RECORD_FIELD.as_bytes())).and_then(Record::parse))
}

/// Whether `expected` is what comes next.
fn is_next(inner: &mut impl Read, expected: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; expected.len()];
    inner.read_exact(&mut found)?;
    Ok(found == expected)
}

/// Reads what a message begins with: `None` where it is something else.
fn method(inner: &mut impl Read) -> io::Result<Option<Method>> {
    let mut first = [0; DIFFERENCE];
    inner.read_exact(&mut first)?;
    for method in [Method::Cbc, Method::Gcm] {
        if let Some(rest) = method.beginning().strip_prefix(&first) {
            return Ok(is_next(inner, rest)?.then_some(method));
        }
    }
    Ok(None)
}

/// The next value with its tag and length; `None` where it has another tag, or is longer than `most`.
fn value(inner: &mut impl Read, tag: u8, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut found = [0];
    inner.read_exact(&mut found)?;
    if found != [tag] {
        return Ok(None);
    }
    let mut octets = vec![tag];
    let Some(length) = length(inner, &mut octets)?.filter(|length| *length <= most) else { return Ok(None) };
    let start = octets.len();
    octets.resize(start + length, 0);
    inner.read_exact(&mut octets[start..])?;
    Ok(Some(octets))
}

/// Reads a definite length of at most three octets, and adds what was read to `octets`.
fn length(inner: &mut impl Read, octets: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut first = [0];
    inner.read_exact(&mut first)?;
    octets.extend(first);
    let [first] = first;
    if first < LONG {
        return Ok(Some(first.into()));
    }
    let count = usize::from(first - LONG);
    if !(1..=3).contains(&count) {
        return Ok(None);
    }
    let mut length = [0; 3];
    inner.read_exact(&mut length[..count])?;
    octets.extend(&length[..count]);
    Ok(Some(length[..count].iter().fold(0, |sum, octet| sum * 256 + usize::from(*octet))))
}

/// What the cipher `algorithm` starts from; `None` for another one than that of `method`.
fn start(method: Method, algorithm: &[u8]) -> Option<Start> {
    let algorithm = AlgorithmIdentifierOwned::from_der(algorithm).ok()?;
    let parameters = algorithm.parameters?;
    match (method, algorithm.oid) {
        (Method::Cbc, AES256_CBC) => {
            let vector: OctetStringRef<'_> = parameters.decode_as().ok()?;
            vector.as_bytes().try_into().ok().map(Start::Cbc)
        }
        (Method::Gcm, AES256_GCM) => {
            let parameters: GcmParameters = parameters.decode_as().ok()?;
            let nonce = parameters.nonce.as_bytes().try_into().ok()?;
            (usize::from(parameters.tag) == TAG).then_some(Start::Gcm(nonce))
        }
        _ => None,
    }
}

/// The octets of the strings of a ciphertext. They end only where the message does.
pub struct Strings<R> {
    inner: R,
    method: Method,
    /// The authentication tag, where the message has ended and has one.
    tag: [u8; TAG],
    /// Octets of the string that is read.
    left: usize,
    ended: bool,
}

impl<R: Read> Strings<R> {
    /// Goes on to the next string.
    fn next(&mut self) -> io::Result<()> {
        let mut tag = [0];
        self.inner.read_exact(&mut tag)?;
        match tag {
            [OCTET_STRING] => {
                self.left = length(&mut self.inner, &mut Vec::new())?
                    .ok_or_else(|| broken("a string of the ciphertext has no length"))?;
            }
            [0] => {
                self.demand_next(&INNER_ENDS[1..])?;
                if self.method == Method::Gcm {
                    self.demand_next(&TAG_HEADER)?;
                    self.inner.read_exact(&mut self.tag)?;
                }
                self.demand_next(&OUTER_ENDS)?;
                demand_end(&mut self.inner, "something follows the encrypted message")?;
                self.ended = true;
            }
            _ => return Err(broken("there is something else among the ciphertext")),
        }
        Ok(())
    }

    fn demand_next(&mut self, expected: &[u8]) -> io::Result<()> {
        if is_next(&mut self.inner, expected)? {
            Ok(())
        } else {
            Err(broken("something follows the ciphertext"))
        }
    }
}

impl<R: Read> Read for Strings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.left == 0 {
            if self.ended {
                return Ok(0);
            }
            self.next()?;
        }
        let most = buffer.len().min(self.left);
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(broken("the ciphertext is cut off"));
        }
        self.left -= count;
        Ok(count)
    }
}

/// Decrypts what is read, and demands that its end is as it should be.
pub struct Content<R> {
    inner: Strings<R>,
    cipher: Cipher,
    /// Decrypted octets; with CBC, the last block of them may be filled up.
    plain: Vec<u8>,
    /// Where in them the next ones to be read are.
    next: usize,
    /// Where those end that are no filling.
    end: usize,
    ended: bool,
}

enum Cipher {
    Cbc(Box<Decryptor<Aes256>>),
    /// `None` when all is decrypted.
    Gcm(Option<Box<Gcm>>),
}

impl<R: Read> Content<R> {
    fn fill(&mut self) -> io::Result<()> {
        self.plain.drain(..self.end);
        (self.next, self.end) = (0, 0);
        let start = self.plain.len();
        let count = (&mut self.inner).take(DECRYPTED_SIZE as u64).read_to_end(&mut self.plain)?;
        self.ended = count < DECRYPTED_SIZE;
        let piece = &mut self.plain[start..];
        match &mut self.cipher {
            Cipher::Cbc(cipher) => {
                let (blocks, rest) = InOutBuf::from(piece).into_chunks();
                if !rest.is_empty() {
                    return Err(broken("the ciphertext is cut off"));
                }
                cipher.decrypt_blocks_inout_mut(blocks);
                let filling = if self.ended { self.filling()? } else { BLOCK };
                self.end = self.plain.len() - filling;
            }
            Cipher::Gcm(cipher) => {
                decrypt(cipher, piece, self.ended.then_some(&self.inner.tag))?;
                self.end = self.plain.len();
            }
        }
        Ok(())
    }

    /// How many octets fill up the last block.
    fn filling(&self) -> io::Result<usize> {
        let last = self.plain.last().copied().unwrap_or_default();
        let start = self.plain.len().checked_sub(last.into());
        let filling = start.map(|start| &self.plain[start..]).unwrap_or_default();
        let is_sound = (1..=BLOCK).contains(&filling.len()) && filling.iter().all(|octet| *octet == last);
        if is_sound { Ok(filling.len()) } else { Err(broken("its last block is not as it should be")) }
    }
}

/// Decrypts `piece`, and where it is the last one, demands that `tag` is that of all.
fn decrypt(cipher: &mut Option<Box<Gcm>>, piece: &mut [u8], tag: Option<&[u8; TAG]>) -> io::Result<()> {
    // After the last piece, or what failed, nothing comes.
    let Some(mut gcm) = cipher.take() else { return Err(broken("nothing more can be decrypted")) };
    gcm.decrypt(piece)?;
    match tag {
        None => {
            *cipher = Some(gcm);
            Ok(())
        }
        Some(tag) if gcm.verify(tag) => Ok(()),
        Some(_) => Err(broken("the integrity check fails: it was changed, or cut off")),
    }
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.next == self.end {
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        let count = buffer.len().min(self.end - self.next);
        buffer[..count].copy_from_slice(&self.plain[self.next..][..count]);
        self.next += count;
        Ok(count)
    }
}
