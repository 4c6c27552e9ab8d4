//! Edge: Hands a message to Dovecot's delivery agent, for a user's INBOX.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mailseal_core::error::Error as CoreError;

use super::doveconf;
use crate::error::Error;
use crate::system::owner::process::Watch;
use crate::system::program;

/// Its name.
const PROGRAM: &str = "dovecot-lda";

/// Where it is when Dovecot says nothing else.
const FOLDERS: [&str; 2] = ["/usr/lib/dovecot", "/usr/libexec/dovecot"];

/// Delivers `message` to `user`, as mail that comes in: through the Sieve scripts. `config` is Dovecot's main configuration, if
/// another than its default.
///
/// # Errors
/// [`Error::Command`] where there is no agent, or it does not take the message.
pub fn deliver(user: &str, message: &[u8], config: Option<&Path>) -> Result<(), Error> {
    let path = agent(config);
    let failed = |what: String| Error::Command { program: path.clone(), what };
    let mut file: File = tempfile::tempfile().map_err(CoreError::Write)?;
    file.write_all(message).and_then(|()| file.rewind()).map_err(CoreError::Write)?;
    let mut command = doveconf::command(&path.to_string_lossy(), config);
    command.args(["-e", "-d", user]);
    let output = program::run_with(&mut command, Stdio::from(file), &Watch::alone())
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or("see Dovecot's log").to_owned();
    Err(failed(format!("does not take the message ({}): {said}", output.status)))
}

fn agent(config: Option<&Path>) -> PathBuf {
    let said = doveconf::output(doveconf::command("doveconf", config).args(["-h", "libexec_dir"])).ok();
    let folders =
        said.iter().map(|folder| folder.trim()).filter(|folder| folder.starts_with('/')).chain(FOLDERS);
    let mut places = folders.map(|folder| Path::new(folder).join(PROGRAM));
    places.find(|path| path.exists()).unwrap_or_else(|| PROGRAM.into())
}
