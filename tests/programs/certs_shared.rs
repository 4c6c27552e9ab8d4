//! Every certificate of a collection of good, odd, broken and hostile ones: what `mailseal keys add` says of it and why,
//! within what time and memory, and that what is accepted seals for its owner.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use sequoia_openpgp::{
    Cert, Packet,
    packet::{
        Key,
        key::{SecretParts, UnspecifiedRole},
    },
    parse::Parse,
};
use testing::{
    admin::Admin,
    alone,
    delivery::MAIL,
    filter::{filter, run},
    gnupg::Home,
    made, openers,
    oracle::{check_outside, expected_entities},
    skip,
};

/// What `keys add` makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Enrolled; the line that names the algorithms ends in this.
    Accept(&'static str),
    /// The same, but one of its keys cannot be used.
    AcceptInPart(&'static str),
    /// Not enrolled; the reason has this in it.
    Refuse(&'static str),
}

use Verdict::{Accept, AcceptInPart, Refuse};

/// A secret key.
const SECRET: Verdict = Refuse("it holds a secret key");

const VERDICTS: [(&str, Verdict); 38] = [
    // The additional decryption subkey is not a recipient: the sender's software decides, and ours does not know it.
    ("adsk-additional-decryption-subkey.asc", Accept("ECDH 256")),
    // Blanks before an armour are skipped; the certificate has expired.
    ("armor-64k-whitespace.asc", Refuse("expired")),
    // RFC 9580 has checksums ignored.
    ("armor-bad-crc.asc", Refuse("no key for encryption")),
    ("critical-notation.pgp", Refuse("critical notation")),
    ("eddsa-small-x.asc", Accept("ECDH 256")),
    ("empty-packets.pgp", Refuse("no certificate")),
    // The primary key may encrypt, and so both keys are recipients.
    ("encrypting-primary.pgp", Accept("RSA 3072, RSA 3072")),
    ("expired-primary.pgp", Refuse("expired")),
    ("forged-subkey-binding.pgp", Refuse("no key for encryption")),
    ("future-created-2048.pgp", Refuse("made in the future")),
    ("mixed-private-and-public.asc", SECRET),
    ("poisoned-bigpub-1.1MB.asc", Refuse("SHA1 is not considered secure")),
    ("pqc-v4-ed25519-mlkem768.asc", Accept("ML-KEM-768+X25519")),
    ("pqc-v4-ed25519-mlkem768.sec.asc", SECRET),
    ("pqc-v6-ed25519-mlkem768.asc", Accept("ML-KEM-768+X25519")),
    ("pqc-v6-ed25519-mlkem768.sec.asc", SECRET),
    ("pqc-v6-mldsa65-mlkem768.asc", Accept("ML-KEM-768+X25519")),
    ("pqc-v6-mldsa65-mlkem768.sec.asc", SECRET),
    ("pqc-v6-mldsa87-mlkem1024.asc", Accept("ML-KEM-1024+X448")),
    ("pqc-v6-mldsa87-mlkem1024.sec.asc", SECRET),
    ("pqc-v6-slhdsa256s.asc", Accept("ML-KEM-1024+X448")),
    ("pqc-v6-slhdsa256s.sec.asc", SECRET),
    // Of ten certificates none has the user's address.
    ("ten-certs-ten-armors.asc", Refuse("several certificates, and none is for")),
    ("unbound-encryption-subkey.pgp", Refuse("no key for encryption")),
    // The rust backend has no Brainpool; the other subkey is on a curve that it has.
    ("v4-brainpool.asc", AcceptInPart("ECDH 256, ECDH 256")),
    ("v4-brainpool.sec.asc", SECRET),
    // No signature of its own at all.
    ("v4-eddsa-bp256-mixed.asc", Refuse("No binding signature")),
    ("v4-elgamal-small-subgroup.pgp", Refuse("ElGamal2048 is not considered secure")),
    ("v4-rsa1024.pgp", Refuse("RSA1024 is not considered secure")),
    ("v4-rsa2048.pgp", Accept("RSA 2048")),
    ("v4-rsa2048.sec.pgp", SECRET),
    ("v4-rsa4096.pgp", Accept("RSA 4096")),
    ("v4-rsa4096.sec.pgp", SECRET),
    ("v4-rsa65535-truncated.pgp", Refuse("Truncated packet")),
    // The rust backend stops below 8192 bits, and so cannot check the primary key's signatures.
    ("v4-rsa8192.asc", Refuse("No binding signature")),
    ("v4-rsa8192.sec.asc", SECRET),
    ("v6-rfc9580-a3.asc", Accept("X25519 256")),
    ("wrong-mpi-bit-count.pgp", Refuse("No binding signature")),
];

/// Seconds of CPU time; a machine that is busy otherwise does not count.
const TIME: f64 = 2.0;
/// KiB of resident memory.
const MEMORY: i64 = 64 * 1024;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/certs");
    if folder.is_dir() {
        return Some(folder);
    }
    skip::say("no collection of certificates at ../shared/certs");
    None
}

fn verdicts() -> BTreeMap<&'static str, Verdict> {
    VERDICTS.into_iter().collect()
}

