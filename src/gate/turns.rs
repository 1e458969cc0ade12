//! Lets in who waited: calls them in turn, after a hold and under a cap.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::admission::Flow;
use super::cap::{Cap, CapEffect, CapEvent, CapSpec};
use super::driver::{Control, Gate, OWN};
use super::mode::{Generation, Mode};
use super::reopen::{Seen, Turn};
use crate::audit::{Event as Told, Kind};
use crate::clock;

impl Gate {
    /// At most `spec.transactions` transactions at once from now on, until the cap's time is over or it
    /// is lifted; what comes above waits in the queue, like at a hold. Those inside go on. A cap that is
    /// there is replaced; returns the number of the new one.
    ///
    /// A hold does what it does with or without a cap, and when it has ended the cap is still on. Only
    /// for the gate of a whole database.
    pub fn cap(self: &Arc<Self>, spec: CapSpec) -> Generation {
        let (_, generation) = self.apply_to_cap(CapEvent::Set(spec));
        generation
    }

    /// Takes the cap off; with a generation only that very one. True when there was such a cap.
    pub fn lift_cap(self: &Arc<Self>, generation: Option<Generation>) -> bool {
        let (acted, _) = self.apply_to_cap(CapEvent::Lift(generation));
        acted
    }

    /// The cap that is on.
    pub fn capped(&self) -> Option<Cap> {
        self.control().caps.current().cloned()
    }

    /// The most transactions that were seen at once in the last minute.
    pub fn busiest(&self) -> u32 {
        let mut busiest = self.busiest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        busiest.look(self.permits(), now);
        busiest.most(now)
    }

    /// Says whether anything was done, and the number of the cap that is on afterwards.
    fn apply_to_cap(self: &Arc<Self>, event: CapEvent) -> (bool, Generation) {
        let mut control = self.control();
        let effects = control.caps.apply(event, clock::now());
        let acted = !effects.is_empty();
        let generation = control.caps.current().map(|cap| cap.generation);
        for effect in effects {
            match effect {
                CapEffect::Pace => {
                    self.cut_first_stage(&mut control);
                    self.pace(&mut control);
                    self.step_on(&mut control);
                }
                CapEffect::SetTimer(generation, at) => self.set_cap_timer(generation, at),
                CapEffect::Ended(cap) => self.cap_ended(&cap),
            }
        }
        drop(control);
        self.tell_change();
        (acted, generation.unwrap_or_default())
    }

    fn set_cap_timer(self: &Arc<Self>, generation: Generation, at: Instant) {
        let gate = Arc::clone(self);
        let stop = self.shared.tasks.shutdown_token();
        self.shared.tasks.spawn("cap timer", async move {
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {
                    gate.apply_to_cap(CapEvent::Timer(generation));
                }
                () = gate.cap_gone(generation) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn cap_gone(&self, generation: Generation) {
        let mut changes = self.changes();
        while self
            .capped()
            .is_some_and(|cap| cap.generation == generation)
        {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn cap_ended(&self, cap: &Cap) {
        let (database, most) = (self.database(), cap.spec.transactions);
        tracing::info!(database, most, "cap ended");
        self.shared.audit.tell(Told {
            before: Some(format!("capped at {most}")),
            outcome: Some(format!("the cap of {} ended", cap.spec.by)),
            ..Told::of(Kind::Cap, database)
        });
    }

    /// Begins to let in those who wait.
    pub(super) fn reopen(self: &Arc<Self>, control: &mut Control) {
        let pace = *self
            .shared
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        control.pacing.begin(pace, clock::now());
        self.pace(control);
        self.step_on(control);
    }

    /// Somebody came to a gate that may be paced.
    pub(super) fn keep_pace(&self) {
        if self.admission.is_paced() {
            self.pass_the_turn_on();
        }
    }

    /// Looks who may come in now.
    pub(super) fn pass_the_turn_on(&self) {
        self.pace(&mut self.control());
    }

    /// Calls whose turn it is; opens when nothing is left to pace. While the gate is held nobody is
    /// called.
    fn pace(&self, control: &mut Control) -> Option<Instant> {
        if control.state.mode() != Mode::Open {
            return None;
        }
        if !self.admission.is_paced() {
            self.turn(Flow::Paced);
        }
        loop {
            let (waiting, _) = self.queue.waiting_at(OWN);
            let cap = control.caps.current();
            let seen = Seen {
                inside: usize::try_from(self.permits()).unwrap_or(usize::MAX),
                waiting,
                cap: cap.and_then(|cap| usize::try_from(cap.spec.transactions).ok()),
            };
            match control.pacing.next(clock::now(), seen) {
                Turn::LetIn(most) => {
                    self.queue.call(OWN, most, || self.admission.admit_anyway());
                }
                Turn::Open => {
                    self.turn(Flow::Open);
                    self.queue.wake(OWN);
                    return None;
                }
                Turn::Wait(at) => return at,
            }
        }
    }

    /// Goes on with a reopening from step to step, in one task.
    fn step_on(self: &Arc<Self>, control: &mut Control) {
        if control.stepping || !control.pacing.is_reopening() {
            return;
        }
        control.stepping = true;
        let gate = Arc::clone(self);
        let stop = self.shared.tasks.shutdown_token();
        self.shared.tasks.spawn("reopening", async move {
            while let Some(at) = gate.next_step() {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Looks who may come in now, and says when to look again; `None` when the reopening is over.
    fn next_step(&self) -> Option<Instant> {
        let mut control = self.control();
        let at = self.pace(&mut control);
        if at.is_none() {
            control.stepping = false;
        }
        at
    }
}
