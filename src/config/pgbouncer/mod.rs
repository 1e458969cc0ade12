//! From a `pgbouncer.ini` to a configuration of ours, for whoever puts pgdrain where PgBouncer is.
//!
//! Each key of PgBouncer is translated, or needed no more, or has no counterpart; the last are named
//! in the result with their lines and what to do instead. Nothing is dropped without a word. Passwords
//! are never copied. PgBouncer's side follows `doc/config.md` of PgBouncer 1.25.

mod auth;
mod databases;
mod ini;
mod settings;
mod toml;

pub use ini::IniError;

use std::time::Duration;

use ini::{Entry, Ini};
use toml::Document;

/// Translates the text of a `pgbouncer.ini` to that of a `pgdrain.toml`, with comments.
///
/// # Errors
/// When the text is no such file, with the line.
pub fn translate(text: &str) -> Result<String, IniError> {
    let ini = Ini::read(text)?;
    let mut document = Document::new();
    settings::translate(&ini, &mut document);
    auth::translate(&ini, &mut document);
    databases::translate(&ini, &mut document);
    for section in &ini.others {
        let why = "the section has no counterpart";
        document.without(section.line, &format!("[{}]", section.key), why);
    }
    Ok(document.finish())
}

/// A number of seconds (or of "ms") as a duration of ours; `None` if it is none, or zero, which is
/// PgBouncer's word for "never".
fn time(entry: &Entry, unit: &str) -> Option<String> {
    let number: f64 = entry.value.parse().ok()?;
    let scale = match unit {
        "ms" => 1.0,
        _ => 1000.0,
    };
    let milliseconds = (number * scale).round();
    // What is longer than a year is no limit.
    (1.0..3e10).contains(&milliseconds).then(|| {
        let duration = Duration::from_secs_f64(milliseconds / 1000.0);
        humantime::format_duration(duration).to_string()
    })
}

#[cfg(test)]
mod tests;
