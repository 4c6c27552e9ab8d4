//! Header protection (RFC 9788): the whole header goes inside, in order and byte for byte, with `HP-Outer` fields that
//! record what the outside shows of it; the outside hides what [`policy`] says.
//!
//! ```text
//! policy   which fields the outside hides; shy: addresses and dates
//! root     whether the root may say that its header is protected, and the parameters that say so
//! display  the Subject in the body, for readers that know nothing of this
//! undo     cuts out what was added
//! exposed  what an outer header tells of the content, for an audit
//! ```
//!
//! What is added is added in whole pieces, so the way back needs only their places ([`Insertions`]), which travel in the
//! restore record. Before a message is sealed so, the way back is gone through once; where it does not give the message,
//! it is sealed without protection. A message whose root already claims protection would be believed once it is inside
//! the ciphertext: its header goes inside whatever the policy, and nothing is hidden where the policy hides nothing.
//!
//! An mbox line, and `HP-Outer` fields that a message came with, stay outside alone. The tail of a header goes inside as it
//! is, behind all that is added; of what repeats it outside, the policy hides as much as of other fields. Signed roots are
//! left as they are: to be believed, the header would have to be inside the signature. Mail on its way out ([`Policy::Sent`])
//! is hidden even so, and nothing inside says that its header is protected.

mod display;
pub mod exposed;
pub mod policy;
mod root;
mod shy;
mod undo;

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

pub use self::policy::{Appearance, Policy};
pub use self::undo::Undone;

use self::display::Display;
use self::policy::Outside;
use self::root::{Root, claims_protection};
use self::undo::Undo;
use crate::classify::mime::ContentType;
use crate::limits;
use crate::mark;
use crate::message::head::{Head, Item, Kind, Region, Tail};
use crate::message::lines::{LineEnding, ToCrlf};
use crate::message::opening::Opening;
use crate::recipients::Warning;
use crate::record::{Insertions, Protected};

/// What header protection adds to one message, and hides of it.
#[derive(Debug)]
pub struct Protection<'a> {
    opening: &'a Opening,
    fields: Fields<'a>,
    content_type: Change,
    display: Option<Display>,
    /// Whether the header inside ends with the mark.
    marked: bool,
}

/// The fields of a header, and what the outside shows of them under a policy.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    head: Head<'a>,
    region: Region<'a>,
    tail: Tail<'a>,
    appearance: Appearance,
    ending: &'static str,
}

/// What the outer header shows of an item.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The item.
    pub item: Item<'a>,
    /// Whether it stands in the tail.
    pub in_tail: bool,
    /// What stands outside; `None` where nothing does.
    pub outside: Option<Cow<'a, [u8]>>,
}

/// What becomes of the Content-Type.
#[derive(Debug)]
enum Change {
    /// Nothing.
    None,
    /// This field is added.
    Added(String),
    /// This is appended to the only one.
    Appended(String),
}

/// What is put inside for the sake of mail programs, where it has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Additions {
    /// The mark of what is sealed at rest ([`crate::mark`]).
    pub mark: bool,
    /// A hidden Subject once more at the top of the text, for those that know nothing of header protection (RFC 9788,
    /// section 5.2.2).
    pub legacy_display: bool,
}

impl Default for Additions {
    /// Both.
    fn default() -> Self {
        Self { mark: true, legacy_display: true }
    }
}

/// Whether a message gets header protection.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What it gets.
    pub protection: Option<Protection<'a>>,
    /// Why it does not get what the policy wants.
    pub warning: Option<Warning>,
}

/// Decides what header protection a message gets, by its beginning, and what of `additions` is put inside.
#[must_use]
pub fn plan(appearance: Appearance, additions: Additions, opening: &Opening) -> Plan<'_> {
    let head = opening.head();
    let warning = if appearance.policy == Policy::None {
        None
    } else {
        match protection(appearance, additions, opening) {
            Ok(protection) => return Plan { protection: Some(protection), warning: None },
            Err(warning) => Some(warning),
        }
    };
    let copy = || Protection {
        opening,
        fields: Fields::new(head, Policy::None.into()),
        content_type: Change::None,
        display: None,
        marked: additions.mark && mark::has_room(&head.split().1),
    };
    Plan { protection: claims_protection(head).then(copy), warning }
}

