//! What is asked of a repair, and what it says.

use serde::{Deserialize, Serialize};

use crate::runner::history::{RowState, Suspect};
use crate::runner::source::Version;
use crate::runner::types::{Direction, Exit};

/// Body of `POST /v1/databases/{db}/migrations/repair`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// Whether nothing is written: neither to the history nor to the database.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/migrations/repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// The database.
    pub database: String,
    /// When everything had been looked at.
    pub at: jiff::Timestamp,
    /// Who asked.
    pub by: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Every migration that stood part-way; empty when all is well.
    pub findings: Vec<Finding>,
    /// For a shell: 0 when each of them is resolved, 2 when one was left as it is.
    pub exit_code: u8,
}

/// A migration that stood part-way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its version.
    pub version: Version,
    /// Its name.
    pub name: String,
    /// The direction last run.
    pub direction: Direction,
    /// How the history had it.
    pub was: RowState,
    /// How it has it now; of a dry run, how it would.
    pub now: RowState,
    /// Whether it is known where it stands.
    pub resolved: bool,
    /// How many of its statements are done, where it runs without a transaction.
    pub done: Option<u32>,
    /// How many it has.
    pub of: Option<u32>,
    /// What was found.
    pub found: Vec<String>,
    /// What was done about it; of a dry run, what would be.
    pub did: Vec<String>,
    /// How to go on.
    pub next: Option<String>,
}

impl RepairReport {
    pub(super) fn new(database: &str, request: &RepairRequest, findings: Vec<Finding>) -> Self {
        let exit = match findings.iter().all(|it| it.resolved) {
            true => Exit::Success,
            false => Exit::Migration,
        };
        Self {
            database: database.to_owned(),
            at: jiff::Timestamp::now(),
            by: request.by.clone(),
            dry_run: request.dry_run,
            findings,
            exit_code: exit.code(),
        }
    }
}

impl Finding {
    fn of(suspect: &Suspect, now: RowState, found: Vec<String>) -> Self {
        Self {
            version: suspect.key.version.clone(),
            name: suspect.name.clone(),
            direction: suspect.direction,
            was: suspect.state,
            now,
            resolved: true,
            done: None,
            of: None,
            found,
            did: Vec::new(),
            next: None,
        }
    }

    /// It is known how it ended.
    pub(super) fn settled(suspect: &Suspect, now: RowState, text: &str) -> Self {
        Self::of(suspect, now, vec![text.to_owned()])
    }

    /// It is not known yet.
    pub(super) fn left(suspect: &Suspect, why: &str) -> Self {
        Self {
            resolved: false,
            ..Self::of(suspect, suspect.state, vec![why.to_owned()])
        }
    }

    /// It cannot be told, and stays as it is.
    pub(super) fn unknown(suspect: &Suspect, found: Vec<String>) -> Self {
        Self {
            resolved: false,
            done: Some(suspect.statements.0),
            of: Some(suspect.statements.1),
            ..Self::of(suspect, suspect.state, found)
        }
    }

    /// So many of its statements are done, and it is known that no more are.
    pub(super) fn standing(suspect: &Suspect, done: u32, found: Vec<String>) -> Self {
        let now = match (done, suspect.direction) {
            (0, Direction::Up) => RowState::Failed,
            (0, Direction::Down) => RowState::Applied,
            (_, Direction::Up | Direction::Down) => RowState::Partial,
        };
        Self {
            done: Some(done),
            of: Some(suspect.statements.1),
            ..Self::of(suspect, now, found)
        }
    }

    /// An earlier repair has found it out already.
    pub(super) fn partial(suspect: &Suspect) -> Self {
        let (done, of) = suspect.statements;
        let text =
            format!("{done} of {of} statements are done, as an earlier repair has found out");
        let mut finding = Self::standing(suspect, done, vec![text]);
        finding.now = RowState::Partial;
        finding.advise();
        finding
    }

    /// Says how to go on.
    pub(super) fn advise(&mut self) {
        let next = match (self.now, self.direction) {
            (RowState::Partial, Direction::Up) => format!(
                "`pgdrain migrate up` goes on with statement {}; `pgdrain migrate repair --back` takes \
                 back what is done",
                self.done.unwrap_or_default() + 1
            ),
            (RowState::Partial, Direction::Down) => format!(
                "`pgdrain migrate down` goes on with statement {}",
                self.done.unwrap_or_default() + 1
            ),
            (RowState::Dirty, _) => "look at what it left and put it right by hand, then set the \
                 state of its row in pgdrain.migration to what is true: 'failed' (nothing of it \
                 is there, it will run again) or 'applied'"
                .to_owned(),
            (RowState::Failed, _) => "`pgdrain migrate up` runs it again".to_owned(),
            (RowState::Running | RowState::Applied | RowState::Reverted | RowState::Begun, _) => {
                return;
            }
        };
        self.next = Some(next);
    }
}
