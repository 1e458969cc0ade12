//! One watch at work: a look a second, on a session that never waits for a lock.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::baseline::{self, Lately};
use super::clients::Clients;
use super::database::Database;
use super::kept::Kept;
use super::triggers::{Evaluator, Figures, Fired, strongest};
use super::{WatchState, WatchView};
use crate::config::TriggerAction;
use crate::runner::Runner;
use crate::runner::connect::Session;
use crate::runner::history::Ledger;
use crate::runner::report::chain;
use crate::runner::traffic::Traffic;
use crate::runner::watcher::Questions;

/// The pause between two looks, between two comparisons of statements, and before a lost session is
/// replaced.
const EVERY: Duration = Duration::from_secs(1);
const STATEMENTS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(3);

/// How often the state is saved although nothing fired.
const SAVE: Duration = Duration::from_secs(60);

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// Of triggers that fire again and again the first ones are kept.
const FIRED_MAX: usize = 1000;

/// Only one process watches a database: the former one may still do so while its successor begins.
const CLAIM: &str = "select pg_try_advisory_lock(1885824114, 1)";

/// Why a pause is over.
enum Woken {
    /// The next look is due.
    Due,
    /// The watch is to end.
    ToEnd(WatchState),
    /// The process is to end.
    ToStop,
}

/// See the module.
pub(super) struct Task<T> {
    pub(super) runner: Runner<T>,
    pub(super) kept: Kept,
    /// An earlier process began it, and may still be at it.
    taken_up: bool,
    pub(super) view: WatchView,
    stopped: watch::Receiver<Option<WatchState>>,
    evaluator: Evaluator,
    lately: Lately,
    asking: Option<(Session, Questions)>,
    again: Instant,
    compared: Option<Instant>,
    slower: Option<f64>,
    /// What clients feel.
    pub(super) clients: Clients,
    /// What the server counts.
    database: Database,
    saved: Instant,
}

impl<T: Traffic> Task<T> {
    pub(super) fn new(
        runner: Runner<T>,
        (kept, taken_up): (Kept, bool),
        view: WatchView,
        stopped: watch::Receiver<Option<WatchState>>,
    ) -> Self {
        Self {
            evaluator: Evaluator::new(&kept.triggers),
            runner,
            kept,
            taken_up,
            view,
            stopped,
            lately: Lately::default(),
            asking: None,
            again: Instant::now(),
            compared: None,
            slower: None,
            clients: Clients::default(),
            database: Database::default(),
            saved: Instant::now(),
        }
    }

    /// Watches to the end. When the process ends, what is kept stays for the next.
    pub(super) async fn run(mut self) {
        if !self.taken_up {
            self.save().await;
        }
        let mut stopping = self.runner.stopping.subscribe();
        let mut stopped = self.stopped.clone();
        let end = loop {
            let left = self.kept.until.duration_since(Timestamp::now());
            let Ok(left) = Duration::try_from(left) else {
                break WatchState::Over;
            };
            let woken = tokio::select! {
                biased;
                _ = stopping.wait_for(Option::is_some) => Woken::ToStop,
                state = stopped.wait_for(Option::is_some) => {
                    // A sender that is gone was replaced.
                    Woken::ToEnd(state.ok().and_then(|it| *it).unwrap_or(WatchState::Replaced))
                }
                () = tokio::time::sleep(EVERY.min(left)) => Woken::Due,
            };
            match woken {
                Woken::Due => {}
                Woken::ToEnd(state) => break state,
                Woken::ToStop => return self.save().await,
            }
            if let Some(end) = self.turn().await {
                break end;
            }
        };
        self.finish(end).await;
    }

    /// One look; how the watch ends, if a trigger ends it.
    async fn turn(&mut self) -> Option<WatchState> {
        if self.asking.is_none() && Instant::now() >= self.again {
            let opened = tokio::time::timeout(PATIENCE, self.open()).await;
            match opened.unwrap_or_else(|_elapsed| Err("no answer".to_owned())) {
                Ok(_) if self.is_forgotten() => return Some(WatchState::Replaced),
                Ok(asking) => {
                    self.taken_up = false;
                    (self.asking, self.view.trouble) = (Some(asking), None);
                }
                Err(why) => self.lost(why),
            }
        }
        let figures = match tokio::time::timeout(PATIENCE, self.look()).await {
            Ok(Ok(figures)) => figures,
            Ok(Err(error)) => {
                self.lost(chain(&error));
                return None;
            }
            Err(_elapsed) => {
                self.lost("no answer".to_owned());
                return None;
            }
        };
        self.view.now = figures;
        self.kept.worst = self.kept.worst.worst(figures);
        self.view.worst = self.kept.worst;
        let lately = self.clients.lately();
        let fired = self.evaluator.look(&figures, lately, Instant::now());
        // What a trigger does may take its time.
        self.show();
        let end = match strongest(&fired) {
            None => None,
            Some(action) => Some(self.fire(action, fired).await),
        };
        self.show();
        self.report_if_due().await;
        if self.saved.elapsed() >= SAVE {
            self.save().await;
        }
        end.flatten()
    }

