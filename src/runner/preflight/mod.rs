//! What is looked at before anything is held or changed: a file for each check.
//!
//! All checks are made and all are reported, so that one look shows everything that stands in the
//! way. A check that could not be made has not been passed.

mod checksums;
mod connectable;
mod dirty;
mod files;
mod history;
mod long_transactions;
mod pending;
mod privileges;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::adopt::entry::WriteBack;
use super::adopt::{self, Known};
use super::connect::Session;
use super::history::{Ledger, LedgerError};
use super::plan::{self, Plan, Problem, Wish};
use super::report::chain;
use super::source::{MigrationSet, Reading};

/// One check and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, a word.
    pub name: String,
    /// How it went.
    pub outcome: CheckOutcome,
    /// A sentence.
    pub text: String,
    /// What is worth knowing although the check was passed, or each thing that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// The ways a check can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// All is well.
    Passed,
    /// Something is wrong.
    Failed,
    /// It could not be found out; counts as failed.
    Unknown,
}

impl Check {
    pub(super) fn passed(name: &str, text: impl Into<String>) -> Self {
        Self::new(name, CheckOutcome::Passed, text)
    }

    pub(super) fn failed(name: &str, text: impl Into<String>) -> Self {
        Self::new(name, CheckOutcome::Failed, text)
    }

    pub(super) fn unknown(name: &str, error: &dyn std::error::Error) -> Self {
        Self::new(
            name,
            CheckOutcome::Unknown,
            format!("could not be checked: {}", chain(error)),
        )
    }

    fn new(name: &str, outcome: CheckOutcome, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            outcome,
            text: text.into(),
            details: Vec::new(),
        }
    }

    fn with(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.details.extend(notes);
        self
    }

    /// Whether it lets the run go on.
    pub fn is_passed(&self) -> bool {
        match self.outcome {
            CheckOutcome::Passed => true,
            CheckOutcome::Failed | CheckOutcome::Unknown => false,
        }
    }

    /// Failed if anything is wrong, with what it is.
    fn of(name: &str, wrong: Vec<String>, well: impl Into<String>) -> Self {
        match wrong.len() {
            0 => Self::passed(name, well),
            1 => Self::failed(name, wrong.into_iter().next().unwrap_or_default()),
            many => Self::failed(name, format!("{many} things are wrong")).with(wrong),
        }
    }
}

/// What preflight needs to know of the run.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) reading: &'a Reading,
    /// The table of the files' own tool, if it was named.
    pub(super) history: Option<&'a str>,
    /// Whether that tool is told of what is done.
    pub(super) write_back: bool,
    pub(super) wish: Wish,
    /// The role that files run as, if not our own.
    pub(super) owner: Option<&'a str>,
    /// From which age on a transaction is named.
    pub(super) long_transaction: Duration,
    /// Server processes of this proxy's runs.
    pub(super) own: &'a [i32],
}

/// What preflight found: every check, and the plan if all were passed.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) checks: Vec<Check>,
    pub(super) plan: Option<Plan>,
    /// How a tool is told of what is done, if it was asked for.
    pub(super) write_back: Option<WriteBack>,
    /// Whether a file cannot be used, which is a mistake in the call, not in the database.
    pub(super) unusable_files: bool,
}

/// The check that stands alone when there is no connection.
pub(super) fn not_connectable(error: &dyn std::error::Error) -> Check {
    Check::failed("connectable", chain(error))
}

/// The check that the migration lock could be taken.
pub(super) fn lock(result: Result<(), &dyn std::error::Error>) -> Check {
    match result {
        Ok(()) => Check::passed("lock", "no other migration runs in this database"),
        Err(error) => Check::failed("lock", chain(error)),
    }
}

/// Makes every check. Changes nothing.
pub(super) async fn examine(ledger: &Ledger, subject: &Subject<'_>) -> Findings {
    let session = ledger.session();
    let mut checks = vec![
        connectable::check(session).await,
        privileges::check(session, subject.owner).await,
        long_transactions::check(session, subject).await,
    ];
    let learnt = async {
        let rows = ledger.rows().await?;
        let learnt = adopt::learn(session, subject.reading, subject.history, rows).await?;
        Ok::<_, LedgerError>(learnt)
    };
    let mut write_back = None;
    let (plan, problems) = match learnt.await {
        Ok((set, mut known)) => {
            checks.push(history::check(session, subject, &mut known).await);
            write_back = known
                .table
                .take()
                .filter(|_| subject.write_back)
                .map(|table| WriteBack {
                    table,
                    versions: set.iter().map(|it| it.version.clone()).collect(),
                });
            examine_history(subject, set, &known, &mut checks)
        }
        Err(error) => {
            let unknown = ["history", "files", "checksums", "dirty", "pending"];
            checks.extend(unknown.map(|it| Check::unknown(it, &error)));
            (None, Vec::new())
        }
    };
    let passed = checks.iter().all(Check::is_passed);
    Findings {
        checks,
        plan: plan.filter(|_| passed),
        write_back,
        unusable_files: files::concern(&problems),
    }
}

fn examine_history(
    subject: &Subject<'_>,
    set: &MigrationSet,
    known: &Known,
    checks: &mut Vec<Check>,
) -> (Option<Plan>, Vec<Problem>) {
    let result = plan::build(set, &known.rows, subject.wish);
    let (plan, problems) = match result {
        Ok(plan) => (Some(plan), Vec::new()),
        Err(problems) => (None, problems),
    };
    checks.extend([
        files::check(&problems),
        checksums::check(&problems, plan.as_ref()),
        dirty::check(&problems),
        pending::check(&problems, plan.as_ref()),
    ]);
    (plan, problems)
}

/// Runs a query of a check that is answered by one row.
async fn ask(session: &Session, sql: &str) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
    session.client.query_one(sql, &[]).await
}
