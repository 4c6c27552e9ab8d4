//! What the checks want to know of Dovecot, said the same way whichever version it is.

use std::path::{Path, PathBuf};

use crate::dovecot::doveconf::{self, Block};
use crate::dovecot::effective;
use crate::dovecot::files::{self, Line};

/// Memory of a service where nothing is set: Dovecot's default.
const DEFAULT_VSZ_LIMIT: u64 = 256 << 20;

/// How long a filter may run where nothing is set, in seconds: Pigeonhole's default.
const DEFAULT_FILTER_TIMEOUT: u64 = 10;

/// Dovecot's settings.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The configuration file that was named, if one was.
    pub config: Option<PathBuf>,
    version: [u32; 3],
    /// As Dovecot writes it.
    version_text: String,
    settings: Block,
    /// The file that Dovecot reads first.
    main_file: Option<PathBuf>,
}

/// A namespace of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What its folders begin with.
    pub prefix: String,
    /// `private`, `shared` or `public`.
    pub kind: String,
    /// Where its mail is, as far as that is a path.
    pub path: Option<PathBuf>,
}

/// A script that imapsieve runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapRule {
    /// The folder, in which `*` stands for any text.
    pub folder: String,
    /// Whether the folder is one of a namespace that others can use, too.
    pub shared: bool,
    /// The script.
    pub script: PathBuf,
}

impl Installation {
    /// Asks `doveconf`.
    ///
    /// # Errors
    /// What it says, when it fails or when its version cannot be read.
    pub fn read(config: Option<&Path>) -> Result<Self, String> {
        let text = doveconf::output(doveconf::command("doveconf", config).arg("-n"))?;
        Self::parse(&text, config).ok_or_else(|| "doveconf says no version".into())
    }

