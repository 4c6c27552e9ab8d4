//! What is to be set, worked out from what a site has: no file is touched here, and no program run.

use std::path::{Path, PathBuf};

use super::refusal;
use super::settings::{self, Protocol, Values, Wanted};
use crate::cli;
use crate::doctor::scripts::without_comments;
use crate::dovecot::doveconf::{self, Block};
use crate::dovecot::effective::{View, before_key};
use crate::error::Error;

/// The extensions that our scripts need and that no script has of itself.
const EXTENSIONS: [&str; 2] = ["vnd.dovecot.filter", "vnd.dovecot.environment"];

/// The plugin of Sieve that runs programs.
const EXTPROGRAMS: &str = "sieve_extprograms";

/// The plugin of Sieve that runs scripts over IMAP.
const IMAPSIEVE: &str = "sieve_imapsieve";

/// What a script looks for that leaves sealed mail alone.
const SKIPS_SEALED: &str = "multipart/encrypted";

/// The settings that may not be another for some clients only.
const OURS: [&str; 5] =
    ["mail_plugins", "sieve_before", "sieve_plugins", "sieve_global_extensions", "sieve_filter_bin_dir"];

/// Where our files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The script for deliveries.
    pub script: PathBuf,
    /// The script for the Sent folder.
    pub imap_script: PathBuf,
    /// The folder that cannot be delivered to.
    pub trap: PathBuf,
    /// The folder that the filter is in.
    pub programs: PathBuf,
}

/// A Sieve script of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its file.
    pub path: PathBuf,
    /// What it says; `None` where it cannot be read.
    pub text: Option<String>,
}

/// What the site has without our file.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Whether settings are written as in 2.4.
    pub is_2_4: bool,
    /// All settings, those of protocols in blocks of their own.
    pub all: Block,
    /// What counts for LMTP.
    pub lmtp: View,
    /// What counts for dovecot-lda.
    pub lda: View,
    /// What counts for IMAP.
    pub imap: View,
    /// What counts outside all protocols.
    pub general: View,
    /// The scripts that run before users' own, and over IMAP.
    pub scripts: Vec<Script>,
    /// Programs that those scripts filter mail through, as far as they are text.
    pub filters: Vec<Script>,
}

/// A folder with what its owner has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentFolder {
    /// The name of its namespace's block.
    pub namespace: String,
    /// Its name in the namespace.
    pub name: String,
    /// Its name as clients see it.
    pub full_name: String,
}

/// What is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The text of our file.
    pub settings: String,
    /// The folder in which Dovecot looks for programs: the site's own, where it has one.
    pub programs: PathBuf,
    /// How long a filter may take, in seconds.
    pub seconds: u64,
    /// The folders that are sealed over IMAP.
    pub sent: Vec<SentFolder>,
    /// What an admin should know.
    pub notes: Vec<String>,
}

/// A setting of ours that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The protocol.
    pub protocol: &'static str,
    /// The setting.
    pub key: &'static str,
}

/// Works out what is to be set; a filter gets `seconds` at least.
///
/// # Errors
/// [`Error::Setup`] with the reason where it cannot be sure that all mail is sealed then, and that nothing of the site's is lost.
pub fn plan(site: &Site, paths: &Paths, seconds: u64) -> Result<Plan, Error> {
    refuse_other_mailseals(site, paths)?;
    refuse_partial(&site.all)?;
    refuse_no_namespace(site)?;
    let mut notes = judge_filters(site)?;
    if site.is_2_4 && [&site.lmtp, &site.lda].into_iter().any(View::has_first) {
        return Err(refusal(
            "a sieve_script has `precedence = 0`, which no script can come before",
            "give it another precedence, 1 or more",
        ));
    }
    let programs = programs(site, paths)?;
    let set = site.lmtp.sieve("sieve_filter_exec_timeout").and_then(doveconf::seconds);
    let seconds = set.unwrap_or_default().max(seconds);
    let sent = if site.imap.plugins().contains(&"lazy_expunge") {
        notes.push(
            "Sent mail stays clear: lazy_expunge would keep the clear message beside the sealed one".into(),
        );
        Vec::new()
    } else {
        let sent = sent_folders(&site.all, site.is_2_4);
        if sent.is_empty() {
            notes.push("Sent mail stays clear: no mailbox is written down with special_use = \\Sent".into());
        }
        sent
    };
    let settings = if site.is_2_4 {
        let extensions = missing_extensions(&site.lmtp);
        settings::of_2_4(
            &Wanted { sent: &sent, programs: &programs, seconds, extensions: &extensions },
            paths,
        )
    } else {
        let wanted = Old { site, paths, programs: &programs, seconds, sent: &sent };
        wanted.settings()
    };
    Ok(Plan { settings, programs, seconds, sent, notes })
}