    async fn open(&self) -> Result<(Session, Questions), String> {
        let connector = &self.runner.connector;
        let session = connector
            .connect(&self.kept.database, Box::new(|_| {}))
            .await;
        let session = session.map_err(|error| chain(&error))?;
        let asked = async {
            let questions = Questions::prepare(&session.client).await?;
            let row = session.client.query_one(CLAIM, &[]).await?;
            Ok::<_, tokio_postgres::Error>((questions, row.get::<_, bool>(0)))
        };
        match asked.await {
            Ok((questions, true)) => Ok((session, questions)),
            Ok((_, false)) => Err("another pgdrain watches this database".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The process that began it has ended it, before we could go on with it.
    fn is_forgotten(&self) -> bool {
        let state_dir = self.runner.options.state_dir.as_ref();
        self.taken_up && state_dir.is_some_and(|it| !self.kept.path(it).exists())
    }

    fn lost(&mut self, why: String) {
        if self.view.trouble.is_none() {
            tracing::warn!(
                run = self.kept.run,
                why,
                "the watch after a run is interrupted"
            );
        }
        self.asking = None;
        self.again = Instant::now() + AGAIN;
        self.view.now = Figures::default();
        self.view.trouble = Some(why);
        self.show();
    }

    async fn look(&mut self) -> Result<Figures, tokio_postgres::Error> {
        let mut figures = self.look_at_clients();
        let Some((session, questions)) = &self.asking else {
            return Ok(Figures::default());
        };
        let client = &session.client;
        let ours = self.runner.connector.own_pids();
        let look = questions.look(client, &ours).await?;
        self.kept.lock_waits.add(look.blocked, look.wait_ms);
        let thresholds = &self.runner.options.thresholds;
        let rls_ms = self
            .database
            .look(client, &mut self.kept, thresholds)
            .await?;
        self.view.catalog.clone_from(&self.database.comparison);
        let now = baseline::transactions(client).await?;
        let lately = self.lately.add(Instant::now(), now);
        figures.pool_percent = Some(baseline::pool_percent(client).await?);
        let due = |it: Instant| it.elapsed() >= STATEMENTS;
        if self.compared.is_none_or(due) {
            self.compared = Some(Instant::now());
            let statements = self.kept.baseline.again(client).await?;
            if self.kept.start.is_empty() {
                self.kept.start.clone_from(&statements);
            }
            let before = &self.kept.baseline.statements;
            self.slower = baseline::slower(before, &self.kept.start, &statements);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "sessions, and milliseconds of days"
        )]
        let float = |it: i64| Some(it as f64);
        Ok(Figures {
            blocked: float(look.blocked),
            lock_wait_ms: float(look.wait_ms),
            rolled_back_percent: self.kept.baseline.more_rolled_back(lately),
            slower_percent: self.slower,
            rls_ms,
            ..figures
        })
    }

    /// Does what the strongest of the triggers asks for; the others are told.
    async fn fire(
        &mut self,
        action: TriggerAction,
        fired: Vec<(crate::config::Trigger, f64)>,
    ) -> Option<WatchState> {
        let why: Vec<_> = fired
            .iter()
            .map(|(trigger, figure)| format!("{trigger}, now {figure:.1}"))
            .collect();
        let why = format!("after run {}: {}", self.kept.run, why.join("; "));
        tracing::warn!(
            run = self.kept.run,
            database = self.kept.database,
            why,
            "a trigger fired"
        );
        let (done, end) = match action {
            TriggerAction::Alert => ("told".to_owned(), None),
            TriggerAction::Hold => self.hold(&why).await,
            TriggerAction::RollBack => self.roll_back(&why).await,
        };
        for (trigger, figure) in fired {
            let fired = Fired {
                at: Timestamp::now(),
                trigger,
                figure,
                done: done.clone(),
            };
            self.note("trigger", &json!(fired)).await;
            if self.kept.fired.len() < FIRED_MAX {
                self.kept.fired.push(fired);
            }
        }
        self.view.fired.clone_from(&self.kept.fired);
        self.save().await;
        end
    }

    /// The last words: into the history, where the report of the run finds them.
    async fn finish(mut self, end: WatchState) {
        self.view.state = end;
        self.look_at_the_end().await;
        self.asking = None;
        let forgotten = self.is_forgotten();
        if !forgotten {
            self.view.plans = self.plans().await;
            self.note("watched", &json!(self.view)).await;
            self.report("at its end").await;
        }
        tracing::info!(run = self.kept.run, "{}", self.view);
        if let Some(state_dir) = self.runner.options.state_dir.clone() {
            let kept = self.kept.clone();
            // A panic of the file system's would have been told.
            let _ = tokio::task::spawn_blocking(move || kept.remove(&state_dir)).await;
        }
        self.show();
    }

    /// The counters once more: the last look may be some seconds ago. What cannot be had stays as it was.
    async fn look_at_the_end(&mut self) {
        let Some((session, _)) = &self.asking else {
            return;
        };
        self.database.count_again();
        let thresholds = &self.runner.options.thresholds;
        let look = self
            .database
            .look(&session.client, &mut self.kept, thresholds);
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, look).await {
            self.view.catalog.clone_from(&self.database.comparison);
        }
    }

    /// Writes into the history; when that cannot be, the log has it.
    pub(super) async fn note(&self, event: &str, data: &serde_json::Value) {
        let noted = async {
            let ledger = Ledger::open(&self.runner.connector, &self.kept.database).await?;
            let noted = ledger.note(&self.kept.run, event, data).await;
            ledger.close().await;
            noted
        };
        match tokio::time::timeout(PATIENCE, noted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, %data, "the history does not have {event}"),
            Err(_elapsed) => tracing::error!(%data, "the history does not have {event}"),
        }
    }

    fn show(&self) {
        self.runner
            .watches
            .show(&self.kept.database, self.view.clone());
    }

    /// Keeps the state for the next process.
    pub(super) async fn save(&mut self) {
        self.saved = Instant::now();
        let Some(state_dir) = self.runner.options.state_dir.clone() else {
            return;
        };
        let kept = self.kept.clone();
        let saved = tokio::task::spawn_blocking(move || kept.save(&state_dir)).await;
        if let Ok(Err(error)) = saved {
            let run = &self.kept.run;
            tracing::error!(run, %error, "the watch is not kept: a restart would end it");
        }
    }
}
