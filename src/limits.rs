//! Every limit of the programs in one place, with what happens beyond it; those of one message are [`mailseal_core::limits`].

/// Largest key file that a delivery reads, in bytes; a larger one is refused: exit 75.
pub const KEY_FILE: u64 = 1024 * 1024;

/// Largest keyring that a delivery searches, in bytes; a larger one is refused: exit 75.
pub const KEYRING: u64 = 64 * 1024 * 1024;

/// Most certificates in one key file.
pub const KEY_FILE_CERTIFICATES: usize = 64;

/// Most files in which a GnuPG home may keep secret keys; of more, a delivery does not tell whose they are: exit 75.
pub const SECRET_KEY_FILES: usize = 1000;

/// Largest configuration file, in bytes.
pub const CONFIGURATION: u64 = 1024 * 1024;

/// Longest user name, in bytes. With `.pgp` behind it, it must still be a file name.
pub const USER_NAME: usize = 200;

/// How many bytes of the body of a stored message are held, to prove by all of it that it is encrypted in a way that no
/// single pass proves (S/MIME, armor in a text); a longer one is sealed like a clear one.
pub const HELD: u64 = 64 * 1024 * 1024;

/// How many octets of key files a resident process remembers the meaning of; beyond, it begins anew. The certificates take some
/// ten times as much memory.
pub const CACHED_CERTIFICATES: usize = 2 * 1024 * 1024;

/// Most messages or mailboxes that are worked on at once: each takes a thread, or a connection to Dovecot.
pub const JOBS: usize = 256;

/// Longest value in a log line, in bytes.
pub const LOG_VALUE: usize = 256;

/// Largest message that is looked into for a certificate of its owner's, in bytes; a longer one is answered and not read.
pub const RECEIVED: usize = 1024 * 1024;

/// Most messages in such a message; one with more is not looked through. Where they are hidden in encodings, the next limit ends
/// the program, and the message stays as it is.
pub const RECEIVED_MESSAGES: usize = 64;

/// Most address space that looking through such a message may take, in bytes.
pub const RECEIVED_MEMORY: u64 = 512 * 1024 * 1024;

/// Largest certificate in such a message that is looked at, in bytes.
pub const RECEIVED_KEY: usize = 256 * 1024;

/// Most certificates that are looked at in such a message; of more, none is taken.
pub const RECEIVED_CERTIFICATES: usize = 16;

/// Largest certificates, without what a delivery does not need, that wait for a confirmation, in bytes.
pub const PENDING: usize = 24 * 1024;

/// Longest message in octets in which a word is looked for beyond [`ANSWERS`].
pub const WORD: usize = 64 * 1024;

/// Most messages of a user's own that are answered in 24 hours, and most of others' that were moved; the rest is left alone.
pub const ANSWERS: (usize, usize) = (40, 10);

/// Longest text of a site's own that owners are told, in bytes: sealed, it must fit into a line of their processes.
pub const OWNER_NOTICE: usize = 16 * 1024;
