//! Mail that leaves this machine: sealed to its recipients by the table `[[outgoing]]`, whichever door it leaves through.
//!
//! ```text
//! address   what an address is, however it is written
//! aliases   where mail for an address of this host ends
//! policy    which rule is for it, and what becomes of its mail
//! message   what is taken out of every message that leaves
//! verdict   what would become of mail for an address, for people
//! heartbeat numbered messages, by which it is seen whether others are kept back
//! own       a message of our own to one address
//! program   the program that sends mail
//! sendmail  `mailseal sendmail`, which takes the place of that program
//! held      mail that cannot leave sealed, kept and tried again
//! ```
//!
//! **An address that is not understood beyond doubt matches no rule, and its mail stays here** while any rule demands sealing: it
//! could be another spelling of one that must be sealed.

pub mod address;
pub mod aliases;
pub mod heartbeat;
pub mod held;
pub mod message;
pub mod own;
pub mod policy;
pub mod program;
pub mod sendmail;
pub mod verdict;
