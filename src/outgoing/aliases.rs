//! Edge: The aliases of this host, `/etc/aliases` (aliases(5)), and where mail for an address ends by them.
//!
//! They are asked here, before a rule is, and what comes out is what the program that sends mail is told: it has nothing left to
//! resolve in another way. What ends in a file, a program or a mailbox of this host is no address that a rule could be for.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::gethostname;

use crate::config::{self, Config};
use crate::error::Error;
use crate::outgoing::address::Address;
use crate::outgoing::policy;
use crate::outgoing::sendmail::recipients::{Between, split};

/// Most aliases on the way to an address; sendmail's own limit is 10.
const DEPTH: usize = 20;

/// Most addresses that one stands for, and most entries that are looked at for that.
const MOST: usize = 20_000;

/// The names of this host and others on its network (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// What nullmailer takes this host to be called (nullmailer-send(8)).
const ME: &str = "/etc/nullmailer/me";

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// An address, or another alias.
    Address(String),
    /// The addresses in a file.
    Include(PathBuf),
    /// What is no address, or not understood.
    Other(&'static str),
}

/// The aliases of this host.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    entries: HashMap<String, Vec<Target>>,
    names: Names,
}

/// What this host is called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The domain of addresses without one.
    domain: Option<String>,
    /// The domains whose addresses are those of this host.
    local: HashSet<String>,
}

impl Names {
    /// Finds them: the domain in `config` or `/etc/mailname`, the host name, and what `/etc/hosts` and nullmailer call it.
    ///
    /// # Errors
    /// [`Error::KeyStore`] for a file that is there and cannot be read.
    pub fn read(config: &Config) -> Result<Self, Error> {
        let domain = policy::domain(config);
        let host = gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let (hosts, me) = (read_if_there(HOSTS)?, read_if_there(ME)?);
        let me = me.lines().map(|line| line.trim().to_owned()).take(1);
        let local = names(&hosts, &host).into_iter().chain(me).chain(domain.clone());
        let local = local.filter_map(|name| Some(Address::parse("x", Some(&name)).ok()?.domain().into()));
        Ok(Self { local: local.collect(), domain })
    }

    /// Those of a host that is called so; addresses without a domain are of the first.
    #[must_use]
    pub fn called(names: &[&str]) -> Self {
        let local = names.iter().map(|name| (*name).to_owned()).collect();
        Self { domain: names.first().map(|name| (*name).to_owned()), local }
    }

    /// Whether `address` is one of this host: a mailbox, or an alias.
    #[must_use]
    pub fn are_of(&self, address: &Address) -> bool {
        self.local.contains(address.domain())
    }
}

/// What a file of the system says; nothing where there is none.
fn read_if_there(path: &str) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::KeyStore {
            path: path.into(),
            what: format!("it cannot be read: {error}; it says what this host is called"),
            hint: "let everybody who sends mail read it".into(),
        }),
    }
}

/// An address where mail ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// As it is told to the program that sends mail.
    pub written: String,
    /// As rules have it.
    pub address: Address,
    /// Whether it is one of this host, for which there is no alias.
    pub local: bool,
}

impl Final {
    /// How it is written where it is to be read again: no alias is looked for then.
    #[must_use]
    pub fn text(&self) -> String {
        if self.local { format!("\\{}", self.written) } else { self.written.clone() }
    }
}

impl Aliases {
    /// Reads the file that `config` names; one that is not there has no aliases.
    ///
    /// # Errors
    /// [`Error::KeyStore`] where it cannot be read, or somebody else could have written it.
    pub fn read(config: &Config) -> Result<Self, Error> {
        Self::at(&config.sendmail.aliases, config)
    }

    /// The same for the file at `path`.
    ///
    /// # Errors
    /// Those of [`Aliases::read`].
    pub fn at(path: &Path, config: &Config) -> Result<Self, Error> {
        let text = config::read_trusted(path)?.unwrap_or_default();
        Ok(Self::parse(&text, Names::read(config)?))
    }

    /// The aliases that `text` lists, of a host called so.
    #[must_use]
    pub fn parse(text: &str, names: Names) -> Self {
        Self { entries: parse(text), names }
    }

    /// The names that stand for something, sorted.
    #[must_use]
    pub fn called(&self) -> Vec<String> {
        let mut names: Vec<String> = self.entries.keys().cloned().collect();
        names.sort();
        names
    }

