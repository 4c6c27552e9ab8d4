//! The places where certificates may be, as the configuration names them: `file:PATH`, `dir:PATH`, and keyrings.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::trust::Trust;

use crate::error::{Error, UNKNOWN_HOME};
use crate::keystore::user::User;

/// A place where certificates may be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Source {
    /// Of what kind it is.
    pub kind: Kind,
    /// Its path, with variables.
    pub path: Template,
}

/// What is found at the path of a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with the user's certificates.
    File,
    /// A folder with the user's certificates in `*.pgp`, `*.asc`, `*.gpg` and `*.key`.
    Dir,
    /// A GnuPG home with a keyring.
    GnuPg,
    /// A shared OpenPGP certificate directory.
    CertD,
    /// A local Web Key Directory.
    WkdDir,
}

const KINDS: [(&str, Kind); 5] = [
    ("file:", Kind::File),
    ("dir:", Kind::Dir),
    ("gnupg:", Kind::GnuPg),
    ("cert-d:", Kind::CertD),
    ("wkd-dir:", Kind::WkdDir),
];

impl Source {
    /// The sources of a configuration that names none.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let source = |kind, pieces| Self { kind, path: Template { pieces } };
        vec![
            source(
                Kind::File,
                vec![
                    Piece::Text("/etc/mailseal/keys/".into()),
                    Piece::Variable(Variable::User),
                    Piece::Text(".pgp".into()),
                ],
            ),
            source(Kind::Dir, vec![Piece::Variable(Variable::Home), Piece::Text("/.config/mailseal".into())]),
        ]
    }

    /// Whether it lies in users' homes.
    #[must_use]
    pub fn needs_home(&self) -> bool {
        self.path.pieces.contains(&Piece::Variable(Variable::Home))
    }

    /// Whether it is a keyring, in which certificates are found by their owner's address.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        match self.kind {
            Kind::File | Kind::Dir => false,
            Kind::GnuPg | Kind::CertD | Kind::WkdDir => true,
        }
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (path, kind) = KINDS
            .iter()
            .find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind)))
            .ok_or_else(|| {
                format!("unknown source {text:?}; expected one of {}", KINDS.map(|(name, _)| name).join(", "))
            })?;
        let path = Template::try_from(path.to_owned())?;
        if path.is_absolute() {
            Ok(Self { kind, path })
        } else {
            Err(format!("the path of the source {text:?} is not absolute"))
        }
    }
}

/// A text with the variables `%{user}`, `%{local}`, `%{domain}` and `%{home}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// What a part of a path may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The user's name.
    User,
    /// What stands before its last `@`.
    Local,
    /// What stands after it.
    Domain,
    /// The user's home.
    Home,
}

/// A part of a path for one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What stands before the user's name.
    pub before: String,
    /// The user's name, or a piece of it; with the text between, where there are several. Empty where there is none.
    pub value: String,
    /// What stands behind it.
    pub after: String,
}

impl Part {
    fn push(&mut self, text: &str) {
        let end = if self.value.is_empty() { &mut self.before } else { &mut self.after };
        end.push_str(text);
    }

    /// The whole.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}{}{}", self.before, self.value, self.after)
    }
}

/// A part of a path: one variable at most, and the text round it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The text before the variable, or all there is.
    pub before: String,
    /// The variable.
    pub variable: Option<Variable>,
    /// The text behind it.
    pub after: String,
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // So Dovecot writes its variables.
        let bare = |pair: &[u8]| pair[0] == b'%' && pair[1].is_ascii_alphabetic();
        if text.as_bytes().windows(2).any(bare) {
            return Err(format!("{text:?} has a % without {{: variables are written as %{{user}}"));
        }
        let mut pieces = Vec::new();
        let mut rest = &*text;
        while let Some((before, after)) = rest.split_once("%{") {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("{text:?} has %{{ without }}"))?;
            let variable = match name {
                "user" => Variable::User,
                "local" => Variable::Local,
                "domain" => Variable::Domain,
                "home" => Variable::Home,
                _ => {
                    return Err(format!(
                        "unknown variable %{{{name}}}; expected %{{user}}, %{{local}}, %{{domain}} or %{{home}}"
                    ));
                }
            };
            pieces.push(Piece::Text(before.into()));
            pieces.push(Piece::Variable(variable));
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self { pieces })
    }
}

