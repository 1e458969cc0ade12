//! The time by which holds, drains and windows are decided: tokio's, so that a test can move it.
//!
//! Outside of tests tokio's clock is the steady clock itself, and both functions read what the
//! standard library and jiff would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The steady clock.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock. It goes with [`now`] where a test has moved that one ahead.
#[must_use]
pub fn wall() -> Timestamp {
    let ahead = now().saturating_duration_since(Instant::now());
    let wall = Timestamp::now();
    wall.checked_add(ahead).unwrap_or(wall)
}

/// The steady clock for what happens thousands of times a second, and has to be known to a tenth of a second:
/// while somebody ticks it nobody reads the real one, which takes longer than all else that is noted of a
/// transaction.
#[derive(Debug)]
pub struct Ticker {
    began: Instant,
    /// The stamp of the last tick; zero while nobody ticks.
    ticked: AtomicU64,
}

/// Microseconds since a [`Ticker`] began, plus one: zero is free for "never".
pub type Stamp = u64;

impl Default for Ticker {
    /// Begins now; nobody ticks it, so that it is exact.
    fn default() -> Ticker {
        Ticker {
            began: now(),
            ticked: AtomicU64::new(0),
        }
    }
}

impl Ticker {
    /// Now.
    #[must_use]
    pub fn exact(&self) -> Stamp {
        let age = now().saturating_duration_since(self.began);
        u64::try_from(age.as_micros()).map_or(u64::MAX, |now| now.saturating_add(1))
    }

    /// Now, or when it last ticked: too early by no more than the time from one tick to the next.
    #[inline]
    #[must_use]
    pub fn about_now(&self) -> Stamp {
        match self.ticked.load(Ordering::Relaxed) {
            0 => self.exact(),
            ticked => ticked,
        }
    }

    /// How long ago something was stamped; `None` if it never was.
    #[must_use]
    pub fn since(&self, stamp: Stamp) -> Option<Duration> {
        let age = || Duration::from_micros(self.exact().saturating_sub(stamp));
        (stamp != 0).then(age)
    }

    /// Who ticks it does so again within a tenth of a second, or says that he [rests](Ticker::rest).
    pub fn tick(&self) {
        self.ticked.store(self.exact(), Ordering::Relaxed);
    }

    /// It is exact until the next tick.
    pub fn rest(&self) {
        self.ticked.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_it_ticks_time_stands_still_between_two_ticks() {
        let ticker = Ticker::default();
        let pass = async |millis| tokio::time::advance(Duration::from_millis(millis)).await;
        assert_eq!((ticker.about_now(), ticker.since(0)), (1, None));
        pass(40).await;
        assert_eq!(ticker.about_now(), 40_001);
        ticker.tick();
        pass(70).await;
        let stamp = ticker.about_now();
        assert_eq!((stamp, ticker.exact()), (40_001, 110_001));
        // An age is that of a stamp, and goes on.
        assert_eq!(ticker.since(stamp), Some(Duration::from_millis(70)));
        ticker.tick();
        assert_eq!(ticker.about_now(), 110_001);
        pass(5).await;
        ticker.rest();
        assert_eq!(ticker.about_now(), 115_001);
    }
}