/// The first of our settings that does not count in `now`, what the site has with our file.
#[must_use]
pub fn lost(site: &Site, plan: &Plan, paths: &Paths, now: &Site) -> Option<Lost> {
    for (protocol, before, after) in [("lmtp", &site.lmtp, &now.lmtp), ("lda", &site.lda, &now.lda)] {
        if let Some(key) = lost_at_delivery(before, plan, paths, after) {
            return Some(Lost { protocol, key });
        }
    }
    if plan.sent.is_empty() {
        return None;
    }
    let lost = |key| Some(Lost { protocol: "imap", key });
    if !has_all(&now.imap.plugins(), &site.imap.plugins(), &["imap_sieve"]) {
        return lost("mail_plugins");
    }
    let plugins = now.imap.sieve_list("sieve_plugins");
    if !has_all(&plugins, &site.imap.sieve_list("sieve_plugins"), &[EXTPROGRAMS, IMAPSIEVE]) {
        return lost("sieve_plugins");
    }
    if now.imap.sieve("imapsieve_expunge_discarded") != Some("yes") {
        return lost("imapsieve_expunge_discarded");
    }
    let is_run = |folder: &SentFolder| {
        if now.is_2_4 { runs_in_2_4(&now.all, folder, paths) } else { runs_in_2_3(&now.imap, folder, paths) }
    };
    if plan.sent.iter().all(is_run) { None } else { lost("imapsieve_mailbox") }
}

/// The first of our settings for deliveries that does not count.
fn lost_at_delivery(before: &View, plan: &Plan, paths: &Paths, after: &View) -> Option<&'static str> {
    let scripts = after.before();
    let others = before.before();
    let is_first = scripts.first().is_some_and(|first| first.path() == paths.script);
    if !is_first || scripts[1..] != others {
        return Some(if after.sieve("sieve_before").is_some() { "sieve_before" } else { "sieve_script" });
    }
    if !has_all(&after.plugins(), &before.plugins(), &["sieve"]) {
        return Some("mail_plugins");
    }
    if !has_all(&after.sieve_list("sieve_plugins"), &before.sieve_list("sieve_plugins"), &[EXTPROGRAMS]) {
        return Some("sieve_plugins");
    }
    if !has_all(&names(after), &names(before), &missing_extensions(before)) {
        return Some("sieve_global_extensions");
    }
    lost_beside_lists(plan, paths, after)
}

/// The first of our single settings for deliveries that does not count.
fn lost_beside_lists(plan: &Plan, paths: &Paths, after: &View) -> Option<&'static str> {
    let time = after.sieve("sieve_filter_exec_timeout").and_then(doveconf::seconds);
    let has_trap = after.settings().blocks("namespace").any(|space| {
        let path = space.get("mail_path").or_else(|| space.get("location")).unwrap_or_default();
        space.get("prefix") == Some(settings::TRAP) && path.contains(&*paths.trap.to_string_lossy())
    });
    [
        ("sieve_filter_bin_dir", after.sieve("sieve_filter_bin_dir").map(Path::new) == Some(&plan.programs)),
        ("sieve_filter_exec_timeout", time.is_some_and(|time| time >= plan.seconds)),
        ("lda_mailbox_autocreate", after.settings().get("lda_mailbox_autocreate") == Some("yes")),
        ("namespace failclosed", has_trap),
    ]
    .into_iter()
    .find(|(_, counts)| !counts)
    .map(|(key, _)| key)
}

