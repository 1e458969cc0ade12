//! Which holds are on a gate, and what follows from each command and each timer.
//!
//! ```text
//!            hold                    its time passes, then = open; release
//!   (none) ───────► Running ──────────────────────────────────────────────► (none)
//!                      │  ▲ hold again (a new generation)                      ▲
//!                      │  └─────────┐                                          │
//!                      └──────► Overdue ───────────────────────────────────────┘
//!              its time passes,               release
//!              then = stay
//! ```
//!
//! One such line per [`Holder`]; the gate is closed while any holder has a hold. The hold that closes it
//! may ask for a first stage, in which transactions that begin no block still pass:
//!
//! ```text
//!   (open) ──► First stage ── its time, a command, a hold without one ──► closed for all
//! ```
//!
//! There is no way back into it. A hold may be read-only: then transactions that only read pass. The
//! stricter of two holds decides, whoever came first:
//!
//! ```text
//!   no hold: open     read-only ones alone: read-only     any other: closed, or in its first stage
//! ```
//!
//! From each of them the gate goes to each other at once, without being another thing in between. Times are arguments: nothing here reads a clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::mode::{Generation, HoldSpec, Holder, Mode};
use crate::config::{Blocked, Then};
use crate::faults::{Fault, is_back};
use crate::wire::refusal::Sqlstate;

/// One hold on a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub generation: Generation,
    /// What was asked for.
    pub spec: HoldSpec,
    /// When it began.
    pub since: Instant,
    /// Whether its time has passed.
    pub phase: Phase,
}

/// Whether a hold's own end is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It ends at this time, by its policy.
    Running {
        /// The end.
        until: Instant,
    },
    /// Its time has passed and its policy was to stay; a person has to end it.
    Overdue,
}

/// What happens to a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody closes the gate, or renews a hold of theirs.
    Hold {
        /// Whose hold it is.
        holder: Holder,
        /// What is asked for.
        spec: HoldSpec,
    },
    /// Somebody ends a hold; with a generation only that very one.
    Release {
        /// Whose hold it is.
        holder: Holder,
        /// Which one, if not whichever there is.
        generation: Option<Generation>,
    },
    /// The time of a hold may have passed.
    Timer {
        /// Whose hold it is.
        holder: Holder,
        /// Which one the timer was set for.
        generation: Generation,
    },
    /// The time of a first stage may have passed, or nothing is left that it waits for.
    EndStage {
        /// The hold that began it, if not whichever it is.
        generation: Option<Generation>,
    },
}

/// What is to be done about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// No transaction may start from now on.
    Close,
    /// No transaction block may start from now on; tell this state [`Event::EndStage`] at that time.
    CloseForBlocks {
        /// Which hold began it.
        generation: Generation,
        /// When it is over at the latest.
        at: Instant,
    },
    /// Only transactions that read may start from now on. Those who wait look whether they are such.
    CloseForWrites,
    /// Transactions may start: those that wait first.
    Open,
    /// Those who wait are refused from now on.
    Reject,
    /// Tell this state again at that time.
    SetTimer {
        /// Whose hold it is.
        holder: Holder,
        /// For which hold.
        generation: Generation,
        /// When.
        at: Instant,
    },
    /// A hold is over.
    Ended {
        /// Whose it was.
        holder: Holder,
        /// The hold as it was.
        hold: Hold,
        /// What ended it.
        why: EndedBy,
    },
    /// A hold's time has passed and traffic stays held: a person should look.
    Alert {
        /// Whose hold it is.
        holder: Holder,
        /// Which one.
        generation: Generation,
    },
}

/// What ended a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// A command.
    Command,
    /// Its time passed.
    Time,
    /// A newer hold of the same holder.
    Replaced,
}

/// What happens to who may not start a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it waits.
    pub blocked: Blocked,
    /// How long at most.
    pub deadline: Duration,
    /// What it is told if it may not wait; 55P03 if nothing else was asked for.
    pub sqlstate: Option<Sqlstate>,
    /// Whether it would have been let in, had it only read.
    pub read_only: bool,
}

impl Standing {
    /// What happens where both are on: one that stops reads too decides alone; of two of a kind one that
    /// rejects decides, and the nearer deadline counts.
    #[must_use]
    pub fn stricter(self, other: Standing) -> Standing {
        match (self.read_only, other.read_only) {
            (true, false) => return other,
            (false, true) => return self,
            (true, true) | (false, false) => {}
        }
        let first = match (self.blocked, other.blocked) {
            (Blocked::Queue, Blocked::Reject) => other,
            (Blocked::Reject, _) | (Blocked::Queue, Blocked::Queue) => self,
        };
        Standing {
            deadline: self.deadline.min(other.deadline),
            ..first
        }
    }
}

/// The holds on one gate.
#[derive(Debug, Default)]
pub struct State {
    holds: BTreeMap<Holder, Hold>,
    last: Generation,
    /// The hold whose first stage is on.
    first_stage: Option<Generation>,
}

