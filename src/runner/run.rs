//! A run from preflight to report.
//!
//! ```text
//! connect ─ lock ─ recover ─ preflight ─ history tables ─┬─► file ─► file ─► … ─► report
//!    nothing is held up to here                          └─ a window is opened before the first
//!                                                           file that needs one and ended as soon
//!                                                           as the next does not
//! ```

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::connect::Connector;
use super::execute::{Ending, Executor, Settings, millis};
use super::history::{Ledger, LedgerError};
use super::lock::LockError;
use super::options::Options;
use super::plan::{Plan, Step, Wish};
use super::preflight::{self, Check, Subject};
use super::record::Run;
use super::recover;
use super::report::{Failure, FileOutcome, FileReport, Report, WindowReport};
use super::script::TxMode;
use super::source::MigrationSet;
use super::stop::{Stop, StopReason, WindowEnd};
use super::traffic::{Finish, Grant, Progress, Traffic, WindowRequest, WindowStage};
use super::types::{Direction, EventKind, Exit, MigrationRequest, RunState, StepTraffic};

/// Everything a run works with.
pub(super) struct Job<T> {
    pub(super) traffic: Arc<T>,
    pub(super) connector: Arc<Connector>,
    pub(super) options: Options,
    pub(super) run: Arc<Run>,
    pub(super) request: MigrationRequest,
    pub(super) set: MigrationSet,
}

/// What is gathered for the report.
#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
    files: Vec<FileReport>,
    windows: Vec<WindowReport>,
    failure: Option<Failure>,
    held: Option<String>,
}

/// How a run ends.
type End = (RunState, Exit);

/// A window that is ours.
struct Window {
    grant: Grant,
    granted_after_ms: u64,
    since: Instant,
}

impl Window {
    fn end(&self) -> WindowEnd {
        WindowEnd {
            ends_at: self.grant.ends_at,
            lost: self.grant.lost.clone(),
        }
    }
}

impl<T: Traffic> Job<T> {
    /// Makes the run.
    pub(super) async fn perform(self) -> Report {
        let mut findings = Findings::default();
        let stop = self.run.stop();
        match self.prepare(&stop, &mut findings).await {
            Ok((executor, plan)) => {
                let (end, ledger) = self.execute(executor, &plan, &stop, &mut findings).await;
                let report = self.report(end, findings);
                self.close_books(ledger, &report).await;
                report
            }
            Err(end) => self.report(end, findings),
        }
    }

