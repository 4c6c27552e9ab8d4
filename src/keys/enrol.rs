//! Takes a certificate into service: chooses it, checks it, keeps of it what a delivery needs, and tries it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use mailseal_core::cert::{self, Fitness, Lapse, Unfit};
use mailseal_core::message::opening::Opening;
use mailseal_core::protect::Policy;
use mailseal_core::recipients::WhenExpired;
use mailseal_core::seal::Sealer;
use mailseal_core::smime::certificate::Certificate;
use mailseal_core::smime::chain::{self, Authorities, Untrusted};
use sequoia_openpgp::cert::amalgamation::ValidateAmalgamation as _;
use sequoia_openpgp::packet::{Key, Signature, key};
use sequoia_openpgp::policy::StandardPolicy;
#[cfg(feature = "network")]
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::{Cert, Packet};

use crate::config::Preference;
use crate::config::style::Style;
use crate::error::Error;
use crate::keys::addressee;
use crate::keys::revoked::Lists;
use crate::keystore;
use crate::keystore::any_cert::{AnyCert, Worth};

/// A certificate that expires within this time is warned about when it is enrolled.
pub const EXPIRES_SOON: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A certificate that may be put into service.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The certificate, without what a delivery does not need.
    pub cert: AnyCert,
    /// What it is worth.
    pub worth: Worth,
    /// What leads from it to an authority that is trusted, whose certificate is the last; empty where nobody has asked.
    pub way: Vec<Certificate>,
    /// What the admin should know.
    pub warnings: Vec<String>,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What may be a user's own.
    pub own: Vec<AnyCert>,
    /// S/MIME certificates of authorities, which lead from the user's own to others.
    pub authorities: Vec<Certificate>,
}

impl Found {
    /// Reads the certificates in `bytes`, read from `path`.
    ///
    /// # Errors
    /// [`Error::Enrol`] when [`keystore::parse`] refuses them.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let certs = keystore::parse(bytes, path).map_err(|error| match error {
            Error::KeyStore { path, what, hint } => Error::Enrol { path, what, hint },
            other => other,
        })?;
        let is_authority = |cert: &AnyCert| cert.smime().is_some_and(chain::is_authority);
        let authorities = certs.iter().filter(|cert| is_authority(cert));
        let authorities: Vec<_> = authorities.filter_map(AnyCert::smime).cloned().collect();
        let own = certs.iter().filter(|cert| !is_authority(cert)).cloned().collect();
        Ok(Self { own, authorities })
    }
}

/// Chooses and checks the certificates in `bytes`, read from `path`, for the user with `address` (where that is known).
///
/// One certificate is taken as it is; of several, as in a whole keyring, only those with the address. Those of authorities beside
/// a user's own do not count.
///
/// # Errors
/// [`Error::Enrol`] when [`keystore::parse`] refuses them, when none of several has the address, or one that has is
/// unfit.
pub fn candidates(
    bytes: &[u8],
    path: &Path,
    address: Option<&str>,
    now: SystemTime,
) -> Result<Vec<Candidate>, Error> {
    choose(Found::read(bytes, path)?, path, address, now)
}

/// The same, of what was read. A file that holds authorities' certificates alone is taken for a mistake: the first is refused as no
/// user's own.
///
/// # Errors
/// [`Error::Enrol`], as [`candidates`].
pub fn choose(
    found: Found,
    path: &Path,
    address: Option<&str>,
    now: SystemTime,
) -> Result<Vec<Candidate>, Error> {
    let failed = |what: String, hint: &str| Error::Enrol { path: path.into(), what, hint: hint.into() };
    let certs = if found.own.is_empty() {
        found.authorities.into_iter().map(|one| AnyCert::Smime(Box::new(one))).collect()
    } else {
        found.own
    };
    let several = certs.len() > 1;
    let mut chosen = Vec::new();
    for cert in certs {
        let mine = address.is_some_and(|address| has_address(&cert, address));
        if several && !mine {
            continue;
        }
        let candidate = check(&cert, address, now)
            .map_err(|what| failed(format!("{}: {what}", cert.fingerprint()), ask_owner(&cert, now)))?;
        chosen.push(candidate);
        if let (Some(address), false, Some(last)) = (address, mine, chosen.last_mut()) {
            let name = if last.cert.smime().is_some() { "name in it is" } else { "User ID has" };
            last.warnings.push(format!(
                "no {name} the address {address}: if it is not the user's, the user cannot read new mail; `mailseal keys remove` takes it away"
            ));
        }
    }
    if chosen.is_empty() {
        let what =
            format!("it holds several certificates, and none is for {}", address.unwrap_or("the user"));
        return Err(failed(what, "give the user's own alone (gpg --export FINGERPRINT; openssl x509)"));
    }
    Ok(chosen)
}

