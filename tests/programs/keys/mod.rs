//! `mailseal keys`: enrolment and what can go wrong with it, listing, removal, the check for cron, and the test message.

mod at_home;
mod hostile;
mod kinds;
mod recovery;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sequoia_openpgp::{
    Cert,
    cert::{CertParser, CipherSuite},
    parse::Parse,
    types::{HashAlgorithm, ReasonForRevocation},
};
use serde_json::Value;
use testing::{
    admin::Admin,
    delivery::{Host, MAIL, UID},
    filter::{Run, filter, run},
    fixtures,
    gnupg::Home,
    made, openers,
    oracle::check_outside,
    skip,
};

const ALICE: &str = "Alice <alice@example.org>";

fn alice() -> Cert {
    made::cert(ALICE)
}

/// The fingerprints in a user's file, sorted.
fn enrolled(admin: &Admin, user: &str) -> Vec<String> {
    let Ok(bytes) = fs::read(admin.key_file(user)) else { return Vec::new() };
    let certs = CertParser::from_bytes(&bytes).unwrap();
    let mut fingerprints: Vec<_> = certs.map(|cert| made::fingerprint(&cert.unwrap())).collect();
    fingerprints.sort();
    fingerprints
}

fn fingerprints(certs: &[&Cert]) -> Vec<String> {
    let mut all: Vec<_> = certs.iter().map(|cert| made::fingerprint(cert)).collect();
    all.sort();
    all
}

/// Nothing but the files of users lies in the key folder.
fn assert_tidy(admin: &Admin) {
    for entry in fs::read_dir(admin.path("keys")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".pgp") && !name.starts_with('.'), "{name} was left behind");
    }
}

/// A refusal: this status, what and what to do on standard error, nothing on standard output.
#[track_caller]
fn assert_refused(name: &str, run: &Run, status: i32, what: &str) {
    assert_eq!(run.status, Some(status), "{name}: {}", run.stderr);
    assert!(run.stdout.is_empty(), "{name}: {}", String::from_utf8_lossy(&run.stdout));
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{name}: {}", run.stderr);
    assert!(
        lines[0].starts_with("mailseal: ") && lines[1].starts_with("mailseal: hint: "),
        "{name}: {}",
        run.stderr
    );
    assert!(lines[0].contains(what), "{name}: {what:?} is not in {}", lines[0]);
}

/// Whether `secret` opens what is sealed to the file.
#[track_caller]
fn assert_seals_for(file: &Path, secret: &Cert) {
    let run = filter(file, &[], MAIL);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    openers::open(secret, check_outside(MAIL, &run.stdout).unwrap().armor).unwrap();
}

#[test]
fn certificates_are_taken_in_every_form() {
    let alice = alice();
    let (second, bob) =
        (made::cert("Alice's phone <alice@example.org>"), made::cert("Bob <bob@example.org>"));
    let binary = made::public(&alice);
    let armour = made::armored(&alice);
    let keyring =
        [made::public(&bob), binary.clone(), made::public(&made::cert("Carol <carol@example.org>"))].concat();
    let armours = [made::armored(&bob), armour.clone(), made::armored(&second)].concat();
    /// Name, files, and what is enrolled from them.
    type Row<'a> = (&'a str, &'a [&'a [u8]], &'a [&'a Cert]);
    let rows: [Row<'_>; 7] = [
        ("binary", &[&binary], &[&alice]),
        ("armoured", &[&armour], &[&alice]),
        ("several files", &[&binary, &made::armored(&second)], &[&alice, &second]),
        ("the same twice", &[&binary, &armour], &[&alice]),
        ("a keyring", &[&keyring], &[&alice]),
        ("several armours", &[&armours], &[&alice, &second]),
        (
            "two in a file, both hers",
            &[&[made::public(&second), binary.clone()].concat()],
            &[&alice, &second],
        ),
    ];
    for (name, inputs, expected) in rows {
        let admin = Admin::new();
        let files: Vec<_> =
            inputs.iter().enumerate().map(|(n, bytes)| admin.write(&format!("{n}"), bytes)).collect();
        let arguments: Vec<&str> =
            ["add", "alice"].into_iter().chain(files.iter().map(|file| &**file)).collect();
        let said = admin.run(&arguments).said();
        assert_eq!(enrolled(&admin, "alice"), fingerprints(expected), "{name}: {said}");
        for fingerprint in fingerprints(expected) {
            assert!(said.contains(&format!("enrolled {fingerprint} for alice")), "{name}: {said}");
        }
        assert!(said.contains("encrypts with ECDH 256") && said.contains("expires never"), "{name}: {said}");
        assert_seals_for(&admin.key_file("alice"), expected[0]);
        assert_tidy(&admin);
        if inputs.len() == 1 {
            let admin = Admin::new();
            admin.run_with(&["add", "alice", "-"], inputs[0]).said();
            assert_eq!(enrolled(&admin, "alice"), fingerprints(expected), "{name} from standard input");
        }
    }
}

