//! What a trigger has done: traffic held, or the run taken back.

use std::time::Duration;

use super::WatchState;
use super::task::Task;
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::traffic::Traffic;
use crate::runner::types::{Direction, MigrationRequest, RunState};

/// How long news of the run down are waited for at once.
const WAIT: Duration = Duration::from_secs(10);

/// How long its end is waited for.
const END: Duration = Duration::from_secs(120);

type Done = (String, Option<WatchState>);

impl<T: Traffic> Task<T> {
    /// Holds traffic until somebody has looked.
    pub(super) async fn hold(&self, why: &str) -> Done {
        match self.runner.traffic.hold(&self.kept.database, why).await {
            Ok(()) => ("traffic is held".to_owned(), Some(WatchState::Held)),
            Err(error) => (format!("traffic could not be held: {error}"), None),
        }
    }

    /// Takes the run back by its down files, in a window of their own; what cannot be taken back is held.
    pub(super) async fn roll_back(&self, why: &str) -> Done {
        match self.go_down(why).await {
            Ok(run) => {
                let text = format!("rolled back by run {run}");
                (text, Some(WatchState::RolledBack))
            }
            Err(error) => {
                let (held, end) = self.hold(why).await;
                (format!("not rolled back ({error}); {held}"), end)
            }
        }
    }

    async fn go_down(&self, why: &str) -> Result<String, String> {
        let way = self.kept.way_back.as_ref();
        let way = way.ok_or("there is no way back for a run down")?;
        // Whatever ran since stands on it.
        let last = self.last_run().await.map_err(|error| error.to_string())?;
        if last.as_deref() != Some(self.kept.run.as_str()) {
            return Err("another run was made since".to_owned());
        }
        let plain = serde_json::json!({ "direction": Direction::Down, "files": [] });
        let plain = serde_json::from_value(plain);
        let request = MigrationRequest {
            steps: Some(way.steps),
            files: way.files.clone(),
            format: way.format,
            history: way.history.clone(),
            write_back: way.write_back,
            traffic: way.traffic,
            // What made the trigger fire, somebody who waits for a lock say, is no reason not to.
            force: true,
            reason: Some(why.to_owned()),
            by: Some(format!("a trigger (watch asked for by {})", self.kept.by)),
            ..plain.map_err(|error: serde_json::Error| error.to_string())?
        };
        self.run_is_over().await?;
        let started = self.runner.start(&self.kept.database, request);
        let run = started.map_err(|error| error.to_string())?;
        let mut seen = 0;
        loop {
            let view = self.runner.follow(&run, seen, WAIT).await;
            let view = view.ok_or("nobody remembers the run")?;
            seen = view.events.last().map_or(seen, |it| it.seq);
            match view.state {
                RunState::Succeeded => return Ok(run),
                state if state.is_final() => {
                    let failure = view.report.and_then(|it| it.failure);
                    let failure = failure.map(|it| format!(": {it}")).unwrap_or_default();
                    return Err(format!("run {run} {}{failure}", state.as_str()));
                }
                RunState::Failed
                | RunState::Cancelled
                | RunState::Dirty
                | RunState::Unknown
                | RunState::Waiting
                | RunState::Preflight
                | RunState::Backup
                | RunState::Holding
                | RunState::Draining
                | RunState::Applying
                | RunState::Rehearsing
                | RunState::Reopening => {}
            }
        }
    }

    /// The watch begins while its run still ends: hooks, statistics, comparisons.
    async fn run_is_over(&self) -> Result<(), String> {
        let over = async {
            let mut seen = 0;
            // Nobody remembers the run of an earlier process.
            while let Some(view) = self.runner.follow(&self.kept.run, seen, WAIT).await {
                if view.state.is_final() {
                    return;
                }
                seen = view.events.last().map_or(seen, |it| it.seq);
            }
        };
        let over = tokio::time::timeout(END, over).await;
        over.map_err(|_elapsed| "the run has not ended yet".to_owned())
    }

    /// The run that was begun last in this database.
    async fn last_run(&self) -> Result<Option<String>, LedgerError> {
        let ledger = Ledger::open(&self.runner.connector, &self.kept.database).await?;
        let sql = "select run_id::text from pgdrain.run order by started_at desc limit 1";
        let row = ledger.session().client.query_opt(sql, &[]).await;
        ledger.close().await;
        Ok(row?.map(|row| row.get(0)))
    }
}
