//! Edge: Mail that is held because it cannot leave sealed: one file a message, in a folder into which every user may put mail and
//! which root alone may list, like the maildrop of Postfix.
//!
//! ```text
//! folder    the folder, and what in it is held mail
//! release   tries all of it again
//! list      says what there is
//! notice    tells those whose mail is held, once a day, and nothing of it
//! ```
//!
//! A file has one line of JSON, a [`Record`], and then the message, byte for byte. It belongs to whoever sent the message, who could
//! have written anything there. And others could have moved it there: any file, root's too, out of a folder that is theirs. So
//! what is read is as hostile as can be; what is done with it is done with its owner's rights, and none of it names a file, a
//! configuration or a program to whoever sends it.

pub mod folder;
pub mod list;
pub mod notice;
pub mod release;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::outgoing::program::ENVIRONMENT;
use crate::outgoing::sendmail::body::Body;
use crate::system::owner::{Bytes, cut};

/// The version of the format.
const VERSION: u8 = 1;

/// Longest line of a record, in bytes: 10,000 recipients, and why each waits.
const LINE: u64 = 16 * 1024 * 1024;

/// What is known of a held message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of the format.
    mailseal: u8,
    /// Since when it is held, in seconds since 1970.
    pub since: i64,
    /// What is to be done with it.
    pub work: Work,
    /// What of the caller's environment counts.
    environment: BTreeMap<String, Text>,
}

/// What is to be done with a held message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// All of it: the arguments could not be read, or the configuration.
    All {
        /// The arguments of the caller.
        arguments: Vec<Text>,
        /// Why it is held.
        reason: String,
        /// The same, for people.
        why: String,
    },
    /// Some recipients are left.
    Left {
        /// What the program that sends mail is told as well.
        options: Vec<Text>,
        /// Those who have not got it yet.
        recipients: Vec<Waiting>,
        /// Whether it was sealed for them: it is not sealed once more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sealed: bool,
    },
}

/// A recipient who has not got a message yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Where it goes: an address, or an alias; behind a backslash, a mailbox of this host.
    pub to: String,
    /// The word for the log.
    pub reason: String,
    /// The same, for people.
    pub why: String,
    /// The same, where it is known since this process has found it.
    #[serde(skip)]
    pub word: Option<&'static str>,
}

impl Waiting {
    /// Waits for what `error` says.
    #[must_use]
    pub fn new(to: String, error: &Error) -> Self {
        let word = error.reason();
        Self { to, reason: word.into(), why: cut(error.to_string()), word: Some(word) }
    }

    /// For the log and for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.to.strip_prefix('\\').unwrap_or(&self.to)
    }
}

/// An argument, which need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// It is.
    Plain(String),
    /// It is not: in base64.
    Raw {
        /// What it is.
        base64: Bytes,
    },
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Plain(text.into()),
            None => Self::Raw { base64: Bytes(text.as_bytes().into()) },
        }
    }
}

impl From<&Text> for OsString {
    fn from(text: &Text) -> Self {
        match text {
            Text::Plain(text) => text.into(),
            Text::Raw { base64 } => Self::from_vec(base64.0.clone()),
        }
    }
}

/// Arguments as they are kept.
#[must_use]
pub fn texts(arguments: &[OsString]) -> Vec<Text> {
    arguments.iter().map(|argument| Text::from(argument.as_os_str())).collect()
}

impl Record {
    /// A message that is held from now on, sent in this process's environment.
    #[must_use]
    pub fn new(work: Work) -> Self {
        let set = |name: &&str| Some(((*name).to_owned(), Text::from(&*std::env::var_os(name)?)));
        let environment = ENVIRONMENT.iter().filter_map(set).collect();
        Self { mailseal: VERSION, since: Timestamp::now().as_second(), work, environment }
    }

