//! What clap finds wrong with a command line, said as the programs say everything else: what and where, then what to do.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::Error;

/// Options of builds with the feature `network`.
const NETWORK: &[&str] =
    if cfg!(feature = "network") { &[] } else { &["--wkd", "--keyserver", "--crl-points"] };

/// The complaint of `program` for what clap has against its command line.
#[must_use]
pub fn complaint(program: &str, error: &clap::Error) -> Error {
    let one = |kind| list(error, kind).into_iter().next().unwrap_or_default();
    let (argument, value) = (one(ContextKind::InvalidArg), one(ContextKind::InvalidValue));
    let help = format!("see {} --help", command(program, error));
    let suggested = |kind| match one(kind) {
        suggestion if suggestion.is_empty() => help.clone(),
        suggestion => format!("did you mean {suggestion}?"),
    };
    let (what, hint) = match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            (format!("{argument} needs a value"), format!("give it one: {argument}"))
        }
        ErrorKind::InvalidValue => (
            format!("invalid value {value:?} for {argument}"),
            format!("give one of {}", list(error, ContextKind::ValidValue).join(", ")),
        ),
        ErrorKind::ValueValidation => {
            let said = error.source().map(ToString::to_string).unwrap_or(help);
            let hint = said.strip_prefix("expected ").map(|expected| format!("give {expected}"));
            (format!("invalid value {value:?} for {argument}"), hint.unwrap_or(said))
        }
        ErrorKind::UnknownArgument if NETWORK.iter().any(|option| *option == argument) => (
            format!("{argument} is not in this build, which asks no other host"),
            "build mailseal with the feature network: cargo build --release --locked --features network"
                .into(),
        ),
        ErrorKind::UnknownArgument => {
            (format!("unexpected argument {argument:?}"), suggested(ContextKind::SuggestedArg))
        }
        ErrorKind::TooManyValues => (format!("{argument} takes no value, and {value:?} is given"), help),
        ErrorKind::MissingRequiredArgument => {
            (format!("missing {}", list(error, ContextKind::InvalidArg).join(", ")), usage(error))
        }
        ErrorKind::ArgumentConflict => match list(error, ContextKind::PriorArg) {
            prior if prior.contains(&argument) => {
                (format!("{argument} is given more than once"), "give it once".into())
            }
            prior => (
                format!("{argument} cannot be used with {}", prior.join(" or ")),
                "leave one of them out".into(),
            ),
        },
        ErrorKind::InvalidSubcommand => (
            format!("unknown command {:?}", one(ContextKind::InvalidSubcommand)),
            suggested(ContextKind::SuggestedSubcommand),
        ),
        ErrorKind::MissingSubcommand => (
            "missing command".into(),
            format!("give one of {}", list(error, ContextKind::ValidSubcommand).join(", ")),
        ),
        kind => (kind.to_string(), help),
    };
    Error::Usage { what, hint }
}

fn list(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(value)) => vec![value.clone()],
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    }
}

/// What would be right, as `usage: mailseal audit <MAILDIR>...`.
fn usage(error: &clap::Error) -> String {
    let text = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().skip(1).collect();
    format!("usage: {}", words.join(" "))
}

/// The program and its commands, `mailseal keys add`.
fn command(program: &str, error: &clap::Error) -> String {
    let usage = usage(error);
    let words =
        usage.split(' ').skip(2).take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    words.fold(program.to_owned(), |command, word| format!("{command} {word}"))
}
