//! What is sealed to S/MIME certificates comes back byte for byte, and certificates are worth what they are. Other programs read
//! what is written here in `tests/programs/smime.rs`.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use cms::cert::IssuerAndSerialNumber;
use cms::content_info::CmsVersion;
use cms::enveloped_data::{KeyTransRecipientInfo, RecipientIdentifier, RecipientInfo};
use der::Encode as _;
use der::asn1::{Any, ObjectIdentifier, OctetString};
use sequoia_openpgp::packet::PKESK;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::certificate::{Certificate, Unreadable};
use super::enveloped::{Enveloped, Method};
use super::fitness::assess;
use super::recipient::{ContentKey, KeyTransport};
use super::secret::{Locked, PrivateKeys};
use super::{bundle, open};
use crate::cert::{Fitness, Lapse, Unfit};
use crate::classify::{Encrypted, classify};
use crate::error::Error;
use crate::limits;
use crate::message::opening::Opening;
use crate::openpgp::padding::Padding;
use crate::protect::Policy;
use crate::recipients::{Format, Recipients, Warning, WhenExpired};
use crate::seal::{Sealed, Sealer};
use crate::unseal::keys::{Key, Keys, Opened};
use crate::unseal::original::Endings;
use crate::unseal::{Expansion, Foreign, Inspected, Unsealed, inspect, prove, unseal};

const POLICIES: [Policy; 4] = [Policy::None, Policy::Baseline, Policy::Shy, Policy::Strict];

const KEYS: [&str; 5] = ["rsa", "rsa-4096", "p256", "p384", "p521"];

/// The time at which the certificates are looked at: 2027.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../fixtures/smime/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let found = bundle::read(&file(&format!("{name}.pem")));
    found.unwrap().pop().unwrap()
}

/// Whoever has these private keys.
struct Holder(PrivateKeys);

impl Keys for Holder {
    fn session_key(&self, _: &[PKESK]) -> Result<Option<Key>, Error> {
        Ok(None)
    }

    fn content_key(&self, recipients: &[RecipientInfo]) -> Result<Option<Opened>, Error> {
        Ok(self.0.open(recipients))
    }
}

fn holder(name: &str) -> Holder {
    Holder(PrivateKeys::read(&file(&format!("{name}.key")), "").unwrap())
}

fn recipients(names: &[&str]) -> Recipients {
    let certificates: Vec<_> = names.iter().map(|name| certificate(name)).collect();
    Recipients::choose_smime("alice", &certificates, &[], WhenExpired::Encrypt, now()).unwrap()
}

fn seal(sealer: &Sealer<'_>, mail: &[u8]) -> (Vec<u8>, Sealed) {
    let (mut rest, mut out) = (mail, Vec::new());
    let opening = Opening::read(&mut rest).unwrap();
    let sealed = sealer.seal(&opening, &mut rest, &mut out).unwrap();
    (out, sealed)
}

fn sealed(names: &[&str], mail: &[u8], policy: Policy) -> Vec<u8> {
    seal(&Sealer::to(&recipients(names), policy), mail).0
}

/// What comes back, and whether it is exact.
fn opened(sealed: &[u8], keys: &dyn Keys) -> Result<Result<(Vec<u8>, bool), Foreign>, Error> {
    let mut rest = sealed;
    let opening = Opening::read(&mut rest)?;
    let most = Expansion::default().most(sealed.len() as u64);
    Ok(match unseal(&opening, rest, keys, Endings::Original, most)? {
        Unsealed::Original(mut original) => {
            let mut mail = Vec::new();
            original.write_to(&mut mail)?;
            Ok((mail, original.exact))
        }
        Unsealed::Foreign(foreign) => Err(foreign),
    })
}

#[track_caller]
fn assert_comes_back(sealed: &[u8], keys: &dyn Keys, mail: &[u8], name: &str) {
    let (back, exact) = opened(sealed, keys).unwrap().unwrap();
    assert!(exact && back == mail, "{name}: {}", String::from_utf8_lossy(&back));
}

/// A message whose body has so many octets.
fn message(octets: usize) -> Vec<u8> {
    let body: Vec<u8> =
        (0..octets).map(|i| if i % 71 == 70 { b'\n' } else { b'a' + (i * i % 23) as u8 }).collect();
    [&b"From: bob@example.org\nSubject: Lunch\nX-Other: 1\n\n"[..], &body].concat()
}

