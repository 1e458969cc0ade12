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
//! There is no way back into it. Times are arguments: nothing here reads a clock.

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
}

impl Standing {
    /// What happens where both are on: one that rejects decides, and the nearer deadline counts.
    #[must_use]
    pub fn stricter(self, other: Standing) -> Standing {
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
    /// Open while there is no hold.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.holds.is_empty() {
            Mode::Open
        } else {
            Mode::Hold
        }
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

    /// What happens to a blocked client: the stricter of the holds decides, and the nearer of their
    /// deadlines counts. `None` while there is no hold.
    #[must_use]
    pub fn blocked(&self) -> Option<Standing> {
        let holds = self.holds.values().map(|hold| Standing {
            blocked: hold.spec.blocked,
            deadline: hold.spec.client_deadline,
            sqlstate: hold.spec.sqlstate,
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
        let generation = self.last;
        if self.holds.is_empty() && !spec.first_stage.is_zero() {
            self.first_stage = Some(generation);
            let at = now + spec.first_stage;
            effects.push(Effect::CloseForBlocks { generation, at });
        } else if self.holds.is_empty() {
            effects.push(Effect::Close);
        } else {
            if spec.first_stage.is_zero() {
                self.end_stage(effects);
            }
            if spec.blocked == Blocked::Reject {
                effects.push(Effect::Reject);
            }
        }
        let until = now + spec.duration;
        let hold = Hold {
            generation,
            spec,
            since: now,
            phase: Phase::Running { until },
        };
        if let Some(old) = self.holds.insert(holder, hold) {
            effects.push(Effect::Ended {
                holder,
                hold: old,
                why: EndedBy::Replaced,
            });
        }
        effects.push(Effect::SetTimer {
            holder,
            generation,
            at: until,
        });
    }

    fn end(&mut self, holder: Holder, why: EndedBy, effects: &mut Vec<Effect>) {
        if let Some(hold) = self.holds.remove(&holder) {
            if self.holds.is_empty() {
                self.first_stage = None;
                effects.push(Effect::Open);
            }
            effects.push(Effect::Ended { holder, hold, why });
        }
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
mod tests {
    use super::*;

    fn spec(then: Then) -> HoldSpec {
        HoldSpec {
            duration: Duration::from_secs(60),
            then,
            blocked: Blocked::Queue,
            sqlstate: None,
            first_stage: Duration::ZERO,
            client_deadline: Duration::from_secs(30),
            by: "test".into(),
            reason: None,
        }
    }

    fn hold(state: &mut State, holder: Holder, then: Then, now: Instant) -> Generation {
        state.apply(
            Event::Hold {
                holder,
                spec: spec(then),
            },
            now,
        );
        state.hold(holder).expect("just placed").generation
    }

    fn opens(effects: &[Effect]) -> bool {
        effects.contains(&Effect::Open)
    }

    #[test]
    fn a_gate_opens_when_its_last_hold_ends() {
        let (mut state, now) = (State::default(), Instant::now());
        hold(&mut state, Holder::Everywhere, Then::Open, now);
        hold(&mut state, Holder::Window, Then::Open, now);
        let release = |holder| Event::Release {
            holder,
            generation: None,
        };
        assert!(!opens(&state.apply(release(Holder::Everywhere), now)));
        assert_eq!(state.mode(), Mode::Hold);
        assert!(opens(&state.apply(release(Holder::Window), now)));
        assert_eq!(state.mode(), Mode::Open);
    }

    #[test]
    fn an_old_timer_never_touches_a_new_hold() {
        let (mut state, now) = (State::default(), Instant::now());
        let holder = Holder::Operator;
        let old = hold(&mut state, holder, Then::Open, now);
        state.apply(
            Event::Release {
                holder,
                generation: None,
            },
            now,
        );
        let new = hold(&mut state, holder, Then::Open, now);
        let late = now + Duration::from_secs(3600);
        assert_eq!(
            state.apply(
                Event::Timer {
                    holder,
                    generation: old
                },
                late
            ),
            vec![]
        );
        let by_old = Event::Release {
            holder,
            generation: Some(old),
        };
        assert_eq!(state.apply(by_old, late), vec![]);
        assert!(opens(&state.apply(
            Event::Timer {
                holder,
                generation: new
            },
            late
        )));
    }

    #[test]
    fn a_first_stage_ends_once_and_never_comes_back() {
        let stage = Duration::from_secs(2);
        let staged = || HoldSpec {
            first_stage: stage,
            ..spec(Then::Open)
        };
        let place =
            |state: &mut State, holder, spec, now| state.apply(Event::Hold { holder, spec }, now);
        let closes = |effects: &[Effect]| effects.contains(&Effect::Close);
        let end = |generation| Event::EndStage { generation };
        let now = Instant::now();

        let mut state = State::default();
        let effects = place(&mut state, Holder::Operator, staged(), now);
        let first = state.hold(Holder::Operator).expect("placed").generation;
        let begins = Effect::CloseForBlocks {
            generation: first,
            at: now + stage,
        };
        assert!(
            effects.contains(&begins) && !closes(&effects),
            "{effects:?}"
        );
        // Another hold with such a stage does not lengthen it; one without ends it.
        let effects = place(&mut state, Holder::Everywhere, staged(), now);
        assert!(
            !closes(&effects) && !effects.contains(&begins),
            "{effects:?}"
        );
        let effects = place(&mut state, Holder::Window, spec(Then::Stay), now);
        assert!(closes(&effects), "{effects:?}");
        assert_eq!(state.apply(end(Some(first)), now + stage), vec![]);
        // Nothing brings it back while the gate is closed.
        let effects = place(&mut state, Holder::Operator, staged(), now);
        assert!(
            !closes(&effects) && !effects.contains(&begins),
            "{effects:?}"
        );

        // Its timer does not touch the stage of a later hold.
        let mut state = State::default();
        place(&mut state, Holder::Operator, staged(), now);
        let old = state.hold(Holder::Operator).expect("placed").generation;
        let (holder, generation) = (Holder::Operator, None);
        assert!(opens(
            &state.apply(Event::Release { holder, generation }, now)
        ));
        place(&mut state, Holder::Operator, staged(), now);
        assert_eq!(state.apply(end(Some(old)), now + stage), vec![]);
        assert_eq!(state.apply(end(None), now), vec![Effect::Close]);
        assert_eq!(state.apply(end(None), now), vec![]);
    }

    #[test]
    fn an_early_timer_is_set_again() {
        let (mut state, now) = (State::default(), Instant::now());
        let holder = Holder::Operator;
        let generation = hold(&mut state, holder, Then::Open, now);
        let at = now + Duration::from_secs(60);
        let effects = state.apply(Event::Timer { holder, generation }, now);
        assert_eq!(
            effects,
            vec![Effect::SetTimer {
                holder,
                generation,
                at
            }]
        );
    }

    #[test]
    fn a_hold_that_stays_alerts_once_and_is_ended_by_a_command() {
        let (mut state, now) = (State::default(), Instant::now());
        let holder = Holder::Operator;
        let generation = hold(&mut state, holder, Then::Stay, now);
        let late = now + Duration::from_secs(61);
        let timer = Event::Timer { holder, generation };
        assert_eq!(
            state.apply(timer.clone(), late),
            vec![Effect::Alert { holder, generation }]
        );
        assert_eq!(state.apply(timer, late), vec![]);
        assert_eq!(state.mode(), Mode::Hold);
        assert!(opens(&state.apply(
            Event::Release {
                holder,
                generation: None
            },
            late
        )));
    }

    #[test]
    fn the_stricter_of_two_holds_decides_what_the_blocked_get() {
        let (mut state, now) = (State::default(), Instant::now());
        hold(&mut state, Holder::Everywhere, Then::Open, now);
        let strict = HoldSpec {
            blocked: Blocked::Reject,
            client_deadline: Duration::from_secs(5),
            ..spec(Then::Open)
        };
        let effects = state.apply(
            Event::Hold {
                holder: Holder::Operator,
                spec: strict,
            },
            now,
        );
        assert_eq!(
            state.blocked(),
            Some(Standing {
                blocked: Blocked::Reject,
                deadline: Duration::from_secs(5),
                sqlstate: None,
            })
        );
        assert!(effects.contains(&Effect::Reject), "{effects:?}");
    }
}
