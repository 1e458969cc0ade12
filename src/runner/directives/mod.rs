//! What a file says about itself in comments: `-- pgdrain:NAME VALUE`, a line each, anywhere in it.
//!
//! Comments are found by the lexer, so that nothing in a string or in a function's body counts. What
//! begins with `pgdrain:` has to be understood: a misspelt timeout must not silently mean none.

mod batch;
mod fault;
mod value;

use std::time::Duration;

use jiff::civil::Date;
use squawk_lexer::{TokenKind, tokenize};

use super::shape::Name;
use super::split::line_and_column;
use super::types::TrafficMode;
use crate::config::words;

pub use batch::{Batch, By, Limits};
pub use fault::DirectiveError;
pub(crate) use fault::nearest;

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `tx none`: statement by statement, although all could run in a transaction.
    pub no_transaction: bool,
    /// `traffic`: what the file may meet.
    pub traffic: Option<TrafficMode>,
    /// `lock_timeout`: instead of the run's.
    pub lock_timeout: Option<Duration>,
    /// `statement_timeout`: instead of the run's; zero is without limit.
    pub statement_timeout: Option<Duration>,
    /// `assert`: what has to be true before the first statement or after the last.
    pub asserts: Vec<Assertion>,
    /// `batch`: the file's statement is run over a table piece by piece.
    pub batch: Option<Located<Batch>>,
    /// `irreversible`: why nothing leads back.
    pub irreversible: Option<String>,
    /// `disabled-until`: the first day (in UTC) on which the file may run.
    pub disabled_until: Option<Date>,
    /// `owner`: the role that the file runs as, instead of the configured one.
    pub owner: Option<String>,
    /// `rows`: how the number of rows of a table changes.
    pub rows: Vec<Located<RowChange>>,
    /// `changes`: what the file leaves as another thing, besides what its statements name.
    pub changes: Vec<Located<Changed>>,
}

/// A value and the line of its directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The line, from 1.
    pub line: u32,
    /// What stands there.
    pub value: T,
}

/// When an assertion is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the first statement.
    Pre,
    /// After the last, before anything is committed.
    Post,
}

/// A query that has to answer with one row of one column that is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// When it is asked.
    pub when: When,
    /// The query.
    pub sql: String,
    /// The line of the directive, from 1.
    pub line: u32,
}

/// How many rows a table gains or loses by a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The table's name as SQL has it, perhaps with a schema and quotes.
    pub table: String,
    /// The difference.
    pub change: i64,
}

words! {
    /// What may be another after a file.
    Changes {
        /// Who may do what with it.
        Grants = "grants",
        /// To whom it belongs.
        Owner = "owner",
        /// Its policies, and whether they count.
        RowSecurity = "row_security",
        /// What a view is, or that it is gone.
        View = "view",
        /// What can be written through a view.
        Writes = "writes",
        /// That a constraint of it is not valid.
        Constraint = "constraint",
        /// That an index is invalid.
        Index = "index",
    }
}

/// Things that a file leaves as others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What of them.
    pub what: Changes,
    /// Relations, functions or schemas.
    pub names: Vec<Name>,
}

/// The names that a directive can have.
pub const NAMES: [&str; 13] = [
    "tx",
    "traffic",
    "lock_timeout",
    "statement_timeout",
    "assert",
    "batch",
    "irreversible",
    "disabled-until",
    "owner",
    "rows",
    "changes",
    // Read by the linter, which asks for a reason.
    "allow",
    "allow-file",
];