    /// Everything that happens while nothing is held.
    async fn prepare(
        &self,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(Executor<'_>, Plan), End> {
        self.run.enter(RunState::Preflight, "preflight begins");
        let mut ledger = self.open_ledger(stop, findings).await?;
        match self.check(&mut ledger, findings).await {
            Ok(plan) => {
                let mut executor = Executor::new(
                    Arc::clone(&self.connector),
                    ledger,
                    &self.run,
                    self.settings(),
                );
                match executor.connect().await {
                    Ok(()) => Ok((executor, plan)),
                    Err(failure) => {
                        let ledger = executor.into_ledger().await;
                        let end = self.failed(findings, failure, Exit::Preflight);
                        self.close_books(ledger, &self.report(end, Findings::default()))
                            .await;
                        Err(end)
                    }
                }
            }
            Err(end) => {
                ledger.close().await;
                Err(end)
            }
        }
    }

    async fn open_ledger(&self, stop: &Stop, findings: &mut Findings) -> Result<Ledger, End> {
        let ledger = match Ledger::open(&self.connector, &self.run.database).await {
            Ok(ledger) => ledger,
            Err(error) => {
                self.add_checks(findings, vec![preflight::not_connectable(&error)]);
                return Err((RunState::Failed, Exit::Preflight));
            }
        };
        let deadline = Instant::now() + self.options.lock_wait;
        match ledger.lock(deadline, Some(stop)).await {
            Ok(()) => self.add_checks(findings, vec![preflight::lock(Ok(()))]),
            Err(LockError::Stopped(reason)) => {
                ledger.close().await;
                return Err(self.stopped(findings, &reason));
            }
            Err(error) => {
                self.add_checks(findings, vec![preflight::lock(Err(&error))]);
                ledger.close().await;
                return Err((RunState::Failed, Exit::Preflight));
            }
        }
        Ok(ledger)
    }

    /// Recovers what an earlier run left, makes every check, and opens the books.
    async fn check(&self, ledger: &mut Ledger, findings: &mut Findings) -> Result<Plan, End> {
        let books = |error: LedgerError| Failure::new(error.to_string());
        match recover::resolve(ledger, self.options.recover_wait).await {
            Ok(recovery) => {
                for it in recovery.resolved {
                    let data = json!(it);
                    let text = format!("an earlier run was lost while it ran {}", it.name);
                    self.run.tell(EventKind::Note, text, data);
                }
            }
            Err(error) => return Err(self.failed(findings, books(error), Exit::Preflight)),
        }
        let own = self.connector.own_pids();
        let subject = Subject {
            set: &self.set,
            wish: Wish {
                direction: self.request.direction,
                steps: self.request.steps,
                traffic: self.request.traffic,
            },
            owner: self.options.owner.as_deref(),
            long_transaction: self.options.long_transaction,
            own: &own,
        };
        let found = preflight::examine(ledger, &subject).await;
        self.add_checks(findings, found.checks);
        let Some(plan) = found.plan else {
            let exit = if found.unusable_files {
                Exit::Usage
            } else {
                Exit::Preflight
            };
            return Err((RunState::Failed, exit));
        };
        if plan.steps.is_empty() {
            return Err((RunState::Succeeded, Exit::Success));
        }
        let opened = async {
            ledger.ensure_layout().await?;
            let request = &self.request;
            ledger
                .begin_run(
                    &self.run.id,
                    request.direction,
                    request.traffic,
                    &self.run.by,
                    request.reason.as_deref(),
                )
                .await
        };
        match opened.await {
            Ok(()) => Ok(plan),
            Err(error) => Err(self.failed(findings, books(error), Exit::Preflight)),
        }
    }

    /// Runs the files, with windows around those that need one.
    async fn execute(
        &self,
        mut executor: Executor<'_>,
        plan: &Plan,
        stop: &Stop,
        findings: &mut Findings,
    ) -> (End, Ledger) {
        let mut window = None;
        let mut end = (RunState::Succeeded, Exit::Success);
        for (index, step) in plan.steps.iter().enumerate() {
            if step.traffic == StepTraffic::Open {
                self.end_window(&mut window, Finish::Reopen, findings).await;
            } else if window.is_none() {
                match self.begin_window(stop, findings).await {
                    Ok(granted) => window = Some(granted),
                    Err(refused) => {
                        end = refused;
                        break;
                    }
                }
            }
            self.tell_start(step, index, plan.steps.len());
            let begun = Instant::now();
            let stop = stop.clone().with_window(window.as_ref().map(Window::end));
            let ending = executor.run(step, &stop).await;
            findings
                .files
                .push(file_report(step, &ending, millis(begun.elapsed())));
            match self.judge(step, ending, findings) {
                Ok(()) => {}
                Err(bad) => {
                    end = bad;
                    break;
                }
            }
        }
        let finish = self.finish(end, window.is_some(), findings);
        self.end_window(&mut window, finish, findings).await;
        (end, executor.into_ledger().await)
    }

    async fn begin_window(&self, stop: &Stop, findings: &mut Findings) -> Result<Window, End> {
        self.run
            .enter(RunState::Holding, "asking for an exclusive window");
        let run = Arc::clone(&self.run);
        let request = WindowRequest {
            database: self.run.database.clone(),
            duration: self.request.window.map_or(self.options.window, |it| it.0),
            drain: self.request.drain(),
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
        let asked = Instant::now();
        tokio::select! {
            biased;
            reason = stop.fired() => Err(self.stopped(findings, &reason)),
            granted = self.traffic.begin(request) => match granted {
                Ok(grant) => {
                    let granted_after_ms = millis(asked.elapsed());
                    self.run.enter(RunState::Applying, format!("exclusive after {granted_after_ms} ms"));
                    Ok(Window { grant, granted_after_ms, since: Instant::now() })
                }
                Err(refused) => {
                    let failure = Failure::new(format!("no exclusive window: {}", refused.message));
                    self.run.tell(EventKind::Failure, failure.to_string(), refused.report);
                    findings.failure = Some(failure);
                    Err((RunState::Failed, Exit::NotGranted))
                }
            }
        }
    }

    async fn end_window(
        &self,
        window: &mut Option<Window>,
        finish: Finish,
        findings: &mut Findings,
    ) {
        let Some(Window {
            grant,
            granted_after_ms,
            since,
        }) = window.take()
        else {
            return;
        };
        let text = match &finish {
            Finish::Reopen => "letting traffic in".to_owned(),
            Finish::StayHeld(why) => format!("traffic stays held: {why}"),
        };
        self.run.enter(RunState::Reopening, text);
        findings.windows.push(WindowReport {
            id: grant.id.clone(),
            granted_after_ms,
            lasted_ms: millis(since.elapsed()),
            drain: grant.report.clone(),
        });
        self.traffic.finish(grant, finish).await;
    }

    /// What the end of a file means for the run.
    fn judge(&self, step: &Step, ending: Ending, findings: &mut Findings) -> Result<(), End> {
        let exit = Exit::of_failure(self.request.direction);
        let (state, failure, text) = match ending {
            Ending::Done => {
                let done = match step.direction() {
                    Direction::Up => "applied",
                    Direction::Down => "reverted",
                };
                self.run.tell(
                    EventKind::FileDone,
                    format!("{}: {done}", step.file),
                    Value::Null,
                );
                return Ok(());
            }
            Ending::RolledBack(failure) => {
                let asked = self.run.stop().now().is_some();
                let state = if asked {
                    RunState::Cancelled
                } else {
                    RunState::Failed
                };
                (state, failure, "rolled back")
            }
            Ending::Dirty(failure) => (RunState::Dirty, failure, "dirty"),
            Ending::Unknown(failure) => (RunState::Unknown, failure, "unknown"),
        };
        self.run.tell(
            EventKind::Failure,
            format!("{text}: {failure}"),
            json!(failure),
        );
        findings.failure = Some(failure);
        Err((state, exit))
    }

    /// What happens to those who wait. Only a known and whole state lets them in.
    fn finish(&self, (state, _): End, in_window: bool, findings: &mut Findings) -> Finish {
        let failure = findings
            .failure
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let why = match state {
            RunState::Dirty => format!("a migration stopped part-way: {failure}"),
            RunState::Unknown => format!("how a migration ended is not known: {failure}"),
            RunState::Preflight
            | RunState::Holding
            | RunState::Draining
            | RunState::Applying
            | RunState::Reopening
            | RunState::Succeeded
            | RunState::Failed
            | RunState::Cancelled => return Finish::Reopen,
        };
        findings.held = in_window.then(|| why.clone());
        Finish::StayHeld(why)
    }

    fn stopped(&self, findings: &mut Findings, reason: &StopReason) -> End {
        let failure = Failure::new(reason.to_string());
        self.run
            .tell(EventKind::Failure, failure.to_string(), Value::Null);
        findings.failure = Some(failure);
        (
            RunState::Cancelled,
            Exit::of_failure(self.request.direction),
        )
    }

    fn failed(&self, findings: &mut Findings, failure: Failure, exit: Exit) -> End {
        self.run
            .tell(EventKind::Failure, failure.to_string(), json!(failure));
        findings.failure = Some(failure);
        (RunState::Failed, exit)
    }

    fn add_checks(&self, findings: &mut Findings, checks: Vec<Check>) {
        for check in &checks {
            let verdict = if check.is_passed() {
                "passed"
            } else {
                "FAILED"
            };
            let text = format!("{} {verdict}: {}", check.name, check.text);
            self.run.tell(EventKind::Check, text, json!(check));
        }
        findings.checks.extend(checks);
    }

    fn tell_start(&self, step: &Step, index: usize, of: usize) {
        let statements = step.script.statements().len();
        let how = match step.script.mode() {
            TxMode::File => "in one transaction",
            TxMode::None => "statement by statement, because not all can run in a transaction",
        };
        let traffic = match step.traffic {
            StepTraffic::Open => "in open traffic",
            StepTraffic::Exclusive => "alone",
        };
        let number = index + 1;
        let data =
            json!({ "file": step.file, "statements": statements, "index": number, "of": of });
        self.run
            .enter(RunState::Applying, format!("file {number} of {of} begins"));
        let text = format!("{}: {statements} statements, {how}, {traffic}", step.file);
        self.run.tell(EventKind::FileStarted, text, data);
    }

    fn settings(&self) -> Settings {
        let options = &self.options;
        let request = &self.request;
        Settings {
            lock_timeout: request.lock_timeout.map_or(options.lock_timeout, |it| it.0),
            statement_timeout: request
                .statement_timeout
                .map_or(options.statement_timeout, |it| it.0),
            idle_in_transaction_timeout: options.idle_in_transaction_timeout,
            owner: options.owner.clone(),
            cancel_wait: options.cancel_wait,
            settle_wait: options.settle_wait,
        }
    }

    fn report(&self, (state, exit): End, findings: Findings) -> Report {
        let finished_at = jiff::Timestamp::now();
        let elapsed = finished_at.duration_since(self.run.started_at);
        let Findings {
            checks,
            files,
            windows,
            failure,
            held,
        } = findings;
        Report {
            finished_at,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(0),
            state,
            exit_code: exit.code(),
            checks,
            files,
            windows,
            failure,
            held,
            ..Report::unexpected(&self.run, &self.request)
        }
    }

    /// Writes the report into the history. A state that is not known stays open there, so that the
    /// next recovery looks into it.
    async fn close_books(&self, mut ledger: Ledger, report: &Report) {
        let state = report.state;
        if state != RunState::Unknown {
            let deadline = Instant::now() + self.options.lock_wait;
            let written = async {
                ledger.revive(deadline).await?;
                ledger
                    .end_run(&report.id, state.as_str(), Some(report))
                    .await
            };
            if let Err(error) = written.await {
                self.run
                    .note(format!("the end of the run could not be recorded: {error}"));
            }
        }
        ledger.close().await;
    }
}

fn file_report(step: &Step, ending: &Ending, elapsed_ms: u64) -> FileReport {
    let outcome = match (ending, step.direction()) {
        (Ending::Done, Direction::Up) => FileOutcome::Applied,
        (Ending::Done, Direction::Down) => FileOutcome::Reverted,
        (Ending::RolledBack(_), _) => FileOutcome::RolledBack,
        (Ending::Dirty(_), _) => FileOutcome::Dirty,
        (Ending::Unknown(_), _) => FileOutcome::Unknown,
    };
    FileReport {
        version: step.version,
        file: step.file.clone(),
        mode: step.script.mode(),
        traffic: step.traffic,
        outcome,
        statements: step.script.statements().len(),
        elapsed_ms,
    }
}
