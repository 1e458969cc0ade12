//! One way up, down and up again in one database, and what it left there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::types::{Course, Leg, Rehearsal, RehearsedFile, Shapes};
use super::{End, Job, fill, rls, verdict};
use crate::config::BatchLimits;
use crate::runner::backup::Contents;
use crate::runner::connect::Connector;
use crate::runner::execute::{Ending, Executor, Settings, Tracer, millis};
use crate::runner::history::Ledger;
use crate::runner::plan::{self, Action, Plan, Step, Wish};
use crate::runner::report::{Failure, chain};
use crate::runner::run::file_report;
use crate::runner::source::MigrationSet;
use crate::runner::stop::Stop;
use crate::runner::types::{Direction, Exit, RunState, TrafficMode};

/// A database in which files are rehearsed.
pub(super) struct Stage<'a> {
    pub(super) job: &'a Job,
    pub(super) connector: &'a Arc<Connector>,
    pub(super) database: &'a str,
    pub(super) stop: &'a Stop,
    pub(super) set: &'a MigrationSet,
    pub(super) plan: &'a Plan,
    pub(super) scale: Option<u32>,
    /// The role that files run as, if not our own.
    pub(super) owner: Option<&'a str>,
}

/// How a leg ends that does not come to its end.
struct Broken(Failure);

