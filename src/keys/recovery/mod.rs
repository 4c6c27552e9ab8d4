//! `mailseal keys recovery`: a recovery certificate whose secret key exists nowhere, but divided into shares on paper.
//!
//! ```text
//! secret       random octets, and the OpenPGP key that they give
//! share        the secret divided, and a share as text
//! page         a share as a page to print
//! given        shares that people bring                              [edge]
//! join         shares become the key again, proven by its fingerprint
//! rehearsal    a message is sealed to it, and opened
//! certificate  the file of the certificate, before and after that
//! ```
//!
//! Edge: this module writes the files. The secret is never written undivided, but where [`Recovery::Join`] is told to. It
//! works without a configuration: on a machine that is not the mail server.

pub mod certificate;
mod given;
mod join;
mod page;
mod rehearsal;
mod secret;
mod share;

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_maildir::durable;
use sequoia_openpgp::Cert;
use sequoia_openpgp::armor::{Kind, Writer};
use sequoia_openpgp::serialize::Serialize as _;
use zeroize::Zeroizing;

use crate::console::date::day;
use crate::console::escape;
use crate::error::Error;
use crate::exit::Exit;
use crate::system::process;
use given::Given;
use page::About;
use secret::Secret;
use share::{Set, Share};

/// Fewest shares that may recover a key: one would be the key itself.
pub const LEAST: u8 = 2;

/// Most shares of a key.
pub const MOST: u8 = 99;

/// A command.
#[derive(Clone, Debug)]
pub enum Recovery {
    /// Make a key, and write its shares and its certificate to a new folder.
    New {
        /// How many shares.
        shares: u8,
        /// How many of them recover the key.
        threshold: u8,
        /// The folder.
        out: PathBuf,
    },
    /// Join shares, open a sealed message with the key, and let the certificate be used.
    Test {
        /// The certificate's file.
        certificate: PathBuf,
        /// Files with shares; standard input where there are none.
        shares: Vec<PathBuf>,
    },
    /// Join shares, and write the secret key.
    Join {
        /// Files with shares; standard input where there are none.
        shares: Vec<PathBuf>,
        /// The new file; standard output for `-`.
        out: PathBuf,
    },
}

impl Recovery {
    /// Carries it out, at the time `now`.
    ///
    /// # Errors
    /// [`Error::Shares`], also where a file cannot be written; [`Error::Usage`]; those of the rehearsal.
    pub fn run(&self, now: SystemTime, out: &mut impl Write) -> Result<Exit, Error> {
        match self {
            Self::New { shares, threshold, out: folder } => new((*shares, *threshold), folder, now, out),
            Self::Test { certificate, shares } => test(certificate, shares, now, out),
            Self::Join { shares, out: file } => join(shares, file, out),
        }?;
        Ok(Exit::Ok)
    }
}

fn new(
    (shares, threshold): (u8, u8),
    folder: &Path,
    now: SystemTime,
    out: &mut impl Write,
) -> Result<(), Error> {
    if threshold > shares {
        return Err(Error::Usage {
            what: format!("{threshold} shares cannot be needed where there are {shares}"),
            hint: "let --threshold be at most what --shares says".into(),
        });
    }
    process::keep_private()?;
    let secret = Secret::new(now)?;
    let key = join::key(&secret, threshold, shares)?;
    let cert = key.strip_secret_key_material();
    let set = Set::new(&cert.fingerprint(), &secret, shares, threshold).ok_or_else(|| Error::Shares {
        what: format!("{:X} is not a fingerprint of version 4", cert.fingerprint()),
        hint: "report this".into(),
    })?;
    let shares = share::split(&secret, set);
    prove(&shares, &cert, now)?;
    DirBuilder::new().mode(0o700).create(folder).map_err(|error| Error::Shares {
        what: format!("cannot make the folder {}: {error}", folder.display()),
        hint: "name a new folder, best one in memory (/dev/shm/recovery)".into(),
    })?;
    let written = write_all(folder, &shares, &cert, now);
    if written.is_err() {
        // Only what this run has written is there: shares of a key that nobody will use.
        let _ = std::fs::remove_dir_all(folder);
    }
    let pages = written?;
    tell_new(&pages, &folder.join(certificate::PENDING), (set, &cert), out)
}

