//! `mailseal.toml(5)`: what there is to say of every setting, and its default.

use std::collections::BTreeMap;
use std::fs;

use clap_mangen::roff::{Roff, bold, roman};
use testing::repository;

use super::man;

/// The example, in which every setting stands with its default or, behind `# `, with a value.
fn example() -> String {
    fs::read_to_string(repository().join("sieve/mailseal.toml")).unwrap()
}

/// A table, and its settings with what is said of them, in the order in which they stand there.
fn tables() -> Vec<(String, Vec<(String, String)>)> {
    let text = fs::read_to_string(repository().join("man/settings.toml")).unwrap();
    let parsed: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(&text).unwrap();
    let mut tables: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            tables.push((table.into(), Vec::new()));
        } else if let Some((name, _)) = line.split_once(" = ")
            && let Some((table, settings)) = tables.last_mut()
            && let Some(says) = parsed[table].get(name)
        {
            settings.push((name.into(), says.trim_end().into()));
        }
    }
    let count: usize = tables.iter().map(|(_, settings)| settings.len()).sum();
    assert_eq!(count, parsed.values().map(BTreeMap::len).sum::<usize>());
    tables
}

/// The defaults in the example, by table and name.
fn defaults() -> BTreeMap<(String, String), String> {
    let mut table = String::new();
    let mut defaults = BTreeMap::new();
    for line in example().lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').into();
        } else if let Some((name, value)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            defaults.insert((table.clone(), name.into()), value.into());
        }
    }
    defaults
}

/// The page.
pub fn page() -> String {
    let mut roff = Roff::new();
    man::section(&mut roff, "NAME");
    roff.text([roman("mailseal.toml - configuration of mailseal, mailseal-filter and encrypt-maildir")]);
    man::section(&mut roff, "DESCRIPTION");
    roff.text([
        roman("The programs read "),
        bold("/etc/mailseal.toml"),
        roman(", or what --config names. A program that seals ends with 78 where that is missing, and so does each where \
               something in it cannot be understood, or where somebody else could have written it."),
    ]);
    roff.control("PP", []);
    roff.text([roman("It is TOML. Every setting has a default, and may be left out.")]);
    let mut defaults = defaults();
    for (table, settings) in tables() {
        let is_list = ["users", "outgoing"].contains(&&*table);
        let head = if is_list { format!("[[{table}]]") } else { format!("[{table}]") };
        man::section(&mut roff, &head);
        for (name, says) in settings {
            if name == "about" {
                roff.text([roman(says)]);
                continue;
            }
            roff.control("TP", []);
            match defaults.remove(&(table.clone(), name.clone())) {
                Some(default) if !is_list => roff.text([bold(name), roman(format!(" = {default}"))]),
                _ => roff.text([bold(name)]),
            };
            roff.text([roman(says)]);
        }
    }
    assert!(
        defaults.is_empty(),
        "sieve/mailseal.toml has settings that man/settings.toml has not: {defaults:?}"
    );
    man::section(&mut roff, "FILES");
    man::item(&mut roff, bold("/etc/mailseal.toml"), "The configuration.");
    man::section(&mut roff, "EXAMPLES");
    roff.text([roman(
        "Certificates that an admin enrols, a recovery key, and a pilot domain that is only observed:",
    )]);
    man::example(
        &mut roff,
        "[keys]\nsources = [\"file:/etc/mailseal/keys/%{user}.pgp\"]\nrecovery = [\"/etc/mailseal/recovery.pgp\"]\n\n\
         [[users]]\nmatch = [\"*@pilot.example.org\"]\nmode = \"observe\"",
    );
    let see = ["mailseal(1)", "mailseal-config-check(1)", "mailseal-filter(1)", "encrypt-maildir(1)"];
    man::see_also(&mut roff, &see.map(String::from));
    let mut text = Vec::new();
    roff.to_writer(&mut text).unwrap();
    man::title("mailseal.toml", 5) + &man::once(&String::from_utf8(text).unwrap())
}

/// The settings that the programs take in a table, as they say when there is another one.
fn taken(head: &str) -> Vec<String> {
    let refused =
        toml::from_str::<mailseal::config::Config>(&format!("{head}\nno-setting = 1\n")).unwrap_err();
    let message = refused.message();
    let (_, expected) = message.split_once("expected ").unwrap_or_else(|| panic!("{message}"));
    let names = expected.split('`').skip(1).step_by(2);
    names.map(String::from).collect()
}

#[test]
fn every_setting_is_described_and_in_the_example() {
    let tables = tables();
    let mut all = taken("");
    let mut described: Vec<_> = tables.iter().map(|(table, _)| table.clone()).collect();
    all.sort();
    described.sort();
    assert_eq!(described, all);
    let example = example();
    for (table, settings) in tables {
        let head = if ["users", "outgoing"].contains(&&*table) {
            format!("[[{table}]]")
        } else {
            format!("[{table}]")
        };
        let mut taken = taken(&head);
        let mut described: Vec<_> =
            settings.into_iter().map(|(name, _)| name).filter(|name| name != "about").collect();
        taken.sort();
        described.sort();
        assert_eq!(described, taken, "{head}");
        for name in taken {
            assert!(example.contains(&name), "sieve/mailseal.toml does not have {name}, of {head}");
        }
    }
}
