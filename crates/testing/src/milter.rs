//! A milter that signs: it puts a field on top of each message and keeps the body that it was shown.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A milter, as long as the process runs.
pub struct Milter(Arc<Mutex<Vec<Vec<u8>>>>);

impl Milter {
    /// Listens at `address` and adds `field`, a name and a value.
    pub fn listen(address: SocketAddr, field: (&'static str, &'static str)) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || converse(&stream.unwrap(), field, &shared));
            }
        });
        Self(seen)
    }

    /// The bodies that it has seen.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

/// Packets are a length, a command and its data (sendmail's libmilter/docs, "milter protocol" version 6).
fn converse(mut stream: &TcpStream, field: (&str, &str), seen: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut body = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut packet)?;
        let mut say = |command: u8, data: &[u8]| {
            let length = u32::try_from(data.len() + 1).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &[command], data].concat())
        };
        match packet[0] {
            // Version 6, it adds fields, and it is to be asked at every step.
            b'O' => say(b'O', &[0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0])?,
            b'B' => {
                body.extend_from_slice(&packet[1..]);
                say(b'c', b"")?;
            }
            b'E' => {
                seen.lock().unwrap().push(std::mem::take(&mut body));
                say(b'h', format!("{}\0{}\0", field.0, field.1).as_bytes())?;
                say(b'c', b"")?;
            }
            b'D' | b'A' => {}
            b'Q' => return Ok(()),
            _ => say(b'c', b"")?,
        }
    }
}
