//! The right to a window: until when it lasts, and whose calls still count.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Numbers windows over all restarts of a state directory: a later one has a greater number, so that
/// a call that was meant for an earlier one is known by it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Term(pub u64);

/// A lease that goes on as long as its holder says so in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    term: Term,
    /// How long it lasts after each renewal.
    time: Duration,
    until: Instant,
    /// The window's own end, once it holds traffic.
    end: Option<Instant>,
}

/// What ended a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Its holder did not renew it in time.
    NotRenewed,
    /// The window's own time has passed.
    TimeOver,
}

/// A call whose term is not the lease's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the term of this window is {}, not {}", .current.0, .shown.0)]
pub struct Late {
    /// The term of the call.
    pub shown: Term,
    /// The term of the lease.
    pub current: Term,
}

impl Lease {
    /// A lease that begins at `now` and lasts for `time` unless it is renewed.
    #[must_use]
    pub fn begin(term: Term, time: Duration, now: Instant) -> Lease {
        Lease {
            term,
            time,
            until: now + time,
            end: None,
        }
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Until when it lasts if nobody renews it.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// The window's own end, once it is known.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// The window ends at this moment, however often the lease is renewed; `None` takes that back.
    pub fn ends_at(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// Whether a call with this term counts.
    pub fn check(&self, shown: Term) -> Result<(), Late> {
        let current = self.term;
        if shown == current {
            Ok(())
        } else {
            Err(Late { shown, current })
        }
    }

    /// Lets it last for its time from `now` on. One that is over stays so, however late the timer.
    pub fn renew(&mut self, now: Instant) -> Result<(), Over> {
        match self.over(now) {
            Some(over) => Err(over),
            None => {
                self.until = self.until.max(now + self.time);
                Ok(())
            }
        }
    }

    /// What has ended it by `now`, whichever came first.
    #[must_use]
    pub fn over(&self, now: Instant) -> Option<Over> {
        match self.end.filter(|end| *end <= now) {
            Some(end) if end <= self.until => Some(Over::TimeOver),
            Some(_) => Some(Over::NotRenewed),
            None => (self.until <= now).then_some(Over::NotRenewed),
        }
    }

    /// When it is to be looked at next.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.end.map_or(self.until, |end| end.min(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: Duration = Duration::from_secs(30);

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_lasts_as_long_as_it_is_renewed_in_time() {
        let begin = Instant::now();
        let mut lease = Lease::begin(Term(3), TIME, begin);
        assert_eq!(lease.renew(after(begin, 29)), Ok(()));
        assert_eq!(lease.over(after(begin, 58)), None);
        assert_eq!(lease.over(after(begin, 59)), Some(Over::NotRenewed));
        // Too late is too late, also before any timer has noticed.
        assert_eq!(lease.renew(after(begin, 59)), Err(Over::NotRenewed));
        assert_eq!(lease.due(), after(begin, 59));
    }

    #[test]
    fn no_renewal_outlasts_the_windows_own_time() {
        let begin = Instant::now();
        let mut lease = Lease::begin(Term(3), TIME, begin);
        lease.ends_at(Some(after(begin, 40)));
        assert_eq!(lease.due(), after(begin, 30));
        assert_eq!(lease.renew(after(begin, 20)), Ok(()));
        assert_eq!(lease.due(), after(begin, 40));
        assert_eq!(lease.renew(after(begin, 40)), Err(Over::TimeOver));
        lease.ends_at(None);
        assert_eq!(lease.renew(after(begin, 40)), Ok(()));
    }

    #[test]
    fn only_its_own_term_counts() {
        let lease = Lease::begin(Term(3), TIME, Instant::now());
        assert_eq!(lease.check(Term(3)), Ok(()));
        for shown in [Term(2), Term(4)] {
            let current = Term(3);
            assert_eq!(lease.check(shown), Err(Late { shown, current }));
        }
    }

    proptest! {
        #[test]
        fn a_lease_is_over_at_its_due_time_and_not_before(
            renewals in prop::collection::vec(0..100_u64, 0..9), end in prop::option::of(0..200_u64),
        ) {
            let begin = Instant::now();
            let mut lease = Lease::begin(Term(1), TIME, begin);
            lease.ends_at(end.map(|end| after(begin, end)));
            for at in renewals {
                let (due, now) = (lease.due(), after(begin, at));
                prop_assert_eq!(lease.over(now).is_some(), due <= now);
                prop_assert_eq!(lease.renew(now).is_ok(), now < due);
                prop_assert!(lease.due() >= due);
            }
        }
    }
}
