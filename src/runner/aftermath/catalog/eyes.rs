//! A session that looks at the server's counters and at who waits, and never waits itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{LockWaits, Snapshot};
use crate::runner::connect::{Connector, Session};
use crate::runner::report::chain;
use crate::runner::stop::{Stop, StopReason};
use crate::runner::watcher::Questions;

/// The pause between two looks at who waits.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// See the module.
pub(in crate::runner) struct Eyes {
    session: Session,
    questions: Questions,
    connector: Arc<Connector>,
}

impl Eyes {
    /// Connects.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    pub(in crate::runner) async fn open(
        connector: &Arc<Connector>,
        database: &str,
    ) -> Result<Self, String> {
        let opened = async {
            let session = connector.connect(database, Box::new(|_| {})).await;
            let session = session.map_err(|error| chain(&error))?;
            let questions = Questions::prepare(&session.client).await;
            Ok(Self {
                questions: questions.map_err(|error| chain(&error))?,
                session,
                connector: Arc::clone(connector),
            })
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        opened.unwrap_or_else(|_elapsed| Err("no answer".to_owned()))
    }

    /// What is counted of these relations now.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    pub(in crate::runner) async fn snapshot(&self, relations: &[u32]) -> Result<Snapshot, String> {
        let taken = Snapshot::take(&self.session.client, relations);
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        let taken = taken.map_err(|_elapsed| "no answer".to_owned())?;
        taken.map_err(|error| chain(&error))
    }

    /// Looks every second who waits for a lock, until then; a look that fails is left out.
    ///
    /// # Errors
    /// Why the run is to stop before.
    pub(in crate::runner) async fn watch_until(
        &self,
        until: Instant,
        stop: &Stop,
        waits: &mut LockWaits,
    ) -> Result<(), StopReason> {
        loop {
            let ours = self.connector.own_pids();
            let look = self.questions.look(&self.session.client, &ours);
            if let Ok(Ok(look)) = tokio::time::timeout(PATIENCE, look).await {
                waits.add(look.blocked, look.wait_ms);
            }
            let next = until.min(Instant::now() + EVERY);
            tokio::select! {
                biased;
                reason = stop.fired() => return Err(reason),
                () = tokio::time::sleep_until(next) => {}
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Ends the session.
    pub(in crate::runner) async fn close(self) {
        self.session.close(EVERY).await;
    }
}
