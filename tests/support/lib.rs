//! What several test targets share. Each takes it in with `#[path = "support/lib.rs"] mod support;`.
//!
//! Nothing here uses the product's library: the oracle must not repeat the product's mistakes.
#![allow(dead_code, unreachable_pub)]

pub mod admin;
pub mod decrypt;
pub mod delivery;
pub mod filter;
pub mod fixtures;
pub mod gnupg;
pub mod header;
pub mod jobs;
pub mod made;
pub mod openers;
pub mod oracle;
pub mod planted;
pub mod protected;
pub mod restore;
pub mod skip;
pub mod variants;
