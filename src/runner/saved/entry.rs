//! What a runner answers about saved objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::keep::saved;
use super::replay::replay;
use super::{ReplayRequest, Replayed, SavedError, SavedObjects};
use crate::runner::Runner;
use crate::runner::connect::Connector;
use crate::runner::history::Ledger;
use crate::runner::traffic::Traffic;

impl<T: Traffic> Runner<T> {
    /// What was saved before a run. Reads only.
    ///
    /// # Errors
    /// When nothing was, or the database cannot be asked.
    pub async fn saved_objects(
        &self,
        database: &str,
        run: &str,
    ) -> Result<SavedObjects, SavedError> {
        let ledger = Ledger::open(&self.connector, database).await?;
        let objects = saved(&ledger.session().client, run).await;
        ledger.close().await;
        Ok(SavedObjects {
            run: run.to_owned(),
            objects: objects?,
        })
    }

    /// Puts back what was saved before a run, all of what is asked for or nothing. Goes on when
    /// nobody waits for the answer any more.
    ///
    /// # Errors
    /// When there is nothing of that name, a migration runs, or the server refuses. What stands in
    /// the way is part of the answer.
    pub async fn replay(
        &self,
        database: &str,
        request: ReplayRequest,
    ) -> Result<Replayed, SavedError> {
        let (answer, answered) = oneshot::channel();
        let connector = Arc::clone(&self.connector);
        let database = database.to_owned();
        self.tasks.spawn(async move {
            let done = put_back(&connector, &database, &request).await;
            let run = &request.run;
            tracing::info!(database, run, by = request.by, ?done, "replay");
            // Nobody may wait any more.
            let _ = answer.send(done);
        });
        let lost = "the replay ended unexpectedly, by a fault of pgdrain";
        let done = answered.await;
        done.unwrap_or_else(|_closed| Err(SavedError::Different(lost.to_owned())))
    }
}

async fn put_back(
    connector: &Arc<Connector>,
    database: &str,
    request: &ReplayRequest,
) -> Result<Replayed, SavedError> {
    let ledger = Ledger::open(connector, database).await?;
    let done = with_session(connector, database, &ledger, request).await;
    if let Ok(Replayed {
        done: true,
        dry_run: false,
        replayed,
        ..
    }) = &done
        && !replayed.is_empty()
    {
        let names: Vec<_> = replayed.iter().map(ToString::to_string).collect();
        let data = json!({ "by": request.by, "objects": names });
        if let Err(error) = ledger.note(&request.run, "replayed", &data).await {
            tracing::warn!(database, %error, "a replay is not recorded");
        }
    }
    ledger.close().await;
    done
}

async fn with_session(
    connector: &Arc<Connector>,
    database: &str,
    ledger: &Ledger,
    request: &ReplayRequest,
) -> Result<Replayed, SavedError> {
    let session = connector.connect(database, Box::new(|_| {})).await?;
    let done = replay(ledger, &session, request).await;
    // What is not committed goes with the session.
    session.close(Duration::from_secs(5)).await;
    done
}
