//! The certificates in a file: PEM, DER, PKCS #7 (`.p7b`) and PKCS #12 (`.p12`), as certificate authorities and mail programs
//! hand them out.
//!
//! A file that holds a private key is refused whatever else is in it.

use cms::content_info::ContentInfo;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber};
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::SafeContents;

use super::certificate::{Certificate, Unreadable};
use super::{ber, pem, trusted};
use crate::limits;

/// `id-data` and `id-signedData` (RFC 5652).
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// Where the certificates of a signed-data stand.
const CERTIFICATES: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };

/// Whether a file with this content is for [`read`], and not OpenPGP's alone. It is not read.
#[must_use]
pub fn seem_to_be_in(octets: &[u8]) -> bool {
    const LABELS: [&[u8]; 5] = [b"CERTIFICATE", b"X509 CERTIFICATE", b"PKCS7", b"CMS", b"PRIVATE KEY"];
    let begins = |label: &[u8]| {
        let end = [label, b"-----"].concat();
        memchr::memmem::find(octets, &end).is_some()
    };
    // A long SEQUENCE: no packet of OpenPGP begins so, nor does a text.
    let sequence = octets.starts_with(&[0x30]) && octets.get(1).is_some_and(|length| *length >= 0x80);
    sequence || LABELS.into_iter().any(begins)
}

/// Reads all certificates in a file with this content.
///
/// # Errors
/// [`Unreadable`] where one cannot be read, there are none or too many, or a private key is among them.
pub fn read(octets: &[u8]) -> Result<Vec<Certificate>, Unreadable> {
    let mut found = Found::default();
    let blocks = pem::blocks(octets)?;
    if blocks.is_empty() {
        found.take_der(octets)?;
    }
    if blocks.iter().any(|block| block.label.ends_with(b"PRIVATE KEY")) {
        return Err(Unreadable::PrivateKey);
    }
    for block in blocks {
        match block.label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => found.take(&block.octets)?,
            b"TRUSTED CERTIFICATE" => found.keep(trusted::read(&block.octets)?)?,
            b"PKCS7" | b"CMS" => found.take_signed(&block.octets)?,
            _ => {}
        }
    }
    if found.0.is_empty() { Err(Unreadable::Nothing) } else { Ok(found.0) }
}

/// The certificates that were found so far.
#[derive(Default)]
struct Found(Vec<Certificate>);

impl Found {
    fn take(&mut self, der: &[u8]) -> Result<(), Unreadable> {
        self.keep(Certificate::from_der(der)?)
    }

    fn keep(&mut self, certificate: Certificate) -> Result<(), Unreadable> {
        if self.0.len() == limits::CERTIFICATES {
            return Err(Unreadable::TooMany);
        }
        match self.0.iter_mut().find(|other| other.der() == certificate.der()) {
            // Only one of the copies may know of it.
            Some(other) => certificate.revocation().into_iter().for_each(|it| other.revoke(it)),
            None => self.0.push(certificate),
        }
        Ok(())
    }

    /// One certificate, or a container of them: which, the first value inside tells.
    fn take_der(&mut self, octets: &[u8]) -> Result<(), Unreadable> {
        let first = SliceReader::new(octets).and_then(|mut reader| {
            let outer = der::Header::decode(&mut reader)?;
            outer.tag.assert_eq(Tag::Sequence)?;
            reader.peek_tag()
        });
        match first {
            Ok(Tag::Sequence) => self.take(octets),
            Ok(Tag::ObjectIdentifier) => self.take_signed(octets),
            Ok(Tag::Integer) => self.take_pfx(octets),
            Ok(_) => Err(Unreadable::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// The certificates of a signed-data that holds nothing else (RFC 5652, section 5.1). Each is taken as it stands there.
    fn take_signed(&mut self, octets: &[u8]) -> Result<(), Unreadable> {
        let info = ContentInfo::from_der(octets)?;
        if info.content_type != SIGNED_DATA {
            return Err(Unreadable::Nothing);
        }
        let mut fields = SliceReader::new(info.content.value())?;
        while !fields.is_finished() {
            let field = AnyRef::decode(&mut fields)?;
            if der::Tagged::tag(&field) != CERTIFICATES {
                continue;
            }
            let mut certificates = SliceReader::new(field.value())?;
            while !certificates.is_finished() {
                let der = certificates.tlv_bytes()?;
                // The other choices are attribute certificates and what is obsolete.
                if der.first() == Some(&0x30) {
                    self.take(der)?;
                }
            }
        }
        Ok(())
    }

    /// The certificates of a PKCS #12 file that are not encrypted. It may hold no key, nor anything that nobody sees.
    fn take_pfx(&mut self, octets: &[u8]) -> Result<(), Unreadable> {
        let pfx = Pfx::from_der(&ber::to_der(octets)?)?;
        let mut encrypted = false;
        for part in parts(&pfx)? {
            if part.content_type != DATA {
                encrypted = true;
                continue;
            }
            let content: OctetStringRef<'_> = part.content.decode_as()?;
            for bag in SafeContents::from_der(&ber::to_der(content.as_bytes())?)? {
                match bag.bag_id {
                    pkcs12::PKCS_12_KEY_BAG_OID | pkcs12::PKCS_12_PKCS8_KEY_BAG_OID => {
                        return Err(Unreadable::PrivateKey);
                    }
                    pkcs12::PKCS_12_CERT_BAG_OID => self.take(&certificate_of(&bag.bag_value)?)?,
                    _ => {}
                }
            }
        }
        if encrypted { Err(Unreadable::Encrypted) } else { Ok(()) }
    }
}

/// The parts of a PKCS #12 file: its authenticated safe (RFC 7292, section 4.1).
pub(super) fn parts(pfx: &Pfx) -> Result<Vec<ContentInfo>, der::Error> {
    let safe: OctetStringRef<'_> = pfx.auth_safe.content.decode_as()?;
    Vec::from_der(&ber::to_der(safe.as_bytes())?)
}

/// What is inside the explicit tag round the value of a bag.
pub(super) fn bag_value(value: &[u8]) -> Result<&[u8], der::Error> {
    AnyRef::from_der(value).map(|tagged| tagged.value())
}

fn certificate_of(bag: &[u8]) -> Result<Vec<u8>, der::Error> {
    let bag = pkcs12::cert_type::CertBag::from_der(bag_value(bag)?)?;
    Ok(bag.cert_value.as_bytes().to_vec())
}
