//! Clients that wait at a closed gate, oldest first.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::faults::{Fault, is_back};

/// A place in the queue of one gate. Must be given back with [`super::Gate::leave`].
#[derive(Debug, PartialEq, Eq)]
pub struct Place(u64);

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    since: Instant,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// The queue of one gate.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
}

impl Queue {
    /// Takes a place at the end, or `None` when `limit` clients wait already.
    pub(super) fn join(&self, waker: &Waker, now: Instant, limit: usize) -> Option<Place> {
        let mut line = self.line();
        if line.waiting.len() >= limit {
            return None;
        }
        let place = line.next;
        line.next += 1;
        line.waiting.insert(
            place,
            Waiting {
                waker: waker.clone(),
                since: now,
            },
        );
        Some(Place(place))
    }

    /// Keeps the waker of a place current. To be called before the gate is asked again, so that
    /// an opening in between wakes the asker.
    pub(super) fn refresh(&self, place: &Place, waker: &Waker) {
        if !is_back(Fault::LostWakeUp)
            && let Some(waiting) = self.line().waiting.get_mut(&place.0)
        {
            waiting.waker.clone_from(waker);
        }
    }

    /// Gives a place back; says how long it was held.
    pub(super) fn leave(&self, place: Place, now: Instant) -> Option<Duration> {
        let waiting = self.line().waiting.remove(&place.0)?;
        Some(now.saturating_duration_since(waiting.since))
    }

    /// Wakes everybody, oldest first; each asks the gate again.
    pub(super) fn wake_all(&self) {
        for waiting in self.line().waiting.values() {
            waiting.waker.wake_by_ref();
        }
    }

    /// How many wait, and since when the oldest.
    pub(super) fn waiting(&self) -> (usize, Option<Instant>) {
        let line = self.line();
        (
            line.waiting.len(),
            line.waiting.values().next().map(|oldest| oldest.since),
        )
    }

    /// The line is whole after every call, so a panic elsewhere leaves nothing half-done in it.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_in_order_and_limited() {
        let (queue, now) = (Queue::default(), Instant::now());
        let first = queue.join(Waker::noop(), now, 2).expect("room");
        let later = now + Duration::from_secs(1);
        let second = queue.join(Waker::noop(), later, 2).expect("room");
        assert_eq!(queue.join(Waker::noop(), later, 2), None);
        assert_eq!(queue.waiting(), (2, Some(now)));
        assert_eq!(queue.leave(first, later), Some(Duration::from_secs(1)));
        assert_eq!(queue.waiting(), (1, Some(later)));
        assert_eq!(queue.leave(second, later), Some(Duration::ZERO));
    }
}
