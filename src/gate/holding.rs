//! Closes a gate and opens it again, as its state decides, and tells of it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::admission::Flow;
use super::driver::{Control, Gate, OWN};
use super::mode::{Generation, HoldSpec, Holder, Mode};
use super::state::{Effect, EndedBy, Event, Hold};
use crate::audit::{Event as Told, Kind};
use crate::clock;
use crate::faults::{Fault, is_back};

impl Gate {
    /// Closes the gate for `holder`, or renews its hold; returns the number of the new hold.
    pub fn hold(self: &Arc<Self>, holder: Holder, spec: HoldSpec) -> Generation {
        let mut control = self.control();
        let before = control.state.mode();
        let effects = control
            .state
            .apply(Event::Hold { holder, spec }, clock::now());
        let generation = control.state.hold(holder);
        let generation = generation.map_or(Generation::default(), |hold| hold.generation);
        self.carry_out(control, before, effects);
        generation
    }

    /// The same, unless the gate is not held at all.
    pub(super) fn hold_too(self: &Arc<Self>, holder: Holder, spec: HoldSpec) -> Option<Generation> {
        let mut control = self.control();
        let before = control.state.mode();
        if before == Mode::Open {
            return None;
        }
        let effects = control
            .state
            .apply(Event::Hold { holder, spec }, clock::now());
        let generation = control.state.hold(holder).map(|hold| hold.generation);
        self.carry_out(control, before, effects);
        generation
    }

    /// Ends the hold of `holder`; with a generation only that very one. The gate opens when no
    /// other is left. True when there was such a hold.
    pub fn end_hold(self: &Arc<Self>, holder: Holder, generation: Option<Generation>) -> bool {
        self.apply(Event::Release { holder, generation })
    }

    /// The mode and the holds behind it.
    pub fn holds(&self) -> (Mode, Vec<(Holder, Hold)>) {
        let control = self.control();
        let holds = control.state.holds();
        let holds = holds.map(|(holder, hold)| (holder, hold.clone())).collect();
        (control.state.mode(), holds)
    }

    /// Whether this very hold is still on.
    pub fn is_held_by(&self, holder: Holder, generation: Generation) -> bool {
        self.control()
            .state
            .hold(holder)
            .is_some_and(|hold| hold.generation == generation)
    }

    fn apply(self: &Arc<Self>, event: Event) -> bool {
        let mut control = self.control();
        let before = control.state.mode();
        let effects = control.state.apply(event, clock::now());
        let acted = !effects.is_empty();
        self.carry_out(control, before, effects);
        acted
    }

    /// Carries effects out while the state is still locked, so that two commands cannot turn the
    /// gate in another order than they changed the state. Nothing here waits.
    fn carry_out(
        self: &Arc<Self>,
        mut control: MutexGuard<'_, Control>,
        before: Mode,
        effects: Vec<Effect>,
    ) {
        let news = self.note_wants(&control);
        for effect in effects {
            match effect {
                Effect::Close => self.close(&mut control),
                Effect::CloseForBlocks { generation, at } => {
                    self.close_for_blocks(&mut control, generation, at);
                }
                Effect::CloseForWrites => self.close_for_writes(&mut control),
                Effect::Open => self.open(&mut control),
                Effect::Reject => self.queue.wake(self.number),
                Effect::SetTimer {
                    holder,
                    generation,
                    at,
                } => {
                    self.set_timer(holder, generation, at);
                }
                Effect::Ended { holder, hold, why } => {
                    self.ended((before, control.state.mode()), holder, &hold, why);
                }
                Effect::Alert { holder, generation } => {
                    self.overdue(control.state.mode(), holder, generation);
                }
            }
        }
        drop(control);
        self.tell_change();
        if news {
            self.tell_read_only();
        }
    }

    /// Transaction blocks start no more, others do. A gate that is not open to all, because it is capped
    /// or still lets in who waited, closes for all at once.
    fn close_for_blocks(
        self: &Arc<Self>,
        control: &mut Control,
        generation: Generation,
        at: Instant,
    ) {
        if !self.is_open() || control.caps.current().is_some() {
            return self.cut_first_stage(control);
        }
        *self.emptied.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.turn(Flow::Autocommit);
        let gate = Arc::clone(self);
        let stop = self.shared.tasks.shutdown_token();
        self.shared.tasks.spawn("first stage", async move {
            let end = Event::EndStage {
                generation: Some(generation),
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(at.into()) => {
                    gate.apply(end);
                }
                () = gate.stage_gone() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Closes for all a gate whose first stage would let in more than may be.
    pub(super) fn cut_first_stage(&self, control: &mut Control) {
        let end = Event::EndStage { generation: None };
        if !control.state.apply(end, clock::now()).is_empty() {
            self.close(control);
        }
    }

    async fn stage_gone(&self) {
        let mut changes = self.changes();
        while self.is_in_first_stage() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends the first stage, if the gate is in one: from now on nobody starts.
    pub fn end_first_stage(self: &Arc<Self>) {
        self.apply(Event::EndStage { generation: None });
    }

    /// Nobody starts any more, those neither whose turn has just come.
    fn close(&self, control: &mut Control) {
        *self.emptied.lock().unwrap_or_else(PoisonError::into_inner) = None;
        control.pacing.end();
        self.turn(Flow::Closed);
        self.call_back();
        self.tell_quiet();
    }

    /// Those who wait may start, in turn. Who waited at a gate of some clients now waits at that of the
    /// database, which may be closed.
    fn open(self: &Arc<Self>, control: &mut Control) {
        match &self.wide {
            None => {
                self.note_opening();
                self.reopen(control);
            }
            Some(wide) => {
                self.turn(Flow::Open);
                let mut control = wide.control();
                self.queue.move_all(self.number, OWN);
                if control.state.mode() == Mode::Open {
                    wide.reopen(&mut control);
                } else {
                    // What they get there may be another thing.
                    wide.queue.wake(OWN);
                }
            }
        }
    }

    fn set_timer(self: &Arc<Self>, holder: Holder, generation: Generation, at: Instant) {
        let gate = Arc::clone(self);
        let stop = self.shared.tasks.shutdown_token();
        self.shared.tasks.spawn("gate timer", async move {
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

    fn overdue(&self, mode: Mode, holder: Holder, generation: Generation) {
        tracing::error!(
            database = self.database,
            ?holder,
            generation = generation.0,
            "the hold is past its end and stays: reopen with `pgdrain open`"
        );
        self.shared.audit.tell(Told {
            from: Some("timer".into()),
            after: Some(mode.to_string()),
            outcome: Some(format!(
                "the hold by {holder}{} is past its end and stays",
                self.on()
            )),
            ..Told::of(Kind::HoldOverdue, &self.database)
        });
    }

    fn ended(&self, (before, after): (Mode, Mode), holder: Holder, hold: &Hold, why: EndedBy) {
        let lasted = clock::now().saturating_duration_since(hold.since);
        self.shared.metrics.hold_ended(lasted);
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
        self.shared.audit.tell(Told {
            by,
            from,
            before: Some(before.to_string()),
            after: Some(after.to_string()),
            outcome: Some(format!(
                "the hold by {holder} of {}{} ended after {} ms",
                hold.spec.by,
                self.on(),
                lasted.as_millis()
            )),
            ..Told::of(Kind::HoldEnded, &self.database)
        });
    }
    /// Whom it is for, as it stands behind a hold; nothing for all.
    fn on(&self) -> String {
        if self.scope().is_whole() {
            String::new()
        } else {
            format!(" on {}", self.scope())
        }
    }
}
