//! Replaces messages in Maildirs that are in use, so that none is ever lost.
//!
//! What a message becomes, the caller says: [`rewrite::rewrite`] goes through a folder with a [`rewrite::Work`], which has a
//! function from the old message to the new one. Delivering agents, IMAP servers and other runs of this may work on the folder
//! at the same time.
//!
//! ```
//! use std::fs;
//! use std::io::{Read as _, Write as _};
//!
//! use mailseal_maildir::commit::Uids;
//! use mailseal_maildir::draft::{Change, Draft, Original};
//! use mailseal_maildir::layout::Maildir;
//! use mailseal_maildir::rewrite::{Event, Manner, Work, rewrite};
//!
//! type Error = Box<dyn std::error::Error + Send + Sync>;
//!
//! /// Whoever was to come at one comes at two.
//! struct Later;
//!
//! impl Work for Later {
//!     type Finding = ();
//!     type Error = Error;
//!
//!     fn transform(&self, original: &Original, draft: &mut Draft<'_>) -> Result<Change<()>, Error> {
//!         let mut text = String::new();
//!         original.file().read_to_string(&mut text)?;
//!         draft.write_all(text.replace("one", "two").as_bytes())?;
//!         Ok(Change::Replace(()))
//!     }
//!
//!     fn tell(&self, event: Event<'_, (), Error>) {
//!         if let Event::Message(item, outcome) = event {
//!             println!("{:?}: {outcome:?}", item.message.name.as_os_str());
//!         }
//!     }
//! }
//!
//! let dir = tempfile::tempdir()?;
//! for place in ["cur", "new", "tmp"] {
//!     fs::create_dir(dir.path().join(place))?;
//! }
//! fs::write(dir.path().join("cur/1700000000.M1P1.host:2,S"), "Subject: Lunch\n\nAt one.\n")?;
//!
//! let maildir = Maildir::open(dir.path(), None)?;
//! for path in maildir.folders()?.paths {
//!     let folder = maildir.folder(&path)?;
//!     rewrite(&folder, Manner::Replace(Uids::New), &Later)?;
//!     for message in folder.list()?.messages {
//!         assert_eq!(message.name.flags(), b"S");
//!         assert_eq!(fs::read_to_string(folder.path_of(&message))?, "Subject: Lunch\n\nAt two.\n");
//!     }
//! }
//! # Ok::<(), Error>(())
//! ```
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
//!
//! # Modules
//!
//! ```text
//! layout    Maildir, Maildir++ and LAYOUT=fs: which folders there are
//! folder    one folder: its messages, its lock between runs
//!  ├─ dir      an open folder that nothing leads out of
//!  ├─ lock     Dovecot's lock on a folder
//!  ├─ patience how long locks are waited for
//!  └─ uidlist  Dovecot's list of UIDs: names replaced in it
//! rewrite   every message of a folder, in batches
//!  ├─ draft    a new message in tmp/, and its sizes
//!  ├─ commit   new messages in the place of old ones
//!  └─ recover  what a killed run left behind
//! name      the name of a message's file;  tag  whose place it took
//! odd       what mail programs find and nothing here works on
//! packed    what Dovecot stores compressed or under mail_crypt
//! durable   a file is replaced whole or not at all
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod commit;
pub mod dir;
pub mod draft;
pub mod durable;
pub mod error;
pub mod folder;
pub mod layout;
pub mod lock;
pub mod name;
pub mod odd;
pub mod packed;
pub mod patience;
pub mod recover;
pub mod rewrite;
pub mod tag;
pub mod uidlist;

#[cfg(test)]
mod tests;
