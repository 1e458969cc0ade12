//! All gates, and the holds that are on databases nobody has asked for yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::driver::{Common, Gate};
use super::fence::Fences;
use super::mode::{Generation, HoldSpec, Holder};
use super::queue::GateNumber;
use super::reopen::Pace;
use crate::audit::Audit;
use crate::clock;
use crate::config::{Scope, Then, Who};
use crate::metrics::Metrics;
use crate::tasks::Tasks;

/// See the module.
#[derive(Debug)]
pub struct Gates {
    inner: Mutex<Inner>,
    unheld: Arc<Gate>,
    shared: Arc<Common>,
    fences: Fences,
}

/// A gate that was closed, or whose hold was renewed.
#[derive(Debug)]
pub struct Closed {
    /// The gate.
    pub gate: Arc<Gate>,
    /// The number of its hold.
    pub generation: Generation,
    /// Whether the gate is new: the sessions that are there do not know of it.
    pub is_new: bool,
}

#[derive(Debug, Default)]
struct Inner {
    databases: BTreeMap<String, Database>,
    /// Holds on every database, by whom they are for.
    everywhere: BTreeMap<Scope, (HoldSpec, Instant)>,
}

#[derive(Debug)]
struct Database {
    gate: Arc<Gate>,
    /// Gates for some of its clients. One that has opened is of no more use.
    narrow: BTreeMap<Scope, Arc<Gate>>,
    last_number: u32,
}

impl Gates {
    /// Where it is told what was done.
    pub fn audit(&self) -> &Audit {
        &self.shared.audit
    }

