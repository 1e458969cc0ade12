//! Colours, for terminals alone: what is printed into a file or a pipe has none, and nowhere has what is
//! printed a meaning that only its colour shows.

use std::io::IsTerminal;

/// A colour of the terminal's own palette, so that it suits a dark screen and a light one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// All is well.
    Green,
    /// Worth to be seen.
    Yellow,
    /// Clients wait, or something is wrong.
    Red,
}

impl Colour {
    /// ECMA-48, "Select Graphic Rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// Whether colours are wanted here: on a terminal that knows them, unless `NO_COLOR` is set to anything
/// (<https://no-color.org>).
pub(super) fn wanted(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !set("NO_COLOR") && !dumb
}

/// A word in a colour.
pub(super) fn paint(text: &str, colour: Colour) -> String {
    format!("\x1b[{}m{text}\x1b[0m", colour.code())
}

/// The word in front of an error, red where standard error is a terminal.
pub(super) fn error() -> String {
    match wanted(&std::io::stderr()) {
        true => paint("error:", Colour::Red),
        false => "error:".to_owned(),
    }
}

/// A text with a table in it, the words of one column in their colours; as it is where colours are not
/// wanted on standard output.
pub(super) fn column(text: &str, header: &str, of: fn(&str) -> Option<Colour>) -> String {
    match wanted(&std::io::stdout()) {
        true => painted_column(text, header, of),
        false => text.to_owned(),
    }
}

/// The column begins where its header does. The table was laid out before, so that colours do not count
/// as width.
fn painted_column(text: &str, header: &str, of: fn(&str) -> Option<Colour>) -> String {
    let mut start = None;
    let mut painted = String::new();
    for line in text.lines() {
        match start {
            Some(start) => painted += &painted_word(line, start, of),
            None => {
                let place = line.find(header).filter(|_| is_header(line, header));
                start = place.map(|place| line[..place].chars().count());
                painted += line;
            }
        }
        painted.push('\n');
    }
    painted
}

/// Headers are words parted by blanks; a sentence that has the word in it is none.
fn is_header(line: &str, header: &str) -> bool {
    line.split("  ").any(|cell| cell.trim() == header)
}

/// A line with the word that begins at this character in its colour.
fn painted_word(line: &str, start: usize, of: fn(&str) -> Option<Colour>) -> String {
    let Some((place, _)) = line.char_indices().nth(start) else {
        return line.to_owned();
    };
    let (before, rest) = line.split_at(place);
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    match of(word).filter(|_| before.is_empty() || before.ends_with(' ')) {
        Some(colour) => format!("{before}{}{after}", paint(word, colour)),
        None => line.to_owned(),
    }
}

/// The colour of a mode or of a session's state.
pub(super) fn of_state(word: &str) -> Option<Colour> {
    match word {
        "open" => Some(Colour::Green),
        "read_only" | "in_transaction" | "deferred" => Some(Colour::Yellow),
        "hold" | "held" | "aborted" => Some(Colour::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_column_are_painted_and_nothing_else() {
        let text = "pgdrain, in mode open\n\n database  mode  sessions\n shop      hold  3\n open      \
                    open  1\n\nshop: hold";
        let painted = painted_column(text, "mode", of_state);
        let expected = "pgdrain, in mode open\n\n database  mode  sessions\n shop      \
                        \x1b[31mhold\x1b[0m  3\n open      \x1b[32mopen\x1b[0m  1\n\nshop: hold\n";
        assert_eq!(painted, expected);
    }

    #[test]
    fn names_that_are_not_ascii_move_nothing() {
        let text = "user  state\nжаба  held, physical\n";
        let painted = painted_column(text, "state", of_state);
        assert_eq!(
            painted,
            "user  state\nжаба  \x1b[31mheld\x1b[0m, physical\n"
        );
    }
}
