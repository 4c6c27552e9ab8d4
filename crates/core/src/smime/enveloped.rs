//! Writes enveloped-data (RFC 5652, section 6) and authEnveloped-data (RFC 5083) as a stream: BER with indefinite lengths, the
//! ciphertext in strings.

use std::io::{self, Write};

use aes::Aes256;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use cbc::Encryptor;
use cms::content_info::CmsVersion;
use cms::enveloped_data::{RecipientInfo, RecipientInfos};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode as _, Header, Length, Tag};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::gcm::{Gcm, NONCE, TAG};
use super::recipient::ContentKey;

/// Octets of an AES block.
pub(super) const BLOCK: usize = 16;

/// Octets of the strings that the ciphertext is written in.
const STRING: usize = 16 * 1024;

/// `id-aes256-CBC`.
pub(super) const AES256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");

/// `id-aes256-GCM` (RFC 5084).
pub(super) const AES256_GCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.46");

/// What an enveloped-data of indefinite length begins with, up to its version: ContentInfo with `id-envelopedData`, and the
/// EnvelopedData in it.
const ENVELOPED: [u8; 19] = [
    0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03, 0xa0, 0x80, 0x30, 0x80,
    0x02, 0x01,
];

/// The same of an authEnveloped-data: `id-ct-authEnvelopedData`.
const AUTH_ENVELOPED: [u8; 21] = [
    0x30, 0x80, 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17, 0xa0, 0x80,
    0x30, 0x80, 0x02, 0x01,
];

/// Octets of those two in which they differ, or which stand before that.
pub(super) const DIFFERENCE: usize = 4;

/// What stands between the recipients and the cipher: EncryptedContentInfo with `id-data`.
pub(super) const CONTENT: [u8; 13] =
    [0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// What the ciphertext begins with: a constructed `[0]`.
pub(super) const CIPHERTEXT: [u8; 2] = [0xa0, 0x80];

/// The ends of the ciphertext and the EncryptedContentInfo.
pub(super) const INNER_ENDS: [u8; 4] = [0; 4];

/// The ends of the EnvelopedData, the tag round that, and the ContentInfo.
pub(super) const OUTER_ENDS: [u8; 6] = [0; 6];

/// What stands before the authentication tag, which is between those.
pub(super) const TAG_HEADER: [u8; 2] = [0x04, TAG as u8];

/// How the content is encrypted, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// AES-256-CBC in enveloped-data.
    Cbc,
    /// AES-256-GCM in authEnveloped-data.
    Gcm,
}

impl Method {
    /// What S/MIME calls such a message (RFC 8551, section 3.2.2).
    pub fn name(self) -> &'static str {
        match self {
            Self::Cbc => "enveloped-data",
            Self::Gcm => "authEnveloped-data",
        }
    }

    /// What the message begins with, up to its version.
    pub(super) fn beginning(self) -> &'static [u8] {
        match self {
            Self::Cbc => &ENVELOPED,
            Self::Gcm => &AUTH_ENVELOPED,
        }
    }
}

/// `GCMParameters` (RFC 5084, section 3.2).
#[derive(der::Sequence)]
pub(super) struct GcmParameters {
    /// The nonce.
    pub nonce: OctetString,
    /// Octets of the tag: 12 where there is none, which mailseal does not write.
    pub tag: u8,
}

/// Encrypts what is written; [`Enveloped::finish`] must be called to end it.
pub struct Enveloped<W> {
    inner: W,
    cipher: Cipher,
    /// What is not encrypted yet.
    plain: Vec<u8>,
}

enum Cipher {
    Cbc(Box<Encryptor<Aes256>>),
    Gcm(Box<Gcm>),
}

