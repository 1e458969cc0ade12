//! Places for sessions, against limits that may change while sessions live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts sessions against a limit.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
}

/// One session's place, given back when it is dropped.
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

impl Drop for RoomTaken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
