//! Edge: `mailseal report`: how long sealing takes and for whom, what failed, and who waits, from the mail log.
//!
//! ```text
//! source   files as they come: plain or gzip, oldest first, line by line     [edge]
//!  ├─ mapped   one that nobody writes any more: by all processors at once    [edge]
//!  └─ entry    one line: a delivery or a folder; its time by clock
//!      └─ summary  counts, histograms, the slowest, who waits; in constant memory
//!          └─ figures  what is shown: text, JSON, prometheus, html; cells, the rows of the tables
//! ```

mod cells;
mod figures;
mod html;
#[cfg(target_os = "linux")]
mod mapped;
mod prometheus;
mod source;
mod summary;
mod text;

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;
use mailseal_maildir::durable;

use self::source::Log;
use self::summary::Summary;
use crate::cli;
use crate::console::json;
use crate::error::Error;
use crate::exit::Exit;
use crate::log::entry::Entry;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Logs, in any order; `-` is standard input. None is what is piped in, or else this machine's own log.
    pub files: Vec<PathBuf>,
    /// Read the journal.
    pub journal: bool,
    /// In which form.
    pub form: Form,
}

/// The form of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page for people.
    Text,
    /// One JSON object.
    Json,
    /// For the textfile collector of Prometheus's node_exporter.
    Prometheus,
    /// A web page in this file; `-` is standard output.
    Html(PathBuf),
}

/// Mode of a web page: it names users.
const MODE: u32 = 0o640;

/// Reads the logs and reports to `out`. [`Exit::Negative`] where a user's mail has been deferred for more than an hour
/// and was not delivered since.
///
/// # Errors
/// [`Error::Log`] when a log cannot be read, [`Error::Output`] when the report cannot be written, [`Error::Usage`] when
/// what is named for the page is no regular file.
pub fn run(options: &Options, out: &mut impl Write) -> Result<Exit, Error> {
    let now = ZonedDateTime::now();
    let mut summary = Summary::default();
    let logs = if options.journal { vec![Log::journal()?] } else { source::open(&options.files, &now)? };
    for log in logs {
        read(log, &now, &mut summary)?;
    }
    let figures = summary.figures();
    if figures.messages == 0 && figures.bulk.is_none() {
        cli::note(cli::ADMIN, "there is no line of mailseal in the log");
    }
    match &options.form {
        Form::Text => {
            // https://no-color.org
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let is_plain = plain || !io::stdout().is_terminal();
            let style = if is_plain { text::Style::Plain } else { text::Style::Terminal };
            text::write(&figures, style, out)
        }
        Form::Json => json::write(out, &figures),
        Form::Prometheus => prometheus::write(&figures, out),
        Form::Html(path) if path == Path::new("-") => out.write_all(html::page(&figures).as_bytes()),
        Form::Html(path) => durable::write(&page_file(path)?, html::page(&figures).as_bytes(), MODE)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
    .map_err(Error::Output)?;
    Ok(if figures.waiting.is_empty() { Exit::Ok } else { Exit::Negative })
}

/// Calls `take` with each entry of the logs, those of this machine where none are named.
///
/// # Errors
/// [`Error::Log`]; [`Error::Usage`] where there is no log.
pub fn each_entry(files: &[PathBuf], take: &mut dyn FnMut(&Entry<'_>)) -> Result<(), Error> {
    let now = ZonedDateTime::now();
    let logs = if files.is_empty() { vec![source::there()?] } else { source::open(files, &now)? };
    for mut log in logs {
        while let Some(line) = log.next_line()? {
            Entry::parse(line, &now).iter().for_each(&mut *take);
        }
    }
    Ok(())
}

/// Adds the lines of a log to `summary`.
#[cfg_attr(not(target_os = "linux"), expect(unused_mut))]
fn read(mut log: Log, now: &ZonedDateTime, summary: &mut Summary) -> Result<(), Error> {
    #[cfg(target_os = "linux")]
    log.read_first(|file| mapped::read(file, now, summary))?;
    stream(log, now, summary)
}

fn stream(mut log: Log, now: &ZonedDateTime, summary: &mut Summary) -> Result<(), Error> {
    while let Some(line) = log.next_line()? {
        summary.count_lines(1);
        if let Some(entry) = Entry::parse(line, now) {
            summary.add(&entry);
        }
    }
    Ok(())
}

/// The file that a page goes to: a link stays where it is, and what is no file is not replaced by one.
fn page_file(path: &Path) -> Result<PathBuf, Error> {
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let what = format!("{} is not a regular file", path.display());
        return Err(Error::Usage { what, hint: "name another file, or - for standard output".into() });
    }
    Ok(path)
}
