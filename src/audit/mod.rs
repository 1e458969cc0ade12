//! What was done to traffic, by whom and why, for those who watch and those who ask later.
//!
//! [`Audit::tell`] puts an [`Event`] behind the last ones in memory, from where watchers read it,
//! and appends it to a file (`crate::audit::file`). Numbers go on after a restart, so that a watcher
//! who knows the last one it saw misses nothing that is still kept.

mod event;
mod file;
mod refused;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

pub use event::{Event, Kind, Told};
use file::AuditFile;
use refused::Refused;

/// Events that watchers can go back to. Older ones are in the file.
const KEPT: usize = 1000;

/// Every change of the modes of one process; see the module.
#[derive(Debug)]
pub struct Audit {
    inner: Mutex<Inner>,
    refused: Mutex<Refused>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    kept: VecDeque<Arc<Told>>,
    file: Option<AuditFile>,
    /// Whether the file is another process's now.
    put_down: bool,
}

/// Events behind a number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// In order.
    pub events: Vec<Arc<Told>>,
    /// Whether events in between are kept no more.
    pub gap: bool,
}

impl Audit {
    /// Without a file: what is told is remembered for a while.
    #[must_use]
    pub fn in_memory() -> Audit {
        Audit::of(None, VecDeque::new())
    }

    /// With the file `audit.jsonl` of a state directory, behind what is in it. A file that grows
    /// beyond `rotate_bytes` becomes `audit.jsonl.1`, that one `.2`, and so on; `keep` old ones are
    /// kept.
    ///
    /// A file that cannot be read or written keeps nothing from being done: that is said in the log
    /// once, and tried again with each event.
    #[must_use]
    pub fn kept_in(state_dir: &Path, rotate_bytes: u64, keep: u32) -> Audit {
        let (file, before) = AuditFile::open(state_dir, rotate_bytes, keep, KEPT);
        Audit::of(Some(file), before.into_iter().map(Arc::new).collect())
    }

    fn of(file: Option<AuditFile>, kept: VecDeque<Arc<Told>>) -> Audit {
        let last = kept.back().map_or(0, |told| told.id);
        Audit {
            inner: Mutex::new(Inner {
                kept,
                file,
                put_down: false,
            }),
            refused: Mutex::new(Refused::new(Instant::now())),
            last: watch::Sender::new(last),
        }
    }

    /// Tells an event; returns its number. Appends a line to a file: short, but not for a hot path.
    pub fn tell(&self, event: Event) -> u64 {
        let mut inner = self.inner();
        let id = *self.last.borrow() + 1;
        let told = Arc::new(Told {
            id,
            at: Timestamp::now(),
            event,
        });
        if let Inner {
            file: Some(file),
            put_down: false,
            ..
        } = &mut *inner
        {
            file.append(&told);
        }
        inner.kept.push_back(told);
        let surplus = inner.kept.len().saturating_sub(KEPT);
        inner.kept.drain(..surplus);
        // Under the lock, so that numbers and order agree.
        self.last.send_replace(id);
        id
    }

    /// Tells that somebody was not let in, unless that is told often enough: an address once a minute, and
    /// ten of them at most. The next that is told says how many were not.
    pub fn refused(&self, from: Option<IpAddr>, mut event: Event) {
        let untold = {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.one(from, Instant::now())
        };
        let Some(untold) = untold else {
            return;
        };
        if untold > 0 {
            let why = event.outcome.unwrap_or_default();
            event.outcome = Some(format!("{why} (and {untold} more before, from anywhere)"));
        }
        self.tell(event);
    }

    /// The events behind the number `after`; if there is none yet, waits for one, at most `wait`.
    /// Cancel safe.
    pub async fn news(&self, after: u64, wait: Duration) -> News {
        let mut last = self.last.subscribe();
        // An error only says that none came in time.
        let _ = timeout(wait, last.wait_for(|last| *last > after)).await;
        let inner = self.inner();
        let events: Vec<_> = inner
            .kept
            .iter()
            .filter(|told| told.id > after)
            .cloned()
            .collect();
        let gap = events.first().is_some_and(|first| first.id > after + 1);
        News { events, gap }
    }

    /// Whether to go on writing the file. A process that takes over numbers its events behind those
    /// in there, so the former one remembers its own without writing them down.
    pub fn write_down(&self, yes: bool) {
        self.inner().put_down = !yes;
    }

    /// The number of the last event; zero before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Every change is whole, so a panic elsewhere leaves nothing half-done.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(news: &News) -> Vec<u64> {
        news.events.iter().map(|told| told.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_read_on_where_they_stopped() {
        let audit = Audit::in_memory();
        assert_eq!(audit.news(0, Duration::ZERO).await, News::default());
        for _ in 0..3 {
            audit.tell(Event::of(Kind::Hold, "shop"));
        }
        assert_eq!(ids(&audit.news(0, Duration::ZERO).await), [1, 2, 3]);
        assert_eq!(ids(&audit.news(2, Duration::ZERO).await), [3]);
        let (news, id) = tokio::join!(audit.news(3, Duration::from_secs(60)), async {
            audit.tell(Event::of(Kind::Open, "shop"))
        });
        assert_eq!((ids(&news), id), (vec![4], 4));
    }

    #[tokio::test]
    async fn what_is_kept_no_more_is_a_gap() {
        let audit = Audit::in_memory();
        for _ in 0..KEPT + 5 {
            audit.tell(Event::of(Kind::Hold, "shop"));
        }
        let news = audit.news(2, Duration::ZERO).await;
        assert!(news.gap, "6 to {} are kept", KEPT + 5);
        assert_eq!(ids(&news).first(), Some(&6));
        assert!(!audit.news(5, Duration::ZERO).await.gap);
    }

    #[tokio::test]
    async fn numbers_go_on_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = Audit::kept_in(directory.path(), 1 << 20, 2);
        audit.tell(Event::of(Kind::Hold, "shop"));
        audit.tell(Event::of(Kind::Open, "shop"));
        drop(audit);
        let audit = Audit::kept_in(directory.path(), 1 << 20, 2);
        assert_eq!(audit.tell(Event::of(Kind::Hold, "till")), 3);
        let news = audit.news(1, Duration::ZERO).await;
        let databases: Vec<_> = news
            .events
            .iter()
            .map(|told| &told.event.database)
            .collect();
        assert_eq!(databases, [&Some("shop".into()), &Some("till".into())]);
    }
}
