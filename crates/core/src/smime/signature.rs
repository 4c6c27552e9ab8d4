//! Signatures of certificates and revocation lists, verified: RSA (PKCS #1 version 1.5, and PSS), ECDSA on NIST's curves and
//! Ed25519, over SHA-2.
//!
//! Each is RustCrypto's, and put where `webpki` looks for it.

use std::fmt;

use der::asn1::BitString;
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use ed25519_dalek::Signature as Ed25519Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use rustls_pki_types::alg_id::{self, AlgorithmIdentifier};
use rustls_pki_types::{InvalidSignature, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use webpki::RawPublicKeyEntity;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::certificate::Certificate;
use super::recipient::RSA_BITS;

/// `sha256WithRSAEncryption` and the two that follow it, without the NULL that some authorities leave out (RFC 4055, section 5).
const RSA_SHA256_BARE: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b");
const RSA_SHA384_BARE: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c");
const RSA_SHA512_BARE: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d");

/// What a text is digested with.
#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a digest is signed.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    Pkcs1,
    Pss,
    P256,
    P384,
    P521,
    /// It signs the text itself.
    Ed25519,
}

/// A kind of signature, as certificates name it.
#[derive(Clone, Copy)]
struct Algorithm(Scheme, Hash, AlgorithmIdentifier);

/// Those that are verified. All else, SHA-1 and MD5 among it, is refused.
static ALL: [Algorithm; 18] = [
    Algorithm(Scheme::Pkcs1, Hash::Sha256, alg_id::RSA_PKCS1_SHA256),
    Algorithm(Scheme::Pkcs1, Hash::Sha384, alg_id::RSA_PKCS1_SHA384),
    Algorithm(Scheme::Pkcs1, Hash::Sha512, alg_id::RSA_PKCS1_SHA512),
    Algorithm(Scheme::Pkcs1, Hash::Sha256, RSA_SHA256_BARE),
    Algorithm(Scheme::Pkcs1, Hash::Sha384, RSA_SHA384_BARE),
    Algorithm(Scheme::Pkcs1, Hash::Sha512, RSA_SHA512_BARE),
    Algorithm(Scheme::Pss, Hash::Sha256, alg_id::RSA_PSS_SHA256),
    Algorithm(Scheme::Pss, Hash::Sha384, alg_id::RSA_PSS_SHA384),
    Algorithm(Scheme::Pss, Hash::Sha512, alg_id::RSA_PSS_SHA512),
    Algorithm(Scheme::P256, Hash::Sha256, alg_id::ECDSA_SHA256),
    Algorithm(Scheme::P256, Hash::Sha384, alg_id::ECDSA_SHA384),
    Algorithm(Scheme::P256, Hash::Sha512, alg_id::ECDSA_SHA512),
    Algorithm(Scheme::P384, Hash::Sha256, alg_id::ECDSA_SHA256),
    Algorithm(Scheme::P384, Hash::Sha384, alg_id::ECDSA_SHA384),
    Algorithm(Scheme::P384, Hash::Sha512, alg_id::ECDSA_SHA512),
    Algorithm(Scheme::P521, Hash::Sha384, alg_id::ECDSA_SHA384),
    Algorithm(Scheme::P521, Hash::Sha512, alg_id::ECDSA_SHA512),
    Algorithm(Scheme::Ed25519, Hash::Sha512, alg_id::ED25519),
];

/// All kinds of signatures that are verified.
pub fn all() -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    ALL.iter().map(|one| one as &dyn SignatureVerificationAlgorithm).collect()
}

/// Whether `signature` is one over `text`, made as `algorithm` says with the private key to `key`, a SubjectPublicKeyInfo.
pub fn is_right(
    key: &[u8],
    text: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signature: &BitString,
) -> bool {
    let key = SubjectPublicKeyInfoDer::from(key);
    let (Ok(key), Some(signature), Ok(wanted)) =
        (RawPublicKeyEntity::try_from(&key), signature.as_bytes(), algorithm.to_der())
    else {
        return false;
    };
    // What is compared has no tag and no length round it.
    let Ok(wanted) = der::asn1::AnyRef::from_der(&wanted) else { return false };
    let named = ALL.iter().filter(|one| *one.2 == *wanted.value());
    named.into_iter().any(|one| key.verify_signature(one, text, signature).is_ok())
}

/// What is signed of a certificate or a list in DER: the first value in it.
///
/// # Errors
/// That of what is no DER.
pub fn signed_part(octets: &[u8]) -> Result<&[u8], der::Error> {
    let mut reader = SliceReader::new(octets)?;
    der::Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// Whether the key of `authority` has signed `certificate`.
pub fn is_issued_by(certificate: &Certificate, authority: &Certificate) -> bool {
    let signed = certificate.signed();
    let (Ok(key), Ok(text)) =
        (authority.fields().subject_public_key_info.to_der(), signed_part(certificate.der()))
    else {
        return false;
    };
    is_right(&key, text, &signed.signature_algorithm, &signed.signature)
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RustCrypto {:?} {:?}", self.0, self.1)
    }
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(&self, key: &[u8], text: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let digest = self.1.of(text);
        let verified = match self.0 {
            Scheme::Pkcs1 | Scheme::Pss => self.verify_rsa(key, &digest, signature),
            Scheme::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok().and_then(|key| {
                let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
                key.verify_prehash(&digest, &signature).ok()
            }),
            Scheme::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok().and_then(|key| {
                let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
                key.verify_prehash(&digest, &signature).ok()
            }),
            Scheme::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(key).ok().and_then(|key| {
                let signature = p521::ecdsa::Signature::from_der(signature).ok()?;
                key.verify_prehash(&digest, &signature).ok()
            }),
            Scheme::Ed25519 => verify_ed25519(key, text, signature),
        };
        verified.ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Scheme::Pkcs1 | Scheme::Pss => alg_id::RSA_ENCRYPTION,
            Scheme::P256 => alg_id::ECDSA_P256,
            Scheme::P384 => alg_id::ECDSA_P384,
            Scheme::P521 => alg_id::ECDSA_P521,
            Scheme::Ed25519 => alg_id::ED25519,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.2
    }
}

impl Hash {
    fn of(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha384 => Sha384::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }
}

impl Algorithm {
    fn verify_rsa(&self, key: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
        let key = RsaPublicKey::from_pkcs1_der(key).ok().filter(|key| key.n().bits() >= RSA_BITS)?;
        let verified = match (self.0, self.1) {
            (Scheme::Pss, Hash::Sha256) => key.verify(Pss::new_with_salt::<Sha256>(32), digest, signature),
            (Scheme::Pss, Hash::Sha384) => key.verify(Pss::new_with_salt::<Sha384>(48), digest, signature),
            (Scheme::Pss, Hash::Sha512) => key.verify(Pss::new_with_salt::<Sha512>(64), digest, signature),
            (_, Hash::Sha256) => key.verify(Pkcs1v15Sign::new::<Sha256>(), digest, signature),
            (_, Hash::Sha384) => key.verify(Pkcs1v15Sign::new::<Sha384>(), digest, signature),
            (_, Hash::Sha512) => key.verify(Pkcs1v15Sign::new::<Sha512>(), digest, signature),
        };
        verified.ok()
    }
}

fn verify_ed25519(key: &[u8], text: &[u8], signature: &[u8]) -> Option<()> {
    let key = ed25519_dalek::VerifyingKey::try_from(key).ok()?;
    key.verify_strict(text, &Ed25519Signature::from_slice(signature).ok()?).ok()
}
