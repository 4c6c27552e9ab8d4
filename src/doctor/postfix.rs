//! Checks of a Postfix round the door for mail that leaves: aliases that it resolves behind the door make other recipients of a
//! message than those that rules were asked for.

use std::path::Path;
use std::process::Command;

use super::findings::Findings;
use crate::config::Config;
use crate::console::names::some_of;
use crate::dovecot::doveconf;
use crate::outgoing::address::Address;
use crate::outgoing::aliases::{Aliases, Names};
use crate::outgoing::policy;
use crate::serve::address::Address as Place;

/// What of its settings counts.
const SETTINGS: [&str; 5] =
    ["content_filter", "alias_maps", "virtual_alias_maps", "mydestination", "virtual_alias_domains"];

/// Kinds of tables that are made of a text file beside them, in the form of aliases(5).
const FILES: [&str; 7] = ["hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"];

/// What a Postfix says of itself.
#[derive(Debug, Default)]
struct Postfix {
    /// The values of [`SETTINGS`].
    settings: [String; SETTINGS.len()],
    /// The options of its services in `master.cf`, a line each.
    services: String,
}

/// All checks of this module, for the check called `name`.
pub fn check(name: &'static str, config: &Config, findings: &mut Findings) {
    let has_door = config.serve.outgoing.is_some() || config.serve.outgoing_next.is_some();
    if !has_door || !policy::demands(config) {
        return;
    }
    // Without a Postfix there is nothing to say.
    let Some(postfix) = Postfix::ask().filter(|postfix| !postfix.settings[0].is_empty()) else { return };
    let known = Aliases::read(config).and_then(|aliases| Ok((aliases, Names::read(config)?)));
    match known {
        Ok((aliases, names)) => Check { name, config, aliases, names, findings }.run(&postfix),
        Err(error) => findings.fail(name, format!("{error}: mail for this host waits"), error.hint()),
    }
}

impl Postfix {
    fn ask() -> Option<Self> {
        let said = doveconf::output(Command::new("postconf").args(["-x", "-h"]).args(SETTINGS)).ok()?;
        let mut lines = said.lines().map(|line| line.trim().to_owned());
        let settings = SETTINGS.map(|_| lines.next().unwrap_or_default());
        let services = doveconf::output(Command::new("postconf").arg("-P")).ok()?;
        Some(Self { settings, services })
    }
}

struct Check<'a> {
    name: &'static str,
    config: &'a Config,
    aliases: Aliases,
    names: Names,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn run(&mut self, postfix: &Postfix) {
        let [_, alias_maps, virtual_maps, mydestination, virtual_domains] = &postfix.settings;
        tables(alias_maps).into_iter().for_each(|table| self.table(table));
        let own = [mydestination, virtual_domains].into_iter().flat_map(|list| tables(list));
        own.for_each(|domain| self.domain(domain));
        if !virtual_maps.is_empty() && !self.leaves_addresses_alone(&postfix.services) {
            self.findings.warn(
                self.name,
                "Postfix asks virtual_alias_maps once more behind the door: what they make of a message leaves as it is",
                "master.cf: -o receive_override_options=no_address_mappings at the port of outgoing-next, as in contrib/mta",
            );
        }
    }

    /// Compares the aliases that Postfix resolves by `table` with those that are known here.
    fn table(&mut self, table: &str) {
        let plain = table.strip_prefix("proxy:").unwrap_or(table);
        let file = match plain.split_once(':') {
            Some((kind, path)) => FILES.contains(&kind).then_some(Path::new(path)),
            None => Some(Path::new(plain)),
        };
        let theirs = file.filter(|path| path.is_file()).map(|path| Aliases::at(path, self.config));
        let Some(Ok(theirs)) = theirs else {
            return self.findings.warn(
                self.name,
                format!("Postfix asks {table} for aliases behind the door, and mailseal cannot read them"),
                "resolve aliases before the door: move them to virtual_alias_maps",
            );
        };
        let unknown = self.aliases.unknown_of(&theirs);
        if !unknown.is_empty() {
            let file = self.config.sendmail.aliases.display();
            self.findings.warn(
                self.name,
                format!("Postfix resolves aliases of {table} behind the door that {file} has not: {}", some_of(&unknown)),
                "move them to virtual_alias_maps, which count before the door, or name that file as `aliases` in [sendmail]",
            );
        }
        self.outward(table, &theirs);
    }

    /// Looks for aliases that lead away from this host, where a rule lets their mail pass in clear.
    fn outward(&mut self, table: &str, theirs: &Aliases) {
        let delimiters = &self.config.serve.recipient_delimiter;
        let domain = policy::domain(self.config);
        let passes = |name: &String| {
            let Ok(address) = Address::parse(name, domain.as_deref()) else { return false };
            let rule = policy::rule(self.config, &address).map(|(_, rule)| rule);
            let leads_away = || theirs.resolve(name, delimiters).0.iter().any(|end| !end.local);
            rule.is_some_and(|rule| !rule.require && rule.key.is_empty()) && leads_away()
        };
        let found: Vec<String> = theirs.called().into_iter().filter(passes).collect();
        if !found.is_empty() {
            self.findings.warn(
                self.name,
                format!(
                    "mail for these may pass the door in clear, and Postfix sends it away by {table}: {}",
                    some_of(&found)
                ),
                "move them to virtual_alias_maps, which count before the door, or let their rule have require = true",
            );
        }
    }

    /// Whether mail for `domain`, which Postfix takes for its own, is known here to be for this host.
    fn domain(&mut self, domain: &str) {
        // Another table, or a file.
        if domain.contains(['/', ':']) {
            return;
        }
        let Ok(address) = Address::parse("postmaster", Some(domain)) else { return };
        if !self.names.are_of(&address) && policy::rule(self.config, &address).is_none() {
            self.findings.warn(
                self.name,
                format!("Postfix takes {domain} for its own, and mailseal does not: what is an alias there leaves in clear"),
                format!("[[outgoing]] to = [\"*@{domain}\"], or a line in /etc/hosts that calls this host so"),
            );
        }
    }

    /// Whether Postfix asks no tables of addresses where sealed mail comes back.
    fn leaves_addresses_alone(&self, services: &str) -> bool {
        let Some(Place::Tcp(back)) = self.config.serve.outgoing_next.as_ref().map(|next| &next.address)
        else {
            return true;
        };
        let service = format!("{}/inet/receive_override_options", back.port());
        let is_it = |line: &&str| {
            let key = line.split_whitespace().next().unwrap_or_default();
            key == service || key.ends_with(&format!(":{service}"))
        };
        services.lines().find(is_it).is_some_and(|line| line.contains("no_address_mappings"))
    }
}

