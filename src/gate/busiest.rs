//! How many transactions ran at once in the last minute, at most, as seen by looking now and then.
//!
//! Counting a maximum on the way of every transaction would cost each of them; what lies between two
//! looks is not seen. It is what a cap in percent is a part of.

use std::time::{Duration, Instant};

/// How often somebody should look while transactions run.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often while none ran at the last look: a process that nobody uses wakes seldom.
pub const LOOK_IDLE: Duration = Duration::from_secs(1);

/// A second each.
const SLOTS: usize = 60;

/// The greatest numbers of the last minute, second by second.
#[derive(Debug)]
pub(super) struct Busiest {
    began: Option<Instant>,
    /// The greatest number and the second it is of.
    seconds: [(u64, u32); SLOTS],
}

impl Default for Busiest {
    fn default() -> Busiest {
        Busiest {
            began: None,
            seconds: [(0, 0); SLOTS],
        }
    }
}

impl Busiest {
    /// So many run now.
    pub(super) fn look(&mut self, running: u32, now: Instant) {
        let second = self.second(now);
        let slot = &mut self.seconds[Busiest::slot(second)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 = slot.1.max(running);
    }

    /// The most that were seen in the last minute.
    pub(super) fn most(&mut self, now: Instant) -> u32 {
        let second = self.second(now);
        let recent = self
            .seconds
            .iter()
            .filter(|slot| slot.0 + (SLOTS as u64) > second);
        recent.map(|slot| slot.1).max().unwrap_or(0)
    }

    /// Counted from 60, so that an empty slot is of long ago.
    fn second(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        now.saturating_duration_since(began).as_secs() + SLOTS as u64
    }

    fn slot(second: u64) -> usize {
        usize::try_from(second % SLOTS as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_the_last_minute_counts_and_is_forgotten_after_it() {
        let (mut busiest, now) = (Busiest::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(busiest.most(now), 0);
        busiest.look(40, at(1));
        busiest.look(7, at(1));
        busiest.look(9, at(30));
        assert_eq!(busiest.most(at(60)), 40);
        assert_eq!(busiest.most(at(61)), 9);
        busiest.look(3, at(61));
        assert_eq!(busiest.most(at(89)), 9);
        assert_eq!(busiest.most(at(90)), 3);
        assert_eq!(busiest.most(at(1000)), 0);
    }
}
