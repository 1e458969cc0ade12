//! What commands print: tables that fit a terminal of 80 columns, or JSON for programs.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::config::HumanDuration;

/// Narrower terminals wrap; wider ones are no reason to make a table harder to paste.
const WIDTH: u16 = 80;

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl Format {
    pub(super) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Prints a value as JSON, or what `text` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written; a reader that went away is no error.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self {
            Self::Text => line(&text(value)),
            Self::Json => line(&serde_json::to_string_pretty(value)?),
        }
    }
}

/// Prints a line to standard output.
///
/// # Errors
/// When it cannot be written; a reader that went away (`| head`) is no error.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let _whoever_reads = line_if_read(text.trim_end())?;
    Ok(())
}

/// The same, for who goes on until nobody reads: false when the reader went away.
///
/// # Errors
/// When it cannot be written.
pub(super) fn line_if_read(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Says something beside the result, on standard error; when nobody reads it, nobody misses it.
pub(super) fn note(text: &str) {
    let _nobody_reads = writeln!(io::stderr(), "{text}");
}

/// A sentence in lines of 80 columns at most, all but the first set in by two; a word that is longer
/// stands alone.
pub(super) fn wrapped(text: &str) -> String {
    let lines = broken(text, usize::from(WIDTH) - 2);
    lines.join("\n  ")
}

/// A sentence broken between its words into lines of so many characters at most; a word that is longer
/// stands alone.
pub(super) fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        let taken = line.chars().count();
        if taken == 0 {
            line.push_str(word);
        } else if taken + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A table of 80 columns at most; longer cells are wrapped.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| plain(&cell)));
    }
    table.trim_fmt()
}

/// A text without control characters: names come from clients, and a terminal obeys what it reads.
pub(super) fn plain(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Milliseconds for people: exact below ten seconds, whole seconds above.
pub(super) fn millis(ms: u64) -> String {
    let rounded = if ms < 10_000 { ms } else { ms / 1000 * 1000 };
    HumanDuration(Duration::from_millis(rounded)).to_string()
}

/// Milliseconds that may be unknown or not apply.
pub(super) fn millis_or_dash(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_80_columns_whatever_is_in_it() {
        let long = "an application with a name that goes on and on, ".repeat(4);
        let row = [long.clone(), long, "\u{1b}[31mred\nline".to_owned()];
        let text = table(["name", "other", "state"], [row]);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_sentence_is_wrapped_between_its_words() {
        assert_eq!(wrapped("shop: held"), "shop: held");
        let text = wrapped(&"seventeen letters ".repeat(9));
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("  s")),
            "{text}"
        );
        let long = "x".repeat(100);
        assert_eq!(wrapped(&format!("a {long} b")), format!("a\n  {long}\n  b"));
    }

    #[test]
    fn times_are_as_exact_as_people_need() {
        assert_eq!(millis(7), "7ms");
        assert_eq!(millis(1_234), "1s 234ms");
        assert_eq!(millis(61_234), "1m 1s");
        assert_eq!(millis_or_dash(None), "-");
    }
}
