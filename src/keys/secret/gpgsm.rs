//! Edge: S/MIME's private keys in GnuPG's hands. gpgsm says which keys there are; its agent opens what a message carries for one, RSA
//! only: gpgsm 2.2 takes no keys on curves. The message itself goes nowhere.
//!
//! The agent is asked as gpgsm asks it (`PKDECRYPT`, by way of gpg-connect-agent), and takes the padding off itself; what drives a
//! smartcard does not know how, so keys there are not reached.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use mailseal_core::limits;
use mailseal_core::smime::bundle;
use mailseal_core::smime::certificate::Certificate;
use mailseal_core::smime::recipient::{ContentKey, KeyTransport, RecipientInfo, transported};
use mailseal_core::unseal::keys::Opened;

use super::agent::NO_SECRET_KEY;
use crate::error::Error;

/// What the agent tells whom it asks for a passphrase; a blank is a plus sign there.
const DESCRIPTION: &str = "SETKEYDESC mailseal+opens+stored+mail";

/// gpgsm and its agent.
#[derive(Debug, Default)]
pub struct Gpgsm {
    /// The keys that it has; `None` before it was asked.
    held: Mutex<Option<Vec<Held>>>,
}

/// A key that the agent holds.
#[derive(Clone, Debug)]
struct Held {
    certificate: Certificate,
    /// What the agent calls it.
    keygrip: String,
}

/// What gpgsm lists of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listed {
    sha1: String,
    sha256: String,
    keygrip: String,
}

impl Gpgsm {
    /// The content key that one of `recipients` carries to a key of gpgsm's; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Agent`] where gpgsm or its agent cannot be asked, or the key is there and is not opened.
    pub fn open(&self, recipients: &[RecipientInfo]) -> Result<Option<Opened>, Error> {
        if !recipients.iter().any(|info| matches!(info, RecipientInfo::Ktri(_))) {
            return Ok(None);
        }
        // Held while a passphrase is asked for, so that one prompt is there at a time.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match &mut *held {
            Some(held) => held,
            none => none.insert(list()?),
        };
        for key in held.iter() {
            for (transport, encrypted) in recipients.iter().filter_map(|it| transported(it, &key.certificate))
            {
                if let Some(content_key) = decrypt(&key.keygrip, transport, encrypted)? {
                    let public = key.certificate.public_key().unwrap_or_default().to_vec();
                    return Ok(Some(Opened { content_key, public }));
                }
            }
        }
        Ok(None)
    }
}

/// The keys that gpgsm has.
fn list() -> Result<Vec<Held>, Error> {
    let listed = parse(&gpgsm(&["--with-colons", "--with-keygrip", "--list-secret-keys"])?);
    let mut held = Vec::new();
    for some in listed.chunks(limits::CERTIFICATES) {
        let mut arguments = vec!["--armor", "--export"];
        arguments.extend(some.iter().map(|one| &*one.sha1));
        let certificates = bundle::read(gpgsm(&arguments)?.as_bytes())
            .map_err(|error| Error::Agent { what: format!("what gpgsm exports: {error}") })?;
        held.extend(some.iter().filter_map(|one| {
            let certificate =
                certificates.iter().find(|certificate| certificate.fingerprint() == one.sha256)?;
            Some(Held { certificate: certificate.clone(), keygrip: one.keygrip.clone() })
        }));
    }
    Ok(held)
}

/// Reads what `--with-colons` says of private keys (GnuPG's `doc/DETAILS`). Only digits are taken: they become arguments.
fn parse(listing: &str) -> Vec<Listed> {
    let mut keys: Vec<Listed> = Vec::new();
    for line in listing.lines() {
        let mut fields = line.split(':');
        let (kind, value) = (fields.next().unwrap_or_default(), fields.nth(8).unwrap_or_default());
        if kind == "crs" {
            keys.push(Listed::default());
        }
        let Some(key) = keys.last_mut().filter(|_| value.bytes().all(|byte| byte.is_ascii_hexdigit())) else {
            continue;
        };
        match kind {
            "fpr" => key.sha1 = value.into(),
            "fp2" => key.sha256 = value.into(),
            "grp" => key.keygrip = value.into(),
            _ => {}
        }
    }
    keys.retain(|key| ![&key.sha1, &key.sha256, &key.keygrip].into_iter().any(String::is_empty));
    keys
}

