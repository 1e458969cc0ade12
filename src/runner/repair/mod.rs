//! `repair`: resolves what stands part-way by looking at the database, and never by somebody's word.
//!
//! ```text
//! running ─ settle: the transaction's status, the server process ─► applied | failed | begun | dirty
//! dirty   ─ look: what is counted, what the catalogs hold ─► partial | failed | applied | (left dirty)
//! ```
//!
//! What cannot be told is said and left as it is.

mod look;
mod probe;
mod report;

use std::sync::Arc;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use report::{Finding, RepairReport, RepairRequest};

use super::connect::Connector;
use super::drift::{self, Schema, Standing};
use super::history::{Ledger, LedgerError, RowState, Suspect};
use super::lock::LockError;
use super::recover::{Outcome, Recovery, resolve};
use super::settle::{Settled, settle};
use super::traffic::Traffic;
use super::types::Direction;
use super::verify::SCHEMA_TIME;
use super::{Options, Runner};
use look::{Judged, Looker, Remains};

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A migration runs: there is nothing to repair about it.
    #[error("{0}")]
    Busy(String),
    /// The history cannot be read or written.
    #[error(transparent)]
    History(#[from] LedgerError),
    /// It ended without an answer.
    #[error("the repair ended unexpectedly, by a fault of pgdrain")]
    Lost,
}

impl<T: Traffic> Runner<T> {
    /// Looks at every migration that stands part-way, writes down what is true, and clears away what
    /// a statement left half-done. Goes on when nobody waits for the answer any more.
    ///
    /// # Errors
    /// When a migration runs in the database, or its history cannot be read or written.
    pub async fn repair(
        &self,
        database: &str,
        request: RepairRequest,
    ) -> Result<RepairReport, RepairError> {
        if let Some(id) = self.live(database) {
            return Err(RepairError::Busy(format!(
                "migration {id} is running in this database"
            )));
        }
        let (answer, answered) = oneshot::channel();
        let repair = Repair {
            connector: Arc::clone(&self.connector),
            options: self.options.clone(),
            database: database.to_owned(),
            request,
        };
        self.tasks.spawn(async move {
            let done = repair.perform().await;
            tracing::info!(database = repair.database, ?done, "repair");
            // Nobody may wait any more.
            let _ = answer.send(done);
        });
        answered.await.unwrap_or(Err(RepairError::Lost))
    }
}

/// What a repair works with.
struct Repair {
    connector: Arc<Connector>,
    options: Options,
    database: String,
    request: RepairRequest,
}

impl Repair {
    async fn perform(&self) -> Result<RepairReport, RepairError> {
        let mut ledger = Ledger::open(&self.connector, &self.database).await?;
        let deadline = Instant::now() + self.options.lock_wait;
        let done = match ledger.lock(deadline, None).await {
            Ok(()) => self.work(&mut ledger).await,
            Err(taken @ LockError::Taken(_)) => Err(RepairError::Busy(taken.to_string())),
            Err(error) => Err(LedgerError::from(error).into()),
        };
        ledger.close().await;
        done
    }

    async fn work(&self, ledger: &mut Ledger) -> Result<RepairReport, RepairError> {
        let mut findings = match self.request.dry_run {
            true => self.foresee(ledger).await?,
            false => from_recovery(resolve(ledger, self.options.recover_wait).await?),
        };
        let ignore = &self.options.preflight.drift_ignore;
        // A schema that cannot be read is measured by nobody, which the next run's preflight says.
        let before = drift::look(ledger.session(), ignore, SCHEMA_TIME)
            .await
            .ok();
        for suspect in ledger.suspects().await? {
            match suspect.state {
                RowState::Dirty => findings.push(self.mend(ledger, &suspect).await?),
                RowState::Partial => findings.push(Finding::partial(&suspect)),
                // Said above.
                RowState::Running
                | RowState::Applied
                | RowState::Failed
                | RowState::Reverted
                | RowState::Begun => {}
            }
        }
        let report = RepairReport::new(&self.database, &self.request, findings);
        if !self.request.dry_run && !report.findings.is_empty() {
            ledger.tell_repair(&json!(report)).await?;
            self.take_over(ledger, before).await;
        }
        Ok(report)
    }

    /// What was cleared away is no drift: where the schema was as the last run had left it, the next one is
    /// held against what the repair leaves.
    async fn take_over(&self, ledger: &Ledger, before: Option<Standing>) {
        let Some(Standing::Same(left)) = before else {
            return;
        };
        let taken = async {
            let schema = Schema::read(ledger.session(), SCHEMA_TIME).await?;
            if left.fingerprint == Some(schema.fingerprint) {
                return Ok(());
            }
            let by = self.request.by.as_deref().unwrap_or("unknown");
            drift::accept(ledger, &schema, by, Some("repair")).await
        };
        let taken: Result<(), tokio_postgres::Error> = taken.await;
        if let Err(error) = taken {
            let database = &self.database;
            tracing::warn!(database, %error, "the next run will find the repair in the schema");
        }
    }

