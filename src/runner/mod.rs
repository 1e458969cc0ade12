//! The runner: applies and reverts migration files, alone in the database where they need it, and
//! leaves every one of them in a known state.
//!
//! It lives in the proxy's process, so that a closed shell ends nothing. A run goes from preflight
//! (which changes nothing) over an exclusive window (asked of the proxy through [`Traffic`]) to a
//! report; `run` holds that story. Each file runs in one transaction together with its history row,
//! or, where a statement cannot, statement by statement and recorded as dirty until the last has
//! ended. When an answer is lost, the server is asked what became of it; `settle` never guesses.

pub mod account;
mod adopt;
pub mod aftermath;
pub mod approvals;
pub mod artefacts;
pub mod backup;
mod batch;
pub mod catalog;
mod class;
mod connect;
mod copies;
pub mod directives;
pub mod drift;
mod execute;
mod gauges;
pub mod gonogo;
mod history;
pub mod lint;
mod lock;
mod log;
mod notify;
mod options;
pub mod plan;
pub mod postflight;
pub mod preflight;
mod record;
pub mod recover;
pub mod rehearse;
pub mod repair;
pub mod report;
pub mod restore;
mod run;
pub mod saved;
pub mod script;
mod settle;
pub mod shape;
pub mod source;
pub mod split;
mod status;
mod stop;
mod survey;
pub mod timing;
mod traffic;
pub mod types;
mod validate;
pub mod verify;
pub mod watcher;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use class::Class;
pub use connect::{APPLICATION_NAME, ConnectError, Connector, Endpoint, Find};
pub use history::{Key, LedgerError, Row, RowState};
pub use lock::LockError;
pub use options::Options;
pub use stop::StopReason;
pub use traffic::{
    CanaryDoor, Felt, Finish, Grant, Nobody, Progress, Refused, Traffic, WindowRequest, WindowStage,
};

use crate::metrics::Metrics;
use backup::{BackupError, Backups};
use history::Ledger;
use lint::LintReport;
use plan::{Plan, PlanReport, PlannedCanary, Wish};
use preflight::{PreflightReport, Subject};
use record::Run;
use recover::Recovery;
use report::Report;
use run::Job;
use source::MigrationSet;
use survey::{Survey, SurveyError};
use types::{
    Direction, MigrationRequest, PlanRequest, RunSummary, RunView, Running, StatusReport,
    StatusRequest,
};

/// Starts runs, and answers for those it started.
pub struct Runner<T> {
    traffic: Arc<T>,
    connector: Arc<Connector>,
    options: Options,
    tasks: TaskTracker,
    runs: Arc<Mutex<Runs>>,
    /// Where what is measured of databases is recorded.
    metrics: Option<Arc<Metrics>>,
    /// Writes down what happens in runs.
    log: Option<Arc<log::Log>>,
    /// What is watched after runs.
    watches: Arc<aftermath::Watches>,
    /// Tells what is no run that the process will end.
    stopping: watch::Sender<Option<StopReason>>,
    /// Who is told that a run begins.
    on_run: Option<OnRun<T>>,
}

/// Is told the id of each run that begins; must not wait.
pub type OnRun<T> = Arc<dyn Fn(&Runner<T>, &str) + Send + Sync>;

impl<T> Clone for Runner<T> {
    /// The same runner: it knows the same runs.
    fn clone(&self) -> Self {
        Self {
            traffic: Arc::clone(&self.traffic),
            connector: Arc::clone(&self.connector),
            options: self.options.clone(),
            tasks: self.tasks.clone(),
            runs: Arc::clone(&self.runs),
            metrics: self.metrics.clone(),
            watches: Arc::clone(&self.watches),
            log: self.log.clone(),
            stopping: self.stopping.clone(),
            on_run: self.on_run.clone(),
        }
    }
}

