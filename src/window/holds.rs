//! Holding and opening: of a database or of all, and of some clients in them.
//!
//! Who is held by two holds goes on when both are open: each opening ends one.

use std::sync::Arc;
use std::time::Duration;

use super::controller::{Controller, HoldRequest, OpenRefused, Target, write};
use super::drains::{Beginning, Draining};
use super::journal::{HoldRecord, JournalError, Record, ScopeRecord};
use crate::audit::{Event, Kind};
use crate::clock;
use crate::config::{Bypass, Scope};
use crate::drain::report::Outcome;
use crate::gate::Gate;
use crate::gate::mode::{HoldSpec, Holder, Mode};
use crate::session::inbox::Presumed;
use crate::session::registry::Signals;

impl Target {
    pub(super) fn database(&self) -> Option<&str> {
        match self {
            Target::Everywhere => None,
            Target::Database(name) => Some(name),
        }
    }

    /// Whose hold it is that a command places there.
    pub(super) fn holder(&self) -> Holder {
        match self {
            Target::Everywhere => Holder::Everywhere,
            Target::Database(_) => Holder::Operator,
        }
    }
}

impl Record {
    /// Notes a hold in place of one for the same clients.
    fn note_hold(&mut self, target: &Target, scope: &Scope, hold: HoldRecord) {
        if !scope.is_whole() {
            let database = target.database().map(str::to_owned);
            let same = |it: &ScopeRecord| it.database == database && it.scope == *scope;
            self.scopes.retain(|it| !same(it));
            self.scopes.push(ScopeRecord {
                database,
                scope: scope.clone(),
                hold,
            });
            return;
        }
        match target {
            Target::Everywhere => self.everywhere = Some(hold),
            Target::Database(name) => {
                self.databases.insert(name.clone(), hold);
            }
        }
    }
}

impl Controller {
    /// Closes the gates of `target` for the clients that are meant, and begins to drain them. Returns at
    /// once; the drains go on whether anybody watches them or not. An exhausted one reopens.
    pub async fn hold(
        self: &Arc<Self>,
        target: &Target,
        request: HoldRequest,
    ) -> Result<Vec<Draining>, JournalError> {
        let hold = HoldRecord::beginning(request.spec.clone());
        let _order = self.generations.order().await;
        let mut journal = self.journal.lock().await;
        let note = |record: &mut Record| record.note_hold(target, &request.scope, hold);
        write(&mut journal, note).await?;
        let placed = self.place(target, &request);
        drop(journal);
        let placed = self.hold_together(target, &request, placed).await;
        let drains = placed.into_iter().map(|(gate, draining)| {
            self.reopen_when_exhausted(gate, target.holder(), draining.clone());
            draining
        });
        Ok(drains.collect())
    }

    /// Closes the gates and begins to drain them, with nothing written down.
    pub(super) fn place(
        self: &Arc<Self>,
        target: &Target,
        request: &HoldRequest,
    ) -> Vec<(Arc<Gate>, Draining)> {
        let held_at = clock::now();
        let spec = HoldSpec {
            // Only to read is allowed from the first moment on, in transaction blocks too.
            first_stage: match request.spec.read_only {
                true => Duration::ZERO,
                false => request.ladder.first_stage(),
            },
            ..request.spec.clone()
        };
        let closed = self.gates.hold(target.database(), &request.scope, &spec);
        let new = closed.iter().filter(|closed| closed.is_new);
        new.for_each(|closed| self.put_in_the_way(&closed.gate));
        let holder = target.holder();
        let drains = closed.into_iter().map(|closed| {
            let gate = closed.gate;
            tracing::info!(gate = gate.name(), ?holder, spec = ?request.spec, "held");
            let ladder = request.ladder.clone();
            let draining = self.drain(Beginning {
                gate: Arc::clone(&gate),
                holder,
                generation: closed.generation,
                held_at,
                ladder,
                // Who comes past us is no matter of some of our clients.
                bypass: match request.scope.is_whole() {
                    true => request.bypass,
                    false => Bypass::Ignore,
                },
            });
            (gate, draining)
        });
        drains.collect()
    }

    /// Puts a new gate in the way of the sessions that it is for. One that logs in meanwhile finds it
    /// by itself.
    fn put_in_the_way(&self, gate: &Arc<Gate>) {
        for session in self.sessions.held_with(gate.database()) {
            if gate.scope().fits(session.who()) {
                session.attach(Presumed::inside(gate));
                if gate.wants_read_only() {
                    // It was told when the gate was not its own yet.
                    session.signal(Signals::READ_ONLY);
                    session.signal(Signals::SAY_ALONE);
                }
            }
        }
    }

    /// Ends the hold on `target` for these clients, and no other. With `force` also from under a window,
    /// which ends its work; everything by force is every hold and every cap.
    pub async fn open(
        self: &Arc<Self>,
        target: &Target,
        scope: &Scope,
        force: bool,
    ) -> Result<(), OpenRefused> {
        if !force {
            self.may_open(target, scope)?;
        }
        self.open_now(target, scope, force);
        let there = self.open_together(target, scope, force).await;
        self.forget_ended().await;
        there
    }

