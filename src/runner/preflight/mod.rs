//! What is looked at before anything is held or changed: a file for each check.
//!
//! All checks are made and all are reported, so that one look shows everything that stands in the
//! way. A check that could not be made has not been passed.

mod archiver;
mod autovacuum;
mod backup;
mod backups;
mod blocking_locks;
mod checksums;
mod commands;
mod connectable;
mod connections;
mod constraints;
mod dirty;
mod disk;
mod drift;
mod extensions;
mod files;
mod free;
mod ground;
mod history;
mod idle_in_transaction;
mod indexes;
mod long_transactions;
mod monitoring;
mod orphans;
mod owners;
mod ownership;
mod page;
mod pending;
mod prepared_transactions;
mod privileges;
mod relations;
mod replication;
mod report;
mod required;
mod slots;
mod surroundings;
mod version;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(in crate::runner) use page::escape;
pub use page::page;
pub use report::PreflightReport;

use super::adopt::entry::WriteBack;
use super::adopt::{self, Known};
use super::connect::{Connector, Session};
use super::history::{Ledger, LedgerError};
use super::plan::{self, Plan, Problem, Wish};
use super::report::chain;
use super::source::{MigrationSet, Reading};
use crate::config::{Backup, Preflight};

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
    /// What to do about it; none when it was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
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

impl CheckOutcome {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
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
            hint: None,
        }
    }

    /// Passed, since there is nothing here that it could be about.
    pub(super) fn does_not_apply(name: &str, why: impl std::fmt::Display) -> Self {
        Self::passed(name, format!("does not apply: {why}"))
    }

    /// It cannot be found out, for this reason.
    pub(super) fn not_known(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, CheckOutcome::Unknown, why)
    }

    /// What to do if it was not passed.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        if !self.is_passed() && self.hint.is_none() {
            self.hint = Some(hint.to_owned());
        }
        self
    }

    pub(super) fn with(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
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
    pub(super) fn of(name: &str, wrong: Vec<String>, well: impl Into<String>) -> Self {
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
    /// What is asked for.
    pub(super) limits: &'a Preflight,
    /// Makes the session that looks at what files touch.
    pub(super) connector: &'a Arc<Connector>,
    pub(super) database: &'a str,
    /// How backups are made, and whether the run makes one.
    pub(super) backup: &'a Backup,
    pub(super) makes_backup: bool,
    /// Whether everything is looked at although nothing may be to be done.
    pub(super) whole: bool,
}

/// What preflight found: every check, and the plan if there can be one.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) checks: Vec<Check>,
    pub(super) plan: Option<Plan>,
    /// How a tool is told of what is done, if it was asked for.
    pub(super) write_back: Option<WriteBack>,
    /// Whether a file cannot be used, which is a mistake in the call, not in the database.
    pub(super) unusable_files: bool,
}

/// Without these there is nothing that could be forced.
const NEVER_FORCED: [&str; 3] = ["connectable", "lock", "history"];

impl Findings {
    /// The names of the checks that were not passed.
    pub(super) fn not_passed(&self) -> Vec<String> {
        let not_passed = self.checks.iter().filter(|it| !it.is_passed());
        not_passed.map(|it| it.name.clone()).collect()
    }

    /// Whether a run may go on against what was found, if somebody takes that upon himself. Never
    /// without a plan: what is dirty or has changed is repaired, not forced.
    pub(super) fn may_be_forced(&self) -> bool {
        let barred = |it: &String| NEVER_FORCED.contains(&it.as_str());
        self.plan.is_some() && !self.not_passed().iter().any(barred)
    }
}

/// The check that stands alone when there is no connection.
pub(super) fn not_connectable(error: &dyn std::error::Error) -> Check {
    Check::failed("connectable", chain(error))
        .hint("look at the server, its address (upstream.url) and the role (migrate.user)")
}

/// The check that the migration lock could be taken.
pub(super) fn lock(result: Result<(), &dyn std::error::Error>) -> Check {
    match result {
        Ok(()) => Check::passed("lock", "no other migration runs in this database"),
        Err(error) => Check::failed("lock", chain(error)).hint(LOCK_HINT),
    }
}

const LOCK_HINT: &str = "wait for the other migration (`pgdrain migrate attach`), or cancel it";

/// The same, without taking it.
pub(super) async fn lock_seen(session: &Session) -> Check {
    match super::lock::taken(session).await {
        Ok(None) => lock(Ok(())),
        Ok(Some(holder)) => Check::failed(
            "lock",
            format!("another migration holds the lock: {holder}"),
        )
        .hint(LOCK_HINT),
        Err(error) => Check::unknown("lock", &error),
    }
}

/// Connects, and makes every check. Changes nothing, and takes no lock of ours.
pub(super) async fn look(subject: &Subject<'_>) -> Findings {
    let ledger = match Ledger::open(subject.connector, subject.database).await {
        Ok(ledger) => ledger,
        Err(error) => {
            return Findings {
                checks: vec![not_connectable(&error)],
                plan: None,
                write_back: None,
                unusable_files: false,
            };
        }
    };
    let lock = lock_seen(ledger.session()).await;
    let mut found = examine(&ledger, subject).await;
    found.checks.insert(0, lock);
    ledger.close().await;
    found
}

/// Makes every check. Changes nothing.
pub(super) async fn examine(ledger: &Ledger, subject: &Subject<'_>) -> Findings {
    let session = ledger.session();
    let mut checks = vec![
        connectable::check(session).await,
        privileges::check(session, subject.owner).await,
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
    let something = plan.as_ref().is_some_and(|it| !it.steps.is_empty());
    if something || subject.whole {
        checks.extend(surroundings::examine(session, subject, plan.as_ref()).await);
    }
    Findings {
        checks,
        plan,
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

/// Whether files themselves stand in the way: a mistake in the call, not in the database.
pub(super) fn unusable(problems: &[Problem]) -> bool {
    files::concern(problems)
}

/// Runs a query of a check that is answered by one row.
async fn ask(session: &Session, sql: &str) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
    session.client.query_one(sql, &[]).await
}
