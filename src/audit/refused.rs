//! Who was not let in, as events: a few a minute, whoever tries how often.
//!
//! Every event takes a place in what is kept and in the file, and strangers decide how often they are
//! refused. So an address is told of once a minute, and so many addresses at most; the rest is counted and
//! told with the next.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What is counted together.
const SPAN: Duration = Duration::from_secs(60);

/// Addresses that are told of in it.
const TOLD_MAX: usize = 10;

/// What was told lately.
#[derive(Debug)]
pub(super) struct Refused {
    since: Instant,
    told: Vec<Option<IpAddr>>,
    /// What was not told since the last that was.
    untold: u64,
}

impl Refused {
    pub(super) fn new(now: Instant) -> Refused {
        Refused {
            since: now,
            told: Vec::new(),
            untold: 0,
        }
    }

    /// Counts one from this address; if it is to be told, how many were not before it. `None` is this
    /// machine's own socket.
    pub(super) fn one(&mut self, from: Option<IpAddr>, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= SPAN {
            self.since = now;
            self.told.clear();
        }
        if self.told.contains(&from) || self.told.len() >= TOLD_MAX {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told.push(from);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_of_once_a_minute_and_the_rest_is_counted() {
        let now = Instant::now();
        let mut refused = Refused::new(now);
        let ip = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        assert_eq!(refused.one(ip(1), now), Some(0));
        for _ in 0..5 {
            assert_eq!(refused.one(ip(1), now), None);
        }
        assert_eq!(refused.one(None, now), Some(5));
        assert_eq!(refused.one(ip(1), now + SPAN / 2), None);
        assert_eq!(refused.one(ip(1), now + SPAN), Some(1));
    }

    #[test]
    fn a_flood_from_everywhere_is_a_few_events() {
        let now = Instant::now();
        let mut refused = Refused::new(now);
        let many = (0..1000_u32).map(|at| Some(IpAddr::from(at.to_be_bytes())));
        let told = many
            .filter(|from| refused.one(*from, now).is_some())
            .count();
        assert_eq!(told, TOLD_MAX);
        assert_eq!(refused.one(None, now + SPAN), Some(990));
    }
}
