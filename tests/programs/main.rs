//! The programs on messages, keys and Maildirs: no Dovecot, and nothing installed but gpg.
//!
//! What delivers as another user, or works in a network of its own, needs root, and says so where it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

// A message is sealed: what comes out of mailseal-filter, and what passes through it.
mod certificates; // good, old, revoked and broken certificates given with --key
mod encrypted; // which messages count as encrypted already
mod header_readers; // what mail readers show of a message with a protected header
mod look_ahead; // messages that are encrypted already, wherever the look-ahead ends
mod oracle; // every fixture, in every line ending, for every kind of certificate
mod outgoing; // `mailseal outgoing`
mod padding; // messages filled up to a class of sizes
mod properties; // generated mail, in this process
mod protect; // header protection
mod readable; // how much of a message that passes for encrypted can be read
mod recipients; // several recipients: which container, and who is left out
mod sizes; // messages of every size near the border of a buffer
mod smime; // S/MIME, opened by openssl, gpgsm and NSS
mod smime_authorities; // S/MIME authorities, and what they revoke

// Whose mail it is, and which certificate.
mod absence; // "no certificate" is proven, or the delivery is deferred
mod absence_trees; // the same for generated trees of homes, stores and mounts, in this process
mod certs_shared; // `mailseal keys add` on a collection of odd and hostile certificates
mod key_files; // key files that somebody else can write to, links, FIFOs, devices
mod keyrings; // GnuPG homes, certificate directories, Web Key Directories
mod keys; // `mailseal keys`
mod keystore; // where certificates are found, and the policies for those without one
#[cfg(feature = "network")]
mod proxies; // `mailseal keys refresh` through a proxy
#[cfg(feature = "network")]
mod wkd; // `mailseal keys add --wkd` and `keys refresh`

// Stored mail, and the way back.
mod decrypt; // `mailseal decrypt` on one message
mod encrypt_maildir; // `encrypt-maildir` on files
mod going_back; // Maildirs decrypted, resealed, audited
mod gpgit; // what gpgit sealed: opened, counted, resealed
mod planted; // seals by a hostile sender, with any record and any header inside

// Mail that leaves.
mod sendmail; // `mailseal sendmail`, before a program that keeps what it gets

// Figures.
mod report; // `mailseal report`, mtail and the Grafana dashboard
mod serve;
mod status; // `mailseal status --why`, and the log that is there // `mailseal serve`, between a client and a next hop of the tests' own

// Beside the programs.
mod pages; // man pages and completions
mod shipped; // systemd's units, OpenBSD's script, alert rules

// What the others rest on.
mod harness; // the oracle's header splitter, and the search for a word that must not leave