#[test]
fn what_gpg_exports_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let gnupg = Home::at(&dir.path().join("gnupg"));
    gnupg.generate(ALICE, "ed25519", "cert,sign", "20d");
    gnupg.add_subkey(ALICE, "cv25519", "20d");
    let admin = Admin::new();
    let said = admin.run_with(&["add", "Alice", "-"], &gnupg.export("alice@example.org")).said();
    assert!(said.contains("warning: expires on 20"), "{said}");
    let sealed = filter(&admin.key_file("alice"), &[], MAIL);
    let opened = gnupg.gpg(&["--decrypt"], check_outside(MAIL, &sealed.stdout).unwrap().armor);
    assert!(String::from_utf8_lossy(&opened).contains("canary"));
    // And what was stripped is still a certificate to gpg.
    Home::at(&dir.path().join("other")).gpg(&["--import"], &fs::read(admin.key_file("alice")).unwrap());
}

#[test]
fn a_certificate_for_somebody_else_is_taken_with_a_warning() {
    let admin = Admin::new();
    let said =
        admin.run_with(&["add", "alice", "-"], &made::public(&made::cert("Bob <bob@example.org>"))).said();
    assert!(said.contains("warning: no User ID has the address alice@example.org"), "{said}");
}

#[test]
fn another_certificate_needs_a_word() {
    let (first, second) = (alice(), made::cert("Alice's new <alice@example.org>"));
    let new = made::public(&second);
    let start = || {
        let admin = Admin::new();
        admin.run_with(&["add", "alice", "-"], &made::public(&first)).said();
        admin
    };
    let admin = start();
    let run = admin.run_with(&["add", "alice", "-"], &new);
    assert_refused("neither", &run, 64, &made::fingerprint(&first));
    assert!(run.stderr.contains("--also") && run.stderr.contains("--replace"), "{}", run.stderr);
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&[&first]));

    admin.run_with(&["add", "--also", "alice", "-"], &new).said();
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&[&first, &second]));
    let admin = start();
    admin.run_with(&["add", "--replace", "alice", "-"], &new).said();
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&[&second]));
}

#[test]
fn the_same_certificate_is_brought_up_to_date() {
    let admin = Admin::new();
    let old = alice();
    admin.run_with(&["add", "alice", "-"], &made::public(&old)).said();
    let newer = made::with_second_subkey(old.clone());
    admin.run_with(&["add", "alice", "-"], &made::public(&newer)).said();
    assert_seals_for(
        &admin.key_file("alice"),
        &newer.clone().retain_subkeys(|key| key.key() != old.keys().subkeys().next().unwrap().key()),
    );
    // An old copy takes nothing away.
    let before = fs::read(admin.key_file("alice")).unwrap();
    admin.run_with(&["add", "alice", "-"], &made::public(&old)).said();
    let count = |bytes: &[u8]| Cert::from_bytes(bytes).unwrap().keys().count();
    assert_eq!(count(&fs::read(admin.key_file("alice")).unwrap()), count(&before));
}