fn protection(
    appearance: Appearance,
    additions: Additions,
    opening: &Opening,
) -> Result<Protection<'_>, Warning> {
    let head = opening.head();
    // What is on its way out shows nothing, and where need be without a word about that inside: nothing here skips it.
    let always = appearance.policy == Policy::Sent;
    let skipped = |warning| if always { Ok((Change::None, None)) } else { Err(warning) };
    let fields = Fields::new(head, appearance);
    let Fields { region, ending, .. } = fields;
    let (content_type, display) = match Root::of(head) {
        Root::Unmarked => (Change::None, None),
        Root::Signed => skipped(Warning::HpSkippedSigned)?,
        Root::Closed => skipped(Warning::HpSkipped)?,
        Root::Open(content_type) => {
            let display = if additions.legacy_display {
                fields.display(content_type.as_ref(), opening.body())
            } else {
                None
            };
            let displayed = display.is_some();
            let change = match &content_type {
                None => Some(Change::Added(root::new_field(displayed, ending))),
                Some(content_type) => region
                    .called("Content-Type")
                    .next()
                    .and_then(|item| root::appended(&item, content_type, displayed, ending))
                    .map(Change::Appended),
            };
            match change {
                Some(change) => (change, display),
                None => skipped(Warning::HpSkipped)?,
            }
        }
    };
    let marked = additions.mark && mark::has_room(&fields.tail);
    let protection = Protection { opening, fields, content_type, display, marked };
    if always || protection.can_be_undone() { Ok(protection) } else { Err(Warning::HpSkipped) }
}

/// Whether an item of the region goes inside. An mbox line is no field, and an `HP-Outer` that came with the message would
/// be taken for ours.
fn is_inside(item: &Item<'_>) -> bool {
    match item.kind {
        Kind::Content | Kind::MimeVersion => true,
        Kind::Field => !is_outer_record(item),
        Kind::FromLine | Kind::Malformed => false,
    }
}

/// Whether it is an `HP-Outer` field.
pub fn is_outer_record(item: &Item<'_>) -> bool {
    item.value_of("HP-Outer").is_some()
}

impl<'a> Fields<'a> {
    /// The fields of `head`.
    #[must_use]
    pub fn new(head: Head<'a>, appearance: Appearance) -> Self {
        let (region, tail) = head.split();
        Self { head, region, tail, appearance, ending: head.ending() }
    }

    /// The items of the region that are nowhere but outside.
    fn only_outside(&self) -> impl Iterator<Item = &'a [u8]> {
        self.region.items().filter(|item| !is_inside(item)).map(|item| item.raw)
    }

    /// The fields of the tail that the outside may show as well. An `HP-Outer` is none of them: it would be taken for one
    /// that belongs outside.
    fn repeated(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        self.tail.repeated().filter(|item| !is_outer_record(item))
    }

    /// What the outer header shows of each item in order.
    pub fn outside(&self) -> impl Iterator<Item = Shown<'a>> + '_ {
        let region =
            self.region.items().map(|item| Shown { item, in_tail: false, outside: self.shown(&item) });
        let mut repeated = self.repeated().peekable();
        let tail = self.tail.items().filter(|item| item.kind == Kind::Field).map(move |item| {
            let repeated =
                repeated.next_if(|repeated| std::ptr::eq(repeated.raw.as_ptr(), item.raw.as_ptr()));
            Shown { item, in_tail: true, outside: repeated.and_then(|repeated| self.shown(&repeated)) }
        });
        region.chain(tail)
    }

    /// What the outer header shows of `item`, its line ended; nothing of a MIME field, and of what is hidden.
    fn shown(&self, item: &Item<'a>) -> Option<Cow<'a, [u8]>> {
        match item.kind {
            Kind::Content | Kind::MimeVersion => None,
            _ if is_inside(item) => self.appearance.shown(item, self.ending),
            _ => Some(item.ended(self.ending)),
        }
    }

    /// The Subject in the `body`, of a root of this type. Where there is a tail, readers do not agree where the body begins.
    fn display(&self, content_type: Option<&ContentType>, body: &[u8]) -> Option<Display> {
        let hidden = |item: &Item<'_>| self.appearance.outside(item, self.ending) != Outside::Same;
        let subjects = self.region.called("Subject").filter(hidden);
        self.tail
            .is_empty()
            .then(|| Display::of(self.head, content_type, subjects, body, self.ending))
            .flatten()
    }
}

