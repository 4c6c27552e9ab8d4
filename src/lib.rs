//! Makes a mail server unable to read the mail it stores.
//!
//! Each message is sealed on its way into the mailbox: its entity (the `Content-*` fields and the body) becomes one
//! OpenPGP message to its owner's certificate, inside RFC 3156's `multipart/encrypted`; the other header fields stay
//! outside. The server never holds a key that opens it.
//!
//! # Bird's eye
//!
//! ```text
//! The libraries
//!   crates/core      one message, sealed and opened: no file, environment, clock or terminal
//!   crates/maildir   a stored message is replaced in place and never lost         [edge]
//!
//! Messages that are stored                                                        [edge]
//!   mailbox     encrypt (in bulk), decrypt, reseal, audit; stored: unpacked, and judged by all of it
//!
//! Whose mail, to which certificates                                               [edge]
//!   keystore    where certificates are found; that there is none, proven
//!   keys        addressee: to whom a user's mail is sealed, or that it is not; enrol; admin: `mailseal keys`;
//!               secret: the keys that open what is stored
//!
//! The programs                                                                    [edge]
//!   delivery    message: what becomes of one; filter, deliver: one message, now; the deadline
//!   serve       the resident doors: LMTP before Dovecot, Dovecot's script socket, mail that leaves
//!   outgoing    mail that leaves: its rules, its addresses, heartbeats, `mailseal sendmail` and what it holds
//!   dovecot     its settings, its users, its mailboxes over IMAP
//!   doctor      what of an installation could let a delivery end in clear
//!   setup       puts mailseal into the Dovecot that is there, and takes it away
//!   log, report the log line, written and read; figures from it
//!   system      what a process gives up (process, sandbox); owner: root's work on users' files
//!   console     what a person sees;  cli  options that programs share
//!   config, error, exit, limits
//! ```
//!
//! # Invariants
//!
//! - Only exit status 0 means "store this": everything before is discarded by whoever reads. So output may be streamed.
//! - Plaintext goes out only where nobody asked for a certificate's protection: the user has none, or the message is
//!   proven to be encrypted. Every doubt is an error.
//! - What is opened is given out, or takes a place, only when all of it was proven.
//! - Memory is bounded by [`limits`] and [`mailseal_core::limits`], whatever the size of the message.
//! - A stored message is replaced by [`mailseal_maildir`] or [`mailbox::encrypt::dovecot`] only: at every instant it is there
//!   whole, at the end once.
//! - Text from a message, a key or a path passes [`console::escape`] before a terminal or a log.

pub mod cli;
pub mod config;
pub mod console;
pub mod delivery;
pub mod doctor;
pub mod dovecot;
pub mod error;
pub mod exit;
pub mod keys;
pub mod keystore;
pub mod limits;
pub mod log;
pub mod mailbox;
pub mod outgoing;
pub mod report;
pub mod serve;
pub mod setup;
pub mod system;
