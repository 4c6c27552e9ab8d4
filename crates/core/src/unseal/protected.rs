//! The header of an original that was protected: what comes from inside, what stands outside, and which of the two counts.
//!
//! **Whoever knows the certificate may have sealed it**, and put any header inside. So what comes from inside is sealed once
//! more, in thought: under the policy of the record the outside must show all that sealing it would show, byte for byte
//! and in this order. Only then is it taken in the place of that. Whatever else stands outside was written later,
//! by a server, and stays where it is; of a server's own fields none comes from inside beside it.

use super::original::{Header, Lines, Outer, is_same};
use super::server::{is_barred, without_shown};
use super::version1;
use crate::message::head::{Head, Item, Tail};
use crate::message::opening::Opening;
use crate::protect::policy::{Appearance, Policy};
use crate::protect::{Fields, Shown, is_outer_record};
use crate::record::Protected;

/// The policies that version 0.1 knew, and did not record.
const POLICIES: [Policy; 3] = [Policy::None, Policy::Baseline, Policy::Shy];

/// The items of the `outer` header that a protected entity has not.
pub fn only_outside<'a>(outer: Head<'a>) -> impl Iterator<Item = &'a [u8]> {
    outer.items().filter(|item| !version1::is_inside(item)).map(|item| item.raw)
}

/// Whether the `HP-Outer` fields of the `entity`'s header are all of the `outer` header or a part of it, in order.
pub fn is_recorded(outer: Head<'_>, entity: Head<'_>) -> bool {
    let outer: Vec<&[u8]> = outer.items().map(|item| item.before_blank_lines()).collect();
    let (region, _) = entity.split_inside();
    let records = region.items().filter(is_outer_record).map(|item| item.value());
    let records: Vec<&[u8]> = records.map(|value| value.strip_prefix(b" ").unwrap_or(value)).collect();
    subsequence(&outer, &records).is_some()
}

/// The header of the message that begins with `original`, as it was inside. `sound` tells that the rest of the seal is in
/// accord with its record: otherwise, and where the outer header does not show what it should, the outer fields stay, and
/// only the MIME fields come from inside: the header is not whole then, unless nothing was hidden. `appearance` is what the record and the entity say of the outside.
pub fn header(
    outer: Head<'_>,
    original: &Opening,
    record: &Protected,
    appearance: Option<&Appearance>,
    sound: bool,
) -> Header {
    let outer = Outer::of(outer);
    let head = original.head();
    let (region, tail) = if record.policy.is_some() { head.split() } else { head.whole() };
    let merged = match appearance {
        _ if !sound => None,
        Some(appearance) => {
            let inside: Vec<Shown<'_>> = Fields::new(head, appearance.clone()).outside().collect();
            let region = inside.iter().position(|shown| shown.in_tail || shown.item.kind.is_mime());
            merge(&outer, &inside, region.unwrap_or(inside.len()), tail)
        }
        None => POLICIES.into_iter().find_map(|policy| {
            let inside: Vec<Shown<'_>> = version1::outside(head, policy).collect();
            merge(&outer, &inside, version1::place(head), tail)
        }),
    };
    let whole = merged.is_some() || appearance.is_some_and(|appearance| appearance.policy == Policy::None);
    let (mut header, exact) = merged.unwrap_or_else(|| {
        let is_mime = |item: &Item<'_>| item.kind.is_mime();
        (outside(&outer, region.items().filter(is_mime), &tail), false)
    });
    header.bytes.extend_from_slice(head.separator());
    Header { bytes: header.bytes, exact, whole }
}

/// Puts the items from inside in the places of those in the `outer` header that show them; `None` where not all that is to be
/// shown stands there. Before the item `place` they stand before our two fields outside, the others behind.
fn merge(outer: &Outer<'_>, inside: &[Shown<'_>], place: usize, tail: Tail<'_>) -> Option<(Lines, bool)> {
    let (before, behind) = inside.split_at(place);
    let before = Part::of(&outer.before, before)?;
    let behind = Part::of(&outer.behind, behind)?;
    let hidden = inside.iter().filter(|shown| shown.outside.is_none()).map(|shown| shown.item);
    if is_barred(hidden, before.later().chain(behind.later())) {
        return None;
    }
    let mut header = Lines::new(outer.line_end);
    let mut exact = before.merge(&mut header);
    exact &= behind.merge(&mut header);
    exact &= header.push_tail(tail.bytes());
    Some((header, exact))
}

/// A part of the outer header, and the items from inside that show in it.
struct Part<'a> {
    outer: &'a [Item<'a>],
    inside: &'a [Shown<'a>],
    /// Which of the outer items show one from inside.
    ours: Vec<bool>,
}

