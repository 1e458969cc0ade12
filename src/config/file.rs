//! Reading the text of the file: every mistake of spelling and type at once, each with its line.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::nearest::{elsewhere, nearest};
use super::problem::{Origin, Origins, Problem};
use super::raw::{self, Raw};

/// What a text says: as far as it could be read, and what could not.
pub(super) struct Reading {
    /// The settings that could be read.
    pub(super) raw: Raw,
    /// The line of each key.
    pub(super) origins: Origins,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
}

/// Reads the text of a configuration file.
pub(super) fn read(text: &str) -> Reading {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading {
        raw: Raw::default(),
        origins: Origins::new(),
        problems: errors.iter().map(|e| syntax_problem(text, e)).collect(),
    };
    // One slip of the pen makes the parser stumble several times on the same line.
    reading
        .problems
        .dedup_by(|later, first| later.origin == first.origin);
    // What the parser makes of the rest of a broken text is guesswork; its mistakes would mislead.
    if reading.problems.is_empty() {
        note_lines(text, document.get_ref(), "", &mut reading.origins);
        read_table(text, document, &mut reading);
        // serde stumbles in an order of its own; people read from the top.
        reading
            .problems
            .sort_by_key(|problem| match problem.origin {
                Some(Origin::Line(line)) => line,
                Some(Origin::Environment(_) | Origin::Flag(_)) | None => 0,
            });
    }
    reading
}

/// Lets serde read the table; whatever it stumbles over is noted, taken out, and the rest is read
/// again, since serde itself stops at the first mistake.
fn read_table(text: &str, mut document: Spanned<DeTable<'_>>, reading: &mut Reading) {
    loop {
        let error = match Raw::deserialize(Deserializer::from(document.clone())) {
            Ok(raw) => {
                reading.raw = raw;
                return;
            }
            Err(error) => error,
        };
        let start = error.span().map(|span| span.start);
        let key = start.and_then(|start| take_out(document.get_mut(), start, ""));
        let found = key.is_some();
        reading.problems.push(Problem {
            key: key.unwrap_or_default(),
            origin: start.map(|start| Origin::Line(line_of(text, start))),
            text: wording(error.message()),
        });
        // Each round takes a key out, so that this ends; without one there is nothing to gain.
        if !found {
            return;
        }
    }
}

/// Takes the key at this place of the text out of the table and gives its dotted name.
fn take_out(table: &mut DeTable<'_>, place: usize, path: &str) -> Option<String> {
    let mut hit = None;
    for (key, value) in table.iter_mut() {
        let name = join(path, key.get_ref());
        if key.span().contains(&place) {
            hit = Some((key.clone(), name));
            break;
        }
        let span = value.span();
        if let DeValue::Table(inner) = value.get_mut()
            && let Some(name) = take_out(inner, place, &name)
        {
            return Some(name);
        }
        // Of a list of sections one that is wrong spoils the list.
        if let DeValue::Array(items) = value.get_mut()
            && items.iter_mut().any(|item| holds(item, place))
        {
            hit = Some((key.clone(), name));
            break;
        }
        // The span of a section covers its header only, so that its keys were asked first.
        if span.contains(&place) {
            hit = Some((key.clone(), name));
            break;
        }
    }
    let (key, name) = hit?;
    table.remove::<str>(key.get_ref());
    Some(name)
}

/// Whether an item of a list is, or has, what is at this place of the text.
fn holds(item: &mut Spanned<DeValue<'_>>, place: usize) -> bool {
    if item.span().contains(&place) {
        return true;
    }
    if let DeValue::Table(table) = item.get_mut() {
        return take_out(table, place, "").is_some();
    }
    false
}

/// Notes the line of every key.
fn note_lines(text: &str, table: &DeTable<'_>, path: &str, into: &mut Origins) {
    for (key, value) in table {
        let name = join(path, key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            note_lines(text, inner, &name, into);
        }
        into.insert(name, Origin::Line(line_of(text, key.span().start)));
    }
}

/// serde's message in the words of the file, without the text that was found: where a section was
/// expected (`upstream = "postgres://..."`) that text may be a URL with a password.
fn wording(message: &str) -> String {
    let quoted = message
        .strip_prefix("invalid type: string \"")
        .and_then(|rest| rest.rsplit_once("\", expected "));
    match quoted {
        Some((_text, expected)) => format!("it is a string, expected {expected}"),
        None => unknown_key(message).unwrap_or_else(|| message.to_owned()),
    }
}

/// serde's message about a key that is not there, with the one that may have been meant.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field")?;
    // serde puts names into backticks: the one that was found, and those that it expected.
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let meant = match nearest(found, names) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => match elsewhere(found, &raw::keys()) {
            Some(key) => format!("; did you mean `{key}`?"),
            None => String::new(),
        },
    };
    Some(format!("unknown key, found{rest}{meant}"))
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    Problem {
        key: String::new(),
        origin: error
            .span()
            .map(|span| Origin::Line(line_of(text, span.start))),
        // Only the message: the error's own rendering quotes the line, and with it a password.
        text: error.message().to_owned(),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

/// The line of a place in a text, from 1.
fn line_of(text: &str, place: usize) -> usize {
    1 + text.bytes().take(place).filter(|b| *b == b'\n').count()
}
