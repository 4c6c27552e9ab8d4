//! What a user is told, in plain words: the answers to messages, and what is announced.

use std::fmt::Write as _;
use std::time::SystemTime;

use jiff::Timestamp;

use super::contents::CODE;
use super::state::{self, TRIES};
use crate::console::date::day;
use crate::console::escape;
use crate::keystore::any_cert::AnyCert;

/// Longest piece of a message or a key that is repeated, in bytes.
const QUOTED: usize = 200;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An admin has not switched it on.
    Off,
    /// There is no recovery certificate.
    NoRecovery,
    /// There is nothing to be enrolled in it.
    Nothing,
    /// It is too long.
    TooLong,
    /// It holds too many certificates, or too large ones.
    TooMany,
    /// What it holds is no certificate.
    Broken,
    /// It only says where a certificate is.
    Link,
    /// It holds a secret key.
    Secret,
    /// It is encrypted.
    Encrypted,
    /// The certificate is not fit, and why.
    Unfit(String),
    /// No certificate has the user's address.
    Stranger(String),
    /// The certificate is there already.
    InEffect(About),
    /// The server cannot do it now.
    Trouble,
    /// It was moved: a message of the user's own is to quote this code.
    Moved(About, String),
    /// A test message with a code comes.
    Found(About),
    /// The same, sealed to the old key.
    Old(About),
    /// It counts from this time on, in seconds since 1970.
    Time(About, u64),
    /// An admin is asked.
    Admin(About),
    /// The code is wrong; how many more may be tried.
    Wrong(u8),
    /// It was tried too often.
    Spent,
    /// The code has come too late.
    Late,
    /// A code came in a message that was delivered.
    Foreign,
    /// Nothing waits for a code.
    NoCode,
    /// What waited is gone.
    Stopped(About),
    /// A test message comes, with the code that stops sealing.
    StopAsked,
    /// An admin is asked to stop it.
    StopConfirmed,
    /// There is nothing to stop.
    NothingToStop,
}

/// What is done with an answer, beside putting it into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    None,
    /// A sealed test message is to be made.
    Test,
    /// It is put into the INBOX, too.
    Inbox,
}

impl Next {
    /// As the Sieve script reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Test => "test",
            Self::Inbox => "inbox",
        }
    }
}

/// What is said of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About(String);

impl About {
    /// Of `certs`, with what else there is to know.
    #[must_use]
    pub fn of(certs: &[AnyCert], warnings: &[String], now: SystemTime) -> Self {
        let mut text = String::new();
        for cert in certs {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    Key      {}", spaced(&cert.fingerprint()));
            for name in cert.names().iter().take(3) {
                let _ = writeln!(text, "    For      {}", quoted(name.as_bytes()));
            }
            let _ = writeln!(text, "    Expires  {}", day(cert.assess(now).expires));
        }
        for warning in warnings {
            let _ = writeln!(text, "    Note     {}", quoted(warning.as_bytes()));
        }
        Self(text)
    }
}

/// What comes from outside, made safe and short.
fn quoted(text: &[u8]) -> String {
    let mut shown = escape::display(text);
    if shown.len() > QUOTED {
        let end = (0..=QUOTED).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str("...");
    }
    shown
}

fn spaced(fingerprint: &str) -> String {
    let groups: Vec<&str> =
        fingerprint.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(" ")
}

/// How a key is sent: `%{how}` in the other texts.
const HOW: &str = "\
To have your mail encrypted, put a message into this folder that carries your
OpenPGP public key: as an attached file, or as the block of text that begins
with -----BEGIN PGP PUBLIC KEY BLOCK-----. Most mail programs export it under
\"Keys\" or \"OpenPGP\".
";

/// How a code is sent: `%{save}`.
const SAVE: &str = "\
How to save a message: write a new one, put the code into its Subject, do not
send it. Save it as a draft, and move the draft into this folder.
";

/// `%{not-you}`.
const NOT_YOU: &str = "\
If you did not ask for this, somebody else uses your account. Save a message
here whose Subject is the word stop, change your password, and tell your
administrator.
";