    /// No gate yet, and no hold.
    pub fn new(tasks: Tasks, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Gates {
        let shared = Common::new(tasks, metrics, audit);
        Gates {
            inner: Mutex::default(),
            unheld: Arc::new(Gate::of_database("", Arc::clone(&shared))),
            shared,
            fences: Fences::default(),
        }
    }

    /// Databases whose logins are parked.
    pub fn fences(&self) -> &Fences {
        &self.fences
    }

    /// How gates reopen from now on.
    pub fn set_pace(&self, pace: Pace) {
        *self
            .shared
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// Who is told, from now on, when a gate begins or ceases to want read-only. It is called with no lock
    /// held, after the gate was turned, and must not wait.
    pub fn on_read_only(&self, listener: impl Fn(&Gate) + Send + Sync + 'static) {
        self.shared.read_only.set(listener);
    }

    /// The gate of a database, made on first use. Only for names that a server has accepted or an
    /// operator has given: others come from strangers, and gates are never removed.
    pub fn of(&self, database: &str) -> Arc<Gate> {
        Arc::clone(&self.inner().database(database, &self.shared).gate)
    }

    /// The same for a session, with the gates for some clients that it is one of.
    pub fn of_session(&self, database: &str, who: Who<'_>) -> (Arc<Gate>, Vec<Arc<Gate>>) {
        let mut inner = self.inner();
        let database = inner.database(database, &self.shared);
        let narrow = database.closed_for(|scope| scope.fits(who));
        (Arc::clone(&database.gate), narrow)
    }

    /// A gate that is no database's and that nobody closes, for sessions that are not held.
    pub fn unheld(&self) -> Arc<Gate> {
        Arc::clone(&self.unheld)
    }

    /// The gate of a database, if it has one.
    pub fn find(&self, database: &str) -> Option<Arc<Gate>> {
        let inner = self.inner();
        let database = inner.databases.get(database)?;
        Some(Arc::clone(&database.gate))
    }

    /// The gate of a database for these clients, if it has one that is closed.
    pub fn find_scope(&self, database: &str, scope: &Scope) -> Option<Arc<Gate>> {
        if scope.is_whole() {
            return self.find(database);
        }
        let inner = self.inner();
        let gate = inner.databases.get(database)?.narrow.get(scope)?;
        (!gate.is_open()).then(|| Arc::clone(gate))
    }

    /// Every gate of a whole database, by name.
    pub fn all(&self) -> Vec<Arc<Gate>> {
        let inner = self.inner();
        let gates = inner.databases.values();
        gates.map(|database| Arc::clone(&database.gate)).collect()
    }

    /// The closed gates for some clients of this database.
    pub fn narrow(&self, database: &str) -> Vec<Arc<Gate>> {
        let mut inner = self.inner();
        let database = inner.databases.get_mut(database);
        database.map_or_else(Vec::new, |database| database.closed_for(|_| true))
    }

    /// Holds these clients of a database; `None` is every database, those to come included.
    ///
    /// Sessions that are there do not know of a new gate for some clients: their permits have to be
    /// presumed before anybody counts.
    pub fn hold(&self, database: Option<&str>, scope: &Scope, spec: &HoldSpec) -> Vec<Closed> {
        let mut inner = self.inner();
        match database {
            Some(name) => {
                let database = inner.database(name, &self.shared);
                vec![database.hold(Holder::Operator, scope, spec)]
            }
            None => {
                let standing = (spec.clone(), clock::now());
                inner.everywhere.insert(scope.clone(), standing);
                let databases = inner.databases.values_mut();
                databases
                    .map(|database| database.hold(Holder::Everywhere, scope, spec))
                    .collect()
            }
        }
    }

    /// Ends the hold for these clients on every database, those to come included.
    pub fn end_hold_everywhere(&self, scope: &Scope) {
        let mut inner = self.inner();
        inner.everywhere.remove(scope);
        for database in inner.databases.values() {
            if let Some(gate) = database.of(scope) {
                gate.end_hold(Holder::Everywhere, None);
            }
        }
    }

    /// Ends every hold for some clients, on every database.
    pub fn end_narrow_everywhere(&self) {
        let mut inner = self.inner();
        inner.everywhere.retain(|scope, _| scope.is_whole());
        let databases = inner.databases.values();
        for gate in databases.flat_map(|database| database.narrow.values()) {
            gate.end_hold(Holder::Everywhere, None);
            gate.end_hold(Holder::Operator, None);
        }
    }

    /// The hold for these clients that a database gets which is seen for the first time at `now`.
    pub fn standing_hold(&self, scope: &Scope, now: Instant) -> Option<HoldSpec> {
        let inner = self.inner();
        inner
            .everywhere
            .get(scope)
            .and_then(|standing| rest_of(standing, now))
    }

    /// Every hold that a database gets which is seen for the first time at `now`, each with when it began.
    pub fn standing_holds(&self, now: Instant) -> Vec<(Scope, HoldSpec, Instant)> {
        let inner = self.inner();
        let standing = inner.everywhere.iter().filter_map(|(scope, standing)| {
            let spec = rest_of(standing, now)?;
            Some((scope.clone(), spec, standing.1))
        });
        standing.collect()
    }

    /// Looks how many transactions run, for [`Gate::busiest`]; whether any does.
    pub fn look(&self) -> bool {
        let mut any = false;
        for gate in self.all() {
            gate.busiest();
            any |= gate.permits() > 0;
        }
        any
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn database(&mut self, name: &str, shared: &Arc<Common>) -> &mut Database {
        let Inner {
            databases,
            everywhere,
        } = self;
        databases.entry(name.to_owned()).or_insert_with(|| {
            let mut database = Database {
                gate: Arc::new(Gate::of_database(name, Arc::clone(shared))),
                narrow: BTreeMap::new(),
                last_number: 0,
            };
            let now = clock::now();
            for (scope, standing) in everywhere {
                if let Some(spec) = rest_of(standing, now) {
                    database.hold(Holder::Everywhere, scope, &spec);
                }
            }
            database
        })
    }
}

impl Database {
    fn of(&self, scope: &Scope) -> Option<&Arc<Gate>> {
        if scope.is_whole() {
            Some(&self.gate)
        } else {
            self.narrow.get(scope)
        }
    }

    /// The gates for some clients that are closed; the others are forgotten.
    fn closed_for(&mut self, fits: impl Fn(&Scope) -> bool) -> Vec<Arc<Gate>> {
        self.narrow.retain(|_, gate| !gate.is_open());
        let narrow = self.narrow.iter();
        narrow
            .filter(|(scope, _)| fits(scope))
            .map(|(_, gate)| Arc::clone(gate))
            .collect()
    }

    fn hold(&mut self, holder: Holder, scope: &Scope, spec: &HoldSpec) -> Closed {
        if scope.is_whole() {
            return Closed {
                generation: self.gate.hold(holder, spec.clone()),
                gate: Arc::clone(&self.gate),
                is_new: false,
            };
        }
        if let Some(gate) = self.narrow.get(scope)
            && let Some(generation) = gate.hold_too(holder, spec.clone())
        {
            return Closed {
                gate: Arc::clone(gate),
                generation,
                is_new: false,
            };
        }
        self.last_number += 1;
        let gate = self
            .gate
            .narrow(scope.clone(), GateNumber(self.last_number));
        let gate = Arc::new(gate);
        let generation = gate.hold(holder, spec.clone());
        self.narrow.insert(scope.clone(), Arc::clone(&gate));
        Closed {
            gate,
            generation,
            is_new: true,
        }
    }
}

/// A hold on everything, with what is left of its time.
fn rest_of((spec, since): &(HoldSpec, Instant), now: Instant) -> Option<HoldSpec> {
    let passed = now.saturating_duration_since(*since);
    let left = spec.duration.saturating_sub(passed);
    match spec.then {
        Then::Open if left.is_zero() => None,
        Then::Open | Then::Stay => Some(HoldSpec {
            duration: left,
            first_stage: Duration::ZERO,
            ..spec.clone()
        }),
    }
}
