//! Whether the Dovecot that runs has the configuration that the files say now.
//!
//! Its answer is compared with what `doveconf` reads from the files. Times of files say less: a file that was touched, or edited
//! and put back, has changed nothing.

use std::collections::BTreeSet;

use super::config_socket::{ConfigSocket, Silence};
use super::doveconf;
use super::installation::Installation;

/// What prints the configuration that `doveconf` of 2.4 hands to a program.
const PRINT: &str = "exec cat \"/dev/fd/$DOVECOT_CONFIG_FD\"";

/// For whom the configuration is asked: who stores mail.
const SERVICES: [&str; 3] = ["lmtp", "lda", "imap"];

/// How Dovecot 2.3 writes the end of a line in a value.
const LINE_END: char = '\u{3}';

/// How the running Dovecot stands to the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// None runs.
    NotRunning,
    /// It works with what the files say.
    Current,
    /// It works with something else, until it is reloaded.
    Stale {
        /// What differs: the name of a setting, where Dovecot says it.
        what: String,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Asks the running Dovecot, and compares its answer with the files.
#[must_use]
pub fn state(installation: &Installation) -> Running {
    let socket = ConfigSocket::of(installation.config.as_deref());
    let compared = if installation.is_2_4() {
        differs_from_2_4(installation, &socket)
    } else {
        SERVICES
            .iter()
            .find_map(|service| differs_from_2_3(installation, &socket, service).transpose())
            .transpose()
    };
    match compared {
        Ok(None) => Running::Current,
        Ok(Some(what)) => Running::Stale { what },
        Err(Silence::NotRunning) => Running::NotRunning,
        Err(Silence::Other(why)) => Running::Unknown { why },
    }
}

/// The first setting of `service` that the running 2.3 has otherwise than the files, by its name: a value can be a secret.
fn differs_from_2_3(
    installation: &Installation,
    socket: &ConfigSocket,
    service: &str,
) -> Result<Option<String>, Silence> {
    let answer = socket.ask_2_3(service)?;
    let filter = format!("service={service}");
    let of_files = |more: &[&str]| {
        let mut command = doveconf::command("doveconf", installation.config.as_deref());
        doveconf::output(command.args(["-S", "-P", "-f", &filter]).args(more)).map_err(Silence::Other)
    };
    let files = Files { written: of_files(&["-n"])?, all: of_files(&[])?, opened: of_files(&["-x"])? };
    Ok(files.differ_from(&String::from_utf8_lossy(&answer.bytes)))
}

/// What `doveconf` of 2.3 says of the files, as lines of `NAME=VALUE`.
///
/// Dovecot answers with the settings that are written anywhere. `doveconf -n` leaves out those written with their default
/// values; without `-n` it adds those that nobody has written. The answer lies between these two.
struct Files {
    /// What is written, and is no default.
    written: String,
    /// All settings.
    all: String,
    /// The same, with the contents of a file where a value is `<FILE`, as Dovecot answers.
    opened: String,
}

impl Files {
    /// The name of the first setting that differs.
    fn differ_from(&self, answer: &str) -> Option<String> {
        let running: BTreeSet<&str> = lines(answer).collect();
        let names: BTreeSet<&str> = running.iter().copied().map(name).collect();
        let all: BTreeSet<&str> = lines(&self.all).collect();
        let opened = self.opened();
        let has = |line: &&str| {
            let is_file = line.split_once('=').is_some_and(|(_, value)| value.starts_with('<'));
            if is_file { names.contains(name(line)) } else { running.contains(line) }
        };
        let is_said = |line: &&str| all.contains(line) || opened.contains(*line);
        let missing = lines(&self.written).find(|line| !has(line));
        let surplus = running.iter().copied().find(|line| !is_said(line));
        missing.or(surplus).map(|line| name(line).to_owned())
    }

    /// The settings with the contents of files, written as Dovecot answers. A line that names no setting goes on with a value.
    fn opened(&self) -> BTreeSet<String> {
        let names: BTreeSet<&str> = self.all.lines().map(name).collect();
        let mut settings: Vec<String> = Vec::new();
        for line in self.opened.lines() {
            match settings.last_mut() {
                Some(last) if !names.contains(name(line)) => {
                    last.push(LINE_END);
                    last.push_str(line);
                }
                _ => settings.push(line.to_owned()),
            }
        }
        settings.into_iter().collect()
    }
}

/// The name of the setting of a line.
fn name(line: &str) -> &str {
    line.split('=').next().unwrap_or_default()
}

/// The lines of an answer that are settings of mail: those of services say how Dovecot starts them, in another form.
fn lines(answer: &str) -> impl Iterator<Item = &str> {
    answer.lines().filter(|line| line.contains('=') && !line.starts_with("service/"))
}

/// Whether the running 2.4 has another configuration than the files. It hands out a file in a form of its own; from the same
/// settings `doveconf` makes the same bytes.
fn differs_from_2_4(installation: &Installation, socket: &ConfigSocket) -> Result<Option<String>, Silence> {
    let running = socket.ask_2_4()?.bytes;
    let mut command = doveconf::command("doveconf", installation.config.as_deref());
    let written = doveconf::bytes_of(command.args(["-F", "/bin/sh", "-c", PRINT])).map_err(Silence::Other)?;
    if written.is_empty() || running.is_empty() {
        return Err(Silence::Other("Dovecot hands out no configuration".into()));
    }
    Ok((running != written).then(|| changed(&running, &written)))
}

/// What of the settings differs, as far as a name shows it.
fn changed(running: &[u8], written: &[u8]) -> String {
    let words = |bytes: &[u8]| bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
    let (running, written) = (words(running), words(written));
    let is_name = |word: &&Vec<u8>| {
        word.len() > 3
            && word.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
    };
    let name = written.symmetric_difference(&running).find(is_name);
    name.map_or_else(|| "its settings".into(), |name| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(written: &str, all: &str, opened: &str, answer: &str) -> Option<String> {
        let own = |text: &str| text.to_owned();
        Files { written: own(written), all: own(all), opened: own(opened) }.differ_from(answer)
    }

    #[test]
    fn what_runs_lies_between_what_is_written_and_all_settings() {
        let (written, all) = ("a=1\nservice/x/name=x\n", "a=1\nb=2\n");
        assert_eq!(differ(written, all, all, "\na=1\n\n"), None);
        assert_eq!(differ(written, all, all, "a=1\nb=2\nservice/x/name=y\n\n"), None);
        assert_eq!(differ(written, all, all, "b=2\n\n").as_deref(), Some("a"));
        assert_eq!(differ(written, all, all, "a=1\nb=3\n\n").as_deref(), Some("b"));
        assert_eq!(differ(written, all, all, "a=1\nc=secret\n\n").as_deref(), Some("c"));
    }

    #[test]
    fn a_value_from_a_file_is_compared_by_the_files_content() {
        let (written, opened) = ("p=</f sieve\nq=1\n", "p=quota acl\n sieve\nq=1\n");
        assert_eq!(differ(written, written, opened, "p=quota acl\u{3} sieve\nq=1\n\n"), None);
        for stale in ["p=quota\u{3} sieve\nq=1\n\n", "p=quota acl\nq=1\n\n", "q=1\n\n"] {
            assert_eq!(differ(written, written, opened, stale).as_deref(), Some("p"), "{stale:?}");
        }
    }
}
