//! How fast those that waited are let in, and how many at once: pure, with time as an argument.
//!
//! A reopening begins with a first step of a tenth of a second, in which a tenth of its rate may come
//! in, a quarter of its transactions at once. Each step both double, the latter up to their whole. It
//! is over when nobody waits, or when it has lasted long enough. A cap goes on until it is taken off.

use std::time::{Duration, Instant};

/// How long a step lasts.
const STEP: Duration = Duration::from_millis(100);

/// Steps in a second.
const STEPS: usize = 10;

/// How a gate is reopened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Clients a second in the first step; then twice as many with each step.
    pub rate: usize,
    /// Transactions at once, at most.
    pub transactions: usize,
    /// How long it lasts at most; then the rest comes in at once.
    pub longest: Duration,
}

impl Default for Pace {
    /// What the settings are without a file.
    fn default() -> Pace {
        Pace {
            rate: 2000,
            transactions: 512,
            longest: Duration::from_secs(10),
        }
    }
}

/// What a gate looks like from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Permits that are out.
    pub inside: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// The most transactions at once that the gate is capped at, if it is.
    pub cap: Option<usize>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is paced any more: everybody may come in.
    Open,
    /// Call so many, and ask again.
    LetIn(usize),
    /// Nobody more for now. Ask when a permit comes back, when somebody comes, and at this time.
    Wait(Option<Instant>),
}

/// The pacing of one gate.
#[derive(Debug, Default)]
pub struct Pacing {
    reopening: Option<Reopening>,
}

#[derive(Debug)]
struct Reopening {
    since: Instant,
    pace: Pace,
    let_in: usize,
}

impl Pacing {
    /// Begins to let in those who wait.
    pub fn begin(&mut self, pace: Pace, now: Instant) {
        self.reopening = Some(Reopening {
            since: now,
            pace,
            let_in: 0,
        });
    }

    /// Ends a reopening: the gate is closed again.
    pub fn end(&mut self) {
        self.reopening = None;
    }

    /// Whether those who waited are still being let in.
    #[must_use]
    pub fn is_reopening(&self) -> bool {
        self.reopening.is_some()
    }

    /// What is to be done at `now`. What it says to let in is counted as done.
    pub fn next(&mut self, now: Instant, seen: Seen) -> Turn {
        if let Some(reopening) = &self.reopening
            && (seen.waiting == 0 || now >= reopening.since + reopening.pace.longest)
        {
            self.reopening = None;
        }
        let room = |limit: usize| limit.saturating_sub(seen.inside);
        let Some(reopening) = &mut self.reopening else {
            return match seen.cap {
                None => Turn::Open,
                Some(cap) => match room(cap).min(seen.waiting) {
                    0 => Turn::Wait(None),
                    some => Turn::LetIn(some),
                },
            };
        };
        let step = reopening.step(now);
        let at_once = reopening.at_once(step).min(seen.cap.unwrap_or(usize::MAX));
        let allowed = reopening.allowed(step).saturating_sub(reopening.let_in);
        match room(at_once).min(allowed).min(seen.waiting) {
            0 => Turn::Wait(Some(reopening.next_step(step))),
            some => {
                reopening.let_in += some;
                Turn::LetIn(some)
            }
        }
    }
}

impl Reopening {
    /// Which step it is in.
    fn step(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.since);
        u32::try_from(since.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX)
    }

    fn next_step(&self, step: u32) -> Instant {
        (self.since + STEP * step.saturating_add(1)).min(self.since + self.pace.longest)
    }

    /// Clients that may have come in by the end of this step.
    fn allowed(&self, step: u32) -> usize {
        let first = (self.pace.rate / STEPS).max(1);
        // The sum of a series that doubles.
        let steps = doubled(1, step.saturating_add(1)).saturating_sub(1);
        first.saturating_mul(steps)
    }

    /// Transactions at once in this step.
    fn at_once(&self, step: u32) -> usize {
        let first = self.pace.transactions.div_ceil(4);
        doubled(first, step).min(self.pace.transactions)
    }
}

