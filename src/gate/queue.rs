//! Clients that wait in one database, oldest first, each at one of its gates.
//!
//! ```text
//!               call                 claim
//!   Waiting ───────────► Called ───────────────► Inside
//!    │   ▲ ▲─────────────┘  ▲ call back             │
//!    │   └───────────────────── move ───────────────┘
//!    └──► Evicted          any ── leave ──► (gone)
//! ```
//!
//! A call hands over a permit: who was called and leaves instead gives it back, so that no turn is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::admission::Epoch;
use crate::config::WhenFull;
use crate::faults::{Fault, is_back};

/// A place in the queue of one database. Must be given back with [`super::Gate::leave`].
#[derive(Debug, PartialEq, Eq)]
pub struct Place(u64);

/// Numbers the gates of a database; its own has zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GateNumber(pub(super) u32);

/// How many may wait, and who goes when it is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In this database.
    pub here: usize,
    /// In all databases together.
    pub everywhere: usize,
    /// Who goes.
    pub when_full: WhenFull,
}

/// How many wait, and since when the oldest.
pub type Waiters = (usize, Option<Instant>);

/// What a look at one's place came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// All is as it was.
    Same,
    /// The place is at another gate now, or waits anew.
    Moved,
    /// The same, and this permit of a call that came too soon is to be given back.
    TooSoon(Epoch),
}

/// What somebody left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// How long the place was held.
    pub(super) waited: Duration,
    /// The permit of a call that was not heeded.
    pub(super) permit: Option<Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Waiting,
    Called(Epoch),
    Inside,
    Evicted,
}

#[derive(Debug)]
struct Client {
    waker: Waker,
    since: Instant,
    at: GateNumber,
    stand: Stand,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    clients: BTreeMap<u64, Client>,
    /// Those that are neither called nor evicted, by gate.
    waiting: BTreeMap<GateNumber, BTreeSet<u64>>,
    evicted: usize,
}

/// The queue of one database.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
    /// How many wait in all databases together.
    everywhere: Arc<AtomicUsize>,
}

impl Queue {
    /// An empty queue, counted with the others in `everywhere`.
    pub(super) fn counted_in(everywhere: Arc<AtomicUsize>) -> Queue {
        Queue {
            line: Mutex::default(),
            everywhere,
        }
    }

