//! Key files and folders that somebody else could have written, or that are made to hurt: refused, in time, with
//! the reason, and never plaintext. As the mail user, through the filter.

use std::{
    fs,
    io::Write,
    os::unix::{fs::symlink, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sequoia_openpgp::Cert;
use testing::{
    delivery::{GID, Host, UID},
    made,
};

const FILE: &str = r#"sources = ["file:DIR/keys/%{user}.pgp"]"#;
const FOLDER: &str = r#"sources = ["dir:DIR/keys"]"#;
const KEY: &str = "keys/alice.pgp";
const OTHER: u32 = 5999;

fn host() -> Option<(Host, Cert)> {
    let host = Host::new()?;
    let alice = made::cert("Alice <alice@example.org>");
    host.write(KEY, &made::public(&alice));
    Some((host, alice))
}

/// Owner, group, mode; the same rules for the file and its folder.
#[test]
fn only_root_and_the_mail_user_may_be_able_to_write() {
    let Some((host, alice)) = host() else { return };
    let rows: [(&str, u32, u32, u32, Option<&str>); 10] = [
        ("root's", 0, 0, 0o755, None),
        ("the mail user's", UID, GID, 0o755, None),
        ("root's, writable by the mail user's group", 0, GID, 0o775, None),
        ("the mail user's, writable by its group", UID, GID, 0o775, None),
        ("writable by root's group", 0, 0, 0o775, None),
        ("writable by another group", 0, OTHER, 0o775, Some("group id 5999")),
        ("the mail user's, writable by another group", UID, OTHER, 0o775, Some("group id 5999")),
        ("writable by all", 0, 0, 0o757, Some("everybody")),
        ("the mail user's, writable by all", UID, GID, 0o777, Some("everybody")),
        ("somebody else's", OTHER, OTHER, 0o755, Some("user id 5999")),
    ];
    for place in [KEY, "keys"] {
        for (name, uid, gid, mode, refused) in rows {
            host.own(place, uid, gid);
            host.mode(place, mode);
            for keys in [FILE, FOLDER] {
                let (name, run) = (format!("{place} is {name}, {keys}"), host.delivery(keys).run());
                match refused {
                    None => drop(run.assert_sealed(&name, &[&alice])),
                    Some(what) => run.assert_failed(&name, 75, "key-store", what),
                }
            }
        }
        host.own(place, 0, 0);
        host.mode(place, 0o755);
    }
}

/// As in `/tmp`: nobody replaces the files of others there.
#[test]
fn a_sticky_folder_is_as_good_as_its_files() {
    let Some((host, alice)) = host() else { return };
    host.mode("keys", 0o1777);
    host.delivery(FILE).run().assert_sealed("root's file", &[&alice]);
    host.own(KEY, OTHER, OTHER);
    host.delivery(FILE).run().assert_failed("another's file", 75, "key-store", "user id 5999");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let Some((host, alice)) = host() else { return };
    let elsewhere = host.write("elsewhere.pgp", &made::public(&alice));
    let path = host.path(KEY);
    let all = Mode::from_bits_truncate(0o644);
    let rows: [(&str, &str, &dyn Fn()); 7] = [
        ("symbolic link", "symbolic link", &|| symlink(&elsewhere, &path).unwrap()),
        ("dangling link", "symbolic link", &|| symlink(host.path("gone"), &path).unwrap()),
        ("link to itself", "symbolic link", &|| symlink(&path, &path).unwrap()),
        ("FIFO", "regular", &|| nix::unistd::mkfifo(&path, all).unwrap()),
        ("folder", "regular", &|| fs::create_dir(&path).unwrap()),
        ("device", "", &|| mknod(&path, SFlag::S_IFCHR, all, makedev(1, 5)).unwrap()),
        ("socket", "", &|| drop(UnixListener::bind(&path).unwrap())),
    ];
    for (name, what, make) in rows {
        fs::remove_file(&path).unwrap();
        make();
        for keys in [FILE, FOLDER] {
            let start = Instant::now();
            let run = host.delivery(keys).run();
            run.assert_failed(&format!("{name}, {keys}"), 75, "key-store", what);
            assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        }
        let _ = fs::remove_dir(&path);
        let _ = fs::remove_file(&path);
        host.write(KEY, b"");
    }
}

#[test]
fn a_named_file_is_looked_at_as_closely() {
    let Some((host, alice)) = host() else { return };
    host.folder("keys");
    let run = |host: &Host| host.delivery(FILE).options(&["--key", "DIR/keys/alice.pgp"]).run();
    run(&host).assert_sealed("good", &[&alice]);
    host.mode(KEY, 0o666);
    run(&host).assert_failed("writable by all", 75, "key-store", "everybody");
    host.write(KEY, &made::secret(&alice));
    run(&host).assert_failed("secret", 75, "key-store", "secret key");
    fs::remove_file(host.path(KEY)).unwrap();
    symlink(host.path("gone"), host.path(KEY)).unwrap();
    run(&host).assert_failed("dangling", 75, "key-store", "symbolic link");
}

#[test]
fn giants_are_refused_in_time() {
    let Some((host, alice)) = host() else { return };
    let public = made::public(&alice);
    let sparse = |size: u64| {
        let path = host.write(KEY, &public);
        fs::File::options().write(true).open(path).unwrap().set_len(size).unwrap();
    };
    let rows: [(&str, &str, &dyn Fn()); 5] = [
        ("1 GB", "larger", &|| sparse(1 << 30)),
        ("a byte over 1 MiB", "larger", &|| sparse((1 << 20) + 1)),
        ("1 MiB, of which most is nothing", "certificate", &|| sparse(1 << 20)),
        ("65 certificates", "more than 64", &|| drop(host.write(KEY, &public.repeat(65)))),
        ("1 MiB of certificates", "more than 64", &|| {
            drop(host.write(KEY, &public.repeat((1 << 20) / public.len())))
        }),
    ];
    for (name, what, make) in rows {
        make();
        for keys in [FILE, FOLDER] {
            let start = Instant::now();
            let run = host.delivery(keys).run();
            run.assert_failed(&format!("{name}, {keys}"), 75, "key-store", what);
            assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        }
    }
    host.write(KEY, &public.repeat(64));
    let run = host.delivery(FILE).run();
    assert_eq!(run.log()["outcome"], "sealed", "64 certificates: {}", run.run.stderr);
}

#[test]
fn a_folder_with_too_much_in_it_is_refused_in_time() {
    let Some((host, alice)) = host() else { return };
    let public = made::public(&alice);
    for n in 0..64 {
        host.write(&format!("keys/{n:02}.pgp"), &public);
    }
    let run = host.delivery(FOLDER).run();
    run.assert_failed("65 files", 75, "key-store", "more than 64");
    fs::remove_file(host.path(KEY)).unwrap();
    for n in 0..64 {
        host.write(&format!("keys/{n:02}.pgp"), &public.repeat(64));
    }
    let (start, run) = (Instant::now(), host.delivery(FOLDER).run());
    run.assert_sealed("one certificate 4,096 times", &[&alice]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    fs::remove_dir_all(host.path("keys")).unwrap();
    for file in ["keys/1.pgp", "keys/2.pgp"] {
        host.write(file, &(0..33).flat_map(|_| made::public(&made::cert("Alice"))).collect::<Vec<_>>());
    }
    host.delivery(FOLDER).run().assert_failed("66 certificates", 75, "key-store", "more than 64");
}

/// Whatever takes the file's place while it is read: a certificate that was there, or a refusal.
#[test]
fn a_file_that_is_swapped_meanwhile_is_a_whole_one_or_refused() {
    let Some((host, alice)) = host() else { return };
    let other = made::cert("Alice <alice@example.org>");
    let (public, stop) = ([made::public(&alice), made::public(&other)], AtomicBool::new(false));
    let (path, next) = (host.path(KEY), host.path("next"));
    let outcomes = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..7).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                match number {
                    0 | 2 | 4 => drop(host.write("next", &public[number % 4 / 2])),
                    1 => symlink("/dev/null", &next).unwrap(),
                    3 => nix::unistd::mkfifo(&next, Mode::from_bits_truncate(0o644)).unwrap(),
                    5 => drop(host.write("next", &made::secret(&alice))),
                    _ => {
                        host.write("next", &public[0]);
                        host.mode("next", 0o666);
                    }
                }
                fs::rename(&next, &path).unwrap();
            }
        });
        let mut outcomes = [0; 2];
        for number in 0..60 {
            let (start, run) = (Instant::now(), host.delivery(FILE).run());
            assert!(start.elapsed() < Duration::from_secs(2), "{number}: {:?}", start.elapsed());
            if run.run.status == Some(0) {
                let certs = [&alice, &other];
                let sealed = certs.iter().any(|cert| {
                    let keys = run.log()["keys"].to_owned();
                    cert.keys().any(|key| keys.eq_ignore_ascii_case(&key.key().keyid().to_hex()))
                });
                assert!(sealed && !run.run.stdout.ends_with(b"canary in the body\n"), "{}", run.line);
                outcomes[0] += 1;
            } else {
                run.assert_failed(&format!("{number}"), 75, "key-store", "");
                outcomes[1] += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        outcomes
    });
    assert!(outcomes.iter().all(|count| *count > 0), "sealed and refused: {outcomes:?}");
}