    /// The names in `other` that stand for something else here, or for nothing, sorted.
    #[must_use]
    pub fn unknown_of(&self, other: &Self) -> Vec<String> {
        let mut names = other.called();
        names.retain(|name| self.entries.get(name) != other.entries.get(name));
        names
    }

    /// Where mail for `recipient` ends, who may be written `\name` for the mailbox itself. The error is why that cannot be told for
    /// all of it; what could be told is given, too.
    #[must_use]
    pub fn resolve(&self, recipient: &str, delimiters: &str) -> (Vec<Final>, Option<Error>) {
        let (path, found, seen) = (Vec::new(), Vec::new(), HashSet::new());
        let mut search = Search { aliases: self, delimiters, path, found, seen, steps: 0 };
        let failed = search.follow(recipient).err();
        let unresolved = |what: String| Error::Unresolved { recipient: recipient.into(), what };
        (search.found, failed.map(unresolved))
    }

    /// The alias for an address of this host: its name and what it stands for.
    fn look_up(&self, address: &Address, delimiters: &str) -> Option<(&String, &[Target])> {
        let plain = address.without_detail(delimiters);
        let names = [Some(address), plain.as_ref()].into_iter().flatten();
        let found = names.flat_map(|it| [it.to_string(), it.local().to_owned()]);
        found.into_iter().find_map(|name| self.entries.get_key_value(&name)).map(|(name, to)| (name, &**to))
    }
}

struct Search<'a> {
    aliases: &'a Aliases,
    delimiters: &'a str,
    /// The aliases on the way here.
    path: Vec<&'a String>,
    found: Vec<Final>,
    seen: HashSet<Address>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn follow(&mut self, text: &str) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MOST {
            return Err(format!("stands for more than {MOST} addresses"));
        }
        let (itself, text) = text.strip_prefix('\\').map_or((false, text), |text| (true, text));
        if text.starts_with('-') {
            // Some programs that send mail would take it for an option.
            return Err("begins with a minus".into());
        }
        let domain = self.aliases.names.domain.as_deref();
        let address = Address::parse(text, domain).map_err(|error| match error {
            Error::User { what, name } if name == text => what.to_owned(),
            Error::User { what, name } => format!("leads to {name:?}, which {what}"),
            error => error.to_string(),
        })?;
        let is_local = self.aliases.names.are_of(&address);
        let alias = if is_local && !itself { self.aliases.look_up(&address, self.delimiters) } else { None };
        match alias.filter(|(name, _)| !self.path.contains(name)) {
            Some((name, targets)) => self.expand(name, targets),
            None => self.end(text, address, is_local),
        }
    }

    fn expand(&mut self, name: &'a String, targets: &'a [Target]) -> Result<(), String> {
        if self.path.len() >= DEPTH {
            return Err(format!("leads through more than {DEPTH} aliases"));
        }
        self.path.push(name);
        let mut failed = Ok(());
        for target in targets {
            let followed = match target {
                Target::Address(text) => self.follow(text),
                Target::Include(file) => self.include(file),
                Target::Other(what) => Err(format!("leads by the alias {name:?} to {what}")),
            };
            failed = failed.and(followed);
        }
        self.path.pop();
        failed
    }

    fn include(&mut self, file: &Path) -> Result<(), String> {
        let text = match config::read_trusted(file) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(format!("leads to {}, which is not there", file.display())),
            Err(error) => return Err(format!("leads to a list that cannot be read: {error}")),
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            // It may be written anew just now.
            return Err(format!("leads to {}, which names nobody", file.display()));
        }
        let mut failed = Ok(());
        for target in lines.flat_map(targets) {
            failed = failed.and(match target {
                Target::Address(text) => self.follow(&text),
                _ => Err(format!("leads to {}, which holds more than addresses", file.display())),
            });
        }
        failed
    }

    fn end(&mut self, text: &str, address: Address, local: bool) -> Result<(), String> {
        let (written, address) = match &self.aliases.names.domain {
            // By whatever name of this host it was called, the program would send it to this one.
            Some(domain) if local => {
                let written = format!("{}@{domain}", local_part(text));
                let address = Address::parse(&written, None).map_err(|error| error.to_string())?;
                (written, address)
            }
            _ => (text.to_owned(), address),
        };
        if self.seen.insert(address.clone()) {
            self.found.push(Final { written, address, local });
        }
        Ok(())
    }
}