/// The extensions that global scripts have, without the sign that 2.3 puts before them.
fn names(view: &View) -> Vec<&str> {
    let list = view.sieve_list("sieve_global_extensions").into_iter();
    list.filter(|name| !EXTENSIONS.contains(&name.trim_start_matches('-')) || !name.starts_with('-'))
        .map(|name| name.trim_start_matches('+'))
        .collect()
}

fn has_all(now: &[&str], was: &[&str], ours: &[&str]) -> bool {
    was.iter().chain(ours).all(|name| now.contains(name))
}

fn runs_in_2_3(imap: &View, folder: &SentFolder, paths: &Paths) -> bool {
    (1..)
        .map_while(|number| imap.sieve(&format!("imapsieve_mailbox{number}_name")).map(|name| (number, name)))
        .any(|(number, name)| {
            let script = imap.sieve(&format!("imapsieve_mailbox{number}_before")).unwrap_or_default();
            name == folder.full_name
                && script.strip_prefix("file:").unwrap_or(script) == paths.imap_script.to_string_lossy()
        })
}

fn runs_in_2_4(all: &Block, folder: &SentFolder, paths: &Paths) -> bool {
    all.blocks("namespace").filter(|space| space.title() == folder.namespace).any(|space| {
        let mut mailboxes =
            space.blocks("mailbox").filter(|mailbox| unquoted(mailbox.title()) == folder.name);
        mailboxes.any(|mailbox| {
            mailbox.blocks("sieve_script").any(|script| {
                script.get("path").map(Path::new) == Some(&paths.imap_script) && script.get("cause").is_some()
            })
        })
    })
}

fn unquoted(name: &str) -> &str {
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)
}

/// Another script that seals, put in by hand: two would not know of each other's settings.
fn refuse_other_mailseals(site: &Site, paths: &Paths) -> Result<(), Error> {
    let runs_filter = |script: &&Script| {
        ![&paths.script, &paths.imap_script].contains(&&script.path)
            && script.text.as_deref().is_some_and(|text| without_comments(text).contains(cli::FILTER))
    };
    match site.scripts.iter().find(runs_filter) {
        Some(script) => Err(refusal(
            format!("{} runs {} already, and was not put in by setup", script.path.display(), cli::FILTER),
            "take its settings (and the namespace failclosed) out of Dovecot's configuration, do not reload, and run setup again",
        )),
        None => Ok(()),
    }
}

/// Settings that count for some clients or addresses only.
fn refuse_partial(all: &Block) -> Result<(), Error> {
    fn has_ours(block: &Block) -> bool {
        block.settings().any(|(key, _)| OURS.iter().any(|ours| key.starts_with(ours)))
            || block.all_blocks().any(|inner| inner.name.starts_with("sieve_script") || has_ours(inner))
    }
    let mut partial = ["remote", "local", "local_name"].into_iter().flat_map(|kind| all.blocks(kind));
    match partial.find(|block| has_ours(block)) {
        Some(block) => Err(refusal(
            format!("`{}` has settings of its own for Sieve or mail_plugins", block.name),
            "set them for all clients alike, or put mailseal into this configuration by hand (docs/dovecot.md)",
        )),
        None => Ok(()),
    }
}

/// The trap is a namespace, and the first one that is written down takes the place of the one that nobody wrote.
fn refuse_no_namespace(site: &Site) -> Result<(), Error> {
    if site.all.blocks("namespace").any(|space| space.get("inbox") == Some("yes")) {
        return Ok(());
    }
    Err(refusal(
        "no namespace with `inbox = yes` is written down, and the trap would take its place",
        "add to Dovecot's configuration: namespace inbox { inbox = yes } (in three lines), reload, see that mail is there, and run setup again",
    ))
}

