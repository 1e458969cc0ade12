//! The process ids of the server sessions that belong to a run, so that a drain does not wait for
//! them or call them strangers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A set of backend process ids, shared between those who connect and those who watch.
#[derive(Clone, Debug, Default)]
pub struct OwnBackends(Arc<Mutex<BTreeSet<i32>>>);

impl OwnBackends {
    /// The process ids at this moment.
    pub fn pids(&self) -> Vec<i32> {
        self.lock().iter().copied().collect()
    }

    /// Whether a process id is one of ours.
    pub fn contains(&self, pid: i32) -> bool {
        self.lock().contains(&pid)
    }

    /// Adds a process id for as long as the guard lives.
    pub fn insert(&self, pid: i32) -> OwnBackend {
        self.lock().insert(pid);
        OwnBackend {
            pid,
            set: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        // Every operation leaves the set whole, so a panic elsewhere cannot have torn it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a process id in the set; dropped when its connection has ended.
#[derive(Debug)]
pub struct OwnBackend {
    pid: i32,
    set: OwnBackends,
}

impl Drop for OwnBackend {
    fn drop(&mut self) {
        self.set.lock().remove(&self.pid);
    }
}
