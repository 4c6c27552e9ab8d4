//! Root works for users whose certificates lie at home, and opens nothing there: what an owner puts into the home meets the
//! owner's rights.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::stat::Mode;

use super::{ALICE, Host, Run, UID, alice, assert_refused, code_in, json, made, skip};
use testing::filter;

/// Certificates are enrolled at home.
const AT_HOME: &str = "sources = [\"file:%{home}/mailseal.pgp\"]";

/// They are enrolled in a store of root's, and may lie at home.
const MIXED: &str = "sources = [\"file:DIR/keys/%{user}.pgp\", \"dir:%{home}/.config/mailseal\"]";

/// Nothing that an owner puts into a home is waited for.
const SOON: Duration = Duration::from_secs(30);

/// A host whose user has a home.
trait AtHome {
    /// A place in the home.
    fn home(&self, name: &str) -> PathBuf;
    /// Puts a file or folder of the owner's into the home.
    fn put(&self, name: &str, make: impl FnOnce(&Path));
    /// `mailseal keys COMMAND alice --home HOME ARGUMENTS` as root.
    fn at_home(&self, keys: &str, command: &str, arguments: &[&str]) -> Run;
    /// Enrols a new certificate.
    fn add(&self, keys: &str, options: &[&str]) -> Run;
    /// Whether the register of known users has the user.
    fn is_known(&self) -> bool;
}

impl AtHome for Host {
    fn home(&self, name: &str) -> PathBuf {
        self.path(&format!("home/alice/{name}"))
    }

    fn put(&self, name: &str, make: impl FnOnce(&Path)) {
        let path = self.home(name);
        make(&path);
        lchown(path, Some(UID), Some(UID)).unwrap();
    }

    fn at_home(&self, keys: &str, command: &str, arguments: &[&str]) -> Run {
        let home = self.path("home/alice");
        self.admin(keys, &[&[command, "alice", "--home", home.to_str().unwrap()], arguments].concat())
    }

    fn add(&self, keys: &str, options: &[&str]) -> Run {
        let file = self.write("new.pgp", &made::public(&alice()));
        self.mode("new.pgp", 0o600);
        self.at_home(keys, "add", &[&[file.to_str().unwrap()], options].concat())
    }

    fn is_known(&self) -> bool {
        self.path("known/alice").exists()
    }
}

#[test]
fn certificates_at_home_are_enrolled_shown_tested_confirmed_and_removed_by_root() {
    let Some(host) = Host::new() else { return };
    host.mode("home/alice", 0o700);
    let cert = alice();
    let file = host.write("alice.pgp", &made::public(&cert));
    // What root alone can read is root's to give.
    host.mode("alice.pgp", 0o600);
    host.init(AT_HOME, &[]);
    let shown = host.at_home(AT_HOME, "show", &[]);
    assert_eq!((shown.status, &*shown.stderr), (Some(1), ""));
    assert_eq!(shown.stdout, b"alice has no certificate\n");

    let said = host.at_home(AT_HOME, "add", &[file.to_str().unwrap()]).said();
    let stored = host.home("mailseal.pgp");
    assert!(said.contains(&format!(
        "enrolled {} for alice in {}",
        made::fingerprint(&cert),
        stored.display()
    )));
    let metadata = fs::metadata(&stored).unwrap();
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (UID, 0o644), "{said}");
    assert!(host.is_known());
    host.delivery(AT_HOME).run().assert_sealed("delivery", &[&cert]);
    assert_refused("another", &host.add(AT_HOME, &[]), 64, "has another certificate already");

    let code = code_in(&host.at_home(AT_HOME, "test", &[]), &cert);
    let run = host.at_home(AT_HOME, "confirm", &["ybndrfg8ejkm"]);
    assert_eq!((run.status, &*run.stderr), (Some(1), ""));
    assert!(String::from_utf8_lossy(&run.stdout).contains("not the code"), "{run:?}");
    host.at_home(AT_HOME, "confirm", &[&code]).said();
    let rows = json(&host.at_home(AT_HOME, "show", &["--json"]));
    assert_eq!((rows.len(), &rows[0]["fingerprint"]), (1, &made::fingerprint(&cert).into()));
    let shown = host.at_home(AT_HOME, "show", &[]).said();
    assert!(shown.contains("confirmed  yes") && shown.contains(ALICE), "{shown}");

    assert_refused("no such", &host.at_home(AT_HOME, "remove", &["0123456789"]), 64, "no such certificate");
    let said = host.at_home(AT_HOME, "remove", &[]).said();
    let expected = format!("removed {} of alice\nwarning: new mail for alice", made::fingerprint(&cert));
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(fs::read_dir(host.home("")).unwrap().count(), 0, "nothing is left in the home");
    assert!(!host.is_known());
    assert_refused("again", &host.at_home(AT_HOME, "remove", &[]), 64, "no such certificate");
}

