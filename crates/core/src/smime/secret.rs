//! Private keys in files: PKCS #12, and PEM or DER with PKCS #8, PKCS #1 or SEC 1.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use cms::enveloped_data::RecipientInfo;
use der::asn1::{Any, AnyRef, Null, ObjectIdentifier, OctetStringRef};
use der::oid::AssociatedOid;
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use p256::elliptic_curve::sec1::{ModulusSize, ValidatePublicKey};
use p256::elliptic_curve::{Curve, FieldBytesSize, SecretKey};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, PrivateKeyInfo};
use pkcs12::kdf::{Pkcs12KeyType, derive_key_utf8};
use pkcs12::pbe_params::{EncryptedPrivateKeyInfo, Pkcs12PbeParams};
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::SafeContents;
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use sha1::Sha1;
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::recipient::PrivateKey;
use super::{ber, bundle, pem};
use crate::unseal::keys::Opened;

/// `id-data` (RFC 5652).
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

/// The first octet of a file in DER or BER.
const SEQUENCE: u8 = 0x30;

/// Octets of a key and an initialisation vector for Triple DES.
const TRIPLE_DES: (usize, usize) = (24, 8);

/// Most rounds of deriving keys from a password that reading a file may take, all keys in it together: a file is somebody's, and may be
/// anybody's. openssl takes 2048, Python's cryptography 20,000, and the most careful advice is some 1,400,000; these take some
/// seconds.
const ROUNDS: u64 = 10_000_000;

/// Most octets of memory that scrypt may take: openssl takes 16 MiB.
const SCRYPT_MEMORY: u64 = 128 * 1024 * 1024;

/// Octets that scrypt mixes in the time that a round of the others takes, or less.
const SCRYPT_ROUND: u64 = 256;

/// Private keys.
pub struct PrivateKeys(Vec<PrivateKey>);

impl std::fmt::Debug for PrivateKeys {
    /// How many there are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} private keys", self.0.len())
    }
}

/// Why private keys cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Locked {
    /// A password is needed, or another one.
    #[error("the password does not open it")]
    Password,
    /// There is none in it.
    #[error("it holds no private key")]
    Nothing,
    /// A private key is of a kind that mail is not sealed to.
    #[error("its key is neither RSA nor on P-256, P-384 or P-521")]
    Unsupported,
    /// A private key is RSA's with more than two primes.
    #[error("its RSA key has more than two primes (multi-prime RSA), which is not supported")]
    MultiPrime,
    /// Its password is made into a key with more work than is allowed.
    #[error("to try its password takes more time or memory than is allowed")]
    Costly,
    /// It is encrypted in a way that is not known.
    #[error("it is encrypted in a way that is not known ({0})")]
    Unknown(ObjectIdentifier),
    /// It is broken; the text says where.
    #[error("it is broken: {0}")]
    Broken(String),
}