impl<'a> Part<'a> {
    fn of(outer: &'a [Item<'a>], inside: &'a [Shown<'a>]) -> Option<Self> {
        let lines: Vec<&[u8]> = outer.iter().map(|item| item.raw).collect();
        let expected: Vec<&[u8]> = inside.iter().filter_map(|shown| shown.outside.as_deref()).collect();
        Some(Self { outer, inside, ours: subsequence(&lines, &expected)? })
    }

    /// The outer items that were written later.
    fn later(&self) -> impl Iterator<Item = Item<'a>> {
        self.outer.iter().zip(&self.ours).filter(|(_, ours)| !**ours).map(|(item, _)| *item)
    }

    /// Writes the items from inside, and those that were written later where they stand among them. False where a message
    /// that broke off in its header got an ending for that.
    fn merge(&self, header: &mut Lines) -> bool {
        let push = |header: &mut Lines, shown: &Shown<'_>| {
            if !shown.in_tail {
                header.push(shown.item.raw);
            }
        };
        let mut inside = self.inside.iter();
        let mut exact = true;
        for (item, ours) in self.outer.iter().zip(&self.ours) {
            if !ours {
                exact &= header.is_ended();
                header.push(item.raw);
                continue;
            }
            for shown in inside.by_ref() {
                push(header, shown);
                if shown.outside.is_some() {
                    break;
                }
            }
        }
        inside.for_each(|shown| push(header, shown));
        exact
    }
}

/// The `outer` header as it is, with the MIME fields from inside in the place of ours.
fn outside<'a>(outer: &Outer<'_>, mime: impl Iterator<Item = Item<'a>>, tail: &Tail<'_>) -> Lines {
    let mut header = Lines::new(outer.line_end);
    outer.before.iter().for_each(|item| header.push(item.raw));
    mime.for_each(|item| header.push(item.raw));
    outer.behind.iter().for_each(|item| header.push(item.raw));
    header.push_tail(&without_shown(tail));
    header
}

/// Which of `all` are `some`, in order: the last ones that can be, because later hops put their fields in front. `None` where
/// not all of `some` are there.
fn subsequence(all: &[&[u8]], some: &[&[u8]]) -> Option<Vec<bool>> {
    let mut left = some;
    let mut found = vec![false; all.len()];
    for (line, found) in all.iter().zip(&mut found).rev() {
        if let Some((last, before)) = left.split_last()
            && is_same(last, line)
        {
            *found = true;
            left = before;
        }
    }
    left.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Found from the end, which finds all that there is to be found.
        #[test]
        fn a_part_in_order_is_found(all in "[ab]{0,7}", some in "[ab]{0,4}") {
            let pieces = |text: &'static str| text.as_bytes().chunks(1).collect::<Vec<_>>();
            let (all, some) = (all.leak() as &str, some.leak() as &str);
            let mut rest = all.chars();
            let is_part = some.chars().all(|wanted| rest.any(|it| it == wanted));
            let found = subsequence(&pieces(all), &pieces(some));
            prop_assert_eq!(found.is_some(), is_part);
            if let Some(found) = found {
                let text: String = all.chars().zip(&found).filter(|(_, found)| **found).map(|(it, _)| it).collect();
                prop_assert_eq!(&text, some);
                // The last ones that can be: no later one of the same is left over before the next.
                let last = found.iter().rposition(|it| *it);
                let later = last.is_some_and(|last| all[last + 1..].contains(&all[last..=last]));
                prop_assert!(!later);
            }
        }
    }

    #[test]
    fn outer_fields_are_recorded_in_order_or_in_part() {
        let is = |outer: &str, entity: &str| {
            is_recorded(Head::new(outer.as_bytes(), b"\n"), Head::new(entity.as_bytes(), b"\n"))
        };
        let outer = "A: b\nC: d\n \n e\nF: g\n";
        assert!(is(outer, "") && is(outer, "X: y\n"));
        assert!(is(outer, "HP-Outer: A: b\nHP-Outer: C: d\nHP-Outer: F: g\n"));
        assert!(is(outer, "HP-Outer: A: b\nX: y\nHP-Outer: F: g\n"));
        assert!(!is(outer, "HP-Outer: F: g\nHP-Outer: A: b\n"));
        assert!(!is(outer, "HP-Outer: A: c\n") && !is(outer, "HP-Outer: A: b\nHP-Outer: A: b\n"));
        assert!(!is("", "HP-Outer: A: b\n"));
        let lines: Vec<_> =
            only_outside(Head::new(b"A: b\njunk\nA : b\nHP-Outer: x\nContent-Type : c\n", b"\n")).collect();
        assert_eq!(lines, [&b"junk\n"[..], b"A : b\n", b"HP-Outer: x\n"]);
    }
}
