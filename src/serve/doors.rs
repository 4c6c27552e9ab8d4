//! Edge: Opens the doors: sockets of our own, or those that systemd has opened (`sd_listen_fds(3)`).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
#[cfg(not(target_os = "linux"))]
use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
#[cfg(target_os = "linux")]
use nix::fcntl::{OFlag, open};
use nix::libc::{AF_INET, AF_UNIX, SOCK_STREAM};
#[cfg(target_os = "linux")]
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{User, fchownat};
use socket2::Socket;

use super::address::Address;
use crate::config::serve::Serve;
use crate::error::Error;
use crate::log::Door;
use crate::system::process;

/// A door that is open.
pub struct Opened {
    /// Which.
    pub door: Door,
    /// Where connections come in.
    pub socket: Socket,
    /// The socket's path, where it is ours and goes away with us.
    pub path: Option<PathBuf>,
}

/// Sockets that were open when the process began, with the names that their units give them.
pub struct Inherited {
    sockets: Vec<(String, Socket)>,
}

impl Inherited {
    /// Takes them. To be called while the process has one thread, and once.
    ///
    /// # Errors
    /// [`Error::Door`] for what is no socket that listens.
    pub fn take() -> Result<Self, Error> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for (at, name) in (0..given.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
            let unix = given.take_custom::<Socket>(at, AF_UNIX, SOCK_STREAM, "stream socket");
            let socket =
                unix.or_else(|_| given.take_custom::<Socket>(at, AF_INET, SOCK_STREAM, "stream socket"));
            let socket = socket.map_err(|error| failed(name, &error))?;
            sockets.extend(socket.map(|socket| (name.to_owned(), socket)));
        }
        Ok(Self { sockets })
    }

    /// Opens every door of `serve`, and those that were open.
    ///
    /// # Errors
    /// [`Error::Door`]; where there is none at all as well.
    pub fn open(self, serve: &Serve) -> Result<Vec<Opened>, Error> {
        let mut opened = Vec::new();
        for (name, socket) in self.sockets {
            let door = [Door::Lmtp, Door::Outgoing, Door::Sieve].into_iter().find(|door| {
                door.name() == name
                    || address_of(*door, serve).is_some_and(|address| is_at(&socket, &address))
            });
            let door = door.ok_or_else(|| Error::Door {
                address: format!("the inherited socket {name:?}"),
                what: "it is not one of the doors".into(),
                hint: "set FileDescriptorName to lmtp, outgoing or sieve in its unit".into(),
            })?;
            opened.push(Opened { door, socket, path: None });
        }
        for door in [Door::Sieve, Door::Lmtp, Door::Outgoing] {
            if opened.iter().any(|opened| opened.door == door) {
                continue;
            }
            if let Some(address) = address_of(door, serve) {
                opened.push(Opened::at(door, &address, serve)?);
            }
        }
        if opened.is_empty() {
            return Err(Error::Door {
                address: "nothing".into(),
                what: "[serve] names no door, and none was handed over".into(),
                hint: "set `lmtp`, `outgoing` or `sieve` in [serve], or start it by its socket units".into(),
            });
        }
        Ok(opened)
    }
}

fn address_of(door: Door, serve: &Serve) -> Option<Address> {
    match door {
        Door::Lmtp => serve.lmtp.clone(),
        Door::Outgoing => serve.outgoing.clone(),
        Door::Sieve => serve.sieve.clone().map(Address::Unix),
    }
}

fn is_at(socket: &Socket, address: &Address) -> bool {
    let Ok(local) = socket.local_addr() else { return false };
    match address {
        Address::Unix(path) => local.as_pathname() == Some(path),
        Address::Tcp(address) => local.as_socket() == Some(*address),
    }
}

impl Opened {
    fn at(door: Door, address: &Address, serve: &Serve) -> Result<Self, Error> {
        let (mode, owner) = match door {
            Door::Lmtp | Door::Outgoing => (serve.lmtp_mode, serve.lmtp_owner.as_deref()),
            Door::Sieve => (serve.sieve_mode, None),
        };
        if let (Door::Sieve, Address::Unix(path)) = (door, address) {
            refuse_to_leave_behind(path, serve)?;
        }
        let failed = |error: io::Error| failed(&address.to_string(), &error);
        let socket = address.listen(mode.0).map_err(failed)?;
        let path = match address {
            Address::Unix(path) => Some(path.clone()),
            Address::Tcp(_) => None,
        };
        if let Some(path) = &path {
            give(path, owner).map_err(failed)?;
        }
        Ok(Self { door, socket, path })
    }
}

/// Refuses a script socket that it could not remove in the end, as another user than root: where one stays behind, Dovecot does not
/// run the program.
fn refuse_to_leave_behind(path: &Path, serve: &Serve) -> Result<(), Error> {
    let Some(user) = super::own_user(serve)?.filter(|_| process::is_root()) else { return Ok(()) };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let owner = folder.metadata().map_err(|error| failed(&path.display().to_string(), &error))?.uid();
    if owner == user.uid.as_raw() {
        return Ok(());
    }
    Err(Error::Door {
        address: path.display().to_string(),
        what: format!(
            "its folder is not the user {}'s, who could not remove the socket in the end",
            user.name
        ),
        hint: format!("chown {} {}", user.name, folder.display()),
    })
}

/// Makes `owner` the owner of a socket; started by root, where nobody is named, the owner of the folder that it lies in.
fn give(path: &Path, owner: Option<&str>) -> io::Result<()> {
    let uid = match owner {
        Some(name) => {
            let user = User::from_name(name)?;
            user.ok_or_else(|| io::Error::other(format!("there is no user {name:?}")))?.uid.as_raw()
        }
        None if process::is_root() => path.parent().unwrap_or(Path::new("/")).metadata()?.uid(),
        None => return Ok(()),
    };
    give_to(path, uid)
}

/// Not by its path: whoever can write to its folder could put another file there.
#[cfg(target_os = "linux")]
fn give_to(path: &Path, uid: u32) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = open(path, flags, Mode::empty())?;
    if SFlag::from_bits_truncate(fstat(&socket)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(io::Error::other("another file has taken its place"));
    }
    Ok(fchownat(&socket, "", Some(uid.into()), None, AtFlags::AT_EMPTY_PATH)?)
}

/// A socket cannot be opened elsewhere: so nobody but root may be able to put another file there.
#[cfg(not(target_os = "linux"))]
fn give_to(path: &Path, uid: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/")).metadata()?;
    if folder.uid() != 0 || folder.mode() & 0o022 != 0 {
        return Err(io::Error::other("others than root could put another file in its place"));
    }
    Ok(fchownat(AT_FDCWD, path, Some(uid.into()), None, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn failed(address: &str, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "end the one that listens there, or name another address",
        io::ErrorKind::AlreadyExists => "remove what lies there, or name another path",
        io::ErrorKind::NotFound => "make the folder",
        _ => "start it by its socket units or as root, or name an address that this user may open",
    };
    Error::Door { address: address.into(), what: error.to_string(), hint: hint.into() }
}
