//! Seals a mail to OpenPGP certificates as a mail server stores it, and gives the original back byte for byte.
//!
//! A sealed message is an ordinary encrypted one: RFC 3156's `multipart/encrypted` with one OpenPGP message inside, which
//! any mail program with OpenPGP opens. Sealing takes certificates only; no key that opens anything has to be on the server.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use mailseal_core::error::Error;
//! use mailseal_core::message::opening::Opening;
//! use mailseal_core::protect::Policy;
//! use mailseal_core::recipients::{Recipients, WhenExpired};
//! use mailseal_core::seal::Sealer;
//! use mailseal_core::unseal::keys::{Key, Keys};
//! use mailseal_core::unseal::original::Endings;
//! use mailseal_core::unseal::{Expansion, Unsealed, unseal};
//! use sequoia_openpgp::Cert;
//! use sequoia_openpgp::cert::CertBuilder;
//! use sequoia_openpgp::packet::PKESK;
//!
//! // Alice's key stays with Alice; the server has her certificate.
//! let (key, _) = CertBuilder::general_purpose(Some("alice@example.org")).generate()?;
//! let cert = key.clone().strip_secret_key_material();
//!
//! // Certificates and a message in, a sealed message out.
//! let mail: &[u8] = b"From: bob@example.org\nSubject: Lunch\n\nAt one, where the river bends.\n";
//! let recipients = Recipients::choose("alice", &[cert], &[], WhenExpired::Defer, SystemTime::now())?;
//! let mut rest = mail;
//! let opening = Opening::read(&mut rest)?;
//! let mut sealed = Vec::new();
//! let sealer = Sealer::to(&recipients, Policy::Baseline);
//! sealer.seal(&opening, &mut rest, &mut sealed)?;
//!
//! let shown = String::from_utf8(sealed.clone())?;
//! assert!(shown.contains("From: bob@example.org\n") && shown.contains("Subject: [...]\n"));
//! assert!(!shown.contains("Lunch") && !shown.contains("river"));
//!
//! // And back. Where secret keys lie, whoever opens messages says.
//! struct Alice(Cert);
//!
//! impl Keys for Alice {
//!     fn session_key(&self, packets: &[PKESK]) -> Result<Option<Key>, Error> {
//!         for key in self.0.keys().unencrypted_secret() {
//!             let pair = key.key().clone().into_keypair();
//!             let mut pair = pair.map_err(|error| Error::Keys(error.into()))?;
//!             let found = packets.iter().find_map(|packet| packet.decrypt(&mut pair, None));
//!             if let Some((cipher, key)) = found {
//!                 return Ok(Some(Key { cipher, key }));
//!             }
//!         }
//!         Ok(None)
//!     }
//! }
//!
//! let mut rest = &*sealed;
//! let opening = Opening::read(&mut rest)?;
//! let most = Expansion::default().most(sealed.len() as u64);
//! let mut opened = Vec::new();
//! match unseal(&opening, rest, &Alice(key), Endings::Original, most)? {
//!     Unsealed::Original(mut original) => original.write_to(&mut opened)?,
//!     Unsealed::Foreign(foreign) => panic!("{foreign:?}"),
//! }
//! assert_eq!(opened, mail);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! ```text
//! message     what a message is, byte for byte: its header, its lines, its beginning
//! classify    encrypted already? proven, never claimed
//! cert        whether an OpenPGP certificate is fit to seal to
//! smime       the same of S/MIME, and its messages written and read
//! recipients  which certificates a message is sealed to, and its session key
//! protect     which header fields the outside shows (RFC 9788)
//! mark        the field inside that says: sealed at rest
//! record      what undoes all of it, inside the ciphertext
//! openpgp     the packets that are written
//! seal        opening + rest -> sealed message
//! unseal      the way back, proven at its end
//! ```
//!
//! # Invariants
//!
//! - No file, environment, clock or terminal is touched. What is read is an `impl Read`, what is written an `impl Write`,
//!   and the time comes from the caller.
//! - What is written is no message before the function that writes it has returned without an error; what is opened is
//!   proven only at its end. Nothing may be given away until then.
//! - Bytes of a message are copied, never rendered again. mail-parser reads what must be understood of MIME.
//! - Memory is bounded by [`limits`], whatever the size of the message.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod base64;
pub mod cert;
pub mod classify;
pub mod error;
pub mod limits;
pub mod mark;
pub mod message;
pub mod openpgp;
pub mod protect;
pub mod recipients;
pub mod record;
pub mod seal;
pub mod smime;
pub mod unseal;
