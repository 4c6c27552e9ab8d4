//! Gives back a message from its protected entity: cuts out what was added and puts in the lines that stayed outside.

use std::io::{self, Write};
use std::ops::Range;

use super::is_inside;
use crate::head::{Head, Items};
use crate::restore::Insertions;

/// Writes the original of the entity that is written to it, in the original's line ending.
#[derive(Debug)]
pub struct Undo<'a, W> {
    inner: W,
    added: &'a [Range<usize>],
    places: &'a [usize],
    outer: Items<'a>,
    at: usize,
}

impl<'a, W: Write> Undo<'a, W> {
    /// Writes to `inner`. `outer` is the outer header, of which only the lines are used that are nowhere else.
    pub fn new(inner: W, insertions: &'a Insertions, outer: Head<'a>) -> Self {
        Self { inner, added: &insertions.added, places: &insertions.outside, outer: outer.items(), at: 0 }
    }

    /// Ends the entity and gives the writer back.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when the entity ended before the last place, or other lines are outside than there
    /// were; and those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.put_lines()?;
        let cut = self.added.iter().all(|range| range.end <= self.at);
        if cut && self.places.is_empty() && self.next_line().is_none() {
            Ok(self.inner)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Writes the lines from outside that belong here.
    fn put_lines(&mut self) -> io::Result<()> {
        while let [place, rest @ ..] = self.places
            && *place == self.at
        {
            let line = self.next_line().ok_or(io::ErrorKind::InvalidData)?;
            self.inner.write_all(line)?;
            self.places = rest;
        }
        Ok(())
    }

    fn next_line(&mut self) -> Option<&'a [u8]> {
        self.outer.find(|item| !is_inside(item)).map(|item| item.raw)
    }
}

impl<W: Write> Write for Undo<'_, W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.put_lines()?;
        while let [range, rest @ ..] = self.added
            && range.end <= self.at
        {
            self.added = rest;
        }
        let next = |place: Option<usize>| place.map_or(usize::MAX, |place| place.saturating_sub(self.at));
        let until_line = next(self.places.first().copied());
        let (cutting, until_cut) = match self.added.first() {
            Some(range) if range.start <= self.at => (true, range.end - self.at),
            range => (false, next(range.map(|range| range.start))),
        };
        let count = piece.len().min(until_line).min(until_cut);
        if !cutting {
            self.inner.write_all(&piece[..count])?;
        }
        self.at += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
