//! What preflight says when it is asked for itself.

use serde::{Deserialize, Serialize};

use super::{Check, CheckOutcome, Findings};
use crate::runner::report::Report;
use crate::runner::types::{Direction, Exit};

/// Answer of `POST /v1/databases/{db}/migrations/preflight`, and the content of
/// `preflight-report-<timestamp>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightReport {
    /// The database.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// When everything had been looked at.
    pub at: jiff::Timestamp,
    /// The version of pgdrain that looked.
    pub pgdrain: String,
    /// Whether every check was passed.
    pub passed: bool,
    /// The same for a shell: 0, 1 when a check was not passed, 5 when the files cannot be used.
    pub exit_code: u8,
    /// The files that would run.
    pub files: Vec<String>,
    /// Every check.
    pub checks: Vec<Check>,
}

impl PreflightReport {
    pub(in crate::runner) fn new(database: &str, direction: Direction, found: Findings) -> Self {
        let passed = found.not_passed().is_empty();
        let exit = match (passed, found.unusable_files) {
            (true, _) => Exit::Success,
            (false, true) => Exit::Usage,
            (false, false) => Exit::Preflight,
        };
        let steps = found.plan.iter().flat_map(|it| &it.steps);
        Self {
            database: database.to_owned(),
            direction,
            at: jiff::Timestamp::now(),
            pgdrain: env!("CARGO_PKG_VERSION").to_owned(),
            passed,
            exit_code: exit.code(),
            files: steps.map(|it| it.file.clone()).collect(),
            checks: found.checks,
        }
    }

    /// What a run's own preflight has found.
    pub(in crate::runner) fn of_run(report: &Report) -> Self {
        let passed = report.checks.iter().all(Check::is_passed);
        let exit = match passed {
            true => Exit::Success,
            false => Exit::Preflight,
        };
        Self {
            database: report.database.clone(),
            direction: report.direction,
            at: report.finished_at,
            pgdrain: env!("CARGO_PKG_VERSION").to_owned(),
            passed,
            exit_code: exit.code(),
            files: report.files.iter().map(|it| it.file.clone()).collect(),
            checks: report.checks.clone(),
        }
    }

    /// How many checks came out like this.
    pub fn count(&self, outcome: CheckOutcome) -> usize {
        let like_this = self.checks.iter().filter(|it| it.outcome == outcome);
        like_this.count()
    }
}