    fn parse(text: &str, config: Option<&Path>) -> Option<Self> {
        let version_text = text.strip_prefix("# ")?.split([' ', ':']).next()?.to_owned();
        let mut numbers = version_text.split(['.', '-']).map(|part| part.parse().ok());
        let version = [numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)];
        let settings = Block::parse(text);
        let first = text.lines().next().unwrap_or_default();
        let named = first.rsplit_once(": ").map(|(_, file)| PathBuf::from(file.trim()));
        let main_file = config.map(Path::to_owned).or(named);
        Some(Self { config: config.map(Path::to_owned), version, version_text, settings, main_file })
    }

    /// The version: its text, and the first three numbers in it.
    #[must_use]
    pub fn version(&self) -> (&str, [u32; 3]) {
        (&self.version_text, self.version)
    }

    /// Whether settings are written as in 2.4.
    #[must_use]
    pub fn is_2_4(&self) -> bool {
        self.version >= [2, 4, 0]
    }

    /// Whether a filter under LMTP has root as its real user id.
    #[must_use]
    pub fn runs_filters_with_roots_rights(&self) -> bool {
        ([2, 4, 0]..[2, 4, 4]).contains(&self.version)
    }

    /// A setting, `protocol`'s own if there is one.
    #[must_use]
    pub fn setting(&self, protocol: &str, key: &str) -> Option<&str> {
        let own = self.protocol(protocol).and_then(|block| block.get(key));
        own.or_else(|| self.settings.get(key))
    }

    /// A setting of the Sieve plugin: in 2.3 inside `plugin`.
    #[must_use]
    pub fn sieve_setting(&self, protocol: &str, key: &str) -> Option<&str> {
        if self.is_2_4() {
            return self.setting(protocol, key);
        }
        let own = self.protocol(protocol).and_then(|block| in_plugin(block, key));
        own.or_else(|| in_plugin(&self.settings, key))
    }

    /// The plugins that `protocol` runs with.
    #[must_use]
    pub fn plugins(&self, protocol: &str) -> Vec<&str> {
        let own = self.protocol(protocol).map(|block| block.list("mail_plugins")).unwrap_or_default();
        // In 2.3 a protocol's list takes the place of the other, in 2.4 it is added.
        if self.is_2_4() || own.is_empty() {
            own.into_iter().chain(self.settings.list("mail_plugins")).collect()
        } else {
            own
        }
    }

    /// Whether mail comes in over LMTP.
    #[must_use]
    pub fn has_lmtp(&self) -> bool {
        let protocols = self.settings.list("protocols");
        protocols.is_empty() || protocols.contains(&"lmtp")
    }

    /// The Sieve scripts that run before the user's, in their order; those of a folder by name.
    #[must_use]
    pub fn scripts_before(&self) -> Vec<PathBuf> {
        self.scripts_before_of("")
    }

    /// The same for mail that comes over `protocol`, whose own settings take the place of the others.
    #[must_use]
    pub fn scripts_before_of(&self, protocol: &str) -> Vec<PathBuf> {
        let values = if self.is_2_4() {
            let places = [Some(&self.settings), self.protocol(protocol)];
            let blocks = places.into_iter().flatten().flat_map(|place| place.blocks("sieve_script"));
            effective::by_precedence(blocks).into_iter().filter_map(|block| block.get("path")).collect()
        } else {
            effective::counted(|key| self.sieve_setting(protocol, key))
        };
        values.into_iter().flat_map(|value| files(&location(value))).collect()
    }

    /// The settings of 2.3 that name a script which never runs for `protocol`: a number before theirs is missing.
    #[must_use]
    pub fn scripts_not_reached(&self, protocol: &str) -> Vec<&str> {
        let places = [Some(&self.settings), self.protocol(protocol)];
        let reached = effective::counted(|key| self.sieve_setting(protocol, key)).len();
        let runs = |key: &str| (1..=reached).any(|number| effective::before_key(number) == key);
        let plugins = places.into_iter().flatten().filter_map(|place| place.block("plugin"));
        let named = plugins
            .flat_map(Block::settings)
            .filter(|(key, value)| key.starts_with("sieve_before") && !value.is_empty());
        named.map(|(key, _)| key).filter(|key| !runs(key)).collect()
    }

    /// The user with whose rights a service runs, where that is not root's.
    #[must_use]
    pub fn service_user(&self, service: &str) -> Option<&str> {
        let block = self.settings.block(&format!("service {service}"))?;
        block.get("user").filter(|user| !user.is_empty() && *user != "root")
    }

    /// Where the settings that `wanted` names are written, in the order in which Dovecot reads them.
    #[must_use]
    pub fn written(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<Line> {
        self.main_file.as_deref().map_or_else(Vec::new, |file| files::lines(file, wanted))
    }

    /// The numbers of imapsieve's rules (2.3) that have a script and name no folder.
    #[must_use]
    pub fn nameless_imap_rules(&self) -> Vec<&str> {
        let Some(plugin) = self.settings.block("plugin").filter(|_| !self.is_2_4()) else {
            return Vec::new();
        };
        let numbers = plugin.settings().filter_map(|(key, _)| {
            let number = key.strip_prefix("imapsieve_mailbox")?;
            number.strip_suffix("_before").or_else(|| number.strip_suffix("_after"))
        });
        numbers.filter(|number| plugin.get(&format!("imapsieve_mailbox{number}_name")).is_none()).collect()
    }

    /// The user's active script, with `~` for the home.
    #[must_use]
    pub fn personal_script(&self) -> String {
        let fallback = "~/.dovecot.sieve";
        if self.is_2_4() {
            let personal = |block: &&Block| block.get("type").is_none_or(|kind| kind == "personal");
            let mut blocks = self.settings.blocks("sieve_script").filter(personal);
            let active = blocks.find_map(|block| block.get("active_path").or_else(|| block.get("path")));
            return active.unwrap_or(fallback).to_owned();
        }
        let value = self.sieve_setting("lmtp", "sieve").unwrap_or(fallback);
        let active = value.split(';').find_map(|part| part.strip_prefix("active="));
        active.map_or_else(|| location(value).display().to_string(), str::to_owned)
    }

    /// The namespaces that `protocol` sees.
    #[must_use]
    pub fn namespaces(&self, protocol: &str) -> Vec<Namespace> {
        let own = self.protocol(protocol).into_iter().flat_map(|block| block.blocks("namespace"));
        self.settings.blocks("namespace").chain(own).map(namespace).collect()
    }

    /// What imapsieve runs.
    #[must_use]
    pub fn imap_rules(&self) -> Vec<ImapRule> {
        if !self.plugins("imap").contains(&"imap_sieve") {
            return Vec::new();
        }
        if self.is_2_4() { self.imap_rules_of_2_4() } else { self.imap_rules_of_2_3() }
    }

    fn imap_rules_of_2_3(&self) -> Vec<ImapRule> {
        let Some(plugin) = self.settings.block("plugin") else { return Vec::new() };
        let others: Vec<Namespace> =
            self.namespaces("imap").into_iter().filter(|namespace| namespace.kind != "private").collect();
        plugin
            .settings()
            .filter_map(|(key, script)| {
                let number = key.strip_prefix("imapsieve_mailbox")?;
                let number = number.strip_suffix("_before").or_else(|| number.strip_suffix("_after"))?;
                let folder = plugin.get(&format!("imapsieve_mailbox{number}_name"))?.to_owned();
                let in_prefix = |namespace: &Namespace| {
                    let fixed = namespace.prefix.split(['%', '$']).next().unwrap_or_default();
                    !fixed.is_empty() && folder.starts_with(fixed)
                };
                let shared = others.iter().any(in_prefix) || folder.contains('*');
                Some(ImapRule { folder, shared, script: location(script) })
            })
            .collect()
    }

    fn imap_rules_of_2_4(&self) -> Vec<ImapRule> {
        let mut rules = Vec::new();
        let mut add = |place: &Block, folder: &str, shared: bool| {
            let scripts = place.blocks("sieve_script").filter(|script| script.get("cause").is_some());
            rules.extend(scripts.filter_map(|script| {
                let script = script.get("path")?.into();
                Some(ImapRule { folder: folder.to_owned(), shared, script })
            }));
        };
        add(&self.settings, "*", true);
        let own = self.protocol("imap").into_iter().flat_map(|block| block.blocks("namespace"));
        for space in self.settings.blocks("namespace").chain(own) {
            let Namespace { prefix, kind, .. } = namespace(space);
            add(space, &format!("{prefix}*"), true);
            for mailbox in space.blocks("mailbox") {
                add(
                    mailbox,
                    &format!("{prefix}{}", mailbox.title()),
                    kind != "private" || mailbox.title().contains('*'),
                );
            }
        }
        rules
    }

    /// Seconds that a filter may run.
    #[must_use]
    pub fn filter_timeout(&self) -> u64 {
        self.sieve_setting("lmtp", "sieve_filter_exec_timeout")
            .and_then(doveconf::seconds)
            .unwrap_or(DEFAULT_FILTER_TIMEOUT)
    }

    /// The address space that a service may take, in bytes; 0 is no limit.
    #[must_use]
    pub fn memory_limit(&self, service: &str) -> u64 {
        let block = self.settings.block(&format!("service {service}"));
        let own = block.and_then(|block| block.get("vsz_limit")).map(doveconf::bytes);
        // 2.3 writes its default as a huge number, and 0 is the default, too.
        match own {
            Some(Some(limit)) if limit > 0 && limit < u64::MAX / 2 => limit,
            Some(None) => 0,
            _ => self
                .settings
                .get("default_vsz_limit")
                .map_or(DEFAULT_VSZ_LIMIT, |value| doveconf::bytes(value).unwrap_or(0)),
        }
    }

    /// Dovecot's folder for temporary files.
    #[must_use]
    pub fn temporary_folder(&self) -> PathBuf {
        self.setting("lmtp", "mail_temp_dir").unwrap_or("/tmp").into()
    }

    fn protocol(&self, name: &str) -> Option<&Block> {
        self.settings.block(&format!("protocol {name}"))
    }
}

