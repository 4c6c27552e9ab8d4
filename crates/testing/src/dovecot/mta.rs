//! What the tests want of an MTA, whichever it is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::filter::run;

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

    /// Its sendmail(1).
    fn sendmail(&self) -> Command;

    /// The folder in which it keeps what it has.
    fn queue(&self) -> PathBuf;

    /// Hands a mail over to its sendmail(1), with these arguments.
    #[track_caller]
    fn submit(&self, arguments: &[&str], mail: &[u8]) {
        let run = run(self.sendmail().args(arguments), mail, mail.len().max(1));
        assert_eq!(run.status, Some(0), "sendmail {arguments:?}: {}", run.stderr);
    }

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