impl<W: Write> Enveloped<W> {
    /// Begins the message on `inner`, with a content that is encrypted by `method` with `key`, which `recipients` carry. The
    /// key must be for this message alone.
    ///
    /// # Errors
    /// Those of `inner`, and of the random number generator.
    pub fn new(
        mut inner: W,
        method: Method,
        key: &ContentKey,
        recipients: &[RecipientInfo],
    ) -> io::Result<Self> {
        let (cipher, algorithm) = match method {
            Method::Cbc => {
                let vector = random::<BLOCK>()?;
                (Cipher::Cbc(Encryptor::new(&(**key).into(), &vector.into()).into()), cbc(&vector))
            }
            Method::Gcm => {
                let nonce = random::<NONCE>()?;
                (Cipher::Gcm(Gcm::new(key, &nonce).into()), gcm(&nonce))
            }
        };
        let algorithm = algorithm.map_err(io::Error::other)?;
        inner.write_all(&beginning(method, recipients, &algorithm).map_err(io::Error::other)?)?;
        Ok(Self { inner, cipher, plain: Vec::with_capacity(STRING) })
    }

    /// Ends the message, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below; as [`Gcm::encrypt`].
    pub fn finish(mut self) -> io::Result<W> {
        if let Cipher::Cbc(_) = self.cipher {
            // PKCS #7: from one octet to a whole block, each of which says how many there are.
            let fill = BLOCK - self.plain.len() % BLOCK;
            self.plain.resize(self.plain.len() + fill, fill as u8);
        }
        if !self.plain.is_empty() {
            self.write_string()?;
        }
        self.inner.write_all(&INNER_ENDS)?;
        if let Cipher::Gcm(cipher) = self.cipher {
            self.inner.write_all(&TAG_HEADER)?;
            self.inner.write_all(&cipher.tag())?;
        }
        self.inner.write_all(&OUTER_ENDS)?;
        Ok(self.inner)
    }

    /// Writes a string: whole blocks, but for GCM's last one.
    fn write_string(&mut self) -> io::Result<()> {
        match &mut self.cipher {
            Cipher::Cbc(cipher) => {
                let (blocks, _) = InOutBuf::from(&mut self.plain[..]).into_chunks();
                cipher.encrypt_blocks_inout_mut(blocks);
            }
            Cipher::Gcm(cipher) => cipher.encrypt(&mut self.plain)?,
        }
        // A string is never longer than `STRING`.
        let header = header(Tag::OctetString, self.plain.len()).map_err(io::Error::other)?;
        self.inner.write_all(&header)?;
        self.inner.write_all(&self.plain)?;
        self.plain.clear();
        Ok(())
    }
}

impl<W: Write> Write for Enveloped<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(STRING - self.plain.len());
        self.plain.extend_from_slice(&data[..count]);
        if self.plain.len() == STRING {
            self.write_string()?;
        }
        Ok(count)
    }

    /// Does nothing: what is no whole string yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header(tag: Tag, length: usize) -> Result<Vec<u8>, der::Error> {
    Header::new(tag, Length::try_from(length)?)?.to_der()
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    sequoia_openpgp::crypto::random(&mut octets).map_err(io::Error::other)?;
    Ok(octets)
}

fn cbc(vector: &[u8; BLOCK]) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let parameters = Any::encode_from(&OctetString::new(&vector[..])?)?;
    Ok(AlgorithmIdentifierOwned { oid: AES256_CBC, parameters: Some(parameters) })
}

fn gcm(nonce: &[u8; NONCE]) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let parameters = GcmParameters { nonce: OctetString::new(&nonce[..])?, tag: TAG as u8 };
    let parameters = Any::encode_from(&parameters)?;
    Ok(AlgorithmIdentifierOwned { oid: AES256_GCM, parameters: Some(parameters) })
}

/// All that stands before the strings.
fn beginning(
    method: Method,
    recipients: &[RecipientInfo],
    cipher: &AlgorithmIdentifierOwned,
) -> Result<Vec<u8>, der::Error> {
    // RFC 5652, section 6.1; RFC 5083, section 2.1.
    let simple = recipients.iter().all(|info| matches!(info, RecipientInfo::Ktri(_)));
    let version = if simple || method == Method::Gcm { CmsVersion::V0 } else { CmsVersion::V2 };
    let recipients = RecipientInfos::try_from(recipients.to_vec())?.to_der()?;
    let parts: [&[u8]; 6] =
        [method.beginning(), &[version as u8], &recipients, &CONTENT, &cipher.to_der()?, &CIPHERTEXT];
    Ok(parts.concat())
}