fn in_plugin<'a>(block: &'a Block, key: &str) -> Option<&'a str> {
    block.block("plugin")?.get(key)
}

fn namespace(block: &Block) -> Namespace {
    let path = block.get("mail_path").map(str::to_owned).or_else(|| {
        // DRIVER:PATH:OPTION=…
        Some(block.get("location")?.split(':').nth(1)?.to_owned())
    });
    Namespace {
        prefix: block.get("prefix").unwrap_or_default().to_owned(),
        kind: block.get("type").filter(|kind| !kind.is_empty()).unwrap_or("private").to_owned(),
        path: path.filter(|path| path.starts_with('/')).map(PathBuf::from),
    }
}

/// The path of a script: `file:PATH;OPTION=…` or PATH.
#[must_use]
pub fn location(value: &str) -> PathBuf {
    value.strip_prefix("file:").unwrap_or(value).split(';').next().unwrap_or_default().into()
}

/// The file itself, or the scripts in a folder by name.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sieve"));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Installation {
        Installation::parse(text, None).unwrap()
    }

    #[test]
    fn both_versions_say_the_same_of_the_same_installation() {
        let old = parse(
            "# 2.3.19.1 (9b53102964): x\nplugin {\n  sieve_before = /a.sieve\n  sieve_before3 = /c.sieve\n  sieve_before5 = /e.sieve\n  \
             sieve_before2 = file:/b.sieve;name=b\n  sieve = file:~/sieve;active=~/.active\n  \
             sieve_filter_exec_timeout = 1m\n  imapsieve_mailbox1_name = Sent\n  imapsieve_mailbox1_before = file:/i.sieve\n}\n\
             protocol imap {\n  mail_plugins = \" imap_sieve\"\n}\nprotocols = imap lmtp\n\
             protocol lmtp {\n  namespace x {\n    prefix = T.\n    location = maildir:/t:INDEX=MEMORY\n  }\n}\n\
             service lmtp {\n  vsz_limit = 64 M\n}\n",
        );
        let new = parse(
            "# 2.4.1-4 (7d8c0e5759): x\nsieve_script b {\n  type = before\n  path = /b.sieve\n}\nsieve_script a {\n  \
             path = /a.sieve\n  precedence = 0\n  type = before\n}\nsieve_script c {\n  path = /c.sieve\n  type = before\n}\n\
             sieve_script p {\n  path = ~/sieve\n  active_path = ~/.active\n}\nsieve_filter_exec_timeout = 1 mins\n\
             namespace inbox {\n  mailbox Sent {\n    sieve_script i {\n      cause = append\n      path = /i.sieve\n    }\n  }\n}\n\
             protocol imap {\n  mail_plugins {\n    imap_sieve = yes\n  }\n}\nprotocols {\n  lmtp = yes\n}\n\
             protocol lmtp {\n  namespace x {\n    prefix = T.\n    mail_path = /t\n  }\n}\n\
             service lmtp {\n  vsz_limit = 64M\n}\n",
        );
        for installation in [old, new] {
            let scripts = installation.scripts_before();
            assert_eq!(scripts, ["/a.sieve", "/b.sieve", "/c.sieve"].map(PathBuf::from));
            assert_eq!(installation.personal_script(), "~/.active");
            assert_eq!(installation.filter_timeout(), 60);
            assert_eq!(installation.memory_limit("lmtp"), 64 << 20);
            assert_eq!(installation.memory_limit("imap"), 256 << 20);
            let rule = ImapRule { folder: "Sent".into(), shared: false, script: "/i.sieve".into() };
            assert_eq!(installation.imap_rules(), [rule]);
            let trap = Namespace { prefix: "T.".into(), kind: "private".into(), path: Some("/t".into()) };
            assert!(installation.namespaces("lmtp").contains(&trap));
            assert!(!installation.namespaces("imap").contains(&trap));
        }
    }

    #[test]
    fn dovecot_2_3_stops_at_a_number_that_is_missing() {
        let text = |numbers: &[&str]| {
            let settings = numbers.iter().map(|number| format!("  sieve_before{number} = /{number}.sieve\n"));
            format!("# 2.3.19.1 (0): x\nplugin {{\n{}}}\n", settings.collect::<String>())
        };
        for (numbers, runs, others) in [
            (&["", "2", "3"][..], 3, &[][..]),
            (&["", "7"], 1, &["sieve_before7"]),
            (&["2"], 0, &["sieve_before2"]),
            (&["1"], 0, &["sieve_before1"]),
        ] {
            let installation = parse(&text(numbers));
            assert_eq!(installation.scripts_before().len(), runs, "{numbers:?}");
            assert_eq!(installation.scripts_not_reached(""), others, "{numbers:?}");
        }
    }

    #[test]
    fn the_versions_with_the_uid_fault_are_known() {
        for (version, faulty) in [
            ("2.3.21", false),
            ("2.4.0-1", true),
            ("2.4.1-4", true),
            ("2.4.3", true),
            ("2.4.4", false),
            ("3.0.0", false),
        ] {
            let installation = parse(&format!("# {version} (0): x\n"));
            assert_eq!(installation.runs_filters_with_roots_rights(), faulty, "{version}");
        }
    }
}
