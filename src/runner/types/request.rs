//! What is asked of the runner.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{AskedLadder, Bypass, HumanDuration, Preset, Scope, words};
use crate::runner::aftermath;
use crate::runner::source::{Format, PostedFile};
use crate::runner::timing::When;

/// Towards newer or older versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Up files are run.
    Up,
    /// Down files are run.
    Down,
}

impl Direction {
    /// The word used in JSON and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

words! {
    /// What traffic the files of a run may meet.
    #[derive(Default)]
    TrafficMode {
        /// Decided for each file: as it says itself, else open if it only holds CONCURRENTLY
        /// statements, else exclusive.
        #[default]
        Auto = "auto",
        /// Every file runs while applications work.
        Open = "open",
        /// Every file runs while applications read, and wait with what they write.
        ReadOnly = "read_only",
        /// Every file runs in an exclusive window.
        Exclusive = "exclusive",
    }
}

/// What traffic one file meets; the later the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepTraffic {
    /// Applications work on.
    Open,
    /// Applications read.
    ReadOnly,
    /// Nobody else is in the database.
    Exclusive,
}

/// Body of `POST /v1/databases/{db}/migrations`. Unknown keys are refused: a misspelt
/// `lock_timeout` must not silently mean the default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// Towards newer or older versions.
    pub direction: Direction,
    /// How many migrations at most; none is all of them up, one of them down.
    #[serde(default)]
    pub steps: Option<u32>,
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history, as `schema.table`; looked for if
    /// it is not said.
    #[serde(default)]
    pub history: Option<String>,
    /// Whether the format's own tool is told, in its table, of what is applied and reverted.
    #[serde(default)]
    pub write_back: bool,
    /// Whether the database is backed up first; if it is not said, it is where a directory for
    /// backups is configured.
    #[serde(default)]
    pub backup: Option<bool>,
    /// What traffic the files may meet.
    #[serde(default)]
    pub traffic: TrafficMode,
    /// How long a window may last; when it ends the running file is cancelled.
    #[serde(default, rename = "for")]
    pub window: Option<HumanDuration>,
    /// How running transactions are ended.
    #[serde(default)]
    pub ladder: Option<Preset>,
    /// For how long at most only transaction blocks are kept from starting, before all are.
    #[serde(default)]
    pub autocommit: Option<HumanDuration>,
    /// How long the drain waits for transactions.
    #[serde(default)]
    pub wait: Option<HumanDuration>,
    /// How long the drain waits after cancelling statements.
    #[serde(default)]
    pub cancel: Option<HumanDuration>,
    /// How long it waits after it freed conversations that are stuck.
    #[serde(default)]
    pub stuck: Option<HumanDuration>,
    /// How long the drain waits after aborting idle transactions in place.
    #[serde(default)]
    pub abort: Option<HumanDuration>,
    /// How long the drain waits after terminating sessions.
    #[serde(default)]
    pub terminate: Option<HumanDuration>,
    /// What is done about sessions that did not come through the proxy while a window lasts.
    #[serde(default)]
    pub bypass: Option<Bypass>,
    /// Whether the server keeps new sessions out of the database while a window lasts.
    #[serde(default)]
    pub fence: Option<bool>,
    /// How long a statement waits for each lock; not applied to CONCURRENTLY statements.
    #[serde(default)]
    pub lock_timeout: Option<HumanDuration>,
    /// How long a statement may run; `0s` is without limit.
    #[serde(default)]
    pub statement_timeout: Option<HumanDuration>,
    /// Whether it goes on although a check of preflight was not passed; needs a `reason`, which is
    /// recorded. Files, history and the lock cannot be forced.
    #[serde(default)]
    pub force: bool,
    /// When it begins; at once if it is not said.
    #[serde(default)]
    pub when: Option<When>,
    /// Who would lead the database back.
    #[serde(default)]
    pub rollback_by: Option<String>,
    /// Why, for logs and for those who wait.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
    /// For how long figures are held against `migrate.triggers` after it; not at all if it is not said.
    #[serde(default)]
    pub watch: Option<HumanDuration>,
    /// How long statements are measured before it, to be compared with the time after; as configured if it is
    /// not said.
    #[serde(default)]
    pub measure: Option<HumanDuration>,
    /// Whose new connections are let in before everybody's; as configured if it is not said.
    #[serde(default)]
    pub canary: Option<Scope>,
    /// Whether the run goes back by its down files, in the same window, if postflight is not passed.
    #[serde(default)]
    pub down_on_failure: bool,
    /// Whether the tables that files touch are analyzed first; they are if it is configured, too.
    #[serde(default)]
    pub analyze_first: bool,
    /// Whether the tables that the files touch are copied within the database just before them, also where that is
    /// not configured.
    #[serde(default)]
    pub copy_tables: bool,
}

/// The longest timeout that Postgres takes: 24 days.
pub(in crate::runner) const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl MigrationRequest {
    /// What the shape of the JSON does not tell; every fault found.
    pub(in crate::runner) fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if self.steps == Some(0) {
            faults.push("steps must be at least 1".to_owned());
        }
        if self.window.is_some_and(|it| it.0.is_zero()) {
            faults.push("for must be longer than nothing".to_owned());
        }
        if let Some(Err(why)) = self
            .when
            .as_ref()
            .map(|it| it.course(jiff::Timestamp::now()))
        {
            faults.push(why);
        }
        if self
            .watch
            .is_some_and(|it| it.0.is_zero() || it.0 > aftermath::LONGEST)
        {
            faults.push("watch must be longer than nothing, and at most 48h".to_owned());
        }
        if self.measure.is_some_and(|it| it.0 > aftermath::LONGEST) {
            faults.push("measure must be at most 48h".to_owned());
        }
        if self.canary.as_ref().is_some_and(Scope::is_whole) {
            faults.push("canary names nobody".to_owned());
        }
        let reason = self.reason.as_deref().map(str::trim).unwrap_or_default();
        if self.force && reason.is_empty() {
            faults.push("force needs a reason".to_owned());
        }
        // Zero would be without end for Postgres: DDL would wait for a lock and everybody for it.
        if self
            .lock_timeout
            .is_some_and(|it| it.0 < Duration::from_millis(1))
        {
            faults.push("lock_timeout must be at least 1ms".to_owned());
        }
        for (name, span) in [
            ("lock_timeout", self.lock_timeout),
            ("statement_timeout", self.statement_timeout),
        ] {
            if span.is_some_and(|it| it.0 > TIMEOUT_MAX) {
                faults.push(format!("{name} must be at most 24 days"));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// How running transactions are ended, as far as the request says.
    pub(in crate::runner) fn drain(&self) -> AskedLadder {
        AskedLadder {
            preset: self.ladder,
            autocommit: self.autocommit,
            wait: self.wait,
            cancel: self.cancel,
            stuck: self.stuck,
            abort: self.abort,
            terminate: self.terminate,
        }
    }
}

/// Body of `POST /v1/databases/{db}/migrations/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history, as `schema.table`; looked for if
    /// it is not said.
    #[serde(default)]
    pub history: Option<String>,
}

/// Body of `POST /v1/databases/{db}/migrations/plan` and `.../lint`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Towards newer or older versions.
    #[serde(default = "up")]
    pub direction: Direction,
    /// How many migrations at most; none is all of them up, one of them down.
    #[serde(default)]
    pub steps: Option<u32>,
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history, as `schema.table`.
    #[serde(default)]
    pub history: Option<String>,
    /// What traffic the files may meet.
    #[serde(default)]
    pub traffic: TrafficMode,
}

fn up() -> Direction {
    Direction::Up
}
