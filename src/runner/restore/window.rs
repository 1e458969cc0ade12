//! The window of a restore in place, and the swap of names in it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::course::{Course, Ready};
use super::swap::Swapped;
use crate::config::AskedLadder;
use crate::runner::backup::BackupError;
use crate::runner::execute::millis;
use crate::runner::history::Ledger;
use crate::runner::recover;
use crate::runner::stop::{Stop, WindowEnd};
use crate::runner::traffic::{Finish, Grant, Progress, Traffic, WindowRequest, WindowStage};
use crate::runner::types::{EventKind, RunState, StepTraffic};

/// Why the names are not known to be swapped.
pub(super) enum Broken {
    /// They are not.
    Not(BackupError),
    Unknown(String),
}

impl Broken {
    pub(super) fn into_error(self) -> BackupError {
        match self {
            Self::Not(error) => error,
            Self::Unknown(why) => BackupError::Refused(why),
        }
    }
}

impl<T: Traffic> Course<T> {
    /// The window, and the swap in it.
    pub(super) async fn replace(
        &self,
        ledger: Ledger,
        ready: &mut Ready,
        stop: &Stop,
    ) -> Result<(), Broken> {
        let asked = Instant::now();
        let grant = match self.begin(stop).await {
            Ok(grant) => grant,
            Err(error) => {
                ledger.close().await;
                return Err(Broken::Not(error));
            }
        };
        // It is in the database that has to be empty.
        ledger.close().await;
        self.run.enter(RunState::Applying, "swapping the names");
        let end = WindowEnd {
            ends_at: grant.ends_at,
            lost: grant.lost.clone(),
        };
        let inside = stop.clone().with_window(Some(end));
        let swapped = ready.swap.make(&inside, self.options.settle_wait).await;
        let (went, finish) = match swapped {
            Swapped::Done => {
                let text = format!(
                    "the names are swapped; the former one is {}",
                    ready.swap.kept
                );
                self.run.tell(EventKind::Note, text, Value::Null);
                let stays = self.settle(ready).await;
                (Ok(()), stays.map_or(Finish::Reopen, Finish::StayHeld))
            }
            Swapped::Not(error) => (Err(Broken::Not(error)), Finish::Reopen),
            Swapped::Unknown(why) => {
                let text = format!("whether the names were swapped is not known: {why}");
                (Err(Broken::Unknown(text.clone())), Finish::StayHeld(text))
            }
        };
        self.run.enter(
            RunState::Reopening,
            match &finish {
                Finish::Reopen => "letting traffic in".to_owned(),
                Finish::StayHeld(why) => format!("traffic stays held: {why}"),
            },
        );
        self.traffic.finish(grant, finish).await;
        ready.answer.held_ms = Some(millis(asked.elapsed()));
        went
    }

    /// Everybody out, and new sessions kept out: also those that would log in past the gate.
    async fn begin(&self, stop: &Stop) -> Result<Grant, BackupError> {
        self.run
            .enter(RunState::Holding, "asking for an exclusive window");
        let run = Arc::clone(&self.run);
        let request = WindowRequest {
            database: self.run.database.clone(),
            duration: self.request.window.map_or(self.options.window, |it| it.0),
            traffic: StepTraffic::Exclusive,
            drain: AskedLadder {
                preset: self.request.ladder,
                ..AskedLadder::default()
            },
            bypass: None,
            fence: Some(true),
            reason: self.request.reason.clone(),
            by: self.run.by.clone(),
            run: self.run.id.clone(),
            progress: Progress::new(move |stage, text| {
                let state = match stage {
                    WindowStage::Holding => RunState::Holding,
                    WindowStage::Draining => RunState::Draining,
                };
                run.enter(state, text);
            }),
        };
        tokio::select! {
            biased;
            reason = stop.fired() => Err(BackupError::Stopped(reason)),
            granted = self.traffic.begin(request) => {
                granted.map_err(|it| BackupError::Refused(format!("no window: {}", it.message)))
            }
        }
    }

    /// Makes the history true in the database that has the name now: it shows the run that made the backup as one
    /// that goes on. Says why traffic should stay held, if it should.
    async fn settle(&self, ready: &mut Ready) -> Option<String> {
        let (database, wait) = (&self.run.database, self.options.recover_wait);
        let recovered = recover::recover(&self.connector, database, wait).await;
        let stays = match &recovered {
            Ok(recovery) => recovery.reason_to_stay_held(),
            Err(_) => None,
        };
        let told = async {
            recovered?;
            let ledger = Ledger::open(&self.connector, database).await?;
            let data = json!({
                "run": self.request.run, "by": self.run.by, "reason": self.request.reason,
                "replaced": ready.swap.kept, "snapshot_at": ready.answer.snapshot_at,
            });
            let noted = ledger.note_without_run("restored", &data).await;
            ledger.close().await;
            noted
        };
        if let Err(error) = told.await {
            ready
                .answer
                .notes
                .push(format!("the history does not tell of it: {error}"));
        }
        stays
    }
}