/// Reads the new shares as they are printed, and has each of them prove itself.
fn prove(shares: &[Share], cert: &Cert, now: SystemTime) -> Result<(), Error> {
    let read = |share: &Share| match Share::parse(&share.code()) {
        Ok(share) => Ok(Given { place: "new".into(), share }),
        Err(fault) => {
            Err(Error::Shares { what: format!("a new share: {fault}"), hint: "report this".into() })
        }
    };
    let given = shares.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let key = join::join(&given, Some(&cert.fingerprint()))?;
    rehearsal::rehearse(&key, cert, now)
}

/// Writes the pages and the certificate; the paths of the pages.
fn write_all(folder: &Path, shares: &[Share], cert: &Cert, now: SystemTime) -> Result<Vec<PathBuf>, Error> {
    let fingerprint = cert.fingerprint().to_spaced_hex();
    let about = About { fingerprint: &fingerprint, day: &day(Some(now)) };
    let mut pages = Vec::new();
    for share in shares {
        let path = folder.join(format!("share-{}-of-{}.html", share.number, share.set.shares));
        write(&path, page::page(share, &about)?.as_bytes(), 0o600)?;
        pages.push(path);
    }
    write(&folder.join(certificate::PENDING), &certificate::pending(cert)?, 0o600)?;
    Ok(pages)
}

fn tell_new(
    pages: &[PathBuf],
    pending: &Path,
    (set, cert): (Set, &Cert),
    out: &mut impl Write,
) -> Result<(), Error> {
    let (fingerprint, threshold) = (cert.fingerprint(), set.threshold);
    say(
        out,
        &format!("made {fingerprint:X}: any {threshold} of {} shares recover its secret key", set.shares),
    )?;
    for page in pages {
        say(out, &format!("  {}", page.display()))?;
    }
    say(out, &format!("the certificate waits in {}: nothing can be sealed to it yet", pending.display()))?;
    say(out, "next: print each page for its keeper, then delete the pages: together they are the key")?;
    let shares = " --share FILE".repeat(usize::from(threshold));
    say(
        out,
        &format!("then, with what was printed: mailseal keys recovery test {}{shares}", pending.display()),
    )
}

fn test(certificate: &Path, shares: &[PathBuf], now: SystemTime, out: &mut impl Write) -> Result<(), Error> {
    let (cert, target) = certificate::read(certificate)?;
    if target != certificate && target.exists() {
        return Err(Error::Shares {
            what: format!("{} is there already", target.display()),
            hint: "it may be in use: rehearse in another folder, then decide which one counts".into(),
        });
    }
    let given = bring(shares)?;
    let key = join::join(&given, Some(&cert.fingerprint()))?;
    rehearsal::rehearse(&key, &cert, now)?;
    let mut numbers: Vec<u8> = given.iter().map(|given| given.share.number).collect();
    numbers.sort_unstable();
    write(&target, &certificate::usable(&cert, now, &numbers)?, 0o644)?;
    if target != certificate {
        std::fs::remove_file(certificate).map_err(|error| unwritten(certificate, &error))?;
    }
    for given in &given {
        say(out, &format!("proven: {}", given.name()))?;
    }
    let fingerprint = cert.fingerprint();
    say(out, &format!("a message sealed to {fingerprint:X} was opened with the key of these shares"))?;
    tell_unproven(&given, &numbers, out)?;
    say(out, &format!("wrote {}", target.display()))?;
    if target != certificate {
        let usable = certificate::USABLE;
        say(out, &format!("next: install -m 644 {} /etc/mailseal/{usable}", target.display()))?;
        say(out, &format!("then, in [keys] of mailseal.toml: recovery = [\"/etc/mailseal/{usable}\"]"))?;
    }
    Ok(())
}

