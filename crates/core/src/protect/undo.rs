//! Gives back a message from its protected entity: cuts out what was added and puts in the lines that stayed outside.

use std::io::{self, Cursor, Read, Write};
use std::vec;

use crate::record::Insertions;

/// Bytes that are read at once.
const READ_SIZE: usize = 16 * 1024;

/// Writes the original of the entity that is written to it, in the entity's line ending.
#[derive(Debug)]
pub struct Undo<W, I> {
    inner: W,
    insertions: Insertions,
    /// How many of the added pieces, and of the places of lines, lie behind.
    done: (usize, usize),
    lines: I,
    at: usize,
}

impl<W: Write, L: AsRef<[u8]>, I: Iterator<Item = L>> Undo<W, I> {
    /// Writes to `inner`. `lines` are those that only the outside has, in the entity's line ending.
    pub fn new(inner: W, insertions: Insertions, lines: I) -> Self {
        Self { inner, insertions, done: (0, 0), lines, at: 0 }
    }

    /// Ends the entity and gives the writer back.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when the entity ended before the last place, or there were other lines than places;
    /// and those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.put_lines()?;
        let (added, outside) = (self.insertions.added(), self.insertions.outside());
        let passed = added.last().is_none_or(|range| range.end <= self.at) && self.done.1 == outside.len();
        if passed && self.lines.next().is_none() {
            Ok(self.inner)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Writes the lines from outside that belong here.
    fn put_lines(&mut self) -> io::Result<()> {
        while self.insertions.outside().get(self.done.1) == Some(&self.at) {
            let line = self.lines.next().ok_or(io::ErrorKind::InvalidData)?;
            self.inner.write_all(line.as_ref())?;
            self.done.1 += 1;
        }
        Ok(())
    }
}

impl<W: Write, L: AsRef<[u8]>, I: Iterator<Item = L>> Write for Undo<W, I> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.put_lines()?;
        let (added, outside) = (self.insertions.added(), self.insertions.outside());
        while added.get(self.done.0).is_some_and(|range| range.end <= self.at) {
            self.done.0 += 1;
        }
        let (cutting, border) = match added.get(self.done.0) {
            Some(range) if range.start <= self.at => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, usize::MAX),
        };
        let line = outside.get(self.done.1).copied().unwrap_or(usize::MAX);
        let count = piece.len().min(border.min(line).saturating_sub(self.at));
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

/// Reads the original of a protected entity: `Undo` as a reader.
#[derive(Debug)]
pub struct Undone<R> {
    entity: R,
    undo: Option<Undo<Vec<u8>, vec::IntoIter<Vec<u8>>>>,
    piece: Vec<u8>,
    original: Cursor<Vec<u8>>,
}

impl<R: Read> Undone<R> {
    /// Reads the entity from `entity`; as many `lines` as the insertions have places for.
    pub fn new(entity: R, insertions: Insertions, lines: Vec<Vec<u8>>) -> Self {
        let undo = Undo::new(Vec::new(), insertions, lines.into_iter());
        Self { entity, undo: Some(undo), piece: vec![0; READ_SIZE], original: Cursor::default() }
    }

    /// Restores the next piece; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(mut undo) = self.undo.take() else { return Ok(false) };
        let count = (&mut self.entity).take(READ_SIZE as u64).read(&mut self.piece)?;
        self.original.set_position(0);
        self.original.get_mut().clear();
        if count == 0 {
            *self.original.get_mut() = undo.finish()?;
            return Ok(true);
        }
        undo.write_all(&self.piece[..count])?;
        std::mem::swap(self.original.get_mut(), &mut undo.inner);
        self.undo = Some(undo);
        Ok(true)
    }
}

impl<R: Read> Read for Undone<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.original.read(buffer)?;
            if count > 0 || buffer.is_empty() || !self.fill()? {
                return Ok(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insertions() -> Insertions {
        Insertions::new(vec![0..2, 5..8], vec![2, 5, 5, 9]).unwrap()
    }

    const ENTITY: &[u8] = b"++abc+++d";

    fn lines(count: usize) -> Vec<Vec<u8>> {
        (1..=count).map(|n| n.to_string().into_bytes()).collect()
    }

    #[test]
    fn pieces_of_any_size_give_the_original() {
        for size in 1..=ENTITY.len() {
            let mut undo = Undo::new(Vec::new(), insertions(), lines(4).into_iter());
            for piece in ENTITY.chunks(size) {
                undo.write_all(piece).unwrap();
            }
            assert_eq!(undo.finish().unwrap(), b"1abc23d4");
        }
        let mut original = Vec::new();
        Undone::new(ENTITY, insertions(), lines(4)).read_to_end(&mut original).unwrap();
        assert_eq!(original, b"1abc23d4");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let undone = |entity: &[u8], count| {
            Undone::new(entity, insertions(), lines(count)).read_to_end(&mut Vec::new()).is_ok()
        };
        assert!(undone(ENTITY, 4));
        assert!(!undone(ENTITY, 3));
        assert!(!undone(ENTITY, 5));
        assert!(!undone(&ENTITY[..8], 4));
        assert!(!undone(&ENTITY[..6], 4));
        assert!(!undone(b"", 4));
    }
}
