//! What header protection added to a message, and what stayed outside alone, as fields of the record.

use std::fmt::Write as _;
use std::ops::Range;

use super::number;

/// Where pieces were added to a message, and where lines of it are missing. Places are bytes of the
/// entity as it was encrypted: its header and the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insertions {
    added: Vec<Range<usize>>,
    outside: Vec<usize>,
}

impl Insertions {
    /// `None` where either is out of order, or two of the `added` overlap.
    #[must_use]
    pub fn new(added: Vec<Range<usize>>, outside: Vec<usize>) -> Option<Self> {
        let apart =
            added.is_sorted_by(|a, b| a.end <= b.start) && added.iter().all(|range| range.start <= range.end);
        (apart && outside.is_sorted()).then_some(Self { added, outside })
    }

    /// What was added: in order, apart from each other.
    #[must_use]
    pub fn added(&self) -> &[Range<usize>] {
        &self.added
    }

    /// Where the lines belong that only the outside has, in order.
    #[must_use]
    pub fn outside(&self) -> &[usize] {
        &self.outside
    }

    /// The same for `count` lines, where there are not as many as places.
    #[must_use]
    pub fn for_lines(mut self, count: usize) -> Self {
        self.outside.truncate(count);
        self
    }

    /// `;hp=0+63,2048+1930;out=12`: places and lengths of what was added, places of what is missing.
    pub(super) fn encode(&self) -> String {
        let mut text = String::from(";hp=");
        for (n, range) in self.added.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{}+{}", range.start, range.len());
        }
        for (n, place) in self.outside.iter().enumerate() {
            let before = if n > 0 { "," } else { ";out=" };
            let _ = write!(text, "{before}{place}");
        }
        text
    }

    /// Reads the values of `hp` and `out`; `None` where they are malformed or out of order.
    pub(super) fn parse(added: &str, outside: &str) -> Option<Self> {
        let added = list(added, |piece| {
            let (start, length) = piece.split_once('+')?;
            let start = number(start)?;
            Some(start..start.checked_add(number(length)?)?)
        })?;
        Self::new(added, list(outside, number)?)
    }
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').filter(|piece| !piece.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back() {
        for (added, outside, text) in [
            (vec![0..63, 2048..3978], vec![63, 63, 70], ";hp=0+63,2048+1930;out=63,63,70"),
            (vec![], vec![], ";hp="),
            (vec![5..6, 9..11], vec![], ";hp=5+1,9+2"),
        ] {
            let insertions = Insertions { added, outside };
            assert_eq!(insertions.encode(), text);
            let (hp, out) = text.trim_start_matches(";hp=").split_once(";out=").unwrap_or((&text[4..], ""));
            assert_eq!(Insertions::parse(hp, out), Some(insertions));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (added, outside) in
            [("5", ""), ("5+x", ""), ("9+9,5+1", ""), ("0+9,5+1", ""), ("", "9,5"), ("", "-1")]
        {
            assert_eq!(Insertions::parse(added, outside), None, "{added} {outside}");
        }
        assert_eq!(Insertions::parse("18446744073709551615+1", ""), None);
    }

    #[test]
    fn what_was_added_is_in_order_and_apart() {
        for (added, outside, sound) in [
            (vec![], vec![], true),
            (vec![0..3, 3..5], vec![1, 1, 9], true),
            (vec![0..3, 2..5], vec![], false),
            (vec![4..5, 0..3], vec![], false),
            (vec![0..3, 3..3], vec![], true),
            #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
            (vec![0..1, 3..2], vec![], false),
            (vec![], vec![2, 1], false),
        ] {
            let made = Insertions::new(added.clone(), outside.clone());
            assert_eq!(made.is_some(), sound, "{added:?} {outside:?}");
            if let Some(made) = made {
                assert_eq!((made.added(), made.outside()), (&*added, &*outside));
                for count in 0..4 {
                    let kept = &outside[..outside.len().min(count)];
                    assert_eq!(made.clone().for_lines(count).outside(), kept);
                }
            }
        }
    }
}