impl From<der::Error> for Locked {
    fn from(error: der::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl PrivateKeys {
    /// Whether a file with this content holds X.509's private keys or PKCS #12, and not OpenPGP's. It is not read.
    #[must_use]
    pub fn seem_to_be_in(octets: &[u8]) -> bool {
        let pem = memchr::memmem::find(octets, b"PRIVATE KEY-----").is_some()
            && memchr::memmem::find(octets, b"-----BEGIN PGP").is_none();
        // A SEQUENCE that takes all of it, in DER or, as some programs write PKCS #12, with an indefinite length.
        let sequence = octets.starts_with(&[SEQUENCE]) && octets.get(1).is_some_and(|length| *length >= 0x80);
        pem || sequence
    }

    /// Reads the private keys in a file with this content, unlocked with `password` where they are locked.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn read(octets: &[u8], password: &str) -> Result<Self, Locked> {
        let mut work = Work::default();
        let blocks = pem::blocks(octets).map_err(|error| Locked::Broken(error.to_string()))?;
        if blocks.is_empty() {
            // Anything else is no structure, and no key.
            let der =
                if octets.starts_with(&[SEQUENCE]) { ber::to_der(octets)? } else { Zeroizing::default() };
            let keys = match Pfx::from_der(&der) {
                Ok(pfx) => read_pfx(&pfx, password, &mut work)?,
                Err(_) => vec![read_der(&der, password, &mut work)?],
            };
            return Self::of(keys);
        }
        let keys = blocks.iter().filter(|block| block.label.ends_with(b"PRIVATE KEY"));
        let keys = keys.map(|block| read_der(&block.octets, password, &mut work));
        Self::of(keys.collect::<Result<_, _>>()?)
    }

    fn of(keys: Vec<PrivateKey>) -> Result<Self, Locked> {
        if keys.is_empty() { Err(Locked::Nothing) } else { Ok(Self(keys)) }
    }

    /// Each key for itself and not locked, as [`PrivateKeys::read`] reads it (PKCS #8): for another process. One that cannot be
    /// written is left out.
    #[must_use]
    pub fn export(&self) -> Vec<Vec<u8>> {
        let exported = self.0.iter().filter_map(|key| {
            let document = match key {
                PrivateKey::Rsa(key) => key.to_pkcs8_der(),
                PrivateKey::P256(key) => key.to_pkcs8_der(),
                PrivateKey::P384(key) => key.to_pkcs8_der(),
                PrivateKey::P521(key) => key.to_pkcs8_der(),
            };
            document.ok().map(|document| document.as_bytes().to_vec())
        });
        exported.collect()
    }

    /// The content key that one of `recipients` carries to one of these keys, and which that is.
    #[must_use]
    pub fn open(&self, recipients: &[RecipientInfo]) -> Option<Opened> {
        let opened = |info: &RecipientInfo, key: &PrivateKey| {
            Some(Opened { content_key: key.open(info)?, public: key.public() })
        };
        recipients.iter().find_map(|info| self.0.iter().find_map(|key| opened(info, key)))
    }
}

/// How many rounds of deriving keys may still be done.
struct Work(u64);

impl Default for Work {
    fn default() -> Self {
        Self(ROUNDS)
    }
}

impl Work {
    fn take(&mut self, rounds: u64) -> Result<(), Locked> {
        self.0 = self.0.checked_sub(rounds).ok_or(Locked::Costly)?;
        Ok(())
    }