const OFF: &str = "Keys are not taken from this folder on this server. Ask your administrator.\n";

const NO_RECOVERY: &str = "\
Keys are not taken from this folder yet: your administrator has not set up a
recovery key, without which all your mail would be lost with your key. Please
ask your administrator.
";

const NOTHING: &str = "\
There is no key in this message, no code, and no word that is known here.

%{how}";

const TOO_LONG: &str = "This message is too long to be looked into. Send the key alone.\n";

const TOO_MANY: &str = "\
There are more keys in this message than one person's, or they are too large.
Send your own alone.

%{how}";

const BROKEN: &str = "\
There is something like a key in this message, but it cannot be read. It may be
cut off. Please export it again.

%{how}";

const LINK: &str = "\
This message only says where your key is. The key itself is needed.

%{how}";

const SECRET: &str = "\
This message holds a SECRET key. It has not been used, and no copy of it was
made here; but whoever can read your mailbox could read it, and so could those
who carried the message. Regard this key as exposed:

  - Delete the attached message from this folder, and empty the trash.
  - Make a new key, unless you are sure that nobody could read the message and
    that its passphrase is a good one.
  - Send the PUBLIC key only.
";

const ENCRYPTED: &str = "\
This message is encrypted, and this server cannot read it: that is the point.
If it holds a code, write the code into the Subject of a new message, with
encryption turned off.

%{save}";

const UNFIT: &str = "\
Your key cannot be used: %{value}.

Please export your key again, or make a new one.
";

const STRANGER: &str = "\
None of the keys in this message is for %{value}. A key that is used
for your mail must have your address in it. Send your own key; or add the
address to your key, and send it again.
";

const IN_EFFECT: &str = "\
Your mail is encrypted to this key already:

%{about}
There is nothing to do.
";

const TROUBLE: &str = "\
The server cannot do this at the moment. Please try it again later; if it
lasts, tell your administrator.
";

const MOVED: &str = "\
This key was in a message that was moved here:

%{about}
Is it yours? Somebody may have sent it, and a filter moved it. If it is yours,
save a message here that has this code in its Subject:

    %{value}

%{save}
If it is not yours, do nothing.
";

const FOUND: &str = "\
This key was found, and it is fit:

%{about}
Is it yours, and can you read with it? An encrypted message with a code is in
your INBOX now. Open it, and save a message in this folder that has the code
in its Subject. Until then nothing changes.

%{save}
%{not-you}";

const OLD: &str = "\
The code is right. This key is to take the place of the one that you have, or
to stand beside it:

%{about}
Whoever has the key that is in use now must agree. Another encrypted message
is in your INBOX, which opens with that key. Save a message here with the code
that is in it. If you no longer have that key, ask your administrator instead.

%{not-you}";

const TIME: &str = "\
From %{value} on, new mail to you is encrypted to this key, and only
whoever has it can read it:

%{about}
You need do nothing. Until then your mail comes as before.

%{not-you}";

const ADMIN: &str = "\
The code is right. An administrator must agree to this key before your mail is
encrypted to it:

%{about}
%{not-you}";

const WRONG: &str = "\
This is not the code that is expected. Wrong codes that may follow: %{value}.

The code is in the last encrypted message of mailseal in your INBOX.
";

const SPENT: &str = "\
There were %{value} wrong codes, so what waited was thrown away. Begin again.
";

const LATE: &str = "The code was good for 7 days, and they are over. Begin again.\n";

const FOREIGN: &str = "\
This message was delivered to you as mail: anybody may have written it. A code
counts only in a message that you save yourself.

%{save}";

const NO_CODE: &str = "\
Nothing waits for a code. A code counts once.

%{how}";

const STOPPED: &str = "\
This key was thrown away, and will not be used:

%{about}
If you did not ask for it, somebody else uses your account: change your
password, and tell your administrator.
";

const STOP_ASKED: &str = "\
Your mail is to be stored in clear again. Whoever has your key must agree: an
encrypted message with a code is in your INBOX. Save a message in this folder
that has the code in its Subject.

