//! Runs `mailseal decrypt` on one message.

use std::process::Command;

use super::{
    filter::{self, Run},
    fixtures,
};

/// Decrypts a message with the secret key of a fixture, as `mailseal decrypt` does: [`decrypt`], or the product's library where
/// a process for each message would be too slow.
pub type Decrypt = fn(cert: &str, sealed: &[u8]) -> Run;

/// Decrypts with the secret key of a fixture.
pub fn decrypt(cert: &str, sealed: &[u8]) -> Run {
    let mut command = Command::new(crate::program("mailseal"));
    command.args(["decrypt", "--secret-key"]).arg(fixtures::secret(cert));
    filter::run(&mut command, sealed, sealed.len().max(1))
}