#[test]
fn what_is_refused_leaves_the_old_certificate_in_place() {
    let of = |name: &str| fs::read(fixtures::cert(name)).unwrap();
    let admin = Admin::new();
    admin.run_with(&["add", "alice", "-"], &made::public(&alice())).said();
    let before = fs::read(admin.key_file("alice")).unwrap();
    let good = made::public(&made::cert("Alice's new <alice@example.org>"));
    let expired_and_good = [made::public(&made::valid_for(ALICE, made::DAY)), good.clone()].concat();
    let two_strangers =
        [made::public(&made::cert("a@example.net")), made::public(&made::cert("b@example.net"))].concat();
    for (name, bytes, what) in [
        ("expired", of("expired"), "expired"),
        ("expired subkeys", of("expired-subkeys"), "expired"),
        ("superseded", of("revoked-superseded"), "re"),
        ("compromised", of("revoked-compromised"), "revoked"),
        ("no encryption key", of("sign-only"), "no key for encryption"),
        ("SHA-1", made::public(&made::rsa(ALICE, 2048, HashAlgorithm::SHA1)), "SHA1"),
        ("RSA-1024", made::public(&made::rsa(ALICE, 1024, HashAlgorithm::SHA256)), "RSA1024"),
        ("secret key", made::secret(&alice()), "secret key"),
        ("nothing", Vec::new(), "certificate"),
        ("text", b"hello".to_vec(), "certificate"),
        ("half", good[..good.len() / 2].to_vec(), ""),
        ("half an armour", made::armored(&alice())[..300].to_vec(), ""),
        ("nobody's of two", two_strangers, "none is for alice@example.org"),
        ("one of hers is bad", expired_and_good, "expired"),
    ] {
        for options in [
            &["add", "alice", "-"][..],
            &["add", "--also", "alice", "-"],
            &["add", "--replace", "alice", "-"],
        ] {
            let run = admin.run_with(options, &bytes);
            assert_refused(&format!("{name}, {options:?}"), &run, 1, what);
            assert_eq!(fs::read(admin.key_file("alice")).unwrap(), before, "{name}, {options:?}");
        }
    }
    admin.configure("sources = [\"file:DIR/keys/%{user}.pgp\"]\nrecovery = [\"DIR/gone.pgp\"]");
    assert_refused("recovery", &admin.run_with(&["add", "--replace", "alice", "-"], &good), 78, "recovery");
    assert_eq!(fs::read(admin.key_file("alice")).unwrap(), before);
    assert_tidy(&admin);
}

/// Broken, it can be replaced, and not added to.
#[test]
fn a_broken_file_can_be_replaced() {
    let admin = Admin::new();
    fs::write(admin.key_file("alice"), b"half written").unwrap();
    let alice = alice();
    for options in [&["add", "alice", "-"][..], &["add", "--also", "alice", "-"]] {
        assert_refused("broken", &admin.run_with(options, &made::public(&alice)), 75, "alice.pgp");
    }
    admin.run_with(&["add", "--replace", "alice", "-"], &made::public(&alice)).said();
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&[&alice]));
}

#[test]
fn of_enrolments_at_once_none_is_lost_and_only_one_is_first() {
    let certs: Vec<_> = (0..8).map(|n| made::cert(&format!("{n} <alice@example.org>"))).collect();
    let race = |admin: &Admin, option: &[&str]| -> Vec<Option<i32>> {
        let files: Vec<_> = certs
            .iter()
            .enumerate()
            .map(|(n, cert)| admin.write(&format!("{n}.pgp"), &made::public(cert)))
            .collect();
        let children: Vec<_> = files
            .iter()
            .map(|file| {
                let mut command = admin.command(&["add", "alice", file]);
                command.args(option).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        children.into_iter().map(|mut child| child.wait().unwrap().code()).collect()
    };
    let admin = Admin::new();
    assert!(race(&admin, &["--also"]).iter().all(|status| *status == Some(0)));
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&certs.iter().collect::<Vec<_>>()));
    assert_tidy(&admin);

    let admin = Admin::new();
    let statuses = race(&admin, &[]);
    assert_eq!(statuses.iter().filter(|status| **status == Some(0)).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == Some(64)).count(), 7, "{statuses:?}");
    assert_eq!(enrolled(&admin, "alice").len(), 1);
    assert_tidy(&admin);
}

/// A small file system over the key folder, taken away at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn over(folder: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=755", "none"]).arg(folder);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(folder.into())),
            _ => {
                skip::say("no file system can be mounted here");
                None
            }
        }
    }

    fn remount(&self, option: &str) {
        let remount = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &remount]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_or_read_only_disk_keeps_the_old_certificate() {
    let admin = Admin::new();
    let Some(disk) = Tmpfs::over(&admin.path("keys")) else { return };
    admin.run_with(&["add", "alice", "-"], &made::public(&alice())).said();
    let before = fs::read(admin.key_file("alice")).unwrap();
    let add = |options: &[&str]| {
        let new = made::public(&made::cert("Alice's new <alice@example.org>"));
        admin.run_with(&[&["add", "alice", "-"], options].concat(), &new)
    };
    // All of it, to the last byte.
    let _ = fs::write(admin.path("keys/zero"), vec![0; 1 << 20]);
    for option in ["--replace", "--also"] {
        assert_refused("full", &add(&[option]), 75, "No space left");
        assert_eq!(fs::read(admin.key_file("alice")).unwrap(), before, "{option}");
    }
    let run = admin.run(&["test", "alice"]);
    assert_refused("test message", &run, 75, "No space left");
    fs::remove_file(admin.path("keys/zero")).unwrap();
    assert_tidy(&admin);

    disk.remount("ro");
    assert_refused("read-only", &add(&["--replace"]), 75, "Read-only");
    assert_refused("read-only", &admin.run(&["remove", "alice"]), 75, "Read-only");
    assert_eq!(fs::read(admin.key_file("alice")).unwrap(), before);
    disk.remount("rw");
    add(&["--replace"]).said();
}

