//! Edge: Dovecot's configuration as its files have it: each line with where it stands, and the places where a file of ours
//! would be read.
//!
//! What the files mean is for `doveconf` to say. It is shown all of them as one text, with a file of ours put in or left out,
//! so that what a change would do is known before anything is changed.

use std::io;
use std::path::{Path, PathBuf};

use super::settings;
use crate::error::Error;

/// How deep files may include each other.
const DEEPEST: usize = 16;

/// The name of our file in a folder that is included as a whole.
const NAME: &str = "99-mailseal.conf";

/// The names that our file may have where a file is included that is not there: others are those of other programs.
const NAMES: [&str; 2] = ["mailseal.conf", "local.conf"];

/// A line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file.
    pub file: PathBuf,
    /// The line's number in it, from 1 on.
    pub number: usize,
    /// What stands there.
    pub text: String,
}

/// A place where a file of ours would be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The number of lines that are read before it.
    pub at: usize,
}

/// All lines, in the order in which Dovecot reads them, but those of our own file.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The lines.
    pub lines: Vec<Line>,
    /// Where our file is, if it is included.
    pub ours: Option<Place>,
    /// Where it could be, the best place first.
    pub places: Vec<Place>,
}

impl Source {
    /// Reads `main`, and everything that it includes.
    ///
    /// # Errors
    /// [`Error::Setup`] where a file cannot be read, or is included in a way that is not understood.
    pub fn read(main: &Path) -> Result<Self, Error> {
        let mut reader = Reader::default();
        reader.file(main, 0)?;
        let Reader { mut source, by_name, .. } = reader;
        // What is read later wins: the last folder first, and files of a name of their own after them.
        source.places.reverse();
        source.places.extend(by_name);
        Ok(source)
    }

    /// The text as one, with `ours` where `place` is.
    #[must_use]
    pub fn text(&self, ours: Option<(&Place, &str)>) -> String {
        let mut text = String::new();
        let (at, settings) = ours.map_or((0, ""), |(place, settings)| (place.at, settings));
        let (before, after) = self.lines.split_at(at);
        before.iter().for_each(|line| text.extend([&*line.text, "\n"]));
        text.push_str(settings);
        after.iter().for_each(|line| text.extend([&*line.text, "\n"]));
        text
    }

    /// Where `key` is set, behind `place` if it is, else anywhere: what wins over ours.
    #[must_use]
    pub fn winner(&self, key: &str, place: &Place) -> Option<&Line> {
        let sets = |line: &&Line| {
            let text = line.text.trim_start().strip_prefix(key);
            text.is_some_and(|rest| rest.trim_start().starts_with(['=', '{']))
        };
        let (before, after) = self.lines.split_at(place.at);
        after.iter().rev().find(sets).or_else(|| before.iter().rev().find(sets))
    }
}

/// What is being read.
#[derive(Default)]
struct Reader {
    source: Source,
    /// Files that are included where they are, and are not there.
    by_name: Vec<Place>,
    /// How many blocks are open.
    blocks: usize,
}

impl Reader {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(unclear(path, "files include each other too deeply"));
        }
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        let text = String::from_utf8(bytes).map_err(|_| unclear(path, "it is not UTF-8"))?;
        if settings::is_ours(&text) {
            let place = Place { path: path.into(), at: self.source.lines.len() };
            return match self.source.ours.replace(place) {
                None => Ok(()),
                Some(other) => {
                    let what =
                        format!("{} is by `mailseal setup` as well: one is too many", other.path.display());
                    Err(unclear(path, &what))
                }
            };
        }
        let mut continued = false;
        for (index, line) in text.lines().enumerate() {
            let bare = line.trim();
            let is_comment = bare.starts_with('#');
            if let (false, Some((pattern, is_optional))) = (continued, included(bare)) {
                self.include(path, pattern, is_optional, depth)?;
            } else {
                if !is_comment && !continued {
                    self.count_blocks(bare);
                }
                let line = Line { file: path.into(), number: index + 1, text: line.into() };
                self.source.lines.push(line);
            }
            continued = !is_comment && bare.ends_with('\\');
        }
        Ok(())
    }

    fn count_blocks(&mut self, line: &str) {
        if line.ends_with('{') {
            self.blocks += 1;
        } else if line == "}" {
            self.blocks = self.blocks.saturating_sub(1);
        }
    }

    fn include(&mut self, from: &Path, pattern: &str, is_optional: bool, depth: usize) -> Result<(), Error> {
        let pattern = from.parent().unwrap_or(Path::new("/")).join(pattern);
        let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|it| it.to_str()))
        else {
            return Err(unclear(from, "it includes no file"));
        };
        let odd = |text: &str, signs: &[char]| text.contains(signs);
        if odd(&folder.to_string_lossy(), &['*', '?', '[', '{']) || odd(name, &['[', '{']) {
            return Err(unclear(from, &format!("{} cannot be followed", pattern.display())));
        }
        if !odd(name, &['*', '?']) {
            if pattern.exists() {
                return self.file(&pattern, depth + 1);
            }
            if is_optional && self.blocks == 0 && NAMES.contains(&name) {
                self.by_name.push(Place { at: self.source.lines.len(), path: pattern });
                return Ok(());
            }
            return if is_optional {
                Ok(())
            } else {
                Err(unclear(&pattern, "it is included, and not there"))
            };
        }
        let mut place = None;
        for file in matching(folder, name) {
            if place.is_none() && file.file_name().is_some_and(|name| name > NAME) {
                place = Some(self.source.lines.len());
            }
            self.file(&file, depth + 1)?;
        }
        let is_open = self.blocks == 0 && matches(name, NAME) && folder.is_dir();
        if is_open {
            let at = place.unwrap_or(self.source.lines.len());
            self.source.places.push(Place { path: folder.join(NAME), at });
        }
        Ok(())
    }
}