/// A number doubled so many times.
fn doubled(number: usize, times: u32) -> usize {
    2_usize
        .checked_pow(times)
        .map_or(usize::MAX, |factor| number.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        rate: 1000,
        transactions: 80,
        longest: Duration::from_secs(5),
    };

    fn seen(inside: usize, waiting: usize) -> Seen {
        Seen {
            inside,
            waiting,
            cap: None,
        }
    }

    #[test]
    fn the_first_come_in_at_once_and_the_rest_in_steps_that_double() {
        let (mut pacing, now) = (Pacing::default(), Instant::now());
        pacing.begin(PACE, now);
        let at = |step: u32| now + STEP * step;
        assert_eq!(pacing.next(now, seen(0, 1000)), Turn::LetIn(20));
        assert_eq!(pacing.next(now, seen(20, 980)), Turn::Wait(Some(at(1))));
        assert_eq!(pacing.next(now, seen(5, 980)), Turn::LetIn(15));
        // More often than 100 in the first step nobody is let in, however fast they end.
        assert_eq!(pacing.next(now, seen(0, 965)), Turn::LetIn(20));
        assert_eq!(pacing.next(now, seen(0, 945)), Turn::LetIn(20));
        assert_eq!(pacing.next(now, seen(0, 925)), Turn::LetIn(20));
        assert_eq!(pacing.next(now, seen(0, 905)), Turn::LetIn(5));
        assert_eq!(pacing.next(now, seen(0, 900)), Turn::Wait(Some(at(1))));
        assert_eq!(pacing.next(at(1), seen(0, 900)), Turn::LetIn(40));
        assert_eq!(pacing.next(at(3), seen(0, 860)), Turn::LetIn(80));
        assert_eq!(pacing.next(at(3), seen(80, 780)), Turn::Wait(Some(at(4))));
    }

    #[test]
    fn it_is_over_when_nobody_waits_or_when_it_lasted_long_enough() {
        let (mut pacing, now) = (Pacing::default(), Instant::now());
        pacing.begin(PACE, now);
        assert_eq!(pacing.next(now, seen(7, 0)), Turn::Open);
        assert!(!pacing.is_reopening());
        pacing.begin(PACE, now);
        assert_eq!(pacing.next(now + PACE.longest, seen(500, 500)), Turn::Open);
    }

    #[test]
    fn a_cap_holds_during_a_reopening_and_after_it() {
        let (mut pacing, now) = (Pacing::default(), Instant::now());
        let capped = |inside, waiting| Seen {
            cap: Some(3),
            ..seen(inside, waiting)
        };
        pacing.begin(PACE, now);
        assert_eq!(pacing.next(now, capped(0, 9)), Turn::LetIn(3));
        assert_eq!(pacing.next(now, capped(3, 6)), Turn::Wait(Some(now + STEP)));
        let later = now + PACE.longest;
        assert_eq!(pacing.next(later, capped(3, 6)), Turn::Wait(None));
        assert_eq!(pacing.next(later, capped(1, 6)), Turn::LetIn(2));
        assert_eq!(pacing.next(later, capped(1, 1)), Turn::LetIn(1));
    }

    proptest! {
        /// Whatever the settings and however long transactions take: never more at once than the
        /// settings say, never more in a step than its rate, and everybody comes in.
        #[test]
        fn everybody_comes_in_within_the_limits(
            rate in 1_usize..5000,
            transactions in 1_usize..600,
            clients in 0_usize..3000,
            cap in prop::option::of(1_usize..100),
            end_each in 1_usize..50,
        ) {
            let start = Instant::now();
            let pace = Pace { rate, transactions, longest: Duration::from_secs(3) };
            let mut pacing = Pacing::default();
            pacing.begin(pace, start);
            let (mut inside, mut waiting, mut in_step) = (0_usize, clients, 0_usize);
            let mut now = start;
            let mut step = 0;
            for _ in 0..100_000 {
                match pacing.next(now, Seen { inside, waiting, cap }) {
                    Turn::Open => {
                        prop_assert!(waiting == 0 || now >= start + pace.longest);
                        return Ok(());
                    }
                    Turn::LetIn(some) => {
                        prop_assert!(some > 0 && some <= waiting);
                        inside += some;
                        waiting -= some;
                        in_step += some;
                        prop_assert!(inside <= cap.unwrap_or(usize::MAX));
                        if pacing.is_reopening() {
                            prop_assert!(inside <= transactions);
                            let most = (rate / STEPS).max(1) << step;
                            prop_assert!(in_step <= most.saturating_mul(2));
                        }
                    }
                    Turn::Wait(at) => {
                        if waiting == 0 && at.is_none() {
                            return Ok(());
                        }
                        inside = inside.saturating_sub(end_each);
                        if let Some(at) = at && inside == 0 {
                            prop_assert!(at > now);
                            now = at;
                            step = u32::try_from((now - start).as_millis() / 100).expect("small");
                            in_step = 0;
                        }
                    }
                }
            }
            prop_assert!(false, "somebody was never let in");
        }
    }
}
