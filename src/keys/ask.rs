//! Edge: Asks the key sources that lie in homes, with the rights of each home's owner: root's own process opens nothing
//! there.
//!
//! The process gets one user a line and answers with one line each, in order.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::Error;
use crate::keystore::source::{Kind, Source};
use crate::keystore::trust::Trust;
use crate::keystore::{self, Request};
use crate::user::User;
use crate::userdb::Account;

/// How long one user may take, whatever the owner of the home does to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest answer, in bytes.
const ANSWER: u64 = 8 * 1024;

/// The command that makes the program such a process.
pub const COMMAND: &str = "ask";

/// What a user's sources say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// There is a certificate, of whatever worth.
    Some,
    /// There is none.
    None,
    /// They cannot be asked, and why.
    Unasked(String),
}

/// A question.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    user: String,
    home: Option<PathBuf>,
}

/// The sources that lie in homes, or those that do not.
pub fn sources(config: &Config, in_homes: bool) -> impl Iterator<Item = &Source> {
    config.keys.sources.iter().filter(move |source| source.path.store(source.kind).is_none() == in_homes)
}

/// Asks the sources in or outside the homes for `user`.
#[must_use]
pub fn one(config: &Config, user: &User, home: Option<&Path>, trust: Trust, in_homes: bool) -> Answer {
    let request = Request::new(&config.keys, user, home, SystemTime::now(), trust);
    match keystore::find(sources(config, in_homes), &request) {
        Ok(Some(_)) | Err(Error::Ambiguous { .. } | Error::NoUsableKey { .. }) => Answer::Some,
        Ok(None) => Answer::None,
        Err(error) => Answer::Unasked(error.to_string()),
    }
}

/// Asks the homes of `accounts`, in their order: as root, with one process for each owner, side by side.
#[must_use]
pub fn homes(config: &Config, path: Option<&Path>, accounts: &[(User, Account)]) -> Vec<Answer> {
    let mut answers = vec![Answer::None; accounts.len()];
    if sources(config, true).next().is_none() {
        return answers;
    }
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mut owners: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
    for (number, (_, account)) in accounts.iter().enumerate() {
        match (account.uid, account.gid) {
            (Some(uid), Some(gid)) if uid != 0 => owners.entry((uid, gid)).or_default().push(number),
            (None, _) | (_, None) if own.0 != 0 => owners.entry(own).or_default().push(number),
            _ => answers[number] = Answer::Unasked("it is not known whose files the home holds".into()),
        }
    }
    let owners: Vec<_> = owners.into_iter().collect();
    let asked: Vec<Vec<(usize, Answer)>> = owners
        .par_iter()
        .map(|(owner, numbers)| {
            let asked: Vec<&(User, Account)> = numbers.iter().map(|number| &accounts[*number]).collect();
            let answers =
                if owner.0 == own.0 { Ok(here(config, &asked)) } else { there(path, *owner, &asked) };
            let answers =
                answers.unwrap_or_else(|error| vec![Answer::Unasked(error.to_string()); numbers.len()]);
            numbers.iter().copied().zip(answers).collect()
        })
        .collect();
    for (number, answer) in asked.into_iter().flatten() {
        answers[number] = answer;
    }
    answers
}

fn here(config: &Config, asked: &[&(User, Account)]) -> Vec<Answer> {
    let trust = || Trust::of_process(config.keys.trusted_groups.ids());
    asked.iter().map(|(user, account)| one(config, user, account.home.as_deref(), trust(), true)).collect()
}

/// Asks with the rights of `owner`. Users whom its process does not answer for were not asked.
fn there(path: Option<&Path>, owner: (u32, u32), asked: &[&(User, Account)]) -> io::Result<Vec<Answer>> {
    let mut child = spawn(path, owner)?;
    let mut answers = Vec::new();
    let why = match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => {
            std::thread::scope(|scope| {
                // A process that ends early is seen by its missing answers.
                scope.spawn(|| ask(stdin, asked));
                let (sender, receiver) = mpsc::channel();
                std::thread::spawn(move || listen(stdout, &sender));
                while let Ok(answer) = receiver.recv_timeout(PATIENCE) {
                    answers.push(answer);
                    if answers.len() == asked.len() {
                        break;
                    }
                }
                let _ = child.kill();
            });
            "the process with the owner's rights gave no answer"
        }
        _ => "the process with the owner's rights could not be asked",
    };
    let _ = child.kill();
    let _ = child.wait();
    answers.resize(asked.len(), Answer::Unasked(why.into()));
    Ok(answers)
}

fn spawn(path: Option<&Path>, owner: (u32, u32)) -> io::Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.arg0(crate::cli::ADMIN).env_clear().current_dir("/");
    if let Some(path) = path {
        command.arg("--config").arg(std::path::absolute(path)?);
    }
    command.args(["keys", COMMAND]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // The standard library gives up all other groups when root changes the user.
    command.uid(owner.0).gid(owner.1).spawn()
}

fn ask(mut to: impl Write, asked: &[&(User, Account)]) {
    for (user, account) in asked {
        let question = Question { user: user.name().into(), home: account.home.clone() };
        let Ok(mut line) = serde_json::to_vec(&question) else { return };
        line.push(b'\n');
        if to.write_all(&line).is_err() {
            return;
        }
    }
}

fn listen(from: impl io::Read, to: &mpsc::Sender<Answer>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        let Ok(count) = (&mut from).take(ANSWER).read_until(b'\n', &mut line) else { return };
        let Some(answer) = serde_json::from_slice(&line).ok().filter(|_| count > 0) else { return };
        if to.send(answer).is_err() {
            return;
        }
    }
}

/// What the process itself does: answers on `out` what it is asked on standard input.
///
/// # Errors
/// [`Error::Read`] and [`Error::Output`].
pub fn serve(config: &Config, out: &mut impl Write) -> Result<(), Error> {
    for line in io::stdin().lock().lines() {
        let question: Question =
            serde_json::from_str(&line.map_err(Error::Read)?).map_err(|error| Error::Read(error.into()))?;
        let trust = Trust::of_process(config.keys.trusted_groups.ids());
        let mut answer = match User::parse(&question.user) {
            Ok(user) => one(config, &user, question.home.as_deref(), trust, true),
            Err(error) => Answer::Unasked(error.to_string()),
        };
        if let Answer::Unasked(why) = &mut answer {
            *why = why.chars().take(1000).collect();
        }
        let mut line = serde_json::to_vec(&answer).map_err(|error| Error::Output(error.into()))?;
        line.push(b'\n');
        out.write_all(&line).and_then(|()| out.flush()).map_err(Error::Output)?;
    }
    Ok(())
}

/// Whether any source can only be asked user by user: keyrings, and everything in homes.
#[must_use]
pub fn needs_users(config: &Config) -> bool {
    config.keys.sources.iter().any(|source| {
        source.path.store(source.kind).is_none() || !matches!(source.kind, Kind::File | Kind::Dir)
    })
}
