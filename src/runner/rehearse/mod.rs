//! Rehearsals: the pending files up, down and up again where nobody minds, with what each statement
//! really locked, rewrote and took.
//!
//! ```text
//! plan of the database ─ scratch copy ─ up ─ down ─ up ─ drop ─┬─ made-up rows, once for each scale ─┐─ kept
//!    (or: a database that was named for it)                     └──────────────◄──────────────────────┘
//! ```
//!
//! The files run as they would in earnest, by the same executor; only traffic is not asked for, since
//! there is none. What the first two ways leave behind is compared with what was there before, and
//! the two ways up with each other.

mod course;
mod fill;
mod keep;
mod page;
mod rls;
mod staging;
mod types;
mod verdict;

use std::sync::Arc;

use tokio::time::Instant;

pub(super) use keep::expect;
pub use page::{cell, page};
pub use staging::endpoint;
pub use types::{
    Course, Data, Filled, Leg, Limits, Place, Rehearsal, RehearseRequest, RehearsedFile, RlsCost,
    Shapes, StatementTrace, TracedLock,
};

use self::course::Stage;
use super::adopt;
use super::backup::{self, BackupError, Scratch, Tools};
use super::connect::Connector;
use super::history::Ledger;
use super::options::Options;
use super::plan::{self, Plan, Wish};
use super::record::Run;
use super::recover;
use super::report::{Failure, Report};
use super::source::{self, MigrationSet, Reading};
use super::stop::{Stop, StopReason};
use super::types::{Direction, Exit, RunState, TrafficMode};
use super::{Retire, Runner, StartError, Traffic, new_id, texts, today};

impl<T: Traffic> Runner<T> {
    /// Starts a rehearsal of what is pending in a database and returns its id at once; it is followed
    /// and cancelled as a run is, and no other runs in the database meanwhile.
    ///
    /// # Errors
    /// When a run is going on there, or the request cannot be used.
    pub fn rehearse(&self, database: &str, request: RehearseRequest) -> Result<String, StartError> {
        let place = match request.on {
            Some(_) => Place::Staging,
            None => Place::Scratch,
        };
        self.begin_rehearsal(database, request, place)
    }

    /// The same in the database itself, which is there for nothing else.
    ///
    /// # Errors
    /// As for `rehearse`.
    pub fn rehearse_here(
        &self,
        database: &str,
        request: RehearseRequest,
    ) -> Result<String, StartError> {
        self.begin_rehearsal(database, request, Place::Here)
    }

    fn begin_rehearsal(
        &self,
        database: &str,
        request: RehearseRequest,
        place: Place,
    ) -> Result<String, StartError> {
        let faults = request.faults();
        if !faults.is_empty() {
            return Err(StartError::Invalid(faults));
        }
        let reading = source::read(&request.files, request.format)
            .map_err(|it| StartError::Invalid(texts(&it)))?;
        let by = request.by.clone().unwrap_or_else(|| "unknown".to_owned());
        let run = Arc::new(Run::new(new_id(), database, Direction::Up, &by));
        let mut runs = self.runs();
        if let Some(live) = runs.live.get(database) {
            let id = live.id.clone();
            return Err(StartError::Busy { id });
        }
        runs.live.insert(database.to_owned(), Arc::clone(&run));
        drop(runs);
        if let Some(log) = &self.log {
            self.tasks.spawn(Arc::clone(log).follow(Arc::clone(&run)));
        }
        let retire = Retire {
            run: Arc::clone(&run),
            runs: Arc::clone(&self.runs),
            keep: self.options.finished_runs_max,
            report: Some(Report::blank(&run, TrafficMode::Auto, None)),
        };
        let id = run.id.clone();
        let job = Job {
            connector: Arc::clone(&self.connector),
            options: self.options.clone(),
            run,
            request: RehearseRequest {
                files: Vec::new(),
                ..request
            },
            reading,
            place,
        };
        self.tasks.spawn(async move {
            let mut retire = retire;
            retire.report = Some(job.perform().await);
        });
        Ok(id)
    }
}

