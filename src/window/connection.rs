//! The connections of a window: noted before they may do anything, and ended until the server has
//! forgotten them.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::controller::Controller;
use super::journal::{BornRecord, JournalError, LentRecord, Record};
use super::restart::LeftWindow;
use super::steps::After;
use crate::drain::forget_departed;
use crate::server::control::{Backend, ControlError};
use crate::session::passes::Passes;
use crate::session::registry::Signals;

/// How long a statement may take to heed its cancel request, before its backend is terminated.
const CANCEL_TIME: Duration = Duration::from_secs(2);

/// Backends that are kept in the journal also when they are not to be found: many more than can be on
/// their way at once.
const NEWEST: usize = 64;

/// The pause between two looks at the server, growing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// How long one wait for a connection to leave is, before all are told again.
const TELL_AGAIN: Duration = Duration::from_millis(200);

impl Controller {
    /// Writes down which backends work for a window, the last of them new; false if the window is no
    /// more.
    pub(super) async fn note_backends(
        &self,
        (database, id): (&str, &str),
        backends: &[i32],
    ) -> Result<bool, JournalError> {
        let mut noted = false;
        let note = |journal: &mut Record| {
            if let Some(lent) = lent_in(journal, (database, id)) {
                lent.backends = backends.to_vec();
                // An earlier one may have had the same process id.
                let new = backends.last();
                lent.born
                    .retain(|it| backends.contains(&it.pid) && Some(&it.pid) != new);
                noted = true;
            }
        };
        self.record(note, || ()).await?;
        Ok(noted)
    }

    /// Writes down when a backend of a window was started, if the server says so: after a crash its
    /// process id may be somebody else's. Nobody waits for this; without it the process id decides.
    pub(super) async fn note_born(&self, (database, id): (&str, &str), pid: i32) {
        let works = || {
            let session = self.sessions.by_pid(pid);
            session.is_some_and(|session| session.window.as_deref() == Some(id))
        };
        // It was let in a moment ago, and is about to be registered.
        let registered = async {
            while !works() {
                sleep(LOOK_AGAIN).await;
            }
        };
        if timeout(TELL_AGAIN, registered).await.is_err() {
            return;
        }
        let Ok(seen) = self.control(database).backends(database).await else {
            return;
        };
        let mut backends = seen.backends.iter();
        let born = backends.find(|backend| backend.pid == pid);
        // Asked behind the answer: the one that was shown is the one that works.
        let Some(born) = born.and_then(|backend| backend.born).filter(|_| works()) else {
            return;
        };
        let note = |journal: &mut Record| {
            if let Some(lent) = lent_in(journal, (database, id))
                && lent.backends.contains(&pid)
            {
                lent.born.retain(|it| it.pid != pid);
                lent.born.push(BornRecord { pid, born });
            }
        };
        if let Err(error) = self.record(note, || ()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                database,
                error,
                "it is not noted when a backend was started"
            );
        }
    }

    /// These backends, without those that have been seen to end. The newest stay in any case: their
    /// sessions may be on their way into the registry.
    pub(super) fn still_of_use(&self, database: &str, backends: &[i32]) -> Vec<i32> {
        let departed = self.sessions.departed_of(database);
        let newest = backends.len().saturating_sub(NEWEST);
        let (old, new) = backends.split_at(newest);
        let used = |pid: &&i32| {
            let pid = **pid;
            self.sessions.by_pid(pid).is_some() || departed.iter().any(|gone| gone.pid == pid)
        };
        old.iter().filter(used).chain(new).copied().collect()
    }

    /// Ends every connection of a window, whose key lets nobody in any more: what they run is
    /// cancelled, and terminated if that does not help. Returns when none of them is left and the
    /// server has forgotten every one whose end was not seen. Cancel safe: it can be begun again.
    pub(super) async fn end_connections(
        &self,
        (database, id): (&str, &str),
        backends: &[i32],
        passes: &Passes,
    ) {
        let begun = Instant::now();
        let mut terminated = false;
        while passes.counts(id).1 > 0 {
            let inside = self.sessions.in_window(id);
            for session in &inside {
                session.signal(Signals::WINDOW_ENDED);
            }
            if !terminated && begun.elapsed() > CANCEL_TIME {
                let pids: Vec<i32> = inside.iter().filter_map(|session| session.pid()).collect();
                terminated = true;
                self.order_end(database, &pids).await;
            }
            // An error only says that nobody has left meanwhile.
            let _ = timeout(TELL_AGAIN, passes.somebody_left()).await;
        }
        let mut pause = LOOK_AGAIN;
        loop {
            let departed = self.sessions.departed_of(database);
            let left: Vec<i32> = departed
                .iter()
                .map(|gone| gone.pid)
                .filter(|pid| backends.contains(pid))
                .collect();
            if left.is_empty() {
                return;
            }
            if begun.elapsed() > CANCEL_TIME {
                self.order_end(database, &left).await;
            }
            forget_departed(database, &self.sessions, &self.control(database)).await;
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    async fn order_end(&self, database: &str, pids: &[i32]) {
        if pids.is_empty() {
            return;
        }
        if let Err(error) = self.control(database).terminate(pids).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(database, error, "a window's backends were not terminated");
        }
    }

    /// Ends what a window that somebody else worked in has left on the server when the last process
    /// died, and then does what was agreed for that. Until the server says that its backends are
    /// gone, it is not known what they still do, and traffic stays held. Cancel safe.
    pub async fn settle_lent(self: &std::sync::Arc<Self>, left: &LeftWindow) {
        let Some(lent) = &left.lent else { return };
        let mut pause = LOOK_AGAIN;
        while self.is_left(left) {
            match self.running_of(&left.database, lent).await {
                Ok(running) if running.is_empty() => break,
                Ok(running) => {
                    let pids: Vec<i32> = running.iter().map(|backend| backend.pid).collect();
                    let why = format!("its backends {pids:?} still run");
                    self.still_unsettled(left, &why);
                    self.end_left(&left.database, &running).await;
                }
                Err(error) => {
                    let why =
                        format!("the server cannot be asked whether its backends run: {error}");
                    self.still_unsettled(left, &why);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        match lent.on_lost {
            After::Reopen => self.settle(left).await,
            After::Stay => {
                let why = "pgdrain ended while the window was open; its backends are gone, and what \
                           they left undone is rolled back";
                self.settle_held(left, why).await;
            }
        }
    }

    /// Which backends of a window the server still has, leaving out those that are ours by now: a
    /// process id can come again.
    async fn running_of(
        &self,
        database: &str,
        lent: &LentRecord,
    ) -> Result<Vec<Backend>, ControlError> {
        if lent.backends.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = self.control(database).backends(database).await?.backends;
        let ours = |pid: i32| self.sessions.by_pid(pid).is_some();
        seen.retain(|backend| lent.has(backend.pid, backend.born) && !ours(backend.pid));
        Ok(seen)
    }

    /// Terminates what a killed proxy's window has left, each as the very session that was seen.
    async fn end_left(&self, database: &str, running: &[Backend]) {
        for backend in running {
            let Some(identity) = backend.identity() else {
                self.order_end(database, &[backend.pid]).await;
                continue;
            };
            if let Err(error) = self.control(database).terminate_one(identity).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(database, error, "a window's backend was not terminated");
            }
        }
    }
}

/// What is noted of this very window, if somebody else works in it.
fn lent_in<'a>(
    journal: &'a mut Record,
    (database, id): (&str, &str),
) -> Option<&'a mut LentRecord> {
    let window = journal.windows.get_mut(database);
    let window = window.filter(|window| window.id == id)?;
    window.lent.as_mut()
}
