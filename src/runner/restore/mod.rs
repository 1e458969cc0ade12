//! The way back in place: a backup takes the place of the database that it was made of, by two renames.
//!
//! ```text
//! look ─ restore beside ─ compare ─┬─ (without a confirmation: drop it, and tell what would be lost)
//!   nothing is held up to here     └─ window ─ end every session ─ swap the names ─ reopen ─ count what was lost
//! ```
//!
//! The names are swapped in one transaction, so that there is always a whole database under the name: the old one
//! or the new. The old one is kept under another name, with nobody in it, until it is pruned.

mod alike;
mod course;
mod replaced;
mod swap;
mod types;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use types::{InPlace, InPlaceRequest, LostRows};

use self::course::Course;
use super::backup::{self, BackupError, Pruned, RestoreRequest, Restored, Tools};
use super::connect::ConnectError;
use super::copies;
use super::record::Run;
use super::report::{Failure, Report};
use super::stop::Stop;
use super::traffic::Traffic;
use super::types::{Direction, Exit, RunState, TrafficMode};
use super::{Retire, Runner, new_id};

/// Said where a task of ours has panicked.
const LOST: &str = "the restore ended unexpectedly, by a fault of pgdrain";

impl<T: Traffic> Runner<T> {
    /// Restores a backup into a database that is made for it. Goes on when nobody waits for the
    /// answer any more; ends, and drops that database, when the process will end.
    ///
    /// # Errors
    /// When there is no such backup, a database of that name is there, or it cannot be done.
    pub async fn restore(
        &self,
        database: &str,
        request: RestoreRequest,
    ) -> Result<Restored, BackupError> {
        let (answer, answered) = oneshot::channel();
        let stop = Stop::new(self.stopping.subscribe());
        let connector = Arc::clone(&self.connector);
        let settings = self.options.backup.clone();
        let database = database.to_owned();
        self.tasks.spawn(async move {
            let tools = Tools {
                connector: &connector,
                settings: &settings,
                database: &database,
                stop: &stop,
            };
            let done = backup::restore(&tools, &request).await;
            let (run, into) = (&request.run, &request.into);
            tracing::info!(database, run, into, ?done, "restore");
            // Nobody may wait any more.
            let _ = answer.send(done);
        });
        let done = answered.await;
        done.unwrap_or_else(|_closed| Err(BackupError::Refused(LOST.to_owned())))
    }

    /// Puts a backup in the place of its database; without a confirmation, only says what would be lost. It is
    /// listed, followed and cancelled as a run is, and no other runs in the database meanwhile. Goes on when
    /// nobody waits for the answer any more.
    ///
    /// # Errors
    /// When it cannot be done; the text says which database has the name then.
    pub async fn restore_in_place(
        &self,
        database: &str,
        request: InPlaceRequest,
    ) -> Result<InPlace, BackupError> {
        request.check(database).map_err(BackupError::Refused)?;
        let by = request.by.clone().unwrap_or_else(|| "unknown".to_owned());
        let run = Arc::new(Run::new(new_id(), database, Direction::Down, &by));
        {
            let mut runs = self.runs();
            if let Some(live) = runs.live.get(database) {
                let text = format!("migration {} is running in this database", live.id);
                return Err(BackupError::Refused(text));
            }
            runs.live.insert(database.to_owned(), Arc::clone(&run));
        }
        if let Some(log) = &self.log {
            self.tasks.spawn(Arc::clone(log).follow(Arc::clone(&run)));
        }
        let reason = request.reason.clone();
        let retire = Retire {
            run: Arc::clone(&run),
            runs: Arc::clone(&self.runs),
            keep: self.options.finished_runs_max,
            report: Some(Report::blank(&run, TrafficMode::Auto, reason.clone())),
        };
        let course = Course {
            traffic: Arc::clone(&self.traffic),
            connector: Arc::clone(&self.connector),
            options: self.options.clone(),
            run: Arc::clone(&run),
            request,
        };
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(async move {
            let mut retire = retire;
            let done = course.go().await;
            retire.report = Some(report(&run, reason, &done));
            drop(retire);
            let _ = answer.send(done);
        });
        let done = answered.await;
        done.unwrap_or_else(|_closed| Err(BackupError::Refused(LOST.to_owned())))
    }

    /// Removes backups of a database that need not be kept, and what crashes left of some; never the
    /// newest, and none that is being written or restored. Databases that a backup has replaced go after
    /// the same time.
    ///
    /// # Errors
    /// As for `backups`. What cannot be removed is part of the answer.
    pub async fn prune(&self, database: &str) -> Result<Pruned, BackupError> {
        let settings = &self.options.backup;
        let mut pruned = backup::prune(settings, database).await?;
        replaced::prune(&self.connector, database, settings.keep, &mut pruned).await;
        self.prune_copies(database, &mut pruned).await;
        Ok(pruned)
    }
}

impl<T: Traffic> Runner<T> {
    async fn prune_copies(&self, database: &str, pruned: &mut Pruned) {
        let dropped = async {
            let session = self.connector.connect(database, Box::new(|_| {})).await?;
            let dropped = copies::prune(&session.client, self.options.copies.keep).await;
            session.close(Duration::from_secs(5)).await;
            Ok::<_, ConnectError>(dropped?)
        };
        match dropped.await {
            Ok(dropped) => pruned.copies = dropped,
            Err(error) => pruned
                .failed
                .push(format!("old copies of tables stay: {error}")),
        }
    }
}

/// What is remembered of it.
fn report(run: &Run, reason: Option<String>, done: &Result<InPlace, BackupError>) -> Report {
    let finished_at = jiff::Timestamp::now();
    let elapsed = finished_at.duration_since(run.started_at);
    let (state, exit, failure) = match done {
        Ok(_) => (RunState::Succeeded, Exit::Success, None),
        Err(BackupError::Stopped(reason)) => {
            let failure = Failure::new(reason.to_string());
            (RunState::Cancelled, Exit::Rollback, Some(failure))
        }
        Err(error) => {
            let failure = Failure::new(error.to_string());
            (RunState::Failed, Exit::Rollback, Some(failure))
        }
    };
    Report {
        finished_at,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(0),
        state,
        exit_code: exit.code(),
        failure,
        ..Report::blank(run, TrafficMode::Auto, reason)
    }
}