    /// The environment that counts: nothing else of what is there.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let counts = |(name, _): &(&String, &Text)| ENVIRONMENT.contains(&name.as_str());
        let text = OsString::from;
        let known = self.environment.iter().filter(counts);
        known.map(|(name, value)| (name.clone(), text(value))).filter(|(_, it)| !has_nul(it)).collect()
    }

    /// Reads what is known of the message in `file`, and where it begins.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` for anything that is not a record.
    pub fn read(file: &mut File) -> io::Result<(Self, u64)> {
        file.rewind()?;
        let mut line = Vec::new();
        BufReader::new(&mut *file).take(LINE).read_until(b'\n', &mut line)?;
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let record: Self =
            serde_json::from_slice(&line).map_err(|error| bad(format!("no held mail: {error}")))?;
        if record.mailseal != VERSION || !line.ends_with(b"\n") {
            return Err(bad("no held mail of this version".into()));
        }
        let (Work::All { arguments: texts, .. } | Work::Left { options: texts, .. }) = &record.work;
        if texts.iter().any(|text| has_nul(&OsString::from(text))) {
            return Err(bad("no held mail: an argument holds a NUL".into()));
        }
        Ok((record, line.len() as u64))
    }

    /// Writes it, and the message behind it.
    ///
    /// # Errors
    /// Those of the file and of reading the message; `InvalidInput` for a record that is too long.
    pub fn write(&self, body: &mut Body, out: &mut File) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        if line.len() as u64 > LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many recipients for one message"));
        }
        out.write_all(&line)?;
        io::copy(&mut body.reader()?, out)?;
        Ok(())
    }
}

fn has_nul(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}

/// Keeps a message in `folder`.
///
/// # Errors
/// [`Error::Held`]; nothing of it is left there then.
pub fn keep(folder: &Path, record: &Record, body: &mut Body) -> Result<(), Error> {
    folder::check(folder)?;
    folder::put(folder, None, |file| record.write(body, file)).map_err(|error| Error::Held {
        path: folder.into(),
        what: format!("the message cannot be put there: {error}"),
        hint: "look for a full disk, and for the rights of the folder: it must have mode 1733; send the message again".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(record: &Record, message: &str) -> File {
        let (mut body, _) = Body::read(&mut message.as_bytes(), true).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        record.write(&mut body, &mut file).unwrap();
        file
    }

    #[test]
    fn a_record_and_its_message_come_back() {
        let options = [OsString::from("-fa@b"), OsString::from_vec(b"-FJ\xf6rg".into())];
        let waiting = Waiting {
            to: "\\root@here".into(),
            reason: "no-usable-key".into(),
            why: "it is\nold".into(),
            word: None,
        };
        let work = Work::Left { options: texts(&options), recipients: vec![waiting], sealed: true };
        let record = Record::new(work);
        let mut file = written(&record, "Subject: a\n\nb\n");
        let (read, start) = Record::read(&mut file).unwrap();
        assert_eq!(read, record);
        let mut message = String::new();
        Body::stored(file, start).unwrap().reader().unwrap().read_to_string(&mut message).unwrap();
        assert_eq!(message, "Subject: a\n\nb\n");
        let Work::Left { options: read, recipients, .. } = &read.work else { panic!() };
        assert!(read.iter().map(OsString::from).eq(options) && recipients[0].name() == "root@here");
    }

    #[test]
    fn nothing_else_is_a_record() {
        let good = serde_json::to_string(&Record::new(Work::Left {
            options: Vec::new(),
            recipients: Vec::new(),
            sealed: false,
        }));
        let good = good.unwrap();
        let file = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        assert!(Record::read(&mut file(&format!("{good}\n"))).is_ok());
        for text in [
            String::new(),
            "\n".into(),
            good.clone(),
            format!("{good} x\n"),
            format!("{}\n", good.replace("\"mailseal\":1", "\"mailseal\":2")),
            format!("{}\n", good.replace("{\"mailseal\"", "{\"more\":1,\"mailseal\"")),
            format!("{}\n", good.replace("\"options\":[]", "\"options\":[\"a\\u0000b\"]")),
            "x".repeat(1 << 20),
        ] {
            assert!(Record::read(&mut file(&text)).is_err(), "{text:.200}");
        }
    }

    #[test]
    fn only_a_known_environment_counts() {
        let mut record =
            Record::new(Work::Left { options: Vec::new(), recipients: Vec::new(), sealed: false });
        let plain = |text: &str| Text::Plain(text.into());
        record.environment = [("USER", "a"), ("HOME", "b"), ("LD_PRELOAD", "b"), ("NAME", "c\0")]
            .map(|(name, value)| (name.to_owned(), plain(value)))
            .into();
        assert_eq!(record.environment(), [("USER".to_owned(), OsString::from("a"))]);
    }
}
