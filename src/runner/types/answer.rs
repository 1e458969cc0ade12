//! What the runner answers: where files and runs stand, progress, exit codes.

use serde::{Deserialize, Serialize};

use super::request::Direction;
use crate::runner::aftermath::WatchView;
use crate::runner::history::RowState;
use crate::runner::report::Report;
use crate::runner::source::Version;
use crate::runner::watcher::Now;

/// Where each file stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// In the database, oldest first.
    pub applied: Vec<FileStatus>,
    /// Would be applied by `up`, oldest first.
    pub pending: Vec<FileStatus>,
    /// Applied, but the file is another one now or is missing.
    pub changed: Vec<FileStatus>,
    /// Stopped part-way, or still running.
    pub dirty: Vec<FileStatus>,
    /// What the history of another tool has against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The run that goes on, and what its watcher sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The last watch after a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<WatchView>,
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The run.
    pub id: String,
    /// Where it stands.
    pub state: RunState,
    /// How things are, while files run and somebody watches.
    pub watch: Option<Now>,
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
    pub(in crate::runner) fn pending(version: &Version, file: &str) -> Self {
        Self {
            version: version.clone(),
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
    /// Waiting for its time; nothing is locked, held or changed.
    Waiting,
    /// Connecting, locking, checking; nothing has been changed.
    Preflight,
    /// The database is backed up; applications work.
    Backup,
    /// Transactions no longer start.
    Holding,
    /// Waiting for those that run.
    Draining,
    /// Files run.
    Applying,
    /// Traffic is let in again.
    Reopening,
    /// Files run where nobody minds: in a rehearsal.
    Rehearsing,
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
            Self::Waiting
            | Self::Preflight
            | Self::Backup
            | Self::Holding
            | Self::Draining
            | Self::Applying
            | Self::Reopening
            | Self::Rehearsing => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dirty | Self::Unknown => true,
        }
    }

    /// The word used in JSON and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preflight => "preflight",
            Self::Backup => "backup",
            Self::Holding => "holding",
            Self::Draining => "draining",
            Self::Applying => "applying",
            Self::Reopening => "reopening",
            Self::Rehearsing => "rehearsing",
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
    /// 3: what was looked at afterwards is not as it should be, a hook in the window failed, the run did
    /// not keep to what is asked of it, or a rehearsal found something.
    Postflight,
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
            Self::Postflight => 3,
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
    /// A statement ended well; `data` holds `file`, `statement`, `of`, `line`, `elapsed_ms`,
    /// `fingerprint`.
    Statement,
    /// A batch of a file ended well; `data` holds `file`, `batches`, `rows`, `rows_per_s`,
    /// `percent`, `eta_ms` (the last two if they are known). At most one a second.
    Batch,
    /// What the watcher sees of a file that runs; `data` is as `watch` of the run. At most one in two
    /// seconds, in twenty after the first minute of a file; two a second while ever more are blocked.
    Watch,
    /// The migration says how far it is (`pgdrain.progress`); `data` holds `phase`, `step`, `percent`.
    Progress,
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
    /// How things are now, while files run and somebody watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Now>,
    /// The watch after it, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<WatchView>,
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
