//! Seals a mail to OpenPGP certificates as it is stored, and gives the original back.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cert;
pub mod classify;
pub mod error;
pub mod limits;
pub mod message;
pub mod openpgp;
pub mod protect;
pub mod recipients;
pub mod record;
pub mod seal;
pub mod unseal;
