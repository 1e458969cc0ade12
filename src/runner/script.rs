//! A file made ready to run: its statements, and whether they share one transaction.
//!
//! A file may be wholly wrapped in `BEGIN; … COMMIT;`, as golang-migrate's users often write it:
//! the two are dropped, since the runner's own transaction does the same and carries the history
//! row too. Any other transaction control is refused: a script that commits half-way would leave
//! the runner's word about it untrue. Savepoints may be used.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::{Form, FormError};
use super::class::Class;
use super::directives::{Batch, DirectiveError, Directives, Located};
use super::source::SqlFile;
use super::split::{ScriptError, ScriptProblem, Statement, line_and_column, split};

/// How a file meets transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxMode {
    /// The whole file and its history row in one transaction: applied, or nothing happened.
    File,
    /// Statement by statement, because one of them cannot run in a transaction or the file says so:
    /// if one fails, those before it stay, and the database is dirty.
    None,
    /// One statement, over a table piece by piece: each batch is a transaction that also writes how
    /// far the file is, and a file that stops goes on from there.
    Batches,
}

impl TxMode {
    /// The word kept in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::None => "none",
            Self::Batches => "batches",
        }
    }
}

/// A script that can be run: cut, checked, at least one statement long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    text: Arc<str>,
    statements: Vec<Statement>,
    mode: TxMode,
    directives: Directives,
    batch: Option<BatchScript>,
}

/// The statement of a file that runs in batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchScript {
    /// How it is run.
    pub directive: Batch,
    /// The line of the directive, from 1.
    pub line: u32,
    /// Where the ranges of the table go.
    pub form: Form,
    /// The file's text with the statement as one over all rows, for those who only look at it.
    looked_at: Arc<str>,
}

impl Script {
    /// Cuts and checks a file.
    ///
    /// # Errors
    /// Every directive that is not understood, and the first fault of the SQL.
    pub fn of(file: &SqlFile) -> Result<Self, Vec<ScriptError>> {
        let directives = Directives::read(&file.sql)
            .map_err(|errors| errors.into_iter().map(directive).collect::<Vec<_>>());
        let alone = file.no_transaction || directives.as_ref().is_ok_and(|it| it.no_transaction);
        match (directives, Self::cut(&file.sql, alone)) {
            (Ok(directives), Ok(script)) => Self {
                directives,
                ..script
            }
            .in_batches()
            .map_err(|error| vec![error]),
            (directives, script) => {
                let mut errors = directives.err().unwrap_or_default();
                errors.extend(script.err());
                errors.sort_by_key(|it| it.line);
                Err(errors)
            }
        }
    }

    /// Cuts and checks the SQL, without a word about directives.
    fn cut(text: &Arc<str>, alone: bool) -> Result<Self, ScriptError> {
        let mut statements = split(text)?;
        let begun = statements.first().map_or(1, |it| it.line);
        let wrapped = unwrap_transaction(&mut statements);
        if wrapped && alone {
            return Err(ScriptProblem::WrappedWithout.at(begun));
        }
        for statement in &statements {
            let refuse = |problem: fn(String) -> ScriptProblem| {
                Err(problem(headline(&text[statement.range.clone()])).at(statement.line))
            };
            match statement.class {
                Class::Begin | Class::Commit | Class::TransactionControl => {
                    return refuse(ScriptProblem::TransactionControl);
                }
                Class::Alone | Class::ConcurrentAlone if wrapped => {
                    return refuse(ScriptProblem::AloneInTransaction);
                }
                Class::Alone
                | Class::ConcurrentAlone
                | Class::Concurrent
                | Class::Session
                | Class::Ordinary
                // `split` refused it already.
                | Class::ClientCopy => {}
            }
        }
        if statements.is_empty() {
            return Err(ScriptProblem::NoStatement.at(1));
        }
        let alone = alone || statements.iter().any(|it| it.class.is_alone());
        let mode = if alone { TxMode::None } else { TxMode::File };
        Ok(Self {
            text: Arc::clone(text),
            statements,
            mode,
            directives: Directives::default(),
            batch: None,
        })
    }