/// The file that a line includes, and whether it may be missing.
fn included(line: &str) -> Option<(&str, bool)> {
    let (word, rest) = line.split_once([' ', '\t'])?;
    let is_optional = match word {
        "!include" => false,
        "!include_try" => true,
        _ => return None,
    };
    let rest = rest.split(" #").next().unwrap_or(rest).trim();
    Some((rest.trim_matches('"'), is_optional))
}

/// The files of a folder whose names match, in their order.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_meant =
        |name: &str| matches(pattern, name) && (!name.starts_with('.') || pattern.starts_with('.'));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|it| it.to_str()).is_some_and(is_meant))
        .collect();
    files.sort();
    files
}

/// Whether `name` matches a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let pattern = rest.as_str();
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| matches(pattern, &name[at..]))
        }
        Some(sign) => {
            let mut name = name.chars();
            name.next().is_some_and(|it| sign == '?' || it == sign) && matches(rest.as_str(), name.as_str())
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Setup {
        what: format!("{}: {error}", path.display()),
        hint: "run it as root, where Dovecot's configuration is".into(),
    }
}

fn unclear(path: &Path, what: &str) -> Error {
    Error::Setup {
        what: format!("{}: {what}", path.display()),
        hint: "write it so that each `!include` names a file, or a folder's files as FOLDER/*.conf".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn lines_come_in_the_order_in_which_dovecot_reads_them() {
        let ours = settings::FIRST_LINE;
        let dir = site(&[
            (
                "d.conf",
                "a = 1\nx {\n  !include in.conf\n}\n!include conf.d/*.conf\n!include_try local.conf\nz = 9\n",
            ),
            ("in.conf", "y = \\\n!include nothing\n"),
            ("conf.d/10-b.conf", "b = 2\n#!include nothing\n"),
            ("conf.d/.99-hidden.conf", "nonsense"),
            ("conf.d/99-mailseal.conf", &format!("{ours}\nours = yes\n")),
            ("conf.d/99-z.conf", "c = 3\n"),
        ]);
        let source = Source::read(&dir.path().join("d.conf")).unwrap();
        let text = source.text(None);
        assert_eq!(text, "a = 1\nx {\ny = \\\n!include nothing\n}\nb = 2\n#!include nothing\nc = 3\nz = 9\n");
        let folder = dir.path().join("conf.d").join(NAME);
        assert_eq!(source.ours, Some(Place { path: folder.clone(), at: 7 }));
        let places = [Place { path: folder, at: 7 }, Place { path: dir.path().join("local.conf"), at: 8 }];
        assert_eq!(source.places, places);
        assert_eq!(source.text(Some((&places[1], "new = 1\n"))), text.replace("z = 9\n", "new = 1\nz = 9\n"));
        let winner = source.winner("z", &places[0]).unwrap();
        assert_eq!((winner.number, &*winner.text), (7, "z = 9"));
        assert_eq!(source.winner("q", &places[0]), None);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for text in
            ["!include */x.conf\n", "!include [ab].conf\n", "!include gone.conf\n", "!include d.conf\n"]
        {
            let dir = site(&[("d.conf", text)]);
            assert!(Source::read(&dir.path().join("d.conf")).is_err(), "{text}");
        }
        let ours = format!("{}\n", settings::FIRST_LINE);
        let dir = site(&[("d.conf", "!include a\n!include b\n"), ("a", &ours), ("b", &ours)]);
        assert!(Source::read(&dir.path().join("d.conf")).is_err());
        // A folder is no place where its files are read in a block, or have other names.
        let dir = site(&[("d.conf", "x {\n!include c/*.conf\n}\n!include c/*.ext\n"), ("c/a.conf", "")]);
        assert_eq!(Source::read(&dir.path().join("d.conf")).unwrap().places, []);
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.ext", false),
            ("a?c*", "abc", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
