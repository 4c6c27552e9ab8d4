//! "No certificate" is proven, or the delivery is deferred: stores that are not mounted, keys that are there and not seen,
//! users who had one, configurations that are gone; through the filter, as the mail user.

use std::{fs, os::unix::fs::symlink};

use sequoia_openpgp::Cert;
use testing::{
    delivery::{GID, Host, UID},
    made,
};

const FILE: &str = r#"sources = ["file:DIR/keys/%{user}.pgp"]"#;
const HOME_DIR: &str = r#"sources = ["dir:%{home}/.config/mailseal"]"#;

fn alice() -> Cert {
    made::cert("Alice <alice@example.org>")
}

/// A host whose store is marked and empty.
fn host(keys: &str) -> Option<Host> {
    let host = Host::new()?;
    host.folder("keys");
    host.init(keys, &[]);
    Some(host)
}

#[test]
fn a_store_that_is_not_mounted_is_not_an_empty_one() {
    let Some(host) = host(FILE) else { return };
    host.delivery(FILE).run().assert_unchanged("mounted", "no-key");
    fs::rename(host.path("keys"), host.path("elsewhere")).unwrap();
    host.delivery(FILE).run().assert_failed("away", 75, "key-store", "there is no such folder");
    host.folder("keys");
    host.delivery(FILE).run().assert_failed("an empty mount point", 75, "key-store", "not mounted");
    // Another store with a marker of its own.
    host.write("keys/.mailseal", b"mailseal marker 1\nid 00000000000000000000000000000000\n");
    host.delivery(FILE).run().assert_failed("another store", 75, "key-store", "another marker");
    fs::remove_dir_all(host.path("keys")).unwrap();
    fs::rename(host.path("elsewhere"), host.path("keys")).unwrap();
    host.delivery(FILE).run().assert_unchanged("mounted again", "no-key");
    // The register.
    fs::rename(host.path("known"), host.path("away")).unwrap();
    host.delivery(FILE).run().assert_failed("no register", 75, "key-store", "keys init");
    host.folder("known");
    host.delivery(FILE).run().assert_failed("an empty register", 75, "key-store", "keys init");
}

#[test]
fn a_key_that_is_there_and_not_read_is_no_absence() {
    let Some(host) = host(FILE) else { return };
    let public = made::public(&alice());
    for name in [
        "Alice.pgp",
        "ALICE.pgp",
        "alice.asc",
        "alice.gpg",
        "alice.key",
        "alice.PGP",
        "alice.txt",
        "alice.pgp.",
        "alice.pgp ",
        "alice",
        "alice.pgp.confirmed",
    ] {
        let path = host.write(&format!("keys/{name}"), &public);
        host.delivery(FILE).run().assert_failed(name, 75, "key-store", name.trim_end());
        fs::remove_file(path).unwrap();
    }
    let composed = "zo\u{eb}";
    let path = host.write("keys/zoe\u{308}.pgp", &public);
    host.delivery(FILE).user(composed).run().assert_failed("decomposed", 75, "key-store", "looks like");
    fs::remove_file(path).unwrap();
    host.delivery(FILE).user(composed).run().assert_unchanged("nothing", "no-key");
    for name in ["zoe\u{308}", "alice.", "alice ", " alice", "alice@example.org."] {
        host.delivery(FILE).user(name).run().assert_failed(name, 75, "user", "the user name");
    }
    // Other people's.
    for name in ["alice2.pgp", "malice.pgp", "alicia.asc", "Bob.pgp"] {
        host.write(&format!("keys/{name}"), &public);
    }
    host.delivery(FILE).run().assert_unchanged("others'", "no-key");
}

