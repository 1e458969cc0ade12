//! The end of a process whose home is lost: the thread of everything that is no session.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::tasks::watchdog;

/// How often it is asked.
const BEAT: Duration = Duration::from_secs(1);

/// For how many of these it may be silent. What blocks there for long is done beside it.
const PATIENCE: u32 = 60;

impl App {
    /// Watches it from a worker. Without a home nothing can end in order, neither a hold nor a migration: the
    /// process ends as by a signal, whoever supervises it starts it again, and the next one finds in journal and
    /// history what was going on.
    pub(super) fn watch_home(self: &Arc<Self>) {
        let (home, stop) = (self.tasks.clone(), self.tasks.shutdown_token());
        self.tasks
            .spawn_on(self.workers.first(), "home", async move {
                tokio::select! {
                    () = watchdog::silence(&home, BEAT, PATIENCE) => {}
                    () = stop.cancelled() => return,
                }
                tracing::error!(
                    "the thread of migrations and admin HTTP was lost: the process ends"
                );
                std::process::abort();
            });
    }
}
