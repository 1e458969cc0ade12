//! Comments that allow a rule at a statement, or in the whole file, for a reason.
//!
//! ```sql
//! -- pgdrain:allow truncate, drop-cascade the table is a cache
//! -- pgdrain:allow-file file-name the name was given by another tool
//! -- squawk-ignore renaming-column -- the old name is in no release
//! ```

use std::ops::Range;

use squawk_lexer::{TokenKind, tokenize};

use super::Hit;
use super::rules::{Asks, rule};

/// A comment that allows something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suppression {
    /// Where it stands.
    at: usize,
    /// The rules it names.
    rules: Vec<String>,
    /// Why.
    pub(super) reason: String,
    /// Which statement it is for; `None` is the whole file.
    statement: Option<usize>,
    /// Whether it has allowed anything.
    pub(super) used: bool,
}

impl Suppression {
    /// Whether it allows a rule at a statement. Without a reason it allows nothing.
    pub(super) fn covers(&self, rule: &str, statement: Option<usize>) -> bool {
        !self.reason.is_empty()
            && self.rules.iter().any(|it| it == rule)
            && (self.statement.is_none() || self.statement == statement)
    }
}

/// Reads the comments of a file. One stands for the statement whose line it ends, or for the next.
pub(super) fn read(text: &str, statements: &[Range<usize>]) -> Vec<Suppression> {
    let mut found = Vec::new();
    let mut offset = 0;
    for token in tokenize(text) {
        let at = offset;
        offset += token.len as usize;
        let comment = &text[at..offset];
        let body = match token.kind {
            TokenKind::LineComment => comment.trim_start_matches('-'),
            TokenKind::BlockComment { .. } => {
                comment.trim_start_matches("/*").trim_end_matches("*/")
            }
            _ => continue,
        };
        let Some((rules, reason, whole)) = parse(body.trim()) else {
            continue;
        };
        found.push(Suppression {
            at,
            rules,
            reason,
            statement: (!whole).then(|| statement(text, statements, at)),
            used: false,
        });
    }
    found
}

/// The rules, the reason, and whether it is for the whole file.
fn parse(body: &str) -> Option<(Vec<String>, String, bool)> {
    let forms = [
        ("pgdrain:allow-file", true, false),
        ("pgdrain:allow", false, false),
        ("squawk-ignore-file", true, true),
        ("squawk-ignore", false, true),
    ];
    let (rest, whole, squawk) = forms.iter().find_map(|(word, whole, squawk)| {
        let rest = body.strip_prefix(word)?;
        let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
        ends.then_some((rest.trim(), *whole, *squawk))
    })?;
    let (names, reason) = match squawk {
        true => rest.split_once("--").unwrap_or((rest, "")),
        false => rest.split_at(list_end(rest)),
    };
    let rules = names.split(',').map(str::trim).filter(|it| !it.is_empty());
    Some((
        rules.map(str::to_owned).collect(),
        reason.trim().to_owned(),
        whole,
    ))
}

/// Where a list `a, b,c` ends: behind the first word that no comma follows.
fn list_end(text: &str) -> usize {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let start = rest.len() - rest.trim_start().len();
        let word = rest[start..]
            .find(char::is_whitespace)
            .unwrap_or(rest.len() - start);
        end += start + word;
        let more = text[..end].ends_with(',') || text[end..].trim_start().starts_with(',');
        if !more || end >= text.len() {
            return end;
        }
        if !text[..end].ends_with(',') {
            end += text[end..].find(',').unwrap_or(0) + 1;
        }
    }
}

/// The statement whose last line the comment stands on, or else the next one.
fn statement(text: &str, statements: &[Range<usize>], at: usize) -> usize {
    let next = statements.iter().position(|it| it.end > at);
    let next = next.unwrap_or(statements.len().saturating_sub(1));
    let before = next.checked_sub(1).map(|it| (it, &statements[it]));
    match before {
        Some((it, range)) if !text[range.end..at.max(range.end)].contains('\n') => it,
        Some(_) | None => next,
    }
}

/// What is wrong with the comments themselves.
pub(super) fn faults(all: &[Suppression], offline: bool) -> Vec<Hit> {
    // A rule that was not run cannot have found anything.
    let not_asked = |it: &Suppression| offline && it.rules.iter().any(|id| asks_a_database(id));
    let mut hits = Vec::new();
    for it in all {
        for name in &it.rules {
            if rule(name).is_none() {
                hits.push(Hit::new(
                    "suppression",
                    it.at,
                    format!("there is no rule {name}"),
                ));
            }
        }
        if it.rules.is_empty() {
            hits.push(Hit::new("suppression", it.at, "it names no rule"));
        } else if it.reason.is_empty() {
            let message = format!("no reason is given for allowing {}", it.rules.join(", "));
            hits.push(Hit::new("suppression", it.at, message));
        } else if !it.used && !not_asked(it) {
            let message = format!("nothing here does what {} finds", it.rules.join(", "));
            hits.push(Hit::new("unused-suppression", it.at, message));
        }
    }
    hits
}

fn asks_a_database(id: &str) -> bool {
    rule(id).is_some_and(|it| it.asks != Asks::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::split::split;

    fn found(text: &str) -> Vec<Suppression> {
        let statements: Vec<_> = split(text)
            .unwrap()
            .into_iter()
            .map(|it| it.range)
            .collect();
        read(text, &statements)
    }

    #[test]
    fn a_comment_is_for_the_statement_behind_it_or_on_its_line() {
        let text = "-- pgdrain:allow truncate it is a cache\ntruncate a;\n\
                    truncate b; -- pgdrain:allow truncate, drop-cascade so is this\n\
                    /* squawk-ignore renaming-table , renaming-column -- in no release */ select 1;\n\
                    -- pgdrain:allow-file lock-table we are alone";
        let found = found(text);
        let seen: Vec<_> = found
            .iter()
            .map(|it| (it.rules.join("+"), it.reason.as_str(), it.statement))
            .collect();
        assert_eq!(
            seen,
            [
                ("truncate".to_owned(), "it is a cache", Some(0)),
                ("truncate+drop-cascade".to_owned(), "so is this", Some(1)),
                (
                    "renaming-table+renaming-column".to_owned(),
                    "in no release",
                    Some(2)
                ),
                ("lock-table".to_owned(), "we are alone", None),
            ]
        );
        assert!(found[0].covers("truncate", Some(0)));
        assert!(!found[0].covers("truncate", Some(1)));
        assert!(found[3].covers("lock-table", Some(2)));
    }

    #[test]
    fn without_a_reason_or_a_rule_it_allows_nothing() {
        let found = found(
            "-- pgdrain:allow truncate\n-- pgdrain:allow\n-- squawk-ignore renaming-table\n\
             -- pgdrain:allow trunkate it is late\n-- pgdrain:allowed truncate not ours\nselect 1",
        );
        assert!(found.iter().all(|it| !it.covers("truncate", Some(0))));
        let faults: Vec<_> = faults(&found, false)
            .into_iter()
            .map(|it| it.message)
            .collect();
        assert_eq!(
            faults,
            [
                "no reason is given for allowing truncate",
                "it names no rule",
                "no reason is given for allowing renaming-table",
                "there is no rule trunkate",
                "nothing here does what trunkate finds",
            ]
        );
    }
}
