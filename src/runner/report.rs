//! What is said about a run once it is over, and about what failed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::aftermath::baseline::Baseline;
use super::aftermath::catalog::{CatalogComparison, Snapshot};
use super::aftermath::compare::Comparison;
use super::aftermath::plans::PlanComparison;
use super::approvals::{Approval, Decision};
use super::backup::{Made, RestorePoint};
use super::gonogo::GoNoGo;
use super::plan::Step;
use super::postflight::PostflightReport;
use super::preflight::Check;
use super::record::Run;
use super::rehearse::{Rehearsal, RlsCost};
use super::script::TxMode;
use super::source::Version;
use super::split::Statement;
use super::traffic::Felt;
use super::types::{Direction, Exit, MigrationRequest, RunState, StepTraffic, TrafficMode};
use super::watcher::{Breach, Watched};
use crate::config::{HookPhase, Scope};

/// The report of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    pub id: String,
    /// The database it ran in.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// What traffic its files might meet.
    pub traffic: TrafficMode,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: jiff::Timestamp,
    /// When it was over.
    pub finished_at: jiff::Timestamp,
    /// Time between the two, in milliseconds.
    pub elapsed_ms: u64,
    /// How it ended.
    pub state: RunState,
    /// The same for a shell.
    pub exit_code: u8,
    /// Every preflight check.
    pub checks: Vec<Check>,
    /// The checks that were not passed and against which the run was forced, for the `reason` above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<String>,
    /// The backup that was made before; none where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Made>,
    /// Where recovery to a point in time can stop: just before the first file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_point: Option<RestorePoint>,
    /// Every file that was begun.
    pub files: Vec<FileReport>,
    /// Every window that was granted.
    pub windows: Vec<WindowReport>,
    /// Every hook that ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    /// The approvals of its plan that held when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Who would have led back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_by: Option<String>,
    /// What was decided about it afterwards, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What went wrong first.
    pub failure: Option<Failure>,
    /// Why traffic stays held; none when it was let in again.
    pub held: Option<String>,
    /// What a rehearsal found; none for a run in earnest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// The limits of `[migrate.thresholds]` that it did not keep to: exit code 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Breach>,
    /// How the database was before the first file, for the watch that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// What clients felt while files ran, against how it was before; none where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// How the touched tables and the database were used before, and are behind the files; none where they
    /// were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogComparison>,
    /// The server's counters at its end, with which a watch begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_after: Option<Snapshot>,
    /// How statements were planned before, and are behind the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<PlanComparison>,
    /// By how many percent clients' statements took longer behind the files, if a threshold asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degradation_percent: Option<f64>,
    /// What row-level security costs behind the files, if a threshold asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rls: Vec<RlsCost>,
    /// What came of the canary, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryReport>,
    /// The SHA-256 of the schema that its first file found, without pgdrain's own; none if no file was
    /// begun or it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_before: Option<String>,
    /// The same of the schema that it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp_after: Option<String>,
    /// The go/no-go list as it stood when it began, where `[migrate.approvals] gate` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gonogo: Option<GoNoGo>,
    /// What was looked at when its files were applied; none if it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postflight: Option<PostflightReport>,
    /// Whether it has taken back by itself what it had applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_back: bool,
}

/// What came of a canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// Who was let in; none where only the command was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it lasted.
    pub lasted_ms: u64,
}

impl Report {
    /// What is said if nothing better comes: the run's task ended before it could report.
    pub(super) fn unexpected(run: &Run, request: &MigrationRequest) -> Self {
        Self {
            rollback_by: request.rollback_by.clone(),
            ..Self::blank(run, request.traffic, request.reason.clone())
        }
    }

    /// The same for whatever is followed as a run is.
    pub(super) fn blank(run: &Run, traffic: TrafficMode, reason: Option<String>) -> Self {
        Self {
            id: run.id.clone(),
            database: run.database.clone(),
            direction: run.direction,
            traffic,
            by: run.by.clone(),
            reason,
            started_at: run.started_at,
            finished_at: run.started_at,
            elapsed_ms: 0,
            state: RunState::Unknown,
            exit_code: Exit::of_failure(run.direction).code(),
            checks: Vec::new(),
            forced: Vec::new(),
            backup: None,
            restore_point: None,
            files: Vec::new(),
            windows: Vec::new(),
            hooks: Vec::new(),
            approvals: Vec::new(),
            rollback_by: None,
            decision: None,
            failure: Some(Failure::new(
                "the run ended unexpectedly, by a fault of pgdrain",
            )),
            held: None,
            rehearsal: None,
            breaches: Vec::new(),
            baseline: None,
            comparison: None,
            catalog: None,
            catalog_after: None,
            plans: None,
            degradation_percent: None,
            rls: Vec::new(),
            canary: None,
            fp_before: None,
            fp_after: None,
            gonogo: None,
            postflight: None,
            taken_back: false,
        }
    }
}

