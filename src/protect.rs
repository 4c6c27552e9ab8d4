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
//! Lines that are no fields, and `HP-Outer` fields that a message came with, stay outside alone. Signed roots are left as
//! they are: to be believed, the header would have to be inside the signature.

mod display;
pub mod exposed;
pub mod policy;
mod root;
mod shy;
mod undo;

use std::borrow::Cow;
use std::io::{self, Write};

use memchr::memchr_iter;

pub use self::policy::Policy;
pub use self::undo::{Undone, only_outside};

use self::display::Display;
use self::policy::Outside;
use self::root::{Root, claims_protection};
use self::undo::Undo;
use crate::head::{Head, Item, Kind};
use crate::limits;
use crate::lines::{LineEnding, ToCrlf};
use crate::opening::Opening;
use crate::recipients::Warning;
use crate::restore::{Insertions, Record};

/// What header protection adds to one message, and hides of it.
#[derive(Debug)]
pub struct Protection<'a> {
    opening: &'a Opening,
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
        opening,
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
    let protection = Protection { opening, head, policy, content_type, display, ending };
    if protection.can_be_undone() { Ok(protection) } else { Err(Warning::HpSkipped) }
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

    /// What undoes all this.
    #[must_use]
    pub fn record(&self) -> Record {
        let line_ending = self.opening.line_ending();
        // A line that only the outside has got an ending there, if it had none. More than fit into a record, and what
        // is too long for the proof, is not held in memory.
        let exact = only_outside(self.head).take(limits::LITERAL_NAME + 1).enumerate().all(|(n, line)| {
            n < limits::LITERAL_NAME && line.ends_with(b"\n") && line.len() <= limits::PROTECTED_FIELD
        });
        Record::protected(line_ending, exact.then(|| self.insertions(line_ending)))
    }

    fn insertions(&self, line_ending: LineEnding) -> Insertions {
        // The entity of a message with LF is written with CRLF.
        let length = |piece: &[u8]| match line_ending {
            LineEnding::Lf => piece.len() + memchr_iter(b'\n', piece).count(),
            LineEnding::Crlf | LineEnding::Mixed => piece.len(),
        };
        let mut insertions = Insertions::default();
        let mut at = 0;
        // Nothing in it fails.
        let _ = self.write_pieces(&mut |origin, piece| {
            match origin {
                Origin::Message => at += length(piece),
                Origin::Elsewhere => insertions.outside.push(at),
                Origin::New => {
                    let end = at + length(piece);
                    match insertions.added.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => insertions.added.push(at..end),
                    }
                    at = end;
                }
            }
            Ok(())
        });
        if let Some((before, text)) = self.display() {
            let start = at + length(&self.opening.body()[..before]);
            insertions.added.push(start..start + length(text));
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
            write(Origin::Message, ending)?;
            // A header that is cut may end in a lone CR.
            if !item.raw.ends_with(b"\n") {
                write(Origin::New, self.ending.as_bytes())?;
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
    fn can_be_undone(&self) -> bool {
        let record = Record::parse(self.record().encode().as_bytes());
        let Some((line_ending, insertions)) = record.and_then(|it| Some((it.line_ending, it.insertions?)))
        else {
            return false;
        };
        let crlf = line_ending == LineEnding::Lf;
        let mut original = Compare { rest: self.opening.bytes(), crlf, after_cr: false };
        let lines = only_outside(self.head).map(|line| in_entity(line, crlf));
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