    /// The same, as `pgdrain:batch` has it.
    fn in_batches(self) -> Result<Self, ScriptError> {
        let Some(Located { line, value }) = self.directives.batch.clone() else {
            return Ok(self);
        };
        let refuse = |text: &str, line| Err(ScriptProblem::Directive(text.to_owned()).at(line));
        let [statement] = self.statements.as_slice() else {
            return refuse("a file with pgdrain:batch has to hold one statement", line);
        };
        if self.mode != TxMode::File {
            let text = "pgdrain:batch has transactions of its own: one for each batch";
            return refuse(text, line);
        }
        if let Some(rows) = self.directives.rows.first() {
            let text = "pgdrain:rows cannot be told of batches, between which others write";
            return refuse(text, rows.line);
        }
        let sql = &self.text[statement.range.clone()];
        let form = match Form::read(sql, &value.table) {
            Ok(form) => form,
            Err(FormError { at, text }) => {
                let (line, column) = line_and_column(&self.text, statement.range.start + at);
                return Err(ScriptError {
                    column: Some(column),
                    ..ScriptProblem::Directive(format!("pgdrain:batch: {text}")).at(line)
                });
            }
        };
        let (before, after) = (
            &self.text[..statement.range.start],
            &self.text[statement.range.end..],
        );
        let looked_at = format!("{before}{}{after}", form.whole(sql)).into();
        Ok(Self {
            mode: TxMode::Batches,
            batch: Some(BatchScript {
                directive: value,
                line,
                form,
                looked_at,
            }),
            ..self
        })
    }

    /// What the file says about itself.
    pub fn directives(&self) -> &Directives {
        &self.directives
    }

    /// The whole text, as it is kept in the history.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The statements in their order; never empty.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// How the file is run in batches, if it is.
    pub fn batch(&self) -> Option<&BatchScript> {
        self.batch.as_ref()
    }

    /// What is sent to the server for a statement of this script; of one that runs in batches, what
    /// all of them together would be.
    pub fn sql(&self, statement: &Statement) -> &str {
        let text = self.batch.as_ref().map_or(&self.text, |it| &it.looked_at);
        &text[statement.range.clone()]
    }

    /// A statement as it stands in the file.
    pub fn written(&self, statement: &Statement) -> &str {
        &self.text[statement.range.clone()]
    }

    /// Whether the statements share one transaction.
    pub fn mode(&self) -> TxMode {
        self.mode
    }

    /// Whether the file lets others read and write while it runs: every statement says so of itself
    /// (CONCURRENTLY, VALIDATE CONSTRAINT), or only sets something for its own session.
    pub fn is_concurrent(&self) -> bool {
        let quiet = |it: &Statement| it.class.is_concurrent() || it.class == Class::Session;
        self.statements.iter().all(quiet)
            && self.statements.iter().any(|it| it.class.is_concurrent())
    }

    /// Line and column in the file of an error position, which the server counts in characters of
    /// the statement, from 1.
    pub fn locate(&self, statement: &Statement, position: u32) -> (u32, u32) {
        let sql = self.written(statement);
        let characters = position.saturating_sub(1) as usize;
        let inside = sql
            .char_indices()
            .nth(characters)
            .map_or(sql.len(), |(offset, _)| offset);
        line_and_column(&self.text, statement.range.start + inside)
    }
}

fn directive(error: DirectiveError) -> ScriptError {
    ScriptError {
        column: Some(error.column),
        ..ScriptProblem::Directive(error.text).at(error.line)
    }
}

/// Takes off a `BEGIN` and `COMMIT` that enclose everything; tells whether it did.
fn unwrap_transaction(statements: &mut Vec<Statement>) -> bool {
    let [first, .., last] = statements.as_slice() else {
        return false;
    };
    if first.class != Class::Begin || last.class != Class::Commit {
        return false;
    }
    statements.pop();
    statements.remove(0);
    true
}

