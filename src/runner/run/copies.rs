//! Copies of the tables that the files touch, just before the first of them.

use std::time::Duration;

use serde_json::json;

use super::{End, Findings, Job};
use crate::runner::connect::Session;
use crate::runner::copies::{self, Copied, NoCopies};
use crate::runner::execute::Executor;
use crate::runner::report::Failure;
use crate::runner::stop::{Stop, StopReason};
use crate::runner::traffic::Traffic;
use crate::runner::types::{EventKind, Exit};

impl<T: Traffic> Job<T> {
    /// Whether tables are copied.
    pub(super) fn copies_tables(&self) -> bool {
        self.request.copy_tables || self.options.copies.every_run
    }

    /// Copies them, in the window if there is one. Nothing was changed yet.
    pub(super) async fn copy_tables(
        &self,
        executor: &Executor<'_>,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        if !self.copies_tables() {
            return Ok(());
        }
        self.run.note("copying the tables that the files touch");
        let session = match self.open_copier().await {
            Ok(session) => session,
            Err(failure) => return Err(self.failed(findings, failure, Exit::Preflight)),
        };
        let tables = findings.touched.clone();
        let made = self.copy(&session, &tables, stop).await;
        let made = match made {
            Ok(made) => made,
            Err(reason) => {
                session.close(Duration::from_secs(1)).await;
                return Err(self.stopped(findings, &reason));
            }
        };
        match made {
            Ok(copied) => {
                let rows: i64 = copied.iter().map(|it| it.rows).sum();
                let text = format!("copied {} tables with {rows} rows", copied.len());
                let data = json!({ "copies": copied });
                self.run.tell(EventKind::Note, text, data.clone());
                if let Err(error) = executor.ledger().note(&self.run.id, "copies", &data).await {
                    self.run
                        .note(format!("the copies are not recorded: {error}"));
                }
                self.drop_old_copies(&session).await;
                session.close(Duration::from_secs(1)).await;
                Ok(())
            }
            Err(error) => {
                session.close(Duration::from_secs(1)).await;
                let hint = match &error {
                    NoCopies::TooLarge { .. } => {
                        "raise it, or run without copies: a backup holds the rows too"
                    }
                    NoCopies::Different(_) | NoCopies::Server(_) => {
                        "nothing was changed in the database"
                    }
                };
                let failure = Failure::new(error.to_string()).with_hint(hint);
                Err(self.failed(findings, failure, Exit::Preflight))
            }
        }
    }

    /// Whoever stops the run stops this: its transaction is rolled back.
    async fn copy(
        &self,
        session: &Session,
        tables: &[u32],
        stop: &Stop,
    ) -> Result<Result<Vec<Copied>, NoCopies>, StopReason> {
        let (client, settings) = (&session.client, &self.options.copies);
        let work = copies::make(client, &self.run.id, tables, settings);
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            made = &mut work => Ok(made),
            reason = stop.fired() => {
                session.cancel(Duration::from_secs(5)).await;
                // It ends by itself then.
                drop(work.await);
                Err(reason)
            }
        }
    }

    async fn open_copier(&self) -> Result<Session, Failure> {
        let connected = self.connector.connect(&self.run.database, Box::new(|_| {}));
        connected
            .await
            .map_err(|error| Failure::new(error.to_string()))
    }

    /// Nothing depends on that.
    async fn drop_old_copies(&self, session: &Session) {
        match copies::prune(&session.client, self.options.copies.keep).await {
            Ok(dropped) => {
                for copy in dropped {
                    self.run.note(format!("dropped {copy}"));
                }
            }
            Err(error) => self.run.note(format!("old copies stay: {error}")),
        }
    }
}
