//! The places where certificates may be, as the configuration names them: `file:PATH`, `dir:PATH`, and keyrings.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::user::User;

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
    /// A folder with the user's certificates in `*.pgp` and `*.asc`.
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
        let (path, kind) =
            KINDS.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind))).ok_or_else(
                || format!("source {text:?} begins with none of {}", KINDS.map(|(name, _)| name).join(" ")),
            )?;
        let path = Template::try_from(path.to_owned())?;
        if path.is_absolute() {
            Ok(Self { kind, path })
        } else {
            Err(format!("source {text:?} has no absolute path"))
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    User,
    Local,
    Domain,
    Home,
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
                    return Err(format!("%{{{name}}} is none of %{{user}} %{{local}} %{{domain}} %{{home}}"));
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
    /// The user's home, where the path is below it: then anything below the home may be missing.
    pub home: Option<PathBuf>,
    /// Who may own what is there.
    pub owner: Owner,
}

/// Who may own key files and key folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Root and the user this process runs as: for deliveries.
    RootOrSelf,
    /// Anybody: for an admin, whose own id is not that of the deliveries.
    Anybody,
}

impl Place {
    /// Something in the folder at this place.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        self.at(self.path.join(name))
    }

    /// Another path under the same rules.
    #[must_use]
    pub fn at(&self, path: PathBuf) -> Self {
        Self { path, home: self.home.clone(), owner: self.owner }
    }
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
                        what: "has no domain, and a key source asks for it",
                    })?)
                }
                Piece::Variable(Variable::Home) => out.push_str(known_home(home)?),
            }
        }
        Ok(out)
    }

    /// The path for a user.
    ///
    /// # Errors
    /// Those of [`Template::expand`].
    pub fn place(&self, user: &User, home: Option<&Path>, owner: Owner) -> Result<Place, Error> {
        let path = self.expand(user, home)?.into();
        let below_home = self.pieces.first() == Some(&Piece::Variable(Variable::Home));
        Ok(Place { path, home: home.filter(|_| below_home).map(Path::to_owned), owner })
    }

    /// The folder, and what stands before and after the user's name in a file's name, where that is all there is in
    /// the last component and nothing varies before it.
    #[must_use]
    pub fn names(&self) -> Option<(&Path, &str, &str)> {
        let (before, after) = match &*self.pieces {
            [Piece::Text(before), Piece::Variable(Variable::User)] => (before, ""),
            [Piece::Text(before), Piece::Variable(Variable::User), Piece::Text(after)] => (before, &**after),
            _ => return None,
        };
        let (folder, prefix) = before.rsplit_once('/')?;
        let folder = if folder.is_empty() { "/" } else { folder };
        (!after.contains('/')).then_some((Path::new(folder), prefix, after))
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
    let home = home.ok_or_else(|| failed(Path::new("?"), "is not known, and a key source asks for it"))?;
    if !home.is_absolute() || home.components().any(|part| part == Component::ParentDir) {
        return Err(failed(home, "is no absolute path"));
    }
    home.to_str().ok_or_else(|| failed(home, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<Source, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn paths_are_made_for_a_user() {
        let user = User::parse("Alice@example.org").unwrap();
        let home = Path::new("/home/alice");
        for (text, path, below) in [
            ("file:/keys/%{user}.pgp", "/keys/alice@example.org.pgp", false),
            ("dir:/keys/%{domain}/%{local}", "/keys/example.org/alice", false),
            ("file:%{home}/.keys/x", "/home/alice/.keys/x", true),
        ] {
            let place = source(text).unwrap().path.place(&user, Some(home), Owner::RootOrSelf).unwrap();
            assert_eq!(place.path, Path::new(path));
            assert_eq!(place.home.is_some(), below);
        }
    }

    #[test]
    fn a_variable_in_a_name_is_a_name() {
        let user = User::parse("%{home}").unwrap();
        let place = source("file:/keys/%{user}")
            .unwrap()
            .path
            .place(&user, Some(Path::new("/root")), Owner::RootOrSelf)
            .unwrap();
        assert_eq!(place.path, Path::new("/keys/%{home}"));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let user = User::parse("alice").unwrap();
        let place = |text, home| source(text).unwrap().path.place(&user, home, Owner::RootOrSelf);
        assert!(matches!(place("file:/k/%{domain}", None), Err(Error::User { .. })));
        for home in [None, Some(Path::new("home")), Some(Path::new("")), Some(Path::new("/home/../etc"))] {
            assert!(matches!(place("dir:%{home}/k", home), Err(Error::Home { .. })));
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
}
