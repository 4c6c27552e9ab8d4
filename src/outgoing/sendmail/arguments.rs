//! What the arguments of sendmail ask for.
//!
//! Every program called sendmail has its own set of options, and they disagree about which of them take a value. An argument that
//! one takes for a value and another for a recipient could send a copy where none was meant to go, so only arguments that all of
//! them read alike are taken. Values are handed on joined to their option: nothing that is handed on can pass for a recipient.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::error::Error;

/// Options without a value.
const FLAGS: &[u8] = b"GIUcimntvx";

/// Options with a value, joined or in the next argument.
const VALUED: &[u8] = b"ABCFLNORVXbefhopr";

/// Options that say how a message is sent, and name no file, configuration or program.
const HARMLESS: &[u8] = b"BFGNRUVefhimnrv";

/// Values of `-o` that do so.
const HARMLESS_SETTINGS: &[u8] = b"deim";

/// Values of `-b` with which a program reads SMTP from standard input.
const DIALOGUES: &[u8] = b"asS";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A message is to be sent.
    Send(Arguments),
    /// Something that sends no message: the queue, the aliases, an address.
    Other,
    /// SMTP is to be spoken on standard input and output.
    Dialogue,
}

/// How a message is to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// What the program that sends mail is told as well, each option with its value in one argument.
    pub options: Vec<OsString>,
    /// The recipients, as they were given.
    pub recipients: Vec<String>,
    /// Whether the header names recipients, too.
    pub from_header: bool,
    /// Whether a line with a single dot is a line like others.
    pub dots: bool,
}

impl Arguments {
    /// Reads what stands behind the name of the program.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that nobody knows, and for those that programs read in several ways.
    pub fn parse(arguments: &[OsString]) -> Result<Request, Error> {
        let mut parser = Parser::default();
        let mut left = arguments.iter().map(OsString::as_os_str);
        while let Some(argument) = left.next() {
            match argument.as_bytes() {
                b"--" => {
                    left.by_ref().try_for_each(|operand| parser.operand(operand))?;
                }
                [b'-', letters @ ..] if !letters.is_empty() => {
                    parser.cluster(argument, letters, &mut left)?
                }
                _ => parser.operand(argument)?,
            }
        }
        parser.finish()
    }
}

/// Whether a program may be told `option`, as [`Arguments::options`] has it, though it is not certain who wants that.
#[must_use]
pub fn is_harmless(option: &OsStr) -> bool {
    match option.as_bytes() {
        // The empty value of the option before.
        [] => true,
        [b'-', b'o', setting, ..] => HARMLESS_SETTINGS.contains(setting),
        [b'-', letter, ..] => HARMLESS.contains(letter),
        _ => false,
    }
}

#[derive(Default)]
struct Parser {
    found: Arguments,
    /// The mode in which no message is sent.
    other: Option<u8>,
}

impl Parser {
    fn operand(&mut self, operand: &OsStr) -> Result<(), Error> {
        let text = operand.to_str().ok_or_else(|| refused(operand, "is a recipient that is not UTF-8"))?;
        self.found.recipients.push(text.into());
        Ok(())
    }

    /// The `letters` of `argument`: options without a value, and at the end one that may have one.
    fn cluster<'a>(
        &mut self,
        argument: &OsStr,
        letters: &[u8],
        left: &mut impl Iterator<Item = &'a OsStr>,
    ) -> Result<(), Error> {
        if !self.found.recipients.is_empty() {
            // Some programs take it for an option, and others for a recipient.
            return Err(refused(argument, "stands behind a recipient"));
        }
        for (at, &letter) in letters.iter().enumerate() {
            let joined = &letters[at + 1..];
            if FLAGS.contains(&letter) {
                self.flag(letter);
                continue;
            }
            return match letter {
                b'q' => {
                    self.other = Some(letter);
                    Ok(())
                }
                b'd' if !joined.is_empty() => {
                    self.keep(letter, joined);
                    Ok(())
                }
                b'd' => Err(refused(argument, "is followed by what may be its value")),
                letter if VALUED.contains(&letter) => {
                    let value = value(argument, joined, left)?;
                    self.valued(letter, &value);
                    Ok(())
                }
                _ => Err(refused(argument, "is an option that mailseal does not know")),
            };
        }
        Ok(())
    }

    fn flag(&mut self, letter: u8) {
        match letter {
            b't' => self.found.from_header = true,
            b'i' => self.found.dots = true,
            b'I' => self.other = Some(letter),
            _ => self.keep(letter, b""),
        }
    }

    fn valued(&mut self, letter: u8, value: &[u8]) {
        match (letter, value) {
            (b'b', b"m") => return,
            // One is enough: whoever speaks SMTP waits for an answer.
            (b'b', [mode, ..]) if !self.other.is_some_and(is_dialogue) => self.other = Some(*mode),
            (b'o', [b'i', ..]) => self.found.dots = true,
            (b'O', value) if value.get(..10).is_some_and(|name| name.eq_ignore_ascii_case(b"IgnoreDots")) => {
                self.found.dots = true;
            }
            _ => {}
        }
        self.keep(letter, value);
    }

    fn keep(&mut self, letter: u8, value: &[u8]) {
        let option = [b'-', letter];
        self.found.options.push(OsString::from_vec([&option[..], value].concat()));
        if value.is_empty() && VALUED.contains(&letter) {
            // Only `-f ''` and its like: there is nothing to join.
            self.found.options.push(OsString::new());
        }
    }

    fn finish(self) -> Result<Request, Error> {
        let Self { found, other } = self;
        match other {
            Some(mode) if is_dialogue(mode) => Ok(Request::Dialogue),
            None => Ok(Request::Send(found)),
            // To verify an address or to test one.
            Some(b'v' | b't') if !found.from_header => Ok(Request::Other),
            Some(_) if found.recipients.is_empty() && !found.from_header => Ok(Request::Other),
            Some(mode) => {
                let what = format!("recipients are given with the mode {:?}", char::from(mode));
                Err(Error::Usage { what, hint: HINT.into() })
            }
        }
    }
}

