//! How often what was shown turned out wrong, by address: whoever is wrong too often is told so, and no
//! longer fills the log.
//!
//! Nobody is kept out by it who shows the right thing: a token has 256 bits of chance, so that no number
//! of tries finds one, and an operator must not be locked out by others at the same address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many are wrong in [`SPAN`] before it is too often.
const FAILURES_MAX: u32 = 10;

/// What is counted together.
pub(super) const SPAN: Duration = Duration::from_secs(60);

/// Addresses that are remembered; in a flood from more of them the oldest is forgotten.
const ADDRESSES_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_address: HashMap<Option<IpAddr>, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    failures: u32,
}

impl Failures {
    /// Counts one; whether it is one too many. `None` is the Unix socket.
    pub(super) fn one_too_many(&mut self, from: Option<IpAddr>, now: Instant) -> bool {
        let from = from.map(network);
        let over = |count: &Count| now.saturating_duration_since(count.since) >= SPAN;
        if !self.by_address.contains_key(&from) && self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, count| !over(count));
            let oldest = self.by_address.iter().min_by_key(|(_, count)| count.since);
            let oldest = oldest.map(|(from, _)| *from);
            if let Some(oldest) = oldest.filter(|_| self.by_address.len() >= ADDRESSES_MAX) {
                self.by_address.remove(&oldest);
            }
        }
        let fresh = Count {
            since: now,
            failures: 0,
        };
        let count = self.by_address.entry(from).or_insert(fresh);
        if over(count) {
            *count = fresh;
        }
        count.failures = count.failures.saturating_add(1);
        count.failures > FAILURES_MAX
    }
}

/// Of IPv6 a client has a network of 64 bits to itself.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn too_many_in_a_minute_are_too_many_and_by_address() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert!(!failures.one_too_many(ip("10.0.0.1"), now));
        }
        assert!(failures.one_too_many(ip("10.0.0.1"), now));
        assert!(!failures.one_too_many(ip("10.0.0.2"), now));
        assert!(!failures.one_too_many(None, now));
        assert!(failures.one_too_many(ip("10.0.0.1"), now + SPAN / 2));
        assert!(!failures.one_too_many(ip("10.0.0.1"), now + SPAN));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for at in 0..FAILURES_MAX {
            let from = ip(&format!("2001:db8::{at:x}"));
            assert!(!failures.one_too_many(from, now));
        }
        assert!(failures.one_too_many(ip("2001:db8::ffff"), now));
        assert!(!failures.one_too_many(ip("2001:db8:1::1"), now));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for at in 0..3000_u32 {
            let from = Some(IpAddr::from(at.to_be_bytes()));
            failures.one_too_many(from, now + Duration::from_millis(u64::from(at)));
        }
        assert_eq!(failures.by_address.len(), ADDRESSES_MAX);
    }
}
