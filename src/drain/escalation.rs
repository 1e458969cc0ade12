//! Which rung of the ladder a drain is on, and what follows from what is seen.
//!
//! ```text
//!   Wait ──time──► Cancel ──time──► Terminate ──time──► exhausted
//!     │              │                 │
//!     └──────────────┴─────────────────┴── nothing left ──► drained, or unproved
//! ```
//!
//! Times are arguments: nothing here reads a clock.

use std::time::{Duration, Instant};

use crate::config::{self, Preset, words};

words! {
    /// One rung: what is done to those in the way.
    Step {
        /// Nothing: they may come to their end.
        Wait = "wait",
        /// Running statements are cancelled (57014).
        Cancel = "cancel",
        /// Sessions are terminated (57P01).
        Terminate = "terminate",
    }
}

/// Within a step its order is given again after this time, to whoever is in the way then.
const AGAIN: Duration = Duration::from_secs(1);

/// The steps of one drain, each with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<(Step, Duration)>,
}

impl Ladder {
    /// *gentle* waits; *firm* waits and cancels; *force* also terminates.
    #[must_use]
    pub fn new(settings: &config::Ladder) -> Ladder {
        let config::Ladder {
            preset,
            wait,
            cancel,
            terminate,
        } = *settings;
        let mut steps = vec![(Step::Wait, wait)];
        match preset {
            Preset::Gentle => {}
            Preset::Firm => steps.push((Step::Cancel, cancel)),
            Preset::Force => {
                steps.push((Step::Cancel, cancel));
                steps.push((Step::Terminate, terminate));
            }
        }
        Ladder { steps }
    }

    /// The same, but at its end after `limit`; steps that come later have no time and are not taken.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Ladder {
        let mut left = limit;
        for (_, time) in &mut self.steps {
            *time = (*time).min(left);
            left -= *time;
        }
        self
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

/// What is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Permits that are out.
    pub permits: u32,
    /// What the server says.
    pub proof: Proof,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look again, at this time at the latest.
    LookAgain(Instant),
    /// Do this to those in the way, then look again.
    Act(Step),
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
    rung: usize,
    ends: Instant,
    act: Instant,
}

impl Escalation {
    /// Begins on the first step.
    #[must_use]
    pub fn begin(ladder: Ladder, now: Instant) -> Escalation {
        let ends = now
            + ladder
                .steps
                .first()
                .map_or(Duration::ZERO, |(_, time)| *time);
        Escalation {
            ladder,
            rung: 0,
            ends,
            act: now,
        }
    }

    /// The step it is on.
    #[must_use]
    pub fn step(&self) -> Step {
        self.ladder
            .steps
            .get(self.rung)
            .map_or(Step::Wait, |(step, _)| *step)
    }

    /// The only door for changes.
    pub fn observe(&mut self, seen: Observation, now: Instant) -> Verdict {
        match (seen.permits, seen.proof) {
            (0, Proof::Clear) => return Verdict::Drained,
            (0, Proof::Impossible) => return Verdict::Unproved,
            (0, Proof::Unknown | Proof::Busy) | (1.., _) => {}
        }
        while now >= self.ends {
            let Some((_, time)) = self.ladder.steps.get(self.rung + 1) else {
                return match (seen.permits, seen.proof) {
                    (0, Proof::Unknown) => Verdict::Unproved,
                    (_, Proof::Clear | Proof::Busy | Proof::Unknown | Proof::Impossible) => {
                        Verdict::Exhausted
                    }
                };
            };
            self.rung += 1;
            self.act = self.ends;
            self.ends += *time;
        }
        match self.step() {
            Step::Wait => Verdict::LookAgain(self.ends),
            step @ (Step::Cancel | Step::Terminate) if now >= self.act => {
                self.act = now + AGAIN;
                Verdict::Act(step)
            }
            Step::Cancel | Step::Terminate => Verdict::LookAgain(self.ends.min(self.act)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ladder(preset: Preset) -> Ladder {
        Ladder::new(&config::Ladder {
            preset,
            wait: 2 * SECOND,
            cancel: 3 * SECOND,
            terminate: 4 * SECOND,
        })
    }

    fn escalation(preset: Preset, now: Instant) -> Escalation {
        Escalation::begin(ladder(preset), now)
    }

    fn busy() -> Observation {
        Observation {
            permits: 1,
            proof: Proof::Busy,
        }
    }

    #[test]
    fn each_preset_climbs_as_far_as_it_says() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let table: &[(Preset, &[(u32, Verdict)])] = &[
            (
                Preset::Gentle,
                &[(0, Verdict::LookAgain(at(2))), (2, Verdict::Exhausted)],
            ),
            (
                Preset::Firm,
                &[
                    (1, Verdict::LookAgain(at(2))),
                    (2, Verdict::Act(Step::Cancel)),
                    (2, Verdict::LookAgain(at(3))),
                    (3, Verdict::Act(Step::Cancel)),
                    (5, Verdict::Exhausted),
                ],
            ),
            (
                Preset::Force,
                &[
                    (2, Verdict::Act(Step::Cancel)),
                    (5, Verdict::Act(Step::Terminate)),
                    (6, Verdict::Act(Step::Terminate)),
                    (9, Verdict::Exhausted),
                ],
            ),
        ];
        for (preset, looks) in table {
            let mut escalation = escalation(*preset, start);
            for (seconds, expected) in *looks {
                let verdict = escalation.observe(busy(), at(*seconds));
                assert_eq!(verdict, *expected, "{preset} after {seconds} s");
            }
        }
    }

    #[test]
    fn a_late_look_climbs_over_steps_that_had_no_time() {
        let start = Instant::now();
        let mut escalation = escalation(Preset::Force, start);
        assert_eq!(
            escalation.observe(busy(), start + 6 * SECOND),
            Verdict::Act(Step::Terminate)
        );
    }

    #[test]
    fn a_limit_ends_the_ladder_on_whatever_step_it_is() {
        let start = Instant::now();
        let mut escalation = Escalation::begin(ladder(Preset::Force).within(4 * SECOND), start);
        for (seconds, expected) in [
            (1, Verdict::LookAgain(start + 2 * SECOND)),
            (3, Verdict::Act(Step::Cancel)),
            (4, Verdict::Exhausted),
        ] {
            let verdict = escalation.observe(busy(), start + seconds * SECOND);
            assert_eq!(verdict, expected, "after {seconds} s");
        }
    }

    #[test]
    fn drained_needs_both_the_count_and_the_server() {
        let start = Instant::now();
        let cases = [
            (0, Proof::Clear, Verdict::Drained),
            (0, Proof::Impossible, Verdict::Unproved),
            (0, Proof::Busy, Verdict::LookAgain(start + 2 * SECOND)),
            (0, Proof::Unknown, Verdict::LookAgain(start + 2 * SECOND)),
            (1, Proof::Clear, Verdict::LookAgain(start + 2 * SECOND)),
            (1, Proof::Impossible, Verdict::LookAgain(start + 2 * SECOND)),
        ];
        for (permits, proof, expected) in cases {
            let seen = Observation { permits, proof };
            assert_eq!(
                escalation(Preset::Firm, start).observe(seen, start),
                expected,
                "{seen:?}"
            );
        }
    }

    #[test]
    fn at_the_end_unknown_is_not_drained_and_not_blamed_on_anybody() {
        let start = Instant::now();
        let seen = Observation {
            permits: 0,
            proof: Proof::Unknown,
        };
        let verdict = escalation(Preset::Gentle, start).observe(seen, start + 2 * SECOND);
        assert_eq!(verdict, Verdict::Unproved);
    }
}
