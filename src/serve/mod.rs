//! `mailseal serve`: the resident doors. A message comes in at one of them and goes out sealed, while it is still coming in; no
//! file is written.
//!
//! ```text
//! doors ─ a thread accepts, a thread a connection ─┬ lmtp    LMTP in, LMTP out, before Dovecot; in and on to the MTA, on the
//!                                                  │         way out
//!                                                  └ script  Dovecot's script socket: the filter without a process
//! whose      whose mail it is, by Dovecot's answer;  smtp    lines, commands, replies, the dot
//! shared     configuration, certificates, log, counters;  metrics  for Prometheus
//! ```
//!
//! Threads are enough: what a message takes is mostly encryption, the number of connections is bounded, and a thread that waits
//! for its client takes no more memory than what it holds of the message.

pub mod address;
pub mod check;
mod doors;
pub mod lmtp;
pub mod metrics;
mod script;
pub mod shared;
pub mod smtp;
pub mod whose;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, getgrouplist, gethostname};
use sd_notify::NotifyState;
use socket2::{SockAddr, Socket};

use self::address::Stream;
use self::doors::{Inherited, Opened};
use self::lmtp::{Connect, Session, Way};
use self::shared::{Gate, Shared};
use self::smtp::lines::Connection;
use crate::cli;
use crate::config::serve::{Serve, USER};
use crate::config::{Config, DEFAULT_PATH};
use crate::error::Error;
use crate::log::Door;
use crate::log::sink::Sink;
use crate::outgoing::policy;
use crate::system::process;
use crate::system::sandbox::{Rights, Sandbox};

/// How long the transactions in hand may take when it is to end: as long as a next hop may take to answer.
const LAST: Duration = Duration::from_secs(600);

/// How long to wait where a connection could not be accepted: the system has no room for more.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the doors and serves until SIGTERM; SIGHUP has it read the configuration at `path`, or the default one, again.
///
/// # Errors
/// [`Error::Config`], [`Error::Door`], [`Error::Privileges`] and [`Error::Sandbox`], all before the first connection.
pub fn run(path: Option<&Path>, sandbox: Sandbox) -> Result<(), Error> {
    cli::hurry();
    let inherited = Inherited::take()?;
    process::raise_file_limit();
    let path =
        std::path::absolute(path.unwrap_or(Path::new(DEFAULT_PATH))).map_err(|error| refused(&error))?;
    let config = Config::load(Some(&path))?;
    refuse_homes(&config, &path)?;
    // Before there is a door: from then on it ends in order. Threads that begin later leave these to this one.
    let mut signals = SigSet::empty();
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().map_err(|error| refused(&error.into()))?;
    // The doors have the rights that the configuration gives them; what comes later is nobody else's.
    umask(Mode::empty());
    let opened = inherited.open(&config.serve)?;
    process::keep_private()?;
    let metrics = config.serve.metrics.map(metrics::listen).transpose()?;
    become_own_user(&config)?;

    for (number, tried) in policy::try_named(&config, SystemTime::now()) {
        if let Err(error) = tried {
            // Its mail waits; that of the others does not.
            cli::complain(cli::ADMIN, Some(&policy::label(number)), &error);
        }
    }
    let paths: Vec<PathBuf> = opened.iter().filter_map(|opened| opened.path.clone()).collect();
    let host =
        gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into());
    let sink = Sink::open(&config.log.to, cli::ADMIN);
    let allowed = folders(&config, &path);
    let shared = Arc::new(Shared::new(config, sink));
    sandbox.enter_with(&Rights { read: &allowed, remove: &paths })?;
    if let Some(listener) = metrics {
        metrics::serve(listener, Arc::clone(&shared)).map_err(|error| refused(&error))?;
    }
    for opened in opened {
        let (shared, host, path) = (Arc::clone(&shared), host.clone(), path.clone());
        let name = opened.door.name().into();
        let work = move || accept(&opened, &shared, &host, &path);
        std::thread::Builder::new().name(name).spawn(work).map_err(|error| refused(&error))?;
    }
    tell(&[NotifyState::Ready]);
    loop {
        match signals.wait() {
            Ok(Signal::SIGHUP) => reload(&path, &allowed, &shared),
            Ok(_) => break,
            Err(_) => {}
        }
    }
    end(&paths, &shared, signals)
}

