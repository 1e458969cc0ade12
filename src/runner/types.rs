//! What goes in and out of the runner: the JSON of the admin interface, and exit codes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::history::RowState;
use super::report::Report;
use super::source::{PostedFile, Version};

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

/// What traffic the files of a run may meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficMode {
    /// Decided for each file: open if it only holds CONCURRENTLY statements.
    #[default]
    Auto,
    /// Every file runs while applications work.
    Open,
    /// Every file runs in an exclusive window.
    Exclusive,
}

impl TrafficMode {
    /// The word used in JSON and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Open => "open",
            Self::Exclusive => "exclusive",
        }
    }
}

/// What traffic one file meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepTraffic {
    /// Applications work on.
    Open,
    /// Nobody else is in the database.
    Exclusive,
}

/// A duration written as people do: `5m`, `1h 30m`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|error| de::Error::custom(format!("{text:?} is no duration: {error}")))
    }
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
    /// What traffic the files may meet.
    #[serde(default)]
    pub traffic: TrafficMode,
    /// How long a window may last; when it ends the running file is cancelled.
    #[serde(default, rename = "for")]
    pub window: Option<Span>,
    /// How running transactions are ended; handed to the window as it is.
    #[serde(default)]
    pub ladder: Option<String>,
    /// How long the drain waits for transactions.
    #[serde(default)]
    pub wait: Option<Span>,
    /// How long the drain waits after cancelling statements.
    #[serde(default)]
    pub cancel: Option<Span>,
    /// How long the drain waits after terminating sessions.
    #[serde(default)]
    pub terminate: Option<Span>,
    /// How long a statement waits for each lock; not applied to CONCURRENTLY statements.
    #[serde(default)]
    pub lock_timeout: Option<Span>,
    /// How long a statement may run.
    #[serde(default)]
    pub statement_timeout: Option<Span>,
    /// Why, for logs and for those who wait.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

/// The longest timeout that Postgres takes: 24 days.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl MigrationRequest {
    /// What the shape of the JSON does not tell; every fault found.
    pub(super) fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if self.steps == Some(0) {
            faults.push("steps must be at least 1".to_owned());
        }
        if self.window.is_some_and(|it| it.0.is_zero()) {
            faults.push("for must be longer than nothing".to_owned());
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

    /// How running transactions are ended, as the window is told: the keys that were given.
    pub(super) fn drain(&self) -> serde_json::Value {
        let mut drain = serde_json::Map::new();
        if let Some(ladder) = &self.ladder {
            drain.insert("ladder".to_owned(), ladder.as_str().into());
        }
        for (key, span) in [
            ("wait", self.wait),
            ("cancel", self.cancel),
            ("terminate", self.terminate),
        ] {
            if let Some(Span(span)) = span {
                let text = humantime::format_duration(span).to_string();
                drain.insert(key.to_owned(), text.into());
            }
        }
        drain.into()
    }
}

/// Body of `POST /v1/databases/{db}/migrations/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// Every file of the directory.
    pub files: Vec<PostedFile>,
}

/// Where each file stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// In the database, oldest first.
    pub applied: Vec<FileStatus>,
    /// Would be applied by `up`, oldest first.
    pub pending: Vec<FileStatus>,
    /// Applied, but the file is another one now or is missing.
    pub changed: Vec<FileStatus>,
    /// Stopped part-way, or still running.
    pub dirty: Vec<FileStatus>,
}

/// Where one file stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// The migration's version.
    pub version: Version,
    /// The up file's name.
    pub file: String,
    /// What the history says; none if it says nothing.
    pub state: Option<RowState>,
    /// When it last ended, RFC 3339 in UTC.
    pub at: Option<String>,
    /// What there is to say about it.
    pub detail: Option<String>,
}

impl FileStatus {
    pub(super) fn pending(version: Version, file: &str) -> Self {
        Self {
            version,
            file: file.to_owned(),
            state: None,
            at: None,
            detail: None,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Connecting, locking, checking; nothing has been changed.
    Preflight,
    /// Transactions no longer start.
    Holding,
    /// Waiting for those that run.
    Draining,
    /// Files run.
    Applying,
    /// Traffic is let in again.
    Reopening,
    /// Done: every file is applied or reverted.
    Succeeded,
    /// Not done, and nothing is left half-way: what failed was rolled back.
    Failed,
    /// Stopped on request, and nothing is left half-way.
    Cancelled,
    /// A file stopped part-way and could not be rolled back.
    Dirty,
    /// How the last file ended could not be found out (the database does not answer).
    Unknown,
}

impl RunState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        match self {
            Self::Preflight | Self::Holding | Self::Draining | Self::Applying | Self::Reopening => {
                false
            }
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dirty | Self::Unknown => true,
        }
    }

    /// The word used in JSON and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Holding => "holding",
            Self::Draining => "draining",
            Self::Applying => "applying",
            Self::Reopening => "reopening",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dirty => "dirty",
            Self::Unknown => "unknown",
        }
    }
}

/// How a run ends for a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or nothing to do.
    Success,
    /// 1: a preflight check failed; nothing was changed.
    Preflight,
    /// 2: a migration failed.
    Migration,
    /// 4: a down file failed.
    Rollback,
    /// 5: the files cannot be used.
    Usage,
    /// 6: the window was not granted.
    NotGranted,
}

impl Exit {
    /// A failed down file is a failed rollback.
    pub fn of_failure(direction: Direction) -> Self {
        match direction {
            Direction::Up => Self::Migration,
            Direction::Down => Self::Rollback,
        }
    }

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Preflight => 1,
            Self::Migration => 2,
            Self::Rollback => 4,
            Self::Usage => 5,
            Self::NotGranted => 6,
        }
    }
}

/// One line of a run's progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the run, from 1, without gaps.
    pub seq: u64,
    /// When it happened.
    pub at: jiff::Timestamp,
    /// What kind of thing happened.
    pub kind: EventKind,
    /// A sentence for people.
    pub text: String,
    /// The same for programs; absent when the text says it all.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// The kinds of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The run's state changed; `data.state` is the new one.
    State,
    /// A preflight check; `data` is the check.
    Check,
    /// A file begins; `data` holds `file`, `statements`, `index`, `of`.
    FileStarted,
    /// A statement ended well; `data` holds `file`, `statement`, `of`, `line`, `elapsed_ms`.
    Statement,
    /// A file ended well.
    FileDone,
    /// A file failed; `data` is the failure.
    Failure,
    /// A notice or warning of the server.
    Notice,
    /// Anything else worth knowing.
    Note,
}

/// Answer of `GET /v1/migrations/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunView {
    /// The run.
    pub id: String,
    /// The database it runs in.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// Where it stands.
    pub state: RunState,
    /// Set once the run is over.
    pub exit_code: Option<u8>,
    /// Progress behind the sequence number asked for; the oldest may have been dropped.
    pub events: Vec<Event>,
    /// Set once the run is over.
    pub report: Option<Report>,
}

/// An element of `GET /v1/databases/{db}/migrations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub id: String,
    /// The database it runs in.
    pub database: String,
    /// Towards newer or older versions.
    pub direction: Direction,
    /// Where it stands.
    pub state: RunState,
    /// When it began.
    pub started_at: jiff::Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Set once the run is over.
    pub exit_code: Option<u8>,
}