/// Whether with this value of `-b` a program reads SMTP from standard input.
fn is_dialogue(mode: u8) -> bool {
    DIALOGUES.contains(&mode)
}

/// What to do about arguments that are refused.
pub const HINT: &str =
    "call the program of [sendmail] itself for what sends no mail; docs/sendmail.md lists the options";

fn refused(argument: &OsStr, what: &str) -> Error {
    Error::Usage { what: format!("{:?} {what}", argument.to_string_lossy()), hint: HINT.into() }
}

/// The value of an option: what is `joined` to it, else the next argument.
fn value<'a>(
    argument: &OsStr,
    joined: &[u8],
    left: &mut impl Iterator<Item = &'a OsStr>,
) -> Result<Vec<u8>, Error> {
    if !joined.is_empty() {
        return Ok(joined.into());
    }
    let next = left.next().ok_or_else(|| refused(argument, "has no value"))?.as_bytes();
    if next.starts_with(b"-") {
        // Where the option has none, it is an option itself.
        return Err(refused(argument, "has a value that may be an option"));
    }
    Ok(next.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Error> {
        let arguments: Vec<OsString> =
            line.split(' ').filter(|it| !it.is_empty()).map(|it| it.trim_matches('\'').into()).collect();
        Arguments::parse(&arguments)
    }

    fn sent(line: &str) -> Option<(String, String, bool, bool)> {
        match parse(line) {
            Ok(Request::Send(Arguments { options, recipients, from_header, dots })) => {
                let options: Vec<_> = options.iter().map(|it| it.to_string_lossy()).collect();
                Some((options.join(" "), recipients.join(" "), from_header, dots))
            }
            _ => None,
        }
    }

    #[test]
    fn a_message_is_sent_as_its_caller_says() {
        for (line, options, recipients, from_header, dots) in [
            // cron (Debian, cronie), mail, Zeek, Wazuh and OSSEC, PHP, git send-email.
            ("-i -FCronDaemon -B8BITMIME -oem root", "-FCronDaemon -B8BITMIME -oem", "root", false, true),
            ("-FCronDaemon -i -odi -oem -oi -t -f root", "-FCronDaemon -odi -oem -oi -froot", "", true, true),
            ("-oi -f a@b -t", "-oi -fa@b", "", true, true),
            ("-t -oi", "-oi", "", true, true),
            ("-t", "", "", true, false),
            ("-t -i", "", "", true, true),
            ("-ti", "", "", true, true),
            ("-i a@b c@d", "", "a@b c@d", false, true),
            ("-i -- a@b -c@d", "", "a@b -c@d", false, true),
            ("-r a@b -N never -R hdrs -V id root", "-ra@b -Nnever -Rhdrs -Vid", "root", false, false),
            ("-f '' root", "-f ", "root", false, false),
            ("-f <> root", "-f<>", "root", false, false),
            (
                "-bm -G -U -v -m -n -O IgnoreDots=true root",
                "-G -U -v -m -n -OIgnoreDots=true",
                "root",
                false,
                true,
            ),
            (
                "-Ac -C /x -h 3 -p smtp -L tag -X /dev/null -d0 root",
                "-Ac -C/x -h3 -psmtp -Ltag -X/dev/null -d0",
                "root",
                false,
                false,
            ),
            ("", "", "", false, false),
        ] {
            let expected = (options.into(), recipients.into(), from_header, dots);
            assert_eq!(sent(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_sends_nothing_is_another_matter() {
        for line in
            ["-bp", "-bi", "-bv a@b", "-bt", "-bd -q1h", "-q", "-q30m", "-qRexample.org", "-bD", "-b p", "-I"]
        {
            assert_eq!(parse(line).ok(), Some(Request::Other), "{line}");
        }
        for line in ["-bs", "-bS", "-ba", "-bs -bp", "-bp -bs", "-i -bs root"] {
            assert_eq!(parse(line).ok(), Some(Request::Dialogue), "{line}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for line in [
            "-Z root",
            "--host=a root",
            "--read-recipients",
            "-d root",
            "-f",
            "-V -t root",
            "-N -f a@b root",
            "root -f a@b",
            "root -t",
            "-q root",
            "-q -t",
            "-bp root",
            "-bi -t",
            "-bv -t",
            "-iZ",
            "-E",
        ] {
            assert!(matches!(parse(line), Err(Error::Usage { .. })), "{line}: {:?}", parse(line));
        }
    }

    #[test]
    fn what_names_a_file_is_harmful() {
        for (option, harmless) in [
            ("-fa@b", true),
            ("-FCronDaemon", true),
            ("-oem", true),
            ("-odi", true),
            ("", true),
            ("-C/home/a/conf", false),
            ("-X/etc/passwd", false),
            ("-oA/x", false),
            ("-OQueueDirectory=/x", false),
            ("-o", false),
            ("-", false),
            ("root", false),
            ("--passwordeval=x", false),
        ] {
            assert_eq!(is_harmless(OsStr::new(option)), harmless, "{option}");
        }
    }

    #[test]
    fn nothing_that_is_handed_on_passes_for_a_recipient() {
        for letter in VALUED.iter().filter(|letter| **letter != b'b') {
            let line = format!("-{} value root", char::from(*letter));
            let (options, ..) = sent(&line).unwrap();
            assert_eq!(options, format!("-{}value", char::from(*letter)));
        }
    }
}
