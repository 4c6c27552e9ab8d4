//! Everything that can go wrong, and everybody who wants it to: needs root, strace, gcc, python3 and for two of its modules
//! Dovecot 2.3, which `tests/run hostile` installs.
//!
//! The long forms of these tests are in `tests/long/`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

// What goes wrong by itself.
mod calls; // each system call fails once, with each error
mod deadline; // whatever blocks a delivery, it is over at the deadline
mod disks; // full disks, read-only mounts, unreadable files, several runs at once
mod kills; // encrypt-maildir is killed at random moments and at every system call
mod power; // the power goes, and the disk holds any state that it may
mod short; // reads and writes of one byte, every second one interrupted

// Who attacks.
mod bombs; // mail that is made to take memory or time, and broken ends of the pipe
mod owners; // owners who hold locks, stop and trace root's processes
mod swaps; // an owner who swaps folders and messages for links, FIFOs and devices
mod turned; // owners who turn on what root does beside sealing; needs Dovecot

// What is kept from whom.
mod confined; // what touches mail opens nothing outside the Maildir; needs Dovecot
mod leaks; // a canary in every mail is found nowhere; needs Dovecot
mod sandbox; // everything that a sandboxed process may not do

// Tools of these modules.
mod record; // what a program did to files, and the states a disk may be left in
mod strace; // runs a program under strace
