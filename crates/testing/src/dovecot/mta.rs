//! What the tests want of an MTA, whichever it is.

use std::io;
use std::net::SocketAddr;

use super::lmtp::Lmtp;
use super::server::wait_until;

/// A running MTA of the test's own.
pub trait Mta {
    /// Where it takes mail.
    fn smtp(&self) -> SocketAddr;

    /// The number of messages in its queue.
    fn queued(&self) -> usize;

    /// Tries all again.
    fn flush(&self);

    /// Its log.
    fn log(&self) -> String;

    /// What its log says of a recipient whose mail has to wait.
    fn deferral(&self) -> &'static str;

    /// Hands a mail over by SMTP, from this envelope sender; an error is a refusal.
    fn send_from(&self, sender: &str, recipients: &[&str], mail: &[u8]) -> io::Result<()> {
        Lmtp::connect_smtp(self.smtp())?.send(sender, recipients, mail)
    }

    /// Waits until so many deliveries have been deferred in all.
    fn wait_for_deferrals(&self, count: usize) {
        wait_until("the mail to be deferred", || self.log().matches(self.deferral()).count() >= count);
    }

    /// Waits until nothing is queued.
    fn wait_for_empty_queue(&self) {
        wait_until("the queue to be empty", || self.queued() == 0);
    }
}

/// A recipe of `contrib/mta`.
pub fn shipped(name: &str) -> String {
    std::fs::read_to_string(crate::repository().join("contrib/mta").join(name)).unwrap()
}
