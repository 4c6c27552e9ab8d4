//! The man pages of programs and commands.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use serde::Deserialize;

/// The line that begins a page. It has no date, which would be that of a build.
pub fn title(name: &str, number: u8) -> String {
    format!(".TH {name} {number} \"\" mailseal mailseal\n")
}

/// What is written by hand.
#[derive(Deserialize)]
pub struct Notes {
    status: BTreeMap<String, String>,
    files: BTreeMap<String, (String, String)>,
    #[serde(flatten)]
    pages: BTreeMap<String, Note>,
}

/// What is written by hand for one page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Note {
    #[serde(default)]
    files: Vec<String>,
    /// Whether the statuses of all commands are none of this one's.
    #[serde(default)]
    own_status: bool,
    #[serde(default)]
    status: BTreeMap<String, String>,
    #[serde(default)]
    see: Vec<String>,
    examples: Vec<(String, String)>,
}

impl Notes {
    pub fn read(path: &Path) -> Self {
        toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The names of the pages that have notes.
    pub fn pages(&self) -> impl Iterator<Item = &str> {
        self.pages.keys().map(String::as_str)
    }
}

/// Where the page of a program or command lies.
pub fn path(name: &str) -> PathBuf {
    format!("man/{name}.1").into()
}

/// Adds the pages of a program and its commands.
pub fn add(program: Command, notes: &Notes, pages: &mut BTreeMap<PathBuf, String>) {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    add_built(&program, None, notes, pages);
}

fn add_built(command: &Command, above: Option<&str>, notes: &Notes, pages: &mut BTreeMap<PathBuf, String>) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    pages.insert(path(name), page(command, name, above, notes));
    for below in commands(command) {
        add_built(below, Some(name), notes, pages);
    }
}

fn page(command: &Command, name: &str, above: Option<&str>, notes: &Notes) -> String {
    let note = notes.pages.get(name).unwrap_or_else(|| panic!("man/notes.toml has no examples for {name}"));
    let man = Man::new(command.clone().subcommand_value_name("command"));
    let mut text = Vec::new();
    man.render_name_section(&mut text).unwrap();
    man.render_synopsis_section(&mut text).unwrap();
    man.render_description_section(&mut text).unwrap();
    man.render_options_section(&mut text).unwrap();
    let below = commands(command);
    let mut roff = Roff::new();
    if !below.is_empty() {
        section(&mut roff, "COMMANDS");
        for command in &below {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            item(&mut roff, bold(format!("{name}-{}(1)", command.get_name())), &about);
        }
    }
    section(&mut roff, "EXIT STATUS");
    for (number, meaning) in statuses(command, note, notes) {
        item(&mut roff, bold(number), &meaning);
    }
    if !note.files.is_empty() {
        section(&mut roff, "FILES");
        for file in &note.files {
            let (path, what) = &notes.files[file];
            item(&mut roff, bold(path), what);
        }
    }
    section(&mut roff, "EXAMPLES");
    for (nth, (says, commands)) in note.examples.iter().enumerate() {
        if nth > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(says)]);
        example(&mut roff, commands);
    }
    let mut see: Vec<String> = above.iter().map(|above| format!("{above}(1)")).collect();
    see.extend(below.iter().map(|below| format!("{name}-{}(1)", below.get_name())));
    see.extend(note.see.iter().cloned());
    see.push("mailseal.toml(5)".into());
    see_also(&mut roff, &see);
    roff.to_writer(&mut text).unwrap();
    title(name, 1) + &once(&String::from_utf8(text).unwrap())
}

/// The commands of a program or command.
fn commands(command: &Command) -> Vec<&Command> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect()
}

/// The exit statuses with their meanings: those that the help has, or those of all commands and what the notes say.
fn statuses(command: &Command, note: &Note, notes: &Notes) -> Vec<(String, String)> {
    if let Some(help) = command.get_after_help() {
        let help = help.to_string();
        let lines = help.strip_prefix("Exit status:\n").unwrap().lines();
        return lines
            .map(|line| line.trim().split_once("  ").unwrap())
            .map(|(a, b)| (a.into(), b.into()))
            .collect();
    }
    let mut statuses = if note.own_status { BTreeMap::new() } else { notes.status.clone() };
    statuses.extend(note.status.clone());
    let mut statuses: Vec<_> = statuses.into_iter().collect();
    statuses.sort_by_key(|(number, _)| number.parse().unwrap_or(u8::MAX));
    statuses
}

pub fn section(roff: &mut Roff, name: &str) {
    roff.control("SH", [name]);
}

/// Something, and indented what it is.
pub fn item(roff: &mut Roff, what: Inline, says: &str) {
    roff.control("TP", []);
    roff.text([what]);
    roff.text([roman(says)]);
}

/// Lines that stay as they are.
pub fn example(roff: &mut Roff, lines: &str) {
    roff.control("PP", []).control("RS", ["4"]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).control("RE", []);
}

pub fn see_also(roff: &mut Roff, pages: &[String]) {
    section(roff, "SEE ALSO");
    let mut line = Vec::new();
    for (nth, page) in pages.iter().enumerate() {
        if nth > 0 {
            line.push(roman(", "));
        }
        let (name, number) = page.split_once('(').unwrap();
        line.extend([bold(name), roman(format!("({number}"))]);
    }
    roff.text(line);
}

/// The text with one definition of the apostrophe, which each section has, and without what mandoc complains of: blanks at the
/// end of a line, blank lines and breaks that follow each other.
pub fn once(text: &str) -> String {
    let definition: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert!(definition.contains(".ds Aq"), "{definition}");
    let mut lines: Vec<_> = definition.lines().map(String::from).collect();
    let text = text.replace(&definition, "");
    lines.extend(text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()));
    lines.dedup_by(|line, before| line == ".br" && before == ".br");
    lines.join("\n") + "\n"
}