#[test]
fn a_key_in_the_users_own_folder_is_read_or_refused() {
    let Some(host) = host(HOME_DIR) else { return };
    let alice = alice();
    let folder = "home/alice/.config/mailseal";
    for name in ["x.pgp", "x.asc", "x.gpg", "x.key", "x.PGP", "x.Asc"] {
        let path = host.write(&format!("{folder}/{name}"), &made::armored(&alice));
        host.delivery(HOME_DIR).run().assert_sealed(name, &[&alice]);
        fs::remove_file(path).unwrap();
    }
    for (name, bytes) in [
        ("x.txt", made::armored(&alice)),
        ("x", made::public(&alice)),
        (".x.pgp", made::public(&alice)),
        ("x.pgp~", made::armored(&alice)),
        ("letter.eml", [b"Dear Bob,\n\n".to_vec(), made::armored(&alice)].concat()),
        ("x.pgp", b"not yet\n".to_vec()),
        ("x.key", Vec::new()),
    ] {
        let path = host.write(&format!("{folder}/{name}"), &bytes);
        host.delivery(HOME_DIR).run().assert_failed(name, 75, "key-store", name);
        fs::remove_file(path).unwrap();
    }
    host.write(&format!("{folder}/README"), b"put your key here\n");
    host.delivery(HOME_DIR).run().assert_unchanged("a note", "no-key");
    host.folder(&format!("{folder}/old"));
    host.delivery(HOME_DIR).run().assert_failed("a folder", 75, "key-store", "old");
}

#[test]
fn who_ever_had_a_certificate_never_gets_clear_mail() {
    let Some(host) = host(FILE) else { return };
    let enrol = host.write("alice.asc", &made::armored(&alice()));
    let keys = |arguments: &[&str]| {
        let run = host.admin(FILE, arguments);
        assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.stderr);
    };
    keys(&["add", "alice@example.org", enrol.to_str().unwrap()]);
    fs::remove_file(host.path("keys/alice@example.org.pgp")).unwrap();
    let deliver = |user: &str| host.delivery(FILE).user(user).run();
    for user in ["alice@example.org", "ALICE@example.org", "alice", "alice+lists@example.org", "alice+x"] {
        deliver(user).assert_failed(user, 75, "known", "alice");
    }
    deliver("alice@example.net").assert_unchanged("another domain", "no-key");
    deliver("bob@example.org").assert_unchanged("another user", "no-key");
    // Only these are the ways out.
    keys(&["rename", "alice@example.org", "carol@example.org"]);
    deliver("alice@example.org").assert_unchanged("renamed", "no-key");
    deliver("carol@example.org").assert_failed("the new name", 75, "known", "carol");
    keys(&["remove", "carol@example.org"]);
    deliver("carol@example.org").assert_unchanged("removed", "no-key");
}

