//! Makes a mail server unable to read the mail it stores.
//!
//! Each message is sealed on its way into the mailbox: its entity (the `Content-*` fields and the body) becomes one
//! OpenPGP message to its owner's certificate, inside RFC 3156's `multipart/encrypted`; the other header fields stay
//! outside. The server never holds a key that opens it.
//!
//! # Bird's eye
//!
//! ```text
//! doctor    what of an installation could let a delivery end in clear           [edge]
//! deliver   filter, then a local delivery agent                                 [edge]
//! filter    one delivery: options, deadline, log line                           [edge]
//!  ├─ addressee   to whom a user's mail is sealed, or that it is not
//!  │   ├─ keystore    where certificates are found: keystore/{source,safe_file} [edge]
//!  │   └─ recipients  which of them a message is sealed to; its session key
//!  │       └─ cert    whether a certificate is fit, and why not
//!  ├─ opening     the beginning of a message: the whole header, some of the body
//!  │   ├─ head    header block, fields, line ends
//!  │   └─ lines   LF, CRLF or both
//!  ├─ classify    encrypted already? classify/{mime,armor,packets,session_keys,cms,noise}
//!  ├─ protect     which header fields the outside shows: protect/{policy,root,display,undo}
//!  └─ seal        opening + rest -> sealed message
//!      ├─ envelope    the outer header, the entity's header, the MIME structure
//!      │   └─ restore what is needed to undo it, inside the ciphertext
//!      └─ openpgp     the ciphertext: openpgp/{armor,framing,seipd1,literal,compress}
//! unseal    the way back, without a file: unseal/{armor,packet,seipd1,seipd2,content,original}; unseal/{keys,agent} [edge]
//! decrypt   one message, or Maildirs;  reseal  to a new key;  sweep  every message of a Maildir   [edge]
//! audit     what is stored in clear, and what to which keys                      [edge]
//! keys      what an admin does with users' certificates: keys/{register,ask,owned}        [edge]
//! report    timings and failures from the mail log, in constant memory           [edge]
//! stored    a message that lies somewhere: unpacked, and judged by all of it     [edge]
//! bulk      mailboxes that exist: Maildirs, users, jobs, what a person sees      [edge]
//! maildir   messages that are stored: replaced in place, never lost              [edge]
//! owner     root's work on users' files: a process with the owner's rights, watched over      [edge]
//! imap      a session with a mailbox that Dovecot keeps; bulk/live works in it
//! process, sandbox   what a process gives up, before and after it has its certificates   [edge]
//! user, config, log, limits, escape, error, exit, cli; deadline, log/sink            [edge]
//! ```
//!
//! # Invariants
//!
//! - Only exit status 0 means "store this": everything before is discarded by whoever reads. So output may be streamed.
//! - Plaintext goes out only where nobody asked for a certificate's protection: the user has none, or the message is
//!   proven to be encrypted. Every doubt is an error.
//! - What is opened is given out, or takes a place, only when all of it was proven.
//! - Bytes of a message are copied, never rendered again. mail-parser reads what must be understood of MIME.
//! - Memory is bounded by [`limits`], whatever the size of the message.
//! - Modules not marked as edges touch no file, environment or clock; they take `impl Read` and `impl Write`.
//! - A stored message is replaced by [`maildir`] or [`bulk::live`] only: at every instant it is there whole, at the end once.
//! - Text from a message, a key or a path passes [`escape`] before a terminal or a log.

pub mod addressee;
pub mod atomic;
pub mod audit;
pub mod bulk;
pub mod cert;
pub mod classify;
pub mod cli;
pub mod config;
pub mod counted;
pub mod date;
pub mod deadline;
pub mod decrypt;
pub mod deliver;
pub mod doctor;
pub mod enrol;
pub mod envelope;
pub mod error;
pub mod escape;
pub mod exit;
#[cfg(feature = "network")]
pub mod fetch;
pub mod filter;
pub mod head;
pub mod imap;
pub mod keys;
pub mod keystore;
pub mod limits;
pub mod lines;
pub mod log;
pub mod maildir;
pub mod opening;
pub mod openpgp;
pub mod owner;
pub mod process;
pub mod protect;
pub mod recipients;
pub mod report;
pub mod reseal;
pub mod restore;
pub mod sandbox;
pub mod seal;
pub mod stored;
pub mod sweep;
pub mod table;
pub mod unchanged;
pub mod unseal;
pub mod user;
pub mod userdb;
pub mod wkd;
