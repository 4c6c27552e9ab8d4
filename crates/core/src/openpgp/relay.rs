//! Two stages of writing at the same time: what one writes, a thread of its own hands to the next.
//!
//! For messages too long to be held: compressing, encrypting and armoring then take the time of the slowest of them,
//! not of their sum. The pieces go round, so that memory is as bounded as without.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::error::Error;

/// Pieces that wait at most, besides the two that are written and read.
const WAITING: usize = 1;

/// Bytes of the thread's stack: little beside the address space that Dovecot allows.
const STACK: usize = 256 * 1024;

/// Lets `produce` write to `out` and gives `out` back. Where `pieces` says how many bytes are handed over at once, `out`
/// does its part on another thread; [`WAITING`] and two more such pieces are held.
///
/// # Errors
/// [`Error::Write`] where `out` fails or no thread can be had, and those of `produce`.
pub fn stage<W: Write + Send + Sync>(
    mut out: W,
    pieces: Option<usize>,
    produce: impl FnOnce(&mut (dyn Write + Send + Sync)) -> Result<(), Error>,
) -> Result<W, Error> {
    let Some(size) = pieces else {
        produce(&mut out)?;
        return Ok(out);
    };
    let (full, to_write) = sync_channel::<Vec<u8>>(WAITING);
    let (written, empty) = sync_channel(WAITING + 2);
    thread::scope(|scope| {
        let next = thread::Builder::new().stack_size(STACK);
        let next = next.spawn_scoped(scope, move || {
            for mut piece in to_write {
                out.write_all(&piece)?;
                piece.clear();
                // Nobody wants it back any more at the end.
                let _ = written.send(piece);
            }
            Ok(out)
        });
        let next = next.map_err(Error::Write)?;
        let mut relay = Relay { full, empty: Mutex::new(empty), size, made: 0, piece: Vec::new() };
        let produced = produce(&mut relay).and_then(|()| relay.hand_over().map_err(Error::Write));
        drop(relay);
        match next.join() {
            Ok(Ok(out)) => produced.map(|()| out),
            // It is why `produce` could not go on.
            Ok(Err(error)) => Err(Error::Write(error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Collects what is written into pieces for the other thread.
struct Relay {
    full: SyncSender<Vec<u8>>,
    /// Pieces that were written. The lock is never waited for; it makes the channel what sequoia's writers ask for.
    empty: Mutex<Receiver<Vec<u8>>>,
    /// Bytes of a piece.
    size: usize,
    /// Pieces that there are, at most two more than [`WAITING`].
    made: usize,
    piece: Vec<u8>,
}

impl Relay {
    fn hand_over(&mut self) -> io::Result<()> {
        self.full.send(std::mem::take(&mut self.piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn fresh_piece(&mut self) -> io::Result<Vec<u8>> {
        if self.made < WAITING + 2 {
            self.made += 1;
            return Ok(Vec::with_capacity(self.size));
        }
        let empty = self.empty.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        empty.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Relay {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece = self.fresh_piece()?;
        }
        let count = data.len().min(self.size - self.piece.len());
        self.piece.extend_from_slice(&data[..count]);
        if self.piece.len() == self.size {
            self.hand_over()?;
        }
        Ok(count)
    }

    /// Does nothing: the pieces go on when they are full, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1024;

    #[test]
    fn all_arrives_in_order() {
        let data: Vec<u8> = (0..5 * PIECE + 17).map(|i| (i * 31 % 253) as u8).collect();
        for piece in [777, PIECE - 1, PIECE, PIECE + 1, usize::MAX] {
            for pieces in [None, Some(PIECE)] {
                let out = stage(Vec::new(), pieces, |out| {
                    data.chunks(piece).try_for_each(|part| out.write_all(part)).map_err(Error::Write)
                });
                assert!(out.unwrap() == data, "{piece}, {pieces:?}");
            }
        }
    }

    /// Takes so many bytes and no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(data.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_error_of_the_last_stage_is_the_one_reported() {
        for room in [0, PIECE, 3 * PIECE] {
            let result = stage(Full(room), Some(PIECE), |out| {
                let inner = stage(out, Some(PIECE), |out| {
                    (0..100).try_for_each(|_| out.write_all(&[b'x'; PIECE])).map_err(Error::Write)
                });
                inner.map(drop)
            });
            let Err(Error::Write(error)) = result else { panic!("{room}") };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
        }
    }

    #[test]
    fn an_error_of_the_first_stage_is_reported() {
        let result = stage(Vec::new(), Some(PIECE), |_| Err(Error::Empty));
        assert!(matches!(result, Err(Error::Empty)));
    }
}
