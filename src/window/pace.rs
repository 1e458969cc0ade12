//! How long transactions run and how many come, from looks at the sessions once a second.
//!
//! A look finds transactions under way, each at some point of its life; how old they are then is
//! spread like what they have still to run. So the age of the oldest one of each look says how long a
//! drain that began at that moment would have waited, and nothing has to be measured on the hot path.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::statements::Timed;
use crate::session::registry::Sessions;

/// The time between two looks.
pub const EVERY: Duration = Duration::from_secs(1);

/// Looks that are kept: five minutes.
const KEPT: usize = 300;

/// At each of so many looks the transactions that ended are counted: that asks every session, also those
/// that do nothing, of which there may be ten thousand.
const COUNT_EVERY: usize = 10;

/// One look at one database.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    longest: Duration,
    /// What the gate shows.
    seen: AtGate,
    /// Those that had ended, if they were counted.
    transactions: Option<u64>,
}

/// What the gate of a database shows at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtGate {
    /// Transactions that run.
    pub running: u32,
    /// Clients that wait.
    pub waiting: u64,
    /// What was measured of statements so far, while somebody measures.
    pub timed: Option<Timed>,
}

/// The looks at one database, oldest first, [`EVERY`] apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// How long the oldest transaction ran.
    pub longest: Vec<Duration>,
    /// What the gate showed.
    pub seen: Vec<AtGate>,
    /// How many transactions had ended since the start; none where they were not counted.
    pub transactions: Vec<Option<u64>>,
    /// The mean of the units that were timed between the look before and this one; none where nothing was.
    pub latency: Vec<Option<Duration>>,
}

/// The last minutes of every database.
#[derive(Debug, Default)]
pub struct Pace {
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    /// How often all databases were looked at.
    number: usize,
    of: BTreeMap<String, VecDeque<Look>>,
}

impl Looks {
    /// Whether transactions are counted at this look: now and then, and of a new database each time.
    fn count(&self, databases: &BTreeMap<String, AtGate>) -> bool {
        let is_new = |database| {
            self.of
                .get(database)
                .is_none_or(|it| it.len() < COUNT_EVERY)
        };
        self.number.is_multiple_of(COUNT_EVERY) || databases.keys().any(is_new)
    }
}

