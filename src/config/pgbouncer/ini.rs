//! Reads PgBouncer's ini: sections, `key = value`, comments that begin with `;` or `#`.

use std::collections::BTreeMap;

/// A key with its value and its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
}

/// A file in sections. Of a key that stands twice the last counts, as with PgBouncer.
#[derive(Debug, Default)]
pub(super) struct Ini {
    /// `[databases]`, in the order of the file.
    pub(super) databases: Vec<Entry>,
    /// `[pgbouncer]`
    pub(super) settings: BTreeMap<String, Entry>,
    /// `[users]` and `[peers]`, which are only named.
    pub(super) others: Vec<Entry>,
}

/// Why a text is no `pgbouncer.ini`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct IniError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl Ini {
    pub(super) fn read(text: &str) -> Result<Ini, IniError> {
        let mut ini = Ini::default();
        let mut section = String::new();
        for (at, line) in text.lines().enumerate() {
            let (number, line) = (at + 1, line.trim());
            let wrong = |problem: String| IniError {
                line: number,
                problem,
            };
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if line.starts_with("%include") {
                let text = "%include is not followed: put the contents of that file in its place";
                return Err(wrong(text.to_owned()));
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').map(str::trim);
                let name = name.ok_or_else(|| wrong("the section lacks its ]".to_owned()))?;
                section = name.to_ascii_lowercase();
                if !matches!(section.as_str(), "databases" | "pgbouncer") {
                    ini.others.push(Entry {
                        line: number,
                        key: section.clone(),
                        value: String::new(),
                    });
                }
                continue;
            }
            let (key, value) = pair(line).map_err(wrong)?;
            let entry = Entry {
                line: number,
                key,
                value,
            };
            match section.as_str() {
                "" => return Err(wrong("a key stands before the first section".to_owned())),
                "databases" => {
                    ini.databases.retain(|it| it.key != entry.key);
                    ini.databases.push(entry);
                }
                "pgbouncer" => {
                    ini.settings.insert(entry.key.clone(), entry);
                }
                _ => {}
            }
        }
        Ok(ini)
    }

    /// A key of `[pgbouncer]`.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.settings.get(key)
    }

    /// Its value, if it is not empty.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.get(key)
            .map(|it| it.value.as_str())
            .filter(|it| !it.is_empty())
    }
}

/// `key = value`; a key may stand in double quotes, a quote in it doubled.
fn pair(line: &str) -> Result<(String, String), String> {
    let (key, rest) = match line.strip_prefix('"') {
        Some(quoted) => take_quoted(quoted, '"').ok_or("a quoted key has no end")?,
        None => {
            let end = line.find(|it: char| it == '=' || it.is_whitespace());
            let (key, rest) = line.split_at(end.unwrap_or(line.len()));
            (key.to_owned(), rest)
        }
    };
    let value = rest.trim_start().strip_prefix('=');
    let value = value.ok_or("it is neither a section nor KEY = VALUE")?;
    match key.is_empty() {
        true => Err("a key is missing before =".to_owned()),
        false => Ok((key, value.trim().to_owned())),
    }
}

/// What stands before a closing quote, and what is behind it.
pub(super) fn take_quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut taken = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(quote)?;
        taken.push_str(&rest[..at]);
        rest = &rest[at + quote.len_utf8()..];
        match rest.strip_prefix(quote) {
            Some(behind) => {
                taken.push(quote);
                rest = behind;
            }
            None => return Some((taken, rest)),
        }
    }
}
