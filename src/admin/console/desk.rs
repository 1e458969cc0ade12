//! What all visitors of the console have in common, and their places.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::averages::Averages;
use crate::config::Shared;
use crate::tasks::Tasks;

/// See the module.
pub(super) struct Desk<A> {
    pub(super) api: Arc<A>,
    pub(super) config: Arc<Shared>,
    pub(super) averages: Averages,
    /// Commands run here, and not on the thread that serves the visitor's connection; at the stop of
    /// these tasks every visitor is told and closed.
    pub(super) tasks: Tasks,
    pub(super) places: Arc<Places>,
}

/// The places of visitors. Whoever comes when all are taken gets the place of the one that has been
/// idle for longest: a forgotten terminal keeps nobody out.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    places: Vec<Holder>,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    /// Since when; nothing while a command runs.
    idle_since: Option<Instant>,
    given_away: CancellationToken,
}

/// A visitor's place, given back with it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    /// Somebody else has it now.
    pub(super) given_away: CancellationToken,
}

impl Places {
    /// A place among so many; `None` when all are taken by visitors whose commands run.
    pub(super) fn take(self: &Arc<Self>, most: usize, now: Instant) -> Option<Place> {
        let mut taken = self.taken();
        if taken.places.len() >= most {
            let idle = taken.places.iter().enumerate();
            let idle = idle.filter_map(|(at, holder)| Some((holder.idle_since?, at)));
            let (_, at) = idle.min()?;
            taken.places.remove(at).given_away.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        let given_away = CancellationToken::new();
        taken.places.push(Holder {
            number,
            idle_since: Some(now),
            given_away: given_away.clone(),
        });
        Some(Place {
            places: Arc::clone(self),
            number,
            given_away,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A command begins (`None`), or has ended.
    pub(super) fn idle_since(&self, since: Option<Instant>) {
        let mut taken = self.places.taken();
        let mut all = taken.places.iter_mut();
        if let Some(holder) = all.find(|holder| holder.number == self.number) {
            holder.idle_since = since;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.places.retain(|holder| holder.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_one_that_was_idle_for_longest_makes_room() {
        let places: Arc<Places> = Arc::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let first = places.take(2, start).expect("free");
        let second = places.take(2, later(1)).expect("free");
        first.idle_since(Some(later(2)));
        let third = places.take(2, later(3)).expect("the second makes room");
        assert!(second.given_away.is_cancelled() && !first.given_away.is_cancelled());
        // Its end gives back no place that is another's.
        drop(second);
        first.idle_since(None);
        let fourth = places.take(2, later(4)).expect("the third makes room");
        assert!(third.given_away.is_cancelled());
        fourth.idle_since(None);
        assert!(places.take(2, later(5)).is_none());
        drop(first);
        assert!(places.take(2, later(6)).is_some());
    }
}
