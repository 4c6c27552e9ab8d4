//! The content key of a message, encrypted to one certificate, and back: RSA (RFC 3370, RFC 3560) and ephemeral-static ECDH on
//! NIST's curves (RFC 5753).

pub use cms::enveloped_data::RecipientInfo;

use ansi_x963_kdf::derive_key_into;
use cms::content_info::CmsVersion;
use cms::enveloped_data::{
    KeyAgreeRecipientIdentifier, KeyAgreeRecipientInfo, KeyTransRecipientInfo, OriginatorIdentifierOrKey,
    OriginatorPublicKey, RecipientEncryptedKey, RecipientIdentifier,
};
use der::asn1::{Any, BitString, Null, ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _};
use p256::elliptic_curve::ecdh::{EphemeralSecret, diffie_hellman};
use p256::elliptic_curve::sec1::{FromEncodedPoint, ModulusSize, ToEncodedPoint};
use p256::elliptic_curve::{self, AffinePoint, CurveArithmetic, FieldBytesSize};
use rsa::pkcs1::{DecodeRsaPublicKey as _, EncodeRsaPublicKey as _, RsaOaepParams};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use sha2::Sha256;
use x509_cert::TbsCertificate;
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::certificate::{self, Certificate};
use crate::cert::Unfit;

/// Least bits of an RSA key.
pub(super) const RSA_BITS: usize = 2048;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const X448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.111");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// `dhSinglePass-stdDH-sha…kdf-scheme` (RFC 5753, section 7.1.4).
const AGREE_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.1.11.1");
const AGREE_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.1.11.2");
const AGREE_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.1.11.3");

/// `id-aes256-wrap`.
const AES256_WRAP: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.45");

/// Octets of an AES-256 key.
pub(crate) const KEY: usize = 32;

/// The key that the content of a message is encrypted with.
pub type ContentKey = Zeroizing<[u8; KEY]>;

/// A public key of a kind that mail is sealed to.
#[derive(Clone, Debug)]
pub enum PublicKey {
    /// RSA, of 2048 to 4096 bits.
    Rsa(RsaPublicKey),
    /// NIST P-256.
    P256(p256::PublicKey),
    /// NIST P-384.
    P384(p384::PublicKey),
    /// NIST P-521.
    P521(p521::PublicKey),
}

/// A private key to one of those.
#[derive(Clone)]
pub enum PrivateKey {
    /// RSA.
    Rsa(Box<RsaPrivateKey>),
    /// NIST P-256.
    P256(p256::SecretKey),
    /// NIST P-384.
    P384(p384::SecretKey),
    /// NIST P-521.
    P521(p521::SecretKey),
}

/// How a content key is encrypted with RSA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyTransport {
    /// PKCS #1 version 1.5, which every reader opens.
    #[default]
    Pkcs1,
    /// OAEP with SHA-256, which gpgsm does not.
    Oaep,
}

/// A content key that cannot be encrypted to a certificate.
#[derive(Debug, thiserror::Error)]
#[error("the content key cannot be encrypted: {0}")]
pub struct Failed(String);