#[test]
fn every_mail_of_the_fixtures_comes_back() {
    let folders =
        ["mails", "protect"].map(|name| format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR")));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
    assert!(paths.len() > 100);
    let holder = holder("p256");
    for path in paths {
        let mail = std::fs::read(&path).unwrap();
        for policy in POLICIES {
            let name = format!("{} {policy:?}", path.display());
            assert_comes_back(&sealed(&["p256"], &mail, policy), &holder, &mail, &name);
        }
    }
}

#[test]
fn every_size_round_a_border_comes_back() {
    let holder = holder("p256");
    let recipients = recipients(&["p256"]);
    let sealer = Sealer::to(&recipients, Policy::None);
    let authenticated = self::recipients(&["p256-gcm"]);
    let with_gcm = Sealer::to(&authenticated, Policy::None);
    // What stands before the body inside moves the borders of blocks and strings: all of them are among these.
    for border in [0, 16 * 1024, 32 * 1024, 64 * 1024, 128 * 1024, limits::LOOK_AHEAD] {
        for size in border.saturating_sub(140)..border + 40 {
            let mail = message(size);
            assert_comes_back(&seal(&sealer, &mail).0, &holder, &mail, &size.to_string());
            assert_comes_back(&seal(&with_gcm, &mail).0, &holder, &mail, &format!("{size} with GCM"));
        }
    }
}

#[test]
fn gcm_is_used_where_every_certificate_lists_it() {
    let mail = message(5000);
    for (names, format) in [
        (&["p256-gcm"][..], Format::AuthEnvelopedData),
        (&["rsa-gcm"], Format::AuthEnvelopedData),
        (&["rsa-gcm", "p256-gcm"], Format::AuthEnvelopedData),
        (&["rsa-gcm", "p256"], Format::EnvelopedData),
        (&["rsa"], Format::EnvelopedData),
    ] {
        let to = recipients(names);
        let (sealed, told) = seal(&Sealer::to(&to, Policy::Baseline), &mail);
        assert_eq!(told.format, format, "{names:?}");
        let malleable: &[Warning] = if format == Format::EnvelopedData { &[Warning::Malleable] } else { &[] };
        assert_eq!(told.warnings, malleable, "{names:?}");
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert_eq!(text.contains("smime-type=authEnveloped-data;"), malleable.is_empty(), "{text}");
        for name in names {
            assert_comes_back(&sealed, &holder(name.trim_end_matches("-gcm")), &mail, name);
        }
        let opening = Opening::read(&mut &*sealed).unwrap();
        assert_eq!(classify(opening.head(), opening.body(), true), Some(Encrypted::Smime));
    }
    // The recovery certificate has to read it as well.
    let (own, recovery) = ([certificate("p256-gcm")], [certificate("rsa")]);
    let both = Recipients::choose_smime("alice", &own, &recovery, WhenExpired::Encrypt, now()).unwrap();
    assert_eq!(seal(&Sealer::to(&both, Policy::None), &mail).1.format, Format::EnvelopedData);
    assert_eq!(Format::AuthEnvelopedData.name(), "cms-gcm");
}

/// Whatever octet of a message with GCM is changed: it is opened as it was, or not at all.
#[test]
fn what_is_changed_under_gcm_is_never_given_out() {
    let mail = message(600);
    let sealed = sealed(&["p256-gcm"], &mail, Policy::None);
    let holder = holder("p256");
    let start = Opening::read(&mut &*sealed).unwrap().head().fields().len() + 1;
    let mut refused = 0;
    for at in start..sealed.len() {
        for character in *b"A/=\n" {
            let mut changed = sealed.clone();
            changed[at] = character;
            match opened(&changed, &holder) {
                Ok(Ok((back, _))) => assert!(back == mail, "{at}: {}", String::from_utf8_lossy(&back)),
                Ok(Err(_)) | Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 3 * (sealed.len() - start), "{refused}");
}

/// Each recipient of a message may cost an operation with a private key.
#[test]
fn messages_with_too_many_recipients_are_not_opened() {
    let one = |number: u16| {
        RecipientInfo::Ktri(KeyTransRecipientInfo {
            version: CmsVersion::V0,
            rid: RecipientIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: Name::default(),
                serial_number: SerialNumber::new(&number.to_be_bytes()).unwrap(),
            }),
            key_enc_alg: AlgorithmIdentifierOwned {
                oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
                parameters: None,
            },
            enc_key: OctetString::new([1]).unwrap(),
        })
    };
    let read = |count: u16| {
        let recipients: Vec<_> = (0x1000..0x1000 + count).map(one).collect();
        let content = Enveloped::new(Vec::new(), Method::Cbc, &ContentKey::default(), &recipients).unwrap();
        let message = content.finish().unwrap();
        open::Enveloped::read(&*message).unwrap().map(|read| read.recipients.len())
    };
    let most = limits::CMS_RECIPIENTS;
    assert_eq!((read(1), read(most as u16), read(most as u16 + 1)), (Some(1), Some(most), None));
}

#[test]
fn every_kind_of_key_opens_it_and_it_counts_as_encrypted() {
    let mail = message(5000);
    for transport in [KeyTransport::Pkcs1, KeyTransport::Oaep] {
        let all = recipients(&KEYS).with_key_transport(transport);
        let (sealed, told) = seal(&Sealer::to(&all, Policy::Baseline), &mail);
        assert_eq!((told.format, &told.warnings[..]), (Format::EnvelopedData, &[Warning::Malleable][..]));
        assert_eq!(told.format.name(), "cms-cbc");
        assert_eq!(told.key_ids, KEYS.map(|name| certificate(name).id()));
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert!(text.contains("\nSubject: [...]\n") && !text.contains("Lunch"), "{text}");
        for name in KEYS {
            assert_comes_back(&sealed, &holder(name), &mail, name);
        }
        let opening = Opening::read(&mut &*sealed).unwrap();
        assert_eq!(classify(opening.head(), opening.body(), true), Some(Encrypted::Smime));
        let Inspected::Sealed(envelope) = inspect(&opening, std::io::empty()).unwrap() else { panic!() };
        assert!(envelope.ours && envelope.is_smime() && !envelope.gpgit);
        let (mut found, mut expected) = (envelope.recipients(), told.key_ids);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert!(found.iter().all(|id| all.have_key(id)) && !all.have_key(&certificate("pss").id()));
    }
}

#[test]
fn most_recipients_still_count_as_encrypted_and_more_are_refused() {
    let made: Vec<Certificate> = (0..100u16)
        .map(|number| {
            let serial = certificate("rsa-4096").fields().serial_number.as_bytes().to_vec();
            let old = [&[2, 2][..], &serial].concat();
            let der = certificate("rsa-4096").der().to_vec();
            let at = memchr::memmem::find(&der, &old).unwrap();
            let new = [&[2, 2][..], &(0x2000 + number).to_be_bytes()].concat();
            Certificate::from_der(&[&der[..at], &new, &der[at + 4..]].concat()).unwrap()
        })
        .collect();
    let choose =
        |count| Recipients::choose_smime("alice", &made[..count], &[], WhenExpired::Encrypt, now()).unwrap();
    let most = (1..100).rev().find(|count| choose(*count).session().is_ok()).unwrap();
    assert!((40..60).contains(&most), "{most}");
    let (sealed, _) = seal(&Sealer::to(&choose(most), Policy::None), &message(100));
    let opening = Opening::read(&mut &*sealed).unwrap();
    assert_eq!(classify(opening.head(), opening.body(), true), Some(Encrypted::Smime));
    let error = choose(most + 1).session().unwrap_err().to_string();
    assert!(error.contains("more than fit into a message"), "{error}");
}

#[test]
fn the_outside_is_what_readers_know() {
    let mail = b"From: a@b\r\nMime-Version: 1.0\r\nContent-Type: text/html\r\nSubject: s\r\n\r\nbody\r\n";
    let sealed = sealed(&["rsa"], mail, Policy::None);
    let text = String::from_utf8(sealed).unwrap();
    let expected = "From: a@b\r\n\
                    MIME-Version: 1.0\r\n\
                    Content-Type: application/pkcs7-mime; smime-type=enveloped-data;\r\n\tname=\"smime.p7m\"\r\n\
                    Content-Transfer-Encoding: base64\r\n\
                    Content-Disposition: attachment; filename=\"smime.p7m\"\r\n\
                    Content-Description: S/MIME message, sealed at rest by mailseal\r\n\
                    Subject: s\r\n\r\nMIAGCSqGSIb3DQEHA6CAMIACAQ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("\r\n") && text.lines().all(|line| line.len() <= 77));
}

#[test]
fn other_keys_do_not_open_it() {
    let mail = message(100);
    let ours = sealed(&["rsa"], &mail, Policy::None);
    for name in ["rsa-4096", "p256"] {
        let error = opened(&ours, &holder(name)).unwrap_err();
        assert!(
            matches!(&error, Error::NoSecretKey { recipients } if *recipients == certificate("rsa").id()),
            "{error}"
        );
    }
    // The same without our description: a sender's.
    let text = String::from_utf8(ours).unwrap();
    let theirs = text.replace("S/MIME message, sealed at rest by mailseal", "S/MIME");
    assert_eq!(opened(theirs.as_bytes(), &holder("p256")).unwrap(), Err(Foreign::Encrypted));
    // What is inside tells that it is ours all the same.
    assert_comes_back(theirs.as_bytes(), &holder("rsa"), &mail, "without a description");
}

#[test]
fn what_a_sender_encrypted_stays() {
    // Ours in all but the record.
    let mail = message(100);
    let session = recipients(&["p256"]).session().unwrap();
    let crate::recipients::Session::Smime(session) = session else { panic!() };
    let mut content = Enveloped::new(Vec::new(), Method::Cbc, &session.key, &session.recipients).unwrap();
    std::io::Write::write_all(&mut content, &mail).unwrap();
    let body = base64_simd::STANDARD.encode_to_string(content.finish().unwrap());
    let header = "From: a@b\nContent-Type: application/pkcs7-mime\nContent-Transfer-Encoding: Base64\n";
    let theirs = format!("{header}\n{body}\n");
    assert_eq!(opened(theirs.as_bytes(), &holder("p256")).unwrap(), Err(Foreign::Encrypted));
    let claimed = format!("{header}Content-Description: {}\n\n{body}\n", crate::seal::envelope::DESCRIPTION);
    assert!(matches!(opened(claimed.as_bytes(), &holder("p256")), Err(Error::Damaged { .. })));
}

/// Nothing tells when ciphertext is changed; all that is cut off, or follows, is.
#[test]
fn what_is_cut_off_or_followed_is_damaged() {
    for name in ["p256", "p256-gcm"] {
        assert_end_is_demanded(&message(3000), name);
    }
}

fn assert_end_is_demanded(mail: &[u8], name: &str) {
    let sealed = sealed(&[name], mail, Policy::None);
    let holder = holder("p256");
    let start = Opening::read(&mut &*sealed).unwrap().head().fields().len() + 1;
    // Its last blank alone may go.
    for end in start..sealed.len() - 1 {
        assert!(opened(&sealed[..end], &holder).is_err(), "cut off at {end} of {}", sealed.len());
    }
    for more in ["x", "AAAA", "\nAAAA\n", "-- \nfooter\n"] {
        let followed = [&sealed, more.as_bytes()].concat();
        assert!(opened(&followed, &holder).is_err(), "{more:?}");
    }
    assert_comes_back(&[&sealed, &b" \n\n"[..]].concat(), &holder, mail, "blank lines");
    let opening = Opening::read(&mut &*sealed).unwrap();
    let mut plain = Vec::new();
    prove(&opening, std::io::empty(), &holder, u64::MAX, &mut plain).unwrap();
    assert!(plain.ends_with(b"\r\n") || plain.len() > mail.len());
}

/// No octet that is changed makes it panic, or loop.
#[test]
fn changed_octets_do_no_harm() {
    let sealed = sealed(&["p256", "rsa"], &message(600), Policy::None);
    let holder = holder("p256");
    let start = Opening::read(&mut &*sealed).unwrap().head().fields().len() + 1;
    for at in start..sealed.len() {
        for character in *b"A/=\n" {
            let mut changed = sealed.clone();
            changed[at] = character;
            let _ = opened(&changed, &holder);
        }
    }
}

#[test]
fn a_record_is_a_line_of_its_own() {
    let record = "mailseal1;eol=lf;at=";
    for (content, rest) in [
        (format!("{}{record}\r\nA: b\r\n", open::RECORD_FIELD), Some("A: b\r\n")),
        (format!("{}{record}\nA: b\n", open::RECORD_FIELD), Some("A: b\n")),
        (format!("{}{record}", open::RECORD_FIELD), None),
        (format!("A: b\n{}{record}\n", open::RECORD_FIELD), None),
        (format!("{}mailseal1;{}\n", open::RECORD_FIELD, "x".repeat(300)), None),
        (String::new(), None),
    ] {
        let mut left = content.as_bytes();
        let found = open::take_record(&mut left).unwrap();
        assert_eq!(found.is_some(), rest.is_some(), "{content:?}");
        if let Some(rest) = rest {
            assert_eq!(left, rest.as_bytes());
        }
    }
}

#[test]
fn nothing_is_filled_up() {
    let recipients = recipients(&["p256"]);
    let sealer = Sealer { padding: Padding::Padme, ..Sealer::to(&recipients, Policy::None) };
    let opening = Opening::read(&mut &*message(10)).unwrap();
    assert!(matches!(sealer.begin(&opening), Err(Error::SmimePadding)));
}

#[test]
fn certificates_are_worth_what_they_say() {
    let form = |text: &str| Fitness::Unfit(Unfit::Form(text.into()));
    let policy = |text: &str| Fitness::Unfit(Unfit::Policy(text.into()));
    for (name, expected) in [
        ("rsa.pem", Fitness::Fit),
        ("rsa-4096.pem", Fitness::Fit),
        ("p256.pem", Fitness::Fit),
        ("p384.pem", Fitness::Fit),
        ("p521.pem", Fitness::Fit),
        ("any-use.pem", Fitness::Fit),
        ("no-use.pem", Fitness::Fit),
        ("pss.pem", Fitness::Fit),
        ("expired.pem", Fitness::Lapsed(Lapse::Expired)),
        ("future.pem", Fitness::Unfit(Unfit::Future)),
        ("authority.pem", Fitness::Unfit(Unfit::Authority)),
        ("no-key-usage.pem", Fitness::Unfit(Unfit::NoKeyUsage)),
        ("sign-only.pem", Fitness::Unfit(Unfit::NoEncryptionKey)),
        ("agrees-with-rsa.pem", Fitness::Unfit(Unfit::NoEncryptionKey)),
        ("tls.pem", Fitness::Unfit(Unfit::NotForMail)),
        ("rsa-1024.pem", policy("RSA with 1024 bits")),
        ("secp256k1.pem", Fitness::Unfit(Unfit::Unsupported("the curve 1.3.132.0.10".into()))),
        ("ed25519.pem", Fitness::Unfit(Unfit::Unsupported("1.3.101.112".into()))),
        (
            "x25519.pem",
            Fitness::Unfit(Unfit::Unsupported(
                "X25519 (RFC 8418), which no mail program is known to open".into(),
            )),
        ),
        ("md5.der", policy("it is signed over MD5")),
        ("sha1.der", policy("it is signed over SHA-1")),
        ("pss-sha1.pem", policy("it is signed over SHA-1")),
        ("pss-md5.der", policy("it is signed over MD5")),
        (
            "pss-unknown.der",
            policy("it is signed with an algorithm that is not known: 2.16.840.1.101.3.4.2.127"),
        ),
        ("rsa-gcm.pem", Fitness::Fit),
        (
            "unknown-signature.der",
            policy("it is signed with an algorithm that is not known: 1.2.840.113549.1.1.127"),
        ),
        ("critical.pem", form("it has a critical extension that is not known: 1.2.3.4")),
        ("long-issuer.pem", form("its issuer's name is longer than 384 octets")),
        ("negative.der", form("its serial number is negative")),
    ] {
        let [certificate] = &bundle::read(&file(name)).unwrap()[..] else { panic!("{name}") };
        let assessment = assess(certificate, now());
        assert_eq!(assessment.fitness, expected, "{name}");
        assert_eq!(assessment.key.is_some(), !matches!(expected, Fitness::Unfit(_)), "{name}");
    }
    assert_eq!(assess(&certificate("rsa"), now()).key.unwrap().name(), "RSA-2048");
    assert_eq!(assess(&certificate("p521"), now()).key.unwrap().name(), "P-521");
}

#[test]
fn certificates_are_chosen_as_openpgp_s_are() {
    let choose = |names: &[&str], recovery: &[&str], when_expired| {
        let all = |names: &[&str]| names.iter().map(|name| certificate(name)).collect::<Vec<_>>();
        Recipients::choose_smime("alice", &all(names), &all(recovery), when_expired, now())
    };
    let warnings = |names: &[&str]| choose(names, &[], WhenExpired::Encrypt).unwrap().warnings().to_vec();
    assert_eq!(warnings(&["rsa"]), []);
    assert_eq!(warnings(&["expired"]), [Warning::Expired]);
    assert_eq!(warnings(&["expired", "rsa"]), [Warning::SomeKeysUnusable]);
    assert_eq!(warnings(&["rsa", "tls"]), [Warning::SomeKeysUnusable]);
    let error = choose(&["expired", "tls"], &[], WhenExpired::Defer).unwrap_err().to_string();
    assert!(error.contains("expired; ") && error.contains("not for mail"), "{error}");
    let error = choose(&["rsa"], &["expired"], WhenExpired::Encrypt).unwrap_err();
    assert!(matches!(error, Error::Recovery(_)));
    let both = choose(&["rsa"], &["p384"], WhenExpired::Encrypt).unwrap();
    assert_eq!(both.fingerprints().len(), 2);
    let mail = message(10);
    let (sealed, _) = seal(&Sealer::to(&both, Policy::None), &mail);
    assert_comes_back(&sealed, &holder("p384"), &mail, "recovery");
}

/// The certificate `name`, with something changed before it was signed.
fn changed(name: &str, change: impl FnOnce(&mut x509_cert::TbsCertificate)) -> Certificate {
    let mut signed = certificate(name).signed().clone();
    change(&mut signed.tbs_certificate);
    Certificate::from_der(&signed.to_der().unwrap()).unwrap()
}

#[test]
fn broken_certificates_are_unfit() {
    let strings = |octets: &'static [u8]| {
        move |fields: &mut x509_cert::TbsCertificate| {
            let mut part = fields.issuer.0[0].0.get(0).unwrap().clone();
            part.value = Any::new(der::Tag::BmpString, octets).unwrap();
            fields.issuer.0[0].0 = vec![part].try_into().unwrap();
        }
    };
    assert_eq!(assess(&changed("rsa", strings(b"\0A")), now()).fitness, Fitness::Fit);
    let sha1 = |fields: &mut x509_cert::TbsCertificate| {
        fields.signature.oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
    };
    for (certificate, told) in [
        (changed("rsa", strings(b"\0A\0")), "its issuer's name is broken: a BMPString that is none"),
        (changed("rsa", sha1), "it is broken: it names two algorithms for its signature"),
    ] {
        assert_eq!(assess(&certificate, now()).fitness, Fitness::Unfit(Unfit::Form(told.into())));
    }
}

