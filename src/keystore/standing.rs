//! How a user stands in the register of known users.

/// What the register says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: neither this user nor one with a name like this ever had a certificate, as far as was looked.
    Unknown,
    /// The user once had a certificate.
    Known,
    /// A user with a name like this one had.
    Near,
    /// The user's sources could not be asked.
    Unasked,
}