impl Failed {
    pub(crate) fn because(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

impl PublicKey {
    /// The key in a certificate with these fields.
    ///
    /// # Errors
    /// [`Unfit`] where mail is not sealed to such a key.
    pub(crate) fn of(fields: &TbsCertificate) -> Result<Self, Unfit> {
        let info = &fields.subject_public_key_info;
        let broken = |error: String| Unfit::Form(format!("its key: {error}"));
        let octets = info.subject_public_key.as_bytes().ok_or_else(|| broken("its bits are odd".into()))?;
        if info.algorithm.oid == RSA {
            let key = RsaPublicKey::from_pkcs1_der(octets).map_err(|error| broken(error.to_string()))?;
            let bits = key.n().bits();
            return if bits < RSA_BITS {
                Err(Unfit::Policy(format!("RSA with {bits} bits")))
            } else {
                Ok(Self::Rsa(key))
            };
        }
        if info.algorithm.oid == X25519 || info.algorithm.oid == X448 {
            let name = if info.algorithm.oid == X25519 { "X25519" } else { "X448" };
            return Err(Unfit::Unsupported(format!(
                "{name} (RFC 8418), which no mail program is known to open"
            )));
        }
        if info.algorithm.oid != EC {
            return Err(Unfit::Unsupported(info.algorithm.oid.to_string()));
        }
        let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok());
        let curve: ObjectIdentifier =
            curve.ok_or_else(|| Unfit::Unsupported("a curve without a name".into()))?;
        let broken = |error: elliptic_curve::Error| broken(error.to_string());
        match curve {
            P256 => p256::PublicKey::from_sec1_bytes(octets).map(Self::P256).map_err(broken),
            P384 => p384::PublicKey::from_sec1_bytes(octets).map(Self::P384).map_err(broken),
            P521 => p521::PublicKey::from_sec1_bytes(octets).map(Self::P521).map_err(broken),
            other => Err(Unfit::Unsupported(format!("the curve {other}"))),
        }
    }

    /// Whether keys are agreed on with it, not encrypted to it.
    #[must_use]
    pub fn agrees(&self) -> bool {
        !matches!(self, Self::Rsa(_))
    }

    /// What it is, for people: `RSA-2048`, `P-256`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Rsa(key) => format!("RSA-{}", key.n().bits()),
            Self::P256(_) => "P-256".into(),
            Self::P384(_) => "P-384".into(),
            Self::P521(_) => "P-521".into(),
        }
    }
}

/// The RecipientInfo that carries `content_key` to the owner of `certificate`, whose key is `key`.
///
/// # Errors
/// [`Failed`] where the key does not do what it should.
pub(crate) fn encrypt(
    content_key: &ContentKey,
    certificate: &Certificate,
    key: &PublicKey,
    transport: KeyTransport,
) -> Result<RecipientInfo, Failed> {
    match key {
        PublicKey::Rsa(key) => encrypt_rsa(content_key, certificate, key, transport),
        PublicKey::P256(key) => agree(AGREE_SHA256, content_key, certificate, key),
        PublicKey::P384(key) => agree(AGREE_SHA384, content_key, certificate, key),
        PublicKey::P521(key) => agree(AGREE_SHA512, content_key, certificate, key),
    }
}

fn encrypt_rsa(
    content_key: &ContentKey,
    certificate: &Certificate,
    key: &RsaPublicKey,
    transport: KeyTransport,
) -> Result<RecipientInfo, Failed> {
    let (algorithm, encrypted) = match transport {
        KeyTransport::Pkcs1 => {
            let algorithm = AlgorithmIdentifierOwned { oid: RSA, parameters: Some(Any::from(Null)) };
            (algorithm, key.encrypt(&mut OsRng, Pkcs1v15Encrypt, &content_key[..]))
        }
        KeyTransport::Oaep => {
            let parameters = RsaOaepParams::new::<Sha256>().to_der().map_err(Failed::because)?;
            let parameters = Any::from_der(&parameters).map_err(Failed::because)?;
            let algorithm = AlgorithmIdentifierOwned { oid: RSA_OAEP, parameters: Some(parameters) };
            (algorithm, key.encrypt(&mut OsRng, Oaep::new::<Sha256>(), &content_key[..]))
        }
    };
    let encrypted = encrypted.map_err(Failed::because)?;
    Ok(RecipientInfo::Ktri(KeyTransRecipientInfo {
        version: CmsVersion::V0,
        rid: RecipientIdentifier::IssuerAndSerialNumber(certificate.issuer_and_serial_number()),
        key_enc_alg: algorithm,
        enc_key: OctetString::new(encrypted).map_err(Failed::because)?,
    }))
}

