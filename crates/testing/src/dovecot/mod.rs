//! A real Dovecot for the tests: started from the shipped Sieve files, spoken to over LMTP and IMAP, stopped
//! and removed with everything below it.

/// Makes a test for each Dovecot version of each function named, which takes the [`Flavour`](flavour::Flavour).
#[macro_export]
macro_rules! on_each_dovecot {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod on_dovecot_2_3 {
            $(#[test] $(#[$attribute])* fn $test() { super::$test($crate::dovecot::flavour::Flavour::V2_3); })+
        }
        mod on_dovecot_2_4 {
            $(#[test] $(#[$attribute])* fn $test() { super::$test($crate::dovecot::flavour::Flavour::V2_4); })+
        }
    };
}
pub mod entity;
pub mod flavour;
pub mod gpg;
pub mod imap;
pub mod lmtp;
pub mod mta;
pub mod mtas;
pub mod network;
pub mod postfix;
pub mod requirement;
pub mod server;
pub mod site;
pub mod userdb;
pub mod users;