/// A path of a source for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub path: PathBuf,
    /// What must be there, so that something below it may be missing.
    pub root: Root,
    /// Who may own and write what is there.
    pub trust: Trust,
}

/// What a [`Place`] lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A store for many users: the deepest folder of the source's path that is the same for all.
    Store(PathBuf),
    /// The user's home.
    Home {
        /// Its path.
        home: PathBuf,
        /// The folder in which homes lie, where it is known that this one may be made still.
        within: Option<PathBuf>,
    },
}

impl Place {
    /// A file that an admin named: all folders of its path must be there.
    #[must_use]
    pub fn named(path: PathBuf, trust: Trust) -> Self {
        let root = Root::Store(path.parent().unwrap_or(Path::new("/")).into());
        Self { path, root, trust }
    }

    /// Something in the folder at this place.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        self.at(self.path.join(name))
    }

    /// Another path under the same rules.
    #[must_use]
    pub fn at(&self, path: PathBuf) -> Self {
        Self { path, root: self.root.clone(), trust: self.trust.clone() }
    }
}

/// What fills in a [`Template`].
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The delivery user.
    pub user: &'a User,
    /// The user's home, where it is known.
    pub home: Option<&'a Path>,
    /// Folders in which homes lie.
    pub homes: &'a [PathBuf],
}

impl Template {
    /// Puts the user's name and home in.
    ///
    /// # Errors
    /// [`Error::User`] when the user has no domain and `%{domain}` occurs; [`Error::Home`] when the home is unknown or
    /// no absolute path and `%{home}` occurs.
    pub fn expand(&self, user: &User, home: Option<&Path>) -> Result<String, Error> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(Variable::User) => out.push_str(user.name()),
                Piece::Variable(Variable::Local) => out.push_str(user.local()),
                Piece::Variable(Variable::Domain) => {
                    out.push_str(user.domain().ok_or_else(|| Error::User {
                        name: user.name().into(),
                        what: "has no domain, which %{domain} stands for",
                    })?)
                }
                Piece::Variable(Variable::Home) => out.push_str(known_home(home)?),
            }
        }
        Ok(out)
    }

    /// The path of a source of this `kind` for a user.
    ///
    /// # Errors
    /// Those of [`Template::expand`].
    pub fn place(&self, kind: Kind, values: &Values<'_>, trust: &Trust) -> Result<Place, Error> {
        let path = PathBuf::from(self.expand(values.user, values.home)?);
        let root = match (self.store(kind), values.home) {
            (None, home) => {
                let home = Path::new(known_home(home)?);
                let within = holding(home, values.homes).next();
                Root::Home { home: home.into(), within: within.cloned() }
            }
            (Some(store), _) => Root::Store(store),
        };
        Ok(Place { path, root, trust: trust.clone() })
    }

    /// The deepest folder of the path that is the same for all users: what bears the marker of a source of this `kind`.
    /// `None` where it lies in the users' homes.
    #[must_use]
    pub fn store(&self, kind: Kind) -> Option<PathBuf> {
        let fixed = match self.pieces.first()? {
            Piece::Text(text) => text,
            Piece::Variable(_) => return None,
        };
        if self.pieces.len() == 1 && kind != Kind::File {
            return Some(fixed.into());
        }
        let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(if folder.is_empty() { "/".into() } else { folder.into() })
    }

    /// The parts of the path for a user; a home is one part.
    ///
    /// # Errors
    /// Those of [`Template::expand`].
    pub fn parts(&self, user: &User, home: Option<&Path>) -> Result<Vec<Part>, Error> {
        let (mut parts, mut last) = (Vec::new(), Part::default());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    for (number, text) in text.split('/').enumerate() {
                        if number > 0 {
                            parts.push(std::mem::take(&mut last));
                        }
                        last.push(text);
                    }
                }
                Piece::Variable(Variable::Home) => last.push(known_home(home)?),
                Piece::Variable(_) => {
                    let value = Self { pieces: vec![piece.clone()] }.expand(user, home)?;
                    last.value.push_str(&std::mem::take(&mut last.after));
                    last.value.push_str(&value);
                }
            }
        }
        parts.push(last);
        Ok(parts)
    }

    /// The parts of the path as patterns; `None` where one has two variables in it, or the path lies in a home.
    #[must_use]
    pub fn patterns(&self) -> Option<Vec<Pattern>> {
        let mut parts = vec![Pattern::default()];
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    for (number, text) in text.split('/').enumerate() {
                        if number > 0 {
                            parts.push(Pattern::default());
                        }
                        let last = parts.last_mut()?;
                        let part = if last.variable.is_some() { &mut last.after } else { &mut last.before };
                        part.push_str(text);
                    }
                }
                Piece::Variable(Variable::Home) => return None,
                Piece::Variable(variable) => {
                    let last = parts.last_mut()?;
                    if last.variable.replace(*variable).is_some() {
                        return None;
                    }
                }
            }
        }
        Some(parts)
    }

    fn is_absolute(&self) -> bool {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Variable(variable)) => *variable == Variable::Home,
            None => false,
        }
    }
}