fn agree<C>(
    scheme: ObjectIdentifier,
    content_key: &ContentKey,
    certificate: &Certificate,
    theirs: &elliptic_curve::PublicKey<C>,
) -> Result<RecipientInfo, Failed>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    let ours = EphemeralSecret::<C>::random(&mut OsRng);
    let point = ours.public_key().to_encoded_point(false);
    let secret = ours.diffie_hellman(theirs);
    let wrapping = wrapping_key(scheme, secret.raw_secret_bytes()).map_err(Failed::because)?;
    let wrapped = aes_kw::KekAes256::from(*wrapping).wrap_vec(&content_key[..]).map_err(Failed::because)?;
    let wrap = Any::encode_from(&aes256_wrap()).map_err(Failed::because)?;
    Ok(RecipientInfo::Kari(KeyAgreeRecipientInfo {
        version: CmsVersion::V3,
        originator: OriginatorIdentifierOrKey::OriginatorKey(OriginatorPublicKey {
            algorithm: AlgorithmIdentifierOwned { oid: EC, parameters: None },
            public_key: BitString::from_bytes(point.as_bytes()).map_err(Failed::because)?,
        }),
        ukm: None,
        key_enc_alg: AlgorithmIdentifierOwned { oid: scheme, parameters: Some(wrap) },
        recipient_enc_keys: vec![RecipientEncryptedKey {
            rid: KeyAgreeRecipientIdentifier::IssuerAndSerialNumber(certificate.issuer_and_serial_number()),
            enc_key: OctetString::new(wrapped).map_err(Failed::because)?,
        }],
    }))
}

/// What the derivation of a wrapping key is bound to (RFC 5753, section 7.2).
#[derive(der::Sequence)]
struct SharedInfo {
    key_info: AlgorithmIdentifierOwned,
    /// The bits of the wrapping key.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    bits: OctetString,
}

fn aes256_wrap() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: AES256_WRAP, parameters: None }
}

/// The key that wraps the content key, out of a `secret` that was agreed on.
fn wrapping_key(scheme: ObjectIdentifier, secret: &[u8]) -> Result<ContentKey, der::Error> {
    let bits = OctetString::new((KEY as u32 * 8).to_be_bytes())?;
    let info = SharedInfo { key_info: aes256_wrap(), bits }.to_der()?;
    let mut key = ContentKey::default();
    let derived = match scheme {
        AGREE_SHA384 => derive_key_into::<sha2_11::Sha384>(secret, &info, &mut key[..]),
        AGREE_SHA512 => derive_key_into::<sha2_11::Sha512>(secret, &info, &mut key[..]),
        _ => derive_key_into::<sha2_11::Sha256>(secret, &info, &mut key[..]),
    };
    derived.map(|()| key).map_err(|_| der::ErrorKind::Failed.into())
}

/// What the log calls those for whom a RecipientInfo is; none where it does not name them by issuer and serial number.
pub(crate) fn ids(info: &RecipientInfo) -> Vec<String> {
    match info {
        RecipientInfo::Ktri(KeyTransRecipientInfo {
            rid: RecipientIdentifier::IssuerAndSerialNumber(name),
            ..
        }) => vec![certificate::id(name)],
        RecipientInfo::Kari(info) => {
            let names = info.recipient_enc_keys.iter().filter_map(|key| match &key.rid {
                KeyAgreeRecipientIdentifier::IssuerAndSerialNumber(name) => Some(certificate::id(name)),
                KeyAgreeRecipientIdentifier::RKeyId(_) => None,
            });
            names.collect()
        }
        _ => Vec::new(),
    }
}

