//! Header protection (RFC 9788): the whole header goes inside, in order and byte for byte, with `HP-Outer` fields that
//! record what the outside shows of it; the outside hides what [`policy`] says.
//!
//! ```text
//! policy   which fields the outside hides; policy/shy: addresses and dates
//! root     whether the root may say that its header is protected, and the parameters that say so
//! display  the Subject in the body, for readers that know nothing of this
//! undo     cuts out what was added
//! ```
//!
//! What is added is added in whole pieces, so the way back needs only their places ([`Insertions`]), which travel in the
//! restore record. Before a message is sealed so, the way back is gone through once; where it does not give the message,
//! it is sealed without protection. A message whose root already claims protection would be believed once it is inside
//! the ciphertext: its header goes inside whatever the policy, and nothing is hidden where the policy hides nothing.
//!
//! Lines that are no fields, and `HP-Outer` fields that a message came with, stay outside alone. Signed roots are left as
//! they are: to be believed, the header would have to be inside the signature.

mod display;
pub mod policy;
mod root;
mod shy;
mod undo;

use std::io::{self, Write};

pub use self::policy::Policy;
pub use self::undo::Undo;

use self::display::Display;
use self::policy::Outside;
use self::root::{Root, claims_protection};
use crate::head::{Head, Item, Kind};
use crate::lines::LineEnding;
use crate::opening::Opening;
use crate::recipients::Warning;
use crate::restore::{Insertions, Record};

/// What header protection adds to one message, and hides of it.
#[derive(Debug)]
pub struct Protection<'a> {
    head: Head<'a>,
    policy: Policy,
    content_type: Change,
    display: Option<Display>,
    ending: &'static str,
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

/// Whether a message gets header protection.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What it gets.
    pub protection: Option<Protection<'a>>,
    /// Why it does not get what the policy wants.
    pub warning: Option<Warning>,
}

/// Decides what header protection a message gets, by its beginning.
#[must_use]
pub fn plan(policy: Policy, opening: &Opening) -> Plan<'_> {
    let head = opening.head();
    let warning = if policy == Policy::None {
        None
    } else {
        match protection(policy, opening) {
            Ok(protection) => return Plan { protection: Some(protection), warning: None },
            Err(warning) => Some(warning),
        }
    };
    let copy = || Protection {
        head,
        policy: Policy::None,
        content_type: Change::None,
        display: None,
        ending: head.ending(),
    };
    Plan { protection: claims_protection(head).then(copy), warning }
}

fn protection(policy: Policy, opening: &Opening) -> Result<Protection<'_>, Warning> {
    let head = opening.head();
    let content_type = match Root::of(head) {
        Root::Open(content_type) => content_type,
        Root::Signed => return Err(Warning::HpSkippedSigned),
        Root::Closed => return Err(Warning::HpSkipped),
    };
    let ending = head.ending();
    let hidden = head.items().filter(|item| is_inside(item) && item.value_of("Subject").is_some());
    let hidden = hidden.filter(|item| policy.outside(item, ending) != Outside::Same);
    let display = Display::of(head, content_type.as_ref(), hidden, opening.body(), ending);
    let displayed = display.is_some();
    let content_type = match &content_type {
        None => Change::Added(root::new_field(displayed, ending)),
        Some(content_type) => head
            .items()
            .find(|item| item.value_of("Content-Type").is_some())
            .and_then(|item| root::appended(&item, content_type, displayed, ending))
            .map(Change::Appended)
            .ok_or(Warning::HpSkipped)?,
    };
    let protection = Protection { head, policy, content_type, display, ending };
    if protection.can_be_undone(opening) { Ok(protection) } else { Err(Warning::HpSkipped) }
}

/// Whether a header item goes inside: well-formed fields do. An `HP-Outer` that came with the message would be taken for
/// ours.
fn is_inside(item: &Item<'_>) -> bool {
    match item.kind {
        Kind::Content | Kind::MimeVersion => true,
        Kind::Field => !item.raw.starts_with(b" ") && !item.raw.starts_with(b"\t") && !is_outer_record(item),
        Kind::FromLine | Kind::Malformed => false,
    }
}

fn is_outer_record(item: &Item<'_>) -> bool {
    item.value_of("HP-Outer").is_some()
}

