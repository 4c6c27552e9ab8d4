//! Finds the certificates of the fixtures.

use std::path::{Path, PathBuf};

/// A mail; only its type is needed here.
#[derive(Debug, Clone)]
pub struct Mail {
    pub name: String,
    pub bytes: Vec<u8>,
}

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

pub fn cert(name: &str) -> PathBuf {
    folder("certs").join(format!("{name}.pgp"))
}

pub fn secret(name: &str) -> PathBuf {
    folder("certs").join(format!("{name}.sec.pgp"))
}
