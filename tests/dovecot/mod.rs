//! A real Dovecot for the tests: started from the shipped Sieve files, spoken to over LMTP and IMAP, stopped
//! and removed with everything below it. This folder is shared by several test targets, each of which uses a
//! part of it.
#![allow(dead_code)]

pub mod entity;
pub mod flavour;
pub mod gpg;
pub mod imap;
pub mod lmtp;
pub mod requirement;
pub mod server;
pub mod site;
