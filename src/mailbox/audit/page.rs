//! An audit for people: tables of folders and keys, and the messages to look at.

use std::io::{self, Write};

use crate::console::escape;
use crate::console::table::Table;
use crate::mailbox::audit::{Audit, Maildir, Outside};

/// Writes it.
///
/// # Errors
/// Those of `out`.
pub fn write(audit: &Audit, out: &mut impl Write) -> io::Result<()> {
    for maildir in &audit.maildirs {
        write_maildir(maildir, out)?;
    }
    let Audit { clear, unreadable, maildirs } = audit;
    if maildirs.iter().all(|maildir| maildir.folders.is_empty()) {
        return Ok(());
    }
    match (clear, unreadable) {
        (0, 0) => writeln!(out, "No message is in clear."),
        (clear, 0) => writeln!(out, "{clear} in clear."),
        (clear, unreadable) => writeln!(out, "{clear} in clear, {unreadable} could not be read."),
    }
}

fn write_maildir(maildir: &Maildir, out: &mut impl Write) -> io::Result<()> {
    let shown = |text: &str| escape::display(text.as_bytes());
    match (&*maildir.user, &maildir.certificates) {
        ("", _) => writeln!(out, "{}", shown(&maildir.path))?,
        (user, None) => writeln!(out, "{}, of {}", shown(&maildir.path), shown(user))?,
        (user, Some(why)) => {
            writeln!(
                out,
                "{}, of {}: certificates unknown: {}",
                shown(&maildir.path),
                shown(user),
                shown(why)
            )?;
        }
    }
    write_folders(maildir, out)?;
    write_outside(maildir, out)?;
    if !maildir.keys.is_empty() {
        let mut table = Table::new(&["key", "state", "messages"]);
        for key in &maildir.keys {
            table.push(vec![key.key.clone(), key.state.name().into(), key.messages.to_string()]);
        }
        writeln!(out)?;
        table.write(out)?;
    }
    if let Some(files) = maildir.files.as_ref().filter(|files| !files.is_empty()) {
        let mut table = Table::new(&["state", "file", "keys"]);
        for file in files {
            table.push(vec![file.state.clone(), file.path.clone(), file.keys.join(" ")]);
        }
        writeln!(out)?;
        table.write(out)?;
    }
    writeln!(out)
}

fn write_folders(maildir: &Maildir, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "folder",
        "messages",
        "clear",
        "sealed",
        "by gpgit",
        "to expired",
        "to revoked",
        "to others",
        "encrypted",
        "unreadable",
    ]);
    for count in &maildir.folders {
        let numbers = [
            count.messages,
            count.clear,
            count.sealed,
            count.sealed_by_gpgit,
            count.sealed_to_expired,
            count.sealed_to_revoked,
            count.sealed_to_others,
            count.encrypted,
            count.unreadable,
        ];
        table.push(
            [count.folder.clone()].into_iter().chain(numbers.map(|number| number.to_string())).collect(),
        );
    }
    table.write(out)
}

/// What can be read of sealed messages without a key, beside sender, recipients, times and sizes.
fn write_outside(maildir: &Maildir, out: &mut impl Write) -> io::Result<()> {
    let sum = |of: fn(&Outside) -> u64| {
        maildir.folders.iter().fold(0, |sum: u64, count| sum.saturating_add(of(&count.outside)))
    };
    let told: Vec<String> = [
        (sum(|it| it.subject), "their Subject"),
        (sum(|it| it.body_hash), "hashes of their body (DKIM, ARC)"),
        (sum(|it| it.spam_report), "a spam report"),
        (sum(|it| it.header_text), "header lines that are not fields"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if told.is_empty() { Ok(()) } else { writeln!(out, "\nSealed messages still show: {}.", told.join(", ")) }
}