#[test]
fn what_is_to_be_stored_at_home_is_noted_first() {
    let Some(host) = Host::new() else { return };
    host.write("known", b"no folder");
    assert_refused("no register", &host.add(AT_HOME, &[]), 75, "known");
    assert!(!host.home("mailseal.pgp").exists(), "nothing is stored");
    fs::remove_file(host.path("known")).unwrap();
    // What is refused makes nobody known.
    let broken = host.write("broken.pgp", b"hello");
    assert_refused("broken", &host.at_home(AT_HOME, "add", &[broken.to_str().unwrap()]), 1, "certificate");
    assert!(!host.is_known());
    host.add(AT_HOME, &[]).said();
    assert!(host.is_known());
}

/// The owner of a home can put a link to any file of root's there.
#[test]
fn no_link_at_home_leads_root_to_a_file_of_its_own() {
    let Some(host) = Host::new() else { return };
    let victim = host.write("victim", b"root's own");
    host.mode("victim", 0o600);
    let unchanged = || assert_eq!(fs::read(&victim).unwrap(), b"root's own");
    host.put("mailseal.pgp", |path| symlink(&victim, path).unwrap());
    host.put("mailseal.pgp.test", |path| symlink(&victim, path).unwrap());
    for (command, arguments) in
        [("add", &["/dev/null"][..]), ("show", &[]), ("test", &[]), ("confirm", &["x"])]
    {
        let run = match command {
            "add" => host.add(AT_HOME, &["--also"]),
            _ => host.at_home(AT_HOME, command, arguments),
        };
        assert_refused(command, &run, 75, "it is a symbolic link");
        unchanged();
    }
    // The link is replaced, as its owner might have done.
    host.add(AT_HOME, &["--replace"]).said();
    unchanged();
    assert_eq!(fs::symlink_metadata(host.home("mailseal.pgp")).unwrap().uid(), UID);
    host.at_home(AT_HOME, "remove", &[]).said();
    unchanged();
}

#[test]
fn no_folder_at_home_leads_root_to_a_folder_of_its_own() {
    let Some(host) = Host::new() else { return };
    let keys = "sources = [\"file:%{home}/keys/x.pgp\"]";
    host.put("keys", |path| symlink(host.path("roots"), path).unwrap());
    for mode in [0o755, 0o700] {
        host.write("roots/x.pgp", &made::public(&made::cert("Root <root@example.org>")));
        host.mode("roots", mode);
        for options in [&[][..], &["--replace"]] {
            let run = host.add(keys, options);
            assert!(run.status != Some(0) && run.stdout.is_empty(), "{mode:o} {options:?}: {run:?}");
        }
        assert_refused("remove", &host.at_home(keys, "remove", &[]), 75, "denied");
        assert_eq!(fs::read_dir(host.path("roots")).unwrap().count(), 1, "{mode:o}");
    }
    // Root may see into the folder, and the owner not.
    assert_refused("show", &host.at_home(keys, "show", &[]), 75, "denied");
    // A FIFO in the place of the folder is not waited for.
    fs::remove_file(host.home("keys")).unwrap();
    host.put("keys", |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap());
    let begin = Instant::now();
    assert_refused("FIFO", &host.add(keys, &[]), 75, "keys");
    assert!(begin.elapsed() < SOON);
}

