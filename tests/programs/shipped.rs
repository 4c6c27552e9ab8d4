//! What an admin installs beside the programs: systemd's units, OpenBSD's script, AppArmor's rules, alert rules; and the
//! installation itself.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testing::dovecot::lmtp::Lmtp;
use testing::next_hop::NextHop;
use testing::{filter, fixtures, repository, skip};

/// How exposed `systemd-analyze security` may find a service, in tenths of ten: `mailseal serve`, and the others, which are root.
const EXPOSURE: [(&str, &str); 2] = [("mailseal-serve.service", "15"), ("", "35")];

/// Whether a program is there; a visible line where it is not.
fn has(program: &str, package: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        skip::unless_ci(&format!("{program} is missing (Debian: {package})"));
    }
    there
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let run = filter::run(command, b"", 1);
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &run.stderr;
    assert_eq!(run.status, Some(0), "{command:?}: {said}");
    said
}

fn contrib(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("contrib").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The units that ship.
fn units() -> Vec<PathBuf> {
    let kinds = ["service", "socket", "timer"];
    contrib("systemd").into_iter().filter(|path| kinds.contains(&extension(path))).collect()
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|end| end.to_str()).unwrap_or_default()
}

/// The units as they ship, with the programs that were built.
#[test]
fn systemd_takes_the_units() {
    if !has("systemd-analyze", "systemd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = testing::program("mailseal").parent().unwrap().display().to_string();
    let mut placed = Vec::new();
    for path in units() {
        let text = fs::read_to_string(&path).unwrap();
        let place = folder.path().join(path.file_name().unwrap());
        fs::write(&place, text.replace("/usr/local/bin", &programs)).unwrap();
        placed.push(place);
    }
    let said = succeeds(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&placed));
    assert_eq!(said, "");
    for service in placed.iter().filter(|path| extension(path) == "service") {
        let (_, exposure) =
            EXPOSURE.iter().find(|(name, _)| service.ends_with(name) || name.is_empty()).unwrap();
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", &format!("--threshold={exposure}")]);
        let said = succeeds(security.arg(service));
        println!("MEASURED: {}", said.lines().last().unwrap());
    }
}

/// They are enabled as docs/serve.md says, and the user comes to be, in a system of its own.
#[test]
fn systemd_enables_the_units_and_makes_the_user() {
    if !has("systemd-sysusers", "systemd") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let installed = root.path().join("etc/systemd/system");
    fs::create_dir_all(&installed).unwrap();
    for path in units() {
        fs::copy(&path, installed.join(path.file_name().unwrap())).unwrap();
    }
    let root_option = format!("--root={}", root.path().display());
    let names =
        ["mailseal-lmtp.socket", "mailseal-sieve.socket", "mailseal-keys-scan.timer", "mailseal-held.timer"];
    succeeds(Command::new("systemctl").args([&*root_option, "enable"]).args(names));
    for name in names {
        let place = if name.ends_with("socket") { "sockets" } else { "timers" };
        assert!(installed.join(format!("{place}.target.wants")).join(name).is_symlink(), "{name}");
    }
    let users = repository().join("contrib/systemd/mailseal.sysusers");
    succeeds(Command::new("systemd-sysusers").arg(&root_option).arg(users));
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let line = passwd.lines().find(|line| line.starts_with("mailseal:")).unwrap();
    assert!(line.ends_with(":/nonexistent:/usr/sbin/nologin"), "{line}");
    let folders = repository().join("contrib/systemd/mailseal.tmpfiles");
    succeeds(Command::new("systemd-tmpfiles").args([&*root_option, "--create"]).arg(folders));
    let held = fs::metadata(root.path().join("var/spool/mailseal/held")).unwrap();
    assert_eq!(held.mode() & 0o7777, 0o1733);
}

/// Moves to a control group of its own, `$1`, and from there into namespaces: systemd must not see the groups of this machine.
const NAMESPACES: &str = r#"
mkdir "$1"
echo $$ >"$1/cgroup.procs"
exec unshare --fork --kill-child --pid --mount --propagation private --cgroup --uts --ipc --net sh -euc "$2" system "$3"
"#;

/// Makes of namespaces of its own a system in which systemd runs the units in `$1`. What it writes to goes with it.
const SYSTEM: &str = r#"
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /mnt
mkdir /mnt/up /mnt/work
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /etc
for folder in /run /var/lib /var/spool; do mount -t tmpfs -o mode=755 none $folder; done
id postfix >/dev/null 2>&1 || useradd --system postfix
mkdir -p /var/spool/postfix/private /etc/mailseal
chmod 700 /var/spool/postfix/private
chown postfix /var/spool/postfix/private
mount --bind "$1/bin" /usr/local/bin
systemd-sysusers "$1/mailseal.sysusers"
cp "$1/mailseal.toml" /etc
cp -r "$1/keys" /etc/mailseal
echo alice@example.org >/run/users
mailseal keys init --users /run/users
ip link set lo up
cd /
exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin container=lxc SYSTEMD_UNIT_PATH="$1/units" /lib/systemd/systemd --system
"#;