/// What the owner of an unfit certificate is to be asked for.
fn ask_owner(cert: &AnyCert, now: SystemTime) -> &'static str {
    match (cert, cert.assess(now).fitness) {
        (AnyCert::OpenPgp(_), Fitness::Lapsed(Lapse::Expired)) => {
            "ask the owner to extend it (gpg --quick-set-expire FINGERPRINT 2y, and the same with '*' for its subkeys), and to send it again"
        }
        (AnyCert::OpenPgp(cert), Fitness::Unfit(_)) if cert::has_librepgp_kyber(cert) => {
            "ask the owner to add a subkey that other programs know beside GnuPG's own Kyber (gpg --quick-add-key FINGERPRINT cv25519 encr), and to send it again"
        }
        (AnyCert::OpenPgp(_), Fitness::Unfit(Unfit::Rotated)) => {
            "ask the owner for the whole certificate, with the subkey that does not expire"
        }
        (AnyCert::OpenPgp(_), Fitness::Unfit(Unfit::NoEncryptionKey)) => {
            "ask the owner to add a subkey for encryption (gpg --quick-add-key FINGERPRINT default encr), and to send it again"
        }
        (AnyCert::Smime(_), Fitness::Unfit(Unfit::Authority)) => {
            "give the user's own certificate, not that of the authority that signed it"
        }
        (AnyCert::Smime(_), Fitness::Unfit(Unfit::Unsupported(_))) => {
            "ask the owner for one with an RSA key, or one on P-256, P-384 or P-521"
        }
        _ => "ask the owner for a valid certificate",
    }
}

/// Checks one certificate and strips it; the error says why it is unfit.
fn check(cert: &AnyCert, address: Option<&str>, now: SystemTime) -> Result<Candidate, String> {
    let fitness = cert.assess(now).fitness;
    if fitness != Fitness::Fit {
        return Err(fitness.to_string());
    }
    let cert = match cert {
        AnyCert::OpenPgp(cert) => strip(cert, address, now).into(),
        AnyCert::Smime(_) => cert.clone(),
    };
    let worth = cert.assess(now);
    if worth.fitness != Fitness::Fit {
        return Err(format!("without what a delivery does not need: {}", worth.fitness));
    }
    let mut warnings = Vec::new();
    if worth.expires.is_some_and(|at| at < now + EXPIRES_SOON) {
        warnings.push(format!("expires on {}", crate::console::date::day(worth.expires)));
    }
    if cert.smime().is_some_and(Certificate::reads_gcm) {
        warnings.push("lists AES-256-GCM: Thunderbird and gpgsm show nothing of its owner's mail".into());
    }
    Ok(Candidate { cert, worth, way: Vec::new(), warnings })
}

/// Demands that each S/MIME certificate among `candidates` leads to one of the authorities that are trusted, by itself or by way of
/// those that were `given`, and notes the way.
///
/// # Errors
/// [`Error::Enrol`] for one that does not.
pub fn demand_authority(
    candidates: &mut [Candidate],
    given: &[Certificate],
    trusted: &Authorities,
    now: SystemTime,
) -> Result<(), Error> {
    for candidate in candidates {
        let Some(certificate) = candidate.cert.smime() else { continue };
        let way = trusted.chain(certificate, given, now).map_err(|why| Error::Enrol {
            path: certificate.fingerprint().into(),
            what: why.to_string(),
            hint: match why {
                Untrusted::Unknown(_) => {
                    "give the certificates between the two as well (a .p7b, or as further files), or name its authority in `smime-ca`"
                }
                Untrusted::Outdated(_) => "name the authority's new certificate in `smime-ca`",
                _ => "ask whoever issued it for one that is valid, or for what belongs to it",
            }
            .into(),
        })?;
        candidate.way = way;
    }
    Ok(())
}

/// Demands that none of `candidates`, from which ways lead to authorities, is revoked by one of `lists`.
///
/// # Errors
/// [`Error::Enrol`] for one that is, and for a list of its authority's that says nothing.
pub fn demand_unrevoked(candidates: &mut [Candidate], lists: &Lists) -> Result<(), Error> {
    for candidate in candidates {
        let Some(certificate) = candidate.cert.smime() else { continue };
        let verdict = lists.judge(certificate, &candidate.way);
        if let Some(revocation) = verdict.revocation {
            return Err(Error::Enrol {
                path: certificate.fingerprint().into(),
                what: format!("its authority has revoked it ({})", revocation.name()),
                hint: "ask the owner for a valid certificate".into(),
            });
        }
        if let Some(fault) = verdict.faults.into_iter().next() {
            return Err(fault);
        }
        if !verdict.covered {
            let issuer = certificate.issuer();
            candidate.warnings.push(format!("no list in `smime-crl` says whether {issuer} has revoked it"));
        }
    }
    Ok(())
}

