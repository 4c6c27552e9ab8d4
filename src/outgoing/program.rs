//! Edge: The program that sends mail, `[sendmail] program`: it gets whole messages in files, and is not waited for without end.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use crate::config::outgoing::Sendmail;
use crate::error::Error;
use crate::system::owner::identity::Identity;

/// What the program is started as: some are many programs in one.
pub const NAME: &str = "sendmail";

/// How deep in itself `mailseal sendmail` runs, for the program to hand down.
const DEPTH: &str = "MAILSEAL_SENDMAIL_DEPTH";

/// From so deep on it goes round.
const DEEPEST: u32 = 4;

/// What of its caller's environment such a program takes for the name of the sender. Nothing in it names a file.
pub const ENVIRONMENT: [&str; 13] = [
    "EMAIL",
    "LOGNAME",
    "MAILHOST",
    "MAILNAME",
    "MAILUSER",
    "NAME",
    "NULLMAILER_FLAGS",
    "NULLMAILER_HOST",
    "NULLMAILER_NAME",
    "NULLMAILER_SHOST",
    "NULLMAILER_SUSER",
    "NULLMAILER_USER",
    "USER",
];

/// Where programs are looked for by one that runs without its caller's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long it may take to end after SIGKILL.
const LAST: Duration = Duration::from_millis(500);

/// For whom the program runs.
#[derive(Debug, Default)]
pub struct Caller {
    /// The umask of the caller.
    pub umask: Option<Mode>,
    /// What is known of a caller who is gone.
    pub gone: Option<Gone>,
}

/// A caller who is gone.
#[derive(Debug, Default)]
pub struct Gone {
    /// Whose rights the program gets, if not those of whoever runs this.
    pub identity: Option<Identity>,
    /// Its environment, beside a path.
    pub environment: Vec<(String, OsString)>,
}

/// Which file this program is; to be called before it is made undumpable.
static OWN: OnceLock<Option<(u64, u64)>> = OnceLock::new();

/// Finds out which file this program is, before [`harden`](crate::system::process::harden) takes that away.
pub fn look_at_itself() {
    let own = std::env::current_exe().and_then(std::fs::metadata).ok().map(|it| file(&it));
    // Whoever was first has found the same.
    let _ = OWN.set(own);
}

fn file(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Refuses a program that is this one: a message would go round for ever.
///
/// # Errors
/// [`Error::Config`] for that, [`Error::Command`] where it cannot be looked at.
pub fn check(program: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Command {
        program: program.into(),
        what: format!("cannot be run: {error}"),
    };
    let found = std::fs::metadata(program).map_err(failed)?;
    let depth: u32 = std::env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    if OWN.get().is_some_and(|own| *own == Some(file(&found))) || depth >= DEEPEST {
        return Err(Error::Config {
            path: program.into(),
            what: "the program of [sendmail] is mailseal itself, or leads back to it".into(),
            hint:
                "name what was /usr/sbin/sendmail before: dpkg-divert --list '*sendmail*' shows where it is"
                    .into(),
        });
    }
    Ok(())
}

/// Hands `message` over to be sent to the addresses `to`, with the `options` of the caller.
///
/// # Errors
/// [`Error::Command`] where the program does not take it. One that was ended may have sent it.
pub fn hand_over(
    settings: &Sendmail,
    caller: &Caller,
    options: &[OsString],
    to: &[String],
    message: File,
) -> Result<(), Error> {
    let failed = |what: String| Error::Command { program: settings.program.clone(), what };
    let depth: u32 = std::env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    let mut command = Command::new(&settings.program);
    if let Some(Gone { identity, environment }) = &caller.gone {
        command.env_clear().env("PATH", PATH).envs(environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdout(Stdio::null());
        if let Some(identity) = identity {
            // The groups of whoever runs this go with that.
            command.uid(identity.uid().as_raw()).gid(identity.gid().as_raw());
        }
    }
    command.arg0(NAME).args(options).args(["-i", "--"]).args(to);
    command.env(DEPTH, (depth + 1).to_string()).stdin(Stdio::from(message)).process_group(0);
    let ours = caller.umask.map(umask);
    let child = command.spawn();
    ours.map(umask);
    let mut child = child.map_err(|error| failed(format!("cannot be run: {error}")))?;
    let status = wait(&mut child, settings.deadline).map_err(|error| failed(error.to_string()))?;
    match status {
        None => Err(failed(format!(
            "did not end within {} s, and was ended; it may have sent the message",
            settings.deadline.as_secs()
        ))),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("failed: {status}"))),
    }
}

/// Waits for `child`, which is ended with its group after `limit`; `None` then.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    const LONGEST: Duration = Duration::from_millis(20);
    let (begin, mut pause) = (Instant::now(), Duration::from_millis(1));
    let mut ended = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ended.is_none().then_some(status));
        }
        match ended {
            None if begin.elapsed() > limit => {
                // Until it has been waited for, the number is its own.
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                ended = Some(Instant::now());
            }
            Some(at) if at.elapsed() > LAST => return Ok(None),
            _ => {}
        }
        std::thread::sleep(pause);
        pause = LONGEST.min(pause * 2);
    }
}

/// Becomes the program, started as `name` with the caller's own `arguments` and with nothing on standard input: whatever it makes
/// of them, there is no message.
///
/// # Errors
/// Those of [`check`]; [`Error::Command`] where it cannot be started. It does not return otherwise.
pub fn become_it(program: &Path, name: &OsStr, arguments: &[OsString]) -> Error {
    if let Err(error) = check(program) {
        return error;
    }
    let error = Command::new(program).arg0(name).args(arguments).stdin(Stdio::null()).exec();
    Error::Command { program: program.into(), what: format!("cannot be run: {error}") }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn run(script: &str, deadline: Duration) -> (Result<(), Error>, String) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("sendmail");
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display())).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let settings = Sendmail { program, deadline, ..Sendmail::default() };
        let mut message = tempfile::tempfile().unwrap();
        message.write_all(b"text\n").unwrap();
        message.rewind().unwrap();
        let to = ["a@b".to_owned()];
        let result = loop {
            let message = message.try_clone().unwrap();
            match hand_over(&settings, &Caller::default(), &["-fx".into()], &to, message) {
                // Another test's child had the script open.
                Err(Error::Command { what, .. }) if what.contains("os error 26") => {}
                result => break result,
            }
        };
        (result, std::fs::read_to_string(dir.path().join("out")).unwrap_or_default())
    }

    #[test]
    fn a_message_is_handed_over_whole() {
        let (result, out) = run("echo \"$@\" >out; cat >>out", Duration::from_secs(20));
        assert!(result.is_ok() && out == "-fx -i -- a@b\ntext\n", "{result:?} {out}");
    }

    #[test]
    fn a_program_that_fails_or_hangs_has_not_taken_it() {
        for script in ["exit 75", "exit 1", "kill -9 $$"] {
            assert!(matches!(run(script, Duration::from_secs(20)).0, Err(Error::Command { .. })), "{script}");
        }
        let begin = Instant::now();
        let (result, _) = run("sleep 60 & sleep 60", Duration::from_millis(300));
        assert!(result.unwrap_err().to_string().contains("may have sent") && begin.elapsed().as_secs() < 10);
    }

    #[test]
    fn it_is_not_this_program() {
        look_at_itself();
        assert!(matches!(check(&std::env::current_exe().unwrap()), Err(Error::Config { .. })));
        assert!(matches!(check(Path::new("/nonexistent")), Err(Error::Command { .. })));
        assert!(check(Path::new("/bin/sh")).is_ok());
    }
}
