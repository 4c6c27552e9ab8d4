//! Man pages and completions, as they are generated from the command lines of the programs: none is missing, none is stale.
//!
//! After a change that is meant, `PAGES=overwrite cargo test --features network --test programs pages::` writes them. What they
//! say beside the help is in `man/notes.toml` and `man/settings.toml`.

#[path = "../../../src/bin/mailseal/main.rs"]
#[allow(dead_code, reason = "only the command line is used")]
mod admin;
#[path = "../../../src/bin/encrypt-maildir.rs"]
#[allow(dead_code, reason = "only the command line is used")]
mod bulk;
mod man;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use mailseal::delivery::options::Options as Filter;
use testing::{repository, skip};

use man::Notes;

/// The command lines of the programs.
fn programs() -> [Command; 3] {
    [admin::Arguments::command(), bulk::Args::command(), Filter::command()]
}

/// All of the pages and completions, with their paths in the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let notes = Notes::read(&repository().join("man/notes.toml"));
    let mut pages = BTreeMap::new();
    for mut program in programs() {
        let name = program.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, name.clone()),
            (Shell::Zsh, format!("_{name}")),
            (Shell::Fish, format!("{name}.fish")),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut program, &name, &mut script);
            let path = Path::new("completions").join(shell.to_string()).join(file);
            pages.insert(path, String::from_utf8(script).unwrap());
        }
        man::add(program, &notes, &mut pages);
    }
    let unused: Vec<_> = notes.pages().filter(|name| !pages.contains_key(&man::path(name))).collect();
    assert!(unused.is_empty(), "man/notes.toml has notes for pages that there are not: {unused:?}");
    pages.insert("man/mailseal.toml.5".into(), settings::page());
    pages
}

/// What the repository has of them.
fn present() -> Vec<PathBuf> {
    let folders = ["man", "completions/bash", "completions/fish", "completions/zsh"];
    let files = folders.into_iter().flat_map(|folder| {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        entries.map(move |entry| Path::new(folder).join(entry.unwrap().file_name()))
    });
    files.filter(|path| path.extension().is_none_or(|end| end != "toml")).collect()
}

/// Whether they are written now, so that no other test should look at them.
fn are_overwritten() -> bool {
    std::env::var_os("PAGES").is_some_and(|what| what == "overwrite")
}

#[test]
#[cfg_attr(not(feature = "network"), ignore = "the pages are those of a build with the feature network")]
fn none_is_missing_or_stale() {
    let pages = pages();
    if are_overwritten() {
        for path in present() {
            fs::remove_file(repository().join(path)).unwrap();
        }
        for (path, text) in &pages {
            fs::create_dir_all(repository().join(path).parent().unwrap()).unwrap();
            fs::write(repository().join(path), text).unwrap();
        }
    }
    let foreign: Vec<_> = present().into_iter().filter(|path| !pages.contains_key(path)).collect();
    let stale: Vec<_> = pages
        .iter()
        .filter(|(path, text)| fs::read_to_string(repository().join(path)).ok().as_ref() != Some(*text))
        .map(|(path, _)| path)
        .collect();
    assert!(
        foreign.is_empty() && stale.is_empty(),
        "{stale:?} are missing or stale, {foreign:?} not ours: PAGES=overwrite cargo test --features network --test programs pages::"
    );
}

#[test]
fn mandoc_has_no_complaint() {
    if are_overwritten() {
        return;
    }
    if Process::new("mandoc").arg("-T").arg("lint").arg("/dev/null").output().is_err() {
        skip::unless_ci("mandoc is missing (Debian: mandoc)");
        return;
    }
    let pages = present().into_iter().filter(|path| path.starts_with("man"));
    let said = Process::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(pages)
        .current_dir(repository())
        .output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let complaints: Vec<_> = said.lines().filter(|line| !line.contains("missing date, using")).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Whatever shells there are take the completions.
#[test]
fn shells_take_the_completions() {
    if are_overwritten() {
        return;
    }
    for shell in ["bash", "zsh", "fish"] {
        let scripts =
            present().into_iter().filter(|path| path.starts_with(Path::new("completions").join(shell)));
        for script in scripts {
            let Ok(run) = Process::new(shell).arg("-n").arg(repository().join(&script)).output() else {
                continue;
            };
            assert!(run.status.success() && run.stderr.is_empty(), "{}: {run:?}", script.display());
        }
    }
}