fn cpu_seconds(usage: &Usage) -> f64 {
    [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .iter()
        .sum()
}

/// In a process of its own, so that what its children use is known of each.
#[test]
fn every_certificate_gets_its_verdict_in_time_and_memory() {
    if !alone::is_alone() {
        return alone::run("certs_shared::every_certificate_gets_its_verdict_in_time_and_memory");
    }
    let Some(folder) = folder() else { return };
    let mut failed = Vec::new();
    for (file, verdict) in verdicts() {
        let admin = Admin::new();
        let before = cpu_seconds(&getrusage(UsageWho::RUSAGE_CHILDREN).unwrap());
        let run = run(&mut admin.command(&["add", "alice", folder.join(file).to_str().unwrap()]), b"", 1);
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let (time, memory) = (cpu_seconds(&usage) - before, usage.max_rss());
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        let stored = admin.key_file("alice").exists();
        let right = match verdict {
            Accept(keys) | AcceptInPart(keys) => {
                let warns = said.contains("some-keys-unusable");
                run.status == Some(0)
                    && said.contains(&format!("encrypts with {keys}\n"))
                    && stored
                    && warns == matches!(verdict, AcceptInPart(_))
            }
            Refuse(why) => {
                run.status == Some(1)
                    && run.stderr.contains(why)
                    && run.stderr.lines().count() == 2
                    && !stored
                    && said.is_empty()
            }
        };
        if !right {
            failed.push(format!("{file}: not {verdict:?}, but {:?}: {said}{}", run.status, run.stderr));
        }
        // The most that any of the children so far took: the first beyond is the culprit.
        if time > TIME || memory > MEMORY {
            failed.push(format!("{file}: {time:.2} s, {memory} KiB"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_verdicts_are_those_that_the_collection_asks_for() {
    let Some(folder) = folder() else { return };
    let index = fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let verdicts = verdicts();
    for row in index.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (file, expected) = (columns[2], columns[5]);
        let accepted = !matches!(verdicts[file], Refuse(_));
        let may_accept = ["ACCEPT", "bounded", "strip"].iter().any(|word| expected.contains(word));
        let may_refuse = ["REFUSE", "POLICY", "bounded"].iter().any(|word| expected.contains(word));
        assert!(if accepted { may_accept } else { may_refuse }, "{file}: {expected}, {:?}", verdicts[file]);
    }
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "INDEX.tsv")
        .collect();
    let known: BTreeSet<String> = verdicts.keys().map(|&name| name.to_owned()).collect();
    assert_eq!(files, known, "every file has its verdict, and every verdict its file");
}

#[test]
fn what_is_accepted_seals_for_the_owner_of_the_secret_key() {
    let Some(folder) = folder() else { return };
    let home = tempfile::tempdir().unwrap();
    let gnupg = Home::at(&home.path().join("gnupg"));
    let mut opened = 0;
    for (file, _) in verdicts().into_iter().filter(|(_, verdict)| !matches!(verdict, Refuse(_))) {
        let admin = Admin::new();
        admin.run(&["add", "alice", folder.join(file).to_str().unwrap()]).said();
        let run = filter(&admin.key_file("alice"), &[], MAIL);
        let armor = check_outside(MAIL, &run.stdout).unwrap_or_else(|why| panic!("{file}: {why}")).armor;
        let (name, suffix) = file.split_once('.').unwrap();
        let Ok(secret) = Cert::from_file(folder.join(format!("{name}.sec.{suffix}"))) else { continue };
        if secret.fingerprint() != Cert::from_file(folder.join(file)).unwrap().fingerprint() {
            continue;
        }
        let secret = unlocked(secret);
        let data = openers::open(&secret, armor).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(expected_entities(MAIL).contains(&data), "{file}");
        if name.starts_with("v4-rsa") {
            gnupg.import(&made::secret(&secret));
            assert_eq!(gnupg.gpg(&["--decrypt"], armor), data, "{file}: gpg");
        }
        opened += 1;
    }
    assert_eq!(opened, 7, "two RSA and five post-quantum ones have their secret keys here");
}

/// Those of RNP have its tests' password.
fn unlocked(cert: Cert) -> Cert {
    let unlock = |key: Key<SecretParts, UnspecifiedRole>| match key.secret().is_encrypted() {
        true => key.decrypt_secret(&"password".into()).unwrap(),
        false => key,
    };
    let packets = cert.into_tsk().into_packets().map(|packet| match packet {
        Packet::SecretKey(key) => Packet::from(unlock(key.role_into_unspecified()).role_into_primary()),
        Packet::SecretSubkey(key) => {
            Packet::from(unlock(key.role_into_unspecified()).role_into_subordinate())
        }
        other => other,
    });
    Cert::from_packets(packets.collect::<Vec<_>>().into_iter()).unwrap()
}
