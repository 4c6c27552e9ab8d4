//! `mailseal report`: its command line.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use mailseal::error::Error;
use mailseal::exit::Exit;
use mailseal::report::{self, Form, Options};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Logs of syslog or `journalctl -o short-iso` or `-o json`, plain or compressed with gzip, in any order; - is standard
    /// input [default: what is piped in, else the journal or the mail log of this machine]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read the journal
    #[arg(long, conflicts_with = "files")]
    journal: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// For the textfile collector of Prometheus's node_exporter
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    /// Write a web page to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "prometheus"])]
    html: Option<PathBuf>,
}

/// Runs it.
pub fn run(arguments: Arguments, out: &mut impl Write) -> Result<Exit, Error> {
    let form = match (arguments.html, arguments.json, arguments.prometheus) {
        (Some(path), ..) => Form::Html(path),
        (_, true, _) => Form::Json,
        (_, _, true) => Form::Prometheus,
        _ => Form::Text,
    };
    report::run(&Options { files: arguments.files, journal: arguments.journal, form }, out)
}
