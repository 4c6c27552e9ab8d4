//! Who has mail on every site, and whose rights it is delivered with.

/// The mail user: Debian's `mail`, so that the machine needs no new account and Postfix has a name.
pub const DELIVERY_USER: u32 = 8;
/// The mail user's group.
pub const DELIVERY_GROUP: u32 = 8;
/// Everybody's password.
pub const PASSWORD: &str = "secret";
/// The users of every site.
pub const USERS: [&str; 4] = [ALICE, BOB, CAROL, DASH];
/// A user who mostly has a certificate.
pub const ALICE: &str = "alice@example.org";
/// Another one.
pub const BOB: &str = "bob@example.org";
/// A user without a certificate.
pub const CAROL: &str = "carol@example.org";
/// A user whose name reads like an option.
pub const DASH: &str = "-h@example.org";
