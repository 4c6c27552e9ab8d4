//! Maildirs: their folders, the names of their messages, and how a message is replaced so that it is never lost.
//!
//! ```text
//! layout    Maildir, Maildir++ and LAYOUT=fs: which folders there are          [edge]
//! folder    one folder: its messages, its lock between runs                    [edge]
//!  ├─ dir      an open folder that nothing leads out of                        [edge]
//!  ├─ lock     Dovecot's lock on a folder                                      [edge]
//!  ├─ patience how long locks are waited for                                   [edge]
//!  └─ uidlist  Dovecot's list of UIDs: names replaced in it
//! draft     a new message in tmp/, and its sizes                               [edge]
//! commit    new messages in the place of old ones                              [edge]
//! recover   what a killed run left behind                                      [edge]
//! name      the name of a message's file;  tag  whose place it took
//! packed    what Dovecot stores compressed or under mail_crypt
//! durable   a file is replaced whole or not at all                             [edge]
//! ```
//!
//! What a message becomes is the caller's business: [`folder::Folder::draft`] takes a function from the old message to the
//! new one. Sealing, decrypting and sealing anew all go this way.
//!
//! # How a message is replaced
//!
//! 1. The new message is written to `tmp/` (exclusive create; mode, owner and mtime of the old one) and flushed.
//! 2. Under Dovecot's lock, the old message is looked for by its base name and inode: its flags may have changed. If it
//!    is gone, or has other content, the new one is dropped.
//! 3. The new one is renamed to where the old one is, with its flags; the folder is flushed.
//! 4. With the UIDs kept, the name is replaced in Dovecot's list, which is flushed.
//! 5. The old one is unlinked. If it was renamed meanwhile, its new name is found and step 3's file renamed after it;
//!    if it was expunged or moved, the new one is unlinked instead. The folder is flushed.
//!
//! So at every instant at least one of the two is there, whole. After a kill between 3 and 5 both are: the new one's
//! name ends in a [tag] made of the old one's inode, size and mtime, which proves that the new one was made from
//! just this file, and the next run removes the old one ([`recover`]). A kill before 3 leaves a file in `tmp/`, which
//! the next run removes.

pub mod commit;
pub mod dir;
pub mod draft;
pub mod durable;
pub mod error;
pub mod folder;
pub mod layout;
pub mod lock;
pub mod name;
pub mod packed;
pub mod patience;
pub mod recover;
pub mod tag;
pub mod uidlist;

#[cfg(test)]
mod tests;
