//! Faults: system calls that fail, power that goes, folders that change under root's hands, and what could leak.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "faults/calls.rs"]
mod calls;
#[path = "faults/confined.rs"]
mod confined;
mod dovecot;
#[path = "faults/hostile.rs"]
mod hostile;
#[path = "faults/leaks.rs"]
mod leaks;
#[path = "bulk/mailbox.rs"]
#[allow(dead_code)]
mod mailbox;
#[path = "faults/owners.rs"]
mod owners;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/record.rs"]
mod record;
#[path = "faults/short.rs"]
mod short;
#[path = "faults/strace.rs"]
mod strace;
#[path = "support/lib.rs"]
mod support;
#[path = "faults/turned.rs"]
mod turned;

use support::skip;