/// Readers find what is for them by issuer and serial number, and take the first that bears them.
#[test]
fn no_two_recipients_bear_the_same_name() {
    let choose = |certificates: &[Certificate], recovery: &[Certificate]| {
        Recipients::choose_smime("alice", certificates, recovery, WhenExpired::Encrypt, now())
    };
    let one = certificate("rsa");
    let named = |name: &str| {
        changed(name, |fields| {
            fields.serial_number = one.fields().serial_number.clone();
            // As some programs compare names, this one is the same.
            fields.issuer = "CN=example ca".parse().unwrap();
        })
    };
    let (other, again) = (named("rsa-4096"), named("rsa-gcm"));
    let error = choose(&[one.clone(), other.clone()], &[]).unwrap_err();
    assert!(matches!(error, Error::NoUsableKey { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains(&one.fingerprint()) && told.contains(&other.fingerprint()), "{told}");
    for (certificates, recovery) in
        [(&[one.clone()][..], &[other.clone()][..]), (&[certificate("p256")], &[one.clone(), other])]
    {
        assert!(matches!(choose(certificates, recovery), Err(Error::Recovery(_))));
    }
    let to = choose(&[one, again], &[]).unwrap();
    let mail = message(10);
    assert_comes_back(&seal(&Sealer::to(&to, Policy::None), &mail).0, &holder("rsa"), &mail, "one key");
}

#[test]
fn certificates_say_whether_their_owners_read_gcm() {
    for (name, reads) in [("rsa-gcm", true), ("p256-gcm", true), ("rsa", false), ("p256", false)] {
        assert_eq!(certificate(name).reads_gcm(), reads, "{name}");
    }
    // Broken, or listing something else.
    let der = certificate("rsa-gcm").der().to_vec();
    let at = memchr::memmem::rfind(&der, b"\x60\x86\x48\x01\x65\x03\x04\x01\x2e").unwrap();
    for (place, octet) in [(at + 8, 0x1a), (at - 1, 8), (at - 3, 0x0a), (at - 4, 0x31)] {
        let mut changed = der.clone();
        changed[place] = octet;
        assert!(!Certificate::from_der(&changed).unwrap().reads_gcm(), "{place}");
    }
}

#[test]
fn a_private_key_knows_its_certificate() {
    let to = recipients(&["rsa", "p256"]);
    for (name, is_one) in [("rsa", true), ("p256", true), ("p384", false), ("rsa-4096", false)] {
        let sealed = sealed(&[name], &message(10), Policy::None);
        let opening = Opening::read(&mut &*sealed).unwrap();
        let Inspected::Sealed(envelope) = inspect(&opening, std::io::empty()).unwrap() else { panic!() };
        let opened = holder(name).content_key(envelope.smime_recipients().unwrap()).unwrap().unwrap();
        assert_eq!(certificate(name).public_key(), Some(&*opened.public), "{name}");
        assert_eq!(to.have_smime_key(&opened.public), is_one, "{name}");
    }
}

#[test]
fn addresses_are_those_of_either_place() {
    for (name, addresses) in [
        ("rsa", &["alice@example.org"][..]),
        ("two-addresses", &["other@example.org", "Alice@Example.ORG"]),
        ("in-subject", &["alice@example.org"]),
        ("no-address", &[]),
    ] {
        let certificate = certificate(name);
        assert_eq!(certificate.addresses(), addresses, "{name}");
        assert_eq!(certificate.is_for("alice@example.org"), !addresses.is_empty(), "{name}");
        assert!(!certificate.is_for("bob@example.org"));
    }
}

#[test]
fn certificates_are_read_in_every_form() {
    let (rsa, p256) = (certificate("rsa"), certificate("p256"));
    for name in ["rsa.der", "rsa.pem", "certificate.p12"] {
        assert_eq!(bundle::read(&file(name)).as_deref(), Ok(&[rsa.clone()][..]), "{name}");
    }
    for name in ["two.der.p7b", "two.pem.p7b"] {
        let mut found = bundle::read(&file(name)).unwrap();
        found.sort_by_key(|one| one != &rsa);
        assert_eq!(found, [rsa.clone(), p256.clone()], "{name}");
    }
    let twice = [file("rsa.pem"), b"\n".to_vec(), file("p256.pem"), file("rsa.pem")].concat();
    assert_eq!(bundle::read(&twice).unwrap(), [rsa, p256]);
}

#[test]
fn private_keys_are_refused_where_certificates_are_asked_for() {
    let names =
        ["both.pem", "rsa.key", "p256.traditional.key", "rsa.locked.key", "rsa.open.p12", "rsa.openssl.p12"];
    for name in names {
        assert_eq!(bundle::read(&file(name)), Err(Unreadable::PrivateKey), "{name}");
    }
    assert_eq!(bundle::read(&file("certificate.locked.p12")), Err(Unreadable::Encrypted));
}

#[test]
fn what_is_no_certificate_is_told_in_bounded_time() {
    let der = file("rsa.der");
    for end in 0..der.len() {
        assert!(bundle::read(&der[..end]).is_err(), "cut off at {end}");
    }
    for (octets, expected) in [
        (&b""[..], "broken"),
        (b"text", "broken"),
        (b"-----BEGIN X-----\nAQID\n-----END X-----\n", "no certificate"),
        (b"0\x03\x01\x01\xff", "no certificate"),
        (&[&der[..], b"x"].concat(), "broken"),
    ] {
        let error = bundle::read(octets).unwrap_err().to_string();
        assert!(error.contains(expected), "{octets:?}: {error}");
    }
    // An extension of a megabyte.
    let length = |octets: usize| [&[0x83][..], &(octets as u32).to_be_bytes()[1..]].concat();
    let long = [&[0x30][..], &length(1_000_000), &[0x30], &length(999_990), &vec![0; 999_991]].concat();
    assert!(matches!(bundle::read(&long), Err(Unreadable::TooLong(1_000_000..))));
}

/// A PKCS #7 of certificates that differ in their serial numbers.
fn certificates(count: u32) -> Vec<u8> {
    let value = |tag: u8, content: &[u8]| {
        [&[tag, 0x83][..], &(content.len() as u32).to_be_bytes()[1..], content].concat()
    };
    let der = file("rsa.der");
    let at = memchr::memmem::find(
        &der,
        &[&[2, 2][..], certificate("rsa").fields().serial_number.as_bytes()].concat(),
    );
    let numbered = |number: u32| {
        let mut der = der.clone();
        der[at.unwrap() + 2..][..2].copy_from_slice(&(number as u16 + 0x1000).to_be_bytes());
        der
    };
    let all: Vec<u8> = (0..count).flat_map(numbered).collect();
    let fields = [
        &[2, 1, 1, 0x31, 0, 0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1][..],
        &value(0xa0, &all),
        &[0x31, 0],
    ];
    let signed = der_minimal(0x30, &fields.concat());
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    der_minimal(0x30, &[&oid[..], &der_minimal(0xa0, &signed)].concat())
}

/// A value with its length as DER wants it.
fn der_minimal(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|octet| *octet != 0).unwrap_or(7)..];
    let header = if content.len() < 128 { vec![tag] } else { vec![tag, 0x80 + length.len() as u8] };
    [&header[..], length, content].concat()
}