%{save}";

const STOP_CONFIRMED: &str = "\
The code is right. Your administrator is asked to stop the encryption of your
new mail. What is encrypted already stays so: keep your key.

If you did not ask for this, tell your administrator at once.
";

const NOTHING_TO_STOP: &str = "No key of yours waits here, and none is in use.\n";

const TAKEN: &str = "\
From now on, new mail to you is encrypted to this key:

%{about}
Keep the key and a copy of it in a safe place: without it, nobody can read
your new mail, and the server cannot help. To stop, save a message whose
Subject is the word stop in the folder into which you put your key.
";

const TEST: &str = "\
%{what}

%{about}
If it is you, save a message with this code into the folder into which you put
your key:

    %{value}

If it is not you, do not. Save a message there whose Subject is the word stop,
change your password, and tell your administrator.
";

/// A text with what it is about, and the one value in it.
fn fill(template: &str, value: &str, about: &str) -> String {
    let text = template.replace("%{how}", HOW).replace("%{save}", SAVE).replace("%{not-you}", NOT_YOU);
    text.replace("%{value}", value).replace("%{about}", about)
}

impl Answer {
    /// What is done with it.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            Self::Found(_) | Self::Old(_) | Self::StopAsked => Next::Test,
            Self::Time(..) | Self::Admin(_) | Self::StopConfirmed => Next::Inbox,
            _ => Next::None,
        }
    }

    /// Its Subject.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        match self {
            Self::Off | Self::NoRecovery | Self::Trouble => "Your key cannot be taken",
            Self::Nothing | Self::Link => "No key was found",
            Self::TooLong | Self::TooMany | Self::Broken | Self::Unfit(_) | Self::Stranger(_) => {
                "Your key was not taken"
            }
            Self::Secret => "Your secret key is exposed",
            Self::Encrypted => "This message cannot be read here",
            Self::InEffect(_) => "This key is in use already",
            Self::Moved(..) => "Is this your key?",
            Self::Found(_) => "Your key was found: please confirm it",
            Self::Old(_) => "One more code, for the key that you have now",
            Self::Time(..) => "Your mail will be encrypted",
            Self::Admin(_) => "Your key waits for your administrator",
            Self::Wrong(_) | Self::Foreign | Self::NoCode => "This code does not count",
            Self::Spent | Self::Late => "Please begin again",
            Self::Stopped(_) => "Stopped: your key was not taken",
            Self::StopAsked => "Please confirm that your mail is to be stored in clear",
            Self::StopConfirmed => "Your administrator is asked to stop the encryption",
            Self::NothingToStop => "There is nothing to stop",
        }
    }

    /// Its text, with LF.
    #[must_use]
    pub fn text(&self) -> String {
        let value = match self {
            Self::Unfit(text) | Self::Stranger(text) => quoted(text.as_bytes()),
            Self::Moved(_, code) => format!("{CODE}{code}"),
            Self::Time(_, until) => day_and_hour(*until),
            Self::Wrong(left) => left.to_string(),
            Self::Spent => TRIES.to_string(),
            _ => String::new(),
        };
        fill(self.template(), &value, self.about())
    }

    fn about(&self) -> &str {
        match self {
            Self::InEffect(About(about))
            | Self::Moved(About(about), _)
            | Self::Found(About(about))
            | Self::Old(About(about))
            | Self::Time(About(about), _)
            | Self::Admin(About(about))
            | Self::Stopped(About(about)) => about,
            _ => "",
        }
    }

    fn template(&self) -> &'static str {
        match self {
            Self::Off => OFF,
            Self::NoRecovery => NO_RECOVERY,
            Self::Nothing => NOTHING,
            Self::TooLong => TOO_LONG,
            Self::TooMany => TOO_MANY,
            Self::Broken => BROKEN,
            Self::Link => LINK,
            Self::Secret => SECRET,
            Self::Encrypted => ENCRYPTED,
            Self::Unfit(_) => UNFIT,
            Self::Stranger(_) => STRANGER,
            Self::InEffect(_) => IN_EFFECT,
            Self::Trouble => TROUBLE,
            Self::Moved(..) => MOVED,
            Self::Found(_) => FOUND,
            Self::Old(_) => OLD,
            Self::Time(..) => TIME,
            Self::Admin(_) => ADMIN,
            Self::Wrong(_) => WRONG,
            Self::Spent => SPENT,
            Self::Late => LATE,
            Self::Foreign => FOREIGN,
            Self::NoCode => NO_CODE,
            Self::Stopped(_) => STOPPED,
            Self::StopAsked => STOP_ASKED,
            Self::StopConfirmed => STOP_CONFIRMED,
            Self::NothingToStop => NOTHING_TO_STOP,
        }
    }
}

