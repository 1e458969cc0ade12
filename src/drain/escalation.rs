//! Which rung of the ladder a drain is on, and what follows from what is seen.
//!
//! ```text
//!   Wait ──time──► Cancel ──► Stuck ──► Abort ──► Terminate ──time──► exhausted
//!     │              │          │         │           │
//!     └──────────────┴──────────┴─────────┴───────────┴── nothing left ──► drained, or unproved
//! ```
//!
//! In front of them there may be *Autocommit*, while the gate is in its first stage: nothing is proved in
//! it, since transactions still start. It is over when its time is, when none is left that began before
//! it, or when the gate has closed for all.
//!
//! Times are arguments: nothing here reads a clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::{self, Preset, words};

words! {
    /// One rung: what is done to those in the way.
    #[derive(PartialOrd, Ord)]
    Step {
        /// Nothing, and only transaction blocks are kept from starting.
        Autocommit = "autocommit",
        /// Nothing: they may come to their end.
        Wait = "wait",
        /// Running statements are cancelled (57014).
        Cancel = "cancel",
        /// Conversations that stand still because of their client are freed from it.
        Stuck = "stuck",
        /// Transactions that sit idle are aborted in place (40001).
        Abort = "abort",
        /// Sessions are terminated (57P01).
        Terminate = "terminate",
    }
}

/// Within a step its order is given again after this time, to whoever is in the way then.
const AGAIN: Duration = Duration::from_secs(1);

/// The steps of one drain, each with its time; those without are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    steps: Vec<(Step, Duration)>,
}

impl Ladder {
    /// *gentle* waits; *firm* also cancels, frees what is stuck and aborts in place; *force* also terminates. A step
    /// without time is skipped.
    #[must_use]
    pub fn new(settings: &config::Ladder) -> Ladder {
        let config::Ladder {
            preset,
            autocommit,
            wait,
            cancel,
            stuck,
            abort,
            terminate,
        } = *settings;
        let gentle = [(Step::Autocommit, autocommit), (Step::Wait, wait)];
        let firm = [
            (Step::Cancel, cancel),
            (Step::Stuck, stuck),
            (Step::Abort, abort),
        ];
        let force = [(Step::Terminate, terminate)];
        let steps = match preset {
            Preset::Gentle => gentle.to_vec(),
            Preset::Firm => [&gentle[..], &firm].concat(),
            Preset::Force => [&gentle[..], &firm, &force].concat(),
        };
        Ladder { steps }.skipping()
    }

    /// The same, but at its end after `limit`; steps that come later are not taken.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Ladder {
        let mut left = limit;
        for (_, time) in &mut self.steps {
            *time = (*time).min(left);
            left -= *time;
        }
        self.skipping()
    }

    fn skipping(mut self) -> Ladder {
        self.steps.retain(|(_, time)| !time.is_zero());
        self
    }

    /// How long only transaction blocks are kept from starting, at most; zero is not at all.
    #[must_use]
    pub fn first_stage(&self) -> Duration {
        self.time_of(Step::Autocommit).unwrap_or(Duration::ZERO)
    }

    /// Its steps with their times, in their order.
    pub fn steps(&self) -> impl Iterator<Item = (Step, Duration)> {
        self.steps.iter().copied()
    }

    /// Whether this step is one of it.
    #[must_use]
    pub fn has(&self, step: Step) -> bool {
        self.time_of(step).is_some()
    }

    fn time_of(&self, wanted: Step) -> Option<Duration> {
        let mut steps = self.steps.iter();
        steps.find_map(|(step, time)| (*step == wanted).then_some(*time))
    }

    /// The first step behind this one.
    fn behind(&self, step: Step) -> Option<(Step, Duration)> {
        self.steps.iter().find(|(other, _)| *other > step).copied()
    }

    /// The last step in front of this one.
    fn in_front_of(&self, step: Step) -> Option<(Step, Duration)> {
        self.steps.iter().rfind(|(other, _)| *other < step).copied()
    }
}

/// What the server says about our sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// None is in a transaction.
    Clear,
    /// Some are.
    Busy,
    /// It could not be asked, or does not say; asking again may help.
    Unknown,
    /// There is nobody to ask.
    Impossible,
}

/// What came of the write that is tried before read-only mode is said to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// None is to be tried: the gate is closed to reads too.
    Needless,
    /// It has not been tried yet.
    Due,
    /// The server refused it, as that of any client.
    Refused,
    /// It was carried out, and rolled back.
    Accepted,
    /// It could not be tried, or its answer says neither; trying again may help.
    Unknown,
}