/// The runs of this process.
#[derive(Default)]
struct Runs {
    /// The one run of a database that is not over.
    live: BTreeMap<String, Arc<Run>>,
    /// Runs that are over, oldest first.
    over: VecDeque<Arc<Run>>,
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One run at a time in each database.
    #[error("migration {id} is running in this database")]
    Busy {
        /// The run that goes on.
        id: String,
    },
    /// The request or its files cannot be used; every fault found.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The files cannot be used; every fault found.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] LedgerError),
    /// The catalogs cannot be read.
    #[error(transparent)]
    Survey(#[from] SurveyError),
}

impl<T: Traffic> Runner<T> {
    /// A runner whose runs are tasks of `tasks`.
    pub fn new(
        traffic: Arc<T>,
        connector: Connector,
        options: Options,
        tasks: TaskTracker,
    ) -> Self {
        let connector = Arc::new(connector);
        Self {
            metrics: None,
            watches: Arc::default(),
            log: log::Log::new(&options.log),
            traffic,
            connector,
            options,
            tasks,
            runs: Arc::default(),
            stopping: watch::Sender::new(None),
            on_run: None,
        }
    }

    /// The same, telling of each run that begins.
    #[must_use]
    pub fn telling(self, on_run: Option<OnRun<T>>) -> Self {
        Self { on_run, ..self }
    }

    /// Starts a run in a database and returns its id at once.
    ///
    /// # Errors
    /// When a run is going on there, or the request cannot be used.
    pub fn start(&self, database: &str, request: MigrationRequest) -> Result<String, StartError> {
        request.validate().map_err(StartError::Invalid)?;
        if request.backup == Some(true) && self.options.backup.dir.is_none() {
            let fault = BackupError::NotConfigured.to_string();
            return Err(StartError::Invalid(vec![fault]));
        }
        let reading = source::read(&request.files, request.format)
            .map_err(|it| StartError::Invalid(texts(&it)))?;
        let by = request.by.clone().unwrap_or_else(|| "unknown".to_owned());
        let run = Arc::new(Run::new(new_id(), database, request.direction, &by));
        let mut runs = self.runs();
        if let Some(live) = runs.live.get(database) {
            return Err(StartError::Busy {
                id: live.id.clone(),
            });
        }
        runs.live.insert(database.to_owned(), Arc::clone(&run));
        drop(runs);
        if let Some(log) = &self.log {
            self.tasks.spawn(Arc::clone(log).follow(Arc::clone(&run)));
        }

        let wanted = self.wanted(&request);
        let gate = self.gate_of(&request);
        // The reading holds the texts now.
        let request = MigrationRequest {
            files: Vec::new(),
            ..request
        };
        let retire = Retire {
            run: Arc::clone(&run),
            runs: Arc::clone(&self.runs),
            keep: self.options.finished_runs_max,
            report: Some(Report::unexpected(&run, &request)),
        };
        let job = Job {
            traffic: Arc::clone(&self.traffic),
            connector: Arc::clone(&self.connector),
            metrics: self.metrics.clone(),
            options: self.options.clone(),
            run: Arc::clone(&run),
            request,
            reading,
            runner: self.clone(),
            gate,
            wanted,
            stopping: self.stopping.subscribe(),
        };
        notify::begin(&self.tasks, &self.options.notify, &run, &job.stopping);
        if let Some(on_run) = &self.on_run {
            on_run(self, &run.id);
        }
        self.tasks.spawn(async move {
            let mut retire = retire;
            retire.report = Some(job.perform().await);
        });
        Ok(run.id.clone())
    }

    /// A run and its progress behind a sequence number; waits for news at most `wait`. `None` if
    /// there is no such run, or it was long ago.
    pub async fn follow(&self, id: &str, after: u64, wait: Duration) -> Option<RunView> {
        let run = self.find(id)?;
        run.news(after, wait).await;
        let after_it = self.watching(&run.database);
        Some(RunView {
            after: after_it.filter(|it| it.run == run.id),
            ..run.view(after)
        })
    }

    /// Asks a run to stop: the running statement is cancelled and what can be is rolled back.
    /// Returns at once; false if there is no such run or it is over.
    pub fn cancel(&self, id: &str, by: &str) -> bool {
        self.find(id)
            .is_some_and(|run| run.ask_to_stop(StopReason::Operator(by.to_owned())))
    }

    /// Asks every run to stop, and every restore, because the process will end. Their tasks end
    /// soon after.
    pub fn stop_all(&self) {
        self.stopping.send_replace(Some(StopReason::Shutdown));
        for run in self.runs().live.values() {
            run.ask_to_stop(StopReason::Shutdown);
        }
    }

    /// The run that is going on in a database.
    pub fn live(&self, database: &str) -> Option<String> {
        self.runs().live.get(database).map(|run| run.id.clone())
    }

