//! How long something took, many times over: counts in buckets that grow with the time, small enough for
//! one of each statement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets for each doubling of a time, as a power of two: what is read from a bucket is off by less than
/// an eighth.
const FINE: u32 = 3;

/// Times, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// All of them together, in microseconds.
    pub sum_us: u64,
    /// How many by bucket; only buckets that something is in.
    buckets: BTreeMap<u16, u64>,
}

impl Histogram {
    /// Takes one in, in microseconds; more than twelve days are twelve days.
    pub fn add(&mut self, us: u64) {
        let us = us.min(1 << 40);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        *self.buckets.entry(bucket(us)).or_default() += 1;
    }

    /// Takes in what another one holds.
    pub fn merge(&mut self, other: &Histogram) {
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    /// What came in since an earlier look at it; nothing where the earlier one holds more.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let of = |bucket: &u16| earlier.buckets.get(bucket).copied().unwrap_or(0);
        let buckets = self.buckets.iter();
        let buckets = buckets.map(|(bucket, count)| (*bucket, count.saturating_sub(of(bucket))));
        Histogram {
            count: self.count.saturating_sub(earlier.count),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            buckets: buckets.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Their mean, in milliseconds; of none there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean of microseconds")]
    pub fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64 / 1000.0)
    }

    /// The time below which this share of them is (0.99 for p99), in milliseconds: the upper end of its
    /// bucket, so that it is never told too small.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return Some(upper_us(*bucket) as f64 / 1000.0);
            }
        }
        None
    }
}

/// The bucket of a time: exact below 8 us, then eight for each doubling.
fn bucket(us: u64) -> u16 {
    let log = us.max(1).ilog2();
    let bucket = match log.checked_sub(FINE) {
        None => us,
        Some(shift) => (u64::from(shift) << FINE) + (us >> shift),
    };
    u16::try_from(bucket).unwrap_or(u16::MAX)
}

/// The longest time of a bucket.
fn upper_us(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    match (bucket >> FINE).checked_sub(1) {
        None => bucket,
        Some(shift) => (((bucket & 7) + 8 + 1) << shift) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_bucket_and_buckets_are_narrow() {
        let mut last = None;
        for us in (0..5000).chain([65_535, 65_536, 1_000_000, 3_600_000_000, u64::MAX / 2]) {
            let (here, upper) = (bucket(us), upper_us(bucket(us)));
            assert!(upper >= us && upper - us <= us / 8, "{us}: {here}, {upper}");
            assert!(last.is_none_or(|last| last <= here), "{us}");
            last = Some(here);
        }
    }

    #[test]
    fn means_and_quantiles_are_of_what_came_in() {
        let mut all = Histogram::default();
        assert_eq!((all.mean_ms(), all.quantile_ms(0.99)), (None, None));
        for ms in 1..=100 {
            all.add(ms * 1000);
        }
        assert_eq!(all.mean_ms(), Some(50.5));
        let p99 = all.quantile_ms(0.99).expect("some");
        assert!((99.0..112.0).contains(&p99), "{p99}");
        let half = all.quantile_ms(0.5).expect("some");
        assert!((50.0..57.0).contains(&half), "{half}");

        let before = all.clone();
        all.add(7_000_000);
        let since = all.since(&before);
        assert_eq!((since.count, since.mean_ms()), (1, Some(7000.0)));
        assert_eq!(before.since(&all).count, 0);
        let mut both = before;
        both.merge(&since);
        assert_eq!(both, all);
    }
}