/// The first words of a statement, to name it. Never more: statements may hold passwords.
pub(super) fn headline(sql: &str) -> String {
    let words: Vec<_> = sql
        .split(|it: char| !(it.is_alphanumeric() || it == '_'))
        .take_while(|word| !word.is_empty())
        .take(3)
        .collect();
    words.join(" ").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(text: &str) -> Result<Script, ScriptError> {
        Script::of(&SqlFile::new("f", text)).map_err(|it| it[0].clone())
    }

    #[test]
    fn a_file_may_ask_for_no_transaction() {
        let mode = |text: &str| prepare(text).map(|it| it.mode());
        assert_eq!(mode("-- pgdrain:tx none\nselect 1"), Ok(TxMode::None));
        let refused = fault("-- pgdrain:tx none\nbegin;\nselect 1;\ncommit;");
        assert!(
            refused.starts_with("line 2: the file says that it runs without"),
            "{refused}"
        );
        let own = SqlFile {
            no_transaction: true,
            ..SqlFile::new("f", "select 1")
        };
        assert_eq!(Script::of(&own).unwrap().mode(), TxMode::None);
    }

    #[test]
    fn faults_of_directives_and_of_the_sql_come_together() {
        let text = "-- pgdrain:owne x\nselect 1;\n\\q\n-- pgdrain:rows t\n";
        let errors = Script::of(&SqlFile::new("f", text)).unwrap_err();
        let places: Vec<_> = errors.iter().map(|it| (it.line, it.column)).collect();
        assert_eq!(places, [(1, Some(4)), (3, None), (4, Some(4))]);
        assert!(
            errors[0]
                .to_string()
                .contains("line 1, column 4: \"owne\" is not one of")
        );
    }

    fn fault(text: &str) -> String {
        prepare(text).unwrap_err().to_string()
    }

    #[test]
    fn one_wrapping_transaction_is_dropped() {
        let script =
            prepare("-- c\nBEGIN;\ncreate table t (a int);\nselect 1;\nCOMMIT;\n").unwrap();
        let sent: Vec<_> = script
            .statements()
            .iter()
            .map(|it| script.sql(it))
            .collect();
        assert_eq!(sent, ["create table t (a int)", "select 1"]);
        assert_eq!(script.mode(), TxMode::File);
        assert_eq!(
            fault("begin; commit;"),
            "line 1: the file holds no statement"
        );
    }

    #[test]
    fn other_transaction_control_is_refused_with_its_line() {
        assert!(fault("select 1;\nbegin;\nselect 2;\ncommit;").starts_with("line 2: BEGIN: "));
        assert!(fault("begin;\nselect 1;").starts_with("line 1: BEGIN: "));
        assert!(
            fault("begin;\nselect 1;\ncommit;\nbegin;\ncommit").starts_with("line 3: COMMIT: ")
        );
        assert!(fault("select 1;\nrollback;").starts_with("line 2: ROLLBACK: "));
        assert!(
            fault("begin isolation level serializable; select 1; commit")
                .starts_with("line 1: BEGIN ISOLATION LEVEL: ")
        );
        let alone = fault("begin;\ncreate index concurrently i on t (a);\ncommit;");
        assert!(
            alone.starts_with("line 2: CREATE INDEX CONCURRENTLY cannot run inside"),
            "{alone}"
        );
    }

    #[test]
    fn the_mode_follows_the_statements() {
        let script = prepare("set lock_timeout = 0; create index concurrently i on t (a)").unwrap();
        assert_eq!(
            (script.mode(), script.is_concurrent()),
            (TxMode::None, true)
        );
        let script = prepare("create index concurrently i on t (a); select 1").unwrap();
        assert_eq!(
            (script.mode(), script.is_concurrent()),
            (TxMode::None, false)
        );
        let script = prepare("refresh materialized view concurrently v").unwrap();
        assert_eq!(
            (script.mode(), script.is_concurrent()),
            (TxMode::File, true)
        );
        let script = prepare("set search_path = a").unwrap();
        assert_eq!(
            (script.mode(), script.is_concurrent()),
            (TxMode::File, false)
        );
    }

    #[test]
    fn positions_of_the_server_become_lines_and_columns() {
        let script = prepare("select 1;\n  select\n    'é', nope;").unwrap();
        let second = &script.statements()[1];
        let position = script.sql(second).chars().position(|it| it == 'n').unwrap() + 1;
        assert_eq!(
            script.locate(second, u32::try_from(position).unwrap()),
            (3, 10)
        );
        assert_eq!(script.locate(second, 9999), (3, 14));
    }

    #[test]
    fn a_headline_stops_before_anything_secret() {
        assert_eq!(headline("alter role \"x\" password 'secret'"), "ALTER ROLE");
        assert_eq!(
            headline("create index concurrently on t"),
            "CREATE INDEX CONCURRENTLY"
        );
    }
}
