//! What sealing makes of a header: the outer header with our own fields, the entity's header inside, and the MIME
//! structure (RFC 3156, section 4; RFC 8551, section 3.3) round the ciphertext.

use std::io::{self, Write};

use crate::limits;
use crate::mark;
use crate::message::head::{Head, Item, Kind, Region, Tail};
use crate::message::lines::LineEnding;
use crate::protect::Protection;
use crate::record::{HeaderRecord, Plain, Record};

/// Random octets in a boundary: 128 bits.
pub const BOUNDARY_OCTETS: usize = 16;

/// Bytes that our fields, and what stands between them and the ciphertext, may have: hops find room behind them.
const OWN: usize = 4096;

/// What our boundaries begin with: a sign for people, and no proof.
pub const BOUNDARY_PREFIX: &str = "=_mailseal-";

/// What we say of our own S/MIME messages: a sign for people, and no proof.
pub const DESCRIPTION: &str = "S/MIME message, sealed at rest by mailseal";

/// The MIME structure round a ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shell {
    /// RFC 3156's `multipart/encrypted`.
    PgpMime {
        /// What separates its parts.
        boundary: String,
    },
    /// S/MIME's `application/pkcs7-mime`, in base64.
    Smime {
        /// What of it: `enveloped-data`, or another of RFC 8551's `smime-type`.
        kind: &'static str,
    },
}

impl Shell {
    /// PGP/MIME with a boundary of these random octets. No line of an ASCII armor can hold it, because `=_` does not occur
    /// there.
    #[must_use]
    pub fn pgp_mime(random: [u8; BOUNDARY_OCTETS]) -> Self {
        let digits: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
        Self::PgpMime { boundary: format!("{BOUNDARY_PREFIX}{digits}") }
    }

    /// Writes our fields.
    fn write_fields(&self, ending: &str, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::PgpMime { boundary } => {
                out.write_all(mime_version(ending).as_bytes())?;
                out.write_all(content_type(boundary, ending).as_bytes())
            }
            Self::Smime { kind } => write!(
                out,
                "MIME-Version: 1.0{ending}\
                 Content-Type: application/pkcs7-mime; smime-type={kind};{ending}\
                 \tname=\"smime.p7m\"{ending}\
                 Content-Transfer-Encoding: base64{ending}\
                 Content-Disposition: attachment; filename=\"smime.p7m\"{ending}\
                 Content-Description: {DESCRIPTION}{ending}"
            ),
        }
    }

    /// Writes what stands between the header and the ciphertext.
    fn write_before(&self, ending: &str, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::PgpMime { boundary } => {
                out.write_all(ending.as_bytes())?;
                out.write_all(before(boundary, ending).as_bytes())
            }
            Self::Smime { .. } => out.write_all(ending.as_bytes()),
        }
    }

    /// Writes what stands behind the ciphertext.
    fn write_after(&self, ending: &str, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::PgpMime { boundary } => out.write_all(behind(boundary, ending).as_bytes()),
            Self::Smime { .. } => Ok(()),
        }
    }
}

/// How one message is wrapped.
#[derive(Debug)]
pub struct Envelope<'a> {
    head: Head<'a>,
    region: Region<'a>,
    tail: Tail<'a>,
    line_ending: LineEnding,
    ending: &'static str,
    place: usize,
    /// Whether the entity gets a Content-Type: Thunderbird puts a header of its own before one without.
    adds_type: bool,
    /// Whether the entity's header ends with the mark.
    marked: bool,
    shell: Shell,
    protection: Option<Protection<'a>>,
}

impl<'a> Envelope<'a> {
    /// Wraps the message with this `head` into `shell`, its header protected as `protection` says, and with the mark where
    /// there is to be one and has room.
    #[must_use]
    pub fn new(
        head: Head<'a>,
        line_ending: LineEnding,
        protection: Option<Protection<'a>>,
        mark: bool,
        shell: Shell,
    ) -> Self {
        let (region, tail) = head.split();
        // Before the first MIME field, else at the end of the region: never behind anything that repeats the tail.
        let place = region.items().take_while(|item| !item.kind.is_mime()).count();
        let adds_type = !region.may_have_type(&tail);
        Self {
            head,
            region,
            tail,
            line_ending,
            ending: head.ending(),
            place,
            adds_type,
            marked: mark && mark::has_room(&tail),
            shell,
            protection,
        }
    }