impl Protection<'_> {
    /// Writes what the outer header shows of `item`, which is no MIME field.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_outside(&self, item: &Item<'_>, out: &mut impl Write) -> io::Result<()> {
        if is_inside(item) { self.write_shown(b"", item, out) } else { item.write(self.ending, out) }
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

    /// What undoes all this, in a message with this line ending.
    #[must_use]
    pub fn record(&self, line_ending: LineEnding) -> Record {
        // A line that only the outside has got an ending there, if it had none.
        let mut outside = self.head.items().filter(|item| !is_inside(item));
        let exact = outside.all(|item| item.raw.ends_with(b"\n"));
        Record::protected(line_ending, exact.then(|| self.insertions()))
    }

    fn insertions(&self) -> Insertions {
        let mut insertions = Insertions::default();
        let mut at = 0;
        // Nothing in it fails.
        let _ = self.write_pieces(&mut |origin, piece| {
            match origin {
                Origin::Message => at += piece.len(),
                Origin::Elsewhere => insertions.outside.push(at),
                Origin::New => {
                    let end = at + piece.len();
                    match insertions.added.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => insertions.added.push(at..end),
                    }
                    at = end;
                }
            }
            Ok(())
        });
        if let Some(display) = &self.display {
            let start = at + display.at;
            insertions.added.push(start..start + display.text.len());
        }
        insertions
    }

    /// Writes the entity's header in pieces, each with its origin.
    fn write_pieces(&self, write: &mut dyn FnMut(Origin, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if let Change::Added(field) = &self.content_type {
            write(Origin::New, field.as_bytes())?;
            write(Origin::New, self.ending.as_bytes())?;
        }
        for item in self.head.items() {
            if !is_inside(&item) {
                write(Origin::Elsewhere, b"")?;
                continue;
            }
            let (line, ending) = item.raw.split_at(without_line_end(item.raw).len());
            write(Origin::Message, line)?;
            if let Change::Appended(parameters) = &self.content_type
                && item.value_of("Content-Type").is_some()
            {
                write(Origin::New, parameters.as_bytes())?;
            }
            match ending {
                [] => write(Origin::New, self.ending.as_bytes())?,
                _ => write(Origin::Message, ending)?,
            }
        }
        let shown = self.head.items().filter(|item| is_inside(item) && !item.kind.is_mime());
        for item in shown {
            self.write_shown(b"HP-Outer: ", &item, &mut New(write))?;
        }
        match self.head.separator() {
            [] => write(Origin::New, self.ending.as_bytes()),
            separator => write(Origin::Message, separator),
        }
    }

    /// Writes what the outside shows of `item`, with `prefix` before it, where it shows anything.
    fn write_shown(&self, prefix: &[u8], item: &Item<'_>, out: &mut impl Write) -> io::Result<()> {
        match self.policy.outside(item, self.ending) {
            Outside::Nothing => Ok(()),
            Outside::Same => {
                out.write_all(prefix)?;
                item.write(self.ending, out)
            }
            Outside::Instead(value) => {
                out.write_all(prefix)?;
                out.write_all(item.name())?;
                write!(out, ": {value}{}", self.ending)
            }
        }
    }

    /// Goes the way back once, as far as anything was added, and compares.
    fn can_be_undone(&self, opening: &Opening) -> bool {
        let record = Record::parse(self.record(opening.line_ending()).encode().as_bytes());
        let Some(insertions) = record.and_then(|record| record.insertions) else { return false };
        let mut rest = Compare(opening.bytes());
        let mut undo = Undo::new(&mut rest, &insertions, self.head);
        let (at, text) = self.display().unwrap_or_default();
        self.write_inside(&mut undo)
            .and_then(|()| undo.write_all(&opening.body()[..at]))
            .and_then(|()| undo.write_all(text))
            .and_then(|()| undo.finish().map(drop))
            .is_ok_and(|()| rest.0.len() == opening.body().len() - at)
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

/// Marks as new what is written.
struct New<'a>(&'a mut dyn FnMut(Origin, &[u8]) -> io::Result<()>);

impl Write for New<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        (self.0)(Origin::New, piece)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes only what it has itself.
struct Compare<'a>(&'a [u8]);

impl Write for Compare<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(piece).ok_or(io::ErrorKind::InvalidData)?;
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