#[cfg(test)]
impl Report {
    /// A report of a run that has done nothing.
    pub(super) fn for_test(run: &Run) -> Self {
        let request = serde_json::from_value(serde_json::json!({"direction": "up", "files": []}));
        Self::unexpected(run, &request.expect("a request"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rehearsal) = &self.rehearsal {
            return match &self.failure {
                Some(failure) if rehearsal.findings.is_empty() => {
                    write!(f, "{rehearsal}\n{}: {failure}", self.state.as_str())
                }
                Some(_) | None => rehearsal.fmt(f),
            };
        }
        match (&self.failure, self.state) {
            (_, RunState::Succeeded) if self.files.is_empty() => f.write_str("nothing to do"),
            (_, RunState::Succeeded) if self.files.len() == 1 => write!(f, "done: one file"),
            (_, RunState::Succeeded) => write!(f, "done: {} files", self.files.len()),
            (Some(failure), state) => write!(f, "{}: {failure}", state.as_str()),
            (None, state) => write!(f, "{}: see the checks", state.as_str()),
        }?;
        if self.taken_back {
            f.write_str("; what had been applied is taken back")?;
        }
        match self.breaches.len() {
            0 => Ok(()),
            1 => f.write_str(", but a threshold was not kept"),
            many => write!(f, ", but {many} thresholds were not kept"),
        }
    }
}

/// How one file ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    /// The migration's version.
    pub version: Version,
    /// The file that was run.
    pub file: String,
    /// How it met transactions.
    pub mode: TxMode,
    /// What traffic it met.
    pub traffic: StepTraffic,
    /// How it ended.
    pub outcome: FileOutcome,
    /// How many statements it holds.
    pub statements: usize,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What its batches did; none for a file that runs whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchReport>,
    /// What its watcher saw; none if it ended before anybody looked, or nobody could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watched>,
}

/// What the batches of a file did, those of earlier runs included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// Batches that are committed.
    pub batches: i64,
    /// Rows that they changed.
    pub rows: i64,
    /// Rows that were to be done before the first; none if the file does not say which these are.
    pub before: Option<i64>,
    /// Rows that are still to be done; none as well if the file did not come to its end.
    pub left: Option<i64>,
}

/// The ends a file can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOutcome {
    /// An up file ended well.
    Applied,
    /// A down file ended well.
    Reverted,
    /// Nothing of it is in the database.
    RolledBack,
    /// It stopped between two batches, and the next run goes on from there.
    Begun,
    /// Part of it is in the database.
    Dirty,
    /// It could not be found out.
    Unknown,
}

/// One exclusive window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowReport {
    /// The window.
    pub id: String,
    /// How long holding and draining took, in milliseconds.
    pub granted_after_ms: u64,
    /// How long it was exclusive, in milliseconds.
    pub lasted_ms: u64,
    /// What the drain has to say.
    pub drain: serde_json::Value,
    /// What clients felt of it, as of its end; none if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub felt: Option<Felt>,
}

/// A command of the operator that the run has waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// When it ran.
    pub phase: HookPhase,
    /// What it is called.
    pub name: String,
    /// How it failed; none if it ended well.
    pub failure: Option<String>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// What went wrong, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The file.
    pub file: Option<String>,
    /// The statement in it, from 1; none when it was not a statement of the file.
    pub statement: Option<u32>,
    /// How many statements the file holds.
    pub of: Option<u32>,
    /// The line in the file, from 1: of the error if the server named a position, else of the
    /// statement.
    pub line: Option<u32>,
    /// The column in the line, in characters from 1; only if the server named a position.
    pub column: Option<u32>,
    /// The server's SQLSTATE.
    pub sqlstate: Option<String>,
    /// What happened.
    pub message: String,
    /// The server's detail.
    pub detail: Option<String>,
    /// The server's hint, or ours.
    pub hint: Option<String>,
    /// The server's context: the lines of a function's call stack.
    pub context: Option<String>,
}

impl Failure {
    /// A failure that is not a statement's.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    /// What the server said to a command of the runner's own.
    pub fn from_error(error: &tokio_postgres::Error) -> Self {
        let Some(error) = error.as_db_error() else {
            return Self::new(chain(error));
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            sqlstate: Some(error.code().code().to_owned()),
            detail: owned(error.detail()),
            hint: owned(error.hint()),
            context: owned(error.where_()),
            ..Self::new(error.message())
        }
    }

    /// What the server said to a statement of a file.
    pub fn of_statement(
        step: &Step,
        index: usize,
        statement: &Statement,
        error: &tokio_postgres::Error,
    ) -> Self {
        let place = position(error).map(|position| step.script.locate(statement, position));
        Self {
            line: Some(place.map_or(statement.line, |(line, _)| line)),
            column: place.map(|(_, column)| column),
            ..Self::from_error(error).at_statement(step, index, statement)
        }
    }

    /// Names the statement at which it happened.
    pub fn at_statement(self, step: &Step, index: usize, statement: &Statement) -> Self {
        Self {
            statement: u32::try_from(index + 1).ok(),
            line: Some(statement.line),
            ..self.in_file(step)
        }
    }

    /// Names the file in which it happened.
    pub fn in_file(self, step: &Step) -> Self {
        Self {
            file: Some(step.file.clone()),
            of: u32::try_from(step.script.statements().len()).ok(),
            ..self
        }
    }

    /// Adds advice to the server's.
    pub fn with_hint(self, hint: impl fmt::Display) -> Self {
        let hint = match self.hint {
            Some(server) => format!("{server} {hint}"),
            None => hint.to_string(),
        };
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    /// `002_x.up.sql, statement 2 of 3, line 7, column 12: ERROR 42703: column "a" does not exist`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let (Some(statement), Some(of)) = (self.statement, self.of) {
                write!(f, ", statement {statement} of {of}")?;
            }
            if let Some(line) = self.line {
                write!(f, ", line {line}")?;
            }
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, "ERROR {sqlstate}: ")?;
        }
        f.write_str(&self.message)?;
        for (name, text) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, " ({name}: {text})")?;
            }
        }
        Ok(())
    }
}

/// The character of the statement that was sent, from 1, at which the server found a fault.
pub(super) fn position(error: &tokio_postgres::Error) -> Option<u32> {
    let found = error.as_db_error()?.position()?;
    match found {
        tokio_postgres::error::ErrorPosition::Original(position) => Some(*position),
        // A position in a query that a function made up: the context says where.
        tokio_postgres::error::ErrorPosition::Internal { .. } => None,
    }
}

/// An error's message with its causes, for people.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Several libraries repeat the cause in their own message.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