/// Names the shares that were not there.
fn tell_unproven(given: &[Given], numbers: &[u8], out: &mut impl Write) -> Result<(), Error> {
    let all = given.first().map_or(0, |first| first.share.set.shares);
    let missing: Vec<String> =
        (1..=all).filter(|number| !numbers.contains(number)).map(|number| number.to_string()).collect();
    if missing.is_empty() {
        return say(out, "all shares are proven");
    }
    say(out, &format!("not proven, since they were not given: shares {}", missing.join(", ")))
}

fn join(shares: &[PathBuf], file: &Path, out: &mut impl Write) -> Result<(), Error> {
    let key = join::join(&bring(shares)?, None)?;
    let secret = armored(&key)?;
    if file == Path::new("-") {
        return out.write_all(&secret).map_err(Error::Output);
    }
    write_new(file, &secret).map_err(|error| unwritten(file, &error))?;
    let shown = file.display();
    say(out, &format!("wrote the secret key {:X} to {shown}: no passphrase protects it", key.fingerprint()))?;
    say(out, &format!("next: mailseal decrypt --secret-key {shown} --into NEW MAILDIR"))?;
    say(out, &format!("delete {shown} as soon as it has served"))
}

/// The shares in files, or those on standard input.
fn bring(shares: &[PathBuf]) -> Result<Vec<Given>, Error> {
    // Files come first: without dumps the process cannot open /dev/fd any more, which a shell may name.
    let given = given::read(shares)?;
    process::keep_private()?;
    if shares.is_empty() { given::ask() } else { Ok(given) }
}

fn armored(key: &Cert) -> Result<Zeroizing<Vec<u8>>, Error> {
    let octets = Vec::with_capacity(8 * 1024);
    let mut armor = Writer::new(octets, Kind::SecretKey).map_err(CoreError::Write)?;
    key.as_tsk().serialize(&mut armor).map_err(CoreError::OpenPgp)?;
    Ok(Zeroizing::new(armor.finalize().map_err(CoreError::Write)?))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    durable::write(path, bytes, mode).map_err(|error| unwritten(path, &error))
}

/// Writes a file that must not be there yet, and that only its owner can read.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| durable::flush(&file));
    if written.is_err() {
        // Half a key is of no use to anybody.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    Error::Shares {
        what: format!("cannot write {}: {error}", path.display()),
        hint: "name a place that is writable, has room, and holds no such file yet".into(),
    }
}

/// Writes a line that is safe for a terminal.
fn say(out: &mut impl Write, text: &str) -> Result<(), Error> {
    writeln!(out, "{}", escape::display(text.as_bytes())).map_err(Error::Output)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_for_its_owner_alone() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let secret = Secret::new(now).unwrap();
        let key = join::key(&secret, 2, 3).unwrap();
        let cert = key.strip_secret_key_material();
        let set = Set::new(&cert.fingerprint(), &secret, 3, 2).unwrap();
        let shares = share::split(&secret, set);
        prove(&shares, &cert, now).unwrap();
        let pages = write_all(dir.path(), &shares, &cert, now).unwrap();
        assert_eq!(pages.len(), 3);
        for page in &pages {
            assert_eq!(mode(page), 0o600);
        }
        assert_eq!(mode(&dir.path().join(certificate::PENDING)), 0o600);
        let mut others = share::split(&secret, set);
        others[2] = share::split(&Secret::new(now).unwrap(), set).remove(2);
        assert!(prove(&others, &cert, now).is_err());
    }

    #[test]
    fn no_file_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        write_new(&file, b"secret").unwrap();
        assert_eq!((mode(&file), &*std::fs::read(&file).unwrap()), (0o600, &b"secret"[..]));
        assert!(write_new(&file, b"another").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"secret");
    }
}