/// The entries of a list; one with braces is taken as a whole.
fn tables(list: &str) -> Vec<&str> {
    if list.contains('{') {
        return vec![list];
    }
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str = "127.0.0.1:10025/inet/receive_override_options = no_address_mappings\n";

    /// What is said of a Postfix with these settings, beside a door with these rules, by lines.
    fn said(settings: [&str; 4], services: &str, rules: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("aliases", "root: team@team.example\n");
        write("same", "root: team@team.example\n");
        write("more", "root: team@team.example\nops: ops@team.example\nwww: root\nlocal: \\local\n");
        let here = |text: &str| text.replace("DIR", dir.path().to_str().unwrap());
        let text = here(&format!(
            "[sendmail]\naliases = \"DIR/aliases\"\ndomain = \"here.example\"\n\
             [serve]\noutgoing = \"127.0.0.1:10024\"\noutgoing-next = \"smtp:127.0.0.1:10025\"\n{rules}"
        ));
        let config: Config = toml::from_str(&text).unwrap();
        let mut findings = Findings::default();
        let (aliases, names) = (Aliases::read(&config).unwrap(), Names::read(&config).unwrap());
        let [alias_maps, virtual_maps, mydestination, domains] = settings.map(here);
        let settings = ["lmtp:x".into(), alias_maps, virtual_maps, mydestination, domains];
        let postfix = Postfix { settings, services: services.into() };
        Check { name: "outgoing", config: &config, aliases, names, findings: &mut findings }.run(&postfix);
        let mut out = Vec::new();
        findings.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const RULES: &str = "[[outgoing]]\nto = [\"*@team.example\"]\n";

    #[test]
    fn what_postfix_resolves_behind_the_door_is_told() {
        let quiet = [
            ["", "", "localhost, here.example", ""],
            ["hash:DIR/aliases", "hash:/etc/postfix/virtual", "hash:/x, localhost", ""],
            ["proxy:hash:DIR/same, DIR/same", "", "", ""],
            ["", "", "team.example", ""],
        ];
        for settings in quiet {
            assert_eq!(said(settings, SERVICES, RULES), "failures: 0, warnings: 0\n", "{settings:?}");
        }
        for (settings, services, text) in [
            (["hash:DIR/more", "", "", ""], SERVICES, "DIR/aliases has not: local, ops, www"),
            (["hash:DIR/none", "", "", ""], SERVICES, "DIR/none for aliases behind the door"),
            (["ldap:/etc/postfix/ldap.cf", "", "", ""], SERVICES, "ldap.cf for aliases"),
            (["unionmap:{hash:DIR/same, nis:x}", "", "", ""], SERVICES, "unionmap:{hash:"),
            (
                ["", "", "localhost here.example, other.example", ""],
                SERVICES,
                "takes other.example for its own",
            ),
            (["", "", "", "lists.example"], SERVICES, "takes lists.example for its own"),
            (["", "hash:/x", "", ""], "", "virtual_alias_maps once more"),
            (
                ["", "hash:/x", "", ""],
                "127.0.0.1:1/inet/receive_override_options = no_address_mappings",
                "once more",
            ),
            (
                ["", "hash:/x", "", ""],
                "127.0.0.1:10025/inet/receive_override_options = no_milters",
                "once more",
            ),
        ] {
            let said = said(settings, services, RULES);
            let text = text.trim_start_matches("DIR");
            assert!(said.contains(text) && said.ends_with("warnings: 1\n"), "{settings:?}: {said}");
        }
    }

    #[test]
    fn an_alias_that_leads_away_may_not_pass_in_clear() {
        let rules = format!("{RULES}[[outgoing]]\nto = [\"*@here.example\"]\nrequire = false\n");
        let found = said(["hash:DIR/aliases", "", "", ""], SERVICES, &rules);
        assert!(found.contains("sends it away by") && found.contains("aliases: root\n"), "{found}");
        let sealed = rules.replace("require = false", "require = true");
        assert_eq!(said(["hash:DIR/aliases", "", "", ""], SERVICES, &sealed), "failures: 0, warnings: 0\n");
    }
}
