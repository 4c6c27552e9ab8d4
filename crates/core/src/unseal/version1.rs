//! What version 0.1 took for fields, for the way back of what it sealed: it knew no tail. Its outer headers show every item
//! but the MIME fields; of a protected header, fields that are well formed but for blanks before the colon went inside.

use std::borrow::Cow;

use crate::message::head::{Head, Item, Kind, begins_with};
use crate::protect::policy::{Appearance, Policy};
use crate::protect::{Shown, is_outer_record};

/// Whether version 0.1 took it for a `Content-*` field.
#[must_use]
pub fn is_content(item: &Item<'_>) -> bool {
    begins_with(item.name(), "Content-")
}

/// What the outer header of a message with the protected `head` showed of each item, under `policy`.
pub fn outside<'a>(head: Head<'a>, policy: Policy) -> impl Iterator<Item = Shown<'a>> {
    let (ending, appearance) = (head.ending(), Appearance::from(policy));
    let outside = move |item: &Item<'a>| -> Option<Cow<'a, [u8]>> {
        if is_content(item) || is_version(item) {
            None
        } else if is_inside(item) {
            appearance.shown(item, ending)
        } else {
            Some(item.ended(ending))
        }
    };
    head.items().map(move |item| Shown { item, in_tail: false, outside: outside(&item) })
}

/// How many items of a protected `head` stood before the two fields that version 0.1 wrote.
#[must_use]
pub fn place(head: Head<'_>) -> usize {
    let is_mime = |item: &Item<'_>| is_content(item) || is_version(item);
    // It took a first line that begins with a blank for a field, and an mbox line for one whatever CRs it holds.
    let starts = |item: &Item<'_>| [&b" "[..], b"\t", b"From "].iter().any(|it| item.raw.starts_with(it));
    let ends = |n: usize, item: &Item<'_>| item.kind == Kind::Malformed && !(n == 0 && starts(item));
    head.items().enumerate().take_while(|(n, item)| !is_mime(item) && !ends(*n, item)).count()
}

/// Whether an item went inside; the others stayed outside alone. In an outer header that a later version wrote, it tells
/// the same.
#[must_use]
pub fn is_inside(item: &Item<'_>) -> bool {
    item.kind == Kind::Field && !is_outer_record(item) || is_content(item) || is_version(item)
}

fn is_version(item: &Item<'_>) -> bool {
    item.name().eq_ignore_ascii_case(b"MIME-Version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_blanks_before_the_colon_are_fields() {
        for (item, content, inside) in [
            ("Content-Type: a\n", true, true),
            ("content-type : a\n", true, true),
            ("Content: a\n", false, true),
            ("MIME-Version : 1\n", false, true),
            ("mime-version: 1\n", false, true),
            ("Subject: a\n", false, true),
            ("Subject : a\n", false, false),
            ("HP-Outer: a\n", false, false),
            ("junk\n", false, false),
            ("From a\n", false, false),
        ] {
            let head = Head::new(item.as_bytes(), b"\n");
            let item = head.items().next().unwrap();
            assert_eq!((is_content(&item), is_inside(&item)), (content, inside), "{item:?}");
        }
    }

    #[test]
    fn its_own_fields_stood_before_the_first_of_mime_or_what_is_no_field() {
        for (fields, expected) in [
            ("A: b\nC: d\n", 2),
            ("A: b\nContent-Type: c\nD: e\n", 1),
            ("A: b\nMIME-Version : 1\nD: e\n", 1),
            ("A: b\njunk\nD: e\n", 1),
            ("junk\nA: b\n", 0),
            (" junk\nA: b\n", 2),
            ("\tjunk\nA: b\n", 2),
            ("From a\rb\nA: b\n", 2),
            ("A: b\nFrom a\n", 1),
            ("", 0),
        ] {
            assert_eq!(place(Head::new(fields.as_bytes(), b"\n")), expected, "{fields:?}");
        }
    }

    #[test]
    fn the_outside_showed_all_but_what_was_hidden() {
        let shown = |fields: &str, policy| -> Vec<Option<String>> {
            let shown = outside(Head::new(fields.as_bytes(), b"\n"), policy);
            shown.map(|it| it.outside.map(|text| String::from_utf8(text.into_owned()).unwrap())).collect()
        };
        let fields = "From: a\nSubject: b\nContent-Type: c\nMIME-Version: 1\njunk\nSubject : d";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown(fields, Policy::None),
            [some("From: a\n"), some("Subject: b\n"), None, None, some("junk\n"), some("Subject : d\n")]
        );
        assert_eq!(
            shown(fields, Policy::Baseline),
            [some("From: a\n"), some("Subject: [...]\n"), None, None, some("junk\n"), some("Subject : d\n")]
        );
    }
}
