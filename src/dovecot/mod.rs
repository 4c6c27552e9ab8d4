//! All that knows Dovecot: its settings, its users, its mailboxes.

pub mod doveadm;
pub mod doveconf;
pub mod imap;
pub mod installation;
pub mod userdb;
