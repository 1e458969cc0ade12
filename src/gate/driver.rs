//! One gate at work: carries out what its state decides, and lets sessions in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::admission::{Admission, Closed, Epoch, Left};
use super::mode::{Generation, HoldSpec, Holder, Mode};
use super::queue::{Place, Queue};
use super::state::{Effect, EndedBy, Event, Hold, State};
use crate::audit::{Audit, Event as Told, Kind};
use crate::clock;
use crate::config::Blocked;
use crate::faults::{Fault, is_back};
use crate::metrics::Metrics;
use crate::tasks::Tasks;

/// The gate of one database.
#[derive(Debug)]
pub struct Gate {
    database: String,
    admission: Admission,
    queue: Queue,
    state: Mutex<State>,
    /// When the last permit came back to the closed gate.
    emptied: Mutex<Option<Instant>>,
    /// Told when the last permit comes back to the closed gate.
    quiet: Notify,
    /// Counts changes of `state`.
    changes: watch::Sender<u64>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
}

impl Gate {
    /// An open gate. Its timers run in `tasks`.
    pub fn new(database: &str, tasks: Tasks, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Gate {
        Gate {
            database: database.to_owned(),
            admission: Admission::default(),
            queue: Queue::default(),
            state: Mutex::default(),
            emptied: Mutex::default(),
            quiet: Notify::new(),
            changes: watch::Sender::new(0),
            tasks,
            metrics,
            audit,
        }
    }

    /// The database whose transactions pass here.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Takes a permit for a transaction, or `None` while the gate is closed. Give it back with
    /// [`Gate::release`].
    #[inline]
    pub fn admit(&self) -> Option<Epoch> {
        match self.admission.admit() {
            Ok(epoch) => Some(epoch),
            Err(Closed(left)) => {
                self.note_left(left);
                None
            }
        }
    }

    /// Gives a permit back.
    #[inline]
    pub fn release(&self, permit: Epoch) {
        let left = self.admission.release(permit);
        self.note_left(left);
    }

    /// Whether a transaction may start now.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.admission.is_open()
    }

    /// How many permits are out.
    pub fn permits(&self) -> u32 {
        self.admission.permits()
    }

    /// What a blocked client gets, and how long it waits at most; `None` while the gate is open.
    pub fn blocked(&self) -> Option<(Blocked, Duration)> {
        self.state().blocked()
    }

    /// Takes a place in the queue, if fewer than `limit` clients wait.
    pub fn join(&self, waker: &Waker, limit: usize) -> Option<Place> {
        self.queue.join(waker, clock::now(), limit)
    }

    /// Keeps the waker of a waiting client current; to be called before [`Gate::admit`] is tried
    /// again.
    pub fn refresh(&self, place: &Place, waker: &Waker) {
        self.queue.refresh(place, waker);
    }

    /// Gives a place in the queue back.
    pub fn leave(&self, place: Place) {
        if let Some(waited) = self.queue.leave(place, clock::now()) {
            self.metrics.client_waited(waited);
        }
    }

    /// How many clients wait, and since when the oldest.
    pub fn waiting(&self) -> (usize, Option<Instant>) {
        self.queue.waiting()
    }

    /// Closes the gate for `holder`, or renews its hold; returns the number of the new hold.
    pub fn hold(self: &Arc<Self>, holder: Holder, spec: HoldSpec) -> Generation {
        let mut state = self.state();
        let effects = state.apply(Event::Hold { holder, spec }, clock::now());
        let generation = state
            .hold(holder)
            .map_or(Generation::default(), |hold| hold.generation);
        self.carry_out(state, effects);
        generation
    }

    /// Ends the hold of `holder`; with a generation only that very one. The gate opens when no
    /// other is left. True when there was such a hold.
    pub fn end_hold(self: &Arc<Self>, holder: Holder, generation: Option<Generation>) -> bool {
        self.apply(Event::Release { holder, generation })
    }

    /// The mode and the holds behind it.
    pub fn holds(&self) -> (Mode, Vec<(Holder, Hold)>) {
        let state = self.state();
        let holds = state
            .holds()
            .map(|(holder, hold)| (holder, hold.clone()))
            .collect();
        (state.mode(), holds)
    }

