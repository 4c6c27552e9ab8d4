//! Mail through a real Dovecot, 2.3 and 2.4: needs root, gpg and Dovecot's packages, which `tests/run dovecot` installs.
//!
//! Tests for both versions are in modules `on_dovecot_2_3` and `on_dovecot_2_4`; the others run on 2.3.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod alert_pages; // the pages about alerts, docs/alerts-*.md
mod deliver; // `mailseal deliver` behind Postfix and before dovecot-lda
mod deliver_mta; // `mailseal deliver` as Exim and OpenSMTPD call it, by the lines of docs/before-dovecot.md
mod delivery; // what is stored opens to what was sent
mod doctor; // `mailseal doctor` on good and broken installations
mod doctor_rows; // the table of docs/doctor.md: ways in which admins broke it, and what doctor finds
mod encrypt_maildir; // `encrypt-maildir` on a mailbox that Dovecot serves
mod failclosed; // everything that can fail ends in a deferral
mod imapsieve; // the Sent folder
mod known_users; // the register of known users, and homes that are away
mod load; // many deliveries: at once, with random faults, and for a long time
mod migrate; // `mailseal migrate gpgit`, `mailseal status`, `mailseal keys test --deliver`
mod outgoing; // the `outgoing` door of `mailseal serve` between real MTAs, by the recipes in contrib/mta
mod receive; // users enrol with a message in a folder of their own
mod receive_programs; // the same with Thunderbird and mutt themselves, for tests/readers/enrol
mod sendmail; // `mailseal sendmail` before nullmailer, msmtp and dma, called as programs call it
mod serve; // `mailseal serve`: LMTP before Dovecot, and its script socket
mod serve_mta; // `mailseal serve` between real MTAs and Dovecot, by the recipes in contrib/mta
mod serve_proxy; // `mailseal serve` on several machines, with Dovecot's LMTP proxy
mod setup; // `mailseal setup` on sites as admins have them, and what makes it refuse or take all back
mod sieve_scripts; // each shipped script under sieve-test, and the user databases