/// The part before the domain, quotes and all.
fn local_part(text: &str) -> &str {
    text.rsplit_once('@').filter(|(_, domain)| !domain.contains('"')).map_or(text, |(local, _)| local)
}

/// What every host is called by itself.
const LOCALHOST: [&str; 2] = ["localhost", "localhost.localdomain"];

/// The names of this host: those that `hosts` has on a line with its own, called `host`, or with `localhost`.
fn names(hosts: &str, host: &str) -> Vec<String> {
    let mut names: Vec<String> = LOCALHOST.into_iter().chain([host]).map(str::to_owned).collect();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let called: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
        if called.iter().any(|name| *name == host || *name == "localhost") {
            names.extend(called.into_iter().map(str::to_owned));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The entries of an alias file, by name in lower case. A name with two entries stands for what cannot be told.
fn parse(text: &str) -> HashMap<String, Vec<Target>> {
    let mut logical: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match logical.last_mut() {
            Some(begun) if line.starts_with([' ', '\t']) => {
                begun.push(' ');
                begun.push_str(line.trim());
            }
            _ => logical.push(line.trim().into()),
        }
    }
    let mut entries: HashMap<String, Vec<Target>> = HashMap::new();
    for (name, value) in logical.iter().filter_map(|line| entry(line)) {
        entries
            .entry(name)
            .and_modify(|both| *both = vec![Target::Other("two entries of the alias file")])
            .or_insert_with(|| targets(value));
    }
    entries
}

/// The name and the value of a line.
fn entry(line: &str) -> Option<(String, &str)> {
    let (name, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => line.split_at(line.find(':')?),
    };
    let value = rest.trim_start().strip_prefix(':')?;
    Some((name.trim().to_lowercase(), value.trim()))
}

/// What a value names, with commas between.
fn targets(value: &str) -> Vec<Target> {
    let found: Vec<Target> = pieces(value).into_iter().flat_map(target).collect();
    if found.is_empty() { vec![Target::Other("nobody")] } else { found }
}

/// The text between commas that are neither quoted nor in a comment, a group or angle brackets.
fn pieces(value: &str) -> Vec<&str> {
    let (mut begin, mut quoted, mut depth, mut escaped) = (0, false, 0_usize, false);
    let mut found = Vec::new();
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' | '<' if !quoted => depth += 1,
            ')' | '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                found.push(&value[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&value[begin..]);
    found
}

fn target(piece: &str) -> Vec<Target> {
    let piece = piece.trim();
    let inside = piece.strip_prefix('"').unwrap_or(piece);
    let include = inside.get(..9).filter(|it| it.eq_ignore_ascii_case(":include:"));
    match inside.chars().next() {
        None => Vec::new(),
        Some('|') => vec![Target::Other("a program")],
        Some('/') => vec![Target::Other("a file")],
        Some(':') if include.is_some() => {
            let path = PathBuf::from(inside[9..].trim_end_matches('"').trim());
            if path.is_absolute() {
                vec![Target::Include(path)]
            } else {
                vec![Target::Other("a list without an absolute path")]
            }
        }
        Some(_) => split(piece, Between::Commas).map_or_else(
            |_| vec![Target::Other("nothing that is understood")],
            |found| found.into_iter().map(Target::Address).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(text: &str) -> Aliases {
        Aliases::parse(text, Names::called(&["here.example", "localhost", "web1"]))
    }

    /// Where it ends, `!` before what is local, and `?` behind where that is not all.
    fn end(aliases: &Aliases, recipient: &str) -> String {
        let (found, failed) = aliases.resolve(recipient, "+");
        let mut words: Vec<String> =
            found.iter().map(|it| format!("{}{}", if it.local { "!" } else { "" }, it.written)).collect();
        words.extend(failed.map(|_| "?".to_owned()));
        words.join(" ")
    }

    #[test]
    fn the_file_is_read_as_aliases_5_has_it() {
        let aliases = aliases(
            "# a comment: none@example.org\n\
             postmaster: root\n\
             root: Team@example.org,\n\
             # in between\n\
             \tbob@example.org,\n \"Smith, Carol\" <carol@example.org> (at home)\n\
             \n\
             \"a b\": quoted@example.org\n\
             Upper : upper@example.org\n\
             pipe: |/usr/bin/procmail\n\
             piped: \"|/usr/bin/prog a, b\"\n\
             file: /var/mail/x\n\
             mixed: team@example.org, /var/mail/x\n\
             include: :include:/nonexistent/list\n\
             fail: :fail: no such user\n\
             twice: a@example.org\ntwice: b@example.org\n\
             one: two\ntwo: one, c@example.org\n\
             self: self, d@example.org\n\
             admin: \\admin, e@example.org\n\
             words: two words@example.org\n\
             empty:\n\
             minus: -oQ/tmp\n\
             user@here.example: full@example.org\n\
             no colon\n",
        );
        for (recipient, expected) in [
            ("root", "Team@example.org bob@example.org carol@example.org"),
            ("postmaster", "Team@example.org bob@example.org carol@example.org"),
            ("ROOT@LOCALHOST", "Team@example.org bob@example.org carol@example.org"),
            ("root@here.example.", "Team@example.org bob@example.org carol@example.org"),
            ("root@web1", "Team@example.org bob@example.org carol@example.org"),
            ("root@127.0.0.1", "Team@example.org bob@example.org carol@example.org"),
            ("root@[127.0.0.1]", "Team@example.org bob@example.org carol@example.org"),
            ("nobody@[127.0.0.1]", "!nobody@here.example"),
            ("root@[192.0.2.1]", "?"),
            ("root+cron", "Team@example.org bob@example.org carol@example.org"),
            ("root@elsewhere.example", "root@elsewhere.example"),
            ("\"a b\"", "quoted@example.org"),
            ("upper", "upper@example.org"),
            ("pipe", "?"),
            ("piped", "?"),
            ("file", "?"),
            ("mixed", "team@example.org ?"),
            ("include", "?"),
            ("fail", "?"),
            ("twice", "?"),
            ("one", "!one@here.example c@example.org"),
            ("self", "!self@here.example d@example.org"),
            ("admin", "!admin@here.example e@example.org"),
            ("\\root", "!root@here.example"),
            ("words", "?"),
            ("empty", "?"),
            ("minus", "?"),
            ("user", "full@example.org"),
            ("nobody@localhost", "!nobody@here.example"),
            ("-x@example.org", "?"),
            ("|/bin/sh", "?"),
            ("/etc/passwd", "?"),
            (":include:/etc/passwd", "?"),
            ("a b@example.org", "?"),
            ("", "?"),
        ] {
            assert_eq!(end(&aliases, recipient), expected, "{recipient}");
        }
    }

    #[test]
    fn what_has_no_end_is_bounded() {
        let chain: String = (0..100).map(|at| format!("a{at}: a{}\n", at + 1)).collect();
        let aliases = aliases(&chain);
        assert_eq!(
            (end(&aliases, "a0").as_str(), end(&aliases, "a90").as_str()),
            ("?", "!a100@here.example")
        );
        let wide: String = (0..19).map(|at| format!("w{at}: w{0}, w{0}\n", at + 1)).collect();
        assert_eq!(end(&self::aliases(&wide), "w0"), "!w19@here.example ?");
    }

    #[test]
    fn lists_in_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        std::fs::write(&list, "# members\na@example.org, Bob <b@example.org>\n\nroot\n").unwrap();
        let aliases = aliases(&format!("team: :include:{}\nroot: c@example.org\n", list.display()));
        assert_eq!(end(&aliases, "team"), "a@example.org b@example.org c@example.org");
        std::fs::write(&list, "a@example.org\n|prog\n").unwrap();
        assert_eq!(end(&aliases, "team"), "a@example.org ?");
        std::fs::set_permissions(&list, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(end(&aliases, "team"), "?");
    }

    #[test]
    fn what_another_file_says_otherwise_is_found() {
        let ours = aliases("root: a@example.org\nops: b@example.org\n");
        let theirs = aliases("Root: a@example.org\nops: c@example.org\nwww: root\nfile: /var/mail/x\n");
        assert_eq!(ours.unknown_of(&theirs), ["file", "ops", "www"]);
        assert!(theirs.unknown_of(&theirs.clone()).is_empty());
        assert!(aliases("root: a@x\n").unknown_of(&aliases("")).is_empty());
    }

    #[test]
    fn a_host_has_several_names() {
        let hosts = "127.0.0.1 localhost # loopback\n127.0.1.1\tweb1.example.org web1\n192.0.2.1 relay.example.org relay\n";
        let own = ["localhost", "localhost.localdomain", "web1", "localhost", "web1.example.org", "web1"];
        assert_eq!(names(hosts, "web1"), own);
        assert_eq!(names("", ""), LOCALHOST);
    }
}