fn known_home(home: Option<&Path>) -> Result<&str, Error> {
    let failed = |path: &Path, what: &str| Error::Home { path: path.into(), what: what.into() };
    let home =
        home.ok_or_else(|| failed(Path::new(UNKNOWN_HOME), "is not known, and a key source asks for it"))?;
    if !home.is_absolute() || home.components().any(|part| part == Component::ParentDir) {
        return Err(failed(home, "is not an absolute path"));
    }
    home.to_str().ok_or_else(|| failed(home, "is not UTF-8"))
}

/// Those folders of `homes` in which the home lies.
pub fn holding<'a>(home: &'a Path, homes: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
    homes.iter().filter(move |homes| home.starts_with(homes) && home != **homes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<Source, String> {
        text.to_owned().try_into()
    }

    fn placed(text: &str, user: &str, home: Option<&str>) -> Result<Place, Error> {
        let homes = ["/home".into()];
        let user = User::parse(user).unwrap();
        let values = Values { user: &user, home: home.map(Path::new), homes: &homes };
        let source = source(text).unwrap();
        source.path.place(source.kind, &values, &Trust::of_process(&[]))
    }

    #[test]
    fn a_source_in_homes_needs_one() {
        for (text, needed) in [
            ("dir:%{home}/.config", true),
            ("gnupg:/srv%{home}", true),
            ("file:/keys/%{user}.pgp", false),
            ("cert-d:/keys", false),
        ] {
            assert_eq!(source(text).unwrap().needs_home(), needed, "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_path_tell_what_varies() {
        let user = User::parse("alice@example.org").unwrap();
        let parts = |text: &str| source(text).unwrap().path.parts(&user, Some(Path::new("/h/a"))).unwrap();
        let part = |before: &str, value: &str, after: &str| Part {
            before: before.into(),
            value: value.into(),
            after: after.into(),
        };
        assert_eq!(
            parts("file:/k/%{domain}/x-%{local}.pgp"),
            [part("", "", ""), part("k", "", ""), part("", "example.org", ""), part("x-", "alice", ".pgp")]
        );
        assert_eq!(parts("file:/%{local}-%{local}.x")[1], part("", "alice-alice", ".x"));
        assert_eq!(parts("dir:%{home}/.config"), [part("/h/a", "", ""), part(".config", "", "")]);
    }

    #[test]
    fn paths_are_made_for_a_user() {
        for (text, path, store) in [
            ("file:/keys/%{user}.pgp", "/keys/alice@example.org.pgp", Some("/keys")),
            ("file:/keys/k-%{user}.pgp", "/keys/k-alice@example.org.pgp", Some("/keys")),
            ("dir:/keys/%{domain}/%{local}", "/keys/example.org/alice", Some("/keys")),
            ("dir:/keys", "/keys", Some("/keys")),
            ("file:/keys/all.pgp", "/keys/all.pgp", Some("/keys")),
            ("file:/%{user}", "/alice@example.org", Some("/")),
            ("file:%{home}/.keys/x", "/home/alice/.keys/x", None),
        ] {
            let place = placed(text, "Alice@example.org", Some("/home/alice")).unwrap();
            assert_eq!(place.path, Path::new(path));
            let root = match store {
                Some(store) => Root::Store(store.into()),
                None => Root::Home { home: "/home/alice".into(), within: Some("/home".into()) },
            };
            assert_eq!(place.root, root, "{text}");
        }
    }

    #[test]
    fn a_variable_in_a_name_is_a_name() {
        let place = placed("file:/keys/%{user}", "%{home}", Some("/root")).unwrap();
        assert_eq!(place.path, Path::new("/keys/%{home}"));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert!(matches!(placed("file:/k/%{domain}", "alice", None), Err(Error::User { .. })));
        for home in [None, Some("home"), Some(""), Some("/home/../etc")] {
            assert!(matches!(placed("dir:%{home}/k", "alice", home), Err(Error::Home { .. })));
        }
    }

    #[test]
    fn malformed_sources_are_refused() {
        for text in
            ["", "/keys", "file:", "file:keys/%{user}", "file:/%{user", "file:/%{uid}", "dir:%{user}/x"]
        {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let named = ["file:/etc/mailseal/keys/%{user}.pgp", "dir:%{home}/.config/mailseal"];
        assert_eq!(Source::defaults(), named.map(|text| source(text).unwrap()));
    }

    #[test]
    fn a_home_may_be_made_still_only_in_a_folder_of_homes() {
        for (home, expected) in [
            ("/home/alice", Some("/home")),
            ("/home/a/b", Some("/home")),
            ("/home", None),
            ("/homes/alice", None),
        ] {
            let place = placed("file:%{home}/x", "alice", Some(home)).unwrap();
            assert_eq!(place.root, Root::Home { home: home.into(), within: expected.map(PathBuf::from) });
        }
    }

    #[test]
    fn a_part_with_one_variable_is_a_pattern() {
        let patterns = |text: &str| source(text).unwrap().path.patterns();
        let pattern = |before: &str, variable, after: &str| Pattern {
            before: before.into(),
            variable,
            after: after.into(),
        };
        assert_eq!(
            patterns("file:/k/%{domain}/x-%{local}.pgp").unwrap(),
            [
                pattern("", None, ""),
                pattern("k", None, ""),
                pattern("", Some(Variable::Domain), ""),
                pattern("x-", Some(Variable::Local), ".pgp"),
            ]
        );
        assert_eq!(patterns("dir:/k").unwrap(), [pattern("", None, ""), pattern("k", None, "")]);
        assert_eq!(patterns("file:/%{local}-%{domain}"), None);
        assert_eq!(patterns("dir:%{home}/%{user}"), None);
    }

    #[test]
    fn only_keyrings_need_an_address() {
        for (kind, needed) in
            [("file", false), ("dir", false), ("gnupg", true), ("cert-d", true), ("wkd-dir", true)]
        {
            assert_eq!(source(&format!("{kind}:/x")).unwrap().needs_address(), needed, "{kind}");
        }
    }

    #[test]
    fn a_percent_sign_may_stand_before_anything_but_a_letter() {
        for (text, fit) in
            [("file:/50%", true), ("file:/%%{user}", true), ("file:/%5", true), ("file:/%d", false)]
        {
            assert_eq!(source(text).is_ok(), fit, "{text}");
        }
    }
}