/// Seals a message to `certs` and `recovery`, as a delivery will: filled up as `style` says.
///
/// # Errors
/// Those of sealing; the warnings that a delivery would log, otherwise.
pub fn test_seal(
    user: &str,
    (certs, recovery): (&[AnyCert], &[AnyCert]),
    preference: Preference,
    style: &Style,
    now: SystemTime,
) -> Result<Vec<&'static str>, Error> {
    let recipients = addressee::choose(user, (certs, recovery), preference, WhenExpired::Encrypt, now)?;
    let sealer = Sealer { protect_headers: Policy::None, ..style.sealer(&recipients) };
    let mut message = &b"Subject: test\r\n\r\ntest\r\n"[..];
    let opening = Opening::read(&mut message)?;
    let sealed = sealer.seal(&opening, &mut message, std::io::sink())?;
    Ok(sealed.warnings.iter().map(|warning| warning.name()).collect())
}

/// Whether a certificate names this address, without regard to case: in OpenPGP's, a User ID that the owner has signed.
#[must_use]
pub fn has_address(cert: &AnyCert, address: &str) -> bool {
    match cert {
        AnyCert::OpenPgp(cert) => has_user_id(cert, address),
        AnyCert::Smime(certificate) => certificate.is_for(address),
    }
}

/// Whether a User ID that the owner has signed has this address.
#[must_use]
pub fn has_user_id(cert: &Cert, address: &str) -> bool {
    cert.userids().any(|user_id| {
        user_id.userid().email().ok().flatten().is_some_and(|other| other.eq_ignore_ascii_case(address))
            && user_id.self_signatures().next().is_some()
    })
}

/// `cert` with what `published` says anew about it, of which only what its own primary key has signed, and a delivery needs, is
/// taken; `cert` itself where that is nothing.
#[cfg(feature = "network")]
#[must_use]
pub fn updated(cert: &Cert, published: &[Cert], address: Option<&str>, now: SystemTime) -> Cert {
    let same = |other: &&Cert| other.fingerprint() == cert.fingerprint();
    let merged = published.iter().filter(same).try_fold(cert.clone(), |merged, other| {
        merged.merge_public(other.clone().strip_secret_key_material())
    });
    // Merging fails for another certificate only.
    let Ok(merged) = merged else { return cert.clone() };
    // What was enrolled by hand may hold more than that: without news it stays as it is.
    let bytes = |cert: &Cert| cert.to_vec().ok();
    let (before, after) = (strip(cert, address, now), strip(&merged, address, now));
    if bytes(&before) == bytes(&after) { cert.clone() } else { after }
}

/// Keeps the primary key, one User ID, the encryption keys, and what their owner signed about them; leaves other
/// people's certifications, photographs, further User IDs, keys for other uses, and what was rotated away. What is read at each
/// delivery becomes small: of a certificate with 500 certifications one percent stays.
fn strip(cert: &Cert, address: Option<&str>, now: SystemTime) -> Cert {
    let policy = StandardPolicy::new();
    let primary = cert
        .with_policy(&policy, now)
        .and_then(|valid| valid.primary_userid().map(|user_id| user_id.userid().clone()));
    let named = cert.userids().map(|it| it.userid().clone()).find(|user_id| {
        let own = user_id.email().ok().flatten();
        address.zip(own).is_some_and(|(address, own)| own.eq_ignore_ascii_case(address))
    });
    // The primary User ID may hold the preferences; the one with the address is what keyrings are searched for.
    let kept: Vec<_> = primary.ok().into_iter().chain(named).collect();

    let mut packets: Vec<Packet> = vec![cert.primary_key().key().clone().into()];
    let own = |revocations: Vec<&Signature>, signatures: Vec<&Signature>| {
        revocations.into_iter().chain(signatures).cloned().map(Packet::from).collect::<Vec<_>>()
    };
    let primary = cert.primary_key();
    packets.extend(own(primary.self_revocations().collect(), primary.self_signatures().collect()));
    for user_id in cert.userids().filter(|user_id| kept.contains(user_id.userid())) {
        packets.push(user_id.userid().clone().into());
        packets.extend(own(user_id.self_revocations().collect(), user_id.self_signatures().collect()));
    }
    let ends =
        cert.with_policy(&policy, now).ok().and_then(|valid| valid.primary_key().key_expiration_time());
    let rotates = cert::may_rotate(cert);
    for subkey in cert.keys().subkeys() {
        let is_spent = subkey.with_policy(&policy, now).is_ok_and(|key| {
            let until = key.key_expiration_time();
            rotates
                && until.is_some_and(|at| at <= now)
                && cert::is_rotated(key.key().creation_time(), until, ends)
        });
        if subkey.self_signatures().any(cert::is_for_encryption) && !is_spent {
            let public: Key<key::PublicParts, key::SubordinateRole> = subkey.key().clone();
            packets.push(public.into());
            packets.extend(own(subkey.self_revocations().collect(), subkey.self_signatures().collect()));
        }
    }
    // What was a certificate without some of its packets is one still; if not, the whole one serves as well.
    Cert::from_packets(packets.into_iter()).unwrap_or_else(|_| cert.clone())
}
