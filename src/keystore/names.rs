//! Names of what lies in a key store beside the certificates.

/// The ends of the names of key files in folders, in any case.
pub const KEY_FILES: [&str; 7] = ["pgp", "asc", "gpg", "key", "pem", "crt", "cer"];

/// The marker of a store.
pub const MARKER: &str = ".mailseal";

/// Behind the name of a user's file: the code of a test message that was sent.
pub const TEST: &str = ".test";

/// Behind the name of a user's file: the certificates that the user has shown to be able to read with.
pub const CONFIRMED: &str = ".confirmed";

/// In a folder of the user's own: the certificates that were enrolled through the mailbox.
pub const RECEIVED: &str = "received.pgp";

/// All that is put behind the name of a user's file.
pub const BESIDE: [&str; 2] = [TEST, CONFIRMED];