    /// The line ending of everything that is written into the message.
    #[must_use]
    pub fn ending(&self) -> &'static str {
        self.ending
    }

    /// Whether the entity must be written with CRLF for the LF of the message (RFC 3156, section 5).
    #[must_use]
    pub fn converts_lines(&self) -> bool {
        self.line_ending == LineEnding::Lf
    }

    /// What header protection puts into the body, and before which of its bytes.
    #[must_use]
    pub fn display(&self) -> Option<(usize, &[u8])> {
        self.protection.as_ref()?.display()
    }

    /// What `decrypt` needs to undo all this.
    #[must_use]
    pub fn record(&self) -> Record {
        let plain = || Plain::of(self.head, self.place, self.ending, (self.adds_type, self.marked));
        let header = match &self.protection {
            None => HeaderRecord::Plain(plain()),
            // Then nothing is hidden, and what is inside is restored as far as it would be without protection.
            Some(protection) => protection
                .record()
                .map_or_else(|| HeaderRecord::Plain(plain().without_places()), HeaderRecord::Protected),
        };
        Record { line_ending: self.line_ending, header }
    }

    /// Writes all that comes before the ciphertext.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_before(&self, out: &mut impl Write) -> io::Result<()> {
        let ending = self.ending;
        let mut items = self.region.items();
        for item in items.by_ref().take(self.place) {
            self.write_outside(&item, out)?;
        }
        self.shell.write_fields(ending, out)?;
        for item in items.filter(|item| !item.kind.is_mime()) {
            self.write_outside(&item, out)?;
        }
        match &self.protection {
            Some(protection) => {
                protection.repeated().try_for_each(|item| protection.write_outside(&item, out))?
            }
            None => self.tail.repeated().try_for_each(|item| item.write(ending, out))?,
        }
        self.shell.write_before(ending, out)
    }

    /// Whether the header is no longer than any reader takes, with what stands between it and the ciphertext.
    #[must_use]
    pub fn can_be_read(&self) -> bool {
        let mut length = Length(0);
        self.write_before(&mut length).is_ok() && length.0 <= limits::HEADER + OWN
    }

    /// Writes all that comes after the ciphertext.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_after(&self, out: &mut impl Write) -> io::Result<()> {
        self.shell.write_after(self.ending, out)
    }

    /// Writes the entity's header with its empty line, in the message's own line ending.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_entity_header(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(protection) = &self.protection {
            return protection.write_inside(out);
        }
        if self.adds_type {
            write!(out, "Content-Type: text/plain{}", self.ending)?;
        }
        for item in self.region.items().filter(|item| item.kind == Kind::Content) {
            item.write(self.ending, out)?;
        }
        self.tail.write(self.ending, out)?;
        if self.marked {
            write!(out, "{}{}", mark::FIELD, self.ending)?;
        }
        match self.head.separator() {
            [] => out.write_all(self.ending.as_bytes()),
            separator => out.write_all(separator),
        }
    }

    fn write_outside(&self, item: &Item<'a>, out: &mut impl Write) -> io::Result<()> {
        match &self.protection {
            Some(protection) => protection.write_outside(item, out),
            None => item.write(self.ending, out),
        }
    }
}

/// Counts what is written, and keeps none of it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 += data.len();
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The field MIME-Version of a sealed message.
pub fn mime_version(ending: &str) -> String {
    format!("MIME-Version: 1.0{ending}")
}

/// Its Content-Type.
fn content_type(boundary: &str, ending: &str) -> String {
    format!(
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";{ending}\
         \tboundary=\"{boundary}\"{ending}"
    )
}

/// What of its body stands before the ciphertext.
fn before(boundary: &str, ending: &str) -> String {
    format!(
        "--{boundary}{ending}\
         Content-Type: application/pgp-encrypted{ending}\
         Content-Description: PGP/MIME version identification{ending}\
         {ending}\
         Version: 1{ending}\
         {ending}\
         --{boundary}{ending}\
         Content-Type: application/octet-stream; name=\"encrypted.asc\"{ending}\
         Content-Description: OpenPGP encrypted message{ending}\
         Content-Disposition: inline; filename=\"encrypted.asc\"{ending}\
         {ending}"
    )
}

/// What of it stands behind the ciphertext.
fn behind(boundary: &str, ending: &str) -> String {
    format!("{ending}--{boundary}--{ending}")
}

