//! Writes enveloped-data (RFC 5652, section 6) as a stream: BER with indefinite lengths, the ciphertext in strings.

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

use super::recipient::ContentKey;

/// Octets of an AES block.
pub(super) const BLOCK: usize = 16;

/// Octets of the strings that the ciphertext is written in.
const STRING: usize = 16 * 1024;

/// `id-aes256-CBC`.
pub(super) const AES256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");

/// What an enveloped-data of indefinite length begins with, up to its version: ContentInfo with `id-envelopedData`, and the
/// EnvelopedData in it.
pub(super) const BEGINNING: [u8; 19] = [
    0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03, 0xa0, 0x80, 0x30, 0x80,
    0x02, 0x01,
];

/// What stands between the recipients and the cipher: EncryptedContentInfo with `id-data`.
pub(super) const CONTENT: [u8; 13] =
    [0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// What the ciphertext begins with: a constructed `[0]`.
pub(super) const CIPHERTEXT: [u8; 2] = [0xa0, 0x80];

/// The ends of the ciphertext, the EncryptedContentInfo, the EnvelopedData, the tag round that, and the ContentInfo.
pub(super) const ENDS: [u8; 10] = [0; 10];

/// Encrypts what is written; [`Enveloped::finish`] must be called to end it.
pub struct Enveloped<W> {
    inner: W,
    cipher: Encryptor<Aes256>,
    /// What is not encrypted yet.
    plain: Vec<u8>,
}

impl<W: Write> Enveloped<W> {
    /// Begins the enveloped-data on `inner`, with a content that is encrypted with `key`, which `recipients` carry.
    ///
    /// # Errors
    /// Those of `inner`, and of the random number generator.
    pub fn new(mut inner: W, key: &ContentKey, recipients: &[RecipientInfo]) -> io::Result<Self> {
        let mut vector = [0; BLOCK];
        sequoia_openpgp::crypto::random(&mut vector).map_err(io::Error::other)?;
        inner.write_all(&beginning(recipients, &vector).map_err(io::Error::other)?)?;
        let cipher = Encryptor::new(&(**key).into(), &vector.into());
        Ok(Self { inner, cipher, plain: Vec::with_capacity(STRING) })
    }

    /// Fills up the last block, ends the message, and gives the writer below back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> io::Result<W> {
        // PKCS #7: from one octet to a whole block, each of which says how many there are.
        let fill = BLOCK - self.plain.len() % BLOCK;
        self.plain.resize(self.plain.len() + fill, fill as u8);
        self.write_string()?;
        self.inner.write_all(&ENDS)?;
        Ok(self.inner)
    }

    /// Writes whole blocks as a string.
    fn write_string(&mut self) -> io::Result<()> {
        let (blocks, _) = InOutBuf::from(&mut self.plain[..]).into_chunks();
        self.cipher.encrypt_blocks_inout_mut(blocks);
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

/// All that stands before the strings.
fn beginning(recipients: &[RecipientInfo], vector: &[u8; BLOCK]) -> Result<Vec<u8>, der::Error> {
    // RFC 5652, section 6.1.
    let simple = recipients.iter().all(|info| matches!(info, RecipientInfo::Ktri(_)));
    let version = if simple { CmsVersion::V0 } else { CmsVersion::V2 };
    let recipients = RecipientInfos::try_from(recipients.to_vec())?.to_der()?;
    let cipher = AlgorithmIdentifierOwned {
        oid: AES256_CBC,
        parameters: Some(Any::encode_from(&OctetString::new(&vector[..])?)?),
    };
    Ok([&BEGINNING[..], &[version as u8], &recipients, &CONTENT, &cipher.to_der()?, &CIPHERTEXT].concat())
}
