//! A small Debian 12 of a test's own, in which programs are where packages put them: the root that `tests/dovecot/mtas` makes, what
//! this machine has in `/usr` beside it, and whatever the test writes there. It is gone when the test ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::skip;

/// Makes the world from the root `$1` in the empty folder `$2` and waits there. The folder for temporary files, `$3`, is the
/// machine's own.
const OPEN: &str = r#"
root=$1 here=$2 tmp=$3
mount -t tmpfs -o mode=755 tmpfs "$here"
cd "$here"
mkdir root over work usr usr-work spool
mount -t overlay -o "lowerdir=$root,upperdir=over,workdir=work" overlay root
mount -t overlay -o "lowerdir=$root/usr:/usr,upperdir=usr,workdir=usr-work" overlay root/usr
# What queues files by renaming folders needs a real file system.
cp -a "$root/var/spool/." spool
mount --bind spool root/var/spool
mkdir -p "root$tmp"
mount --rbind "$tmp" "root$tmp"
mount -t proc proc root/proc
mount --rbind /dev root/dev
echo open
exec setpriv --pdeathsig KILL chroot root sleep infinity
"#;

/// A world, until it is dropped.
pub struct World {
    holder: Child,
    daemons: Mutex<Vec<Child>>,
    log: PathBuf,
}

/// The root that it is made from.
pub fn root() -> PathBuf {
    std::env::var_os("MAILSEAL_MTAS").map_or_else(|| "/var/cache/mailseal/mtas".into(), PathBuf::from)
}

/// Whether there can be one here; a visible line where not.
pub fn can_run() -> bool {
    let programs = ["exim4", "smtpd", "nullmailer-send", "dma"];
    let there = programs.iter().all(|program| root().join("usr/sbin").join(program).exists());
    if !there {
        let root = root();
        skip::unless_ci(&format!(
            "there are no Exim, OpenSMTPD and nullmailer in {} (tests/dovecot/mtas puts them there)",
            root.display()
        ));
    }
    there
}

impl World {
    /// Makes one in the new folder `folder`; the file `log` gets what its daemons say.
    pub fn open(folder: &Path, log: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-euc", OPEN, "open"]);
        unshare.arg(root()).arg(folder).arg(std::env::temp_dir());
        let mut holder = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "open\n", "the root for MTAs cannot be mounted");
        let world = Self { holder, daemons: Mutex::default(), log: log.into() };
        // It says so before it has gone there.
        super::dovecot::server::wait_until("the root to be entered", || {
            world.outside("/").join("usr/sbin/exim4").exists()
        });
        world
    }

    /// Where a path of the world's is to be found from outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(path.trim_start_matches('/'))
    }

    /// Writes a file, and the folders that lead to it.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) {
        let file = self.outside(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Adds a line to a file.
    pub fn append(&self, path: &str, line: &str) {
        let mut content = fs::read(self.outside(path)).unwrap_or_default();
        content.extend_from_slice(line.as_bytes());
        content.push(b'\n');
        self.write(path, &content, 0o644);
    }

    /// Puts one of the package's programs there.
    pub fn install(&self, program: &str, path: &str) {
        let file = self.outside(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&file);
        crate::install(program, &file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program of the world's.
    pub fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--root", "--wdns=/", "--target"]).arg(self.holder.id().to_string());
        nsenter.arg("--").arg(program);
        nsenter.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        nsenter
    }

    /// A shell command, as root; what it wrote to its standard output.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let output = self.command("sh").args(["-euc", script]).stdin(Stdio::null()).output().unwrap();
        let (said, complaint) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "{script}: {}\n{said}{complaint}", output.status);
        said
    }

    /// Starts a program that runs until the world ends; its number.
    pub fn start(&self, program: &str, arguments: &[&str]) -> u32 {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "TERM", program]).args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = command.spawn().unwrap();
        let number = daemon.id();
        self.daemons.lock().unwrap().push(daemon);
        number
    }

    /// Ends a program that [`Self::start`] has started.
    pub fn stop(&self, number: u32) {
        let mut daemons = self.daemons.lock().unwrap();
        let at = daemons.iter().position(|daemon| daemon.id() == number).unwrap();
        end(&mut daemons.remove(at));
    }

    /// The end of a program, where it has ended by itself.
    pub fn has_ended(&self, number: u32) -> bool {
        let mut daemons = self.daemons.lock().unwrap();
        let daemon = daemons.iter_mut().find(|daemon| daemon.id() == number).unwrap();
        daemon.try_wait().unwrap().is_some()
    }

    /// What its daemons have said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// A file of it, or nothing.
    pub fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.outside(path)).unwrap_or_default()).into_owned()
    }
}

fn end(daemon: &mut Child) {
    let group = Pid::from_raw(daemon.id().cast_signed());
    let _ = kill(group, Signal::SIGTERM);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < patience && matches!(daemon.try_wait(), Ok(None)) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = daemon.wait();
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what runs in the root ---\n{}---", self.log());
        }
        self.daemons.lock().unwrap().iter_mut().for_each(end);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
