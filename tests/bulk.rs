//! `encrypt-maildir` on real Maildirs: what it seals, what it leaves alone, and that nothing is ever lost.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod dovecot;
#[path = "bulk/faults.rs"]
mod faults;
#[path = "bulk/kills.rs"]
mod kills;
#[path = "bulk/live.rs"]
mod live;
#[path = "bulk/mailbox.rs"]
mod mailbox;
#[path = "bulk/messages.rs"]
mod messages;
#[path = "bulk/route.rs"]
mod route;
#[path = "support/lib.rs"]
mod support;

use support::skip;
