//! `encrypt-maildir` on mailboxes that a Dovecot serves: nothing is lost, whatever clients do at the same time.

mod live; // on the files
mod route; // through Dovecot: `--dovecot`