impl<'a> Protection<'a> {
    /// Writes what the outer header shows of `item`, which is no MIME field.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_outside(&self, item: &Item<'a>, out: &mut impl Write) -> io::Result<()> {
        self.fields.shown(item).map_or(Ok(()), |line| out.write_all(&line))
    }

    /// The fields of the tail that the outside may show as well.
    pub fn repeated(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        self.fields.repeated()
    }

    /// Writes the entity's header with its empty line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_inside(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_pieces(&mut |_, piece| out.write_all(piece))
    }

    /// What is put into the body, and before which of its bytes.
    #[must_use]
    pub fn display(&self) -> Option<(usize, &[u8])> {
        self.display.as_ref().map(|display| (display.at, &*display.text))
    }

    /// What undoes all this; `None` where no record can say it.
    #[must_use]
    pub fn record(&self) -> Option<Protected> {
        // A line that only the outside has got an ending there, if it had none. More than fit into a record, and what
        // is too long for the proof, is not held in memory.
        let exact = self.fields.only_outside().take(limits::LITERAL_NAME + 1).enumerate().all(|(n, line)| {
            n < limits::LITERAL_NAME && line.ends_with(b"\n") && line.len() <= limits::PROTECTED_FIELD
        });
        let line_ending = self.opening.line_ending();
        let insertions = if exact { self.insertions(line_ending)? } else { return None };
        let protected = Protected { policy: Some(self.fields.appearance.policy), insertions };
        protected.fits(line_ending).then_some(protected)
    }

    fn insertions(&self, line_ending: LineEnding) -> Option<Insertions> {
        // The entity of a message with LF is written with CRLF.
        let length = |piece: &[u8]| match line_ending {
            LineEnding::Lf => piece.len() + memchr_iter(b'\n', piece).count(),
            LineEnding::Crlf | LineEnding::Mixed => piece.len(),
        };
        let (mut added, mut outside) = (Vec::<Range<usize>>::new(), Vec::new());
        let mut at = 0;
        // Nothing in it fails.
        let _ = self.write_pieces(&mut |origin, piece| {
            match origin {
                Origin::Message => at += length(piece),
                Origin::Elsewhere => outside.push(at),
                Origin::New => {
                    let end = at + length(piece);
                    match added.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => added.push(at..end),
                    }
                    at = end;
                }
            }
            Ok(())
        });
        if let Some((before, text)) = self.display() {
            let start = at + length(&self.opening.body()[..before]);
            added.push(start..start + length(text));
        }
        Insertions::new(added, outside)
    }

    /// Writes the entity's header in pieces, each with its origin.
    fn write_pieces(&self, write: &mut dyn FnMut(Origin, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let Fields { head, region, tail, ending, .. } = self.fields;
        if let Change::Added(field) = &self.content_type {
            write(Origin::New, field.as_bytes())?;
            write(Origin::New, ending.as_bytes())?;
        }
        for item in region.items() {
            self.write_item(&item, write)?;
        }
        // A tail that must stand first has got no region that goes inside.
        if !tail.stands_first() {
            let inside = region.items().filter(|item| is_inside(item) && !item.kind.is_mime());
            for item in inside.chain(self.repeated()) {
                // A line of blanks would end the header for some readers, before the tail does.
                let item = Item { raw: item.before_blank_lines(), ..item };
                if let Some(line) = self.fields.shown(&item) {
                    write(Origin::New, b"HP-Outer: ")?;
                    write(Origin::New, &line)?;
                }
            }
        }
        write(Origin::Message, tail.bytes())?;
        if !tail.is_empty() && !tail.bytes().ends_with(b"\n") {
            write(Origin::New, ending.as_bytes())?;
        }
        if self.marked {
            write(Origin::New, mark::FIELD.as_bytes())?;
            write(Origin::New, ending.as_bytes())?;
        }
        match head.separator() {
            [] => write(Origin::New, ending.as_bytes()),
            separator => write(Origin::Message, separator),
        }
    }

    /// Writes one item of the region.
    fn write_item(
        &self,
        item: &Item<'_>,
        write: &mut dyn FnMut(Origin, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if !is_inside(item) {
            return write(Origin::Elsewhere, b"");
        }
        let (line, ending) = item.raw.split_at(without_line_end(item.raw).len());
        write(Origin::Message, line)?;
        if let Change::Appended(parameters) = &self.content_type
            && item.value_of("Content-Type").is_some()
        {
            write(Origin::New, parameters.as_bytes())?;
        }
        write(Origin::Message, ending)?;
        if item.raw.ends_with(b"\n") { Ok(()) } else { write(Origin::New, self.fields.ending.as_bytes()) }
    }

    /// Goes the way back once, as far as anything was added, and compares.
    fn can_be_undone(&self) -> bool {
        let line_ending = self.opening.line_ending();
        let Some(Protected { insertions, .. }) = self.record() else { return false };
        let crlf = line_ending == LineEnding::Lf;
        let mut original = Compare { rest: self.opening.bytes(), crlf, after_cr: false };
        let lines = self.fields.only_outside().map(|line| in_entity(line, crlf));
        let mut undo = Undo::new(&mut original, insertions, lines);
        let written = if crlf {
            self.write_beginning(&mut ToCrlf::new(&mut undo))
        } else {
            self.write_beginning(&mut undo)
        };
        let undone = written.and_then(|()| undo.finish().map(drop)).is_ok();
        let at = self.display().unwrap_or_default().0;
        undone && original.rest.len() == self.opening.body().len() - at
    }

    /// Writes the entity up to the last byte that was added.
    fn write_beginning(&self, out: &mut impl Write) -> io::Result<()> {
        let (at, text) = self.display().unwrap_or_default();
        self.write_inside(out)?;
        out.write_all(&self.opening.body()[..at])?;
        out.write_all(text)
    }
}

/// Where a piece of the entity's header comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// From the message.
    Message,
    /// It was added.
    New,
    /// Nothing is written: a line of the message is missing here, which only the outside has.
    Elsewhere,
}