/// Ends it: nothing begins any more, and what is in hand comes to its end.
fn end(paths: &[PathBuf], shared: &Shared, signals: SigSet) -> Result<(), Error> {
    tell(&[NotifyState::Stopping]);
    // First, so that Dovecot runs the program again.
    for path in paths {
        if let Err(error) = std::fs::remove_file(path) {
            cli::note(cli::ADMIN, &format!("the socket {} stays behind: {error}", path.display()));
        }
    }
    shared.stop();
    std::thread::Builder::new()
        .spawn(move || {
            // Asked twice, it ends at once: what is in hand was not answered, and comes again.
            if signals.wait().is_ok() {
                crate::exit::Exit::Temporary.leave_now();
            }
        })
        .map_err(|error| refused(&error))?;
    if !shared.in_hand.wait_empty(LAST) {
        cli::note(cli::ADMIN, "ended with transactions in hand, which were not answered and come again");
    }
    Ok(())
}

/// Refuses sources in users' homes, unless an admin says that one user owns them all.
fn refuse_homes(config: &Config, path: &Path) -> Result<(), Error> {
    // Mail that leaves is nobody's who has a home here.
    let serve = &config.serve;
    let leaving_only = serve.outgoing.is_some() && serve.lmtp.is_none() && serve.sieve.is_none();
    if !config.reads_homes() || serve.user.is_some() || leaving_only {
        return Ok(());
    }
    Err(Error::Config {
        path: path.into(),
        what: "a source of [keys] lies in users' homes, which mailseal serve cannot read".into(),
        hint: "keep certificates in a store (mailseal keys add); or, where one user owns all mail, name that user as `user` in [serve]"
            .into(),
    })
}

/// The user of its own, where one is named or root has started it.
fn own_user(serve: &Serve) -> Result<Option<User>, Error> {
    let Some(name) = serve.user.as_deref().or(process::is_root().then_some(USER)) else {
        return Ok(None);
    };
    let refused = |what: String| Error::Privileges { what };
    let user = User::from_name(name).map_err(|error| refused(error.to_string()))?;
    user.map(Some).ok_or_else(|| {
        refused(format!(
            "there is no user {name}: useradd --system {name}, or name another as `user` in [serve]"
        ))
    })
}

/// Started by root, gives up root's rights for those of the user of its own.
fn become_own_user(config: &Config) -> Result<(), Error> {
    let Some(user) = own_user(&config.serve)? else { return Ok(()) };
    if !process::is_root() {
        return if user.uid.as_raw() == process::user() {
            Ok(())
        } else {
            let what = format!("it does not run as {}, the `user` in [serve]", user.name);
            Err(Error::Privileges { what })
        };
    }
    let groups = std::ffi::CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
    process::become_user(user.uid, user.gid, &groups.unwrap_or_else(|| vec![user.gid]))
}

/// The folders whose files are read, beside those of the process.
fn folders(config: &Config, path: &Path) -> Vec<PathBuf> {
    let keys = &config.keys;
    let named = keys.recovery.iter().chain(config.users.iter().flat_map(|rule| &rule.key));
    let named = named.chain(config.outgoing.iter().flat_map(|rule| &rule.key)).map(PathBuf::as_path);
    let mut folders: Vec<PathBuf> =
        named.chain([path]).filter_map(|path| path.parent().map(Path::to_owned)).collect();
    folders.extend(crate::keystore::absence::stores(keys));
    folders.push(keys.known.clone());
    // Landlock's rights go with a folder, and not with the one that takes its place when the register is restored. Above it there
    // may be all of a system.
    folders.extend(keys.known.parent().filter(|parent| parent.components().count() > 2).map(Path::to_owned));
    // Where users have files of their own, an admin keeps them (docs/dovecot.md: settings of a user's own).
    folders.push("/etc".into());
    folders.sort();
    folders.dedup();
    folders
}

