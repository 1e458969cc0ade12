//! How fast newcomers are taken: a flood of them waits in the kernel's queue, not in front of the
//! statements of those who are there.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So many come at once before the pace counts; timers are no finer than a few of them.
const BURST: u32 = 64;

/// The pace of one listener.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next may come, were there no burst.
    next: Option<Instant>,
}

impl Pace {
    /// Waits until one more may come. Cancel safe: one that was waited for in vain may come later.
    pub async fn wait(&mut self, per_second: usize) {
        let each = Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        let now = Instant::now();
        let earliest = now.checked_sub(each * BURST).unwrap_or(now);
        let next = self.next.map_or(earliest, |next| next.max(earliest));
        if next > now {
            sleep_until(next).await;
        }
        self.next = Some(next + each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_comes_at_once_and_the_rest_at_their_pace() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            pace.wait(100).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..200 {
            pace.wait(100).await;
        }
        let took = began.elapsed();
        assert!((1950..=2050).contains(&took.as_millis()), "{took:?}");
        // After a quiet time there is a burst again, and no more than one.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = Instant::now();
        for _ in 0..2 * BURST {
            pace.wait(100).await;
        }
        let took = again.elapsed();
        assert!((600..=680).contains(&took.as_millis()), "{took:?}");
    }
}
