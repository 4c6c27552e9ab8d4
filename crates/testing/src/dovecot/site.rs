//! The folder a test Dovecot lives in: the shipped Sieve files with this folder's paths put in, users,
//! certificates, the filter program.

use super::flavour::Flavour;
use super::users::{DELIVERY_GROUP, DELIVERY_USER, USERS};
use crate::gnupg;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// A wrapper that keeps the filter waiting for the end of its input until the file `tmp/release` appears, or
/// the filter has ended.
pub const HELD_OPEN: &str = r#"
fifo=$SITE/tmp/input.$$
release=$SITE/tmp/release
rm -f "$release"
mkfifo "$fifo"
exec 9<&0
{ cat <&9; until [ -e "$release" ]; do sleep 0.02; done; } >"$fifo" &
exec 9<&-
"$FILTER" "$@" <"$fifo"
status=$?
[ -e "$release" ] || : >"$release"
wait
rm -f "$fifo" "$release"
exit $status
"#;

/// One server's folder and addresses.
pub struct Site {
    /// Which Dovecot it is for.
    pub flavour: Flavour,
    /// The server's own address; a loopback one, unless another was given.
    pub address: Ipv4Addr,
    /// Where LMTP is spoken.
    pub lmtp_port: u16,
    /// Where IMAP is spoken.
    pub imap_port: u16,
    dir: TempDir,
}

/// What stands where the filter program is expected.
pub enum Program<'a> {
    /// The product.
    Filter,
    /// A shell script; `$FILTER` is the product.
    Script(&'a str),
    /// The product without the right to run it.
    NotExecutable,
    /// Nothing.
    Missing,
}

impl Site {
    /// Lays the folder out; `script` is the shipped Sieve script to use.
    pub fn new(flavour: Flavour, script: &str) -> Self {
        Self::at(flavour, script, own_address())
    }

