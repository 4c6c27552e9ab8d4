//! The name of a message's file in a Maildir, byte for byte: `UNIQUE,S=SIZE,W=SIZE:2,FLAGS`.
//!
//! Only what is asked for is understood; all other bytes are kept as they are. What a message's file is called
//! tells Dovecot which message it is: another [base](Name::base) is another message with another UID.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Stands between the base and the info part.
const INFO: u8 = b':';

/// Stands before each field of the base.
const FIELD: u8 = b',';

/// What an info part with flags begins with, behind the colon.
const FLAGS: &[u8] = b"2,";

/// A file name in `cur` or `new`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    bytes: Vec<u8>,
    /// Where the unique part ends: at the first field, the info part or the end.
    unique: usize,
    /// Where the base ends: at the info part or the end.
    base: usize,
}

/// The sizes of a message that a name may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the file (`S=`).
    pub physical: u64,
    /// Bytes with every line end as CRLF (`W=`).
    pub virtual_: u64,
}

impl Name {
    /// Takes the name of a message's file; `None` for one that no Maildir reader takes for a message: empty,
    /// beginning with a dot, holding a slash or NUL, or with nothing before its first field.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<Self> {
        let bytes = name.as_bytes();
        let base = bytes.iter().position(|&byte| byte == INFO).unwrap_or(bytes.len());
        let unique = bytes[..base].iter().position(|&byte| byte == FIELD).unwrap_or(base);
        let fit = unique > 0 && bytes[0] != b'.' && !bytes.iter().any(|&byte| byte == b'/' || byte == 0);
        fit.then(|| Self { bytes: bytes.into(), unique, base })
    }

    /// The name itself.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.bytes)
    }

    /// What stands before the first field.
    #[must_use]
    pub fn unique(&self) -> &[u8] {
        &self.bytes[..self.unique]
    }

    /// What tells the message from every other one: all that stands before the colon, fields included.
    #[must_use]
    pub fn base(&self) -> &[u8] {
        &self.bytes[..self.base]
    }

    /// The colon and what stands behind it, mostly `:2,` and flags; empty where there is none.
    #[must_use]
    pub fn info(&self) -> &[u8] {
        &self.bytes[self.base..]
    }

    /// The flags: letters, in the order of the name, and whatever a program has added behind them.
    #[must_use]
    pub fn flags(&self) -> &[u8] {
        self.info().get(1..).and_then(|info| info.strip_prefix(FLAGS)).unwrap_or_default()
    }

    /// The value of the first field with this letter, where it is a number.
    #[must_use]
    pub fn size(&self, letter: u8) -> Option<u64> {
        let field = self.fields().find(|field| is_size(field, letter))?;
        std::str::from_utf8(&field[2..]).ok()?.parse().ok()
    }

    /// The fields, without the commas before them.
    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        // The unique part ends where a comma is, or where the base does.
        self.bytes[self.unique..self.base].split(|&byte| byte == FIELD).skip(1)
    }

    /// The same message rewritten: with another unique part, with `sizes` where this name carries them, and all else
    /// kept.
    #[must_use]
    pub fn renewed(&self, unique: &[u8], sizes: Sizes) -> Self {
        let mut bytes = unique.to_vec();
        let mut written = [false; 2];
        for field in self.fields() {
            let (slot, letter, size) = match field {
                _ if is_size(field, b'S') => (0, 'S', sizes.physical),
                _ if is_size(field, b'W') => (1, 'W', sizes.virtual_),
                _ => {
                    bytes.push(FIELD);
                    bytes.extend_from_slice(field);
                    continue;
                }
            };
            // A second one would contradict the first.
            if !std::mem::replace(&mut written[slot], true) {
                bytes.extend_from_slice(format!(",{letter}={size}").as_bytes());
            }
        }
        let base = bytes.len();
        bytes.extend_from_slice(self.info());
        Self { unique: unique.len(), base, bytes }
    }

    /// The same base with the info part of `other`.
    #[must_use]
    pub fn with_info_of(&self, other: &Self) -> Self {
        Self { bytes: [self.base(), other.info()].concat(), ..*self }
    }

    /// The same base with these flags, sorted as the Maildir rules want them.
    #[must_use]
    pub fn with_flags(&self, flags: &[u8]) -> Self {
        let mut flags = flags.to_vec();
        flags.sort_unstable();
        flags.dedup();
        let info = [&[INFO], FLAGS, &flags].concat();
        Self { bytes: [self.base(), &info].concat(), ..*self }
    }

    /// Bytes of the whole name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a name is not empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl From<Name> for OsString {
    fn from(name: Name) -> Self {
        Self::from_vec(name.bytes)
    }
}