/// A day and an hour, in UTC.
fn day_and_hour(seconds: u64) -> String {
    let time = state::time(seconds).and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(|| "?".into(), |time| time.strftime("%F %H:%M UTC").to_string())
}

/// What an announcement of the following days says.
#[must_use]
pub fn reminder(certs: &[AnyCert], until: u64, now: SystemTime) -> (&'static str, String) {
    let answer = Answer::Time(About::of(certs, &[], now), until);
    (answer.subject(), answer.text())
}

/// What is said when certificates have taken effect.
#[must_use]
pub fn in_effect(certs: &[AnyCert], now: SystemTime) -> (&'static str, String) {
    let About(about) = About::of(certs, &[], now);
    ("Your mail is encrypted from now on", fill(TAKEN, "", &about))
}

/// The text of a sealed message with `code` in it.
#[must_use]
pub fn test(purpose: state::Purpose, certs: &[AnyCert], code: &str, now: SystemTime) -> String {
    let About(about) = About::of(certs, &[], now);
    let what = match purpose {
        state::Purpose::Old => {
            "Somebody who uses your account wants to have your mail encrypted to another\nkey than the one that opens this message:"
        }
        state::Purpose::Stop => {
            "Somebody who uses your account wants to have your mail stored in clear again.\nNow it is encrypted to this key:"
        }
        _ => "Your mail program opens this message with your key:",
    };
    fill(&TEST.replace("%{what}", what), &format!("{CODE}{code}"), &about)
}

#[cfg(test)]
mod tests {
    use testing::made;

    use super::*;

    #[test]
    fn every_answer_says_what_it_is_about_and_what_to_do() {
        let about = About::of(
            &[made::cert("Alice \u{1b}[2J <alice@example.org>").into()],
            &["note".into()],
            made::birth(),
        );
        let answers = [
            Answer::Off,
            Answer::NoRecovery,
            Answer::Nothing,
            Answer::TooLong,
            Answer::TooMany,
            Answer::Broken,
            Answer::Link,
            Answer::Secret,
            Answer::Encrypted,
            Answer::Unfit("it expired \u{1b}[2J %{about}".into()),
            Answer::Stranger("x".repeat(10_000)),
            Answer::InEffect(about.clone()),
            Answer::Trouble,
            Answer::Moved(about.clone(), "ybnd".into()),
            Answer::Found(about.clone()),
            Answer::Old(about.clone()),
            Answer::Time(about.clone(), 1_800_000_000),
            Answer::Admin(about.clone()),
            Answer::Wrong(3),
            Answer::Spent,
            Answer::Late,
            Answer::Foreign,
            Answer::NoCode,
            Answer::Stopped(about),
            Answer::StopAsked,
            Answer::StopConfirmed,
            Answer::NothingToStop,
        ];
        for answer in answers {
            let text = answer.text();
            assert!(!text.contains("%{") && !text.contains('\u{1b}') && text.ends_with('\n'), "{text}");
            assert!(text.len() < 4000 && !answer.subject().is_empty(), "{text}");
            assert_eq!(text.contains("Key      "), !answer.about().is_empty(), "{text}");
        }
        assert!(Answer::Time(About(String::new()), 1_800_000_000).text().contains("2027-01-15 08:00 UTC"));
        assert!(Answer::Wrong(3).text().contains("follow: 3."));
    }
}
