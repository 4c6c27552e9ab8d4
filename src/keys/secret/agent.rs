//! Edge: Secret keys in GnuPG's hands: gpg, its agent, smartcards, and their own way to ask for a passphrase. S/MIME's are
//! `gpgsm`'s.
//!
//! gpg is given the session key packets of a message, and an encrypted packet that holds nothing. It has its agent
//! open them and reports the session key; that it complains about the rest means nothing. The message itself never
//! goes there. GnuPG knows no keys of version 6.

use std::io::Write as _;
use std::process::{Command, Stdio};

use data_encoding::HEXUPPER;
use mailseal_core::error::Error as CoreError;
use mailseal_core::smime::recipient::RecipientInfo;
use mailseal_core::unseal::keys::{Key, Keys, Opened};
use sequoia_openpgp::Packet;
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::serialize::Serialize as _;

use super::SecretKeys;
use super::gpgsm::Gpgsm;
use crate::error::Error;

/// An encrypted packet (version 1) of 40 octets that mean nothing: gpg reads no session key without one behind it.
const NOTHING: [u8; 43] = {
    let mut packet = [0; 43];
    packet[0] = 0xd2;
    packet[1] = 41;
    packet[2] = 1;
    packet
};

/// gpg, gpgsm and their agent, as the environment has them (`GNUPGHOME`).
#[derive(Debug, Default)]
pub struct Agent {
    smime: Gpgsm,
}

impl Keys for Agent {
    fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, CoreError> {
        let mut input = Vec::new();
        for packet in packets.iter().filter(|packet| matches!(packet, PKESK::V3(_))) {
            Packet::PKESK(packet.clone()).serialize(&mut input).map_err(CoreError::OpenPgp)?;
        }
        if input.is_empty() {
            return Ok(None);
        }
        input.extend(NOTHING);
        let status =
            ask(&input).map_err(|error| Error::Agent { what: format!("gpg cannot be run: {error}") })?;
        for line in status.lines() {
            let Some((cipher, key)) =
                line.strip_prefix("[GNUPG:] SESSION_KEY ").and_then(|it| it.split_once(':'))
            else {
                continue;
            };
            if let (Ok(cipher), Ok(key)) = (cipher.parse::<u8>(), HEXUPPER.decode(key.trim().as_bytes())) {
                return Ok(Some(Key { cipher: Some(cipher.into()), key: key.into() }));
            }
        }
        // Without the secret key is one thing; with it and without its passphrase another.
        let cancelled = status.lines().any(|line| {
            let failed = line.strip_prefix("[GNUPG:] ERROR pkdecrypt_failed ");
            failed.is_some_and(|code| !code.starts_with(NO_SECRET_KEY))
        });
        if cancelled {
            return Err(Error::Agent { what: "the agent did not open the secret key".into() }.into());
        }
        Ok(None)
    }

    fn content_key(&self, recipients: &[RecipientInfo]) -> Result<Option<Opened>, CoreError> {
        Ok(self.smime.open(recipients)?)
    }
}

impl SecretKeys for Agent {
    fn export(&self) -> Result<Vec<Vec<u8>>, Error> {
        Err(Error::Usage {
            what: "these secret keys open only mail of who runs this".into(),
            hint: "run it as the mail's owner, or name the key with --secret-key".into(),
        })
    }
}

/// libgpg-error's GPG_ERR_NO_SECKEY (17), from gpg-agent (4 << 24).
pub(super) const NO_SECRET_KEY: &str = "67108881";

/// What gpg reports about a message. It may take as long as its user types.
fn ask(message: &[u8]) -> std::io::Result<String> {
    let mut gpg = Command::new("gpg")
        .args(["--batch", "--no-tty", "--quiet", "--status-fd", "1", "--show-session-key"])
        .args(["--output", "/dev/null", "--yes", "--decrypt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It would print the session key there as well.
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = gpg.stdin.take() {
        // It fits into a pipe. Where gpg has ended before it read all, its report tells.
        let _ = stdin.write_all(message);
    }
    let output = gpg.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