    /// The same for a server that listens on this address.
    pub fn at(flavour: Flavour, script: &str, address: Ipv4Addr) -> Self {
        let dir = tempfile::Builder::new().prefix("mailseal-").tempdir().unwrap();
        let site =
            Self { flavour, address, lmtp_port: free_port(address), imap_port: free_port(address), dir };
        site.mode("", 0o755);
        for folder in ["bin", "libexec", "sieve", "keys", "failclosed", "state"] {
            site.folder(folder, 0o755);
        }
        for folder in ["tmp", "home"] {
            site.folder(folder, 0o700);
            chown(site.path(folder), Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
        }
        // dovecot-lda writes to the log as the mail user.
        site.write("dovecot.log", b"", 0o666);
        site.write("users", USERS.map(|user| flavour.user(user, &[])).concat().as_bytes(), 0o644);
        site.write("failclosed/.defer", b"", 0o444);
        site.write("mailseal.conf", site.shipped(flavour.snippet()).as_bytes(), 0o644);
        site.write("first.conf", b"", 0o644);
        site.write("extra.conf", b"", 0o644);
        site.write("dovecot.conf", site.settings().as_bytes(), 0o644);
        site.write("sieve/mailseal.sieve", site.shipped(script).as_bytes(), 0o644);
        site.write("sieve/mailseal-imap.sieve", site.shipped("mailseal-imap.sieve").as_bytes(), 0o644);
        site.configure("", "");
        crate::install("mailseal-filter", site.path("libexec/mailseal-filter"));
        site.mode("libexec/mailseal-filter", 0o755);
        site.install(Program::Filter);
        site
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `/etc/mailseal.toml`'s stand-in: the site's key folder, `keys` and `message` lines added to it.
    pub fn configure(&self, keys: &str, message: &str) {
        let folder = self.path("keys");
        let text = format!(
            "[keys]\nsources = [\"file:{}/%{{user}}.pgp\"]\nknown = \"{}\"\n{keys}\n[message]\n{message}\n[log]\nto = \"stderr\"\n",
            folder.display(),
            self.path("known").display()
        );
        self.write("mailseal.toml", text.as_bytes(), 0o644);
        if !self.path("known/.mailseal").exists() {
            self.init();
        }
    }

    /// What `mailseal keys init` does once: it marks the key folder.
    fn init(&self) {
        self.write("users.list", b"", 0o644);
        let mut mailseal = Command::new(crate::program("mailseal"));
        mailseal.arg("--config").arg(self.path("mailseal.toml")).args(["keys", "init", "--users"]);
        let output = mailseal.arg(self.path("users.list")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds users, or gives those there are settings of their own in the user database, as `key=FILE`.
    pub fn set_users(&self, users: &[(&str, &[&str])]) {
        let file = fs::read_to_string(self.path("users")).unwrap();
        let named = |line: &&str| users.iter().any(|(user, _)| line.starts_with(&format!("{user}:")));
        let mut file: String = file.split_inclusive('\n').filter(|line| !named(line)).collect();
        file.extend(users.iter().map(|(user, settings)| self.flavour.user(user, settings)));
        self.write("users", file.as_bytes(), 0o644);
        // Dovecot looks at the file once a second.
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// Puts a certificate where `mailseal keys add` would.
    pub fn enrol(&self, user: &str, certificate: &[u8]) {
        self.write(&key_file(user), certificate, 0o644);
    }

    /// Puts `program` where the Sieve script looks for the filter.
    pub fn install(&self, program: Program<'_>) {
        let place = self.path("bin/mailseal-filter");
        let _ = fs::remove_file(&place);
        let filter = self.path("libexec/mailseal-filter");
        match program {
            Program::Filter => fs::hard_link(filter, &place).unwrap(),
            Program::Script(script) => {
                let paths = format!("FILTER={}\nSITE={}", filter.display(), self.dir().display());
                // Without -p, a shell that Dovecot 2.4 starts with root as its real user becomes root.
                let script = format!("#!/bin/sh -p\n{paths}\n{script}\n");
                self.write("bin/mailseal-filter", script.as_bytes(), 0o755);
            }
            Program::NotExecutable => {
                fs::copy(filter, &place).unwrap();
                self.mode("bin/mailseal-filter", 0o644);
            }
            Program::Missing => {}
        }
    }

    /// Writes a file that everybody with the rights in `mode` can use.
    pub fn write(&self, name: &str, content: &[u8], mode: u32) {
        fs::write(self.path(name), content).unwrap();
        self.mode(name, mode);
    }

    /// Writes a file in a user's home, as the mail user's own, and the folders that lead to it.
    pub fn write_home(&self, user: &str, name: &str, content: &[u8]) {
        let home = self.home(user);
        let file = home.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        for path in file.ancestors().take_while(|path| path.starts_with(&home)) {
            chown(path, Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
        }
    }

    /// Changes the rights of a file or folder.
    pub fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A user's home.
    pub fn home(&self, user: &str) -> PathBuf {
        self.path("home").join(user)
    }

    /// A GnuPG home in a user's home, with these keys, and what `make` puts there.
    pub fn gnupg_home(&self, user: &str, keys: &[&[u8]], make: impl FnOnce(&gnupg::Home)) {
        self.write_home(user, ".gnupg/x", b"");
        let path = self.home(user).join(".gnupg");
        let home = gnupg::Home::at(&path);
        keys.iter().for_each(|key| home.import(key));
        make(&home);
        drop(home);
        give_to_mail_user(&path);
    }

    /// Compiles a global script, as an admin does; deliveries may not write beside it.
    pub fn compile(&self, name: &str) {
        let mut sievec = self.flavour.command("sievec");
        sievec.arg("-c").arg(self.path("dovecot.conf")).arg(self.path(name));
        let output = sievec.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "sievec {name}: {said}");
    }

    /// Every regular file that holds `text` and lies where a delivery may leave something: homes, the spool
    /// folder, the trap, the log.
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for place in ["home", "tmp", "failclosed", "dovecot.log", "run", "state"] {
            search(&self.path(place), text.as_bytes(), &mut found);
        }
        found
    }

    /// Dovecot's log up to now; the filter's own lines are in it.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("dovecot.log")).unwrap()).into_owned()
    }

    fn folder(&self, name: &str, mode: u32) {
        fs::create_dir(self.path(name)).unwrap();
        self.mode(name, mode);
    }

    /// A file of `sieve/` with this site's paths in the place of the installed ones.
    pub fn shipped(&self, name: &str) -> String {
        let file = crate::repository().join("sieve").join(name);
        let mut text = fs::read_to_string(file).unwrap();
        let dir = self.dir().display();
        let places: &[(&str, &str)] = if name == "mailseal-learn.sieve" {
            &[]
        } else if name.contains("learn") {
            &[("/etc/dovecot/sieve/", "sieve/"), ("/usr/local/lib/dovecot-learn", "learn")]
        } else if name.ends_with(".sieve") {
            &[("/etc/mailseal.toml", "mailseal.toml")]
        } else if name.contains("imap") || name.contains("receive") {
            &[("/etc/dovecot/sieve/", "sieve/")]
        } else {
            &[
                ("/etc/dovecot/sieve/", "sieve/"),
                ("/usr/local/lib/mailseal/bin", "bin"),
                ("/var/lib/mailseal/failclosed", "failclosed"),
            ]
        };
        for (installed, here) in places {
            assert!(text.contains(installed), "{name} no longer names {installed}");
            text = text.replace(installed, &format!("{dir}/{here}"));
        }
        text
    }

    /// A server of virtual users, as it was before an admin included our snippet.
    fn settings(&self) -> String {
        let Self { flavour, address, lmtp_port, imap_port, .. } = self;
        let dir = self.dir().display();
        let versions = match flavour {
            Flavour::V2_3 => format!(
                "\
protocols = imap lmtp
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {{
  driver = passwd-file
  args = {dir}/users
}}
userdb {{
  driver = passwd-file
  args = {dir}/users
  default_fields = uid={DELIVERY_USER} gid={DELIVERY_GROUP} home={dir}/home/%u
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
!include {dir}/first.conf
!include {dir}/mailseal.conf
"
            ),
            Flavour::V2_4 => format!(
                "\
protocols {{
  imap = yes
  lmtp = yes
}}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb passwd-file {{
  passwd_file_path = {dir}/users
}}
userdb passwd-file {{
  passwd_file_path = {dir}/users
  fields {{
    uid = {DELIVERY_USER}
    gid = {DELIVERY_GROUP}
    home = {dir}/home/%{{user}}
  }}
}}
!include {dir}/first.conf
!include {dir}/mailseal.conf
sieve_script personal {{
  driver = file
  path = ~/sieve
  active_path = ~/.dovecot.sieve
}}
"
            ),
        };
        let head = match flavour {
            Flavour::V2_3 => "",
            Flavour::V2_4 => "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n",
        };
        format!(
            "\
{head}base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
mail_temp_dir = {dir}/tmp
listen = {address}
ssl = no
login_trusted_networks = 127.0.0.0/8
first_valid_uid = {DELIVERY_USER}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    {listen} = {address}
    port = {lmtp_port}
  }}
}}
{versions}!include {dir}/extra.conf
",
            listen = match flavour {
                Flavour::V2_3 => "address",
                Flavour::V2_4 => "listen",
            }
        )
    }
}

