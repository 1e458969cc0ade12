//! What clients felt, statement by statement: how long the units took that they sent, and the errors they
//! were told, counted by fingerprint while somebody asks for it.
//!
//! A unit is what has one `ReadyForQuery`: a Query, or the extended messages up to a Sync. Of one in so
//! many transactions the units are timed; errors are counted in all of them. Measuring always has an end,
//! which is put off by whoever wants it to go on: nobody has to remember to stop it.

mod histogram;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::histogram::Histogram;
use crate::clock;

/// Statements that are counted apart; all others are counted together.
const STATEMENTS_MAX: usize = 500;

/// SQLSTATEs that are counted apart, of a statement and in all; `RAISE` can make any.
const STATES_MAX: usize = 64;

/// The longest time until which can be measured at once: a watch is no longer.
pub const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// How an SQLSTATE is written that nobody counts apart, or that could not be read.
const OTHER: &str = "other";

/// The measures of one database.
#[derive(Debug)]
pub struct Statements {
    made: Instant,
    /// In milliseconds since it was made; zero while nobody measures.
    until: AtomicU64,
    one_in: AtomicU32,
    units: AtomicU64,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    latency: Histogram,
    errors: BTreeMap<String, u64>,
    statements: BTreeMap<u64, Counts>,
    rest: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    text: Arc<str>,
    latency: Histogram,
    errors: BTreeMap<String, u64>,
}

/// What was measured up to a moment. Two of them tell what was between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Of so many transactions one was timed.
    pub one_in: u32,
    /// Units that were answered, timed or not.
    pub units: u64,
    /// How long the timed ones took.
    pub latency: Histogram,
    /// Errors that clients were told, by SQLSTATE, of all units.
    pub errors: BTreeMap<String, u64>,
    /// Statements of timed transactions; those that took most time together come first.
    pub statements: Vec<MeasuredStatement>,
}

/// How much was timed up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// So many units.
    pub units: u64,
    /// All of them together.
    pub took: Duration,
}

/// What was measured of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredStatement {
    /// Which, over restarts too: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Without its constants; cut.
    pub text: String,
    /// How long its units took.
    pub latency: Histogram,
    /// Their errors, by SQLSTATE.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
}

impl Default for Statements {
    fn default() -> Statements {
        Statements {
            made: clock::now(),
            until: AtomicU64::new(0),
            one_in: AtomicU32::new(1),
            units: AtomicU64::new(0),
            counted: Mutex::default(),
        }
    }
}

impl Statements {
    /// Measures from now on for this long at least, of one in so many transactions. What was counted in an
    /// earlier time is forgotten if nobody measured in between; an end that is later stays.
    pub fn measure(&self, lasting: Duration, one_in: u32) {
        let until = self.age_ms().saturating_add(millis(lasting.min(LONGEST)));
        self.one_in.store(one_in.max(1), Ordering::Relaxed);
        // Whoever is first after a pause begins anew.
        let mut counted = self.counted();
        if !self.is_on() {
            *counted = Counted::default();
            self.units.store(0, Ordering::Relaxed);
        }
        self.until.fetch_max(until, Ordering::Relaxed);
    }

    /// Measures no more. What was counted can be read until it is begun again.
    pub fn stop(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    /// Whether somebody measures.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.left().is_some()
    }

    /// How long it is still measured, if it is.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        let left = until.checked_sub(self.age_ms())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Of so many transactions one is timed.
    #[must_use]
    pub fn one_in(&self) -> u32 {
        self.one_in.load(Ordering::Relaxed)
    }

    /// A unit was answered. `statement` is its fingerprint and text if it belongs to a transaction that is
    /// timed, with how long it took; `error` the SQLSTATE of the first error in its answer.
    pub fn answered(&self, statement: Option<(u64, &Arc<str>, Duration)>, error: Option<&str>) {
        self.units.fetch_add(1, Ordering::Relaxed);
        if statement.is_none() && error.is_none() {
            return;
        }
        let mut counted = self.counted();
        if let Some(state) = error {
            count(&mut counted.errors, state);
        }
        let Some((fingerprint, text, took)) = statement else {
            return;
        };
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counted.latency.add(us);
        let room = counted.statements.len() < STATEMENTS_MAX;
        let counts = match counted.statements.get_mut(&fingerprint) {
            Some(_) => counted.statements.entry(fingerprint).or_default(),
            None if room => counted.statements.entry(fingerprint).or_insert(Counts {
                text: Arc::clone(text),
                ..Counts::default()
            }),
            None => &mut counted.rest,
        };
        counts.latency.add(us);
        if let Some(state) = error {
            count(&mut counts.errors, state);
        }
    }

