//! How long locks that others hold are waited for: all waits in a Maildir together, and not past the moment in which the run
//! is to stop.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long an owner's process waits for locks in a Maildir, in all.
pub const OF_OWNERS: Duration = Duration::from_secs(30);

/// What of it is left for a Maildir.
#[derive(Debug, Default)]
pub struct Patience {
    /// Milliseconds; `None` has no end.
    left: Option<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Patience {
    /// No more than `limit` in all, and none from the moment on in which `stop` is set.
    #[must_use]
    pub fn of(limit: Option<Duration>, stop: Arc<AtomicBool>) -> Self {
        let left = limit.map(|limit| AtomicU64::new(milliseconds(limit)));
        Self { left, stop }
    }

    /// Waits for `pause`, because somebody holds `what`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] where nothing of it is left; [`ErrorKind::WouldBlock`] where the run is to stop.
    pub fn wait(&self, pause: Duration, what: &str) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            let what = format!("{what} is held by another process, and the run is to stop");
            return Err(io::Error::new(ErrorKind::WouldBlock, what));
        }
        let spent = |left: u64| left.checked_sub(milliseconds(pause));
        let enough = self
            .left
            .as_ref()
            .is_none_or(|left| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok());
        if !enough {
            let what = format!("{what} is held by another process, for longer than is waited for one owner");
            return Err(io::Error::new(ErrorKind::TimedOut, what));
        }
        std::thread::sleep(pause);
        Ok(())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_once_and_for_all_and_when_the_run_stops() {
        let stop = Arc::new(AtomicBool::new(false));
        let patience = Patience::of(Some(Duration::from_millis(25)), Arc::clone(&stop));
        let pause = Duration::from_millis(10);
        let kinds = [(); 4].map(|()| patience.wait(pause, "it").map_err(|error| error.kind()));
        assert_eq!(kinds, [Ok(()), Ok(()), Err(ErrorKind::TimedOut), Err(ErrorKind::TimedOut)]);
        let endless = Patience::of(None, Arc::clone(&stop));
        assert!((0..9).all(|_| endless.wait(Duration::from_millis(1), "it").is_ok()));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(endless.wait(pause, "it").unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