/// Scripts of the site that filter mail, and get it sealed from now on; what an admin should know of them.
fn judge_filters(site: &Site) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    let before: Vec<PathBuf> =
        [&site.lmtp, &site.lda].into_iter().flat_map(View::before).map(|script| script.path()).collect();
    let is_at_delivery = |path: &Path| before.iter().any(|place| path.starts_with(place));
    for script in site.scripts.iter().filter(|script| is_at_delivery(&script.path)) {
        let Some(text) = &script.text else { continue };
        let text = without_comments(text);
        let shown = script.path.display();
        for name in filtered_through(&text) {
            let program = site.filters.iter().find(|program| program.path.ends_with(name));
            let program = program.and_then(|program| program.text.as_deref()).unwrap_or_default();
            if name.contains("gpgit") || program.contains("gpgit") {
                notes.push(format!(
                    "{shown} (gpgit) runs behind mailseal: it leaves sealed mail alone, and still encrypts the mail of users who \
                     have no certificate with mailseal; take it out when all have one"
                ));
            } else if !text.contains(SKIPS_SEALED) {
                return Err(refusal(
                    format!(
                        "{shown} filters mail through {name}, which would get sealed mail, and might damage it"
                    ),
                    format!(
                        "take the script out, or let it skip mail whose Content-Type contains {SKIPS_SEALED}"
                    ),
                ));
            }
        }
    }
    Ok(notes)
}

/// The programs that a script filters mail through.
pub fn filtered_through(script: &str) -> impl Iterator<Item = &str> {
    const WORD: &str = "filter";
    script.match_indices(WORD).filter_map(|(at, _)| {
        // Neither a part of another word nor one of `require`.
        let is_word = script[..at]
            .chars()
            .next_back()
            .is_none_or(|before| before.is_whitespace() || "(;{}".contains(before));
        let name = script[at + WORD.len()..].trim_start().strip_prefix('"')?.split('"').next()?;
        is_word.then_some(name)
    })
}

/// Where Dovecot is to look for programs: where it does already, for other scripts find theirs there.
fn programs(site: &Site, paths: &Paths) -> Result<PathBuf, Error> {
    let of = |view: &View| view.sieve("sieve_filter_bin_dir").map(PathBuf::from);
    let [lmtp, lda, imap] = [&site.lmtp, &site.lda, &site.imap].map(of);
    if lmtp != lda || lmtp != imap {
        return Err(refusal(
            "sieve_filter_bin_dir is not the same for LMTP, dovecot-lda and IMAP",
            "set it once, for all of them",
        ));
    }
    Ok(lmtp.unwrap_or_else(|| paths.programs.clone()))
}

/// The folders of users' own that their mail programs save sent mail in.
fn sent_folders(all: &Block, is_2_4: bool) -> Vec<SentFolder> {
    let is_own = |space: &&Block| {
        let kind = space.get("type").unwrap_or_default();
        let prefix = space.get("prefix").unwrap_or_default();
        (kind.is_empty() || kind == "private")
            && space.get("alias_for").is_none_or(str::is_empty)
            && !prefix.contains(['%', '$'])
    };
    let mut folders = Vec::new();
    for space in all.blocks("namespace").filter(is_own) {
        for mailbox in space.blocks("mailbox") {
            let name = unquoted(mailbox.title());
            let uses = mailbox.get("special_use").unwrap_or_default();
            let is_sent = uses.split_whitespace().any(|it| it.trim_matches('\\') == "Sent");
            // Nothing that could be a pattern, or end a string.
            if is_sent && !name.contains(['*', '?', '"', '\\']) && (!is_2_4 || !space.title().is_empty()) {
                let prefix = space.get("prefix").unwrap_or_default();
                folders.push(SentFolder {
                    namespace: space.title().into(),
                    name: name.into(),
                    full_name: format!("{prefix}{name}"),
                });
            }
        }
    }
    folders
}