/// Certificates flooded with signatures (CVE-2019-13050), and what only looks like one.
#[test]
fn poisoned_certificates_cost_little() {
    let Some((host, _)) = host() else { return };
    let flooded = made::flooded(made::cert("Alice"), 4000);
    let mut nested = vec![0xc8, 0xff, 0, 0, 0, 0];
    nested.extend([0; 1000]);
    let bomb = {
        let mut writer = flate2::write::ZlibEncoder::new(vec![2], flate2::Compression::best());
        writer.write_all(&made::public(&made::cert("Bomb")).repeat(100_000)).unwrap();
        let body = writer.finish().unwrap();
        let mut packet = vec![0xc8, 0xff];
        packet.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        [packet, body].concat()
    };
    for (name, bytes, sealed) in [
        ("4,000 certifications", made::public(&flooded), true),
        ("a compressed packet without an end", nested, false),
        ("a certificate inside a compression bomb", bomb, false),
        ("1 MiB of one packet", [vec![0x99, 0xff, 0xff], vec![0; 1 << 19]].concat(), false),
        ("100,000 empty packets", [0xc6, 0x00].repeat(100_000), false),
        (
            "100,000 User IDs",
            [made::public(&made::cert("Alice")), [0xcd, 0x01, b'a'].repeat(100_000)].concat(),
            true,
        ),
    ] {
        assert!(bytes.len() <= 1 << 20, "{name}: {} bytes are refused for their size", bytes.len());
        host.write(KEY, &bytes);
        let start = Instant::now();
        let run = host.delivery(FILE).run();
        let time = start.elapsed();
        match sealed {
            true => assert_eq!(run.log()["outcome"], "sealed", "{name}: {}", run.run.stderr),
            false => run.assert_failed(name, 75, "key-store", ""),
        }
        assert!(time < Duration::from_secs(20), "{name}: {time:?}");
    }
}