#[test]
fn who_may_not_write_there_changes_nothing() {
    let Some(host) = Host::new() else { return };
    let program = host.path("mailseal");
    testing::install("mailseal", &program);
    let config = host
        .write("mailseal.toml", host.text("[keys]\nsources = [\"file:DIR/keys/%{user}.pgp\"]\n").as_bytes());
    let new = made::public(&alice());
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.uid(UID).arg("--config").arg(&config).arg("keys").args(arguments);
        run(&mut command, &new, new.len())
    };
    assert_refused("no folder", &as_user(&["add", "alice", "-"]), 75, "No such file");
    let old = made::public(&made::cert(ALICE));
    host.write("keys/alice.pgp", &old);
    for arguments in [&["add", "--replace", "alice", "-"][..], &["add", "bob", "-"], &["remove", "alice"]] {
        assert_refused("not writable", &as_user(arguments), 75, "denied");
    }
    assert_eq!(fs::read(host.path("keys/alice.pgp")).unwrap(), old);
    assert_eq!(fs::read_dir(host.path("keys")).unwrap().count(), 1);
}

/// Root's umask does not keep it from the mail user.
#[test]
fn what_is_enrolled_can_be_read_by_the_mail_user_and_changed_by_root_alone() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    let alice = alice();
    let admin = Admin::with(&host.text(r#"sources = ["file:DIR/keys/%{user}.pgp"]"#));
    let file = admin.write("alice.pgp", &made::public(&alice));
    let add = admin.command(&["add", "alice", &file]);
    let mut with_umask = Command::new("sh");
    with_umask.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(add.get_program()).args(add.get_args());
    run(&mut with_umask, b"", 1).said();
    assert_eq!(fs::metadata(host.path("keys/alice.pgp")).unwrap().permissions().mode() & 0o777, 0o644);
    let run = host.delivery(r#"sources = ["file:DIR/keys/%{user}.pgp"]"#).run();
    run.assert_sealed("delivery", &[&alice]);
}

#[test]
fn what_a_delivery_does_not_need_is_left_out() {
    let suite = CipherSuite::Cv25519;
    let flooded = made::flooded(made::with_user_id(alice(), "Alice at work <alice@example.com>"), 500);
    let dir = tempfile::tempdir().unwrap();
    let gnupg = Home::at(&dir.path().join("gnupg"));
    gnupg.import(&made::secret(&flooded));
    let public = made::public(&flooded);
    assert!(public.len() > 50_000, "{} bytes", public.len());
    for (name, bytes) in [("as it is", public), ("as gpg exports it", gnupg.export("alice@example.org"))] {
        let admin = Admin::new();
        admin.run_with(&["add", "alice", "-"], &bytes).said();
        let stored = fs::read(admin.key_file("alice")).unwrap();
        assert!(stored.len() < 1500, "{name}: {} bytes", stored.len());
        assert!(String::from_utf8_lossy(&stored).contains(ALICE), "{name}: keyrings are searched for it");
        assert_seals_for(&admin.key_file("alice"), &flooded);
        let sealed = filter(&admin.key_file("alice"), &[], MAIL);
        gnupg.gpg(&["--decrypt"], check_outside(MAIL, &sealed.stdout).unwrap().armor);
    }
    // Every encryption key stays, the others go; what limits them stays.
    for (name, cert, keys, expires) in [
        ("two encryption keys", made::with_second_subkey(alice()), 2, false),
        ("expires", made::expires_in(ALICE, 200 * made::DAY), 1, true),
        ("RFC 9580", made::of(suite, sequoia_openpgp::Profile::RFC9580, ALICE), 1, false),
        (
            "post-quantum",
            made::of(CipherSuite::MLDSA65_Ed25519, sequoia_openpgp::Profile::RFC9580, ALICE),
            1,
            false,
        ),
        ("signing and encrypting", Cert::from_file(fixtures::secret("curve25519")).unwrap(), 1, false),
    ] {
        let admin = Admin::new();
        let said = admin.run_with(&["add", "alice", "-"], &made::public(&cert)).said();
        let stored = Cert::from_file(admin.key_file("alice")).unwrap();
        assert_eq!(stored.keys().subkeys().count(), keys, "{name}");
        assert_eq!(!said.contains("expires never"), expires, "{name}: {said}");
        assert_seals_for(&admin.key_file("alice"), &cert);
    }
}

fn json(run: &Run) -> Vec<Value> {
    serde_json::from_slice::<Value>(&run.stdout).unwrap().as_array().unwrap().clone()
}

#[test]
fn listings_are_tables_for_people_and_stable_json_for_scripts() {
    let admin = Admin::new();
    assert_eq!(admin.run(&["list"]).said(), "");
    assert_eq!(json(&admin.run(&["list", "--json"])), Vec::<Value>::new());
    let (alice, bob) =
        (made::expires_in(ALICE, 100 * made::DAY), made::cert("Bob \u{1b}[2J\u{202e} <bob@example.org>"));
    admin.run_with(&["add", "alice", "-"], &made::public(&alice)).said();
    admin.run_with(&["add", "bob", "-"], &made::public(&bob)).said();
    fs::write(admin.key_file("carol"), b"half written").unwrap();
    fs::write(admin.key_file("dora"), fs::read(fixtures::cert("expired")).unwrap()).unwrap();
    for name in ["README", "notes.txt", ".hidden.pgp"] {
        fs::write(admin.path("keys").join(name), b"").unwrap();
    }

    let run = admin.run(&["list", "--json"]);
    let rows = json(&run);
    assert_eq!(run.stdout, admin.run(&["list", "--json"]).stdout, "stable");
    let names = [
        "algorithms",
        "confirmed",
        "confirmed_by",
        "expires",
        "fingerprint",
        "reason",
        "state",
        "user",
        "user_ids",
    ];
    for row in &rows {
        let mut found: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, names);
    }
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("user"), ["alice", "bob", "carol", "dora"]);
    assert_eq!(column("state"), ["fit", "fit", "unfit", "expired"]);
    assert_eq!(rows[0]["fingerprint"], *made::fingerprint(&alice));
    assert_eq!(rows[0]["algorithms"][0], "ECDH 256");
    assert_eq!(rows[0]["user_ids"][0], ALICE);
    assert_eq!(rows[1]["expires"], Value::Null);
    assert_eq!(rows[1]["user_ids"][0], "Bob \u{1b}[2J\u{202e} <bob@example.org>");
    let day = rows[0]["expires"].as_str().unwrap();
    assert!(day.len() == 10 && day.starts_with("20"), "{day}");

    let table = admin.run(&["list"]).said();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 6, "{table}");
    assert!(lines[0].starts_with("USER ") && lines[0].ends_with("FINGERPRINT"), "{table}");
    for (line, user) in lines[1..].iter().zip(["alice ", "bob ", "carol ", "dora "]) {
        assert!(line.starts_with(user), "{table}");
    }
    assert!(lines[5].starts_with("carol: key store "), "{table}");
    assert!(lines[1].contains(day) && lines[1].ends_with(&made::fingerprint(&alice)), "{table}");

    let shown = admin.run(&["show", "bob"]).said();
    assert!(shown.contains(&made::fingerprint(&bob)) && shown.contains("Bob"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert_eq!(json(&admin.run(&["show", "--json", "alice"])), rows[..1]);
    assert_eq!(admin.run(&["show", "nobody"]).status, Some(1));
    assert_eq!(json(&admin.run(&["show", "--json", "nobody"])), Vec::<Value>::new());
    assert_eq!(admin.run(&["show", "carol"]).status, Some(75));
}

/// The codes of test messages lie beside the certificates.
#[test]
fn without_a_suffix_the_files_beside_are_no_users() {
    let admin = Admin::with(r#"sources = ["file:DIR/keys/%{user}"]"#);
    let alice = alice();
    admin.run_with(&["add", "alice", "-"], &made::public(&alice)).said();
    let code = code_in(&admin.run(&["test", "alice"]), &alice);
    let users =
        || json(&admin.run(&["list", "--json"])).iter().map(|row| row["user"].clone()).collect::<Vec<_>>();
    assert_eq!(users(), ["alice"]);
    admin.run(&["confirm", "alice", &code]).said();
    assert_eq!(users(), ["alice"]);
    assert_eq!(admin.run(&["check"]).status, Some(0));
}

#[test]
fn certificates_are_shown_wherever_a_delivery_finds_them() {
    let admin = Admin::with(r#"sources = ["file:DIR/keys/%{user}.pgp", "dir:%{home}/.config/mailseal"]"#);
    let folder = admin.path("home/.config/mailseal");
    fs::create_dir_all(&folder).unwrap();
    let alice = alice();
    fs::write(folder.join("a.pgp"), made::public(&alice)).unwrap();
    let home = admin.path("home");
    let shown = admin.run(&["show", "alice", "--home", home.to_str().unwrap()]).said();
    assert!(shown.contains(&made::fingerprint(&alice)), "{shown}");
    assert_refused("no home", &admin.run(&["show", "alice"]), 75, "home");
    let code = code_in(&admin.run(&["test", "alice", "--home", home.to_str().unwrap()]), &alice);
    admin.run(&["confirm", "alice", &code]).said();
    let shown = admin.run(&["show", "alice", "--home", home.to_str().unwrap()]).said();
    assert!(shown.contains("confirmed  yes"), "{shown}");
}

#[test]
fn certificates_are_removed_one_or_all() {
    let admin = Admin::new();
    let certs = [alice(), made::cert("Second <alice@example.org>"), made::cert("Third <alice@example.org>")];
    for cert in &certs {
        admin.run_with(&["add", "--also", "alice", "-"], &made::public(cert)).said();
    }
    for wrong in ["0123456789ABCDEF", "", " ", "zz", "A", "alice"] {
        assert_refused(wrong, &admin.run(&["remove", "alice", wrong]), 64, "alice");
        assert_eq!(enrolled(&admin, "alice").len(), 3, "{wrong:?}");
    }
    let first = made::fingerprint(&certs[0]);
    let said = admin.run(&["remove", "alice", &first.to_lowercase()]).said();
    assert!(said.contains(&format!("removed {first}")), "{said}");
    let second = certs[1].fingerprint().to_spaced_hex();
    admin.run(&["remove", "alice", &second[second.len() - 24..]]).said();
    assert_eq!(enrolled(&admin, "alice"), fingerprints(&[&certs[2]]));

    let code = code_in(&admin.run(&["test", "alice"]), &certs[2]);
    admin.run(&["confirm", "alice", &code]).said();
    admin.run(&["test", "alice"]);
    let said = admin.run(&["remove", "alice"]).said();
    assert!(said.contains("warning: new mail for alice is stored in clear"), "{said}");
    assert_eq!(fs::read_dir(admin.path("keys")).unwrap().count(), 0, "what was confirmed is forgotten");
    assert_refused("again", &admin.run(&["remove", "alice"]), 64, "alice");
    fs::write(admin.key_file("alice"), b"half written").unwrap();
    assert_refused("one of a broken file", &admin.run(&["remove", "alice", &first]), 75, "alice.pgp");
    admin.run(&["remove", "alice"]).said();
    assert!(!admin.key_file("alice").exists());
}

#[test]
fn the_check_says_what_is_wrong_and_what_soon_will_be() {
    let days = |days: u32| made::public(&made::expires_in(ALICE, days * made::DAY));
    let revoked = |reason| made::public(&made::revoked(alice(), reason));
    let of = |name: &str| fs::read(fixtures::cert(name)).unwrap();
    /// Name, key file, options, and status and state that are wanted.
    type Row<'a> = (&'a str, Vec<u8>, &'a [&'a str], i32, &'a str);
    let rows: [Row<'_>; 15] = [
        ("for ever", made::public(&alice()), &[], 0, ""),
        ("20 days", days(20), &[], 1, "fit"),
        ("20 days", days(20), &["--within", "10d"], 0, ""),
        ("20 days", days(20), &["--within", "2w"], 0, ""),
        ("20 days", days(20), &["--within", "3w"], 1, "fit"),
        ("20 days", days(20), &["--within", "0d"], 0, ""),
        ("40 days", days(40), &[], 0, ""),
        ("40 days", days(40), &["--within", "60"], 1, "fit"),
        ("expired", of("expired"), &["--within", "0d"], 1, "expired"),
        ("superseded", revoked(ReasonForRevocation::KeySuperseded), &[], 1, "retired"),
        ("compromised", revoked(ReasonForRevocation::KeyCompromised), &[], 1, "unfit"),
        ("no encryption key", of("sign-only"), &[], 1, "unfit"),
        ("SHA-1", made::public(&made::rsa(ALICE, 2048, HashAlgorithm::SHA1)), &[], 1, "unfit"),
        ("half written", b"half written".to_vec(), &[], 1, "unfit"),
        ("empty", Vec::new(), &[], 1, "unfit"),
    ];
    for (name, bytes, options, status, state) in rows {
        let admin = Admin::new();
        admin.run_with(&["add", "bob", "-"], &made::public(&made::cert("Bob <bob@example.org>"))).said();
        fs::write(admin.key_file("alice"), bytes).unwrap();
        let run = admin.run(&[&["check"], options].concat());
        assert_eq!(run.status, Some(status), "{name} {options:?}: {}", run.stderr);
        assert_eq!(run.stderr, "", "{name}");
        let table = String::from_utf8_lossy(&run.stdout);
        assert_eq!(table.is_empty(), status == 0, "{name}: cron sends no empty mail: {table}");
        assert!(!table.contains("bob"), "{name}: {table}");
        let run = admin.run(&[&["check", "--json"], options].concat());
        assert_eq!(run.status, Some(status), "{name}");
        let rows = json(&run);
        assert_eq!(rows.len(), usize::try_from(status).unwrap(), "{name}");
        if status == 1 {
            assert_eq!((&rows[0]["user"], &rows[0]["state"]), (&"alice".into(), &state.into()), "{name}");
        }
    }
    let admin = Admin::new();
    assert_eq!(admin.run(&["check"]).status, Some(0), "nobody is enrolled");
    fs::write(admin.key_file("Bob"), made::public(&alice())).unwrap();
    let run = admin.run(&["check"]);
    let table = String::from_utf8_lossy(&run.stdout);
    assert!(run.status == Some(1) && table.contains("no delivery reads"), "{table}");
    fs::remove_file(admin.key_file("Bob")).unwrap();
}

/// What gpg itself made, and says when it ends.
#[test]
fn the_check_sees_when_a_key_of_gpg_expires() {
    let dir = tempfile::tempdir().unwrap();
    let gnupg = Home::at(&dir.path().join("gnupg"));
    gnupg.generate(ALICE, "ed25519", "cert,sign", "never");
    gnupg.add_subkey(ALICE, "cv25519", "20d");
    let admin = Admin::new();
    admin.run_with(&["add", "alice", "-"], &gnupg.export("alice@example.org")).said();
    for (within, status) in [("10d", 0), ("19d", 0), ("21d", 1), ("30d", 1)] {
        assert_eq!(admin.run(&["check", "--within", within]).status, Some(status), "{within}");
    }
}

/// The code in a test message, opened with the secret key in `cert`.
#[track_caller]
fn code_in(run: &Run, cert: &Cert) -> String {
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let message = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(message.contains("multipart/encrypted"), "{message}");
    let armor = &message[message.find("-----BEGIN PGP MESSAGE").unwrap()..message.rfind("\r\n--").unwrap()];
    let text = String::from_utf8(openers::open(cert, armor.as_bytes()).unwrap()).unwrap();
    let is_code = |line: &&str| line.len() == 12 && line.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut codes = text.lines().map(str::trim).filter(is_code);
    let code = codes.next().unwrap_or_else(|| panic!("no code in {text}")).to_owned();
    assert_eq!(codes.next(), None);
    assert!(!message.contains(&code), "the code is in clear");
    code
}

fn confirmed(admin: &Admin) -> Vec<bool> {
    json(&admin.run(&["list", "--json"])).iter().map(|row| row["confirmed"].as_bool().unwrap()).collect()
}

#[test]
fn the_code_in_the_test_message_confirms_that_its_reader_can_read() {
    let admin = Admin::new();
    let alice = alice();
    admin.run_with(&["add", "alice", "-"], &made::public(&alice)).said();
    assert_eq!(admin.run(&["confirm", "alice", "ybndrfg8ejkm"]).status, Some(1), "no test was sent");

    let first = code_in(&admin.run(&["test", "alice"]), &alice);
    let second = code_in(&admin.run(&["test", "alice"]), &alice);
    assert_ne!(first, second);
    let stored = fs::read(admin.path("keys/alice.pgp.test")).unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains(&second), "who reads the file cannot confirm");
    for (name, code) in [("stale", &*first), ("wrong", "ybndrfg8ejkm"), ("empty", ""), ("half", &second[..6])]
    {
        let run = admin.run(&["confirm", "alice", code]);
        assert_eq!(run.status, Some(1), "{name}: {}", run.stderr);
        assert_eq!(confirmed(&admin), [false], "{name}");
    }
    assert_eq!(admin.run(&["confirm", "bob", &second]).status, Some(1), "another user's");
    admin.run(&["confirm", "Alice", &format!(" {} ", second.to_uppercase())]).said();
    assert_eq!(confirmed(&admin), [true]);
    assert_eq!(admin.run(&["confirm", "alice", &second]).status, Some(1), "it works once");
    assert_eq!(confirmed(&admin), [true]);
}

#[test]
fn only_the_certificates_of_the_test_message_are_confirmed() {
    let admin = Admin::new();
    let (old, new) = (alice(), made::cert("Alice's new <alice@example.org>"));
    admin.run_with(&["add", "alice", "-"], &made::public(&old)).said();
    let code = code_in(&admin.run(&["test", "alice"]), &old);
    admin.run_with(&["add", "--replace", "alice", "-"], &made::public(&new)).said();
    admin.run(&["confirm", "alice", &code]);
    assert_eq!(confirmed(&admin), [false], "it was sealed to the old one");
    admin.run_with(&["add", "--also", "alice", "-"], &made::public(&old)).said();
    let code = code_in(&admin.run(&["test", "alice"]), &new);
    admin.run(&["confirm", "alice", &code]).said();
    // Removed and enrolled again, it must be confirmed again.
    admin.run(&["remove", "alice"]).said();
    admin.run_with(&["add", "alice", "-"], &made::public(&new)).said();
    assert_eq!(confirmed(&admin), [false]);
}

#[test]
fn the_test_message_is_mail_for_the_user_sealed_as_configured() {
    let recovery = made::cert("Recovery");
    let admin = Admin::new();
    let file = admin.write("recovery.pgp", &made::public(&recovery));
    admin.configure(&format!("sources = [\"file:DIR/keys/%{{user}}.pgp\"]\nrecovery = [\"{file}\"]"));
    let alice = alice();
    admin.run_with(&["add", "alice", "-"], &made::public(&alice)).said();
    let run = admin.run(&["test", "alice"]);
    assert_eq!(code_in(&run, &alice), code_in(&run, &recovery));
    let text = String::from_utf8(run.stdout).unwrap();
    let header = text.split("\r\n\r\n").next().unwrap();
    for field in ["From: ", "To: ", "Subject: ", "Date: ", "Message-ID: ", "MIME-Version: 1.0"] {
        let count = header.lines().filter(|line| line.starts_with(field)).count();
        assert_eq!(count, 1, "{field}: {header}");
    }
    assert!(header.contains("<alice@example.org>"), "{header}");
}

#[test]
fn the_test_message_is_sealed_by_the_rule_for_the_user() {
    let admin = Admin::new();
    admin.configure(
        "sources = [\"file:DIR/keys/%{user}.pgp\"]\n[[users]]\nmatch = [\"alice\"]\nprotect-headers = \"baseline\"",
    );
    for (user, hidden) in [("alice", true), ("bob", false)] {
        let cert = made::cert(&format!("{user} <{user}@example.org>"));
        admin.run_with(&["add", user, "-"], &made::public(&cert)).said();
        let run = admin.run(&["test", user]);
        let text = String::from_utf8(run.stdout.clone()).unwrap();
        assert_eq!(text.contains("Subject: [...]\r\n"), hidden, "{user}: {text}");
        code_in(&run, &cert);
    }
}

#[test]
fn without_the_list_of_users_no_store_is_marked() {
    let admin = Admin::new();
    let run = admin.run(&["init", "--users", admin.path("missing").to_str().unwrap()]);
    assert_eq!(run.status, Some(64), "{}", run.stderr);
    assert!(run.stderr.contains("missing"), "{}", run.stderr);
    for folder in ["keys", "known"] {
        assert!(!admin.path(folder).join(".mailseal").exists(), "{folder} is marked");
    }
}
