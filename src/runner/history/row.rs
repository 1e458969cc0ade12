//! A row of the history: what the database knows about one migration.

use serde::{Deserialize, Serialize};

use crate::runner::script::TxMode;
use crate::runner::source::{Checksums, Format, Version};
use crate::runner::types::Direction;

/// Where a migration stands, as kept in `pgdrain.migration`.
///
/// ```text
///            up                      down
///  (none) ─► running ─► applied ─► running ─► reverted ─► running ...
///               │  ▲                  │ └─ rolled back ─► applied
///               │  └──── again ────┐  │
///               ├─ rolled back ─► failed
///               ├─ stopped between two batches ─► begun ─► running (up: goes on) ...
///               └─ stopped part-way ─► dirty (down as well)
///                                        └─ repair ─► partial ─► running (goes on, or back) ...
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// A run began it and has not said how it ended.
    Running,
    /// It is in the database.
    Applied,
    /// It failed and was rolled back: nothing of it is in the database, and it may run again.
    Failed,
    /// It stopped part-way and could not be rolled back: somebody has to look.
    Dirty,
    /// Its down file took it out again.
    Reverted,
    /// It runs in batches and stopped between two of them: it goes on from there.
    Begun,
    /// It runs without a transaction and stopped between two statements, which `repair` has made sure
    /// of: it goes on from there.
    Partial,
}

impl RowState {
    /// The word kept in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Dirty => "dirty",
            Self::Reverted => "reverted",
            Self::Begun => "begun",
            Self::Partial => "partial",
        }
    }

    /// The state a word of the database stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Applied,
            Self::Failed,
            Self::Dirty,
            Self::Reverted,
            Self::Begun,
            Self::Partial,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// What finds a migration in the history: each format counts versions of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// How its files are named and written.
    pub format: Format,
    /// Its version.
    pub version: Version,
}

/// One migration of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How its files are named and written.
    pub format: Format,
    /// Whether only the history of another tool knows it: nothing of ours has run for it.
    pub adopted: bool,
    /// Its version.
    pub version: Version,
    /// Its name, as `Migration::name`.
    pub name: String,
    /// Checksums of the up file when it was last run.
    pub checksums: Checksums,
    /// How the file last run meets transactions.
    pub mode: TxMode,
    /// Where it stands.
    pub state: RowState,
    /// The run that last touched it.
    pub run: String,
    /// The direction last run.
    pub direction: Direction,
    /// Statements of the file last run, and how many of them ended well.
    pub statements: (u32, u32),
    /// The statement it stopped at, from 1.
    pub failed_statement: Option<u32>,
    /// What the server said then.
    pub failed_message: Option<String>,
    /// The down file as it stood when the migration was applied.
    pub down_sql: Option<String>,
    /// The text of which part was run, while it is partial: of the up file, or of the down file.
    pub partly_run: Option<String>,
    /// When it last ended, RFC 3339 in UTC.
    pub finished_at: Option<String>,
}

impl Row {
    /// Whether it is in the database, whole. What runs or is dirty is neither applied nor waiting.
    pub fn is_applied(&self) -> bool {
        match self.state {
            RowState::Applied => true,
            RowState::Running
            | RowState::Failed
            | RowState::Dirty
            | RowState::Reverted
            | RowState::Begun
            | RowState::Partial => false,
        }
    }

    /// Why nothing may run before somebody has looked at this one; `None` if all is well.
    pub fn dirty(&self) -> Option<String> {
        let (total, done) = self.statements;
        match self.state {
            RowState::Running => Some(format!(
                "{} ({}) is recorded as running, and how it ended is not known yet",
                self.name, self.direction
            )),
            RowState::Dirty => {
                let at = self.failed_statement.unwrap_or(done + 1);
                let message = self
                    .failed_message
                    .as_deref()
                    .unwrap_or("no message was recorded");
                Some(format!(
                    "{} ({}) stopped at statement {at} of {total}: {message}",
                    self.name, self.direction
                ))
            }
            RowState::Applied
            | RowState::Failed
            | RowState::Reverted
            | RowState::Begun
            | RowState::Partial => None,
        }
    }
}
