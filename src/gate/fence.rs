//! Which databases the server keeps closed to new sessions for us: logins there are parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The fences that are up. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Fences {
    up: Arc<Mutex<BTreeSet<String>>>,
    parked: Arc<Mutex<BTreeMap<String, usize>>>,
    changes: Arc<watch::Sender<u64>>,
}

/// A login that waits in front of a fence; counted until it is dropped.
#[derive(Debug)]
pub struct Parked {
    fences: Fences,
    database: String,
}

impl Drop for Parked {
    fn drop(&mut self) {
        let mut counts = lock(&self.fences.parked);
        if let Some(count) = counts.get_mut(&self.database) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.database);
            }
        }
    }
}

impl Fences {
    /// Parks logins to `database` from now on.
    pub fn raise(&self, database: &str) {
        lock(&self.up).insert(database.to_owned());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Lets them go on.
    pub fn lower(&self, database: &str) {
        lock(&self.up).remove(database);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether logins to `database` are parked.
    #[must_use]
    pub fn is_up(&self, database: &str) -> bool {
        lock(&self.up).contains(database)
    }

    /// Counts a login that is parked.
    #[must_use]
    pub fn park(&self, database: &str) -> Parked {
        *lock(&self.parked).entry(database.to_owned()).or_default() += 1;
        Parked {
            fences: self.clone(),
            database: database.to_owned(),
        }
    }

    /// How many logins to `database` are parked.
    #[must_use]
    pub fn parked(&self, database: &str) -> usize {
        lock(&self.parked).get(database).copied().unwrap_or(0)
    }

    /// Waits until there is no fence around `database`. Cancel safe.
    pub async fn down(&self, database: &str) {
        let mut changes = self.changes.subscribe();
        while self.is_up(database) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// What is in there is whole at every moment.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
