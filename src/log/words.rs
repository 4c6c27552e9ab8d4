//! The words of the log line, each in a sentence of its own: what happened, and what to do. For a helpdesk, which has not read
//! the documentation.

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The word.
    pub word: &'static str,
    /// What happened.
    pub what: &'static str,
    /// What to do.
    pub todo: &'static str,
}

const fn meaning(word: &'static str, what: &'static str, todo: &'static str) -> Meaning {
    Meaning { word, what, todo }
}

const NOTHING: &str = "Nothing.";

/// A message that a door does not take, whatever becomes of others.
pub const REFUSED: &str = "refused";

/// A message that the next hop does not take, and will not.
pub const REJECTED: &str = "rejected";

/// A message for which no thread could be started.
pub const THREADS: &str = "threads";

/// Of `reason=`.
pub const REASONS: &[Meaning] = &[
    meaning(
        "no-key",
        "The user has no certificate.",
        "Enrol one if the user wants sealed mail: mailseal keys add USER FILE.",
    ),
    meaning(
        "off",
        "Sealing is switched off for this user, by a rule of [[users]] or the user's own setting.",
        "Nothing, if that is wanted; otherwise remove the rule or the setting.",
    ),
    meaning(
        "no-policy",
        "The message left this machine, and no rule of [[outgoing]] is for its recipient.",
        "Add a rule to [[outgoing]] if such mail is to be sealed.",
    ),
    meaning(
        "pgp-mime",
        "The message was encrypted already (PGP/MIME), by its sender or by mailseal.",
        NOTHING,
    ),
    meaning("pgp-inline", "The sender encrypted the message already (inline PGP).", NOTHING),
    meaning("exchange-pgp", "The sender encrypted the message already; Exchange changed its form.", NOTHING),
    meaning("smime", "The message was encrypted already (S/MIME), by its sender or by mailseal.", NOTHING),
    meaning(
        "usage",
        "The program was called with a wrong command line.",
        "Correct the Sieve script or the unit that calls it; see the line before in the log.",
    ),
    meaning(
        "config",
        "The configuration is missing or wrong.",
        "Correct it: mailseal config check names the line.",
    ),
    meaning(
        "root",
        "The delivery ran as root, who has no certificates of a mail user.",
        "Let deliveries run as the mail user.",
    ),
    meaning("privileges", "The program could not give up root's rights.", "Start it as the mail user."),
    meaning(
        "owner",
        "A process with the user's rights could not do its work.",
        "See the line before in the log, and what else works in that home.",
    ),
    meaning(
        "user",
        "The delivery user's name is unknown, or cannot be the name of a file.",
        "Give the user's whole name, as Dovecot knows it.",
    ),
    meaning("home", "The user's home is unknown, or does not exist.", "Mount it, or let Dovecot name it."),
    meaning("empty", "There was no message.", "See what the MTA handed over."),
    meaning(
        "header-too-long",
        "The header of the message is too long for mail.",
        "Look at the message in the queue: no mail program writes such a header.",
    ),
    meaning(
        "padding",
        "The message cannot be filled up to a class of sizes under the preferences of its certificate, or with S/MIME.",
        "Let the owner allow ZIP in the certificate's preferences; with S/MIME, set pad = \"none\" in a rule of [[users]].",
    ),
    meaning(
        "read",
        "The message could not be read to its end: whoever handed it over broke off.",
        "Nothing: the MTA delivers it again.",
    ),
    meaning("write", "The sealed message could not be written.", "Look for a full disk."),
    meaning("output", "An answer could not be written.", "Look for a full disk."),
    meaning(
        "pass",
        "The message was to go on as it came, and could not be written.",
        "Look for a full disk.",
    ),
    meaning(
        "command",
        "The program that sealed mail goes to could not be run, or failed.",
        "See that program's own log.",
    ),
    meaning(
        "next-hop",
        "What sealed mail is handed to does not answer.",
        "Start it again; the mail is then delivered by itself.",
    ),
    meaning(
        REFUSED,
        "A client of mailseal serve sent a message that is too long, or a dot beside a bare CR or LF, which hides further mail in it.",
        "Nothing: the client was told so. A client that goes on doing it is broken, or hostile.",
    ),
    meaning(
        REJECTED,
        "What sealed mail is handed to refused the message for good: the MTA returns it to its sender.",
        "See that server's own log.",
    ),
    meaning(
        THREADS,
        "The machine could not start another thread.",
        "Look for a limit of processes (TasksMax), or missing memory.",
    ),
    meaning(
        "unresolved",
        "Nobody can tell where mail for this recipient ends.",
        "Correct the address, or give it an alias.",
    ),
    meaning(
        "held",
        "The folder of held mail cannot be used.",
        "See that /var/spool/mailseal/held is there, with the rights that the package gives it.",
    ),
    meaning("door", "A door could not be opened.", "See the unit's log: systemctl status mailseal-serve."),
    meaning(
        "deadline",
        "Sealing took longer than it may.",
        "Find out what is slow: the disk, the network, or the key store.",
    ),
    meaning(
        "key-store",
        "The user's certificates cannot be read, or somebody else could change them. The mail waits.",
        "mailseal status USER names the file and what to do about it.",
    ),
    meaning("enrol", "A certificate cannot be enrolled.", "Ask its owner for a valid one."),
    meaning(
        "ambiguous",
        "There are several certificates for the user's address, and nobody said which.",
        "Enrol the right one: mailseal keys add USER FILE.",
    ),
    meaning(
        "address",
        "What the configuration gives as the user's address is not one.",
        "Correct `address` in [keys].",
    ),
    meaning(
        "key-required",
        "The user must have a certificate and has none. The mail waits.",
        "Enrol one: mailseal keys add USER FILE.",
    ),
    meaning(
        "known",
        "No certificate is found for a user who had one, or may have one. The mail waits.",
        "Restore the certificate or mount the disk with it; mailseal status USER says more.",
    ),
    meaning(
        "no-usable-key",
        "None of the user's certificates can be used: revoked, broken, or unable to encrypt. The mail waits.",
        "Enrol a valid one: mailseal keys add USER FILE --replace.",
    ),
    meaning(
        "recovery",
        "A recovery certificate cannot be used. All mail waits.",
        "Replace the one that `recovery` in the configuration names.",
    ),
    meaning(
        "sandbox",
        "A part of the sandbox is missing, and was required.",
        "Use a kernel with Landlock and seccomp, or do not require it.",
    ),
    meaning("damaged", "A sealed message is damaged.", "Look for a whole copy, in a backup."),
    meaning(
        "hidden-fields",
        "The header of a sealed message was changed, so that what it hides cannot be put back.",
        "Leave it sealed, or decrypt it into another Maildir (--into).",
    ),
    meaning(
        "expands",
        "A sealed message becomes larger than it may.",
        "Decrypt it with a larger --max-expansion, if its sender is trusted.",
    ),
    meaning("no-secret-key", "A sealed message is for other keys.", "Name the right secret key."),
    meaning("secret-key", "A secret key cannot be used.", "Give the right file or passphrase."),
    meaning("shares", "Shares of a recovery key do not give it.", "See what mailseal keys recovery says."),
    meaning("agent", "GnuPG's agent did not open a key.", "See that gpg --decrypt works."),
    meaning("log", "A log could not be read.", "Name one that can be read."),
    meaning("no-maildir", "What was named is not a Maildir.", "Look for a mistyped path."),
    meaning(
        "mail",
        "A stored message, or its folder, could not be worked on.",
        "Look for a full disk, or missing rights.",
    ),
    meaning(
        "not-worked-on",
        "Mail programs show messages there that no command works on.",
        "See the line before: a link is replaced by what it leads to, and opening the folder mends the rest.",
    ),
    meaning(
        "unconfirmed",
        "Nobody has shown that the user can read sealed mail.",
        "Send a test: mailseal keys test USER.",
    ),
    meaning("in-use", "The user was logged in, and the mailbox must not be in use.", "Run it again later."),
    meaning("dovecot", "Dovecot did not do what it was asked for.", "See that Dovecot runs, and its log."),
    meaning("setup", "Dovecot could not be set up.", "See what mailseal setup says."),
    meaning(
        "openpgp",
        "The message could not be sealed: the OpenPGP library refused it.",
        "See the line before in the log, and report it with the certificate.",
    ),
];

