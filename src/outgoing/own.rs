//! Edge: A message of our own to one address: sealed by the rule for it, handed to the program that sends mail, and logged.

use std::io::{Seek as _, Write as _};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use mailseal_core::error::Error as CoreError;
use mailseal_core::message::opening::Opening;
use nix::unistd::gethostname;

use crate::cli;
use crate::config::Config;
use crate::config::outgoing::Sendmail;
use crate::delivery::message::{self, Message};
use crate::error::Error;
use crate::keys::addressee::Addressee;
use crate::log::sink::Sink;
use crate::log::{LogLine, Outcome};
use crate::outgoing::address::Address;
use crate::outgoing::policy;
use crate::outgoing::program::{self, Caller};

/// The name of this host.
#[must_use]
pub fn host() -> String {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

/// The address that messages of our own come from.
#[must_use]
pub fn sender(config: &Config) -> String {
    format!("root@{}", policy::domain(config).unwrap_or_else(host))
}

/// Sends `text`, a message from [`sender`], to `address`; `heartbeat` is its number, where it is one.
///
/// # Errors
/// [`Error::Usage`] for an address whose mail would not be sealed; [`Error::Command`] where it cannot be sent; those of
/// [`policy::find`] and of sealing.
pub fn send(config: &Config, address: &Address, text: &[u8], heartbeat: Option<u64>) -> Result<(), Error> {
    let start = Instant::now();
    let line = Mutex::new(LogLine { user: address.to_string(), heartbeat, ..LogLine::default() });
    let result = seal(config, address, text, &line).and_then(|sealed| {
        message::lock(&line).bytes_out = sealed.len() as u64;
        hand_over(&config.sendmail, &sender(config), address, &sealed)
    });
    let mut line = message::lock(&line).clone();
    match &result {
        Ok(()) => line.outcome = Outcome::Sealed,
        Err(error) => (line.reason, line.bytes_out) = (Some(error.reason()), 0),
    }
    line.time = start.elapsed();
    Sink::open(&config.log.to, cli::ADMIN).write(&line);
    result
}

fn seal(config: &Config, address: &Address, text: &[u8], line: &Mutex<LogLine>) -> Result<Vec<u8>, Error> {
    let start = Instant::now();
    let rule = policy::rule(config, address).map(|(_, rule)| rule);
    let recipients = match policy::find(config, address, rule, None, SystemTime::now())? {
        Addressee::Sealed { recipients, .. } => recipients,
        Addressee::Clear(_) => {
            return Err(Error::Usage {
                what: format!("mail for {address} would leave unchanged"),
                hint: "name an address that a rule of [[outgoing]] has sealed".into(),
            });
        }
    };
    message::lock(line).key_time = start.elapsed();
    let style = rule.map(|rule| config.outgoing_style(rule)).unwrap_or_default();
    let user = address.to_string();
    let message = Message { program: cli::ADMIN, style: &style, always: false, config, user: &user, line };
    let (mut rest, mut sealed) = (text, Vec::new());
    let opening = Opening::read(&mut rest)?;
    message.line().bytes_in = text.len() as u64;
    message.seal(&recipients, &opening, &mut rest, &mut sealed)?;
    Ok(sealed)
}

/// Hands a message to the program that sends mail.
fn hand_over(sendmail: &Sendmail, sender: &str, address: &Address, message: &[u8]) -> Result<(), Error> {
    let mut file = tempfile::tempfile().map_err(CoreError::Write)?;
    file.write_all(message).and_then(|()| file.rewind()).map_err(CoreError::Write)?;
    let to = [address.to_string()];
    program::hand_over(sendmail, &Caller::default(), &[format!("-f{sender}").into()], &to, file)
}
