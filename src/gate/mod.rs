//! Decides whether a transaction may start: one gate for each database.
//!
//! The hot path is [`Gate::admit`] and [`Gate::release`], one atomic operation each. Commands come
//! in by [`Gate::hold`] and [`Gate::end_hold`]; everything else observes.

pub mod admission;
mod driver;
pub mod mode;
mod queue;
pub mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use driver::Gate;
pub use queue::Place;

use crate::audit::Audit;
use crate::clock;
use crate::config::Then;
use crate::metrics::Metrics;
use crate::tasks::Tasks;
use mode::{Generation, HoldSpec, Holder};

/// All gates, and the hold that is on databases nobody has asked for yet.
#[derive(Debug)]
pub struct Gates {
    inner: Mutex<Inner>,
    unheld: Arc<Gate>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
}

#[derive(Debug, Default)]
struct Inner {
    gates: BTreeMap<String, Arc<Gate>>,
    everywhere: Option<(HoldSpec, Instant)>,
}

impl Gates {
    /// No gate yet, and no hold.
    pub fn new(tasks: Tasks, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Gates {
        Gates {
            inner: Mutex::default(),
            unheld: Arc::new(Gate::new(
                "",
                tasks.clone(),
                Arc::clone(&metrics),
                Arc::clone(&audit),
            )),
            tasks,
            metrics,
            audit,
        }
    }

    /// The gate of a database, made on first use. Only for names that a server has accepted or an
    /// operator has given: others come from strangers, and gates are never removed.
    pub fn of(&self, database: &str) -> Arc<Gate> {
        let mut inner = self.inner();
        if let Some(gate) = inner.gates.get(database) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(
            database,
            self.tasks.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.audit),
        ));
        if let Some(spec) = inner.standing_hold(clock::now()) {
            gate.hold(Holder::Everywhere, spec);
        }
        inner.gates.insert(database.to_owned(), Arc::clone(&gate));
        gate
    }

    /// A gate that is no database's and that nobody closes, for sessions that are not held.
    pub fn unheld(&self) -> Arc<Gate> {
        Arc::clone(&self.unheld)
    }

    /// The gate of a database, if it has one.
    pub fn find(&self, database: &str) -> Option<Arc<Gate>> {
        self.inner().gates.get(database).cloned()
    }

    /// Every gate, by name.
    pub fn all(&self) -> Vec<Arc<Gate>> {
        self.inner().gates.values().cloned().collect()
    }

    /// Holds every database, those to come included.
    pub fn hold_everywhere(&self, spec: &HoldSpec) -> Vec<(Arc<Gate>, Generation)> {
        let mut inner = self.inner();
        inner.everywhere = Some((spec.clone(), clock::now()));
        let held = inner.gates.values();
        held.map(|gate| {
            (
                Arc::clone(gate),
                gate.hold(Holder::Everywhere, spec.clone()),
            )
        })
        .collect()
    }

    /// Ends the hold on every database, those to come included.
    pub fn end_hold_everywhere(&self) {
        let mut inner = self.inner();
        inner.everywhere = None;
        for gate in inner.gates.values() {
            gate.end_hold(Holder::Everywhere, None);
        }
    }

    /// The hold that a database gets which is seen for the first time at `now`.
    pub fn standing_hold(&self, now: Instant) -> Option<HoldSpec> {
        self.inner().standing_hold(now)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The hold on everything, with what is left of its time.
    fn standing_hold(&self, now: Instant) -> Option<HoldSpec> {
        let (spec, since) = self.everywhere.as_ref()?;
        let left = spec
            .duration
            .saturating_sub(now.saturating_duration_since(*since));
        match spec.then {
            Then::Open if left.is_zero() => None,
            Then::Open | Then::Stay => Some(HoldSpec {
                duration: left,
                ..spec.clone()
            }),
        }
    }
}
