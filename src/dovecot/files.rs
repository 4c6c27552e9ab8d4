//! Edge: Where in Dovecot's configuration files a setting of `plugin` is written. `doveconf` tells what counts; only the files
//! tell what was written over, and where.

use std::path::{Path, PathBuf};

/// Deepest inclusion that is followed; Dovecot itself refuses files that include themselves.
const DEEPEST: usize = 20;

/// A line that gives a setting a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, from 1.
    pub number: usize,
    /// The setting.
    pub key: String,
    /// Its value there.
    pub value: String,
}

impl Line {
    /// File and line, as compilers write them.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }
}

/// All lines of `file`, and of the files that it includes, that are for a setting which `wanted` names; in the order in which
/// Dovecot reads them, so that the last counts. Files that cannot be read are left out.
#[must_use]
pub fn lines(file: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<Line> {
    let mut found = Vec::new();
    read(file, wanted, DEEPEST, &mut found);
    found
}

fn read(file: &Path, wanted: &dyn Fn(&str) -> bool, depth: usize, found: &mut Vec<Line>) {
    let Ok(text) = std::fs::read(file) else { return };
    for (index, line) in String::from_utf8_lossy(&text).lines().map(str::trim).enumerate() {
        let include = line.strip_prefix("!include_try").or_else(|| line.strip_prefix("!include"));
        if let Some(pattern) = include {
            let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern.trim());
            if depth > 0 {
                matching(&pattern).iter().for_each(|file| read(file, wanted, depth - 1, found));
            }
        } else if let Some((key, value)) = line.split_once('=')
            && wanted(key.trim())
        {
            found.push(Line {
                file: file.into(),
                number: index + 1,
                key: key.trim().into(),
                value: value.trim().into(),
            });
        }
    }
}

/// The files whose names a pattern with `*` in its last part matches, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((before, after)) = name.split_once('*') else { return vec![pattern.into()] };
    let entries = std::fs::read_dir(pattern.parent().unwrap_or(Path::new("/")));
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
    });
    files.retain(|file| !file.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_read_where_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let main = write(
            "dovecot.conf",
            "# k = 0\nk = 1\n!include conf.d/*.conf\n!include_try local.conf\nother = 2\n",
        );
        write("conf.d/20.conf", "plugin {\n  k = 3\n}\n");
        write("conf.d/10.conf", "k = 2");
        write("conf.d/.30.conf", "k = hidden");
        write("conf.d/40.txt", "k = none");
        let values = |file: &Path| -> Vec<(String, usize)> {
            lines(file, &|key| key == "k").into_iter().map(|line| (line.value, line.number)).collect()
        };
        let expected = [("1", 2), ("2", 1), ("3", 2)].map(|(value, number)| (value.to_owned(), number));
        assert_eq!(values(&main), expected);
        let itself = write("itself.conf", "!include itself.conf\nk = 4\n");
        assert_eq!(values(&itself).len(), DEEPEST + 1);
        assert!(values(&dir.path().join("gone")).is_empty());
    }
}