/// Everything a rehearsal works with.
struct Job {
    connector: Arc<Connector>,
    options: Options,
    run: Arc<Run>,
    request: RehearseRequest,
    reading: Reading,
    place: Place,
}

/// Why a rehearsal ends before its end.
enum End {
    Failed(Exit, Failure),
    Stopped(StopReason),
}

impl From<BackupError> for End {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Stopped(reason) => Self::Stopped(reason),
            error @ (BackupError::NotConfigured
            | BackupError::Refused(_)
            | BackupError::File { .. }
            | BackupError::Program(_)
            | BackupError::Connect(_)
            | BackupError::Server { .. }
            | BackupError::Different(_)) => {
                Self::Failed(Exit::Preflight, Failure::new(format!("no copy: {error}")))
            }
        }
    }
}

impl End {
    /// Nothing could be rehearsed.
    fn before(error: impl std::fmt::Display) -> Self {
        Self::Failed(Exit::Preflight, Failure::new(error.to_string()))
    }
}

impl Job {
    async fn perform(self) -> Report {
        let stop = self.run.stop();
        self.run.enter(RunState::Rehearsing, "rehearsal begins");
        let mut found = Rehearsal {
            place: self.place,
            data: self.request.data,
            courses: Vec::new(),
            irreversible: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
        };
        let ended = self.rehearse(&stop, &mut found).await;
        let (state, exit, failure) = match ended {
            Ok(()) if found.findings.is_empty() => (RunState::Succeeded, Exit::Success, None),
            Ok(()) => {
                let failure = Failure::new(found.findings.join("; "));
                (RunState::Failed, Exit::Postflight, Some(failure))
            }
            Err(End::Failed(exit, failure)) => (RunState::Failed, exit, Some(failure)),
            Err(End::Stopped(reason)) => {
                let failure = Failure::new(reason.to_string());
                (RunState::Cancelled, Exit::Migration, Some(failure))
            }
        };
        let finished_at = jiff::Timestamp::now();
        let elapsed = finished_at.duration_since(self.run.started_at);
        let mut report = Report {
            finished_at,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(0),
            state,
            exit_code: exit.code(),
            failure,
            rehearsal: Some(found),
            ..Report::blank(&self.run, TrafficMode::Auto, None)
        };
        self.keep(&mut report).await;
        report
    }

    async fn rehearse(&self, stop: &Stop, found: &mut Rehearsal) -> Result<(), End> {
        match self.place {
            Place::Scratch => self.in_copies(stop, found).await,
            Place::Staging => {
                let (connector, database) = self.staging().await?;
                self.in_place(&connector, &database, stop, found).await
            }
            Place::Here => {
                let database = &self.run.database;
                self.in_place(&self.connector, database, stop, found).await
            }
        }
    }

    /// A copy as it was asked for, and one for each scale.
    async fn in_copies(&self, stop: &Stop, found: &mut Rehearsal) -> Result<(), End> {
        let (set, plan) = self.learn(&self.connector, &self.run.database).await?;
        if !self.something(&plan, found) {
            return Ok(());
        }
        let tools = self.tools(stop);
        for name in backup::drop_left(&self.connector, &self.run.database).await? {
            self.run
                .note(format!("dropped {name}, which an earlier run had left"));
        }
        self.in_copy(&tools, &set, &plan, None, found).await?;
        for rows in &self.request.scale {
            self.in_copy(&tools, &set, &plan, Some(*rows), found)
                .await?;
        }
        Ok(())
    }

