//! Opens S/MIME by programs that did not write it: openssl, gpgsm, and NSS, which is Thunderbird's.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::filter::{Run, run};
use super::fixtures::folder;

/// `fixtures/smime/NAME`.
pub fn file(name: &str) -> PathBuf {
    folder("smime").join(name)
}

/// The private key to the certificate `NAME.pem`. Those that list AES-256-GCM have the keys of others.
pub fn key(name: &str) -> PathBuf {
    file(&format!("{}.key", name.trim_end_matches("-gcm")))
}

/// What runs of a reader give.
pub type Opened = Result<Vec<u8>, String>;

/// The content of the S/MIME message `mail`, opened by openssl with the key of the fixture.
pub fn openssl(name: &str, mail: &[u8]) -> Opened {
    let mut command = Command::new("openssl");
    command
        .args(["cms", "-decrypt", "-inform", "SMIME", "-binary", "-recip"])
        .arg(file(&format!("{name}.pem")));
    command.arg("-inkey").arg(key(name));
    told("openssl", run(&mut command, mail, mail.len().max(1)))
}

fn told(reader: &str, run: Run) -> Opened {
    if run.status == Some(0) {
        Ok(run.stdout)
    } else {
        Err(format!("{reader}: {:?}, {}", run.status, run.stderr))
    }
}

/// A GnuPG home with the fixtures' RSA key.
///
/// GnuPG 2.2.40 reads the S/MIME keys on curves, and crashes on their PKCS #12.
#[derive(Debug)]
pub struct Gpgsm(tempfile::TempDir);

impl Gpgsm {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let gpgsm = Self(home);
        // It knows no other encryption of PKCS #12.
        let old = gpgsm.0.path().join("rsa.p12");
        let mut openssl = Command::new("openssl");
        openssl
            .args(["pkcs12", "-export", "-legacy", "-descert", "-passout", "pass:secret", "-out"])
            .arg(&old);
        openssl.arg("-in").arg(file("rsa.pem")).arg("-inkey").arg(file("rsa.key"));
        told("openssl", run(&mut openssl, b"", 1)).unwrap();
        let mut import = gpgsm.command();
        import.arg("--import").arg(&old);
        told("gpgsm", run(&mut import, b"secret\n", 99)).unwrap();
        gpgsm
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpgsm");
        command.arg("--homedir").arg(self.0.path()).args(["--batch", "--quiet", "--disable-dirmngr"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]);
        command
    }

    /// Where it keeps its keys (`GNUPGHOME`).
    pub fn home(&self) -> &Path {
        self.0.path()
    }

    /// Has its agent know the passphrase, where it can ask nobody.
    pub fn unlock(&self) {
        fs::write(self.home().join("gpg-agent.conf"), "allow-preset-passphrase\n").unwrap();
        let kill = ["--kill", "gpg-agent"];
        Command::new("gpgconf").arg("--homedir").arg(self.home()).args(kill).status().unwrap();
        let mut list = self.command();
        let listed =
            list.args(["--with-colons", "--with-keygrip", "--list-secret-keys"]).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        let keygrip = listed.lines().find_map(|line| line.strip_prefix("grp:::::::::")).unwrap();
        // "secret", in hexadecimal digits.
        let preset = format!("PRESET_PASSPHRASE {} -1 736563726574", keygrip.trim_end_matches(':'));
        let mut agent = Command::new("gpg-connect-agent");
        agent.arg("--homedir").arg(self.home()).args([&preset, "/bye"]).stderr(Stdio::null());
        assert_eq!(agent.output().unwrap().stdout, b"OK\n");
    }

    /// The content of `cms`.
    pub fn open(&self, cms: &[u8]) -> Opened {
        let path = self.0.path().join("message.cms");
        fs::write(&path, cms).unwrap();
        let mut command = self.command();
        command.arg("--decrypt").arg(path);
        told("gpgsm", run(&mut command, b"secret\n", 99))
    }
}

impl Drop for Gpgsm {
    fn drop(&mut self) {
        let kill = ["--kill", "all"];
        drop(
            Command::new("gpgconf")
                .arg("--homedir")
                .arg(self.0.path())
                .args(kill)
                .stderr(Stdio::null())
                .status(),
        );
    }
}

/// A key store of NSS with the keys of the fixtures.
#[derive(Debug)]
pub struct Nss(tempfile::TempDir);

impl Nss {
    pub fn new(names: &[&str]) -> Self {
        let nss = Self(tempfile::tempdir().unwrap());
        let store = nss.0.path();
        let mut certutil = Command::new("certutil");
        certutil.arg("-N").arg("-d").arg(store).arg("--empty-password");
        told("certutil", run(&mut certutil, b"", 1)).unwrap();
        for name in names {
            let mut import = Command::new("pk12util");
            import.arg("-i").arg(file(&format!("{name}.p12"))).arg("-d").arg(store);
            import.args(["-W", "secret", "-K", ""]);
            told("pk12util", run(&mut import, b"", 1)).unwrap();
        }
        nss
    }

    /// The content of `cms`.
    pub fn open(&self, cms: &[u8]) -> Opened {
        let path = self.0.path().join("message.cms");
        fs::write(&path, cms).unwrap();
        let mut command = Command::new("cmsutil");
        command.arg("-D").arg("-d").arg(self.0.path()).arg("-i").arg(path).args(["-p", ""]);
        told("cmsutil", run(&mut command, b"", 1))
    }
}

/// Decrypts with a private key of the fixtures, as `mailseal decrypt` does.
pub fn decrypt(key: &Path, password: Option<&Path>, sealed: &[u8]) -> Run {
    let mut command = Command::new(crate::program("mailseal"));
    command.args(["decrypt", "--secret-key"]).arg(key);
    if let Some(password) = password {
        // The shell opens the descriptor.
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" --passphrase-fd 3 3< \"$0\""])
            .arg(password)
            .arg(program)
            .args(arguments);
    }
    run(&mut command, sealed, sealed.len().max(1))
}
