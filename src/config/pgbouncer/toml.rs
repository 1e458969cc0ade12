//! The result: keys of ours by section, each with the line that it is from, and what is left over.

use std::fmt::Write as _;

/// The sections in the order in which they are written; keys without one come first.
const SECTIONS: &[&str] = &[
    "", "tls", "upstream", "auth", "hold", "limits", "tcp", "log",
];

/// A `pgdrain.toml` in the making.
pub(super) struct Document {
    keys: Vec<(&'static str, String)>,
    /// Tables behind the sections: `[[auth.rules]]`, `[databases.NAME]`.
    tables: Vec<String>,
    first: Vec<String>,
    unneeded: Vec<String>,
    without: Vec<(usize, String)>,
}

impl Document {
    pub(super) fn new() -> Document {
        Document {
            keys: Vec::new(),
            tables: Vec::new(),
            first: Vec::new(),
            unneeded: Vec::new(),
            without: Vec::new(),
        }
    }

    /// A key of ours, and which of theirs it is from.
    pub(super) fn set(&mut self, section: &'static str, key: &str, value: &str, from: &str) {
        self.keys
            .push((section, format!("{key} = {value} # {}\n", comment(from))));
    }

    /// A table of its own.
    pub(super) fn table(&mut self, text: String) {
        self.tables.push(text);
    }

    /// What has to be known before anything else.
    pub(super) fn first(&mut self, text: impl Into<String>) {
        self.first.push(comment(&text.into()));
    }

    /// A key that pgdrain has no need of.
    pub(super) fn unneeded(&mut self, key: &str) {
        self.unneeded.push(comment(key));
    }

    /// A key that has no counterpart, and what to do instead.
    pub(super) fn without(&mut self, line: usize, key: &str, instead: &str) {
        let text = comment(&format!("line {line}, {key}: {instead}"));
        self.without.push((line, text));
    }

    /// The text.
    pub(super) fn finish(mut self) -> String {
        let mut text = "# Translated from a pgbouncer.ini. Each client has a server connection of its own, as \
                        with\n# pool_mode = session: the server's max_connections has to be enough.\n"
            .to_owned();
        for line in &self.first {
            let _infallible = writeln!(text, "# {line}");
        }
        for section in SECTIONS {
            let mut keys = self.keys.iter().filter(|(of, _)| of == section).peekable();
            if keys.peek().is_some() {
                text.push('\n');
                if !section.is_empty() {
                    let _infallible = writeln!(text, "[{section}]");
                }
                keys.for_each(|(_, line)| text.push_str(line));
            }
        }
        for table in &self.tables {
            text.push('\n');
            text.push_str(table);
        }
        if !self.unneeded.is_empty() {
            let keys = self.unneeded.join(", ");
            let _infallible = write!(text, "\n# Not needed here: {keys}.\n");
        }
        if !self.without.is_empty() {
            text.push_str("\n# Without a counterpart:\n");
        }
        self.without.sort();
        for (_, line) in &self.without {
            let _infallible = writeln!(text, "# {line}");
        }
        text
    }
}

/// A text as TOML writes a value.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The line that begins a table, `[SECTION.NAME]`. A key has fewer forms than a value: the one over
/// several lines, which a value with both kinds of quotes gets, is none of them.
pub(super) fn header(section: &str, name: &str) -> String {
    let table = |key: &str, inner| toml::Table::from_iter([(key.to_owned(), inner)]);
    let inner = toml::Value::Table(toml::Table::new());
    table(section, toml::Value::Table(table(name, inner))).to_string()
}

/// What a comment can hold: TOML allows no control characters in it but the tab.
fn comment(text: &str) -> String {
    text.replace(|it: char| it.is_control() && it != '\t', "?")
}