const CONFIGURATION: &str = r#"
[keys]
sources = ["file:/etc/mailseal/keys/%{user}.pgp"]
[log]
to = "stderr"
[serve]
lmtp = "/var/spool/postfix/private/mailseal"
next = "lmtp:/run/next"
userdb = "none"
"#;

/// A systemd in namespaces of its own, which end with it.
struct System {
    unshare: Child,
    pid: u32,
    group: PathBuf,
}

/// Where control groups of the second version are: on a system that still has those of the first, beside them.
fn control_groups() -> Option<&'static Path> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    places.into_iter().find(|place| place.join("cgroup.procs").exists())
}

impl System {
    /// Starts one whose units and whatever else belongs to it lie in `folder`.
    fn start(folder: &Path) -> Self {
        static NTH: AtomicUsize = AtomicUsize::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let name = format!("mailseal-test.{}.{nth}", std::process::id());
        let group = control_groups().unwrap().join(name);
        let mut unshare = Command::new("sh");
        unshare.args(["-euc", NAMESPACES, "namespaces"]).arg(&group).arg(SYSTEM).arg(folder);
        let output = fs::File::create(folder.join("output")).unwrap();
        let unshare = unshare.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut system = Self { unshare: unshare.spawn().unwrap(), pid: 0, group };
        let children = format!("/proc/{id}/task/{id}/children", id = system.unshare.id());
        let door = |system: &Self| system.path("/var/spool/postfix/private/mailseal").exists();
        let end = Instant::now() + Duration::from_secs(60);
        while system.pid == 0 || !door(&system) {
            let said = fs::read_to_string(folder.join("output")).unwrap();
            assert!(system.unshare.try_wait().unwrap().is_none() && Instant::now() < end, "{said}");
            std::thread::sleep(Duration::from_millis(20));
            let child = fs::read_to_string(&children).unwrap_or_default();
            system.pid = child.trim().parse().unwrap_or_default();
        }
        system
    }

    /// One of its files.
    fn path(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.pid).into()
    }

    fn systemctl(&self, arguments: &str) -> String {
        succeeds(self.enter().arg("systemctl").args(arguments.split(' ')))
    }

    fn run(&self, command: &[&str]) -> Output {
        self.enter().args(command).output().unwrap()
    }

    /// Runs in its namespaces what is added.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-n"]);
        command
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // With it goes its first process, and with that one all the others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let end = Instant::now() + Duration::from_secs(10);
        while remove_groups(&self.group).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a control group and those below it, where no process is in them any more.
fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// A system with the units as they ship, whose key store has a certificate of `alice@example.org`, and its folder; a visible line
/// where there can be none.
fn system() -> Option<(System, tempfile::TempDir)> {
    let is_root = nix::unistd::geteuid().is_root();
    if !Path::new("/lib/systemd/systemd").exists() || !is_root || control_groups().is_none() {
        skip::unless_ci("needs systemd, root, and control groups of the second version");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["bin", "keys", "units"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for program in ["mailseal", "encrypt-maildir"] {
        testing::install(program, folder.path().join("bin").join(program));
    }
    fs::copy(fixtures::cert("curve25519"), folder.path().join("keys/alice@example.org.pgp")).unwrap();
    fs::write(folder.path().join("mailseal.toml"), CONFIGURATION).unwrap();
    for path in units() {
        let text = fs::read_to_string(&path).unwrap();
        // There is no Dovecot that could be asked for users, and no mail in /srv.
        let text = text
            .replace(" keys scan\n", " keys scan --users /run/users\n")
            .replace("/srv/mail", "/var/lib/mail");
        fs::write(folder.path().join("units").join(path.file_name().unwrap()), text).unwrap();
    }
    let users = repository().join("contrib/systemd/mailseal.sysusers");
    fs::copy(users, folder.path().join("mailseal.sysusers")).unwrap();
    for name in ["basic", "shutdown", "sockets", "sysinit"] {
        let unit = "[Unit]\nDefaultDependencies=no\n";
        fs::write(folder.path().join(format!("units/{name}.target")), unit).unwrap();
    }
    let unit = "[Unit]\nDefaultDependencies=no\nWants=mailseal-lmtp.socket mailseal-sieve.socket\n";
    fs::write(folder.path().join("units/default.target"), unit).unwrap();
    Some((System::start(folder.path()), folder))
}

/// As they ship, all that they forbid included: a message goes through, a reload and a stop do what they should.
#[test]
fn the_units_serve_under_systemd() {
    let Some((system, _folder)) = system() else { return };
    let next = system.path("/run/next");
    let hop = NextHop::listen(&next);
    fs::set_permissions(&next, fs::Permissions::from_mode(0o666)).unwrap();
    let door = system.path("/var/spool/postfix/private/mailseal");
    let socket = fs::metadata(&door).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o600);
    let mail = b"Subject: hello\r\n\r\ncanary-5e9012\r\n";
    let deliver = || {
        let replies = Lmtp::connect_unix(&door)?.deliver("a@example.net", &["alice@example.org"], mail)?;
        assert_eq!(replies[0].code, 250, "{replies:?}");
        Ok::<_, std::io::Error>(())
    };
    deliver()
        .unwrap_or_else(|error| panic!("{error}: {}", system.systemctl("status mailseal-serve.service")));
    let pid = system.systemctl("show --property=MainPID --value mailseal-serve.service");
    let process = system.path(&format!("/proc/{}", pid.trim()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    for line in ["CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(line), "{status}");
    }
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(
        root.split(' ').nth(5).unwrap().starts_with("ro,"),
        "the file system is not read-only:\n{mounts}"
    );

    system.systemctl("reload mailseal-serve.service");
    deliver().unwrap();
    let again = system.systemctl("show --property=MainPID --value mailseal-serve.service");
    assert_eq!(again, pid, "a reload is no restart");
    for taken in hop.take() {
        assert!(!String::from_utf8_lossy(&taken.message).contains("canary-5e9012"));
    }

    system.systemctl("stop mailseal-lmtp.socket mailseal-sieve.socket mailseal-serve.service");
    assert!(!door.exists() && !system.path("/run/dovecot/mailseal/mailseal-filter").exists());
}

/// The services of the timers can do under systemd what they are for, as they ship.
#[test]
fn the_timers_services_do_their_work_under_systemd() {
    let Some((system, _folder)) = system() else { return };
    let maildir = system.path("/var/lib/mail/alice@example.org/Maildir");
    let owner = Some(1234);
    for name in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(name)).unwrap();
        chown(maildir.join(name), owner, owner).unwrap();
    }
    chown(&maildir, owner, owner).unwrap();
    let message = maildir.join("cur/1700000000.M1P1.host:2,S");
    fs::copy(repository().join("fixtures/mails/plain.eml"), &message).unwrap();
    chown(&message, owner, owner).unwrap();
    for name in ["keys-scan", "keys-check", "sweep"] {
        let unit = format!("mailseal-{name}.service");
        let started = system.run(&["systemctl", "start", &unit]);
        let status = system.run(&["systemctl", "status", &unit]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    }
    let stored: Vec<_> = fs::read_dir(maildir.join("cur")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(stored.len(), 1);
    let sealed = fs::read_to_string(stored[0].path()).unwrap();
    assert!(sealed.contains("BEGIN PGP MESSAGE"), "{sealed}");
    assert_eq!(stored[0].metadata().unwrap().uid(), 1234);
}

/// With Debian's profiles of Dovecot, where they are.
#[test]
fn apparmor_takes_the_rules() {
    let profiles = Path::new("/usr/share/apparmor/extra-profiles");
    let confined = ["usr.lib.dovecot.lmtp", "usr.lib.dovecot.dovecot-lda"];
    if !has("apparmor_parser", "apparmor") || confined.iter().any(|name| !profiles.join(name).exists()) {
        skip::unless_ci("Dovecot's profiles are missing (Debian: apparmor-profiles)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    succeeds(Command::new("cp").args(["-r", "/etc/apparmor.d/.", folder.path().to_str().unwrap()]));
    let rules = repository().join("contrib/apparmor/dovecot-mailseal");
    fs::copy(rules, folder.path().join("local/dovecot-mailseal")).unwrap();
    for name in confined {
        fs::copy(profiles.join(name), folder.path().join(name)).unwrap();
        fs::write(folder.path().join("local").join(name), "include <local/dovecot-mailseal>\n").unwrap();
        let mut parser = Command::new("apparmor_parser");
        parser.args(["--skip-kernel-load", "--skip-cache", "--debug", "--base"]).arg(folder.path());
        let said = succeeds(parser.arg("--Include").arg(folder.path()).arg(folder.path().join(name)));
        assert!(said.contains("mailseal-filter"), "{said}");
    }
}

/// `make install` with the folders of a distribution: nothing says that the programs are elsewhere.
#[test]
fn make_installs_where_it_is_told() {
    if !has("make", "make") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let programs = testing::program("mailseal").parent().unwrap().display().to_string();
    let install = || {
        let mut make = Command::new("make");
        make.args([
            "-s",
            "install",
            "PREFIX=/usr",
            "SYSCONFDIR=/usr/etc",
            "LIBEXECDIR=/usr/libexec/mailseal",
        ]);
        make.arg(format!("DESTDIR={}", root.path().display())).arg(format!("BUILD={programs}"));
        assert_eq!(succeeds(make.current_dir(repository())), "");
    };
    install();
    for path in ["usr/bin/mailseal", "usr/bin/encrypt-maildir", "usr/libexec/mailseal/mailseal-filter"] {
        succeeds(Command::new(root.path().join(path)).arg("--version"));
    }
    let mut count = 0;
    for folder in ["usr/lib", "usr/share/mailseal", "usr/etc", "usr/share/man"] {
        let mut files = vec![root.path().join(folder)];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            count += 1;
            let text = fs::read_to_string(&path).unwrap();
            // What learns from spam is the admin's own program.
            let text = text.replace("/usr/local/lib/dovecot-learn", "");
            for elsewhere in ["/usr/local", " /etc/mailseal", "\"/etc/mailseal", ":/etc/mailseal"] {
                assert!(!text.contains(elsewhere), "{} names {elsewhere}", path.display());
            }
        }
    }
    assert!(count > 50, "{count} files");
    // What asks the network is there where the program can.
    for unit in ["mailseal-keys-refresh.service", "mailseal-keys-refresh.timer"] {
        let there = root.path().join("usr/lib/systemd/system").join(unit).exists();
        assert_eq!(there, cfg!(feature = "network"), "{unit}");
    }
    let sieve = fs::read_to_string(root.path().join("usr/share/mailseal/sieve/dovecot-2.4.conf")).unwrap();
    assert!(sieve.contains("\nsieve_filter_bin_dir = /usr/libexec/mailseal\n"), "{sieve}");
    // Installed again, an admin's configuration stays.
    let configuration = root.path().join("usr/etc/mailseal.toml");
    fs::write(&configuration, "# mine\n").unwrap();
    install();
    assert_eq!(fs::read_to_string(&configuration).unwrap(), "# mine\n");
}

/// The package is of this version.
#[test]
fn the_package_has_the_programs_version() {
    let changelog = fs::read_to_string(repository().join("debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("mailseal ({}) ", env!("CARGO_PKG_VERSION"))), "{changelog}");
}

/// The site has every page of docs/.
#[test]
fn the_table_of_contents_lists_every_page() {
    let contents = fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<&str> = contents
        .lines()
        .filter_map(|line| line.rsplit_once("](").and_then(|(_, rest)| rest.strip_suffix(')')))
        .collect();
    for page in &listed {
        assert!(repository().join("docs").join(page).exists(), "{page} is listed, and is not there");
    }
    for page in fs::read_dir(repository().join("docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let found = listed.contains(&&*name) || !name.ends_with(".md") || name == "SUMMARY.md";
        assert!(found, "docs/SUMMARY.md does not list {name}");
    }
}

#[test]
fn a_shell_takes_the_script_for_openbsd() {
    for path in contrib("openbsd") {
        succeeds(Command::new("sh").arg("-n").arg(&path));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/bin/ksh\n") && text.ends_with("\nrc_cmd $1\n"), "{text}");
    }
}

/// docs/serve.md shows the files as they ship.
#[test]
fn the_page_shows_what_ships() {
    let page = fs::read_to_string(repository().join("docs/serve.md")).unwrap();
    let shown: Vec<&str> = page.lines().map(str::trim).collect();
    for name in ["contrib/mta/postfix-main.cf", "sieve/dovecot-serve.conf"] {
        let text = fs::read_to_string(repository().join(name)).unwrap();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(shown.contains(&line), "{name}: {line}");
        }
    }
    for (place, _) in page.match_indices("contrib/").chain(page.match_indices("monitoring/")) {
        let path: String = page[place..].chars().take_while(|c| !" `\n)".contains(*c)).collect();
        assert!(repository().join(&path).exists(), "{path}");
    }
}

#[test]
fn the_alerts_come_when_something_is_wrong_and_not_before() {
    if !has("promtool", "prometheus") {
        return;
    }
    let rules = repository().join("monitoring/mailseal-alerts.yml");
    succeeds(Command::new("promtool").args(["check", "rules"]).arg(rules));
    let tests = repository().join("tests/programs/alerts.yml");
    succeeds(Command::new("promtool").args(["test", "rules"]).arg(tests));
}