impl Directives {
    /// Reads every directive of a script.
    ///
    /// # Errors
    /// Every one that is not understood, with its place.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the list is the lexer's and grows with it"
    )]
    pub fn read(text: &str) -> Result<Self, Vec<DirectiveError>> {
        let mut directives = Self::default();
        let mut seen = Vec::new();
        let mut errors = Vec::new();
        let mut offset = 0;
        for token in tokenize(text) {
            let start = offset;
            offset += token.len as usize;
            let comment = text.get(start..offset).unwrap_or_default();
            let body = match token.kind {
                TokenKind::LineComment => line_directive(comment),
                TokenKind::BlockComment { .. } => block_directive(comment),
                // Anything else is SQL.
                _ => None,
            };
            let Some(body) = body else { continue };
            let at = start + comment.find(body).unwrap_or_default();
            let (line, column) = line_and_column(text, at);
            let taken = match token.kind == TokenKind::LineComment {
                true => directives.take(body, line, &mut seen),
                false => Err("directives are written behind --, a line each".to_owned()),
            };
            if let Err(text) = taken {
                errors.push(DirectiveError { line, column, text });
            }
        }
        if errors.is_empty() {
            Ok(directives)
        } else {
            Err(errors)
        }
    }

    /// Whether the file waits for a later day than this one.
    pub fn is_disabled(&self, today: Date) -> bool {
        self.disabled_until.is_some_and(|until| today < until)
    }

    fn take<'a>(
        &mut self,
        body: &'a str,
        line: u32,
        seen: &mut Vec<&'a str>,
    ) -> Result<(), String> {
        let rest = body.get("pgdrain".len()..).unwrap_or_default();
        if !body.starts_with("pgdrain:") || rest.starts_with(": ") || rest == ":" {
            return Err("a directive is written `-- pgdrain:NAME VALUE`".to_owned());
        }
        let rest = rest.trim_start_matches(':');
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let value = value.trim();
        if !NAMES.contains(&name) {
            return Err(fault::unknown(name, &NAMES));
        }
        let may_repeat = matches!(name, "assert" | "rows" | "changes" | "allow" | "allow-file");
        if !may_repeat && seen.contains(&name) {
            return Err(format!(
                "pgdrain:{name} stands in this file for the second time"
            ));
        }
        seen.push(name);
        self.set(name, value, line)
            .map_err(|text| format!("pgdrain:{name}: {text}"))
    }

    fn set(&mut self, name: &str, value: &str, line: u32) -> Result<(), String> {
        match name {
            "tx" if value == "none" => self.no_transaction = true,
            "tx" => return Err(format!("{value:?} is not one of none")),
            "traffic" => self.traffic = Some(value::traffic(value)?),
            "lock_timeout" => self.lock_timeout = Some(value::lock_timeout(value)?),
            "statement_timeout" => self.statement_timeout = Some(value::timeout(value)?),
            "assert" => self.asserts.push(value::assertion(value, line)?),
            "batch" => {
                let value = Batch::read(value)?;
                self.batch = Some(Located { line, value });
            }
            "irreversible" if value.is_empty() => {
                return Err("a reason has to follow".to_owned());
            }
            "irreversible" => self.irreversible = Some(value.to_owned()),
            "disabled-until" => self.disabled_until = Some(value::date(value)?),
            "owner" => self.owner = Some(value::role(value)?),
            "rows" => {
                let value = value::rows(value)?;
                self.rows.push(Located { line, value });
            }
            "changes" => {
                let value = value::changes(value)?;
                self.changes.push(Located { line, value });
            }
            "allow" | "allow-file" => {}
            other => return Err(fault::unknown(other, &NAMES)),
        }
        Ok(())
    }
}

/// The text of a comment from `pgdrain` on, if it means to be a directive: in whatever case, with
/// blanks before the colon, so that a near miss is told.
fn line_directive(comment: &str) -> Option<&str> {
    let body = comment.trim_start_matches('-').trim();
    is_meant(body).then_some(body)
}

fn block_directive(comment: &str) -> Option<&str> {
    let body = comment.trim_start_matches(['/', '*']).trim_start();
    is_meant(body).then_some(body)
}

fn is_meant(body: &str) -> bool {
    let head = body.get(.."pgdrain".len()).unwrap_or_default();
    let rest = body.get("pgdrain".len()..).unwrap_or_default();
    head.eq_ignore_ascii_case("pgdrain") && rest.trim_start().starts_with(':')
}

#[cfg(test)]
mod tests;
