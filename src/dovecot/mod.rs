//! All that knows Dovecot: its settings, its users, its mailboxes.

pub mod config_socket;
pub mod doveadm;
pub mod doveconf;
pub mod effective;
pub mod files;
pub mod imap;
pub mod installation;
pub mod lda;
pub mod running;
pub mod userdb;