    /// Takes a place at the end, or `None` when there is no room. Somebody may have to go for it.
    pub(super) fn join(
        &self,
        at: GateNumber,
        waker: &Waker,
        now: Instant,
        room: Room,
    ) -> Option<Place> {
        let mut line = self.line();
        let before = self.everywhere.fetch_add(1, Ordering::Relaxed);
        let full = line.clients.len() - line.evicted >= room.here || before >= room.everywhere;
        let refused = full
            && match room.when_full {
                WhenFull::Newest => true,
                WhenFull::Oldest => !line.evict_oldest(),
            };
        if refused {
            self.everywhere.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let place = line.next;
        line.next += 1;
        let client = Client {
            waker: waker.clone(),
            since: now,
            at,
            stand: Stand::Waiting,
        };
        line.clients.insert(place, client);
        line.waiting.entry(at).or_default().insert(place);
        Some(Place(place))
    }

    /// Keeps the waker of a place current and says at which gate it waits. To be called before that
    /// gate is asked again, so that an opening in between wakes the asker.
    pub(super) fn look(&self, place: &Place, at: GateNumber, waker: &Waker) -> Looked {
        let mut line = self.line();
        let Some(client) = line.clients.get_mut(&place.0) else {
            return Looked::Same;
        };
        if !is_back(Fault::LostWakeUp) {
            client.waker.clone_from(waker);
        }
        let (was_at, stand) = (client.at, client.stand);
        let looked = match stand {
            Stand::Waiting | Stand::Called(_) if was_at == at => return Looked::Same,
            Stand::Evicted => return Looked::Same,
            Stand::Called(permit) => Looked::TooSoon(permit),
            Stand::Waiting | Stand::Inside => Looked::Moved,
        };
        client.at = at;
        client.stand = Stand::Waiting;
        line.stop_waiting(was_at, place.0);
        line.waiting.entry(at).or_default().insert(place.0);
        looked
    }

    /// The permit of the call, once there was one.
    pub(super) fn claim(&self, place: &Place) -> Option<Epoch> {
        let mut line = self.line();
        let client = line.clients.get_mut(&place.0)?;
        match client.stand {
            Stand::Called(permit) => {
                client.stand = Stand::Inside;
                Some(permit)
            }
            Stand::Waiting | Stand::Inside | Stand::Evicted => None,
        }
    }

    /// Whether this one has been called and has not come yet.
    pub(super) fn is_called(&self, place: &Place) -> bool {
        let line = self.line();
        let client = line.clients.get(&place.0);
        client.is_some_and(|client| matches!(client.stand, Stand::Called(_)))
    }

    /// Whether this one had to go for a newer one.
    pub(super) fn is_evicted(&self, place: &Place) -> bool {
        let line = self.line();
        let client = line.clients.get(&place.0);
        client.is_some_and(|client| client.stand == Stand::Evicted)
    }

    /// Gives a place back.
    pub(super) fn leave(&self, place: Place, now: Instant) -> Option<Behind> {
        let mut line = self.line();
        let client = line.clients.remove(&place.0)?;
        line.stop_waiting(client.at, place.0);
        self.everywhere.fetch_sub(1, Ordering::Relaxed);
        let permit = match client.stand {
            Stand::Called(permit) => Some(permit),
            Stand::Evicted => {
                line.evicted -= 1;
                None
            }
            Stand::Waiting | Stand::Inside => None,
        };
        let waited = now.saturating_duration_since(client.since);
        Some(Behind { waited, permit })
    }

    /// Calls up to `most` of those that wait longest at this gate, each with a permit; says how many.
    pub(super) fn call(&self, at: GateNumber, most: usize, permit: impl Fn() -> Epoch) -> usize {
        let mut line = self.line();
        let Line {
            clients, waiting, ..
        } = &mut *line;
        let Some(ready) = waiting.get_mut(&at) else {
            return 0;
        };
        let mut called = 0;
        while called < most
            && let Some(place) = ready.pop_first()
        {
            if let Some(client) = clients.get_mut(&place) {
                client.stand = Stand::Called(permit());
                client.waker.wake_by_ref();
                called += 1;
            }
        }
        called
    }

    /// Takes back every call that was not heeded yet.
    pub(super) fn call_back(&self, release: impl Fn(Epoch)) {
        let mut line = self.line();
        let Line {
            clients, waiting, ..
        } = &mut *line;
        for (place, client) in clients {
            if let Stand::Called(permit) = client.stand {
                release(permit);
                client.stand = Stand::Waiting;
                waiting.entry(client.at).or_default().insert(*place);
            }
        }
    }

    /// Lets all that wait at one gate wait at another.
    pub(super) fn move_all(&self, from: GateNumber, to: GateNumber) {
        let mut line = self.line();
        let moved = line.waiting.remove(&from).unwrap_or_default();
        for place in &moved {
            if let Some(client) = line.clients.get_mut(place) {
                client.at = to;
            }
        }
        line.waiting.entry(to).or_default().extend(moved);
    }

    /// Wakes all that wait at this gate, oldest first; each asks again.
    pub(super) fn wake(&self, at: GateNumber) {
        let line = self.line();
        for place in line.waiting.get(&at).into_iter().flatten() {
            if let Some(client) = line.clients.get(place) {
                client.waker.wake_by_ref();
            }
        }
    }

    /// Those that wait at one gate.
    pub(super) fn waiting_at(&self, at: GateNumber) -> Waiters {
        let line = self.line();
        let Some(places) = line.waiting.get(&at) else {
            return (0, None);
        };
        let oldest = places.first().and_then(|place| line.clients.get(place));
        (places.len(), oldest.map(|client| client.since))
    }

    /// Those that have a place, at whichever gate.
    pub(super) fn all(&self) -> Waiters {
        let line = self.line();
        let oldest = line.clients.values().next();
        (line.clients.len(), oldest.map(|client| client.since))
    }

    /// The line is whole after every call, so a panic elsewhere leaves nothing half-done in it.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn stop_waiting(&mut self, at: GateNumber, place: u64) {
        if let Some(places) = self.waiting.get_mut(&at) {
            places.remove(&place);
            if places.is_empty() {
                self.waiting.remove(&at);
            }
        }
    }

    /// Sends away who waits longest. False when nobody waits.
    fn evict_oldest(&mut self) -> bool {
        let firsts = self.waiting.values().filter_map(|places| places.first());
        let Some(place) = firsts.min().copied() else {
            return false;
        };
        let Some(client) = self.clients.get_mut(&place) else {
            return false;
        };
        client.stand = Stand::Evicted;
        client.waker.wake_by_ref();
        let at = client.at;
        self.evicted += 1;
        self.stop_waiting(at, place);
        true
    }
}

#[cfg(test)]
mod tests;
