//! Mail through a real Dovecot, 2.3 and 2.4: needs root, gpg and Dovecot's packages, which `tests/run dovecot` installs.
//!
//! Tests for both versions are in modules `on_dovecot_2_3` and `on_dovecot_2_4`; the others run on 2.3.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod deliver; // `mailseal deliver` behind Postfix and before dovecot-lda
mod delivery; // what is stored opens to what was sent
mod doctor; // `mailseal doctor` on good and broken installations
mod encrypt_maildir; // `encrypt-maildir` on a mailbox that Dovecot serves
mod failclosed; // everything that can fail ends in a deferral
mod imapsieve; // the Sent folder
mod known_users; // the register of known users, and homes that are away
mod load; // many deliveries: at once, with random faults, and for a long time
mod serve; // `mailseal serve`: LMTP before Dovecot, and its script socket
mod serve_mta; // `mailseal serve` between real MTAs and Dovecot, by the recipes in contrib/mta
mod sieve_scripts; // each shipped script under sieve-test, and the user databases
