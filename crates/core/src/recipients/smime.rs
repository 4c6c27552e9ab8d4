//! S/MIME: one content key, and the RecipientInfos that carry it to all certificates.

use std::collections::HashMap;
use std::time::SystemTime;

use cms::enveloped_data::RecipientInfo;
use der::Encode as _;

use super::{Choice, Member, Warning};
use crate::error::Error;
use crate::limits;
use crate::smime::certificate::Certificate;
use crate::smime::enveloped::Method;
use crate::smime::fitness::assess;
use crate::smime::recipient::{ContentKey, Failed, KeyTransport, PublicKey, encrypt};

/// What all RecipientInfos may take together, beside the rest of what is not ciphertext: otherwise nothing would know the
/// message for an encrypted one.
const RECIPIENTS: usize = limits::CMS_FRAMES - 1024;

/// A certificate and its key; `None` where it is unfit.
#[derive(Clone, Debug)]
pub(super) struct Key {
    certificate: Certificate,
    key: Option<PublicKey>,
}

/// A content key and what carries it to the recipients: for one message.
#[derive(Debug)]
pub struct Session {
    pub(crate) key: ContentKey,
    pub(crate) method: Method,
    pub(crate) recipients: Vec<RecipientInfo>,
    /// What the log calls the certificates.
    pub key_ids: Vec<String>,
    /// What to warn about, in order, each once.
    pub warnings: Vec<Warning>,
}

/// What is known of `certificate` at the time `now`.
pub(super) fn member(certificate: &Certificate, now: SystemTime) -> Member<Key> {
    let assessment = assess(certificate, now);
    Member {
        name: certificate.fingerprint(),
        fitness: assessment.fitness,
        expires: Some(assessment.expires),
        recovery: false,
        keys: Key { certificate: certificate.clone(), key: assessment.key },
    }
}

impl Choice<Key> {
    /// The certificates that messages are sealed to.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.members.iter().map(|member| &member.keys.certificate)
    }

    /// Demands that no two certificates with different keys bear the same issuer and serial number: readers find by these what is
    /// for them, and take the first.
    ///
    /// # Errors
    /// [`Error::Recovery`] where a recovery certificate is one of two, else [`Error::NoUsableKey`].
    pub(super) fn demand_different_names(&self) -> Result<(), Error> {
        let mut known = HashMap::new();
        for member in &self.members {
            let certificate = &member.keys.certificate;
            let other = *known.entry(certificate.found_by()).or_insert(member);
            if other.keys.certificate.public_key() == certificate.public_key() {
                continue;
            }
            let why = format!(
                "{}: it has another key than {}, and the same issuer and serial number, by which mail programs find theirs",
                member.name, other.name
            );
            // Those of recovery stand behind the others.
            return Err(if member.recovery {
                Error::Recovery(why)
            } else {
                Error::NoUsableKey { user: self.user.clone(), why }
            });
        }
        Ok(())
    }

    /// How messages are encrypted: so that every recipient reads them.
    fn method(&self) -> Method {
        if self.certificates().all(Certificate::reads_gcm) { Method::Gcm } else { Method::Cbc }
    }

    /// Makes a content key for one message and encrypts it to every certificate.
    ///
    /// # Errors
    /// [`Error::NoUsableKey`] when it could not be encrypted to any of the user's certificates, or there are more than fit
    /// into a message; [`Error::Recovery`] when it could not be to a recovery certificate.
    pub(super) fn session(&self, transport: KeyTransport) -> Result<Session, Error> {
        let mut key = ContentKey::default();
        sequoia_openpgp::crypto::random(&mut key[..]).map_err(Error::OpenPgp)?;
        let method = self.method();
        let mut warnings = self.warnings.clone();
        if method == Method::Cbc {
            warnings.push(Warning::Malleable);
        }
        let mut session = Session { key, method, recipients: Vec::new(), key_ids: Vec::new(), warnings };
        let (mut failed, mut users, mut octets) = (Vec::new(), 0, 0);
        for member in &self.members {
            match member.keys.encrypt(&session.key, transport) {
                Ok((info, length)) => {
                    session.recipients.push(info);
                    session.key_ids.push(member.keys.certificate.id());
                    users += usize::from(!member.recovery);
                    octets += length;
                }
                Err(error) if member.recovery => {
                    return Err(Error::Recovery(format!("{}: {error}", member.name)));
                }
                Err(error) => failed.push(format!("{}: {error}", member.name)),
            }
        }
        if octets > RECIPIENTS {
            failed.push(format!("{} certificates are more than fit into a message", self.members.len()));
        }
        if users == 0 || octets > RECIPIENTS {
            return Err(Error::NoUsableKey { user: self.user.clone(), why: failed.join("; ") });
        }
        if !failed.is_empty() {
            session.warnings.push(Warning::SomeKeysUnusable);
        }
        session.warnings.sort_unstable();
        session.warnings.dedup();
        Ok(session)
    }
}

impl Key {
    /// What carries `content_key` to it, and how many octets that takes.
    fn encrypt(
        &self,
        content_key: &ContentKey,
        transport: KeyTransport,
    ) -> Result<(RecipientInfo, usize), Failed> {
        // Nothing that is unfit was chosen.
        let key = self.key.as_ref().ok_or_else(|| Failed::because("it is unfit"))?;
        let info = encrypt(content_key, &self.certificate, key, transport)?;
        let length = info.to_der().map_err(Failed::because)?.len();
        if length > limits::CMS_FRAME_RECIPIENT {
            return Err(Failed::because("it takes more room than a message has for a recipient"));
        }
        Ok((info, length))
    }
}
