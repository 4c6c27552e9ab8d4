//! Why a message cannot be sealed or opened.

use std::io;

/// Why a message cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no message: not one byte.
    #[error("there is no message")]
    Empty,
    /// The header of the message is longer than [`crate::limits::HEADER`].
    #[error("the header of the message is longer than {} bytes", crate::limits::HEADER)]
    HeaderTooLong,
    /// The header of the message would be when it is sealed, with our fields and what header protection adds.
    #[error(
        "the header of the message would be longer than {} bytes once it is sealed",
        crate::limits::HEADER
    )]
    SealedHeaderTooLong,
    /// The message could not be read.
    #[error("cannot read the message: {0}")]
    Read(#[source] io::Error),
    /// The message could not be written.
    #[error("cannot write the message: {0}")]
    Write(#[source] io::Error),
    /// The user has certificates, and none may be used.
    #[error("no usable certificate for {user:?}: {why}")]
    NoUsableKey {
        /// The user.
        user: String,
        /// The verdict on each.
        why: String,
    },
    /// A recovery certificate may not be used.
    #[error("the recovery certificate cannot be used: {0}")]
    Recovery(String),
    /// A message cannot be filled up to a class of sizes.
    #[error("a long message cannot be padded for a certificate that wants no compressed data")]
    Padding,
    /// A message for an S/MIME certificate is to be filled up to a class of sizes.
    #[error("the message cannot be padded: S/MIME has no room for it that mail programs do not show")]
    SmimePadding,
    /// A sealed message cannot be opened: it was changed, or is not whole.
    #[error("the message is damaged: {what}")]
    Damaged {
        /// What is wrong with it.
        what: String,
    },
    /// The outside of a sealed message was changed, and no longer shows what sealing the inside would show: the header fields that
    /// it hides cannot be put back, and would be lost with it.
    #[error("its header was changed after it was sealed, and what that hides would be lost")]
    HiddenFields,
    /// A sealed message decompresses to more than it may.
    #[error("the message becomes longer than {most} bytes")]
    Expands {
        /// How many bytes are allowed for one of its size.
        most: u64,
    },
    /// A sealed message is for other keys.
    #[error("the message is sealed to {recipients}, and none of the secret keys is among them")]
    NoSecretKey {
        /// The key ids.
        recipients: String,
    },
    /// An implementation of [`Keys`](crate::unseal::keys::Keys) has a key and cannot use it: its own error.
    #[error(transparent)]
    Keys(Box<dyn std::error::Error + Send + Sync>),
    /// Sequoia failed.
    #[error("OpenPGP: {0:#}")]
    OpenPgp(#[source] sequoia_openpgp::anyhow::Error),
}