/// Reads the configuration again. Where it cannot be taken, the one there was stays.
fn reload(path: &Path, allowed: &[PathBuf], shared: &Shared) {
    // Where the clock cannot be read, it is as if the new one were there at once.
    tell(&[NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now()).collect::<Vec<_>>());
    match Config::load(Some(path)) {
        Err(error) => cli::complain(cli::ADMIN, None, &error),
        Ok(config) => {
            let before = shared.config();
            // What is read anew for each message or connection is all that may change.
            let fixed = |config: &Config| Serve {
                next: Serve::default().next,
                outgoing_next: None,
                userdb: Serve::default().userdb,
                recipient_delimiter: String::new(),
                unchanged: false,
                from: Vec::new(),
                size: None,
                ..config.serve.clone()
            };
            let same = fixed(&config) == fixed(&before) && config.log.to == before.log.to;
            let outside = folders(&config, path).into_iter().find(|folder| !allowed.contains(folder));
            if !same || outside.is_some() || config.reads_homes() != before.reads_homes() {
                let what = "the doors, the log, the user or the folders of certificates are others now: restart it; until then it goes on as before";
                cli::note(cli::ADMIN, what);
            } else {
                shared.replace_config(config);
            }
        }
    }
    tell(&[NotifyState::Ready]);
}

/// Lets connections in, so many at once; the others wait with the system.
fn accept(opened: &Opened, shared: &Arc<Shared>, host: &str, path: &Path) {
    let gate = Arc::new(Gate::new(shared.config().serve.connections.get()));
    while !shared.is_stopping() {
        let inside = gate.enter();
        let (socket, from) = match opened.socket.accept() {
            Ok(accepted) => accepted,
            Err(_) => {
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let in_hand = (opened.door == Door::Sieve).then(|| shared.in_hand.enter());
        if !may_come_in(&from, shared) {
            continue;
        }
        let peer = peer(&socket);
        let stream = Stream::accepted(socket);
        let (shared, host, path, door) = (Arc::clone(shared), host.to_owned(), path.to_owned(), opened.door);
        let work = move || {
            // Who breaks off gets no answer, and has what was not answered.
            let _ = match door {
                Door::Lmtp | Door::Outgoing => {
                    let config = shared.config();
                    let Some(next) = config.serve.next_of(door) else { return };
                    let connect: &Connect<'_> =
                        &|| next.address.connect().map(|stream| Box::new(stream) as Box<dyn Connection>);
                    Session::new(stream, &shared, Way { door, speaks: next.speaks, connect }, &host).run()
                }
                Door::Sieve => script::answer(stream, peer, &shared, &path),
            };
            drop((inside, in_hand));
        };
        // One that gets no thread is closed.
        drop(std::thread::Builder::new().spawn(work));
    }
}

/// Whether somebody may come in from there: from this machine, or as the configuration says.
fn may_come_in(from: &SockAddr, shared: &Shared) -> bool {
    let Some(address) = from.as_socket() else { return true };
    let address = address.ip().to_canonical();
    address.is_loopback() || shared.config().serve.from.iter().any(|net| net.contains(&address))
}

/// With whose rights the other end was opened.
#[cfg(target_os = "linux")]
fn peer(socket: &Socket) -> Option<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(socket, PeerCredentials).ok().map(|peer| peer.uid())
}

/// With whose rights the other end was opened.
#[cfg(not(target_os = "linux"))]
fn peer(socket: &Socket) -> Option<u32> {
    nix::unistd::getpeereid(socket).ok().map(|(uid, _)| uid.as_raw())
}

/// Tells systemd, where it has started this.
fn tell(state: &[NotifyState<'_>]) {
    // Without it, it is as if nobody had asked.
    let _ = sd_notify::notify(state);
}

fn refused(error: &io::Error) -> Error {
    mailseal_core::error::Error::Read(io::Error::new(error.kind(), error.to_string())).into()
}