/// The file that holds a user's certificate.
pub fn key_file(user: &str) -> String {
    format!("keys/{user}.pgp")
}

/// A loopback address that no other server of this or another test process uses, so that ports cannot clash.
fn own_address() -> Ipv4Addr {
    static SERVERS: AtomicU16 = AtomicU16::new(0);
    let server = u8::try_from(SERVERS.fetch_add(1, Ordering::Relaxed) % 200).unwrap();
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 10 + server, high, low.clamp(1, 254))
}

/// A port of the address that nobody listens on, below those that the kernel gives to outgoing connections.
pub fn free_port(address: Ipv4Addr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000;
        if TcpListener::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// Makes a folder, and all below it, the mail user's own.
fn give_to_mail_user(path: &Path) {
    chown(path, Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
    for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            give_to_mail_user(&entry);
        } else {
            chown(entry, Some(DELIVERY_USER), Some(DELIVERY_GROUP)).unwrap();
        }
    }
}

fn search(path: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
    let Ok(kind) = fs::symlink_metadata(path).map(|metadata| metadata.file_type()) else { return };
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            search(&entry.path(), text, found);
        }
    } else if kind.is_file() {
        let content = fs::read(path).unwrap_or_default();
        if content.windows(text.len()).any(|window| window == text) {
            found.push(path.to_owned());
        }
    }
}