/// The boundary that a `field` names which is our Content-Type, byte for byte.
pub fn boundary<'a>(field: &'a [u8], ending: &str) -> Option<&'a str> {
    let start = memchr::memmem::find(field, BOUNDARY_PREFIX.as_bytes())?;
    let end = start + BOUNDARY_PREFIX.len() + 2 * BOUNDARY_OCTETS;
    let boundary = str::from_utf8(field.get(start..end)?).ok()?;
    let digits = &boundary[BOUNDARY_PREFIX.len()..];
    let is_ours = digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (is_ours && field == content_type(boundary, ending).as_bytes()).then_some(boundary)
}

/// The armor in a `body` that is made of our parts, byte for byte.
pub fn armor<'a>(body: &'a [u8], boundary: &str, ending: &str) -> Option<&'a [u8]> {
    let rest = body.strip_prefix(before(boundary, ending).as_bytes())?;
    rest.strip_suffix(behind(boundary, ending).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(fields: &[u8], separator: &[u8]) -> (String, String) {
        let all = [fields, separator].concat();
        let envelope = Envelope::new(
            Head::new(fields, separator),
            LineEnding::of(&all),
            None,
            false,
            Shell::pgp_mime([0xab; 16]),
        );
        let (mut before, mut entity) = (Vec::new(), Vec::new());
        envelope.write_before(&mut before).unwrap();
        envelope.write_entity_header(&mut entity).unwrap();
        let before = String::from_utf8(before).unwrap();
        let outer = before.split_once(&format!("{0}{0}", envelope.ending())).unwrap().0.to_owned();
        (
            outer.replace(OURS, "[ours]").replace(&OURS.replace('\n', "\r\n"), "[ours]"),
            String::from_utf8(entity).unwrap(),
        )
    }

    const OURS: &str = "MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\n\
                        \tboundary=\"=_mailseal-abababababababababababababababab\"";

    #[test]
    fn fields_go_where_they_belong() {
        let cases: [(&[u8], &[u8], &str, &str); 12] = [
            (b"A: b\nContent-Type: x\nC: d\n", b"\n", "A: b\n[ours]\nC: d", "Content-Type: x\n\n"),
            (b"A: b\r\n", b"\r\n", "A: b\r\n[ours]", "Content-Type: text/plain\r\n\r\n"),
            (b"A: b\njunk\nContent-Type: x\n", b"\n", "A: b\n[ours]", "junk\nContent-Type: x\n\n"),
            (
                b"A: b\nContent-ID: i\nC: d\njunk\nTo: e\nX: f\nMIME-Version: 1.0\n",
                b"\n",
                "A: b\n[ours]\nC: d\nTo: e",
                "Content-Type: text/plain\nContent-ID: i\njunk\nTo: e\nX: f\nMIME-Version: 1.0\n\n",
            ),
            (
                b"A: b\nX: c\n \n text\nContent-Type : d\nTo: e",
                b"",
                "A: b\n[ours]\nX: c\n \nTo: e",
                "X: c\n \n text\nContent-Type : d\nTo: e\n\n",
            ),
            (
                b"Subject: a\rTo: b\r\rtext",
                b"",
                "[ours]",
                "Content-Type: text/plain\nSubject: a\rTo: b\r\rtext\n\n",
            ),
            // It would continue a field that is put before it.
            (b" text\nTo: e\n", b"\n", "[ours]\nTo: e", " text\nTo: e\n\n"),
            (b"From a\n text\nTo: e\n", b"\n", "From a\n[ours]\nTo: e", " text\nTo: e\n\n"),
            (
                b"From x\nmime-version: 1\nA: b\nContent-ID: <i>\n",
                b"\n",
                "From x\n[ours]\nA: b",
                "Content-Type: text/plain\nContent-ID: <i>\n\n",
            ),
            (b"A: b", b"", "A: b\n[ours]", "Content-Type: text/plain\n\n"),
            (b"Content-Type: x", b"", "[ours]", "Content-Type: x\n\n"),
            (b"", b"\r\n", "[ours]", "Content-Type: text/plain\r\n\r\n"),
        ];
        for (fields, separator, outer, entity) in cases {
            let (found_outer, found_entity) = wrapped(fields, separator);
            assert_eq!(found_outer, outer, "{fields:?}");
            assert_eq!(found_entity, entity, "{fields:?}");
        }
    }
}
