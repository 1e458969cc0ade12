//! The values of directives.

use std::time::Duration;

use jiff::civil::Date;
use squawk_lexer::{TokenKind, tokenize};

use super::fault::unknown;
use super::{Assertion, Changed, Changes, RowChange, When};
use crate::config::HumanDuration;
use crate::runner::shape::Name;
use crate::runner::split::split;
use crate::runner::types::{TIMEOUT_MAX, TrafficMode};

pub(super) fn traffic(value: &str) -> Result<TrafficMode, String> {
    value
        .parse()
        .ok()
        .ok_or_else(|| unknown(value, TrafficMode::WORDS))
}

pub(super) fn timeout(value: &str) -> Result<Duration, String> {
    let HumanDuration(duration) = value.parse().map_err(|error| format!("{error}"))?;
    if duration > TIMEOUT_MAX {
        return Err("it must be at most 24 days".to_owned());
    }
    Ok(duration)
}

/// Zero would be without end: DDL would wait for a lock, and everybody for it.
pub(super) fn lock_timeout(value: &str) -> Result<Duration, String> {
    match timeout(value)? {
        short if short < Duration::from_millis(1) => Err("it must be at least 1ms".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn date(value: &str) -> Result<Date, String> {
    // jiff would take a time behind the date and pass over it.
    let date = (value.len() == 10).then(|| value.parse::<Date>().ok());
    date.flatten()
        .ok_or_else(|| format!("{value:?} is no date: write it as 2026-12-31"))
}

pub(super) fn assertion(value: &str, line: u32) -> Result<Assertion, String> {
    let (when, sql) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    let when = match when {
        "pre" => When::Pre,
        "post" => When::Post,
        other => return Err(unknown(other, &["pre", "post"])),
    };
    let sql = sql.trim();
    let statements = split(sql).map_err(|error| error.problem.to_string())?;
    let [statement] = statements.as_slice() else {
        return Err(format!(
            "one query has to follow, found {}",
            statements.len()
        ));
    };
    let sql = sql.get(statement.range.clone()).unwrap_or_default();
    let verb: String = sql.chars().take_while(|it| it.is_alphabetic()).collect();
    let reads = ["select", "with", "values", "table"];
    if !reads.iter().any(|it| verb.eq_ignore_ascii_case(it)) {
        return Err("the query has to begin with SELECT, WITH, VALUES or TABLE".to_owned());
    }
    Ok(Assertion {
        when,
        sql: sql.to_owned(),
        line,
    })
}

/// A role's name as SQL has it: folded to lower case, unless it is quoted.
pub(super) fn role(value: &str) -> Result<String, String> {
    match names(value).as_deref() {
        Some([name]) => Ok(name.clone()),
        _ => Err(format!("{value:?} is no name of a role")),
    }
}

/// `TABLE ±n`.
pub(super) fn rows(value: &str) -> Result<RowChange, String> {
    let form = "write the table and the change, as in orders +3, orders -3 or orders 0";
    let (table, change) = value.rsplit_once(char::is_whitespace).ok_or(form)?;
    let signed = change.starts_with(['+', '-']) || change == "0";
    let change = change.parse().ok().filter(|_| signed).ok_or(form)?;
    Ok(RowChange {
        table: table_name(table.trim())?,
        change,
    })
}

/// `KIND NAME[, NAME …]`.
pub(super) fn changes(value: &str) -> Result<Changed, String> {
    let (what, list) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    let what = what
        .parse::<Changes>()
        .ok()
        .ok_or_else(|| unknown(what, Changes::WORDS))?;
    let mut named = Vec::new();
    for part in list.split(',') {
        match names(part.trim()).as_deref() {
            Some([name]) => named.push(Name::bare(name)),
            Some([schema, name]) => named.push(Name {
                schema: Some(schema.clone()),
                name: name.clone(),
            }),
            _ => {
                let form = "name what changes, as in grants orders, shop.prices";
                return Err(format!("{:?} is no name: {form}", part.trim()));
            }
        }
    }
    Ok(Changed { what, names: named })
}

/// A table's name, perhaps with its schema: put into queries as it stands, so nothing else may be in
/// it.
pub(super) fn table_name(value: &str) -> Result<String, String> {
    match names(value) {
        Some(names) if (1..=2).contains(&names.len()) => Ok(value.to_owned()),
        _ => Err(format!("{value:?} is no name of a table")),
    }
}

/// A column's name, put into queries as it stands.
pub(super) fn column_name(value: &str) -> Result<String, String> {
    match names(value).as_deref() {
        Some([_]) => Ok(value.to_owned()),
        _ => Err(format!("{value:?} is no name of a column")),
    }
}

/// A condition between double quotes, which are doubled inside it: put into queries in parentheses,
/// so nothing in it may close them.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the lexer's and grows with it"
)]
pub(super) fn predicate(value: &str) -> Result<String, String> {
    let inside = value
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'))
        .filter(|it| !it.trim().is_empty() && !it.replace("\"\"", "").contains('"'))
        .ok_or("write the condition between double quotes, as in done=\"new is null\"")?;
    let sql = inside.replace("\"\"", "\"");
    let mut open = 0_usize;
    for token in tokenize(&sql) {
        match token.kind {
            TokenKind::OpenParen => open += 1,
            TokenKind::CloseParen if open > 0 => open -= 1,
            TokenKind::CloseParen => return Err("a parenthesis closes too much".to_owned()),
            TokenKind::Semi | TokenKind::LineComment | TokenKind::BlockComment { .. } => {
                return Err("only a condition may stand in done".to_owned());
            }
            _ => {}
        }
    }
    // What stays open: a string, a quoted name, a parenthesis.
    split(&sql).map_err(|error| error.problem.to_string())?;
    Ok(sql)
}

/// Names between dots.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the lexer's and grows with it"
)]
fn names(value: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut wants_name = true;
    let mut offset = 0;
    for token in tokenize(value) {
        let text = value.get(offset..offset + token.len as usize)?;
        offset += token.len as usize;
        match token.kind {
            TokenKind::Ident if wants_name => names.push(text.to_lowercase()),
            TokenKind::QuotedIdent {
                terminated: true, ..
            } if wants_name => {
                let inside = text.get(1..text.len() - 1).filter(|it| !it.is_empty())?;
                names.push(inside.replace("\"\"", "\""));
            }
            TokenKind::Dot if !wants_name => {}
            TokenKind::Eof => continue,
            _ => return None,
        }
        wants_name = !wants_name;
    }
    (!wants_name).then_some(names)
}
