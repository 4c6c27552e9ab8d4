//! What changes in a file, as `diff -u` shows it.

use std::fmt::Write as _;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// A line that stays, goes or comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// The difference between two texts of the file `name`; `old` is `None` where the file is new. Empty where they are the same.
#[must_use]
pub fn unified(name: &str, old: Option<&str>, new: &str) -> String {
    let from: Vec<&str> = old.unwrap_or_default().lines().collect();
    let to: Vec<&str> = new.lines().collect();
    let edits = edits(&from, &to);
    let is_change = |edit: &Edit<'_>| !matches!(edit, Edit::Keep(_));
    if !edits.iter().any(is_change) {
        return String::new();
    }
    let mut text = format!("--- {}\n+++ {name}\n", if old.is_some() { name } else { "/dev/null" });
    let near = |index: usize| {
        let around = index.saturating_sub(CONTEXT)..edits.len().min(index + CONTEXT + 1);
        edits[around].iter().any(is_change)
    };
    let (mut old_line, mut new_line, mut index) = (1, 1, 0);
    while index < edits.len() {
        let count = (index..edits.len()).take_while(|index| near(*index)).count();
        let hunk = &edits[index..index + count];
        if !hunk.is_empty() {
            let olds = hunk.iter().filter(|edit| !matches!(edit, Edit::Add(_))).count();
            let news = hunk.iter().filter(|edit| !matches!(edit, Edit::Remove(_))).count();
            let start = |line: usize, lines: usize| if lines == 0 { line - 1 } else { line };
            let _ =
                writeln!(text, "@@ -{},{olds} +{},{news} @@", start(old_line, olds), start(new_line, news));
            for edit in hunk {
                let (sign, line) = match edit {
                    Edit::Keep(line) => (' ', line),
                    Edit::Remove(line) => ('-', line),
                    Edit::Add(line) => ('+', line),
                };
                let _ = writeln!(text, "{sign}{line}");
            }
            (old_line, new_line) = (old_line + olds, new_line + news);
        }
        // The line behind a hunk is kept, and shown in none.
        (old_line, new_line, index) = (old_line + 1, new_line + 1, index + count + 1);
    }
    text
}

/// The shortest way from one list of lines to another, by the longest list that both have.
fn edits<'a>(from: &[&'a str], to: &[&'a str]) -> Vec<Edit<'a>> {
    let mut common = vec![vec![0_usize; to.len() + 1]; from.len() + 1];
    for (i, old) in from.iter().enumerate().rev() {
        for (j, new) in to.iter().enumerate().rev() {
            common[i][j] =
                if old == new { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut edits) = (0, 0, Vec::new());
    while i < from.len() || j < to.len() {
        if i < from.len() && j < to.len() && from[i] == to[j] {
            edits.push(Edit::Keep(from[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == to.len() || i < from.len() && common[i + 1][j] >= common[i][j + 1] {
            edits.push(Edit::Remove(from[i]));
            i += 1;
        } else {
            edits.push(Edit::Add(to[j]));
            j += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        assert_eq!(unified("f", Some("a\nb\n"), "a\nb\n"), "");
        assert_eq!(unified("f", None, "a\nb\n"), "--- /dev/null\n+++ f\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        let old: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let new = old.replace("2\n3\n", "2\nnew\n3\n").replace("\n18\n", "\n");
        let expected = "--- f\n+++ f\n@@ -1,5 +1,6 @@\n 1\n 2\n+new\n 3\n 4\n 5\n@@ -15,6 +16,5 @@\n 15\n 16\n 17\n-18\n 19\n 20\n";
        assert_eq!(unified("f", Some(&old), &new), expected);
    }
}