    /// What would become of those that are recorded as running. Writes nothing.
    async fn foresee(&self, ledger: &mut Ledger) -> Result<Vec<Finding>, RepairError> {
        let mut findings = Vec::new();
        let suspects = ledger.suspects().await?;
        for suspect in suspects.iter().filter(|it| it.state == RowState::Running) {
            let deadline = Instant::now() + self.options.recover_wait;
            let settled = settle(ledger, &suspect.key, deadline).await;
            findings.push(match settled {
                // It would be dirty, and then be looked at.
                Settled::StoppedAfter { done, total } if done < total => {
                    self.mend(ledger, suspect).await?
                }
                Settled::StoppedAfter { .. } | Settled::Recorded(_) => {
                    let now = match suspect.direction {
                        Direction::Up => RowState::Applied,
                        Direction::Down => RowState::Reverted,
                    };
                    Finding::settled(suspect, now, "every statement of it ended well")
                }
                Settled::RolledBack => {
                    let now = match suspect.direction {
                        Direction::Up => RowState::Failed,
                        Direction::Down => RowState::Applied,
                    };
                    Finding::settled(suspect, now, "nothing of it is in the database")
                }
                Settled::Begun => {
                    let text = "it stopped between two batches";
                    Finding::settled(suspect, RowState::Begun, text)
                }
                Settled::CommittedUnrecorded => {
                    let text = "the file ended the runner's transaction by itself";
                    Finding::left(suspect, text)
                }
                Settled::Undecided(why) => Finding::left(suspect, &why),
            });
        }
        Ok(findings)
    }

    /// Looks at a dirty migration, clears away what is half-done, and writes down what is done.
    async fn mend(&self, ledger: &Ledger, suspect: &Suspect) -> Result<Finding, RepairError> {
        let owner = self.options.owner.as_deref();
        let looked = async {
            let looker = Looker::connect(&self.connector, &self.database).await?;
            let judged = looker.judge(suspect, owner).await;
            Ok::<_, LedgerError>((looker, judged))
        };
        let (looker, judged) = looked.await?;
        let mut finding = match judged {
            Ok(Judged::CannotTell { found }) => Finding::unknown(suspect, found),
            Ok(Judged::Stands {
                done,
                remains,
                found,
            }) => {
                let finding = Finding::standing(suspect, done, found);
                self.write(ledger, suspect, &looker, remains, finding, done)
                    .await?
            }
            Err(why) => Finding::unknown(suspect, vec![why]),
        };
        looker.close().await;
        finding.advise();
        Ok(finding)
    }

    async fn write(
        &self,
        ledger: &Ledger,
        suspect: &Suspect,
        looker: &Looker,
        remains: Vec<Remains>,
        mut finding: Finding,
        done: u32,
    ) -> Result<Finding, RepairError> {
        let total = suspect.statements.1;
        let written = format!("wrote down that {done} of {total} statements are done");
        if self.request.dry_run {
            finding.did = remains.into_iter().map(|it| it.done).collect();
            finding.did.push(written);
            return Ok(finding);
        }
        for it in remains {
            match looker.clear(&it.sql).await {
                Ok(()) => finding.did.push(it.done),
                Err(why) => {
                    let text = format!("{} failed: {why}", it.sql);
                    return Ok(Finding::unknown(
                        suspect,
                        [finding.found, vec![text]].concat(),
                    ));
                }
            }
        }
        let by = self.request.by.as_deref().unwrap_or("unknown");
        let data = json!({
            "by": by, "reason": self.request.reason, "found": finding.found,
            "did": finding.did, "done": done,
        });
        let (key, direction) = (&suspect.key, suspect.direction);
        finding.now = ledger.repaired(key, direction, done, &data).await?;
        finding.did.push(written);
        Ok(finding)
    }
}

/// What became of those that were recorded as running.
fn from_recovery(recovery: Recovery) -> Vec<Finding> {
    let told = recovery.resolved.into_iter().filter_map(|it| {
        let (now, text) = match (&it.outcome, it.direction) {
            // Looked at next.
            (Outcome::Dirty { .. }, _) => return None,
            (Outcome::Applied, Direction::Up) => (RowState::Applied, "it is committed"),
            (Outcome::Applied, Direction::Down) => (RowState::Reverted, "it is committed"),
            (Outcome::RolledBack, Direction::Up) => (RowState::Failed, "it was rolled back"),
            (Outcome::RolledBack, Direction::Down) => (RowState::Applied, "it was rolled back"),
            (Outcome::Begun, _) => (
                RowState::Begun,
                "it stopped on its way and goes on from there",
            ),
            (Outcome::StillRunning { detail }, _) => (RowState::Running, detail.as_str()),
        };
        let resolved = now != RowState::Running;
        let next = (!resolved).then(|| {
            "wait until that process has ended, or end it (pg_terminate_backend), and repair again"
                .to_owned()
        });
        Some(Finding {
            version: it.version,
            name: it.name,
            direction: it.direction,
            was: RowState::Running,
            now,
            resolved,
            done: None,
            of: None,
            found: vec![text.to_owned()],
            did: Vec::new(),
            next,
        })
    });
    told.collect()
}
