//! Batches give way to clients: pauses grow while what clients feel is above a limit, and shrink again when it
//! is not. Pure, but for the time it is given.
//!
//! ```text
//! p99 above the limit    pause: 0 ─ 100ms ─ 200ms ─ 400ms ─ … ─ 10s     (doubled at each look)
//! at or below it         pause: … ─ 400ms ─ 200ms ─ 100ms ─ 0           (halved at each look)
//! not known              the pause stays as it is
//! ```

use std::time::Duration;

/// The shortest pause, and the longest: a backfill goes on however slow clients are by themselves.
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(10);

/// The pause that is made besides the one that the file asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Throttle {
    pause: Duration,
}

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Pauses begin.
    Slows,
    /// There are none any more.
    Recovered,
    /// Nothing that is worth a word.
    Goes,
}

impl Throttle {
    /// Takes in what clients feel, in milliseconds; none if it is not known.
    pub(super) fn look(&mut self, p99_ms: Option<f64>, limit: Duration) -> Turn {
        let Some(p99_ms) = p99_ms else {
            return Turn::Goes;
        };
        let before = self.pause;
        let above = p99_ms > limit.as_secs_f64() * 1000.0;
        self.pause = match above {
            true => (before * 2).clamp(LEAST, MOST),
            false if before <= LEAST => Duration::ZERO,
            false => before / 2,
        };
        match (before.is_zero(), self.pause.is_zero()) {
            (true, false) => Turn::Slows,
            (false, true) => Turn::Recovered,
            (true, true) | (false, false) => Turn::Goes,
        }
    }

    /// How long the next pause is.
    pub(super) fn pause(self) -> Duration {
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_clients_are_slow_and_shrink_when_they_are_not() {
        let limit = Duration::from_millis(50);
        let mut throttle = Throttle::default();
        let mut look = |p99: Option<f64>| {
            let turn = throttle.look(p99, limit);
            (turn, throttle.pause().as_millis())
        };
        assert_eq!(look(Some(50.0)), (Turn::Goes, 0));
        assert_eq!(look(Some(51.0)), (Turn::Slows, 100));
        assert_eq!(look(Some(900.0)), (Turn::Goes, 200));
        // What is not known changes nothing.
        assert_eq!(look(None), (Turn::Goes, 200));
        for _ in 0..20 {
            look(Some(900.0));
        }
        // However slow they are, it goes on.
        assert_eq!(look(Some(900.0)), (Turn::Goes, 10_000));
        assert_eq!(look(Some(1.0)), (Turn::Goes, 5_000));
        let mut looks = 1;
        while look(Some(1.0)).0 != Turn::Recovered {
            looks += 1;
            assert!(looks < 20, "it recovers");
        }
        assert_eq!(look(Some(1.0)), (Turn::Goes, 0));
        assert_eq!(look(Some(51.0)), (Turn::Slows, 100));
    }
}