fn is_size(field: &[u8], letter: u8) -> bool {
    field.first() == Some(&letter) && field.get(1) == Some(&b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn names_are_taken_apart() {
        let whole = name("1700000000.M1P2.host,S=12,W=13,X=y:2,FSa");
        assert_eq!(whole.unique(), b"1700000000.M1P2.host");
        assert_eq!(whole.base(), b"1700000000.M1P2.host,S=12,W=13,X=y");
        assert_eq!((whole.flags(), whole.info()), (&b"FSa"[..], &b":2,FSa"[..]));
        assert_eq!((whole.size(b'S'), whole.size(b'W')), (Some(12), Some(13)));
        let bare = name("1700000000.1.host");
        assert_eq!((bare.base(), bare.info(), bare.flags()), (bare.unique(), &b""[..], &b""[..]));
        assert_eq!(bare.size(b'S'), None);
        assert_eq!(name("a,S=x:2,").size(b'S'), None);
        assert_eq!(name("a:1,x,S=5").size(b'S'), None, "the info part holds no field");
        assert_eq!(name("a:1,x").flags(), b"");
    }

    #[test]
    fn what_is_no_message_is_no_name() {
        for text in ["", ".", "..", ".hidden", ":2,S", ",S=1", "a/b", "a\0b"] {
            assert_eq!(Name::parse(OsStr::new(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_rewritten_message_keeps_all_but_its_sizes() {
        let sizes = Sizes { physical: 1, virtual_: 2 };
        for (before, after) in [
            ("a:2,S", "b:2,S"),
            ("a,S=9:2,", "b,S=1:2,"),
            ("a,W=9", "b,W=2"),
            ("a,U=3,W=9,S=8,S=7,Z:2,FabT", "b,U=3,W=2,S=1,Z:2,FabT"),
            ("a,S=,W=x:2,S,extra", "b,S=1,W=2:2,S,extra"),
            ("a,S", "b,S"),
        ] {
            assert_eq!(name(before).renewed(b"b", sizes), name(after), "{before}");
        }
    }

    #[test]
    fn flags_are_put_in_order() {
        assert_eq!(name("a,S=1").with_flags(b"TSSa"), name("a,S=1:2,STa"));
        assert_eq!(name("a,S=1:2,F").with_info_of(&name("b:2,S")), name("a,S=1:2,S"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(name) = Name::parse(OsStr::from_bytes(&bytes)) {
                prop_assert_eq!(name.as_os_str().as_bytes(), &bytes[..]);
                prop_assert_eq!([name.base(), name.info()].concat(), bytes);
                let again = Name::parse(name.renewed(name.unique(), Sizes { physical: 3, virtual_: 4 }).as_os_str());
                prop_assert_eq!(again.as_ref().map(Name::info), Some(name.info()));
            }
        }
    }

    #[test]
    fn a_size_is_the_first_field_with_its_letter() {
        for (text, letter, expected) in [
            ("a,S=5,S=6", b'S', Some(5)),
            ("a,XS=5,S=6", b'S', Some(6)),
            ("a,S5,S=6", b'S', Some(6)),
            ("a,W=5", b'S', None),
            ("a,S=-5", b'S', None),
            ("aS=5", b'S', None),
        ] {
            assert_eq!(name(text).size(letter), expected, "{text}");
        }
        assert_eq!((name("a,S=5:2,").len(), name("a").is_empty()), (8, false));
        assert_eq!(OsString::from(name("a,S=5:2,")), "a,S=5:2,");
    }
}
