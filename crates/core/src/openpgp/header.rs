//! Headers of OpenPGP packets: types and body lengths, as they are written and read (RFC 9580, section 4.2).

use std::io::{self, Read};

/// Packet types that mailseal writes or looks at.
pub mod tag {
    /// Public-Key Encrypted Session Key (RFC 9580, section 5.1).
    pub const PKESK: u8 = 1;
    /// Signature (section 5.2).
    pub const SIGNATURE: u8 = 2;
    /// Symmetric-Key Encrypted Session Key (section 5.3).
    pub const SKESK: u8 = 3;
    /// Secret-Key (section 5.5.1.3).
    pub const SECRET_KEY: u8 = 5;
    /// Public-Key (section 5.5.1.1).
    pub const PUBLIC_KEY: u8 = 6;
    /// Secret-Subkey (section 5.5.1.4).
    pub const SECRET_SUBKEY: u8 = 7;
    /// Compressed Data (section 5.6).
    pub const COMPRESSED: u8 = 8;
    /// Marker (section 5.8).
    pub const MARKER: u8 = 10;
    /// Literal Data (section 5.9).
    pub const LITERAL: u8 = 11;
    /// Trust, which GnuPG writes into its keyrings (section 5.10).
    pub const TRUST: u8 = 12;
    /// User ID (section 5.11).
    pub const USER_ID: u8 = 13;
    /// Public-Subkey (section 5.5.1.2).
    pub const PUBLIC_SUBKEY: u8 = 14;
    /// User Attribute (section 5.12).
    pub const USER_ATTRIBUTE: u8 = 17;
    /// Symmetrically Encrypted and Integrity Protected Data (section 5.13).
    pub const SEIPD: u8 = 18;
    /// Padding (section 5.14).
    pub const PADDING: u8 = 21;
    /// LibrePGP's OCB Encrypted Data, which GnuPG 2.4 writes.
    pub const OCB_ENCRYPTED: u8 = 20;
}

/// Octets of version, cipher, mode and chunk size, which stand before the ciphertext in a packet with AEAD, and its salt.
pub const AEAD_HEADER: usize = 4;

/// How long a body, or its first part, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many octets.
    Definite(u64),
    /// So many octets, and another length follows.
    Partial(u64),
    /// To the end of what is there.
    Indeterminate,
}

impl Length {
    /// Octets up to the next length, or to the end of the body.
    #[must_use]
    pub fn first_part(self) -> u64 {
        match self {
            Self::Definite(octets) | Self::Partial(octets) => octets,
            Self::Indeterminate => u64::MAX,
        }
    }
}

/// Type and length of the next packet; `None` at the end.
///
/// # Errors
/// Those of `reader`: [`io::ErrorKind::UnexpectedEof`] for a header that is cut. What is not a packet is
/// [`io::ErrorKind::InvalidData`].
pub fn read_header(reader: &mut impl Read) -> io::Result<Option<(u8, Length)>> {
    let mut first = [0];
    loop {
        match reader.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match first[0] {
        tag @ 0xc0.. => Ok(Some((tag & 0x3f, read_length(reader)?))),
        // The old format (section 4.2.2).
        old @ 0x80.. => {
            let tag = (old >> 2) & 15;
            Ok(Some(match old & 3 {
                3 => (tag, Length::Indeterminate),
                kind => (tag, Length::Definite(read_number(reader, 1 << kind)?)),
            }))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what should be an OpenPGP packet is none")),
    }
}

/// A length, as it stands behind the type and between the parts of a body.
///
/// # Errors
/// As [`read_header`].
pub fn read_length(reader: &mut impl Read) -> io::Result<Length> {
    Ok(match read_number(reader, 1)? {
        short @ 0..192 => Length::Definite(short),
        first @ 192..224 => Length::Definite(((first - 192) << 8) + read_number(reader, 1)? + 192),
        partial @ 224..255 => Length::Partial(1 << (partial & 31)),
        _ => Length::Definite(read_number(reader, 4)?),
    })
}

fn read_number(reader: &mut impl Read, octets: usize) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes[8 - octets..])?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_formats_are_read() {
        for (octets, expected) in [
            (&[0xc1, 191][..], (tag::PKESK, Length::Definite(191))),
            (&[0xc1, 192, 0], (tag::PKESK, Length::Definite(192))),
            (&[0xd2, 223, 255], (tag::SEIPD, Length::Definite(8383))),
            (&[0xd2, 224], (tag::SEIPD, Length::Partial(1))),
            (&[0xd2, 254], (tag::SEIPD, Length::Partial(1 << 30))),
            (&[0xcb, 255, 1, 0, 0, 0], (tag::LITERAL, Length::Definite(1 << 24))),
            (&[0xac, 255], (tag::LITERAL, Length::Definite(255))),
            (&[0xad, 1, 0], (tag::LITERAL, Length::Definite(256))),
            (&[0xae, 0, 1, 0, 0], (tag::LITERAL, Length::Definite(1 << 16))),
            (&[0xaf], (tag::LITERAL, Length::Indeterminate)),
        ] {
            assert_eq!(read_header(&mut &octets[..]).unwrap(), Some(expected), "{octets:?}");
            for cut in 1..octets.len() {
                let error = read_header(&mut &octets[..cut]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{octets:?}");
            }
        }
        assert!(read_header(&mut io::empty()).unwrap().is_none());
        assert_eq!(read_header(&mut &[0x7f, 0][..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
