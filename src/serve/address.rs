//! Edge: Where a door or a next hop is: a Unix socket, or an address with a port.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::smtp::lines::Connection;

/// How many connections may wait to be accepted. The system may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// An IP address and a port.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let expected = "expected the path of a Unix socket, or an IP address with a port, as 127.0.0.1:24";
        text.parse().map(Self::Tcp).map_err(|_| expected.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl Address {
    /// Whether it is reached from this machine only.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => address.ip().is_loopback(),
        }
    }

    fn socket(&self) -> io::Result<(Socket, SockAddr)> {
        let (domain, address) = match self {
            Self::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
            Self::Tcp(address) => (Domain::for_address(*address), (*address).into()),
        };
        Ok((Socket::new(domain, Type::STREAM, None)?, address))
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(&self) -> io::Result<Stream> {
        let (socket, address) = self.socket()?;
        match self {
            // Where the backlog is full, connecting waits as writing does.
            Self::Unix(_) => {
                socket.set_write_timeout(Some(CONNECT))?;
                socket.connect(&address)?;
            }
            Self::Tcp(_) => {
                socket.connect_timeout(&address, CONNECT)?;
                socket.set_tcp_nodelay(true)?;
            }
        }
        Ok(Stream::of(socket))
    }

    /// Listens; a Unix socket has the rights `mode` but what the umask takes away. A socket that nobody listens on any more is
    /// removed before; one that somebody does stays.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(&self, mode: u32) -> io::Result<Socket> {
        let (socket, address) = self.socket()?;
        match self {
            Self::Unix(path) => {
                remove_abandoned(path)?;
                // By a path, others who can write to its folder could have another file's rights set. What cannot be set here
                // is as the umask has it.
                let _ = fchmod(&socket, Mode::from_bits_truncate(mode));
                socket.bind(&address)?;
            }
            Self::Tcp(_) => {
                socket.set_reuse_address(true)?;
                socket.bind(&address)?;
            }
        }
        socket.listen(BACKLOG)?;
        Ok(socket)
    }
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) => match Address::Unix(path.into()).connect() {
            Ok(_) => Err(ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// How long a read or a write may take from here on, in milliseconds.
    limit: AtomicU64,
    /// What the socket has been told of it, whichever handle told it: seldom anything else than before.
    told: Arc<Mutex<Told>>,
}

/// The time limits of a socket, in milliseconds.
#[derive(Debug, Default)]
struct Told {
    read: Option<u64>,
    write: Option<u64>,
}

/// From here on a limit is rounded up to whole seconds.
const ROUNDED: Duration = Duration::from_secs(10);

impl Stream {
    fn of(socket: Socket) -> Self {
        Self { socket, limit: AtomicU64::new(u64::MAX), told: Arc::default() }
    }

    /// Tells the socket the limit for one direction where it was told another; gives the limit, if there is one.
    fn tell(
        &self,
        direction: impl Fn(&mut Told) -> &mut Option<u64>,
        set: impl Fn(&Socket, Option<Duration>) -> io::Result<()>,
    ) -> io::Result<Option<Duration>> {
        let limit = Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != u64::MAX);
        let time = limit.map(Duration::from_millis);
        // Each change is one assignment: nobody can leave it in a bad state.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = direction(&mut told);
        if *told != limit {
            set(&self.socket, time)?;
            *told = limit;
        }
        Ok(time)
    }

    /// A connection that was accepted.
    #[must_use]
    pub fn accepted(socket: Socket) -> Self {
        // What is written is written whole; a system that cannot do it is slower.
        let _ = socket.set_tcp_nodelay(true);
        Self::of(socket)
    }

    /// Another handle for the same connection.
    ///
    /// # Errors
    /// Those of the system.
    pub fn again(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Self { socket, limit: AtomicU64::new(u64::MAX), told: Arc::clone(&self.told) })
    }

    /// Tells the other side that nothing more comes.
    ///
    /// # Errors
    /// Those of the system.
    pub fn shut(&self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tell(|told| &mut told.read, Socket::set_read_timeout)?;
        timed(self.socket.read(buffer))
    }
}

impl Write for Stream {
    /// Writes all of `data`, all within the limit: a reader that takes a little now and then is as slow as one that takes nothing.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let limit = self.tell(|told| &mut told.write, Socket::set_write_timeout)?.unwrap_or(Duration::MAX);
        let start = Instant::now();
        let mut rest = data;
        while !rest.is_empty() {
            match timed(self.socket.write(rest)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !rest.is_empty() && start.elapsed() >= limit {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection for Stream {
    fn limit(&self, time: Duration) {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        // None would be no limit.
        let limit = if time < ROUNDED { time.as_millis().max(1) } else { u128::from(seconds) * 1000 };
        self.limit.store(u64::try_from(limit).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What took too long has another name for sockets.
fn timed(result: io::Result<usize>) -> io::Result<usize> {
    result.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn addresses_are_paths_or_have_ports() {
        for (text, local) in
            [("/run/x", true), ("127.0.0.1:24", true), ("[::1]:24", true), ("10.1.2.3:24", false)]
        {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_local()), (text, local));
        }
        for text in ["", "x", "run/x", "localhost:24", "127.0.0.1", ":24"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abandoned_socket_gives_way_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door");
        let address = Address::Unix(path.clone());
        let listening = address.listen(0o600).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(address.listen(0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listening);
        assert!(address.connect().is_err());
        drop(address.listen(0o666).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(address.listen(0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
