//! What a migration does to others while it runs, seen on a connection of its own.
//!
//! ```text
//! run ── file begins ─────────── file ends ──► report: peaks of the file
//!           │     every 100 ms       │
//! watcher ──┴─ pg_locks, pg_stat_progress_*, WAL, host ──► events, `pgdrain.progress`, live figures
//! ```
//!
//! The session asks views alone that take no lock on a table, and has a lock_timeout of 100 ms: it
//! never queues behind the DDL that it watches. What it cannot see is noted and fails no run.

mod figures;
mod host;
mod look;
mod notice;
mod progress;
mod task;
mod thresholds;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use figures::{HeldLock, HostPeak, Now, Watched};
pub use host::Host;
pub use progress::Work;
pub use thresholds::Breach;

pub(super) use look::{Line, Questions};
pub(super) use notice::heard;
pub(super) use task::line_event;
pub(super) use thresholds::breaches;

use self::figures::Figures;
use super::connect::Connector;
use super::record::Run;

/// How long the end of a watch may take, for its last rows.
const END: Duration = Duration::from_secs(2);

/// A watcher at work; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

/// What the run and the task of its watcher share.
#[derive(Debug)]
struct Shared {
    run: Arc<Run>,
    /// The file that runs, and what was seen of it.
    file: Mutex<Option<(String, Figures)>>,
}

impl Watcher {
    /// Connects, and begins to look; when it cannot connect, it says so and tries again by itself. To be
    /// called before a window, in which there may be no room for another connection.
    pub(super) async fn start(connector: &Arc<Connector>, run: &Arc<Run>) -> Self {
        let shared = Arc::new(Shared {
            run: Arc::clone(run),
            file: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let task = task::Task::new(Arc::clone(connector), Arc::clone(&shared)).await;
        connector.spawn(async move {
            task.run(stopped).await;
            // Nobody may wait any more.
            let _ = end.send(());
        });
        Self {
            shared,
            stop,
            ended,
        }
    }

    /// A file begins.
    pub(super) fn begin_file(&self, file: &str) {
        *self.shared.file() = Some((file.to_owned(), Figures::new(Instant::now())));
    }

    /// What was seen of the file that has ended; none if nobody looked.
    pub(super) fn end_file(&self) -> Option<Watched> {
        let (_, figures) = self.shared.file().take()?;
        figures.report()
    }

    /// Ends it, after its last rows.
    pub(super) async fn end(self) {
        self.stop.send_replace(true);
        // When it takes longer, it ends by itself.
        let _ = tokio::time::timeout(END, self.ended).await;
        self.shared.run.seen(None);
    }
}

impl Shared {
    fn file(&self) -> MutexGuard<'_, Option<(String, Figures)>> {
        // Every operation leaves it whole, so a panic elsewhere cannot have torn it.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
