//! Fields that only a server writes: whoever sealed a message cannot bring their own while one stands outside.

use memchr::memchr;

use crate::message::head::{Item, Kind, Tail, begins_with, is_listed};

/// A name, or the beginning of names that stand for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(&'static str);

/// Families that one name makes.
const NAMES: [&str; 4] = ["Received", "Return-Path", "Delivered-To", "Authentication-Results"];

/// Families of all names that begin so.
const BEGINNINGS: [&str; 2] = ["ARC-", "X-Spam"];

impl Family {
    fn named(name: &[u8]) -> Option<Self> {
        let named = NAMES.iter().find(|it| name.eq_ignore_ascii_case(it.as_bytes()));
        named.or_else(|| BEGINNINGS.iter().find(|it| begins_with(name, it))).copied().map(Self)
    }

    /// The families of whatever any reader might take for fields in `item`: some allow blanks before the colon, and some end a
    /// line at a CR that stands alone.
    fn seen_in<'a>(item: &Item<'a>) -> impl Iterator<Item = Self> + use<'a> {
        item.raw.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| {
            let (name, _) = line.split_at(memchr(b':', line)?);
            Self::named(name.trim_ascii_end())
        })
    }

    /// The family of a field.
    fn of(item: &Item<'_>) -> Option<Self> {
        Self::named(item.name())
    }
}

/// Whether one of the `inside` items is of a family of which one stands `outside`.
pub fn is_barred<'a>(
    inside: impl Iterator<Item = Item<'a>>,
    outside: impl Iterator<Item = Item<'a>>,
) -> bool {
    let mut stand: Vec<Family> = Vec::new();
    for family in outside.filter_map(|item| Family::of(&item)) {
        if !stand.contains(&family) {
            stand.push(family);
        }
    }
    inside.filter_map(|item| Family::of(&item)).any(|family| stand.contains(&family))
}

/// The tail without the fields that the outside shows anyway, or that only a server writes: what comes back of it where the
/// outer header does not repeat it as it should.
#[must_use]
pub fn without_shown(tail: &Tail<'_>) -> Vec<u8> {
    let holds_text = |item: &Item<'_>| item.before_blank_lines().len() < item.raw.len();
    let shown = |item: &Item<'_>| {
        Family::seen_in(item).next().is_some()
            || item.kind == Kind::Field && is_listed(item.name()) && !holds_text(item)
    };
    tail.items().filter(|item| !shown(item)).flat_map(|item| item.raw).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::head::Head;

    #[test]
    fn a_family_is_known_by_its_name_or_its_beginning() {
        for (name, family) in [
            ("Received", Some("Received")),
            ("RETURN-path", Some("Return-Path")),
            ("Delivered-To", Some("Delivered-To")),
            ("Authentication-Results", Some("Authentication-Results")),
            ("ARC-Seal", Some("ARC-")),
            ("x-spamd-Result", Some("X-Spam")),
            ("Received-SPF", None),
            ("Subject", None),
            ("", None),
        ] {
            assert_eq!(Family::named(name.as_bytes()), family.map(Family), "{name}");
        }
    }

    #[test]
    fn one_outside_bars_its_family_inside() {
        for (inside, outside, barred) in [
            ("Received: a\n", "Received: b\n", true),
            ("A: b\nreceived: a\n", "Received: b\nRECEIVED: c\nA: b\n", true),
            ("ARC-Seal: a\n", "ARC-Message-Signature: b\n", true),
            ("X-Spam-Flag: a\n", "ARC-Seal: b\nX-Spamd: c\n", true),
            ("Received: a\n", "Return-Path: b\n", false),
            ("Received: a\n", "", false),
            ("", "Received: a\n", false),
            ("Subject: a\n", "Subject: b\n", false),
        ] {
            let (inside_head, outside_head) =
                (Head::new(inside.as_bytes(), b""), Head::new(outside.as_bytes(), b""));
            assert_eq!(
                is_barred(inside_head.items(), outside_head.items()),
                barred,
                "{inside:?} {outside:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_anyway_or_a_server_s_does_not_come_back() {
        for (tail, left) in [
            ("junk\nX: a\n", "junk\nX: a\n"),
            ("junk\nSubject: a\nX: b\n", "junk\nX: b\n"),
            ("junk\nSubject: a\n \n text\n", "junk\nSubject: a\n \n text\n"),
            ("junk\nSubject : a\n", "junk\nSubject : a\n"),
            ("junk\nReceived: a\n", "junk\n"),
            ("junk\nReceived : a\n", "junk\n"),
            ("junk\nX: a\n Received: b\n", "junk\nX: a\n Received: b\n"),
            ("junk\rReceived: a\nX: b\n", "X: b\n"),
            ("junk\nX: a\rARC-Seal: b\n", "junk\n"),
        ] {
            let (_, found) = Head::new(tail.as_bytes(), b"\n").split();
            assert_eq!(String::from_utf8(without_shown(&found)).unwrap(), left, "{tail:?}");
        }
    }
}