    /// Whether this very hold is still on.
    pub fn is_held_by(&self, holder: Holder, generation: Generation) -> bool {
        self.state()
            .hold(holder)
            .is_some_and(|hold| hold.generation == generation)
    }

    /// Told of every change of the holds.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until no permit is out of the closed gate. Cancel safe.
    pub async fn quiet(&self) {
        loop {
            let notified = self.quiet.notified();
            if !self.is_open() && self.permits() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// When the last permit came back since the gate was closed; `None` if none was out then, or
    /// some still are.
    pub fn emptied_at(&self) -> Option<Instant> {
        *self.emptied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn note_left(&self, left: Left) {
        match left {
            Left::Others => {}
            Left::Nobody => {
                let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
                *emptied = Some(clock::now());
                self.quiet.notify_waiters();
            }
        }
    }

    fn apply(self: &Arc<Self>, event: Event) -> bool {
        let mut state = self.state();
        let effects = state.apply(event, clock::now());
        let acted = !effects.is_empty();
        self.carry_out(state, effects);
        acted
    }

    /// Carries effects out while the state is still locked, so that two commands cannot turn the
    /// gate in another order than they changed the state. Nothing here waits.
    fn carry_out(self: &Arc<Self>, state: MutexGuard<'_, State>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Close => {
                    *self.emptied.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.admission.turn(true);
                }
                Effect::Open => {
                    self.admission.turn(false);
                    self.queue.wake_all();
                }
                Effect::Reject => self.queue.wake_all(),
                Effect::SetTimer {
                    holder,
                    generation,
                    at,
                } => {
                    self.set_timer(holder, generation, at);
                }
                Effect::Ended { holder, hold, why } => self.ended(state.mode(), holder, &hold, why),
                Effect::Alert { holder, generation } => self.overdue(holder, generation),
            }
        }
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn set_timer(self: &Arc<Self>, holder: Holder, generation: Generation, at: Instant) {
        let gate = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("gate timer", async move {
            tokio::select! {
                // In this order, so that what a simulation sees does not depend on chance.
                biased;
                () = tokio::time::sleep_until(at.into()) => {
                    gate.apply(Event::Timer { holder, generation });
                }
                () = gate.gone(holder, generation), if !is_back(Fault::StaleTimer) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Waits until this hold is no more. Cancel safe.
    pub async fn gone(&self, holder: Holder, generation: Generation) {
        let mut changes = self.changes();
        while self.is_held_by(holder, generation) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn overdue(&self, holder: Holder, generation: Generation) {
        tracing::error!(
            database = self.database,
            ?holder,
            generation = generation.0,
            "the hold is past its end and stays: reopen with `pgdrain open`"
        );
        self.audit.tell(Told {
            from: Some("timer".into()),
            after: Some(Mode::Hold.to_string()),
            outcome: Some(format!("the hold by {holder} is past its end and stays")),
            ..Told::of(Kind::HoldOverdue, &self.database)
        });
    }

    fn ended(&self, mode: Mode, holder: Holder, hold: &Hold, why: EndedBy) {
        let lasted = clock::now().saturating_duration_since(hold.since);
        self.metrics.hold_ended(lasted);
        tracing::info!(
            database = self.database,
            ?holder,
            generation = hold.generation.0,
            ?why,
            lasted_ms = lasted.as_millis(),
            "hold ended"
        );
        let (by, from) = match why {
            EndedBy::Command => (None, None),
            EndedBy::Time => (None, Some("timer".into())),
            EndedBy::Replaced => return,
        };
        self.audit.tell(Told {
            by,
            from,
            before: Some(Mode::Hold.to_string()),
            after: Some(mode.to_string()),
            outcome: Some(format!(
                "the hold by {holder} of {} ended after {} ms",
                hold.spec.by,
                lasted.as_millis()
            )),
            ..Told::of(Kind::HoldEnded, &self.database)
        });
    }

    /// The state is whole after every call, so a panic elsewhere leaves nothing half-done in it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