impl State {
    /// Open while there is no hold, and read-only while there is none but such.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.holds.is_empty() {
            Mode::Open
        } else if self.holds.values().all(|hold| hold.spec.read_only) {
            Mode::ReadOnly
        } else {
            Mode::Hold
        }
    }

    /// Whether one of the holds is read-only, whatever the others are.
    #[must_use]
    pub fn wants_read_only(&self) -> bool {
        self.holds.values().any(|hold| hold.spec.read_only)
    }

    /// The holds, widest first.
    pub fn holds(&self) -> impl Iterator<Item = (Holder, &Hold)> {
        self.holds.iter().map(|(holder, hold)| (*holder, hold))
    }

    /// The hold of one holder.
    #[must_use]
    pub fn hold(&self, holder: Holder) -> Option<&Hold> {
        self.holds.get(&holder)
    }

    /// What happens to a blocked client: the stricter of the holds decides, and of equally strict ones
    /// the nearer of their deadlines counts. `None` while there is no hold.
    #[must_use]
    pub fn blocked(&self) -> Option<Standing> {
        let holds = self.holds.values().map(|hold| Standing {
            blocked: hold.spec.blocked,
            deadline: hold.spec.client_deadline,
            sqlstate: hold.spec.sqlstate,
            read_only: hold.spec.read_only,
        });
        holds.reduce(Standing::stricter)
    }

    /// The only door for changes.
    pub fn apply(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Hold { holder, spec } => self.begin(holder, spec, now, &mut effects),
            Event::Release { holder, generation } => {
                let there = self.holds.get(&holder).map(|hold| hold.generation);
                let any = generation.is_none() || is_back(Fault::OldRelease);
                if there.is_some() && (any || generation == there) {
                    self.end(holder, EndedBy::Command, &mut effects);
                }
            }
            Event::Timer { holder, generation } => {
                self.timer(holder, generation, now, &mut effects);
            }
            Event::EndStage { generation } => {
                if generation.is_none() || generation == self.first_stage {
                    self.end_stage(&mut effects);
                }
            }
        }
        effects
    }

    fn begin(&mut self, holder: Holder, spec: HoldSpec, now: Instant, effects: &mut Vec<Effect>) {
        self.last = Generation(self.last.0 + 1);
        let (generation, before) = (self.last, self.mode());
        let (stage, rejects) = (spec.first_stage, spec.blocked == Blocked::Reject);
        let until = now + spec.duration;
        let ends_stage = spec.read_only || stage.is_zero();
        let hold = Hold {
            generation,
            spec,
            since: now,
            phase: Phase::Running { until },
        };
        let replaced = self.holds.insert(holder, hold);
        match (before, self.mode()) {
            (Mode::Open, Mode::Hold) if !stage.is_zero() => {
                self.first_stage = Some(generation);
                let at = now + stage;
                effects.push(Effect::CloseForBlocks { generation, at });
            }
            (Mode::Open | Mode::ReadOnly, Mode::Hold) => effects.push(Effect::Close),
            (Mode::Open | Mode::Hold, Mode::ReadOnly) => self.close_for_writes(effects),
            (Mode::Hold, Mode::Hold) if ends_stage => self.end_stage(effects),
            (Mode::Hold, Mode::Hold) | (Mode::ReadOnly, Mode::ReadOnly) | (_, Mode::Open) => {}
        }
        if before != Mode::Open && rejects {
            effects.push(Effect::Reject);
        }
        if let Some(hold) = replaced {
            let why = EndedBy::Replaced;
            effects.push(Effect::Ended { holder, hold, why });
        }
        let at = until;
        effects.push(Effect::SetTimer {
            holder,
            generation,
            at,
        });
    }

    fn end(&mut self, holder: Holder, why: EndedBy, effects: &mut Vec<Effect>) {
        let before = self.mode();
        if let Some(hold) = self.holds.remove(&holder) {
            match (before, self.mode()) {
                (_, Mode::Open) => {
                    self.first_stage = None;
                    effects.push(Effect::Open);
                }
                (Mode::Hold, Mode::ReadOnly) => self.close_for_writes(effects),
                (_, Mode::Hold) | (Mode::Open | Mode::ReadOnly, Mode::ReadOnly) => {}
            }
            effects.push(Effect::Ended { holder, hold, why });
        }
    }

    fn close_for_writes(&mut self, effects: &mut Vec<Effect>) {
        self.first_stage = None;
        effects.push(Effect::CloseForWrites);
    }

    fn end_stage(&mut self, effects: &mut Vec<Effect>) {
        if self.first_stage.take().is_some() {
            effects.push(Effect::Close);
        }
    }

    fn timer(
        &mut self,
        holder: Holder,
        generation: Generation,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hold) = self.holds.get_mut(&holder) else {
            return;
        };
        if is_back(Fault::StaleTimer) {
            return self.end(holder, EndedBy::Time, effects);
        }
        if hold.generation != generation {
            return;
        }
        match (hold.phase, hold.spec.then) {
            (Phase::Overdue, _) => {}
            (Phase::Running { until }, _) if now < until => {
                effects.push(Effect::SetTimer {
                    holder,
                    generation,
                    at: until,
                });
            }
            (Phase::Running { .. }, Then::Open) => self.end(holder, EndedBy::Time, effects),
            (Phase::Running { .. }, Then::Stay) => {
                hold.phase = Phase::Overdue;
                effects.push(Effect::Alert { holder, generation });
            }
        }
    }
}

#[cfg(test)]
mod tests;
