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