/// What gpgsm writes.
fn gpgsm(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new("gpgsm")
        .args(["--batch", "--no-tty", "--quiet", "--disable-dirmngr"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| Error::Agent { what: format!("gpgsm cannot be run: {error}") })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is `encrypted` to the agent's key with this keygrip; `None` where it has no such key, or it is no content key.
fn decrypt(keygrip: &str, transport: KeyTransport, encrypted: &[u8]) -> Result<Option<ContentKey>, Error> {
    let failed = |what: String| Error::Agent { what };
    let answer = ask(keygrip, &question(transport, encrypted))
        .map_err(|error| failed(format!("gpg-connect-agent cannot be run: {error}")))?;
    let mut data = Vec::new();
    for line in answer.split(|octet| *octet == b'\n') {
        if let Some(piece) = line.strip_prefix(b"D ") {
            data.extend(unescaped(piece));
        } else if let Some(error) = line.strip_prefix(b"ERR ") {
            let error = String::from_utf8_lossy(error).into_owned();
            if error.starts_with(NO_SECRET_KEY) {
                return Ok(None);
            }
            let why = error.split_once(' ').map_or(&*error, |(_, why)| why);
            return Err(failed(format!("the agent did not open the secret key: {why}")));
        }
    }
    Ok(value(&data).and_then(|key| Some(ContentKey::new(key.try_into().ok()?))))
}

/// What the agent is asked: a canonical S-expression, as libgcrypt has them.
fn question(transport: KeyTransport, encrypted: &[u8]) -> Vec<u8> {
    let padding = match transport {
        KeyTransport::Pkcs1 => "(5:flags5:pkcs1)",
        KeyTransport::Oaep => "(5:flags4:oaep)(9:hash-algo6:sha256)",
    };
    let before = format!("(7:enc-val{padding}(3:rsa(1:a{}:", encrypted.len());
    [before.as_bytes(), encrypted, b")))"].concat()
}

/// What stands in `(5:valueN:…)`, behind which a zero may stand.
fn value(answer: &[u8]) -> Option<&[u8]> {
    let rest = answer.strip_prefix(b"(5:value")?;
    let end = rest.iter().position(|octet| *octet == b':')?;
    let length: usize = str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let (value, rest) = rest[end + 1..].split_at_checked(length)?;
    rest.starts_with(b")").then_some(value)
}

/// What a line of the agent's says: percent signs and line ends are escaped in it.
fn unescaped(mut line: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((first, rest)) = line.split_first() {
        let escaped = rest.get(..2).filter(|_| *first == b'%').and_then(|digits| str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        text.push(escaped.unwrap_or(*first));
        line = if escaped.is_some() { &rest[2..] } else { rest };
    }
    text
}

/// What the agent answers. It may take as long as its user types.
fn ask(keygrip: &str, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut agent = Command::new("gpg-connect-agent")
        .args(["--quiet", &format!("SETKEY {keygrip}"), DESCRIPTION])
        .args(["/definqfile CIPHERTEXT /dev/stdin", "PKDECRYPT", "/bye"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = agent.stdin.take() {
        // It fits into a pipe. Where the program has ended before it read all, its answer tells.
        let _ = stdin.write_all(question);
    }
    Ok(agent.wait_with_output()?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        let listing = "/home/alice/.gnupg/pubring.kbx\n---\n\
                       crs::2048:1:EC17:20200101T000000:21200101T000000:1001::CN=CA::esES::::::23:\n\
                       fpr:::::::::A2738E::::\nfp2:::::::::B50929::::\ngrp:::::::::74B981:\nuid:::::::::CN=Alice::\n\
                       crs::2048:1:EC17:20200101T000000:21200101T000000:1001::CN=CA::esES::::::23:\n\
                       fpr:::::::::--output::::\nfp2:::::::::B50929::::\ngrp:::::::::74B981:\n";
        let expected = Listed { sha1: "A2738E".into(), sha256: "B50929".into(), keygrip: "74B981".into() };
        assert_eq!(parse(listing), [expected]);
        assert!(parse("fpr:::::::::A2738E::::\n").is_empty());
    }

    #[test]
    fn the_agent_s_answers_are_read() {
        assert_eq!(unescaped(b"a%0Ab%25c%zz%4"), b"a\nb%c%zz%4");
        assert_eq!(value(b"(5:value3:a:b)\0"), Some(&b"a:b"[..]));
        for broken in [&b"(5:value3:ab)"[..], b"(5:value9:ab)", b"(5:valuex:ab)", b"(5:other2:ab)", b""] {
            assert_eq!(value(broken), None);
        }
        assert_eq!(question(KeyTransport::Pkcs1, b"xy"), b"(7:enc-val(5:flags5:pkcs1)(3:rsa(1:a2:xy)))");
    }
}
