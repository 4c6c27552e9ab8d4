//! The oracle of the package's tests, for the fuzz targets: three of its modules know where programs and fixtures
//! lie, and are replaced here.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../crates/testing/src/header.rs"]
pub mod header;
#[path = "../../../crates/testing/src/openers.rs"]
pub mod openers;
#[path = "../../../crates/testing/src/oracle.rs"]
pub mod oracle;
#[path = "../../../crates/testing/src/protected.rs"]
pub mod protected;
#[path = "../../../crates/testing/src/restore.rs"]
pub mod restore;
#[path = "../../../crates/testing/src/variants.rs"]
pub mod variants;

pub mod decrypt;
pub mod filter;
pub mod fixtures;
