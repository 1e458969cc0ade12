//! Options of commands: words in the console, keys of the same names in the bodies of the admin HTTP.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::complaint::Complaint;
use super::text::Word;
use crate::runner::directives::nearest;

/// A word that a command takes, and the key that it sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) word: &'static str,
    key: &'static str,
    takes: Takes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    /// A text.
    Value,
}

const fn value(word: &'static str) -> Known {
    keyed(word, word)
}

const fn keyed(word: &'static str, key: &'static str) -> Known {
    let takes = Takes::Value;
    Known { word, key, takes }
}

const fn flag(word: &'static str) -> Known {
    let (key, takes) = (word, Takes::Nothing);
    Known { word, key, takes }
}

/// Of `HOLD` and `PAUSE`.
pub(super) const HOLD: [Known; 19] = [
    value("for"),
    value("reason"),
    value("ladder"),
    value("blocked"),
    value("then"),
    value("user"),
    keyed("application", "application_name"),
    value("client"),
    value("sqlstate"),
    value("autocommit"),
    value("wait"),
    value("cancel"),
    value("stuck"),
    value("abort"),
    value("terminate"),
    value("bypass"),
    flag("fence"),
    flag("unproved"),
    flag("nowait"),
];

/// Of `READ ONLY`.
pub(super) const READ_ONLY: [Known; 16] = [
    value("for"),
    value("reason"),
    value("ladder"),
    value("writes"),
    value("then"),
    value("user"),
    keyed("application", "application_name"),
    value("client"),
    value("wait"),
    value("cancel"),
    value("stuck"),
    value("abort"),
    value("terminate"),
    value("bypass"),
    flag("unproved"),
    flag("nowait"),
];

/// Of `OPEN` and `RESUME`.
pub(super) const OPEN: [Known; 5] = [
    value("reason"),
    value("user"),
    keyed("application", "application_name"),
    value("client"),
    flag("force"),
];

/// Of `DRAIN`.
pub(super) const DRAIN: [Known; 7] = [
    value("ladder"),
    value("autocommit"),
    value("wait"),
    value("cancel"),
    value("stuck"),
    value("abort"),
    value("terminate"),
];

/// Of `CAP`.
pub(super) const CAP: [Known; 2] = [value("for"), value("reason")];

/// Of whatever takes a reason and no more.
pub(super) const REASON: [Known; 1] = [value("reason")];

/// Of `ABORT WINDOW`.
pub(super) const ABORT_WINDOW: [Known; 1] = [value("then")];

/// Of `APPROVE`.
pub(super) const APPROVE: [Known; 4] = [
    value("plan"),
    keyed("as", "role"),
    keyed("for", "expires"),
    value("reason"),
];

/// Of `REVOKE`.
pub(super) const REVOKE: [Known; 3] = [value("plan"), keyed("as", "role"), value("reason")];

/// Of `MEASURE`.
pub(super) const MEASURE: [Known; 1] = [value("for")];

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Without these there is nothing to build.
    required: Map<String, Value>,
    options: Map<String, Value>,
}

/// Reads options, with or without `=` and commas: `FOR 5m REASON = 'index on orders'`.
pub(super) fn read(command: &str, known: &[Known], words: &[Word]) -> Result<Given, Complaint> {
    let mut given = Given::default();
    let mut rest = words;
    while let [word, behind @ ..] = rest {
        rest = behind;
        if *word == Word::Mark(',') {
            continue;
        }
        let option = known.iter().find(|option| word.is(option.word));
        let option = option.ok_or_else(|| unknown(command, known, word))?;
        let set = match option.takes {
            Takes::Nothing => Value::Bool(true),
            Takes::Value => {
                let behind = match rest {
                    [Word::Equals, behind @ ..] => behind,
                    all => all,
                };
                let [value, behind @ ..] = behind else {
                    return Err(no_value(option));
                };
                rest = behind;
                let value = value.value().ok_or_else(|| no_value(option))?;
                Value::String(match value_is_text(option.word) {
                    true => value.to_owned(),
                    // Words of a list are spelled in one way.
                    false => value.to_ascii_lowercase(),
                })
            }
        };
        if given.options.insert(option.key.to_owned(), set).is_some() {
            let word = option.word.to_ascii_uppercase();
            return Err(Complaint::syntax(format!("{word} is given twice")));
        }
    }
    Ok(given)
}

/// Whether the spelling of an option's value is the operator's own.
fn value_is_text(word: &str) -> bool {
    matches!(
        word,
        "reason" | "user" | "application" | "client" | "sqlstate" | "plan" | "as"
    )
}

fn no_value(option: &Known) -> Complaint {
    let word = option.word.to_ascii_uppercase();
    Complaint::syntax(format!("{word} needs a value"))
}

fn unknown(command: &str, known: &[Known], word: &Word) -> Complaint {
    let words: Vec<&str> = known.iter().map(|option| option.word).collect();
    let shown = word.shown();
    let complaint = Complaint::syntax(format!("\"{shown}\" is no option of {command}"));
    complaint.hint(match nearest(&shown, &words) {
        Some(near) => format!("Did you mean {}?", near.to_ascii_uppercase()),
        None => format!("There are {}.", words.join(", ").to_ascii_uppercase()),
    })
}

impl Given {
    pub(super) fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Sets a key without which there is nothing to build.
    pub(super) fn require(&mut self, key: &str, value: String) {
        self.required.insert(key.to_owned(), Value::String(value));
    }

    /// Whether something was said about this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.options.contains_key(key)
    }

    /// Whether an option is there that is no key.
    pub(super) fn take_flag(&mut self, key: &str) -> bool {
        self.options.remove(key).is_some()
    }

    /// The body of a request, with what it says about each of its keys.
    pub(super) fn build<T: DeserializeOwned>(&self) -> Result<T, Complaint> {
        let body = |more: Map<String, Value>| {
            let mut all = self.required.clone();
            all.extend(more);
            serde_json::from_value::<T>(Value::Object(all))
        };
        let wrong = match body(self.options.clone()) {
            Ok(request) => return Ok(request),
            Err(error) => error,
        };
        // Which of them it is, it does not say.
        for (key, value) in &self.options {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            if let Err(error) = body(alone) {
                let key = key.to_ascii_uppercase();
                return Err(Complaint::value(format!("{key}: {error}")));
            }
        }
        Err(Complaint::value(wrong.to_string()))
    }
}