/// Of `warn=`.
pub const WARNINGS: &[Meaning] = &[
    meaning(
        "expired",
        "The user's certificate has expired or was retired; the message was sealed to it all the same.",
        "Ask the user to extend it, and enrol it again.",
    ),
    meaning(
        "expiring",
        "The user's certificate expires soon.",
        "Ask the user to extend it, and enrol it again.",
    ),
    meaning(
        "some-keys-unusable",
        "Not all of the user's keys could be used: a device with one of the others cannot read the message.",
        "mailseal keys show USER says which.",
    ),
    meaning(
        "malleable",
        "The message was sealed with S/MIME, in the way that every mail program opens: it stays secret, but nothing in it \
         tells when somebody changed it.",
        "Nothing, or use OpenPGP, or certificates that list AES-GCM: docs/smime.md says more.",
    ),
    meaning(
        "hp-skipped-signed",
        "The message is signed, so its header fields stay readable outside.",
        NOTHING,
    ),
    meaning(
        "hp-skipped",
        "The header fields of this message stay readable outside: they could not be hidden and given back exactly.",
        NOTHING,
    ),
];

/// What a reason means, if it is known here.
#[must_use]
pub fn of_reason(word: &str) -> Option<&'static Meaning> {
    REASONS.iter().find(|meaning| meaning.word == word)
}

