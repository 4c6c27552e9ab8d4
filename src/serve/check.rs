//! Whether the doors are open, and what they need is there: `mailseal serve --check`.

use std::io::{self, Write as _};
use std::time::Duration;

use super::address::Address;
use super::lmtp::hop::Hop;
use super::smtp::lines::Connection as _;
use crate::config::Config;
use crate::config::serve::{Speaks, Userdb};
use crate::dovecot::userdb;

/// How long a door may take to take a connection in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that was tried.
#[derive(Debug)]
pub struct Tried {
    /// What, in a word, and where.
    pub what: String,
    /// What went wrong, if anything did.
    pub failed: Option<String>,
}

/// Tries every door that `config` names, and what stands behind it.
#[must_use]
pub fn check(config: &Config) -> Vec<Tried> {
    let serve = &config.serve;
    let mut tried = Vec::new();
    let mut note =
        |what: String, result: Result<(), String>| tried.push(Tried { what, failed: result.err() });
    if let Some(address) = &serve.lmtp {
        note(format!("lmtp {address}"), greet(address, Speaks::Lmtp));
        note(format!("next {}", serve.next.address), greet(&serve.next.address, Speaks::Lmtp));
        if let Userdb::Dovecot(socket) = &serve.userdb {
            let asked = userdb::Userdb::connect(socket)
                .and_then(|mut users| users.look_up(&["mailseal-check".into()]));
            note(format!("userdb {}", socket.display()), asked.map(drop).map_err(|error| error.to_string()));
        }
    }
    if let (Some(address), Some(next)) = (&serve.outgoing, &serve.outgoing_next) {
        note(format!("outgoing {address}"), greet(address, Speaks::Lmtp));
        note(format!("outgoing-next {next}"), greet(&next.address, next.speaks));
    }
    if let Some(path) = &serve.sieve {
        note(
            format!("sieve {}", path.display()),
            knock(&Address::Unix(path.clone())).map_err(|error| error.to_string()),
        );
    }
    tried
}

fn greet(address: &Address, speaks: Speaks) -> Result<(), String> {
    let stream = address.connect().map_err(|error| error.to_string())?;
    Hop::greet(stream, "localhost", speaks).map(Hop::quit).map_err(|error| error.to_string())
}

/// Asks the script socket for nothing.
fn knock(address: &Address) -> io::Result<()> {
    let mut stream = address.connect()?;
    stream.limit(PATIENCE);
    stream.write_all(b"VERSION\tscript\t4\t0\n")
}