impl PrivateKey {
    /// The octets of the public key that belongs to it, as they stand in certificates: RSA's numbers (PKCS #1), or a point on a
    /// curve (SEC 1), not compressed.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match self {
            // What was read can be encoded.
            Self::Rsa(key) => {
                key.to_public_key().to_pkcs1_der().map(|key| key.as_bytes().to_vec()).unwrap_or_default()
            }
            Self::P256(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
            Self::P521(key) => key.public_key().to_encoded_point(false).as_bytes().to_vec(),
        }
    }

    /// The content key that `info` carries; `None` where it is for another key.
    #[must_use]
    pub fn open(&self, info: &RecipientInfo) -> Option<ContentKey> {
        let key = match (self, info) {
            (Self::Rsa(key), RecipientInfo::Ktri(info)) => open_rsa(key, info)?,
            (Self::P256(key), RecipientInfo::Kari(info)) => open_agreed(AGREE_SHA256, key, info)?,
            (Self::P384(key), RecipientInfo::Kari(info)) => open_agreed(AGREE_SHA384, key, info)?,
            (Self::P521(key), RecipientInfo::Kari(info)) => open_agreed(AGREE_SHA512, key, info)?,
            _ => return None,
        };
        Some(ContentKey::new(key.as_slice().try_into().ok()?))
    }
}

/// The content key in `info`, encrypted with RSA to `certificate`, and how; `None` where it is for another one, or is not carried so.
#[must_use]
pub fn transported<'a>(
    info: &'a RecipientInfo,
    certificate: &Certificate,
) -> Option<(KeyTransport, &'a [u8])> {
    let RecipientInfo::Ktri(info) = info else { return None };
    let RecipientIdentifier::IssuerAndSerialNumber(name) = &info.rid else { return None };
    if *name != certificate.issuer_and_serial_number() {
        return None;
    }
    Some((transport_of(info)?, info.enc_key.as_bytes()))
}

/// How the content key in `info` is encrypted with RSA; `None` where that is in no way that is known.
fn transport_of(info: &KeyTransRecipientInfo) -> Option<KeyTransport> {
    match info.key_enc_alg.oid {
        RSA => Some(KeyTransport::Pkcs1),
        RSA_OAEP => {
            let ours = RsaOaepParams::new::<Sha256>().to_der().ok()?;
            (info.key_enc_alg.parameters.as_ref()?.to_der().ok()? == ours).then_some(KeyTransport::Oaep)
        }
        _ => None,
    }
}

fn open_rsa(key: &RsaPrivateKey, info: &KeyTransRecipientInfo) -> Option<Zeroizing<Vec<u8>>> {
    let encrypted = info.enc_key.as_bytes();
    // For another key: an operation with ours would be in vain.
    if encrypted.len() != key.size() {
        return None;
    }
    let key = match transport_of(info)? {
        KeyTransport::Pkcs1 => key.decrypt_blinded(&mut OsRng, Pkcs1v15Encrypt, encrypted),
        KeyTransport::Oaep => key.decrypt_blinded(&mut OsRng, Oaep::new::<Sha256>(), encrypted),
    };
    key.ok().map(Zeroizing::new)
}

fn open_agreed<C>(
    scheme: ObjectIdentifier,
    key: &elliptic_curve::SecretKey<C>,
    info: &KeyAgreeRecipientInfo,
) -> Option<Zeroizing<Vec<u8>>>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
{
    let OriginatorIdentifierOrKey::OriginatorKey(theirs) = &info.originator else { return None };
    let wrap: AlgorithmIdentifierOwned = info.key_enc_alg.parameters.as_ref()?.decode_as().ok()?;
    if info.key_enc_alg.oid != scheme || wrap != aes256_wrap() || info.ukm.is_some() {
        return None;
    }
    let theirs = elliptic_curve::PublicKey::<C>::from_sec1_bytes(theirs.public_key.as_bytes()?).ok()?;
    let secret = diffie_hellman(key.to_nonzero_scalar(), theirs.as_affine());
    let wrapping = wrapping_key(scheme, secret.raw_secret_bytes()).ok()?;
    let wrapping = aes_kw::KekAes256::from(*wrapping);
    let mut wrapped = info.recipient_enc_keys.iter().map(|key| key.enc_key.as_bytes());
    wrapped.find_map(|wrapped| wrapping.unwrap_vec(wrapped).ok()).map(Zeroizing::new)
}