#[test]
fn a_thousand_certificates_are_refused_soon() {
    let started = std::time::Instant::now();
    assert_eq!(bundle::read(&certificates(1000)), Err(Unreadable::TooMany));
    assert_eq!(bundle::read(&certificates(100)).unwrap().len(), 100);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn private_keys_are_read_in_every_form() {
    let mail = message(10);
    let sealed = sealed(&["rsa", "p256"], &mail, Policy::None);
    for (name, password) in [
        ("rsa.key", ""),
        ("rsa.traditional.key", ""),
        ("rsa.locked.key", "secret"),
        ("both.pem", ""),
        ("rsa.p12", "secret"),
        ("rsa.old.p12", "secret"),
        ("rsa.openssl.p12", "secret"),
        ("rsa.legacy.p12", "secret"),
        ("rsa.open.p12", ""),
        ("rsa.nss.p12", "secret"),
        ("p256.key", ""),
        ("p256.traditional.key", ""),
        ("p256.locked.key", "secret"),
        ("p256.p12", "secret"),
    ] {
        let octets = file(name);
        assert!(PrivateKeys::seem_to_be_in(&octets), "{name}");
        let keys = PrivateKeys::read(&octets, password).unwrap_or_else(|error| panic!("{name}: {error}"));
        for exported in keys.export() {
            assert!(PrivateKeys::seem_to_be_in(&exported), "{name}");
            let again = PrivateKeys::read(&exported, "").unwrap();
            assert_comes_back(&sealed, &Holder(again), &mail, name);
        }
        assert_comes_back(&sealed, &Holder(keys), &mail, name);
        if password == "secret" {
            assert_eq!(PrivateKeys::read(&octets, "wrong").err(), Some(Locked::Password), "{name}");
        }
    }
    for (octets, expected) in [
        (file("rsa.pem"), Locked::Nothing),
        (file("certificate.p12"), Locked::Nothing),
        (b"text".to_vec(), Locked::Unsupported),
        (file("rsa-three-primes.key"), Locked::MultiPrime),
        (file("rsa-three-primes.traditional.key"), Locked::MultiPrime),
    ] {
        assert_eq!(PrivateKeys::read(&octets, "secret").err(), Some(expected));
    }
    assert!(!PrivateKeys::seem_to_be_in(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n"));
    assert!(!PrivateKeys::seem_to_be_in(
        &std::fs::read(format!("{}/../../fixtures/certs/rsa3072.sec.pgp", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    ));
}

/// A message too long to be held is streamed: what is read at once says how much of it lies in memory.
#[test]
fn a_long_message_is_streamed() {
    let recipients = recipients(&["p256"]);
    let mail = message(8 * 1024 * 1024);
    let mut rest = &*mail;
    let opening = Opening::read(&mut rest).unwrap();
    assert!(!opening.is_whole());
    let mut sealed = Vec::new();
    Sealer::to(&recipients, Policy::Baseline).seal(&opening, &mut rest.take(u64::MAX), &mut sealed).unwrap();
    assert_comes_back(&sealed, &holder("p256"), &mail, "long");
}