/// A keyring has the same enemies; here the folder inside is what others can write to.
#[test]
fn keyrings_that_others_could_have_written_are_refused() {
    let Some((host, alice)) = host() else { return };
    let hex = made::fingerprint(&alice).to_lowercase();
    let (inner, cert) = (format!("ring/{}", &hex[..2]), format!("ring/{}/{}", &hex[..2], &hex[2..]));
    let public = made::public(&alice);
    let wkd = "ring/example.org/hu/kei1q4tipxxu1yj79k9kfukdhfy631xe";
    let address = "address = \"%{user}@example.org\"";
    for (kind, file, folders) in [
        ("gnupg", "ring/pubring.gpg", vec!["ring"]),
        ("cert-d", &*cert, vec!["ring", &*inner]),
        ("wkd-dir", wkd, vec!["ring", "ring/example.org", "ring/example.org/hu"]),
    ] {
        let _ = fs::remove_dir_all(host.path("ring"));
        host.write(file, &public);
        let keys = format!("sources = [\"{kind}:DIR/ring\"]\n{address}");
        let run = || host.delivery(&keys).run();
        run().assert_sealed(kind, &[&alice]);
        for folder in folders {
            for (mode, uid, what) in
                [(0o777, 0, "everybody"), (0o755, OTHER, "user id 5999"), (0o700, 0, "denied")]
            {
                host.mode(folder, mode);
                host.own(folder, uid, 0);
                run().assert_failed(&format!("{kind}, {folder} {mode:o} {uid}"), 75, "key-store", what);
                host.mode(folder, 0o755);
                host.own(folder, 0, 0);
            }
        }
        for (mode, uid, what) in
            [(0o666, 0, "everybody"), (0o644, OTHER, "user id 5999"), (0o600, 0, "denied")]
        {
            host.mode(file, mode);
            host.own(file, uid, 0);
            run().assert_failed(&format!("{kind}, {file} {mode:o} {uid}"), 75, "key-store", what);
            host.mode(file, 0o644);
            host.own(file, 0, 0);
        }
        fs::rename(host.path(file), host.path("elsewhere")).unwrap();
        symlink(host.path("elsewhere"), host.path(file)).unwrap();
        run().assert_failed(&format!("{kind}, a link"), 75, "key-store", "symbolic link");
        fs::remove_file(host.path(file)).unwrap();
        nix::unistd::mkfifo(&host.path(file), Mode::from_bits_truncate(0o644)).unwrap();
        let (start, run) = (Instant::now(), host.delivery(&keys).options(&["--deadline", "5"]).run());
        // In a certificate directory only files are certificates.
        if kind != "cert-d" {
            run.assert_failed(kind, 75, "key-store", "regular");
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{kind}, a FIFO: {:?}", start.elapsed());
    }
}
