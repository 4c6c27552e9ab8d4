//! S/MIME: certificates, and the CMS enveloped-data and authEnveloped-data that is written to them and read back (RFC 8551,
//! RFC 5652, RFC 5083).
//!
//! ```text
//! certificate  one X.509 certificate, and what its issuer and serial number say of it
//! bundle       the certificates in a file: PEM, DER, PKCS #7, PKCS #12
//! ber          BER made DER
//! pem          the blocks of a PEM file
//! names        what a name in a certificate says, and whether two are the same
//! chain        whether it comes from an authority that is trusted
//! crl          whether its authority has revoked it
//! trusted      it, with a note that it has
//! signature    what authorities sign, verified
//! fitness      whether a certificate is fit to seal to, and why not
//! recipient    the content key, encrypted to one certificate, and back
//! base64       a body that is base64, read
//! gcm          AES-256-GCM as a stream
//! enveloped    the CMS that is written, as a stream
//! open         the same, read
//! secret       private keys: PEM, PKCS #12
//! ```
//!
//! Structures are RustCrypto's `der`, `x509-cert`, `cms` and `pkcs12`; the ways to authorities are `webpki`'s; ciphers, key wrapping, curves, RSA and key derivation
//! its other crates. What is written here is the framing with indefinite lengths round the ciphertext, which none of them
//! streams; and the order in which AES-GCM's two parts, counter mode and GHASH, take a text, for the same reason.
//!
//! The content is encrypted with AES-256-GCM where every certificate says that its owner reads that, else with AES-256-CBC,
//! because some readers open nothing else (gpgsm, Thunderbird). Then **a message is malleable**: who can write to a mailbox can change what
//! is opened, and nothing in the message tells. Each message that is sealed so bears
//! [`Warning::Malleable`](crate::recipients::Warning::Malleable).

pub(crate) mod base64;
mod ber;
pub mod bundle;
pub mod certificate;
pub mod chain;
pub mod crl;
pub(crate) mod enveloped;
pub mod fitness;
mod gcm;
mod names;
pub(crate) mod open;
mod pem;
pub mod recipient;
pub mod secret;
mod signature;
#[cfg(test)]
mod tests;
mod trusted;
