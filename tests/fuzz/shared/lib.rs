//! The oracle of the package's tests, for the fuzz targets: three of its modules know where programs and fixtures
//! lie, and are replaced here.
#![allow(dead_code, unreachable_pub)]

#[path = "../../support/header.rs"]
pub mod header;
#[path = "../../support/openers.rs"]
pub mod openers;
#[path = "../../support/oracle.rs"]
pub mod oracle;
#[path = "../../support/protected.rs"]
pub mod protected;
#[path = "../../support/restore.rs"]
pub mod restore;
#[path = "../../support/variants.rs"]
pub mod variants;

pub mod decrypt;
pub mod filter;
pub mod fixtures;
