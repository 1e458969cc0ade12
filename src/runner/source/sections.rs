//! Files that hold both directions: the lines of one are kept where they are, those of the other
//! become empty, so that every error still names the right line and column.

use std::ops::Range;
use std::sync::Arc;

use super::{Checksums, SqlFile, without_mark};

/// A file in lines, each with its end.
pub(super) struct Lines<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            lines: without_mark(text).split_inclusive('\n').collect(),
        }
    }

    /// The lines without their ends, numbered from 0.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let bare = |line: &&'a str| line.trim_end_matches(['\n', '\r']);
        self.lines.iter().map(bare).enumerate()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The file of one direction: its own lines, and those before any direction, which are comments
    /// and may hold directives. Its checksums are those of its own lines alone: what is written for
    /// the way back does not change the way there.
    pub(super) fn part(&self, name: &str, head: usize, own: Range<usize>) -> SqlFile {
        let mut text = String::new();
        for (number, line) in self.lines.iter().enumerate().take(own.end) {
            if number < head || own.contains(&number) {
                text.push_str(line);
            } else {
                text.push('\n');
            }
        }
        let own = self.lines.get(own).unwrap_or_default().concat();
        SqlFile {
            sql: Arc::from(text),
            checksums: Checksums::of(&own),
            ..SqlFile::new(name, "")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_stay_where_they_are() {
        let lines = Lines::of("\u{feff}-- head\r\nup 1\nup 2\ndown 1\ndown 2");
        let up = lines.part("f", 1, 1..3);
        assert_eq!(&*up.sql, "-- head\r\nup 1\nup 2\n");
        let down = lines.part("f", 1, 3..5);
        assert_eq!(&*down.sql, "-- head\r\n\n\ndown 1\ndown 2");
        assert_eq!(up.checksums, Checksums::of("up 1\nup 2\n"));
    }

    proptest! {
        #[test]
        fn every_own_line_has_its_number(
            lines in prop::collection::vec("[a-zé;' ]{0,6}", 1..12), cut in 0_usize..12,
        ) {
            let text = lines.join("\n");
            let cut = cut.min(lines.len() - 1);
            let file = Lines::of(&text).part("f", 0, cut..lines.len());
            for (number, line) in file.sql.split('\n').enumerate().skip(cut) {
                prop_assert_eq!(line, lines[number].as_str());
            }
            prop_assert!(file.sql.split('\n').take(cut).all(str::is_empty));
        }
    }
}
