//! Places for clients, against limits that may change while clients are there.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::silent::Silent;

/// All the counts of a process.
#[derive(Debug, Default)]
pub struct Rooms {
    /// Sessions that are open, or about to be.
    pub(super) sessions: Arc<Room>,
    /// Clients that are logging in.
    pub(super) logins: Arc<Room>,
    /// Clients that have not said yet what they want.
    pub(super) silent: Arc<Silent>,
    /// Clients that are told why they are refused, or wait for what they want cancelled.
    pub(super) asides: Arc<Room>,
    /// Clients in front of a fence.
    pub(super) parked: Arc<Room>,
    /// Those of them that log in at once when it is down.
    pub(super) turns: Turns,
    /// Clients that prove to the console who they are.
    pub(super) proving: Arc<Room>,
    /// Connections from each address.
    pub(super) addresses: Arc<Tally<IpAddr>>,
    /// Those beyond the limit of their address, which may only cancel.
    pub(super) surplus: Arc<Tally<IpAddr>>,
    /// Sessions in each database.
    pub(super) databases: Arc<Tally<Arc<str>>>,
    /// Sessions of each user.
    pub(super) users: Arc<Tally<Arc<str>>>,
}

/// The most that are waited for beside sessions and logins; further ones are closed at once.
pub(super) const ASIDES_MAX: usize = 1000;

/// How many clients that waited in front of a fence log in at once: they would all come together.
const TURNS: usize = 16;

/// Turns of those who waited for the same thing.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Turns {
    /// Waits for a turn, which lasts until it is dropped. Cancel safe.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// Counts against a limit.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct RoomTaken(Arc<Room>);

impl Room {
    /// Takes a place; `None` when `limit` places are taken.
    pub fn take(self: &Arc<Self>, limit: usize) -> Option<RoomTaken> {
        let taken = RoomTaken(Arc::clone(self));
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(taken)
    }
}

#[cfg(test)]
impl Room {
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for RoomTaken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts by a key, such as an address. A key that nobody has takes no memory, so that strangers
/// cannot make it grow beyond their connections.
#[derive(Debug)]
pub struct Tally<K>(Mutex<HashMap<K, usize>>);

/// One place under a key, given back when it is dropped.
#[derive(Debug)]
pub struct Tallied<K: Eq + Hash> {
    tally: Arc<Tally<K>>,
    key: K,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Tally<K> {
    /// Takes a place; `None` when `limit` places are taken under this key. Also without a limit it
    /// is counted, for the limit may come while it is taken.
    pub fn take(self: &Arc<Self>, key: K, limit: Option<usize>) -> Option<Tallied<K>> {
        let mut counts = self.counts();
        let known = counts.get_key_value(&key);
        let (key, taken) = known.map_or((key, 0), |(known, taken)| (known.clone(), *taken));
        if limit.is_some_and(|limit| taken >= limit) {
            return None;
        }
        counts.insert(key.clone(), taken + 1);
        let tally = Arc::clone(self);
        Some(Tallied { tally, key })
    }
}

impl<K: Eq + Hash> Tallied<K> {
    /// The key: of one that is shared, the very one that everybody has who is under it.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K> Tally<K> {
    /// The map is whole at every moment, so that a panic elsewhere spoils nothing.
    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Tallied<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
                if counts.is_empty() {
                    // A flood that is over leaves nothing behind.
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_as_many_places_as_its_limit_says() {
        let tally: Arc<Tally<&str>> = Arc::default();
        let first = tally.take("a", Some(2)).expect("free");
        let _second = tally.take("a", Some(2)).expect("free");
        assert!(tally.take("a", Some(2)).is_none());
        assert!(tally.take("b", Some(2)).is_some());
        // What was taken without a limit counts when there is one.
        let _third = tally.take("a", None).expect("no limit");
        drop(first);
        assert!(tally.take("a", Some(2)).is_none());
    }

    #[test]
    fn whoever_is_under_a_key_shares_it() {
        let tally: Arc<Tally<Arc<str>>> = Arc::default();
        let places = [(); 3].map(|()| tally.take("anna".into(), None).expect("no limit"));
        let [first, second, third] = &places;
        assert!(Arc::ptr_eq(first.key(), second.key()) && Arc::ptr_eq(first.key(), third.key()));
    }

    #[test]
    fn a_key_that_nobody_has_takes_no_memory() {
        let tally: Arc<Tally<usize>> = Arc::default();
        let taken: Vec<_> = (0..1000).map(|key| tally.take(key, Some(1))).collect();
        assert_eq!(tally.counts().len(), 1000);
        drop(taken);
        assert_eq!(tally.counts().capacity(), 0);
    }
}
