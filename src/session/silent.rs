//! Clients that have connected and not said yet what they want.
//!
//! Whoever speaks Postgres says it within a round trip or two, so that of too many the oldest are
//! the ones to lose: a flood of connections that say nothing, or one byte a second, then costs those
//! who come honestly no more than a new place among it. Refusing the newest instead would lock them
//! out for as long as the flood has places.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All of them, oldest first.
#[derive(Debug, Default)]
pub struct Silent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them; no more when it is dropped.
#[derive(Debug)]
pub struct SilentPlace {
    among: Arc<Silent>,
    number: u64,
}

/// Told when a place is taken away.
pub type TakenAway = oneshot::Receiver<()>;

impl Silent {
    /// Takes a place. When `limit` are taken, the oldest of them is taken away.
    pub fn enter(self: &Arc<Self>, limit: usize) -> (SilentPlace, TakenAway) {
        let mut inner = self.inner();
        while inner.waiting.len() >= limit
            && let Some((_, oldest)) = inner.waiting.pop_first()
        {
            // One that is just leaving does not listen any more.
            let _ = oldest.send(());
        }
        let number = inner.next;
        inner.next += 1;
        let (take_away, taken_away) = oneshot::channel();
        inner.waiting.insert(number, take_away);
        let among = Arc::clone(self);
        (SilentPlace { among, number }, taken_away)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SilentPlace {
    fn drop(&mut self) {
        self.among.inner().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn of_too_many_the_oldest_loses_its_place() {
        let silent: Arc<Silent> = Arc::default();
        let (first, mut first_lost) = silent.enter(2);
        let (second, mut second_lost) = silent.enter(2);
        let (third, mut third_lost) = silent.enter(2);
        assert_eq!(first_lost.try_recv(), Ok(()));
        assert_eq!(second_lost.try_recv(), Err(TryRecvError::Empty));
        // One that has said what it wants makes room.
        drop(second);
        let (_fourth, _) = silent.enter(2);
        assert_eq!(third_lost.try_recv(), Err(TryRecvError::Empty));
        drop((first, third));
        assert_eq!(silent.inner().waiting.len(), 1);
    }
}