/// What 2.3 needs, whose lists replace each other.
struct Old<'a> {
    site: &'a Site,
    paths: &'a Paths,
    programs: &'a Path,
    seconds: u64,
    sent: &'a [SentFolder],
}

impl Old<'_> {
    fn settings(&self) -> String {
        let Site { lmtp, lda, imap, general, .. } = self.site;
        let mut values = self.of_view(general, &Values::new());
        let mut protocols = Vec::new();
        for (name, view, plugin) in
            [("lmtp", lmtp, "sieve"), ("lda", lda, "sieve"), ("imap", imap, "imap_sieve")]
        {
            if name == "imap" && self.sent.is_empty() {
                continue;
            }
            let own = self.of_view(view, &values);
            let differs = |(key, value): &(String, String)| {
                view.sieve(key) != general.sieve(key) || get(&values, key) != Some(value.as_str())
            };
            let sieve = own.into_iter().filter(differs).collect();
            protocols.push(Protocol { name, plugins: with(&view.plugins(), &[plugin]), sieve });
        }
        values.extend(self.of_imapsieve());
        settings::of_2_3(&protocols, &values, self.paths)
    }

    /// What the Sieve plugin needs where `view` counts; `others` holds what counts wherever nothing else does.
    fn of_view(&self, view: &View, others: &Values) -> Values {
        let mut values = vec![(before_key(1), self.paths.script.display().to_string())];
        let before = view.before();
        for (index, script) in before.iter().enumerate() {
            values.push((before_key(index + 2), script.value.clone()));
        }
        // A number that was behind a gap, or counts elsewhere, must not follow now.
        let next = before_key(before.len() + 2);
        if view.sieve(&next).is_some() || get(others, &next).is_some_and(|value| !value.is_empty()) {
            values.push((next, String::new()));
        }
        let plugins: &[&str] = if self.sent.is_empty() { &[EXTPROGRAMS] } else { &[EXTPROGRAMS, IMAPSIEVE] };
        values.push(("sieve_plugins".into(), with(&view.sieve_list("sieve_plugins"), plugins).join(" ")));
        values.push(("sieve_global_extensions".into(), extensions(view)));
        values.push(("sieve_filter_bin_dir".into(), self.programs.display().to_string()));
        values.push(("sieve_filter_exec_timeout".into(), format!("{}s", self.seconds)));
        values
    }

    fn of_imapsieve(&self) -> Values {
        let imap = &self.site.imap;
        let name = |number: usize| format!("imapsieve_mailbox{number}_name");
        let free = (1..).find(|number| imap.sieve(&name(*number)).is_none()).unwrap_or(1);
        let mut values = Values::new();
        for (index, folder) in self.sent.iter().enumerate() {
            let start = format!("imapsieve_mailbox{}_", free + index);
            values.push((format!("{start}name"), folder.full_name.clone()));
            values.push((format!("{start}causes"), "APPEND COPY".into()));
            values.push((format!("{start}before"), format!("file:{}", self.paths.imap_script.display())));
            // What was written for a number behind a gap is none of ours.
            let rest = imap.sieve_settings(&start).map(|(key, _)| key);
            let rest: Vec<&str> = rest.filter(|key| get(&values, key).is_none()).collect();
            values.extend(rest.into_iter().map(|key| (key.to_owned(), String::new())).collect::<Values>());
        }
        let next = name(free + self.sent.len());
        if !self.sent.is_empty() && imap.sieve(&next).is_some() {
            values.push((next, String::new()));
        }
        if !self.sent.is_empty() {
            values.push(("imapsieve_expunge_discarded".into(), "yes".into()));
        }
        values
    }
}

fn get<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    values.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
}

fn with(list: &[&str], ours: &[&str]) -> Vec<String> {
    let missing = ours.iter().filter(|name| !list.contains(name));
    list.iter().chain(missing).map(|name| (*name).to_owned()).collect()
}

