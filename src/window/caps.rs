//! Capping how many transactions run at once in a database, journaled like a hold.

use std::sync::Arc;
use std::time::Duration;

use super::controller::{Controller, write};
use super::journal::{CapRecord, JournalError, Record};
use crate::audit::{Event, Kind};
use crate::clock;
use crate::config::{AfterRestart, AskedCap};
use crate::gate::cap::{Cap, CapSpec};
use crate::gate::mode::Generation;

/// A cap as a command asks for it.
#[derive(Debug, Clone)]
pub struct CapRequest {
    /// At how many transactions at once.
    pub at: AskedCap,
    /// How long it lasts at most.
    pub duration: Duration,
    /// Who asks.
    pub by: String,
    /// From where, for the audit.
    pub from: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Controller {
    /// Caps a database at so many transactions at once, in place of a cap that is on, or takes that off.
    /// A part in percent is of the most that were seen at once in the last minute, and at least one.
    /// Returns the cap that was set, `None` when one was taken off.
    ///
    /// # Errors
    /// When the journal cannot be written: nothing is capped then. Taking off never waits for it.
    pub async fn cap(
        self: &Arc<Self>,
        database: &str,
        request: CapRequest,
    ) -> Result<Option<Cap>, JournalError> {
        let gate = self.gates.of(database);
        let Some(transactions) = request.at.of(gate.busiest()) else {
            let was = gate.capped();
            gate.lift_cap(None);
            if let Some(was) = was {
                self.audit.tell(Event {
                    by: Some(request.by),
                    from: request.from,
                    reason: request.reason,
                    before: Some(format!("capped at {}", was.spec.transactions)),
                    after: Some("not capped".to_owned()),
                    ..Event::of(Kind::Cap, database)
                });
            }
            self.cap_there(database, None).await;
            self.forget_ended().await;
            return Ok(None);
        };
        let spec = CapSpec {
            transactions,
            duration: request.duration,
            by: request.by,
            reason: request.reason,
        };
        let noted = CapRecord {
            spec: spec.clone(),
            since: clock::wall(),
        };
        let mut journal = self.journal.lock().await;
        let note = |record: &mut Record| {
            record.caps.insert(database.to_owned(), noted);
        };
        write(&mut journal, note).await?;
        let until = clock::now() + spec.duration;
        let generation = gate.cap(spec.clone());
        drop(journal);
        self.cap_there(database, Some(spec.clone())).await;
        tracing::info!(database, transactions, by = spec.by, "capped");
        self.audit.tell(Event {
            by: Some(spec.by.clone()),
            from: request.from,
            reason: spec.reason.clone(),
            after: Some(format!("capped at {transactions}")),
            ..Event::of(Kind::Cap, database)
        });
        Ok(Some(Cap {
            generation,
            spec,
            until,
        }))
    }

    /// Whether this very cap is still on.
    pub(super) fn is_capped(&self, database: &str, generation: Generation) -> bool {
        let gate = self.gates.find(database);
        let cap = gate.and_then(|gate| gate.capped());
        cap.is_some_and(|cap| cap.generation == generation)
    }

    /// Takes this very cap off; whoever has capped the database since has the say.
    pub(super) async fn end_cap(self: &Arc<Self>, database: &str, generation: Generation) {
        if let Some(gate) = self.gates.find(database)
            && gate.lift_cap(Some(generation))
        {
            self.cap_there(database, None).await;
            self.forget_ended().await;
        }
    }

    /// Puts caps back on after a restart, with the rest of their time.
    pub(super) fn take_up_caps(self: &Arc<Self>, record: &Record, policy: AfterRestart) {
        let now = clock::wall();
        for (database, cap) in &record.caps {
            let duration = cap.left(now);
            if policy == AfterRestart::Open || duration.is_zero() {
                continue;
            }
            tracing::warn!(database, ?cap, "capped, as before the restart");
            self.gates.of(database).cap(CapSpec {
                duration,
                ..cap.spec.clone()
            });
        }
    }
}