    /// What deriving a key as `scheme` says takes.
    fn take_pbes2(&mut self, scheme: &EncryptionScheme<'_>) -> Result<(), Locked> {
        match scheme.pbes2().map(|parameters| &parameters.kdf) {
            Some(Kdf::Pbkdf2(parameters)) => self.take(parameters.iteration_count.into()),
            Some(Kdf::Scrypt(parameters)) => {
                // RFC 7914, section 2.
                let memory = parameters.cost_parameter.saturating_mul(128 * u64::from(parameters.block_size));
                if memory > SCRYPT_MEMORY {
                    return Err(Locked::Costly);
                }
                self.take(memory.saturating_mul(parameters.parallelization.into()) / SCRYPT_ROUND)
            }
            // No other derives a key.
            _ => Ok(()),
        }
    }
}

/// A key in PKCS #8, locked or not, in PKCS #1 or in SEC 1.
fn read_der(octets: &[u8], password: &str, work: &mut Work) -> Result<PrivateKey, Locked> {
    if let Ok(locked) = EncryptedPrivateKeyInfo::from_der(octets) {
        let unlocked = unlock(locked.encryption_algorithm, locked.encrypted_data.as_bytes(), password, work)?;
        // By chance a wrong password leaves a proper end, and no key before it.
        let unlocked = ber::to_der(&unlocked).map_err(|_| Locked::Password)?;
        PrivateKeyInfo::try_from(&**unlocked).map_err(|_| Locked::Password)?;
        return read_unlocked(&unlocked);
    }
    read_unlocked(octets)
}

/// The curves are tried from the shortest on: a shorter number could be one of a longer curve.
fn read_unlocked(octets: &[u8]) -> Result<PrivateKey, Locked> {
    let rsa = RsaPrivateKey::from_pkcs8_der(octets).ok();
    let rsa = rsa.or_else(|| RsaPrivateKey::from_pkcs1_der(octets).ok());
    let key = rsa.map(|key| PrivateKey::Rsa(Box::new(key)));
    let key = key.or_else(|| on_curve(octets).map(PrivateKey::P256));
    let key = key.or_else(|| on_curve(octets).map(PrivateKey::P384));
    let key = key.or_else(|| on_curve(octets).map(PrivateKey::P521));
    key.ok_or_else(|| if has_more_primes(octets) { Locked::MultiPrime } else { Locked::Unsupported })
}

/// Whether it is an RSA key with more than two primes, in PKCS #8 or PKCS #1.
fn has_more_primes(octets: &[u8]) -> bool {
    let inside = PrivateKeyInfo::from_der(octets).map_or(octets, |info| info.private_key);
    rsa::pkcs1::RsaPrivateKey::from_der(inside).is_ok_and(|key| key.version() == rsa::pkcs1::Version::Multi)
}

fn on_curve<C>(octets: &[u8]) -> Option<SecretKey<C>>
where
    C: AssociatedOid + Curve + ValidatePublicKey,
    FieldBytesSize<C>: ModulusSize,
{
    let key = SecretKey::from_pkcs8_der(octets).ok();
    key.or_else(|| SecretKey::from_sec1_der(octets).ok())
}

/// The keys in a PKCS #12 file (RFC 7292). Its code of integrity is not looked at: a key that was changed opens nothing.
fn read_pfx(pfx: &Pfx, password: &str, work: &mut Work) -> Result<Vec<PrivateKey>, Locked> {
    let mut keys = Vec::new();
    for part in bundle::parts(pfx)? {
        let is_locked = part.content_type != DATA;
        let content = if part.content_type == DATA {
            let content: OctetStringRef<'_> = part.content.decode_as()?;
            Zeroizing::new(content.as_bytes().to_vec())
        } else {
            let (scheme, octets) = encrypted(&part.content)?;
            match unlock(scheme, &octets, password, work) {
                Ok(content) => content,
                // Certificates, encrypted as was usual once. They are not needed.
                Err(Locked::Unknown(_)) => continue,
                Err(error) => return Err(error),
            }
        };
        let bags = ber::to_der(&content).and_then(|der| SafeContents::from_der(&der));
        for bag in if is_locked { bags.map_err(|_| Locked::Password)? } else { bags? } {
            let value = bundle::bag_value(&bag.bag_value)?;
            match bag.bag_id {
                pkcs12::PKCS_12_KEY_BAG_OID => keys.push(read_unlocked(value)?),
                pkcs12::PKCS_12_PKCS8_KEY_BAG_OID => keys.push(read_der(value, password, work)?),
                _ => {}
            }
        }
    }
    Ok(keys)
}

/// What is encrypted in an encrypted-data, and how (RFC 5652, section 8). As its type is implied, pieces of it look like something else
/// unless one knows where they are.
fn encrypted(data: &Any) -> Result<(AlgorithmIdentifierOwned, Zeroizing<Vec<u8>>), der::Error> {
    const WHOLE: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber::N0 };
    const PIECES: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };
    data.tag().assert_eq(Tag::Sequence)?;
    let mut fields = SliceReader::new(data.value())?;
    // The version, of which there are two, with the same next field.
    u8::decode(&mut fields)?;
    AnyRef::decode(&mut fields)?.sequence(|content| {
        ObjectIdentifier::decode(content)?;
        let scheme = AlgorithmIdentifierOwned::decode(content)?;
        let octets: AnyRef<'_> = content.decode()?;
        let octets = match octets.tag() {
            WHOLE => Zeroizing::new(octets.value().to_vec()),
            PIECES => ber::joined(octets.value())?,
            other => return Err(other.unexpected_error(Some(WHOLE))),
        };
        Ok((scheme, octets))
    })
}