/// The extensions that must be allowed to global scripts. Those that all scripts may use must not: users would lose them.
fn missing_extensions(view: &View) -> Vec<&'static str> {
    let all = view.sieve_list("sieve_extensions");
    let is_allowed = |name: &&str| all.iter().any(|it| it.trim_start_matches('+') == *name);
    EXTENSIONS.into_iter().filter(|name| !is_allowed(name)).collect()
}

/// The list of extensions for global scripts, with ours written as the others are: with a sign, or as the whole of a list.
fn extensions(view: &View) -> String {
    let list = view.sieve_list("sieve_global_extensions");
    let is_whole = list.iter().any(|name| !name.starts_with(['+', '-']));
    let ours = missing_extensions(view);
    let is_other = |name: &&&str| !ours.contains(&name.trim_start_matches(['+', '-']));
    let others = list.iter().filter(is_other).map(|name| (*name).to_owned());
    let ours = ours.iter().map(|name| if is_whole { (*name).to_owned() } else { format!("+{name}") });
    others.chain(ours).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        Paths {
            script: "/m/mailseal.sieve".into(),
            imap_script: "/m/mailseal-imap.sieve".into(),
            trap: "/m/trap".into(),
            programs: "/lib/mailseal/bin".into(),
        }
    }

    const INBOX: &str = "namespace inbox {\n  inbox = yes\n  mailbox Sent {\n    special_use = \\Sent\n  }\n  mailbox \"Sent Items\" \
                         {\n    special_use = \"\\\\Sent\"\n  }\n  prefix = INBOX.\n}\n";

    /// A site whose protocols have `own` settings beside the general ones.
    fn site(is_2_4: bool, general: &str, own: [&str; 3]) -> Site {
        let view = |own: &str| {
            View::parse(&format!("{INBOX}{}", if own.is_empty() { general } else { own }), is_2_4)
        };
        let text = format!("{INBOX}{general}");
        Site {
            is_2_4,
            all: Block::parse(&text),
            lmtp: view(own[0]),
            lda: view(own[1]),
            imap: view(own[2]),
            general: View::parse(&text, is_2_4),
            ..Site::default()
        }
    }

    /// What our file says of a protocol, or outside all of them.
    fn of<'a>(settings: &'a Block, protocol: &str) -> Vec<(&'a str, &'a str)> {
        let block = settings.block(&format!("protocol {protocol}")).unwrap_or(settings);
        block.block("plugin").map(|plugin| plugin.settings().collect()).unwrap_or_default()
    }

    #[test]
    fn lists_of_2_3_are_repeated_and_scripts_come_behind_ours() {
        let site = site(
            false,
            "mail_plugins = quota\nplugin {\n  sieve_before = /a\n  sieve_before2 = dict:x;name=y\n  sieve_before4 = /never\n  \
             sieve_global_extensions = +vnd.dovecot.pipe -vnd.dovecot.filter\n  sieve_filter_exec_timeout = 2 mins\n  \
             imapsieve_mailbox1_name = Junk\n  imapsieve_mailbox3_name = Never\n  imapsieve_mailbox3_from = Junk\n  \
             imapsieve_mailbox4_name = Never\n}\n",
            ["", "", ""],
        );
        let plan = plan(&site, &paths(), 60).unwrap();
        let settings = Block::parse(&plan.settings);
        let values = of(&settings, "");
        for expected in [
            ("sieve_before", "/m/mailseal.sieve"),
            ("sieve_before2", "/a"),
            ("sieve_before3", "dict:x;name=y"),
            ("sieve_before4", ""),
            ("sieve_plugins", "sieve_extprograms sieve_imapsieve"),
            ("sieve_global_extensions", "+vnd.dovecot.pipe +vnd.dovecot.filter +vnd.dovecot.environment"),
            ("sieve_filter_exec_timeout", "120s"),
            ("imapsieve_mailbox2_name", "INBOX.Sent"),
            ("imapsieve_mailbox3_name", "INBOX.Sent Items"),
            ("imapsieve_mailbox3_from", ""),
            ("imapsieve_mailbox4_name", ""),
        ] {
            assert!(values.contains(&expected), "{expected:?} in {}", plan.settings);
        }
        assert_eq!(settings.block("protocol lmtp").unwrap().list("mail_plugins"), ["quota", "sieve"]);
        assert_eq!(of(&settings, "lmtp"), []);
        assert!(settings::is_ours(&plan.settings));
    }

    #[test]
    fn what_a_protocol_has_of_its_own_is_written_there() {
        let general = "plugin {\n  sieve_before = /a\n  sieve_before2 = /b\n}\n";
        let lmtp = "mail_plugins = sieve acl\nplugin {\n  sieve_before = /l\n  sieve_before2 = \n}\n";
        let plan = plan(&site(false, general, [lmtp, "", ""]), &paths(), 60).unwrap();
        let settings = Block::parse(&plan.settings);
        let values = of(&settings, "lmtp");
        for expected in
            [("sieve_before", "/m/mailseal.sieve"), ("sieve_before2", "/l"), ("sieve_before3", "")]
        {
            assert!(values.contains(&expected), "{expected:?} in {}", plan.settings);
        }
        assert_eq!(of(&settings, "lda"), []);
        assert_eq!(settings.block("protocol lmtp").unwrap().list("mail_plugins"), ["sieve", "acl"]);
    }

    #[test]
    fn extensions_that_all_scripts_have_stay_theirs() {
        let rows = [
            ("", "+vnd.dovecot.filter +vnd.dovecot.environment"),
            ("sieve_extensions = +vnd.dovecot.filter\n", "+vnd.dovecot.environment"),
            (
                "sieve_global_extensions = vnd.dovecot.pipe\n",
                "vnd.dovecot.pipe vnd.dovecot.filter vnd.dovecot.environment",
            ),
        ];
        for (settings, expected) in rows {
            let view = View::parse(&format!("plugin {{\n{settings}}}\n"), false);
            assert_eq!(extensions(&view), expected, "{settings}");
        }
    }

    #[test]
    fn what_the_site_has_for_programs_stays() {
        let bin = "plugin {\n  sieve_filter_bin_dir = /site/bin\n}\n";
        let own = plan(&site(false, bin, ["", "", ""]), &paths(), 60).unwrap();
        assert_eq!(own.programs, Path::new("/site/bin"));
        let differs = site(false, bin, ["plugin {\n}\n", "", ""]);
        assert!(plan(&differs, &paths(), 60).unwrap_err().to_string().contains("sieve_filter_bin_dir"));
    }

    #[test]
    fn sent_mail_is_left_alone_where_the_clear_message_would_stay() {
        for is_2_4 in [false, true] {
            let plugins = if is_2_4 {
                "mail_plugins {\n  lazy_expunge = yes\n}\n"
            } else {
                "mail_plugins = lazy_expunge\n"
            };
            let plan = plan(&site(is_2_4, plugins, ["", "", ""]), &paths(), 60).unwrap();
            assert!(
                plan.sent.is_empty() && !plan.settings.contains("imap") && plan.notes.len() == 1,
                "{plan:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_sure_is_refused() {
        let script = |text: &str| Script { path: "/site/x.sieve".into(), text: Some(text.into()) };
        let mut with_filter = site(false, "plugin {\n  sieve_before = /site\n}\n", ["", "", ""]);
        with_filter.scripts = vec![script("filter \"x.sh\";")];
        let mut with_ours = site(true, "", ["", "", ""]);
        with_ours.scripts = vec![script("if not filter \"mailseal-filter\" {}")];
        let mut commented = with_ours.clone();
        commented.scripts = vec![script("# mailseal-filter\nkeep;")];
        let mut no_inbox = site(false, "", ["", "", ""]);
        no_inbox.all = Block::default();
        let rows = [
            (with_filter.clone(), "filters mail through x.sh"),
            (with_ours, "runs mailseal-filter already"),
            (no_inbox, "no namespace"),
            (
                site(
                    false,
                    "remote 10.0.0.0/8 {\n  protocol lmtp {\n    mail_plugins = x\n  }\n}\n",
                    ["", "", ""],
                ),
                "remote 10.0.0.0/8",
            ),
            (
                site(true, "sieve_script a {\n  type = before\n  precedence = 0\n}\n", ["", "", ""]),
                "precedence = 0",
            ),
        ];
        for (site, why) in rows {
            let error = plan(&site, &paths(), 60).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(plan(&commented, &paths(), 60).is_ok());
        with_filter.scripts = vec![script(
            "if not header :contains \"Content-Type\" \"multipart/encrypted\" { filter \"x.sh\"; }",
        )];
        assert!(plan(&with_filter, &paths(), 60).is_ok());
        with_filter.scripts = vec![script("filter \"x.sh\";")];
        with_filter.filters = vec![Script { path: "/bin/x.sh".into(), text: Some("exec gpgit".into()) }];
        assert!(plan(&with_filter, &paths(), 60).unwrap().notes[0].contains("gpgit"));
    }

    #[test]
    fn programs_are_found_in_scripts() {
        let script = "require [\"vnd.dovecot.filter\"];\nif not filter \"a\" [\"x\"] { filter\n\"b\"; }\nmyfilter \"c\";";
        assert_eq!(filtered_through(script).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_does_not_count_is_found() {
        let before = site(true, "sieve_script a {\n  type = before\n  path = /a\n}\n", ["", "", ""]);
        let plan = plan(&before, &paths(), 60).unwrap();
        // What Dovecot says of both together, for each protocol.
        let trap = "namespace failclosed {\n  prefix = FAILCLOSED.\n  mail_path = /m/trap\n}\n";
        let all = format!(
            "{INBOX}{trap}lda_mailbox_autocreate = yes\nmail_plugins = sieve imap_sieve\nsieve_plugins = sieve_extprograms \
             sieve_imapsieve\nsieve_global_extensions = vnd.dovecot.filter vnd.dovecot.environment\nsieve_filter_bin_dir = \
             /lib/mailseal/bin\nsieve_filter_exec_timeout = 1 mins\nimapsieve_expunge_discarded = yes\nsieve_script a {{\n  type = \
             before\n  path = /a\n}}\nsieve_script mailseal {{\n  type = before\n  path = /m/mailseal.sieve\n  precedence = 0\n}}\n"
        );
        let script = "sieve_script mailseal-imap {\n      cause = append copy\n      path = /m/mailseal-imap.sieve\n    }\n";
        let all = all.replace("special_use", &format!("{script}    special_use"));
        let now = |text: &str| {
            let view = View::parse(text, true);
            Site {
                is_2_4: true,
                all: Block::parse(text),
                lmtp: view.clone(),
                lda: view.clone(),
                imap: view.clone(),
                general: view,
                ..Site::default()
            }
        };
        assert_eq!(lost(&before, &plan, &paths(), &now(&all)), None);
        for (gone, instead, key) in [
            ("precedence = 0", "precedence = none", "sieve_script"),
            ("path = /a\n", "path = /b\n", "sieve_script"),
            ("mail_plugins = sieve", "mail_plugins = other", "mail_plugins"),
            ("sieve_extprograms", "x", "sieve_plugins"),
            ("vnd.dovecot.filter", "x", "sieve_global_extensions"),
            ("= /lib/mailseal/bin", "= /lib", "sieve_filter_bin_dir"),
            ("1 mins", "50 secs", "sieve_filter_exec_timeout"),
            ("autocreate = yes", "autocreate = no", "lda_mailbox_autocreate"),
            ("FAILCLOSED.", "X.", "namespace failclosed"),
            ("discarded = yes", "discarded = no", "imapsieve_expunge_discarded"),
            ("/m/mailseal-imap.sieve", "/x", "imapsieve_mailbox"),
        ] {
            let found = lost(&before, &plan, &paths(), &now(&all.replace(gone, instead)));
            assert_eq!(found.map(|lost| lost.key), Some(key), "{gone}");
        }
    }
}