    /// One copy, dropped in any case.
    async fn in_copy(
        &self,
        tools: &Tools<'_>,
        set: &MigrationSet,
        plan: &Plan,
        scale: Option<u32>,
        found: &mut Rehearsal,
    ) -> Result<(), End> {
        let name = Scratch::name_for_rehearsal(&self.run.id);
        let with_rows = self.request.data == Data::Full && scale.is_none();
        let text = match (with_rows, scale) {
            (true, _) => "copying the database".to_owned(),
            (false, None) => "copying the schema".to_owned(),
            (false, Some(rows)) => format!("copying the schema for {rows} made-up rows"),
        };
        self.run.note(text);
        let copy = backup::clone(tools, &name, with_rows).await?;
        let owner = self.options.owner.as_deref().filter(|_| copy.owners);
        if owner.is_none() && self.options.owner.is_some() && scale.is_none() {
            let text =
                "owners are not in the copy, which takes a superuser: files ran as our own role";
            found.notes.push(text.to_owned());
        }
        let connector = self.connector.beside(&self.run.database);
        let stage = Stage {
            job: self,
            connector: &connector,
            database: &name,
            stop: tools.stop,
            set,
            plan,
            scale,
            owner,
        };
        let went = Box::pin(stage.go(found)).await;
        if let Err(error) = copy.scratch.drop().await {
            let text = format!("{name} is left, and the next rehearsal drops it: {error}");
            self.run.note(text.clone());
            found.notes.push(text);
        }
        went
    }

    /// A database that has a history of its own.
    async fn in_place(
        &self,
        connector: &Arc<Connector>,
        database: &str,
        stop: &Stop,
        found: &mut Rehearsal,
    ) -> Result<(), End> {
        let ledger = Ledger::open(connector, database)
            .await
            .map_err(End::before)?;
        let deadline = Instant::now() + self.options.lock_wait;
        let mut ledger = match ledger.lock(deadline, Some(stop)).await {
            Ok(()) => ledger,
            Err(error) => {
                ledger.close().await;
                return Err(End::before(error));
            }
        };
        let recovered = recover::resolve(&mut ledger, self.options.recover_wait).await;
        ledger.close().await;
        recovered.map_err(End::before)?;
        let (set, plan) = self.learn(connector, database).await?;
        if !self.something(&plan, found) {
            return Ok(());
        }
        let stage = Stage {
            job: self,
            connector,
            database,
            stop,
            set: &set,
            plan: &plan,
            scale: None,
            owner: self.options.owner.as_deref(),
        };
        Box::pin(stage.go(found)).await
    }

    /// Whether there is anything to rehearse.
    fn something(&self, plan: &Plan, found: &mut Rehearsal) -> bool {
        found.notes.extend(plan.notes.iter().cloned());
        let something = !plan.steps.is_empty();
        if !something {
            found.notes.push("nothing is pending".to_owned());
        }
        something
    }

    /// What is pending in a database.
    async fn learn(
        &self,
        connector: &Arc<Connector>,
        database: &str,
    ) -> Result<(MigrationSet, Plan), End> {
        let ledger = Ledger::open(connector, database)
            .await
            .map_err(End::before)?;
        let learnt = async {
            let rows = ledger.rows().await?;
            let history = self.request.history.as_deref();
            let (session, reading) = (ledger.session(), &self.reading);
            Ok::<_, super::LedgerError>(adopt::learn(session, reading, history, rows).await?)
        };
        let learnt = learnt.await;
        ledger.close().await;
        let (set, known) = learnt.map_err(End::before)?;
        let built = plan::build(set, &known.rows, self.wish());
        let mut problems = known.problems;
        match built {
            Ok(plan) if problems.is_empty() => return Ok((set.clone(), plan)),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        let exit = match super::preflight::unusable(&problems) {
            true => Exit::Usage,
            false => Exit::Preflight,
        };
        let text = texts(&problems).join("; ");
        Err(End::Failed(exit, Failure::new(text)))
    }

    fn wish(&self) -> Wish {
        Wish {
            direction: Direction::Up,
            steps: self.request.steps,
            traffic: TrafficMode::Auto,
            today: match self.request.disabled {
                true => jiff::civil::Date::MAX,
                false => today(),
            },
            down_required: self.options.down_required,
        }
    }

    fn tools<'a>(&'a self, stop: &'a Stop) -> Tools<'a> {
        Tools {
            connector: &self.connector,
            settings: &self.options.backup,
            database: &self.run.database,
            stop,
        }
    }
}