#[test]
fn nothing_of_roots_is_shown_for_a_user_whose_home_leads_there() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    let root = made::cert("Root <root@example.org>");
    let secret = host.write("secret/x.pgp", &made::public(&root));
    let device = |path: &Path| {
        let made = Command::new("mknod").arg(path).args(["c", "1", "5"]).status();
        let is_device = fs::metadata(path).is_ok_and(|it| it.file_type().is_char_device());
        if !made.is_ok_and(|status| status.success()) || !is_device {
            skip::say("no device can be made here");
            let _ = fs::remove_file(path);
            fs::create_dir(path).unwrap();
        }
    };
    let roots_folder = |path: &Path| {
        fs::remove_dir(path.parent().unwrap()).unwrap();
        symlink(host.path("secret"), path.parent().unwrap()).unwrap();
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let rows: [(&str, Make<'_>); 6] = [
        ("a link to a file of root's", &|path| symlink(&secret, path).unwrap()),
        ("a FIFO", &|path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap()),
        ("a link to a device", &|path| symlink("/dev/zero", path).unwrap()),
        ("a device", &device),
        ("a folder", &|path| fs::create_dir(path).unwrap()),
        ("a folder of root's", &roots_folder),
    ];
    for (name, make) in rows {
        host.mode("secret/x.pgp", 0o600);
        host.mode("secret", 0o700);
        let _ = fs::remove_dir_all(host.home(".config"));
        fs::create_dir_all(host.home(".config/mailseal")).unwrap();
        make(&host.home(".config/mailseal/x.pgp"));
        host.give("home/alice/.config");
        // A link is not followed there.
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0, "{name}");
        for command in ["show", "test"] {
            let begin = Instant::now();
            let run = host.at_home(MIXED, command, &[]);
            assert_refused(name, &run, 75, ".config/mailseal");
            assert!(!run.stderr.contains(&made::fingerprint(&root)), "{name}: {run:?}");
            assert!(begin.elapsed() < SOON, "{name}");
        }
    }
}

#[test]
fn a_store_of_roots_and_the_homes_are_asked_in_their_order() {
    let Some(host) = Host::new() else { return };
    host.folder("keys");
    let (stored, home) = (alice(), made::cert("At home <alice@example.org>"));
    fs::create_dir_all(host.home(".config/mailseal")).unwrap();
    fs::write(host.home(".config/mailseal/a.pgp"), made::public(&home)).unwrap();
    host.give("home/alice/.config");
    host.mode("home/alice", 0o700);
    host.init(MIXED, &[]);
    let shown = || json(&host.at_home(MIXED, "show", &["--json"]))[0]["fingerprint"].clone();
    assert_eq!(shown(), *made::fingerprint(&home));
    // The code of a test message to a certificate at home lies in the store.
    let code = code_in(&host.at_home(MIXED, "test", &[]), &home);
    host.at_home(MIXED, "confirm", &[&code]).said();
    assert!(host.at_home(MIXED, "show", &[]).said().contains("confirmed  yes"));

    let file = host.write("alice.pgp", &made::public(&stored));
    host.at_home(MIXED, "add", &[file.to_str().unwrap()]).said();
    assert_eq!(fs::metadata(host.path("keys/alice.pgp")).unwrap().uid(), 0);
    assert_eq!(shown(), *made::fingerprint(&stored), "the first source decides");
    let said = host.at_home(MIXED, "remove", &[]).said();
    assert!(said.contains("has a certificate in another source, and stays known"), "{said}");
    assert!(host.is_known());
    // What cannot be looked at may be a certificate.
    host.put(".config/mailseal/x", |path| fs::write(path, b"-----BEGIN ").unwrap());
    fs::remove_file(host.home(".config/mailseal/a.pgp")).unwrap();
    let run = host.at_home(MIXED, "remove", &[]);
    let said = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status, Some(1), "{said}");
    assert!(said.contains("stays known") && host.is_known(), "{said}");
    fs::remove_dir_all(host.home(".config")).unwrap();
    let said = host.at_home(MIXED, "remove", &[]).said();
    assert!(said.contains("warning: new mail for alice") && !host.is_known(), "{said}");
}