#[test]
fn a_scan_notes_who_has_a_certificate_anywhere() {
    let keys = r#"sources = ["file:DIR/keys/%{user}.pgp", "dir:%{home}/.config/mailseal"]"#;
    let Some(host) = Host::new() else { return };
    host.write("keys/bob.pgp", &made::public(&alice()));
    host.write("keys/Dave.asc", &made::public(&alice()));
    host.init(r#"sources = ["file:DIR/keys/%{user}.pgp"]"#, &[]);
    // The home of a user of the system: `daemon` has one that is not readable as a home here.
    let run = host.keys(keys, &["init"], &["nobody-has-this-name"]);
    assert_eq!(run.status, Some(1), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(String::from_utf8_lossy(&run.stdout).contains("Dave.asc"));
    for name in ["bob.pgp", "Dave.asc"] {
        fs::remove_file(host.path(&format!("keys/{name}"))).unwrap();
    }
    for user in ["bob", "dave"] {
        host.delivery(keys).user(user).run().assert_failed(user, 75, "known", "once had");
    }
    let run = host.delivery(keys).user("nobody-has-this-name").run();
    run.assert_failed("unasked", 75, "known", "could not be asked");
    host.delivery(keys).run().assert_unchanged("alice, who was not named", "no-key");
}

#[test]
fn the_first_mail_of_a_new_account_is_delivered_before_it_has_a_home() {
    let Some(host) = Host::new() else { return };
    host.folder("vmail");
    host.own("vmail", UID, GID);
    let keys = format!("{HOME_DIR}\nhomes = [\"DIR/vmail\"]");
    host.init(&keys, &[]);
    let home = host.path("vmail/example.org/new");
    let deliver = |keys: &str| host.delivery(keys).user("new@example.org").home(Some(&home)).run();
    deliver(&keys).assert_unchanged("no home yet", "no-key");
    deliver(HOME_DIR).assert_failed("homes are not known to lie there", 75, "home", "new");
    let outside = host.delivery(&keys).home(Some(&host.path("home/gone"))).run();
    outside.assert_failed("a home elsewhere", 75, "home", "gone");
    // The volume is away.
    fs::rename(host.path("vmail"), host.path("volume")).unwrap();
    deliver(&keys).assert_failed("away", 75, "key-store", "vmail");
    host.folder("vmail");
    deliver(&keys).assert_failed("an empty mount point", 75, "key-store", "not mounted");
    // One IMAP login later, the home is there, on the wrong disk.
    host.folder("vmail/example.org/new");
    host.give("vmail/example.org");
    deliver(&keys).assert_failed("a home on an empty mount point", 75, "key-store", "not mounted");
}

/// Who may own and write what: real sites, and what others could turn.
#[test]
fn ownerships_of_real_sites_work_and_others_do_not() {
    let Some(host) = Host::new() else { return };
    let alice = alice();
    let key = "home/alice/.config/mailseal/x.pgp";
    host.write(key, &made::public(&alice));
    const MAIL: u32 = 8;
    const USERS: u32 = 100;
    /// Path, owner, group, mode, whether it is trusted with no further group, and with the group named.
    type Row = (&'static str, u32, u32, u32, bool, bool);
    let rows: [Row; 19] = [
        ("home/alice", UID, UID, 0o775, true, true),
        ("home/alice/.config", UID, UID, 0o775, true, true),
        ("home/alice/.config", UID, UID, 0o2770, true, true),
        (key, UID, UID, 0o664, true, true),
        (key, UID, UID, 0o600, true, true),
        (key, 0, 0, 0o664, true, true),
        ("home", 0, MAIL, 0o2775, false, true),
        ("home", 0, MAIL, 0o2755, true, true),
        ("home", 0, 0, 0o1777, true, true),
        ("home", UID, UID, 0o770, true, true),
        ("home", UID, MAIL, 0o770, false, true),
        ("home/alice/.config", UID, USERS, 0o775, false, true),
        (key, UID, USERS, 0o664, false, true),
        (key, UID, USERS, 0o644, true, true),
        ("home/alice/.config", UID, UID, 0o777, false, false),
        ("home/alice/.config", UID, UID, 0o1777, false, false),
        ("home/alice", UID, UID, 0o757, false, false),
        ("home", UID + 1, UID, 0o755, false, false),
        (key, UID + 1, UID, 0o644, false, false),
    ];
    let reset = || {
        host.give("home/alice");
        host.own("home", 0, 0);
        for folder in ["home", "home/alice", "home/alice/.config", "home/alice/.config/mailseal"] {
            host.mode(folder, 0o755);
        }
        host.mode(key, 0o644);
    };
    for (path, uid, gid, mode, plain, named) in rows {
        reset();
        host.own(path, uid, gid);
        host.mode(path, mode);
        let trusting = format!("{HOME_DIR}\ntrusted-groups = [{MAIL}, {USERS}]");
        for (keys, trusted) in [(HOME_DIR, plain), (&trusting, named)] {
            let name = format!("{path} {uid}:{gid} {mode:o}, {keys}");
            let run = host.delivery(keys).run();
            if trusted {
                run.assert_sealed(&name, &[&alice]);
            } else {
                run.assert_failed(&name, 75, "key-store", path.rsplit('/').next().unwrap());
            }
        }
    }
    reset();
    // Absence is judged from the home down: whoever can write there could have moved the folder away.
    host.init(HOME_DIR, &[]);
    fs::rename(host.path("home/alice/.config/mailseal"), host.path("home/alice/.config/moved")).unwrap();
    host.delivery(HOME_DIR).run().assert_unchanged("nobody else could have", "no-key");
    host.mode("home/alice/.config", 0o777);
    host.delivery(HOME_DIR).run().assert_failed("others could have", 75, "key-store", ".config");
    host.mode("home/alice/.config", 0o755);
    host.mode("home", 0o1777);
    host.delivery(HOME_DIR).run().assert_unchanged("above the home others may write", "no-key");
}

#[test]
fn a_configuration_that_is_gone_or_another_s_seals_nobody_s_mail_by_defaults() {
    let Some(host) = host(FILE) else { return };
    let alice = alice();
    host.write("keys/alice.pgp", &made::public(&alice));
    let config = host.path("mailseal.toml");
    for (name, prepare, what) in [
        ("gone", (&|| fs::remove_file(&config).unwrap()) as &dyn Fn(), "no such file"),
        ("everybody's", &|| host.mode("mailseal.toml", 0o666), "everybody"),
        ("another's", &|| host.own("mailseal.toml", 12345, 12345), "12345"),
        (
            "a link that leads nowhere",
            &|| {
                fs::remove_file(&config).unwrap();
                symlink("gone", &config).unwrap();
            },
            "",
        ),
        (
            "a folder",
            &|| {
                fs::remove_file(&config).unwrap();
                fs::create_dir(&config).unwrap();
            },
            "regular file",
        ),
    ] {
        let delivery = host.delivery(FILE);
        delivery.run_after(prepare).assert_failed(name, 78, "config", what);
        let _ = fs::remove_dir(&config);
        let _ = fs::remove_file(&config);
    }
    host.mode("", 0o777);
    host.delivery(FILE).run().assert_failed("its folder", 78, "config", "everybody");
    host.mode("", 0o755);
    // With --key nobody else is sealed to, and it says so.
    let delivery = host.delivery(FILE).options(&["--key", "DIR/keys/alice.pgp"]);
    let run = delivery.run_after(&|| fs::remove_file(&config).unwrap());
    assert_eq!(run.run.status, Some(0));
    assert!(run.run.stderr.contains("there is no configuration"), "{}", run.run.stderr);
    assert_eq!(run.run.stderr.lines().count(), 1);
    let delivery = host.delivery(FILE).options(&["--key", "DIR/keys/alice.pgp"]);
    delivery.run_after(&|| host.mode("mailseal.toml", 0o666)).assert_failed("everybody's", 78, "config", "");
}

#[test]
fn rules_decide_for_users_and_domains() {
    let Some(host) = host(FILE) else { return };
    let alice = alice();
    host.write("keys/alice.pgp", &made::public(&alice));
    host.write("keys/broken.pgp", b"not a certificate");
    host.write("pilot.pgp", &made::public(&alice));
    let rules = r#"
        [[users]]
        match = ["robot"]
        mode = "off"
        [[users]]
        match = ["alice", "bob", "broken"]
        mode = "observe"
        [[users]]
        match = ["*@pilot.example"]
        key = ["DIR/pilot.pgp"]
        [[users]]
        match = ["*@strict.example"]
        require = true
    "#;
    let deliver = |user: &str, options: &[&str]| {
        host.delivery(FILE).config(&host.text(rules)).user(user).options(options).run()
    };
    deliver("robot", &[]).assert_unchanged("off", "off");
    deliver("x@pilot.example", &[]).assert_sealed("a key for a domain", &[&alice]);
    deliver("x@strict.example", &[]).assert_failed("must have one", 75, "key-required", "no certificate");
    deliver("carol", &[]).assert_unchanged("no rule", "no-key");
    let run = deliver("alice", &[]);
    assert!(testing::oracle::is_unchanged(testing::delivery::MAIL, &run.run), "{}", run.run.stderr);
    assert_eq!((run.log()["outcome"], run.log()["format"]), ("would-seal", "seipd1"), "{}", run.line);
    deliver("bob", &[]).assert_unchanged("observed, without a certificate", "no-key");
    let run = deliver("broken", &[]);
    assert_eq!(run.run.status, Some(0), "{}", run.run.stderr);
    assert_eq!(run.run.stdout, testing::delivery::MAIL);
    assert_eq!((run.log()["outcome"], run.log()["reason"]), ("unchanged", "key-store"), "{}", run.line);
    let run = deliver("alice", &["--unchanged", "fail"]);
    assert_eq!((run.run.status, run.run.stdout.len()), (Some(1), 0), "{}", run.run.stderr);
    // A long message, more of which is read by the trial than is looked at.
    let long = [testing::delivery::MAIL, &b"canary line\n".repeat(300_000)].concat();
    let run = host.delivery(FILE).config(&host.text(rules)).message(&long).run();
    assert_eq!(run.run.stdout, long);
    assert_eq!(run.log()["outcome"], "would-seal");
}

#[test]
fn without_a_user_there_is_no_delivery() {
    let Some(host) = host(FILE) else { return };
    let run = host.delivery(FILE).without_user().run();
    assert_eq!((run.run.status, run.log()["reason"]), (Some(64), "usage"), "{}", run.run.stderr);
    host.write("keys/alice.pgp", &made::public(&alice()));
    let run = host.delivery(FILE).without_user().options(&["--key", "DIR/keys/alice.pgp"]).run();
    assert_eq!((run.run.status, run.log()["user"]), (Some(0), "-"), "{}", run.run.stderr);
}

/// A store that is shared by several servers, each with a register of its own; a restore; a new disk.
#[test]
fn markers_outlive_what_happens_to_servers() {
    let Some(host) = host(FILE) else { return };
    // A second server, with a register of its own, takes the marker that is there.
    let before = fs::read(host.path("keys/.mailseal")).unwrap();
    fs::rename(host.path("known"), host.path("first")).unwrap();
    host.init(FILE, &[]);
    assert_eq!(fs::read(host.path("keys/.mailseal")).unwrap(), before);
    host.delivery(FILE).run().assert_unchanged("on the second", "no-key");
    fs::rename(host.path("known"), host.path("second")).unwrap();
    fs::rename(host.path("first"), host.path("known")).unwrap();
    // A second `init` changes nothing.
    host.init(FILE, &[]);
    assert_eq!(fs::read(host.path("keys/.mailseal")).unwrap(), before);
    host.delivery(FILE).run().assert_unchanged("after init", "no-key");
    // A new disk without the marker is only taken when an admin says so.
    fs::remove_file(host.path("keys/.mailseal")).unwrap();
    let run = host.keys(FILE, &["init"], &[]);
    assert_eq!(run.status, Some(75), "{}", run.stderr);
    assert!(run.stderr.contains("--accept"), "{}", run.stderr);
    let accept = host.path("keys");
    let run = host.keys(FILE, &["init", "--accept", accept.to_str().unwrap()], &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    host.delivery(FILE).run().assert_unchanged("after --accept", "no-key");
    // A source that was added waits for its marker.
    host.folder("more");
    let more = r#"sources = ["file:DIR/keys/%{user}.pgp", "file:DIR/more/%{user}.pgp"]"#;
    host.delivery(more).run().assert_failed("a new store", 75, "key-store", "keys init");
    host.init(more, &[]);
    host.delivery(more).run().assert_unchanged("marked", "no-key");
    assert!(host.path("more/.mailseal").exists());
}

/// What an attack on the register found.
#[test]
fn a_register_is_never_completed_by_what_could_not_be_asked() {
    let Some(host) = Host::new() else { return };
    host.folder("store");
    // The names in these stores do not tell for whom they are: the users must be named.
    for name in ["%{local}-%{domain}.pgp", "%{domain}.pgp", "all.pgp"] {
        let keys = format!("sources = [\"file:DIR/store/{name}\"]");
        let run = host.admin(&keys, &["init"]);
        assert_eq!(run.status, Some(75), "{name}: {}", run.stderr);
        assert!(run.stderr.contains("--users"), "{name}: {}", run.stderr);
        assert!(!host.path("known/.mailseal").exists(), "{name}");
    }
    let run = host.keys(FILE, &["init"], &["alice", "/etc"]);
    assert_ne!(run.status, Some(0), "a name that is none: {}", run.stderr);
}

#[test]
fn a_scan_while_a_store_is_away_changes_nothing() {
    let Some(host) = host(FILE) else { return };
    fs::write(host.path("known/.unasked/bob"), "").unwrap();
    fs::rename(host.path("keys"), host.path("away")).unwrap();
    host.folder("keys");
    let run = host.keys(FILE, &["scan"], &["bob"]);
    assert_eq!(run.status, Some(75), "{}", run.stderr);
    assert!(run.stderr.contains("not mounted"), "{}", run.stderr);
    fs::remove_dir(host.path("keys")).unwrap();
    fs::rename(host.path("away"), host.path("keys")).unwrap();
    host.delivery(FILE).user("bob").run().assert_failed("still unasked", 75, "known", "bob");
    fs::remove_dir_all(host.path("known/.near")).unwrap();
    host.delivery(FILE).run().assert_failed("a register with a part missing", 75, "key-store", ".near");
}

#[test]
fn a_name_is_not_renamed_to_itself() {
    let Some(host) = host(FILE) else { return };
    let enrol = host.write("alice.asc", &made::armored(&alice()));
    assert_eq!(host.admin(FILE, &["add", "alice", enrol.to_str().unwrap()]).status, Some(0));
    assert_eq!(host.admin(FILE, &["rename", "alice", "ALICE"]).status, Some(64));
    fs::remove_file(host.path("keys/alice.pgp")).unwrap();
    host.delivery(FILE).run().assert_failed("alice", 75, "known", "alice");
}

/// Forms that no key file has, and that hold a certificate all the same.
#[test]
fn only_text_without_a_certificate_is_a_note() {
    let Some(host) = host(HOME_DIR) else { return };
    let armored = String::from_utf8(made::armored(&alice())).unwrap();
    let bare: String = armored.lines().filter(|line| line.len() == 64).collect::<Vec<_>>().join("\n");
    let utf16: Vec<u8> = armored.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes) in [
        ("base64", bare.into_bytes()),
        ("utf16.txt", utf16),
        ("x.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0].to_vec()),
        ("x.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec()),
        ("x.der", [0x30, 0x82, 1, 0].to_vec()),
    ] {
        let path = host.write(&format!("home/alice/.config/mailseal/{name}"), &bytes);
        host.delivery(HOME_DIR).run().assert_failed(name, 75, "key-store", name);
        fs::remove_file(path).unwrap();
    }
}

/// An ACL's mask stands where the group's rights do.
#[test]
fn an_acl_that_lets_others_write_is_seen() {
    let Some(host) = host(HOME_DIR) else { return };
    let folder = host.folder("home/alice/.config");
    host.own("home/alice/.config", UID, GID);
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = |other: u16, id: u32| {
        let none = u32::MAX;
        [
            2u32.to_le_bytes().to_vec(),
            entry(0x01, 7, none),
            entry(0x02, other, id),
            entry(0x04, 5, none),
            entry(0x10, 7, none),
            entry(0x20, 5, none),
        ]
        .concat()
    };
    for (rights, id, trusted) in [(7, 6000, false), (7, 0, true), (5, 6000, true)] {
        if xattr::set(&folder, "system.posix_acl_access", &acl(rights, id)).is_err() {
            eprintln!("SKIPPED: no ACLs on this file system");
            return;
        }
        let run = host.delivery(HOME_DIR).run();
        match trusted {
            true => run.assert_unchanged("nobody else", "no-key"),
            false => run.assert_failed("another user", 75, "key-store", "getfacl"),
        }
    }
}
