//! The rehearsal: a message is sealed to the certificate as a delivery does it, and opened as `mailseal decrypt` does it.

use std::io::Read as _;
use std::num::NonZeroU64;
use std::time::SystemTime;

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::{Recipients, WhenExpired};
use mailseal_core::seal::Sealer;
use mailseal_core::unseal::original::Endings;
use mailseal_core::unseal::{Expansion, Unsealed, unseal};
use sequoia_openpgp::Cert;

use super::join::decryption_keys;
use crate::error::Error;
use crate::keys::code;
use crate::keys::secret::files::KeyFiles;

/// Characters that tell the message of one rehearsal from those of others.
const CODE: usize = 20;

/// How long the message may become, beside its sealed size.
const EXPANSION: NonZeroU64 = NonZeroU64::MIN;

/// Seals a message to `cert`, and opens it with `key`.
///
/// # Errors
/// Those of sealing and opening; [`Error::Shares`] where what comes back is not what was sealed.
pub fn rehearse(key: &Cert, cert: &Cert, now: SystemTime) -> Result<(), Error> {
    let message = format!(
        "From: mailseal <mailseal@localhost>\r\nSubject: rehearsal\r\n\r\nIf this comes back, recovery works.\r\n{}\r\n",
        code::new(CODE)?
    );
    let recipients =
        Recipients::choose("recovery", std::slice::from_ref(cert), &[], WhenExpired::Defer, now)?;
    let mut rest = message.as_bytes();
    let opening = Opening::read(&mut rest)?;
    let mut sealed = Vec::new();
    Sealer::to(&recipients, Policy::None).seal(&opening, &mut rest, &mut sealed)?;

    let keys = KeyFiles::import(&decryption_keys(key)?)?;
    let most = Expansion::new(EXPANSION).most(sealed.len() as u64);
    let mut rest = &*sealed;
    let opening = Opening::read(&mut rest)?;
    let mut opened = Vec::new();
    if let Unsealed::Original(mut original) = unseal(&opening, rest, &keys, Endings::Original, most)? {
        original.read_to_end(&mut opened).map_err(CoreError::Read)?;
    }
    if opened == message.as_bytes() {
        return Ok(());
    }
    Err(Error::Shares {
        what: format!("a message sealed to {:X} does not come back as it was", cert.fingerprint()),
        hint: "do not use this certificate; make another one, and report this".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::recovery::join;
    use crate::keys::recovery::secret::Secret;

    #[test]
    fn only_the_right_key_opens_the_message() {
        let now = SystemTime::now();
        let [key, other] = [0; 2].map(|_| join::key(&Secret::new(now).unwrap(), 2, 3).unwrap());
        let cert = key.clone().strip_secret_key_material();
        rehearse(&key, &cert, now).unwrap();
        let error = rehearse(&other, &cert, now).unwrap_err();
        assert!(matches!(error, Error::Core(CoreError::NoSecretKey { .. })), "{error}");
    }
}
