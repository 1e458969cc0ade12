//! How many transactions end in a second, from totals that were told one after another.

use std::collections::VecDeque;

/// How many looks back are drawn.
const KEPT: usize = 60;

/// The last rates of one database, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    /// When the last total was told, in milliseconds since pgdrain started, and that total.
    last: Option<(u64, u64)>,
    rates: VecDeque<f64>,
}

impl Rate {
    /// Takes down a total. Time or total that went back are a pgdrain that was started anew: what was
    /// before tells nothing of it.
    pub(super) fn note(&mut self, at_ms: u64, total: u64) {
        let before = self.last.replace((at_ms, total));
        let Some((then, before)) = before else {
            return;
        };
        match (at_ms.checked_sub(then), total.checked_sub(before)) {
            (Some(0), Some(_)) => {}
            (Some(ms), Some(count)) => {
                if self.rates.len() == KEPT {
                    self.rates.pop_front();
                }
                self.rates.push_back(per_second(count, ms));
            }
            (None, _) | (_, None) => self.rates.clear(),
        }
    }

    /// The last one; none before there were two totals.
    pub(super) fn now(&self) -> Option<f64> {
        self.rates.back().copied()
    }

    /// All of them as whole numbers, for a drawing.
    pub(super) fn drawn(&self) -> Vec<u64> {
        self.rates.iter().map(|rate| whole(*rate)).collect()
    }
}

/// Counts of a second are far below 2^53, up to where every whole number is exact.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn per_second(count: u64, ms: u64) -> f64 {
    count as f64 * 1000.0 / ms as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative, and a cast of what is too great is the greatest"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_ended_in_between() {
        let mut rate = Rate::default();
        assert_eq!(rate.now(), None);
        rate.note(1_000, 500);
        assert_eq!(rate.now(), None);
        rate.note(3_000, 700);
        assert_eq!(rate.now(), Some(100.0));
        rate.note(3_000, 700);
        rate.note(3_500, 701);
        assert_eq!(rate.drawn(), [100, 2]);
    }

    #[test]
    fn a_restart_begins_anew_and_the_past_is_bounded() {
        let mut rate = Rate::default();
        (0..100).for_each(|n| rate.note(n * 1000, n * 7));
        assert_eq!(rate.drawn(), [7; KEPT]);
        rate.note(10, 5);
        assert_eq!(rate.now(), None);
        rate.note(1010, 8);
        assert_eq!(rate.now(), Some(3.0));
    }
}
