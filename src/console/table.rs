//! Tables for people: each cell escaped, then columns aligned by the cells of a terminal that they take.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use crate::console::escape;

/// Rows of cells under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// Adds a row; its cells are made safe for a terminal.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| escape::display(cell.as_bytes())).collect());
    }

    /// Writes it, two blanks between the columns.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for (at, cell) in self.rows.iter().flat_map(|row| row.iter().enumerate()) {
            widths[at] = cell.width().max(widths[at]);
        }
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_escaped() {
        let mut table = Table::new(&["user", "state"]);
        table.push(vec!["zo\u{eb}".into(), "fit".into()]);
        table.push(vec!["a\x1b[2J".into(), "expired".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "USER      STATE\nzo\u{eb}       fit\na\\x1b[2J  expired\n"
        );
    }

    /// As many cells of a terminal as each takes, not characters: two for a wide one, none for one that combines.
    #[test]
    fn wide_and_combining_characters_are_as_wide_as_they_are_shown() {
        for (cell, padding) in [
            ("12345678", 0),
            ("\u{65e5}\u{672c}\u{8a9e}", 2),
            ("\u{ff21}\u{ff22}", 4),
            ("\u{d55c}\u{ae00}x", 3),
            ("e\u{301}e\u{301}", 6),
            ("\u{915}\u{345}", 7),
            ("\u{1f600}", 6),
            ("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}", 6),
        ] {
            let mut table = Table::new(&["12345678", "n"]);
            table.push(vec![cell.into(), "1".into()]);
            let mut out = Vec::new();
            table.write(&mut out).unwrap();
            let expected = format!("12345678  N\n{cell}{}  1\n", " ".repeat(padding));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    /// What is escaped is measured as it is shown.
    #[test]
    fn controls_are_escaped_before_they_are_measured() {
        for (cell, shown) in
            [("\x07", "\\x07"), ("\u{9b}1m", "\\u{009b}1m"), ("\u{202e}", "\\u{202e}"), ("a\tb", "a\\x09b")]
        {
            let mut table = Table::new(&["c", "n"]);
            table.push(vec![cell.into(), "1".into()]);
            let mut out = Vec::new();
            table.write(&mut out).unwrap();
            let blanks = " ".repeat(shown.len() - 1);
            assert_eq!(String::from_utf8(out).unwrap(), format!("C{blanks}  N\n{shown}  1\n"));
        }
    }
}
