//! What went through in a second, over the last whole minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admin::types::Status;

/// How long one measure takes, as PgBouncer's `stats_period`.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// In a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) transactions: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Totals by database.
type Totals = BTreeMap<String, [u64; 3]>;

/// The last two looks at the totals.
#[derive(Debug, Default)]
pub(super) struct Averages(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    last: Option<(Instant, Totals)>,
    rates: BTreeMap<String, Rates>,
}

impl Averages {
    /// Notes the totals as they are now; called once in a [`PERIOD`].
    pub(super) fn note(&self, status: &Status, now: Instant) {
        let totals: Totals = status
            .databases
            .iter()
            .map(|database| {
                let totals = [
                    database.transactions_total,
                    database.bytes_in_total,
                    database.bytes_out_total,
                ];
                (database.database.clone(), totals)
            })
            .collect();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.rates = match &looks.last {
            None => BTreeMap::new(),
            Some((then, before)) => rates(before, &totals, now.saturating_duration_since(*then)),
        };
        looks.last = Some((now, totals));
    }

    /// Of a database; `None` while it was not there for a whole period.
    pub(super) fn of(&self, database: &str) -> Option<Rates> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.rates.get(database).copied()
    }
}

fn rates(before: &Totals, now: &Totals, passed: Duration) -> BTreeMap<String, Rates> {
    let passed = passed.as_millis().max(1);
    let rate = |before: u64, now: u64| {
        let more = u128::from(now.saturating_sub(before)) * 1000 / passed;
        u64::try_from(more).unwrap_or(u64::MAX)
    };
    let both = now
        .iter()
        .filter_map(|(name, now)| Some((name, before.get(name)?, now)));
    let rates = both.map(|(name, before, now)| {
        let rates = Rates {
            transactions: rate(before[0], now[0]),
            bytes_in: rate(before[1], now[1]),
            bytes_out: rate(before[2], now[2]),
        };
        (name.clone(), rates)
    });
    rates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_known_after_a_whole_period() {
        let totals = |of: [u64; 3]| Totals::from([("shop".to_owned(), of)]);
        let both = rates(&totals([10, 100, 0]), &totals([130, 100, 90]), PERIOD);
        let expected = Rates {
            transactions: 2,
            bytes_in: 0,
            bytes_out: 1,
        };
        assert_eq!(both.get("shop"), Some(&expected));
        // It was not there before.
        assert!(rates(&Totals::new(), &totals([1, 1, 1]), PERIOD).is_empty());
    }
}
