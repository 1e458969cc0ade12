//! After a crash: what was a run doing, and how did it end? Asked when a proxy starts for a database
//! in which a run may have been going on, and at the start of every run.
//!
//! It takes the migration lock, so that a run that is alive elsewhere is left alone. It may be
//! repeated: what has been resolved stays resolved.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connect::Connector;
use super::history::{Ledger, LedgerError, Row, RowState, Unfinished};
use super::report::Failure;
use super::settle::{Settled, settle};
use super::source::Version;
use super::types::Direction;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// What this recovery resolved, or could not.
    pub resolved: Vec<Resolved>,
    /// Every migration that stands half-way, also from earlier: reason to stay held.
    pub dirty: Vec<String>,
}

impl Recovery {
    /// Whether a migration of the lost run still runs in the server: look again.
    pub fn still_running(&self) -> bool {
        self.resolved
            .iter()
            .any(|it| matches!(it.outcome, Outcome::StillRunning { .. }))
    }

    /// Why traffic should not simply be let in: something is half-way, or not decided.
    pub fn reason_to_stay_held(&self) -> Option<String> {
        let open = self.resolved.iter().filter_map(|it| match &it.outcome {
            Outcome::StillRunning { detail } => Some(detail.as_str()),
            Outcome::Applied | Outcome::RolledBack | Outcome::Begun | Outcome::Dirty { .. } => None,
        });
        let reasons: Vec<_> = open.chain(self.dirty.iter().map(String::as_str)).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// One migration of a run that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Its version.
    pub version: Version,
    /// Its name.
    pub name: String,
    /// Up or down.
    pub direction: Direction,
    /// How it ended.
    pub outcome: Outcome,
}

impl Resolved {
    fn finished(row: &Row) -> Option<Self> {
        let outcome = match (row.state, row.direction) {
            (RowState::Applied, Direction::Up) | (RowState::Reverted, _) => Outcome::Applied,
            (RowState::Applied, Direction::Down) | (RowState::Failed, _) => Outcome::RolledBack,
            (RowState::Begun | RowState::Partial, _) => Outcome::Begun,
            // Listed as dirty.
            (RowState::Dirty | RowState::Running, _) => return None,
        };
        let (name, direction) = (row.name.clone(), row.direction);
        Some(Self {
            version: row.version.clone(),
            name,
            direction,
            outcome,
        })
    }
}

/// How a migration that was in flight ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is complete (reverted, for a down file).
    Applied,
    /// Nothing of it is in the database.
    RolledBack,
    /// It stopped between two batches or statements: the next run goes on from there.
    Begun,
    /// It stopped at a statement and could not be rolled back.
    Dirty {
        /// The statement that was running or was next, from 1.
        statement: u32,
        /// How many there are.
        of: u32,
    },
    /// It is not decided yet: its server process lives, or the server does not answer.
    StillRunning {
        /// A sentence.
        detail: String,
    },
}

/// Resolves what a run that is gone left in a database.
///
/// Waits at most `wait` for the lock, and at most `wait` for each migration's server process to end.
///
/// # Errors
/// When the database cannot be reached, or another runner holds the lock.
pub async fn recover(
    connector: &Arc<Connector>,
    database: &str,
    wait: Duration,
) -> Result<Recovery, LedgerError> {
    let mut ledger = Ledger::open(connector, database).await?;
    ledger.lock(Instant::now() + wait, None).await?;
    let recovery = resolve(&mut ledger, wait).await;
    ledger.close().await;
    recovery
}

/// The same, with a ledger that holds the lock.
pub(super) async fn resolve(ledger: &mut Ledger, wait: Duration) -> Result<Recovery, LedgerError> {
    if ledger.has_layout().await? {
        ledger.upgrade_layout().await?;
    }
    let mut resolved = Vec::new();
    for unfinished in ledger.unfinished().await? {
        let outcome = resolve_one(ledger, &unfinished, wait).await?;
        let Unfinished {
            key,
            name,
            direction,
            ..
        } = unfinished;
        resolved.push(Resolved {
            version: key.version,
            name,
            direction,
            outcome,
        });
    }
    let rows = ledger.rows().await?;
    let open = resolved
        .iter()
        .any(|it| matches!(it.outcome, Outcome::StillRunning { .. }));
    for run in ledger.unfinished_runs().await? {
        // What the run had finished before it was lost.
        for row in rows.iter().filter(|row| row.run == run) {
            if !resolved.iter().any(|it| it.version == row.version) {
                resolved.extend(Resolved::finished(row));
            }
        }
        if !open {
            // The lock is ours, so whoever began it is gone.
            ledger.end_run(&run, "lost", None).await?;
        }
    }
    resolved.sort_by(|a: &Resolved, b| a.version.cmp(&b.version));
    let dirty = rows.iter().filter_map(Row::dirty).collect();
    Ok(Recovery { resolved, dirty })
}

pub(super) async fn resolve_one(
    ledger: &mut Ledger,
    unfinished: &Unfinished,
    wait: Duration,
) -> Result<Outcome, LedgerError> {
    let Unfinished { key, direction, .. } = unfinished;
    let direction = *direction;
    let gone = "the runner or the server went away while it ran";
    match settle(ledger, key, Instant::now() + wait).await {
        Settled::Recorded(_) => Ok(Outcome::Applied),
        Settled::RolledBack => {
            ledger
                .rolled_back(key, direction, &Failure::new(gone))
                .await?;
            Ok(Outcome::RolledBack)
        }
        Settled::Begun => {
            let at = ledger.checkpoint(key).await?.unwrap_or_default();
            if at.batches == 0 {
                ledger
                    .rolled_back(key, direction, &Failure::new(gone))
                    .await?;
                return Ok(Outcome::RolledBack);
            }
            let failure = Failure::new(format!("{gone}, {at}"));
            ledger.begun(key, &failure).await?;
            Ok(Outcome::Begun)
        }
        Settled::StoppedAfter { done, total } if done == total => {
            // Every statement ended well; only that the file did was not recorded any more.
            // A tool that was to be told is not: the next run says so.
            ledger.finish(key, direction, &unfinished.run, "").await?;
            Ok(Outcome::Applied)
        }
        Settled::StoppedAfter { done, total } => {
            let statement = (done + 1).min(total);
            let failure = Failure {
                statement: Some(statement),
                ..Failure::new(gone)
            };
            ledger.dirty(key, &failure).await?;
            Ok(Outcome::Dirty {
                statement,
                of: total,
            })
        }
        Settled::CommittedUnrecorded => {
            let failure = Failure::new("the file ended the runner's transaction by itself");
            ledger.dirty(key, &failure).await?;
            Ok(Outcome::Dirty {
                statement: 1,
                of: unfinished.statements.1,
            })
        }
        Settled::Undecided(detail) => Ok(Outcome::StillRunning { detail }),
    }
}