/// What is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Permits that are out; where reads go on, those that are in the way of that.
    pub permits: u32,
    /// What the server says.
    pub proof: Proof,
    /// Permits that are out since before the gate's first stage; `None` when it is in none.
    pub older: Option<u32>,
    /// What came of the write that is tried.
    pub probe: Probe,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look again, at this time at the latest.
    LookAgain(Instant),
    /// Do this to those in the way, then look again.
    Act(Step),
    /// The first stage is over: close the gate for all, then look again.
    CloseForAll,
    /// Try a write, then look again.
    Probe,
    /// A write was carried out although nobody may write.
    Writable,
    /// Nothing runs, and the server says so.
    Drained,
    /// No permit is out, but the server did not say that nothing runs.
    Unproved,
    /// The last step's time has passed and somebody is still in the way.
    Exhausted,
}

/// A drain under way.
#[derive(Debug)]
pub struct Escalation {
    ladder: Ladder,
    step: Step,
    since: Instant,
    ends: Instant,
    act: Instant,
}

impl Escalation {
    /// Begins on the first step.
    #[must_use]
    pub fn begin(ladder: Ladder, now: Instant) -> Escalation {
        let first = ladder.steps.first().copied();
        let (step, time) = first.unwrap_or((Step::Wait, Duration::ZERO));
        Escalation {
            ladder,
            step,
            since: now,
            ends: now + time,
            act: now,
        }
    }

    /// The step it is on.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// When that step is over, if the drain is not before.
    #[must_use]
    pub fn step_ends(&self) -> Instant {
        self.ends
    }

    /// The ladder as it is now.
    #[must_use]
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// Whether this step has been reached, and is one of the ladder as it is now: what it does is
    /// done in the steps behind it too.
    #[must_use]
    pub fn has_reached(&self, step: Step) -> bool {
        step <= self.step && self.ladder.has(step)
    }

    /// Goes on with another ladder. The step it is on goes on if the new one has it, and the time
    /// it took already counts. If not, the drain steps down to the last step of the new ladder in
    /// front of it, with that step's whole time from now; with none in front, up to the next. What
    /// was done is not undone.
    pub fn change(&mut self, ladder: Ladder, now: Instant) {
        self.ladder = ladder;
        if let Some(time) = self.ladder.time_of(self.step) {
            self.ends = self.since + time;
            return;
        }
        let down = self.ladder.in_front_of(self.step);
        match down.or_else(|| self.ladder.behind(self.step)) {
            Some((step, time)) => self.climb(step, time, now),
            None => self.ends = now,
        }
    }

    /// The only door for what is seen.
    pub fn observe(&mut self, seen: Observation, now: Instant) -> Verdict {
        if self.step == Step::Autocommit {
            match seen.older {
                Some(1..) if now < self.ends => return Verdict::LookAgain(self.ends),
                Some(_) | None => self.end_first_stage(now),
            }
        }
        if seen.older.is_some() {
            return Verdict::CloseForAll;
        }
        match (seen.permits, seen.proof, seen.probe) {
            (0, Proof::Clear, Probe::Needless | Probe::Refused) => return Verdict::Drained,
            (0, Proof::Clear, Probe::Due) => return Verdict::Probe,
            (0, Proof::Clear, Probe::Accepted) => return Verdict::Writable,
            (0, Proof::Impossible, _) => return Verdict::Unproved,
            (0, Proof::Clear, Probe::Unknown)
            | (0, Proof::Unknown | Proof::Busy, _)
            | (1.., _, _) => {}
        }
        while now >= self.ends {
            let Some((step, time)) = self.ladder.behind(self.step) else {
                return match (seen.permits, seen.proof) {
                    // A write that could not be tried is all that is missing.
                    (0, Proof::Unknown | Proof::Clear) => Verdict::Unproved,
                    (_, Proof::Clear | Proof::Busy | Proof::Unknown | Proof::Impossible) => {
                        Verdict::Exhausted
                    }
                };
            };
            self.climb(step, time, self.ends);
        }
        match self.step {
            Step::Autocommit | Step::Wait => Verdict::LookAgain(self.ends),
            step @ (Step::Cancel | Step::Stuck | Step::Abort | Step::Terminate)
                if now >= self.act =>
            {
                self.act = now + AGAIN;
                Verdict::Act(step)
            }
            Step::Cancel | Step::Stuck | Step::Abort | Step::Terminate => {
                Verdict::LookAgain(self.ends.min(self.act))
            }
        }
    }

    /// Goes up to the next step, with its whole time from now.
    fn end_first_stage(&mut self, now: Instant) {
        let next = self.ladder.behind(Step::Autocommit);
        let (step, time) = next.unwrap_or((Step::Wait, Duration::ZERO));
        self.climb(step, time, now.min(self.ends));
    }

    fn climb(&mut self, step: Step, time: Duration, at: Instant) {
        self.step = step;
        self.since = at;
        self.ends = at + time;
        self.act = at;
    }
}

#[cfg(test)]
mod tests;
