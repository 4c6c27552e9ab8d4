//! Edge: Tells those whose mail is held for want of a certificate that it is, and at which host; nothing of the messages, and not how
//! many there are, which others on the way would learn. At most once a day to each, in clear on purpose: who has no certificate
//! could read nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use mailseal_maildir::durable;
use nix::unistd::gethostname;

use super::Waiting;
use crate::cli;
use crate::config::Config;
use crate::error::Error;
use crate::outgoing::address::Address;
use crate::outgoing::policy;
use crate::outgoing::program::{self, Caller, Gone};
use crate::system::process;

/// Where it is noted who was told when; in the folder of held mail.
const TOLD: &str = ".told";

/// Largest such file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// How often somebody is told, in seconds.
const PAUSE: i64 = 24 * 60 * 60;

/// Most notices of one run: the others are told in the next.
const MOST: usize = 100;

/// Most people who are remembered in a run.
const WAITING: usize = 10_000;

/// Why mail is held for want of a certificate.
const REASONS: [&str; 5] = ["key-required", "no-usable-key", "ambiguous", "known", "key-store"];

/// Those who wait for want of a certificate.
#[derive(Debug, Default)]
pub struct Waits(BTreeSet<String>);

impl Waits {
    /// Adds those who wait for one message.
    pub fn add(&mut self, waiting: &[Waiting]) {
        for waits in waiting.iter().filter(|it| it.word.is_some_and(|word| REASONS.contains(&word))) {
            if self.0.len() < WAITING {
                self.0.insert(waits.name().to_owned());
            }
        }
    }
}

/// Tells those who wait. What fails is said, and tried again in the next run.
pub fn send(config: &Config, Waits(waiting): Waits) {
    if !config.sendmail.notice || waiting.is_empty() {
        return;
    }
    let now = Timestamp::now();
    let mut told = read(&config.sendmail.held);
    told.retain(|_, time| (0..PAUSE).contains(&now.as_second().saturating_sub(*time)));
    // Only somebody for whom there is a rule waits for a certificate: an address that is understood.
    let domain = policy::domain(config);
    let addresses = waiting.iter().filter_map(|to| Address::parse(to, domain.as_deref()).ok());
    let addresses: BTreeSet<Address> = addresses.filter(|it| policy::rule(config, it).is_some()).collect();
    let due: Vec<_> =
        addresses.into_iter().filter(|to| !told.contains_key(&to.to_string())).take(MOST).collect();
    if due.is_empty() {
        return;
    }
    told.extend(due.iter().map(|to| (to.to_string(), now.as_second())));
    // Before they are told: nobody is told twice a day because of a full disk.
    if let Err(error) = write(&config.sendmail.held, &told) {
        cli::note(cli::ADMIN, &format!("nobody is told of held mail: {TOLD} cannot be written: {error}"));
        return;
    }
    for to in due {
        let to = to.to_string();
        if let Err(error) = tell(config, &to, domain.as_deref(), now) {
            return cli::complain(cli::ADMIN, Some(&to), &error);
        }
    }
}

fn tell(config: &Config, to: &str, domain: Option<&str>, now: Timestamp) -> Result<(), Error> {
    let host =
        gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into());
    let sender = format!("root@{}", domain.unwrap_or(&host));
    let failed = |error: io::Error| Error::Command {
        program: config.sendmail.program.clone(),
        what: format!("cannot be told anything: {error}"),
    };
    let mut message = tempfile::tempfile().map_err(failed)?;
    message.write_all(&text(&sender, to, &host, now)).map_err(failed)?;
    message.rewind().map_err(failed)?;
    let caller = Caller { umask: None, gone: Some(Gone::default()) };
    program::hand_over(&config.sendmail, &caller, &[format!("-f{sender}").into()], &[to.into()], message)
}

fn text(sender: &str, to: &str, host: &str, now: Timestamp) -> Vec<u8> {
    let date = now.strftime("%a, %d %b %Y %T +0000");
    format!(
        "From: {sender}\nTo: {to}\nDate: {date}\nSubject: mailseal holds mail for you\n\
         Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n\
         mailseal holds mail for you on {host}: no usable certificate.\n\
         It leaves as soon as whoever looks after {host} has one of yours.\n"
    )
    .into_bytes()
}

/// Who was told when, in seconds since 1970. A file that somebody else has put there counts as none.
fn read(folder: &Path) -> BTreeMap<String, i64> {
    let open = || -> io::Result<Vec<u8>> {
        let options = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(options).open(folder.join(TOLD))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != process::user() || metadata.nlink() != 1 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Puts it in the place of whatever is there.
fn write(folder: &Path, told: &BTreeMap<String, i64>) -> io::Result<()> {
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    serde_json::to_writer(new.as_file_mut(), told)?;
    durable::flush(new.as_file())?;
    new.persist(folder.join(TOLD))?;
    durable::flush(File::open(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_who_was_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        let told = BTreeMap::from([("a@b".to_owned(), 1)]);
        write(dir.path(), &told).unwrap();
        assert_eq!(read(dir.path()), told);
        std::fs::remove_file(dir.path().join(TOLD)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(TOLD)).unwrap();
        assert!(read(dir.path()).is_empty());
        write(dir.path(), &told).unwrap();
        assert!(
            read(dir.path()) == told && std::fs::symlink_metadata(dir.path().join(TOLD)).unwrap().is_file()
        );
    }

    #[test]
    fn a_notice_is_mail_and_tells_no_number() {
        let text = text("root@here", "a@b", "host", Timestamp::UNIX_EPOCH);
        let parsed = mail_parser::MessageParser::default().parse(&text).unwrap();
        assert_eq!(parsed.subject(), Some("mailseal holds mail for you"));
        assert!(
            parsed
                .body_text(0)
                .unwrap()
                .starts_with("mailseal holds mail for you on host: no usable certificate.\n")
        );
    }
}