/// A line as it would stand in the entity.
fn in_entity(line: &[u8], crlf: bool) -> Cow<'_, [u8]> {
    if !crlf {
        return Cow::Borrowed(line);
    }
    let mut converted = Vec::with_capacity(line.len() + 1);
    // Writing to a Vec cannot fail.
    let _ = ToCrlf::new(&mut converted).write_all(line);
    Cow::Owned(converted)
}

/// Takes only what it has itself, each LF of it as CRLF if `crlf`.
struct Compare<'a> {
    rest: &'a [u8],
    crlf: bool,
    after_cr: bool,
}

impl Write for Compare<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        for &byte in piece {
            let Some((&expected, rest)) = self.rest.split_first() else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            self.after_cr = self.crlf && expected == b'\n' && !self.after_cr;
            if byte != if self.after_cr { b'\r' } else { expected } {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.after_cr {
                self.rest = rest;
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_its_type_is_what_leaves_shows_nothing() {
        let long = |length: usize| format!("text/plain; name={}", "a".repeat(length));
        let types = [
            "text/plain",
            "text/plain; x*=",
            "text/plain; x*",
            "text/plain; name*1=b",
            "text/plain; x*0*=utf-8''",
            "text/html;",
            "multipart/mixed; boundary=b",
            "multipart/signed; boundary=b",
            "multipart/mixed",
            "x",
            "",
            "text/plain; x=\"",
            "text/plain; hp=cipher",
            "text/plain; charset=utf-8; charset=x",
            "message/rfc822",
            "text/plain (x; y=\"z",
            "\u{e9}/b",
        ];
        let lengths = [4000, 4040, 4060, 4080, 4096, 5000];
        let all = types.iter().map(|text| (*text).to_owned()).chain(lengths.map(long));
        for text in all.chain(["text/plain\nContent-Type: text/html".into()]) {
            let mail = format!(
                "From: a@example.org\nSubject: CANARY\nX-A: CANARY\nReceived: CANARY\nContent-Type: {text}\n\nCANARY\n"
            );
            let opening = Opening::read(&mut mail.as_bytes()).unwrap();
            let appearance = Appearance::of(Policy::Sent, "Alert", opening.head()).unwrap();
            let plan = plan(appearance, Additions::default(), &opening);
            assert_eq!(plan.warning, None, "{text:.60}");
            let protection = plan.protection.expect("it is hidden");
            let mut outside = Vec::new();
            for shown in protection.fields.outside() {
                outside.extend_from_slice(&shown.outside.unwrap_or_default());
            }
            let outside = String::from_utf8(outside).unwrap();
            assert!(
                !outside.contains("CANARY") && outside.contains("Subject: Alert"),
                "{text:.60}: {outside}"
            );
        }
    }
}
