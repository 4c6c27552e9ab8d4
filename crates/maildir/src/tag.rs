//! The end of a rewritten message's unique name, which says whose place it took.
//!
//! `1700000000.M1P2.host` becomes `1700000000.M1P2.host.s` and 20 letters: a hash of the old file's name, inode, size
//! and mtime. It holds nothing of the message. A file whose hash is in the name of another one in its folder was
//! replaced by it; a copy that was put back from a backup has another inode, and is a message of its own.

use data_encoding::BASE32_DNSSEC;
use sha2::{Digest as _, Sha256};

use super::dir::Stamp;
use super::name::{Name, Sizes};

/// Stands before the letters.
const MARK: &[u8] = b".s";

/// Letters of the hash: 100 bits.
const LETTERS: usize = 20;

/// Longest name of a file in the file systems that hold mail (`NAME_MAX`).
const LONGEST: usize = 255;

/// What room is left for the info part: flags come and go.
const ROOM_FOR_INFO: usize = 64;

/// Which file was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; LETTERS]);

impl Tag {
    /// The tag of the file that is called `name` and whose state is `stamp`.
    #[must_use]
    pub fn of(name: &Name, stamp: &Stamp) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"mailseal name 1\0");
        for number in [stamp.inode, stamp.size] {
            hash.update(number.to_be_bytes());
        }
        for number in [stamp.modified.0, stamp.modified.1] {
            hash.update(number.to_be_bytes());
        }
        hash.update(name.base());
        let letters = BASE32_DNSSEC.encode(&hash.finalize());
        let mut tag = [0; LETTERS];
        tag.copy_from_slice(&letters.as_bytes()[..LETTERS]);
        Self(tag)
    }

    /// The tag that a name ends in.
    #[must_use]
    pub fn in_name(name: &Name) -> Option<Self> {
        let (_, letters) = split(name.unique())?;
        Some(Self(letters))
    }

    /// What a message is called that takes the place of `name`. Tags do not add up: the old one's makes room.
    #[must_use]
    pub fn rename(&self, name: &Name, sizes: Sizes) -> Name {
        let root = split(name.unique()).map_or(name.unique(), |(root, _)| root);
        let renewed = |root: &[u8]| name.renewed(&[root, MARK, &self.0].concat(), sizes);
        let whole = renewed(root);
        let base = whole.base().len();
        let too_long = (base + ROOM_FOR_INFO.max(whole.info().len())).saturating_sub(LONGEST);
        match root.len().checked_sub(too_long) {
            Some(length) if too_long > 0 => renewed(&root[..length.max(1)]),
            _ => whole,
        }
    }
}

/// A unique part without its tag, and the tag's letters.
fn split(unique: &[u8]) -> Option<(&[u8], [u8; LETTERS])> {
    let (root, letters) = unique.split_last_chunk::<LETTERS>()?;
    let root = root.strip_suffix(MARK).filter(|root| !root.is_empty())?;
    letters.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).then_some((root, *letters))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    const STAMP: Stamp = Stamp { inode: 1, size: 2, modified: (3, 4) };
    const SIZES: Sizes = Sizes { physical: 5, virtual_: 6 };

    fn name(text: &str) -> Name {
        Name::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn a_tag_is_found_again_and_does_not_grow() {
        let old = name("1.M2P3.host,S=2:2,S");
        let tag = Tag::of(&old, &STAMP);
        let new = tag.rename(&old, SIZES);
        assert_eq!(Tag::in_name(&new), Some(tag));
        assert_eq!(Tag::in_name(&old), None);
        assert!(new.as_os_str().to_str().unwrap().starts_with("1.M2P3.host.s"));
        assert!(new.as_os_str().to_str().unwrap().ends_with(",S=5:2,S"));
        let again = Tag::of(&new, &STAMP);
        assert_ne!(again, tag);
        assert_eq!(again.rename(&new, SIZES).len(), new.len());
    }

    #[test]
    fn every_state_of_a_file_has_its_own() {
        let old = name("1.M2P3.host");
        let others = [
            Stamp { inode: 9, ..STAMP },
            Stamp { size: 9, ..STAMP },
            Stamp { modified: (9, 4), ..STAMP },
            Stamp { modified: (3, 9), ..STAMP },
        ];
        assert!(others.iter().all(|other| Tag::of(&old, other) != Tag::of(&old, &STAMP)));
        assert_ne!(Tag::of(&name("1.M2P4.host"), &STAMP), Tag::of(&old, &STAMP));
        assert_eq!(
            Tag::of(&name("1.M2P3.host:2,S"), &STAMP),
            Tag::of(&old, &STAMP),
            "flags are not the message"
        );
    }

    #[test]
    fn the_longest_name_stays_a_name() {
        for length in [150, 200, 230, 255] {
            let old = name(&"x".repeat(length));
            let tag = Tag::of(&old, &STAMP);
            let new = tag.rename(&old, SIZES);
            assert!(new.len() + ROOM_FOR_INFO <= LONGEST, "{length}");
            assert_eq!(Tag::in_name(&new), Some(tag));
        }
    }

    #[test]
    fn a_long_name_is_cut_by_no_more_than_is_needed() {
        for length in 160..200 {
            let old = name(&format!("{},S=2", "x".repeat(length)));
            let new = Tag::of(&old, &STAMP).rename(&old, SIZES);
            let whole = length + MARK.len() + LETTERS + ",S=5".len();
            let expected = whole.min(LONGEST - ROOM_FOR_INFO);
            assert_eq!(new.base().len(), expected, "{length}");
        }
        let old = name(&format!("{}:2,{}", "x".repeat(120), "a".repeat(100)));
        let new = Tag::of(&old, &STAMP).rename(&old, SIZES);
        assert_eq!(new.len(), 120 + MARK.len() + LETTERS + 3 + 100, "flags keep their room");
        let old = name(&format!("{}:2,{}", "x".repeat(140), "a".repeat(100)));
        assert_eq!(Tag::of(&old, &STAMP).rename(&old, SIZES).len(), LONGEST);
    }

    #[test]
    fn a_tag_is_letters_and_digits_behind_a_mark() {
        for (unique, is_tag) in [
            ("1.s0123456789abcdefghij", true),
            ("1.s0123456789abcdefghi", false),
            ("1.s0123456789ABCDEFGHIJ", false),
            ("1.s0123456789abcdefgh-j", false),
            ("1.t0123456789abcdefghij", false),
            (".s0123456789abcdefghij", false),
            ("0123456789abcdefghij", false),
        ] {
            assert_eq!(split(unique.as_bytes()).is_some(), is_tag, "{unique}");
        }
        assert_eq!(split(b"1.s0123456789abcdefghij"), Some((&b"1"[..], *b"0123456789abcdefghij")));
    }
}