    /// How much was timed since it was begun; nothing while nobody measures.
    #[must_use]
    pub fn timed(&self) -> Option<Timed> {
        self.left()?;
        let counted = self.counted();
        Some(Timed {
            units: counted.latency.count,
            took: Duration::from_micros(counted.latency.sum_us),
        })
    }

    /// What was measured since it was begun.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let counted = self.counted();
        let statements = counted.statements.iter();
        let statements = statements.map(|(fingerprint, counts)| MeasuredStatement {
            fingerprint: format!("{fingerprint:016x}"),
            text: counts.text.to_string(),
            latency: counts.latency.clone(),
            errors: counts.errors.clone(),
        });
        let mut statements: Vec<_> = statements.collect();
        if counted.rest.latency.count > 0 {
            statements.push(MeasuredStatement {
                fingerprint: OTHER.to_owned(),
                text: "(all others)".to_owned(),
                latency: counted.rest.latency.clone(),
                errors: counted.rest.errors.clone(),
            });
        }
        let mut measured = Measured {
            one_in: self.one_in(),
            units: self.units.load(Ordering::Relaxed),
            latency: counted.latency.clone(),
            errors: counted.errors.clone(),
            statements,
        };
        measured.sort();
        measured
    }

    /// How long all timed units took that were answered since it was begun, and how many errors there were.
    #[must_use]
    pub fn totals(&self) -> (Histogram, u64) {
        let counted = self.counted();
        (counted.latency.clone(), counted.errors.values().sum())
    }

    fn age_ms(&self) -> u64 {
        millis(clock::now().saturating_duration_since(self.made))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    /// What was measured since an earlier look; all of it, if measuring was begun anew in between.
    #[must_use]
    pub fn since(&self, earlier: &Measured) -> Measured {
        if self.units < earlier.units || self.latency.count < earlier.latency.count {
            return self.clone();
        }
        let before: BTreeMap<&str, &MeasuredStatement> = earlier
            .statements
            .iter()
            .map(|it| (it.fingerprint.as_str(), it))
            .collect();
        let statements = self.statements.iter().map(|now| {
            let Some(before) = before.get(now.fingerprint.as_str()) else {
                return now.clone();
            };
            MeasuredStatement {
                latency: now.latency.since(&before.latency),
                errors: less(&now.errors, &before.errors),
                ..now.clone()
            }
        });
        let mut since = Measured {
            one_in: self.one_in,
            units: self.units - earlier.units,
            latency: self.latency.since(&earlier.latency),
            errors: less(&self.errors, &earlier.errors),
            statements: statements.filter(|it| it.latency.count > 0).collect(),
        };
        since.sort();
        since
    }

    /// The same, with the statements only that took most time.
    #[must_use]
    pub fn top(mut self, most: usize) -> Measured {
        self.statements.truncate(most);
        self
    }

    /// How many percent of the units ended in an error; none of no units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn error_percent(&self) -> Option<f64> {
        let errors: u64 = self.errors.values().sum();
        (self.units > 0).then(|| errors as f64 * 100.0 / self.units as f64)
    }

    fn sort(&mut self) {
        let time = |it: &MeasuredStatement| std::cmp::Reverse(it.latency.sum_us);
        self.statements.sort_by_key(time);
    }
}

impl MeasuredStatement {
    /// How many percent of its units ended in an error; none of no units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub fn error_percent(&self) -> Option<f64> {
        let errors: u64 = self.errors.values().sum();
        let units = self.latency.count;
        (units > 0).then(|| errors as f64 * 100.0 / units as f64)
    }
}

fn count(errors: &mut BTreeMap<String, u64>, state: &str) {
    let known = errors.contains_key(state) || errors.len() < STATES_MAX;
    let state = if known { state } else { OTHER };
    *errors.entry(state.to_owned()).or_default() += 1;
}

fn less(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let of = |state: &str| before.get(state).copied().unwrap_or(0);
    let left = now
        .iter()
        .map(|(state, count)| (state.clone(), count.saturating_sub(of(state))));
    left.filter(|(_, count)| *count > 0).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