/// A home of root's is root's to write into, unless somebody else can put another one in its place.
#[test]
fn whose_a_home_is_depends_on_what_lies_above_it() {
    let Some(host) = Host::new() else { return };
    let file = host.write("alice.pgp", &made::public(&alice()));
    let add = |home: PathBuf| {
        let run =
            host.admin(AT_HOME, &["add", "alice", "--home", home.to_str().unwrap(), file.to_str().unwrap()]);
        (run, fs::metadata(home.join("mailseal.pgp")).map(|metadata| metadata.uid()).ok())
    };
    let (run, owner) = add(host.folder("roots"));
    assert_eq!((run.status, owner), (Some(0), Some(0)), "{run:?}");
    let (run, owner) = add(host.folder("home/alice/roots"));
    assert_eq!((run.status, owner), (Some(75), None), "{run:?}");
    // A link is followed where root made it.
    symlink(host.path("home/alice"), host.path("link")).unwrap();
    let (run, owner) = add(host.path("link"));
    assert_eq!((run.status, owner), (Some(0), Some(UID)), "{run:?}");
    host.put("link", |path| symlink(host.path("roots"), path).unwrap());
    let (run, _) = add(host.path("home/alice/link"));
    assert_refused("a link of the owner's", &run, 75, "link");
    assert_refused("no home", &add(host.path("gone")).0, 75, "gone");
}

/// What root's own process opens, without those that it starts.
#[test]
fn roots_own_process_opens_nothing_in_a_home() {
    let Some(host) = Host::new() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip::unless_ci("there is no strace");
    }
    host.folder("keys");
    fs::create_dir_all(host.home(".config/mailseal")).unwrap();
    let cert = alice();
    let file = host.write("alice.pgp", &made::public(&cert));
    fs::copy(&file, host.home(".config/mailseal/a.pgp")).unwrap();
    host.give("home/alice/.config");
    let log = host.path("strace.log");
    let traced = |keys: &str, command: &str, arguments: &[&str]| {
        let text = host.text(&format!("[keys]\nknown = \"DIR/known\"\n{keys}\n"));
        let config = host.write("traced.toml", text.as_bytes());
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=%file", "-e", "signal=none", "-o"]).arg(&log);
        strace.arg(testing::program("mailseal")).arg("--config").arg(config).args(["keys", command, "alice"]);
        let run = filter::run(strace.arg("--home").arg(host.path("home/alice")).args(arguments), b"", 1);
        assert_eq!(run.status, Some(0), "{command}: {run:?}");
        let calls = fs::read_to_string(&log).unwrap();
        let is_home = |call: &&str| {
            ["home/alice", "\"alice\"", ".config", "mailseal.pgp"].iter().any(|it| call.contains(it))
        };
        let looked_up = ["O_PATH", "\"alice\", {st_mode", "execve("];
        let is_passing = |call: &&str| looked_up.iter().any(|it| call.contains(it));
        let touched: Vec<&str> = calls.lines().filter(is_home).filter(|call| !is_passing(call)).collect();
        assert!(calls.contains("traced.toml"), "{command}: {calls}");
        assert!(touched.is_empty(), "{command}: {touched:#?}");
        run
    };
    traced(MIXED, "show", &[]);
    traced(MIXED, "test", &[]);
    traced(MIXED, "add", &[file.to_str().unwrap()]);
    traced(MIXED, "remove", &[]);
    traced(AT_HOME, "add", &[file.to_str().unwrap()]);
    traced(AT_HOME, "show", &[]);
    let code = code_in(&traced(AT_HOME, "test", &[]), &cert);
    traced(AT_HOME, "confirm", &[&code]);
    traced(AT_HOME, "remove", &[]);
}