/// Decrypts `octets` as the algorithm `scheme` says: PBES2 (RFC 8018), or Triple DES as PKCS #12 used it before.
fn unlock(
    scheme: AlgorithmIdentifierOwned,
    octets: &[u8],
    password: &str,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, Locked> {
    let scheme = completed(scheme.clone()).unwrap_or(scheme);
    let encoded = scheme.to_der()?;
    if let Ok(scheme) = EncryptionScheme::from_der(&encoded) {
        work.take_pbes2(&scheme)?;
        let plain = scheme.decrypt(password, octets);
        return plain.map(Zeroizing::new).map_err(|_| Locked::Password);
    }
    if scheme.oid != pkcs12::PKCS_12_PBE_WITH_SHAAND3_KEY_TRIPLE_DES_CBC {
        return Err(Locked::Unknown(scheme.oid));
    }
    let parameters = scheme.parameters.ok_or_else(|| Locked::Broken("a cipher without parameters".into()))?;
    let parameters: Pkcs12PbeParams = parameters.decode_as()?;
    let (salt, rounds) = (parameters.salt.as_bytes(), parameters.iterations);
    let count = u64::try_from(rounds).ok().filter(|count| *count > 0 && !salt.is_empty());
    let count = count.ok_or_else(|| Locked::Broken("the parameters of a cipher".into()))?;
    // Once for the key, and once for the initialisation vector.
    work.take(count.saturating_mul(2))?;
    let derive =
        |what, length| derive_key_utf8::<Sha1>(password, salt, what, rounds, length).map(Zeroizing::new);
    let key = derive(Pkcs12KeyType::EncryptionKey, TRIPLE_DES.0)?;
    let vector = derive(Pkcs12KeyType::Iv, TRIPLE_DES.1)?;
    let cipher = cbc::Decryptor::<des::TdesEde3>::new_from_slices(&key, &vector);
    let cipher = cipher.map_err(|error| Locked::Broken(error.to_string()))?;
    let mut plain = Zeroizing::new(octets.to_vec());
    let length = cipher.decrypt_padded_mut::<Pkcs7>(&mut plain).map_err(|_| Locked::Password)?.len();
    plain.truncate(length);
    Ok(plain)
}

/// The parameters of PBES2 and of PBKDF2 (RFC 8018, appendix A).
#[derive(der::Sequence)]
struct Pbes2 {
    derivation: AlgorithmIdentifierOwned,
    cipher: AlgorithmIdentifierOwned,
}

#[derive(der::Sequence)]
struct Pbkdf2 {
    salt: Any,
    rounds: u32,
    #[asn1(optional = "true")]
    length: Option<u16>,
    #[asn1(optional = "true")]
    function: Option<AlgorithmIdentifierOwned>,
}

/// PBES2 with the NULL behind the function of PBKDF2, where NSS leaves it out; `None` for anything else.
fn completed(mut scheme: AlgorithmIdentifierOwned) -> Option<AlgorithmIdentifierOwned> {
    let mut pbes2: Pbes2 = scheme.parameters?.decode_as().ok()?;
    let mut pbkdf2: Pbkdf2 = pbes2.derivation.parameters?.decode_as().ok()?;
    pbkdf2.function.as_mut()?.parameters.get_or_insert(Any::encode_from(&Null).ok()?);
    pbes2.derivation.parameters = Some(Any::encode_from(&pbkdf2).ok()?);
    scheme.parameters = Some(Any::encode_from(&pbes2).ok()?);
    Some(scheme)
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{self, Pbkdf2Params, ScryptParams};

    use super::*;

    /// What reading a key gives that is locked with a password that is made into a key so.
    fn read(kdf: Kdf<'_>) -> Result<PrivateKeys, Locked> {
        let scheme: EncryptionScheme<'_> =
            pbes2::Parameters { kdf, encryption: pbes2::EncryptionScheme::Aes256Cbc { iv: &[0; 16] } }.into();
        let locked =
            pkcs8::EncryptedPrivateKeyInfo { encryption_algorithm: scheme, encrypted_data: &[0; 32] };
        PrivateKeys::read(&locked.to_der().unwrap(), "secret")
    }

    #[test]
    fn passwords_are_tried_in_bounded_time_and_memory() {
        let pbkdf2 = |rounds| read(Pbkdf2Params::hmac_with_sha256(rounds, b"salt").unwrap().into());
        let scrypt = |cost_parameter, block_size, parallelization| {
            let (salt, key_length) = (&b"salt"[..], None);
            read(ScryptParams { salt, cost_parameter, block_size, parallelization, key_length }.into())
        };
        for (costly, usual) in
            [(pbkdf2(ROUNDS as u32 + 1), pbkdf2(2048)), (scrypt(1 << 21, 8, 1), scrypt(1 << 14, 8, 1))]
        {
            assert_eq!((costly.err(), usual.err()), (Some(Locked::Costly), Some(Locked::Password)));
        }
        assert_eq!(scrypt(1 << 14, 8, u16::MAX).err(), Some(Locked::Costly));
        assert_eq!(scrypt(1 << 62, u16::MAX, u16::MAX).err(), Some(Locked::Costly));
    }

    #[test]
    fn all_keys_in_a_file_share_the_work() {
        let mut work = Work::default();
        assert_eq!(
            (work.take(ROUNDS / 2), work.take(ROUNDS / 2), work.take(1)),
            (Ok(()), Ok(()), Err(Locked::Costly))
        );
    }
}
