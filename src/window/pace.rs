//! How long transactions run and how many come, from looks at the sessions once a second.
//!
//! A look finds transactions under way, each at some point of its life; how old they are then is
//! spread like what they have still to run. So the age of the oldest one of each look says how long a
//! drain that began at that moment would have waited, and nothing has to be measured on the hot path.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::session::registry::Sessions;

/// The time between two looks.
pub const EVERY: Duration = Duration::from_secs(1);

/// Looks that are kept: five minutes.
const KEPT: usize = 300;

/// One look at one database.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    longest: Duration,
    transactions: u64,
}

/// The last minutes of every database.
#[derive(Debug, Default)]
pub struct Pace {
    looks: Mutex<BTreeMap<String, VecDeque<Look>>>,
}

/// What is to be expected of one database.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// How many looks that is from.
    pub looks: usize,
    /// Half of the drains would have waited no longer than this.
    pub drain_p50: Duration,
    /// Nine of ten.
    pub drain_p90: Duration,
    /// All of them.
    pub drain_max: Duration,
    /// Transactions that ended in a second.
    pub per_second: f64,
}

impl Pace {
    /// Looks at the sessions of these databases, and forgets all others.
    pub fn look(&self, sessions: &Sessions, databases: &[String], now: Instant) {
        let mut longest: BTreeMap<String, Duration> = BTreeMap::new();
        for session in sessions.all() {
            if let Some(age) = session.transaction_age().filter(|_| session.held_by_holds) {
                let of = longest.entry(session.database.clone()).or_default();
                *of = age.max(*of);
            }
        }
        let mut looks = self.looks();
        looks.retain(|database, _| databases.contains(database));
        for database in databases {
            let of = looks.entry(database.clone()).or_default();
            if of.len() == KEPT {
                of.pop_front();
            }
            of.push_back(Look {
                at: now,
                longest: longest.remove(database).unwrap_or_default(),
                transactions: sessions.totals(database).transactions,
            });
        }
    }

    /// What the last minutes make us expect.
    pub fn expected(&self, database: &str) -> Expected {
        let looks = self.looks();
        let Some(looks) = looks.get(database) else {
            return Expected::default();
        };
        let mut longest: Vec<Duration> = looks.iter().map(|look| look.longest).collect();
        longest.sort_unstable();
        let part = |percent: usize| {
            let at = (longest.len() * percent).div_ceil(100).max(1) - 1;
            longest.get(at).copied().unwrap_or_default()
        };
        let per_second = match (looks.front(), looks.back()) {
            (Some(first), Some(last)) if last.at > first.at => {
                let ended = last.transactions.saturating_sub(first.transactions);
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let ended = ended as f64;
                ended / (last.at - first.at).as_secs_f64()
            }
            _ => 0.0,
        };
        Expected {
            looks: looks.len(),
            drain_p50: part(50),
            drain_p90: part(90),
            drain_max: part(100),
            per_second,
        }
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Look>>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_what_was_seen() {
        let pace = Pace::default();
        assert_eq!(pace.expected("shop"), Expected::default());
        let start = Instant::now();
        let looks = (0..10u32).map(|n| Look {
            at: start + n * EVERY,
            longest: n * Duration::from_millis(100),
            transactions: u64::from(n) * 50,
        });
        pace.looks().insert("shop".into(), looks.collect());
        let expected = pace.expected("shop");
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!(expected.looks, 10);
        assert_eq!(
            (expected.drain_p50, expected.drain_p90, expected.drain_max),
            (ms(400), ms(800), ms(900))
        );
        assert!((expected.per_second - 50.0).abs() < 1e-9);
    }

    #[test]
    fn no_more_than_the_last_minutes_are_kept() {
        let (pace, sessions) = (Pace::default(), Sessions::default());
        let start = Instant::now();
        for n in 0..2 * u32::try_from(KEPT).expect("small") {
            pace.look(&sessions, &["shop".into()], start + n * EVERY);
        }
        assert_eq!(pace.expected("shop").looks, KEPT);
        pace.look(&sessions, &[], start);
        assert_eq!(pace.expected("shop").looks, 0);
    }
}