    /// The same, and what its watcher sees.
    fn running(&self, database: &str) -> Option<Running> {
        let runs = self.runs();
        let run = runs.live.get(database)?;
        Some(Running {
            id: run.id.clone(),
            state: run.state(),
            watch: run.now(),
        })
    }

    /// A run that is going on: its database, and its name.
    pub fn any_live(&self) -> Option<(String, String)> {
        let runs = self.runs();
        let (database, run) = runs.live.iter().next()?;
        Some((database.clone(), run.id.clone()))
    }

    /// The runs of a database that are remembered, oldest first.
    pub fn list(&self, database: &str) -> Vec<RunSummary> {
        let runs = self.runs();
        let all = runs.over.iter().chain(runs.live.values());
        all.filter(|run| run.database == database)
            .map(|run| run.summary())
            .collect()
    }

    /// Where each file stands. Reads only, and needs no lock.
    ///
    /// # Errors
    /// When the files cannot be used or the history cannot be read.
    pub async fn status(
        &self,
        database: &str,
        request: &StatusRequest,
    ) -> Result<StatusReport, StatusError> {
        let reading = source::read(&request.files, request.format)
            .map_err(|it| StatusError::Invalid(texts(&it)))?;
        let history = request.history.as_deref();
        let (set, known) = self.learn(database, &reading, history).await?;
        let mut report = status::status(set, &known.rows, today());
        report.problems = texts(&known.problems);
        report.notes = known.notes;
        report.running = self.running(database);
        report.after = self.watching(database);
        self.measure_beside(database, &report);
        Ok(report)
    }

    /// What a run would do, by the files, the history and the catalogs. Writes nothing, needs no
    /// lock, and waits for nobody's.
    ///
    /// # Errors
    /// When the files cannot be used, or the database cannot be asked. What stands in the way of a
    /// plan is no error but part of the answer.
    pub async fn plan(
        &self,
        database: &str,
        request: &PlanRequest,
    ) -> Result<PlanReport, StatusError> {
        let (_, plan) = match self.planned(database, request).await? {
            Ok(planned) => planned,
            Err(problems) => return Ok(PlanReport::refused(database, request.direction, problems)),
        };
        let owner = self.options.owner.as_deref();
        let mut report = survey::plan_report(&self.connector, database, owner, &plan).await?;
        rehearse::expect(&self.connector, database, &mut report).await?;
        report.canary = PlannedCanary::of(&self.options.canary, &report);
        Ok(report)
    }

    /// What is wrong with the files that a run would run. Writes nothing, like `plan`.
    ///
    /// # Errors
    /// As for `plan`.
    pub async fn lint(
        &self,
        database: &str,
        request: &PlanRequest,
    ) -> Result<LintReport, StatusError> {
        let (set, plan) = match self.planned(database, request).await? {
            Ok(planned) => planned,
            Err(problems) => return Ok(LintReport::refused(Some(database.to_owned()), problems)),
        };
        let owner = self.options.owner.as_deref();
        let survey = Survey::of(&self.connector, database, owner, &plan).await?;
        let mut studied = plan::study(&plan, Some(&survey.catalog));
        survey.cascades(&mut studied).await;
        let report = lint::online(database, &set, &plan, &studied, &survey.reader).await;
        drop(studied);
        survey.reader.close().await;
        Ok(report)
    }

    /// Makes every check that a run makes before its window, and those that it has no need of when
    /// there is nothing to do. Writes nothing and takes no lock of ours.
    ///
    /// # Errors
    /// When the files cannot be used. A database that cannot be asked is a check that failed.
    pub async fn preflight(
        &self,
        database: &str,
        request: &PlanRequest,
    ) -> Result<PreflightReport, StatusError> {
        let reading = source::read(&request.files, request.format)
            .map_err(|it| StatusError::Invalid(texts(&it)))?;
        let subject = Subject {
            reading: &reading,
            history: request.history.as_deref(),
            write_back: self.options.write_back,
            wish: self.wish(request),
            owner: self.options.owner.as_deref(),
            limits: &self.options.preflight,
            connector: &self.connector,
            database,
            backup: &self.options.backup,
            makes_backup: self.options.backup.dir.is_some(),
            whole: true,
        };
        let found = preflight::look(&subject).await;
        Ok(PreflightReport::new(database, request.direction, found))
    }

