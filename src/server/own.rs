//! Which server sessions are our own and serve no client: a proof must not count them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The process ids of our own connections. Clones share the set.
#[derive(Debug, Clone, Default)]
pub struct OwnBackends {
    pids: Arc<Mutex<BTreeSet<i32>>>,
}

/// Keeps one process id in the set until it is dropped.
#[derive(Debug)]
pub struct OwnBackend {
    pid: i32,
    of: OwnBackends,
}

impl OwnBackends {
    /// Adds a connection of ours.
    #[must_use]
    pub fn insert(&self, pid: i32) -> OwnBackend {
        self.lock().insert(pid);
        OwnBackend {
            pid,
            of: self.clone(),
        }
    }

    /// The process ids at this moment.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.lock().iter().copied().collect()
    }

    /// Whether this server session is one of ours.
    #[must_use]
    pub fn contains(&self, pid: i32) -> bool {
        self.lock().contains(&pid)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnBackend {
    fn drop(&mut self) {
        self.of.lock().remove(&self.pid);
    }
}
