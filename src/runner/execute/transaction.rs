//! A file in one transaction: applied together with its history row, or nothing happened.
//!
//! ```text
//! session: BEGIN ─ xid ─────────── SET LOCAL ─ statements ─ history row ─ COMMIT
//! ledger:               "running, xid"                                      │ answer lost?
//!                       (committed)                     pg_xact_status(xid) ◄┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::retry::Savepoints;
use super::{Answer, Ending, Executor, milliseconds, set_role};
use crate::runner::connect::Session;
use crate::runner::history::{
    Beginning, LedgerError, finish_parameters, finish_statement, finished_state,
};
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::settle::{Settled, settle};
use crate::runner::stop::Stop;

/// Read committed, whatever the database's default: the history row is written by another session
/// after this one has begun, and must be visible to it at the end.
pub(super) const BEGIN: &str = "begin isolation level read committed read write";

/// Undoes what a file may have set, before the history row is written by our own role. The search
/// path keeps a function or operator of the file's own from standing in for the server's, and
/// literals are read as we write them.
pub(super) const OURSELVES: &str = "reset session authorization; reset role; \
                         set local search_path = pg_catalog, pg_temp; \
                         set local standard_conforming_strings = on";

impl Executor<'_> {
    /// Runs a file in one transaction.
    pub(super) async fn run_in_transaction(&mut self, step: &Step, stop: &Stop) -> Ending {
        let (begun, worked) = self.attempt(step, stop).await;
        match worked {
            Ok(()) => self.commit(step, stop).await,
            Err(failure) if begun => self.roll_back(step, failure).await,
            Err(failure) => {
                // Nothing was recorded and nothing was done.
                self.session = None;
                Ending::RolledBack(failure)
            }
        }
    }

    /// Everything up to the commit, and whether the file may be recorded as running.
    async fn attempt(&mut self, step: &Step, stop: &Stop) -> (bool, Result<(), Failure>) {
        let xid = match self.begin().await {
            Ok(xid) => xid,
            Err(failure) => return (false, Err(failure.in_file(step))),
        };
        let worked = self.work(step, &xid, stop).await;
        (true, worked)
    }

    async fn begin(&self) -> Result<String, Failure> {
        self.command(BEGIN).await?;
        // Gives the transaction its number now, before anything else, so that it can be recorded.
        let sql = "select pg_catalog.pg_current_xact_id()::pg_catalog.text";
        let row = self.session()?.client.query_one(sql, &[]).await;
        Ok(row.map_err(|error| Failure::from_error(&error))?.get(0))
    }

    async fn work(&mut self, step: &Step, xid: &str, stop: &Stop) -> Result<(), Failure> {
        let pid = self.session()?.pid;
        let beginning = Beginning {
            run: &self.run.id,
            pid,
            xid: Some(xid),
        };
        let recorded = self.ledger.begin_file(step, beginning).await;
        recorded.map_err(|error| Failure::new(error.to_string()).in_file(step))?;
        let role = set_role("local", self.settings.owner(step));
        let settings = format!("{}; {role}", self.timeouts(step));
        self.command(&settings)
            .await
            .map_err(|it| it.in_file(step))?;
        let counted = self.claims_before(step, stop).await?;
        let sight = self.sight_before(step, stop).await?;

        let mut savepoints = Savepoints::none();
        for (index, statement) in step.script.statements().iter().enumerate() {
            if let Some(reason) = stop.now() {
                return Err(Failure::new(reason.to_string()).in_file(step));
            }
            let run = self.statement_in_savepoint(step, index, statement, &mut savepoints, stop);
            match run.await {
                Answer::Ok => {}
                Answer::Failed(failure) => return Err(failure),
                Answer::Stopped { reason, .. } => {
                    let failure = Failure::new(reason.to_string());
                    return Err(failure.at_statement(step, index, statement));
                }
            }
        }
        self.claims_after(step, &counted, stop).await?;
        self.validate(step, &sight, stop).await?;
        self.write_history(step)
            .await
            .map_err(|it| it.in_file(step))?;
        match stop.now() {
            Some(reason) => Err(Failure::new(reason.to_string()).in_file(step)),
            None => Ok(()),
        }
    }

    fn timeouts(&self, step: &Step) -> String {
        format!(
            "set local lock_timeout = {}; set local statement_timeout = {}; \
             set local idle_in_transaction_session_timeout = {}",
            self.settings.lock_timeout(step),
            self.settings.statement_timeout(step),
            milliseconds(self.settings.idle_in_transaction_timeout),
        )
    }

    async fn write_history(&self, step: &Step) -> Result<(), Failure> {
        self.command(&format!("{OURSELVES}; {}", self.timeouts(step)))
            .await?;
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let sql = finish_statement(true, &self.settings.told(step));
        let state = finished_state(step.direction()).as_str();
        let run = self.run.id.as_str();
        let parameters = finish_parameters(&source, &version, &run, &state);
        match self.session()?.client.execute(&sql, &parameters).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(Failure::new("the file ended the runner's transaction")),
            Err(error) => Err(Failure::from_error(&error)),
        }
    }

    /// Commits. An answer of yes is final; anything else is looked up.
    async fn commit(&mut self, step: &Step, stop: &Stop) -> Ending {
        let Err(failure) = self.send_commit(stop).await else {
            return Ending::Done;
        };
        let failure = Failure {
            message: format!("at COMMIT: {}", failure.message),
            ..failure
        };
        self.session = None;
        self.look_up(step, failure.in_file(step)).await
    }

    /// A commit is never cut short: if the run has to stop meanwhile, it gets some time, then a
    /// cancel (which ends a wait for a synchronous standby, after the commit itself), then it is
    /// abandoned and looked up.
    pub(super) async fn send_commit(&mut self, stop: &Stop) -> Result<(), Failure> {
        let answer = wait_for_commit(self.session()?, self.settings.cancel_wait, stop).await;
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(Failure::from_error(&error)),
            None => {
                self.abandon().await;
                Err(Failure::new("the server did not answer"))
            }
        }
    }

    /// Rolls back, and makes sure of it.
    async fn roll_back(&mut self, step: &Step, failure: Failure) -> Ending {
        let wait = self.settings.cancel_wait;
        // When this fails the connection is of no more use, and dropping it does the same.
        let _ = tokio::time::timeout(wait, self.command("rollback")).await;
        self.session = None;
        self.look_up(step, failure).await
    }

    /// Finds out how the transaction ended and records it.
    async fn look_up(&mut self, step: &Step, failure: Failure) -> Ending {
        let deadline = Instant::now() + self.settings.settle_wait;
        match settle(&mut self.ledger, &step.key(), deadline).await {
            Settled::Recorded(Some(state)) if state == finished_state(step.direction()) => {
                self.run.note(format!(
                    "{}: the answer was lost, but it is committed",
                    step.file
                ));
                Ending::Done
            }
            // It was never recorded as running, or somebody else has recorded its end.
            Settled::Recorded(_) => Ending::RolledBack(failure),
            Settled::RolledBack => {
                let recorded = self
                    .ledger
                    .rolled_back(&step.key(), step.direction(), &failure)
                    .await;
                self.recorded(recorded);
                Ending::RolledBack(failure)
            }
            Settled::CommittedUnrecorded => {
                let failure = failure.with_hint(
                    "part of the file is committed, because the file ended the transaction itself",
                );
                let recorded = self.ledger.dirty(&step.key(), &failure).await;
                self.recorded(recorded);
                Ending::Dirty(failure)
            }
            Settled::StoppedAfter { .. } | Settled::Begun => Ending::Unknown(failure),
            Settled::Undecided(why) => {
                Ending::Unknown(failure.with_hint(format!("how it ended is not known: {why}")))
            }
        }
    }

    pub(super) fn recorded(&self, result: Result<(), LedgerError>) {
        if let Err(error) = result {
            self.unrecorded(&error);
        }
    }
}

/// The answer to a commit, if one came in time.
async fn wait_for_commit(
    session: &Session,
    wait: Duration,
    stop: &Stop,
) -> Option<Result<(), tokio_postgres::Error>> {
    let commit = session.client.batch_execute("commit");
    patiently(session, commit, wait, stop).await
}

/// Waits for an answer. If the run has to stop meanwhile, it gets some time, then a cancel, and the
/// same time again; `None` if there is no answer even then.
pub(super) async fn patiently<T>(
    session: &Session,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    wait: Duration,
    stop: &Stop,
) -> Option<Result<T, tokio_postgres::Error>> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        answer = &mut work => return Some(answer),
        _ = stop.fired() => {}
    }
    if let Ok(answer) = tokio::time::timeout(wait, &mut work).await {
        return Some(answer);
    }
    session.cancel(wait).await;
    tokio::time::timeout(wait, work).await.ok()
}