/// What a warning means, if it is known here.
#[must_use]
pub fn of_warning(word: &str) -> Option<&'static Meaning> {
    WARNINGS.iter().find(|meaning| meaning.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strings in the part of a source that begins with `from`, up to the end of the function.
    fn strings(source: &str, from: &str) -> Vec<String> {
        let part = source.split_once(from).unwrap().1.split_once("\n    }\n").unwrap().0;
        let arms = part.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"'));
        arms.map(|(word, _)| word.to_owned()).collect()
    }

    #[test]
    fn every_word_of_the_log_line_has_a_sentence() {
        let mut words = strings(include_str!("../error.rs"), "pub fn reason(&self)");
        words.push(crate::error::KEY_STORE.into());
        words.extend(strings(include_str!("../delivery/unchanged.rs"), "pub fn reason(&self)"));
        words.extend(strings(
            include_str!("../../crates/core/src/classify/mod.rs"),
            "pub fn name(self) -> &'static str",
        ));
        // Those that doors give without an error; they have no words of their own.
        words.extend([REFUSED, REJECTED, THREADS].map(str::to_owned));
        for source in [include_str!("../serve/lmtp/transaction.rs"), include_str!("../serve/lmtp/set.rs")] {
            for (word, _) in source.split("Some(\"").skip(1).filter_map(|rest| rest.split_once('"')) {
                words.push(word.to_owned());
            }
        }
        assert!(words.len() > 45, "{words:?}");
        for word in &words {
            assert!(of_reason(word).is_some(), "{word}");
        }
        for meaning in REASONS {
            assert!(words.iter().any(|word| word == meaning.word), "nothing says {}", meaning.word);
        }
        let source =
            include_str!("../../crates/core/src/recipients/mod.rs").split_once("impl Warning").unwrap().1;
        let warnings = strings(source, "pub fn name(self)");
        assert_eq!(warnings.len(), WARNINGS.len());
        for word in &warnings {
            assert!(of_warning(word).is_some(), "{word}");
        }
    }

    /// `PAGES=overwrite cargo test --lib words::` writes the tables of docs/failures.md.
    #[test]
    fn the_page_has_every_word() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, _) = page.split_once("## The words of the log").unwrap();
        let mut whole = format!("{before}## The words of the log\n");
        for (field, meanings) in [("reason", REASONS), ("warn", WARNINGS)] {
            whole.push_str(&format!("\n| `{field}=` | what happened | what to do |\n|---|---|---|\n"));
            for Meaning { word, what, todo } in meanings {
                whole.push_str(&format!("| `{word}` | {what} | {todo} |\n"));
            }
        }
        if std::env::var("PAGES").is_ok_and(|value| value == "overwrite") {
            std::fs::write(path, &whole).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), whole, "PAGES=overwrite writes it");
    }

    #[test]
    fn sentences_are_whole() {
        for Meaning { word, what, todo } in REASONS.iter().chain(WARNINGS) {
            assert!(what.ends_with('.') && todo.ends_with('.'), "{word}");
        }
        assert_eq!((of_reason("x"), of_warning("no-key")), (None, None));
    }
}