    /// Which of the files the database has, by our own history and by that of the files' tool.
    async fn learn<'a>(
        &self,
        database: &str,
        reading: &'a source::Reading,
        history: Option<&str>,
    ) -> Result<(&'a MigrationSet, adopt::Known), StatusError> {
        let ledger = Ledger::open(&self.connector, database).await?;
        let learnt = async {
            let rows = ledger.rows().await?;
            Ok::<_, LedgerError>(adopt::learn(ledger.session(), reading, history, rows).await?)
        };
        let learnt = learnt.await;
        ledger.close().await;
        Ok(learnt?)
    }

    /// The files held against the history: a plan, or what stands in its way.
    async fn planned(
        &self,
        database: &str,
        request: &PlanRequest,
    ) -> Result<Result<(MigrationSet, Plan), Vec<String>>, StatusError> {
        let reading = source::read(&request.files, request.format)
            .map_err(|it| StatusError::Invalid(texts(&it)))?;
        let history = request.history.as_deref();
        let (set, known) = self.learn(database, &reading, history).await?;
        let mut problems = texts(&known.problems);
        let built = plan::build(set, &known.rows, self.wish(request));
        problems.extend(built.as_ref().err().map(|it| texts(it)).unwrap_or_default());
        Ok(match built {
            Ok(mut plan) if problems.is_empty() => {
                plan.notes.extend(known.notes);
                Ok((set.clone(), plan))
            }
            Ok(_) | Err(_) => Err(problems),
        })
    }

    fn wish(&self, request: &PlanRequest) -> Wish {
        Wish {
            direction: request.direction,
            steps: request.steps,
            traffic: request.traffic,
            today: today(),
            down_required: self.options.down_required,
        }
    }

    /// The backups of a database.
    ///
    /// # Errors
    /// When no directory is configured, or it cannot be read.
    pub async fn backups(&self, database: &str) -> Result<Backups, BackupError> {
        backup::list(&self.options.backup, database).await
    }

    /// Resolves what a run that is gone left in a database; see [`recover::recover`].
    ///
    /// # Errors
    /// When the database cannot be reached, or a run is going on there.
    pub async fn recover(&self, database: &str, wait: Duration) -> Result<Recovery, LedgerError> {
        recover::recover(&self.connector, database, wait).await
    }

    fn find(&self, id: &str) -> Option<Arc<Run>> {
        let runs = self.runs();
        runs.live
            .values()
            .chain(&runs.over)
            .find(|run| run.id == id)
            .cloned()
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        lock(&self.runs)
    }
}

/// What is wrong with files by their text alone: every migration, as if none were applied.
///
/// # Errors
/// Every fault for which the files cannot be used.
pub fn lint_offline(request: &PlanRequest) -> Result<LintReport, Vec<String>> {
    let reading = source::read(&request.files, request.format).map_err(|it| texts(&it))?;
    let set = &reading.set;
    let wish = Wish {
        direction: Direction::Up,
        steps: request.steps,
        traffic: request.traffic,
        today: today(),
        // A rule of its own says so.
        down_required: false,
    };
    let plan = plan::build(set, &[], wish).map_err(|it| texts(&it))?;
    Ok(lint::offline(set, &plan))
}

/// Ends a run's time among the living when its task ends, also by a panic: a run that nobody makes
/// any more must not stand in the way of the next.
struct Retire {
    run: Arc<Run>,
    runs: Arc<Mutex<Runs>>,
    keep: usize,
    /// What will be said: at first, that the task ended unexpectedly.
    report: Option<Report>,
}

impl Drop for Retire {
    fn drop(&mut self) {
        let Some(report) = self.report.take() else {
            return;
        };
        let mut runs = lock(&self.runs);
        runs.live.remove(&self.run.database);
        runs.over.push_back(Arc::clone(&self.run));
        let surplus = runs.over.len().saturating_sub(self.keep);
        runs.over.drain(..surplus);
        drop(runs);
        // Only now, so that whoever sees the end can start the next run.
        self.run.finish(report);
    }
}

/// The day in UTC.
fn today() -> jiff::civil::Date {
    jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
}

/// A random UUID (version 4), which the history's key is, too.
fn new_id() -> String {
    let bits = rand::random::<u128>();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn texts<E: std::fmt::Display>(errors: &[E]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn lock(runs: &Mutex<Runs>) -> MutexGuard<'_, Runs> {
    // Every operation leaves the lists whole, so a panic elsewhere cannot have torn them.
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}