/// What is found in one database.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    longest: Duration,
    transactions: u64,
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
    /// Looks at the sessions of these databases, and forgets all others. With each comes what its gate shows:
    /// where no transaction is under way, no session is asked for how long.
    pub fn look(&self, sessions: &Sessions, databases: &BTreeMap<String, AtGate>, now: Instant) {
        let mut looks = self.looks();
        let count = looks.count(databases);
        let found = find(sessions, databases, count);
        looks.number += 1;
        looks
            .of
            .retain(|database, _| databases.contains_key(database));
        for (database, seen) in databases {
            let Found {
                longest,
                transactions,
            } = found.get(&**database).copied().unwrap_or_default();
            let of = looks.of.entry(database.clone()).or_default();
            if of.len() == KEPT {
                of.pop_front();
            }
            of.push_back(Look {
                at: now,
                longest,
                seen: *seen,
                transactions: count.then_some(transactions),
            });
        }
    }

    /// What was seen in the last minutes; nothing of a database that nobody has looked at.
    pub fn course(&self, database: &str) -> Course {
        let looks = self.looks();
        let Some(looks) = looks.of.get(database) else {
            return Course::default();
        };
        Course {
            longest: looks.iter().map(|look| look.longest).collect(),
            seen: looks.iter().map(|look| look.seen).collect(),
            transactions: looks.iter().map(|look| look.transactions).collect(),
            latency: latency(looks),
        }
    }

    /// What the last minutes make us expect.
    pub fn expected(&self, database: &str) -> Expected {
        let looks = self.looks();
        let Some(looks) = looks.of.get(database) else {
            return Expected::default();
        };
        let mut longest: Vec<Duration> = looks.iter().map(|look| look.longest).collect();
        longest.sort_unstable();
        let part = |percent: usize| {
            let at = (longest.len() * percent).div_ceil(100).max(1) - 1;
            longest.get(at).copied().unwrap_or_default()
        };
        let mut counted = looks
            .iter()
            .filter_map(|it| Some((it.at, it.transactions?)));
        let per_second = match (counted.next(), counted.next_back()) {
            (Some((first_at, first)), Some((last_at, last))) if last_at > first_at => {
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let ended = last.saturating_sub(first) as f64;
                ended / (last_at - first_at).as_secs_f64()
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

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What units took from each look to the next. Where measuring was begun anew in between, that is not known.
fn latency(looks: &VecDeque<Look>) -> Vec<Option<Duration>> {
    let mut before: Option<Timed> = None;
    let means = looks.iter().map(|look| {
        let now = look.seen.timed;
        let mean = before.zip(now).and_then(|(before, now)| {
            let units = now.units.checked_sub(before.units)?;
            let took = now.took.checked_sub(before.took)?;
            took.checked_div(u32::try_from(units).ok()?)
        });
        before = now;
        mean
    });
    means.collect()
}

/// How long the oldest transaction of each database runs, and how many have ended if they are counted.
fn find<'a>(
    sessions: &Sessions,
    databases: &'a BTreeMap<String, AtGate>,
    count: bool,
) -> BTreeMap<&'a str, Found> {
    let asked = databases
        .iter()
        .filter(|(_, seen)| count || seen.running > 0);
    let mut found: BTreeMap<&str, Found> = asked
        .map(|(database, _)| {
            let ended = sessions.ended_in(database).transactions;
            let of = Found {
                transactions: ended,
                ..Found::default()
            };
            (&**database, of)
        })
        .collect();
    if found.is_empty() {
        return found;
    }
    sessions.each(|session| {
        if let Some(of) = found.get_mut(&*session.database) {
            if session.held_by_holds {
                of.longest = of
                    .longest
                    .max(session.transaction_age().unwrap_or_default());
            }
            of.transactions += session.totals().transactions;
        }
    });
    found
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
            seen: AtGate::default(),
            transactions: (n % 9 == 0).then_some(u64::from(n) * 50),
        });
        pace.looks().of.insert("shop".into(), looks.collect());
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
        let seen = AtGate {
            running: 0,
            waiting: 7,
            timed: None,
        };
        let quiet = BTreeMap::from([("shop".to_owned(), seen)]);
        for n in 0..2 * u32::try_from(KEPT).expect("small") {
            pace.look(&sessions, &quiet, start + n * EVERY);
        }
        assert_eq!(pace.expected("shop").looks, KEPT);
        let course = pace.course("shop");
        assert_eq!(course.seen, vec![seen; KEPT]);
        assert_eq!(course.longest.len(), KEPT);
        let counted = course.transactions.iter().flatten().count();
        assert_eq!(counted, KEPT / COUNT_EVERY, "one look of ten counts");
        assert_eq!(pace.course("till"), Course::default());
        pace.look(&sessions, &BTreeMap::new(), start);
        assert_eq!(pace.expected("shop").looks, 0);
    }

    #[test]
    fn means_are_of_what_was_timed_in_between() {
        let (pace, sessions) = (Pace::default(), Sessions::default());
        let ms = Duration::from_millis;
        let seen = [
            None,
            Some((4, ms(40))),
            Some((6, ms(100))),
            Some((6, ms(100))),
            // Begun anew, after a pause that nobody saw.
            Some((1, ms(1))),
            Some((3, ms(5))),
            None,
        ];
        for timed in seen {
            let seen = AtGate {
                timed: timed.map(|(units, took)| Timed { units, took }),
                ..AtGate::default()
            };
            let all = BTreeMap::from([("shop".to_owned(), seen)]);
            pace.look(&sessions, &all, Instant::now());
        }
        let means = [None, None, Some(ms(30)), None, None, Some(ms(2)), None];
        assert_eq!(pace.course("shop").latency, means);
    }
}