    /// Reopens everything by force, at once: the way out when all else is broken.
    pub fn break_glass(self: &Arc<Self>) {
        tracing::warn!("everything is opened by force");
        self.audit.tell(Event {
            from: Some("signal".into()),
            after: Some(Mode::Open.to_string()),
            ..Event::of(Kind::BreakGlass, "*")
        });
        self.open_now(&Target::Everywhere, &Scope::default(), true);
        let controller = Arc::clone(self);
        self.tasks.spawn("journal", async move {
            let all = Scope::default();
            let there = controller.open_together(&Target::Everywhere, &all, true);
            if let Err(error) = there.await {
                tracing::error!(%error, "opened by force in this process alone");
            }
            controller.forget_ended().await;
        });
    }

    fn may_open(&self, target: &Target, scope: &Scope) -> Result<(), OpenRefused> {
        if let Target::Database(name) = target
            && self.is_held_with_all(name, scope)
        {
            return Err(OpenRefused::Everywhere {
                database: name.clone(),
            });
        }
        if !scope.is_whole() {
            return Ok(());
        }
        for gate in self.gates_of(target) {
            let database = gate.database().to_owned();
            if let Some(id) = self.windows.at_work(&database) {
                return Err(OpenRefused::Window { database, id });
            }
        }
        Ok(())
    }

    /// Whether a hold on every database is on this one, or will be once somebody asks for it.
    fn is_held_with_all(&self, database: &str, scope: &Scope) -> bool {
        if self.gates.find(database).is_none() {
            return self.gates.standing_hold(scope, clock::now()).is_some();
        }
        let gate = self.gates.find_scope(database, scope);
        gate.is_some_and(|gate| has_hold(&gate, Holder::Everywhere))
    }

    pub(super) fn open_now(&self, target: &Target, scope: &Scope, force: bool) {
        match target {
            Target::Everywhere => self.gates.end_hold_everywhere(scope),
            Target::Database(_) => {}
        }
        if !scope.is_whole() {
            for gate in self.gates_of(target) {
                if let Some(gate) = self.gates.find_scope(gate.database(), scope) {
                    gate.end_hold(Holder::Operator, None);
                }
            }
            return;
        }
        if force && *target == Target::Everywhere {
            self.gates.end_narrow_everywhere();
            for gate in self.gates.all() {
                gate.lift_cap(None);
            }
        }
        for gate in self.gates_of(target) {
            if force {
                gate.end_hold(Holder::Everywhere, None);
            }
            gate.end_hold(Holder::Operator, None);
            self.windows
                .take_from(gate.database(), "traffic was opened by force");
            gate.end_hold(Holder::Window, None);
        }
    }

    fn gates_of(&self, target: &Target) -> Vec<Arc<Gate>> {
        match target {
            Target::Everywhere => self.gates.all(),
            Target::Database(name) => self.gates.find(name).into_iter().collect(),
        }
    }

    /// "An exhausted ladder reopens and says who was in the way."
    pub(super) fn reopen_when_exhausted(
        self: &Arc<Self>,
        gate: Arc<Gate>,
        holder: Holder,
        draining: Draining,
    ) {
        let controller = Arc::clone(self);
        self.tasks.spawn("reopen after drain", async move {
            let generation = draining.generation;
            let report = draining.ended().await;
            if report.outcome == Outcome::Exhausted {
                tracing::warn!(
                    gate = gate.name(),
                    detail = report.detail,
                    "not drained: reopening"
                );
                gate.end_hold(holder, Some(generation));
                controller.forget_ended().await;
            }
        });
    }

    /// Takes out of the journal what is not held any more. A disk that fails here cannot keep
    /// traffic closed, but a restart would hold again what it still names: to be tried now and then.
    pub async fn forget_ended(&self) {
        let mut journal = self.journal.lock().await;
        match write(&mut journal, |record| self.keep_held(record)).await {
            // It is the newer process's to forget.
            Ok(()) | Err(JournalError::GivenAway) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the journal still names a hold that has ended");
            }
        }
    }

    /// Takes out of a record what is not held any more.
    pub(super) fn keep_held(&self, record: &mut Record) {
        let held = |name: &str, scope: &Scope, holder: Holder| {
            let gate = self.gates.find_scope(name, scope);
            gate.is_some_and(|gate| has_hold(&gate, holder))
        };
        let standing = |scope: &Scope| self.gates.standing_hold(scope, clock::now()).is_some();
        let capped = |name: &str| {
            let gate = self.gates.find(name);
            gate.is_some_and(|gate| gate.capped().is_some())
        };
        let all = Scope::default();
        record
            .databases
            .retain(|name, _| held(name, &all, Holder::Operator));
        record
            .windows
            .retain(|name, _| held(name, &all, Holder::Window));
        record.scopes.retain(|it| match &it.database {
            Some(name) => held(name, &it.scope, Holder::Operator),
            None => standing(&it.scope),
        });
        record.fences.retain(|name, _| self.has_fence(name));
        record.caps.retain(|name, _| capped(name));
        if !standing(&all) {
            record.everywhere = None;
        }
    }
}

fn has_hold(gate: &Gate, holder: Holder) -> bool {
    let (_, holds) = gate.holds();
    holds.iter().any(|(held_by, _)| *held_by == holder)
}