impl Stage<'_> {
    /// Makes the rehearsal; what was found so far is kept when it ends early.
    pub(super) async fn go(&self, found: &mut Rehearsal) -> Result<(), End> {
        let mut course = Course {
            scale: self.scale,
            ..Course::default()
        };
        if let Some(rows) = self.scale {
            let tables = touched(found);
            let run = &self.job.run;
            run.note(format!("making up {rows} rows for {} tables", tables.len()));
            let filled = fill::fill(self.connector, self.database, &tables, rows, self.stop).await;
            course.filled = filled?;
        }
        let went = self.legs(&mut course, found).await;
        found.courses.push(course);
        went?;
        let limits = &self.job.request.limits;
        if let Some(course) = found.courses.last() {
            let over = verdict::over(course, limits);
            found.findings.extend(over);
        }
        Ok(())
    }

    async fn legs(&self, course: &mut Course, found: &mut Rehearsal) -> Result<(), End> {
        let mut executor = self.executor().await?;
        let went = self.walk(&mut executor, course, found).await;
        executor.untraced().await;
        let mut ledger = executor.into_ledger().await;
        let state = match &went {
            Ok(()) => RunState::Succeeded,
            Err(End::Failed(..)) => RunState::Failed,
            Err(End::Stopped(_)) => RunState::Cancelled,
        };
        let deadline = Instant::now() + self.job.options.lock_wait;
        let closed = async {
            ledger.revive(deadline).await?;
            let id = &self.job.run.id;
            ledger.end_run(id, state.as_str(), None).await
        };
        if let Err(error) = closed.await {
            let text = format!(
                "the end could not be recorded in {}: {error}",
                self.database
            );
            self.job.run.note(text);
        }
        ledger.close().await;
        went
    }

    /// The session that runs files, its books open.
    async fn executor(&self) -> Result<Executor<'_>, End> {
        let options = &self.job.options;
        let ledger = Ledger::open(self.connector, self.database)
            .await
            .map_err(End::before)?;
        let deadline = Instant::now() + options.lock_wait;
        let run = &self.job.run;
        let opened = async {
            ledger
                .lock(deadline, Some(self.stop))
                .await
                .map_err(End::before)?;
            ledger.ensure_layout().await.map_err(End::before)?;
            let reason = Some("rehearsal");
            let (up, auto) = (Direction::Up, TrafficMode::Auto);
            let begun = ledger.begin_run(&run.id, up, auto, &run.by, reason).await;
            begun.map_err(End::before)?;
            let tracer = Tracer::new(self.connector, self.database).await;
            tracer.map_err(End::before)
        };
        let tracer = match opened.await {
            Ok(tracer) => tracer,
            Err(end) => {
                ledger.close().await;
                return Err(end);
            }
        };
        let connector = Arc::clone(self.connector);
        let mut executor = Executor::new(connector, ledger, run, self.settings()).traced_by(tracer);
        match executor.connect().await {
            Ok(()) => Ok(executor),
            Err(failure) => {
                executor.untraced().await;
                executor.into_ledger().await.close().await;
                Err(End::Failed(Exit::Preflight, failure))
            }
        }
    }

    async fn walk(
        &self,
        executor: &mut Executor<'_>,
        course: &mut Course,
        found: &mut Rehearsal,
    ) -> Result<(), End> {
        let steps = &self.plan.steps;
        let one_way = steps.iter().rposition(|it| !leads_back(it));
        let back = one_way.map_or(0, |at| at + 1);
        if self.scale.is_none() {
            let irreversible = steps.iter().filter(|it| !leads_back(it));
            found.irreversible = irreversible.map(|it| it.file.clone()).collect();
        }

        let mut before = self.contents().await?;
        course.before = Some(before.fingerprint());
        let shape = before.shape();
        let (to_stay, to_revert) = steps.split_at(back);
        self.run_all(executor, "up", to_stay, &mut course.up)
            .await
            .map_err(|it| it.end(Exit::Migration, self.stop))?;
        if !to_stay.is_empty() && !to_revert.is_empty() {
            before = self.contents().await?;
        }
        self.run_all(executor, "up", to_revert, &mut course.up)
            .await
            .map_err(|it| it.end(Exit::Migration, self.stop))?;
        let after = self.contents().await?;
        course.up.fingerprint = Some(after.fingerprint());
        course.shapes = Some(Shapes {
            before: shape,
            after: after.shape(),
        });
        if let Some(role) = &self.job.request.rls_role {
            let measured = rls::measure(self.connector, self.database, role, self.stop);
            course.rls = measured.await?;
        }
        if to_revert.is_empty() {
            return Ok(());
        }

        let down = self.way_back(executor, to_revert).await?;
        let leg = course.down.insert(Leg::default());
        self.run_all(executor, "down", &down, leg)
            .await
            .map_err(|it| it.end(Exit::Rollback, self.stop))?;
        let reverted = self.contents().await?;
        leg.fingerprint = Some(reverted.fingerprint());
        let differences = before.differences(&reverted);
        let finding = |it| format!("after the way down: {it}");
        found.findings.extend(differences.into_iter().map(finding));
        if self.scale.is_some() {
            // The way up again was seen without them.
            return Ok(());
        }

        let leg = course.again.insert(Leg::default());
        self.run_all(executor, "up again", to_revert, leg)
            .await
            .map_err(|it| it.end(Exit::Postflight, self.stop))?;
        let again = self.contents().await?;
        leg.fingerprint = Some(again.fingerprint());
        let differences = after.without_rows().differences(&again.without_rows());
        let finding = |it| format!("after the second way up: {it}");
        let schema_differs = !differences.is_empty();
        found.findings.extend(differences.into_iter().map(finding));
        if !schema_differs {
            // Times and sequences differ, and may.
            let rows = after.differences(&again).into_iter();
            let note = |it| format!("after the second way up: {it}");
            found.notes.extend(rows.map(note));
        }
        Ok(())
    }

    /// Runs files one after the other; those that were begun are written down.
    async fn run_all(
        &self,
        executor: &mut Executor<'_>,
        way: &str,
        steps: &[Step],
        leg: &mut Leg,
    ) -> Result<(), Broken> {
        for step in steps {
            let rows = self
                .scale
                .map(|it| format!(", {it} rows"))
                .unwrap_or_default();
            let text = format!("{way}{rows}: {}", step.file);
            self.job.run.note(text);
            let begun = Instant::now();
            let ending = executor.run(step, self.stop).await;
            let elapsed_ms = millis(begun.elapsed());
            let mut file = file_report(step, &ending, elapsed_ms);
            file.batches = executor.take_batches();
            leg.elapsed_ms += elapsed_ms;
            leg.files.push(RehearsedFile {
                file,
                trace: executor.take_trace(),
            });
            match ending {
                Ending::Done => {}
                Ending::RolledBack(failure)
                | Ending::Begun(failure)
                | Ending::Dirty(failure)
                | Ending::Unknown(failure) => {
                    return Err(Broken(Failure {
                        message: format!("{way}: {}", failure.message),
                        ..failure
                    }));
                }
            }
        }
        Ok(())
    }

    /// The down files of what was just applied.
    async fn way_back(&self, executor: &Executor<'_>, of: &[Step]) -> Result<Vec<Step>, End> {
        let mut rows = executor.ledger().rows().await.map_err(End::before)?;
        rows.retain(|row| of.iter().any(|step| step.version == row.version));
        let wish = Wish {
            direction: Direction::Down,
            steps: u32::try_from(of.len()).ok(),
            ..self.job.wish()
        };
        let built = plan::build(self.set, &rows, wish);
        let faults = |it: Vec<plan::Problem>| {
            let text = crate::runner::texts(&it).join("; ");
            End::Failed(Exit::Rollback, Failure::new(text))
        };
        Ok(built.map_err(faults)?.steps)
    }

    /// What the database holds, our own rows left out.
    async fn contents(&self) -> Result<Contents, End> {
        let session = self
            .connector
            .connect(self.database, Box::new(|_| {}))
            .await;
        let session = session.map_err(End::before)?;
        let found = tokio::select! {
            biased;
            reason = self.stop.fired() => {
                session.cancel(Duration::from_secs(5)).await;
                Err(End::Stopped(reason))
            }
            found = Contents::of_restored(&session.client) => found.map_err(|error| {
                End::before(format!("cannot read what {} holds: {}", self.database, chain(&error)))
            }),
        };
        session.close(Duration::from_secs(5)).await;
        Ok(found?.without_history())
    }

    fn settings(&self) -> Settings {
        let options = &self.job.options;
        let asked = self.job.request.statement_timeout;
        Settings {
            lock_timeout: options.lock_timeout,
            statement_timeout: asked.map_or(options.statement_timeout, |it| it.0),
            idle_in_transaction_timeout: options.idle_in_transaction_timeout,
            owner: self.owner.map(str::to_owned),
            cancel_wait: options.cancel_wait,
            settle_wait: options.settle_wait,
            retry: options.retry,
            validate: options.validate,
            maintenance_work_mem: options.maintenance_work_mem,
            write_back: None,
            batch: BatchLimits::default(),
            felt: None,
        }
    }
}

impl Broken {
    fn end(self, exit: Exit, stop: &Stop) -> End {
        match stop.now() {
            Some(reason) => End::Stopped(reason),
            None => End::Failed(exit, self.0),
        }
    }
}

/// Whether a file says how to go back. What is repeatable never does.
fn leads_back(step: &Step) -> bool {
    let has_down = match &step.action {
        Action::Apply { down_sql, .. } => down_sql.is_some(),
        Action::Revert { .. } => true,
    };
    has_down && !step.version.is_repeatable()
}

/// The tables that were there before and that the files locked, in the rehearsal before this one.
fn touched(found: &Rehearsal) -> Vec<String> {
    let files = found
        .courses
        .first()
        .into_iter()
        .flat_map(|it| &it.up.files);
    let locks = files.flat_map(|it| &it.trace).flat_map(|it| &it.locks);
    let mut tables: Vec<_> = locks
        .filter(|it| !it.new)
        .map(|it| it.relation.clone())
        .collect();
    tables.sort();
    tables.dedup();
    tables
}
