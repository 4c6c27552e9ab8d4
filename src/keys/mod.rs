//! Whose mail is sealed, and to which certificates: from the enrolment to a delivery.

pub mod addressee;
pub mod admin;
pub mod code;
pub mod enrol;
#[cfg(feature = "network")]
pub mod fetch;
pub mod receive;
pub mod recovery;
pub mod revoked;
pub mod secret;
