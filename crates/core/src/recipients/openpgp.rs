//! OpenPGP: one session key, and the packets that carry it to the keys of all certificates.

use std::time::SystemTime;

use sequoia_openpgp::crypto::{SessionKey, mpi};
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::packet::pkesk::{PKESK3, PKESK6};
use sequoia_openpgp::serialize::MarshalInto as _;
use sequoia_openpgp::types::{CompressionAlgorithm, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, Packet};

use super::{Choice, Member, Warning};
use crate::cert::{EncryptionKey, assess};
use crate::classify::session_keys::SessionKeys;
use crate::error::Error;

/// The cipher of every message.
pub const CIPHER: SymmetricAlgorithm = SymmetricAlgorithm::AES256;

/// Octets of its key.
const CIPHER_KEY: usize = 32;

/// How often a session key is encrypted to one key until what comes out has its full length, which it has in nearly all cases.
const LONG_TRIES: u32 = 200;

/// The encryption container (RFC 9580, section 5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Version 1, which every reader knows.
    Seipd1,
    /// Version 2, for recipients whose keys are all of version 6.
    Seipd2,
}

/// The keys of a certificate, and what its owner can decompress.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    keys: Vec<EncryptionKey>,
    compression: Option<Vec<CompressionAlgorithm>>,
}

/// A session key and the packets that carry it to the recipients' keys: for one message.
#[derive(Debug)]
pub struct Session {
    pub(crate) key: SessionKey,
    pub(crate) packets: Vec<Packet>,
    pub(crate) compression: Vec<CompressionAlgorithm>,
    /// The container that all recipients read.
    pub container: Container,
    /// The key ids of the keys, 16 hexadecimal digits each.
    pub key_ids: Vec<String>,
    /// What to warn about, in order, each once.
    pub warnings: Vec<Warning>,
}

/// What is known of `cert` at the time `now`.
pub(super) fn member(cert: &Cert, now: SystemTime) -> Member<Keys> {
    let assessment = assess(cert, now);
    Member {
        name: cert.fingerprint().to_hex(),
        fitness: assessment.fitness,
        expires: assessment.expires,
        recovery: false,
        keys: Keys { keys: assessment.keys, compression: assessment.compression },
    }
}

impl Choice<Keys> {
    /// The keys that messages are sealed to.
    pub(super) fn keys(&self) -> impl Iterator<Item = &EncryptionKey> {
        self.members.iter().flat_map(|member| &member.keys.keys)
    }

    /// Makes a session key for one message and encrypts it to every key.
    ///
    /// # Errors
    /// [`Error::NoUsableKey`] when it could not be encrypted to any key of the user's certificates, or there are more keys than
    /// fit into a message; [`Error::Recovery`] when it could not to any of a recovery certificate's.
    pub(super) fn session(&self) -> Result<Session, Error> {
        let container =
            if self.keys().all(|key| key.version() == 6) { Container::Seipd2 } else { Container::Seipd1 };
        let session = self.try_session(container)?;
        // What failed may have been all that was not of version 6.
        let reached = |key: &EncryptionKey| session.key_ids.contains(&key.keyid().to_hex());
        if container == Container::Seipd1
            && self.keys().filter(|key| reached(key)).all(|key| key.version() == 6)
        {
            return self.try_session(Container::Seipd2);
        }
        Ok(session)
    }

    fn try_session(&self, container: Container) -> Result<Session, Error> {
        let mut session = Session {
            key: SessionKey::new(CIPHER_KEY).map_err(Error::OpenPgp)?,
            packets: Vec::new(),
            compression: vec![CompressionAlgorithm::Zip, CompressionAlgorithm::Zlib],
            container,
            key_ids: Vec::new(),
            warnings: self.warnings.clone(),
        };
        let mut failed = Vec::new();
        let mut users = 0;
        for member in &self.members {
            let before = session.packets.len();
            for key in &member.keys.keys {
                match packet(container, &session.key, key) {
                    Ok(packet) => {
                        session.packets.push(packet);
                        session.key_ids.push(key.keyid().to_hex());
                    }
                    Err(error) => failed.push(format!("{}: key {}: {error:#}", member.name, key.keyid())),
                }
            }
            if session.packets.len() > before {
                users += usize::from(!member.recovery);
                if let Some(readable) = &member.keys.compression {
                    session.compression.retain(|algorithm| readable.contains(algorithm));
                }
            } else if member.recovery {
                return Err(Error::Recovery(failed.join("; ")));
            }
        }
        if users == 0 {
            return Err(Error::NoUsableKey { user: self.user.clone(), why: failed.join("; ") });
        }
        if !are_known(&session.packets)? {
            let why = format!("{} keys are more than fit into a message", session.packets.len());
            return Err(Error::NoUsableKey { user: self.user.clone(), why });
        }
        if !failed.is_empty() {
            session.warnings.push(Warning::SomeKeysUnusable);
        }
        session.warnings.sort_unstable();
        session.warnings.dedup();
        Ok(session)
    }
}

/// Whether nobody takes `packets` for more than session keys: otherwise nothing would know the message for an encrypted one.
fn are_known(packets: &[Packet]) -> Result<bool, Error> {
    let mut judge = SessionKeys::default();
    for packet in packets {
        let Packet::PKESK(packet) = packet else { return Ok(false) };
        let body = packet.to_vec().map_err(Error::OpenPgp)?;
        if judge.public(&body).is_err() {
            return Ok(false);
        }
    }
    Ok(judge.finish().is_ok())
}

/// The packet that carries the session key to `key` (RFC 9580, section 5.1). All for one key are equally long: one whose numbers
/// happen to be shorter is made anew.
fn packet(
    container: Container,
    session_key: &SessionKey,
    key: &EncryptionKey,
) -> sequoia_openpgp::Result<Packet> {
    for _ in 0..LONG_TRIES {
        let packet: PKESK = match container {
            Container::Seipd1 => PKESK3::for_recipient(CIPHER, session_key, key)?.into(),
            Container::Seipd2 => PKESK6::for_recipient(session_key, key)?.into(),
        };
        let ciphertext = match &packet {
            PKESK::V3(packet) => packet.esk(),
            PKESK::V6(packet) => packet.esk(),
            _ => break,
        };
        if is_long(ciphertext, key.mpis()) {
            return Ok(Packet::PKESK(packet));
        }
    }
    Err(sequoia_openpgp::anyhow::anyhow!("what is encrypted to it is always shorter than it should be"))
}

/// Whether the numbers of a `ciphertext` to `key` have as many octets as they can have.
fn is_long(ciphertext: &mpi::Ciphertext, key: &mpi::PublicKey) -> bool {
    let long = |number: &mpi::MPI, modulus: &mpi::MPI| number.value().len() == modulus.value().len();
    match (ciphertext, key) {
        (mpi::Ciphertext::RSA { c }, mpi::PublicKey::RSA { n, .. }) => long(c, n),
        (mpi::Ciphertext::ElGamal { e, c }, mpi::PublicKey::ElGamal { p, .. }) => long(e, p) && long(c, p),
        _ => true,
    }
}
