//! `mailseal outgoing --heartbeat`: a numbered message that looks like any other under its rule, so that whoever keeps messages
//! back on their way will keep back one of these, and is found out by the missing number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
use crate::error::Error;
use crate::outgoing::address::Address;
use crate::outgoing::{own, policy};

/// The file that holds the numbers of the last ones, beside the register of known users.
const COUNTERS: &str = "heartbeat";

/// Longest such file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Sends one heartbeat to each of `addresses`, numbered by address.
///
/// # Errors
/// Those of [`own::send`], after all were tried; [`Error::KeyStore`] where they cannot be numbered.
pub fn send(config: &Config, addresses: &[String]) -> Result<(), Error> {
    let domain = policy::domain(config);
    // Each once, however it is spelled.
    let addresses: BTreeSet<Address> =
        addresses.iter().map(|text| Address::parse(text, domain.as_deref())).collect::<Result<_, _>>()?;
    let numbers = next(&counters(config), &addresses)?;
    let (host, sender) = (own::host(), own::sender(config));
    let mut failed = None;
    for (address, number) in addresses.iter().zip(numbers) {
        let message = text(number, &host, &sender, address);
        if let Err(error) = own::send(config, address, &message, Some(number)) {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn counters(config: &Config) -> PathBuf {
    config.keys.known.with_file_name(COUNTERS)
}

/// Counts one further for each of `addresses`, so that no number is given twice whatever happens afterwards; their new numbers.
fn next(path: &Path, addresses: &BTreeSet<Address>) -> Result<Vec<u64>, Error> {
    let failed = |what: String| {
        Error::KeyStore {
        path: path.into(),
        what,
        hint: "let it be a file with a number and an address in each line that this user can write; in a new one, each address begins with 1".into(),
    }
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(folder).map_err(|error| failed(error.to_string()))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| failed(error.to_string()))?;
    let text = match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "0\n".into(),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut last = Last::read(&text).ok_or_else(|| failed("it holds no numbers of addresses".into()))?;
    let numbers: Option<Vec<u64>> = addresses.iter().map(|address| last.count(address)).collect();
    let numbers = numbers.ok_or_else(|| failed("there is no further number".into()))?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(last.to_string().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        make_durable(folder)
    };
    write().map_err(|error: io::Error| failed(error.to_string()))?;
    Ok(numbers)
}

/// The numbers of the last heartbeats.
#[derive(Debug)]
struct Last {
    /// What an address without a number goes on from.
    base: u64,
    /// By address.
    numbers: BTreeMap<String, u64>,
}

impl Last {
    /// Reads lines of a number and an address; a number alone is the base. `None` for anything else, and for nothing.
    fn read(text: &str) -> Option<Self> {
        if text.is_empty() || !text.ends_with('\n') || text.len() as u64 > LARGEST {
            return None;
        }
        let mut last = Self { base: 0, numbers: BTreeMap::new() };
        for line in text.lines() {
            let (number, address) =
                line.split_once(' ').map_or((line, None), |(number, it)| (number, Some(it)));
            let number = number.parse().ok()?;
            match address {
                None => last.base = number,
                Some(address) => drop(last.numbers.insert(address.into(), number)),
            }
        }
        Some(last)
    }

    /// The next number for `address`; `None` where there is none.
    fn count(&mut self, address: &Address) -> Option<u64> {
        let number = self.numbers.entry(address.to_string()).or_insert(self.base);
        *number = number.checked_add(1)?;
        Some(*number)
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.base)?;
        self.numbers.iter().try_for_each(|(address, number)| writeln!(f, "{number} {address}"))
    }
}

/// Lets what was renamed in `folder` be there after a power cut.
fn make_durable(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn text(number: u64, host: &str, sender: &str, address: &Address) -> Vec<u8> {
    let date = Timestamp::now().strftime("%a, %d %b %Y %T +0000").to_string();
    format!(
        "From: {sender}\nTo: {address}\nDate: {date}\nSubject: Heartbeat {number} of {host}\n\
         Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n\
         This is heartbeat {number} of {host}. If a number is missing, a message was kept back on its way.\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_and_are_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COUNTERS);
        let of = |addresses: &[&str]| -> BTreeSet<Address> {
            addresses.iter().map(|text| Address::parse(text, None).unwrap()).collect()
        };
        let (team, both) = (of(&["team@example.org"]), of(&["TEAM@example.org", "ops@example.org"]));
        assert_eq!(next(&path, &team).unwrap(), [1]);
        assert_eq!(next(&path, &team).unwrap(), [2]);
        // In the order of addresses.
        assert_eq!(next(&path, &both).unwrap(), [1, 3]);
        assert_eq!(next(&path, &team).unwrap(), [4]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1 ops@example.org\n4 team@example.org\n");
        std::fs::write(&path, "41\n").unwrap();
        assert_eq!(next(&path, &both).unwrap(), [42, 42]);
        let most = "18446744073709551615";
        let long = "1 a@b\n".repeat(200_000);
        let bad = ["", "x\n", "-1\n", "41", "1\n\n", "a@b 1\n", "99999999999999999999999\n", &long];
        for text in [&*format!("{most}\n"), &*format!("0\n{most} team@example.org\n")].into_iter().chain(bad)
        {
            std::fs::write(&path, text).unwrap();
            assert!(next(&path, &team).is_err(), "{text:.80?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(next(&dir.path().join("no/heartbeat"), &team).is_err());
    }

    #[test]
    fn a_heartbeat_is_mail() {
        let address = Address::parse("team@example.org", None).unwrap();
        let text = text(7, "host", "root@host.example", &address);
        let parsed = mail_parser::MessageParser::default().parse(&text).unwrap();
        assert_eq!(parsed.subject(), Some("Heartbeat 7 of host"));
        assert!(parsed.date().is_some_and(mail_parser::DateTime::is_valid));
    }
}
