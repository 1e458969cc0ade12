//! A run from preflight to report.
//!
//! ```text
//! connect ─ lock ─ recover ─ preflight ─ history tables ─ backup ─┬─► file ─► file ─► … ─► report
//!    nothing is held up to here                                   └─ a window is opened before the
//!                                                                    first file that needs one and
//!                                                                    ended as soon as the next does
//!                                                                    not
//! ```

mod aftermath;
mod analyze;
mod backup;
mod baseline;
mod canary;
mod compare;
mod copies;
mod gate;
mod go;
mod hooks;
mod postflight;
mod prepare;
mod rehearsed;
mod schemas;
mod waiting;
mod window;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use self::compare::Behind;
use self::schemas::Schemas;
use self::window::Window;
use super::Runner;
use super::aftermath::Wanted;
use super::aftermath::baseline::Baseline;
use super::aftermath::catalog::Snapshot;
use super::aftermath::compare::Comparison;
use super::approvals::Approval;
use super::backup::{Made, RestorePoint};
use super::connect::Connector;
use super::execute::{Ending, Executor, millis};
use super::gauges;
use super::gonogo::{GoNoGo, GoNoGoRequest};
use super::history::Ledger;
use super::options::Options;
use super::plan::{Plan, Step};
use super::postflight::{Before, PostflightReport};
use super::preflight::Check;
use super::record::Run;
use super::report::{
    CanaryReport, Failure, FileOutcome, FileReport, HookReport, Report, WindowReport,
};
use super::script::TxMode;
use super::source::Reading;
use super::stop::{Stop, StopReason};
use super::traffic::Traffic;
use super::types::{Direction, EventKind, Exit, MigrationRequest, RunState, StepTraffic};
use super::watcher::{Breach, Watcher, breaches};
use crate::config::HookPhase;
use crate::metrics::Metrics;

/// Everything a run works with.
pub(super) struct Job<T> {
    pub(super) traffic: Arc<T>,
    pub(super) connector: Arc<Connector>,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) options: Options,
    pub(super) run: Arc<Run>,
    pub(super) request: MigrationRequest,
    pub(super) reading: Reading,
    /// The runner that it is of.
    pub(super) runner: Runner<T>,
    /// What the go/no-go gate is asked, if it is.
    pub(super) gate: Option<GoNoGoRequest>,
    /// What is watched after it.
    pub(super) wanted: Option<Wanted>,
    /// Says that the process will end.
    pub(super) stopping: watch::Receiver<Option<StopReason>>,
}

/// What is gathered for the report.
#[derive(Clone, Default)]
struct Findings {
    checks: Vec<Check>,
    forced: Vec<String>,
    backup: Option<Made>,
    restore_point: Option<RestorePoint>,
    files: Vec<FileReport>,
    windows: Vec<WindowReport>,
    failure: Option<Failure>,
    held: Option<String>,
    hooks: Vec<HookReport>,
    approvals: Vec<Approval>,
    /// Why traffic is not to be let in although the state is known.
    stay: Option<String>,
    breaches: Vec<Breach>,
    baseline: Option<Baseline>,
    comparison: Option<Comparison>,
    /// The server's counters when the time before the run began.
    earlier: Option<Snapshot>,
    behind: Behind,
    canary: Option<CanaryReport>,
    /// Since when statements are measured for this run.
    measuring: Option<Instant>,
    schemas: Schemas,
    /// The relations that its files name, when a watch is to begin.
    watch_of: Option<Vec<String>>,
    /// What was wrong before the first file.
    wrong_before: Option<Before>,
    /// The tables that the files touch.
    touched: Vec<u32>,
    /// The same, and the tables of indexes among them.
    compared: Vec<u32>,
    gonogo: Option<GoNoGo>,
    postflight: Option<PostflightReport>,
    taken_back: bool,
}

/// What the files of a run share.
struct Course<'a> {
    executor: Executor<'a>,
    watcher: Watcher,
    window: Option<Window>,
    stop: &'a Stop,
}

impl Course<'_> {
    /// Hears requests to stop, and of the window's end.
    fn stop_in_window(&self) -> Stop {
        let window = self.window.as_ref().map(Window::end);
        self.stop.clone().with_window(window)
    }
}

/// How a run ends.
type End = (RunState, Exit);

impl<T: Traffic> Job<T> {
    /// Makes the run.
    pub(super) async fn perform(self) -> Report {
        let mut findings = Findings::default();
        let stop = self.run.stop();
        match self.prepare(&stop, &mut findings).await {
            Ok((executor, plan)) => {
                let (end, ledger) = self.execute(executor, &plan, &stop, &mut findings).await;
                self.hooks_on_failure(end, &mut findings).await;
                let schemas = findings.schemas.clone();
                let report = self.report(end, findings);
                self.close_books(ledger, &report).await;
                self.keep_files(&report, &schemas).await;
                report
            }
            Err(end) => {
                self.hooks_on_failure(end, &mut findings).await;
                let report = self.report(end, findings);
                self.keep_files(&report, &Schemas::default()).await;
                report
            }
        }
    }

    /// Runs the files, with windows around those that need one, and looks at what they left.
    async fn execute(
        &self,
        executor: Executor<'_>,
        plan: &Plan,
        stop: &Stop,
        findings: &mut Findings,
    ) -> (End, Ledger) {
        let client = &executor.ledger().session().client;
        let baseline = self.take_baseline(client, plan, stop, findings);
        if let Err(end) = baseline.await {
            return (end, executor.into_ledger().await);
        }
        let mut course = Course {
            executor,
            watcher: Watcher::start(&self.connector, &self.run).await,
            window: None,
            stop,
        };
        course.executor.plan_statements(self.planned().await);
        let mut end = self.run_steps(plan, true, &mut course, findings).await;
        if end.0 == RunState::Succeeded {
            let looked = self.look_after(plan, &mut course, findings).await;
            end = looked.err().unwrap_or(end);
        }
        let window = course.window.as_ref();
        end = self.canary(end, window, stop, findings).await;
        end = self.down_on_failure(end, &mut course, findings).await;
        findings.watch_of = Some(analyze::names(plan));
        end = self.reopen(end, &mut course.window, findings).await;
        self.analyze_reopened(plan, findings).await;
        self.look_behind(end, plan, stop, findings).await;
        course.watcher.end().await;
        self.compare(findings);
        end = self.hold_against_thresholds(end, findings);
        let mut ledger = course.executor.into_ledger().await;
        self.keep_schemas(&mut ledger, end, findings).await;
        self.hold_against_rehearsal(&ledger, end, findings).await;
        (end, ledger)
    }

    /// Runs files one after another, up to the first that does not end well. `first` of the run ones it is
    /// looked before what there is.
    async fn run_steps(
        &self,
        plan: &Plan,
        first: bool,
        course: &mut Course<'_>,
        findings: &mut Findings,
    ) -> End {
        let done = (RunState::Succeeded, Exit::Success);
        for (index, step) in plan.steps.iter().enumerate() {
            let window = &mut course.window;
            if window.as_ref().is_some_and(|it| it.traffic != step.traffic) {
                let end = self.reopen(done, window, findings).await;
                if end.0 != RunState::Succeeded {
                    return end;
                }
            }
            if step.traffic != StepTraffic::Open
                && window.is_none()
                && let Err(refused) = self.open(step.traffic, window, course.stop, findings).await
            {
                return refused;
            }
            if index == 0 && first {
                let copied = self.copy_tables(&course.executor, course.stop, findings);
                if let Err(end) = copied.await {
                    return end;
                }
                self.mark(&course.executor, findings).await;
                self.schema_before(&course.executor, course.stop, findings)
                    .await;
                self.wrong_before(&course.executor, findings).await;
            }
            self.tell_start(step, index, plan.steps.len());
            let applied = self.schema_led_from(course.executor.ledger(), step).await;
            let ending = self.run_step(step, course, findings).await;
            if let Err(bad) = self.judge(step, ending, findings) {
                Self::schema_is_unknown(findings);
                return bad;
            }
            let stop = course.stop_in_window();
            let known = (step, plan.steps.len() == 1, applied);
            self.schema_behind(course.executor.ledger(), known, &stop, findings)
                .await;
        }
        done
    }

    /// Runs one file, watched.
    async fn run_step(
        &self,
        step: &Step,
        course: &mut Course<'_>,
        findings: &mut Findings,
    ) -> Ending {
        let begun = Instant::now();
        let stop = course.stop_in_window();
        course.watcher.begin_file(&step.file);
        let ending = course.executor.run(step, &stop).await;
        findings.files.push(FileReport {
            watch: course.watcher.end_file(),
            batches: course.executor.take_batches(),
            ..file_report(step, &ending, millis(begun.elapsed()))
        });
        ending
    }

    /// What may still make a run fail whose files are done.
    async fn look_after(
        &self,
        plan: &Plan,
        course: &mut Course<'_>,
        findings: &mut Findings,
    ) -> Result<(), End> {
        if let Err(error) = course.executor.revive_ledger().await {
            self.run.note(format!("postflight has no session: {error}"));
        }
        self.postflight(&course.executor, plan, findings).await?;
        let (phase, window) = (HookPhase::AfterLastFile, course.window.as_ref());
        self.hooks_within(phase, course.stop, window, findings)
            .await
    }

    /// Opens a window, with the hooks around that.
    async fn open(
        &self,
        traffic: StepTraffic,
        window: &mut Option<Window>,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let phase = HookPhase::BeforeWindow;
        self.hooks_before(phase, stop, findings).await?;
        let granted = self.begin_window(traffic, stop, findings).await?;
        let granted = window.insert(granted);
        let phase = HookPhase::WindowOpen;
        self.hooks_within(phase, stop, Some(granted), findings)
            .await
    }

    /// What the end of a file means for the run.
    fn judge(&self, step: &Step, ending: Ending, findings: &mut Findings) -> Result<(), End> {
        let exit = Exit::of_failure(step.direction());
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
            Ending::Begun(failure) => {
                let asked = self.run.stop().now().is_some();
                let state = if asked {
                    RunState::Cancelled
                } else {
                    RunState::Failed
                };
                (state, failure, "begun")
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

    /// A run that did all it should, and not as it should, ends with 3.
    fn hold_against_thresholds(&self, end: End, findings: &mut Findings) -> End {
        findings.breaches = breaches(&findings.files, &self.options.thresholds);
        findings
            .breaches
            .extend(self.breaches_behind(end, findings));
        for breach in &findings.breaches {
            let text = format!("threshold not kept: {breach}");
            self.run.tell(EventKind::Note, text, json!(breach));
        }
        match end {
            (RunState::Succeeded, Exit::Success) if !findings.breaches.is_empty() => {
                (RunState::Succeeded, Exit::Postflight)
            }
            end => end,
        }
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

    fn tell_start(&self, step: &Step, index: usize, of: usize) {
        let statements = step.script.statements().len();
        let how = match step.script.mode() {
            TxMode::File => "in one transaction",
            TxMode::None => "statement by statement, without a transaction",
            TxMode::Batches => "in batches",
        };
        let traffic = match step.traffic {
            StepTraffic::Open => "in open traffic",
            StepTraffic::ReadOnly => "while others only read",
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

    fn report(&self, (state, exit): End, findings: Findings) -> Report {
        let finished_at = jiff::Timestamp::now();
        let elapsed = finished_at.duration_since(self.run.started_at);
        let Findings {
            checks,
            forced,
            backup,
            restore_point,
            files,
            windows,
            failure,
            held,
            hooks,
            approvals,
            stay: _,
            breaches,
            baseline,
            comparison,
            earlier: _,
            behind,
            canary,
            measuring: _,
            schemas,
            watch_of: _,
            wrong_before: _,
            touched: _,
            compared: _,
            gonogo,
            postflight,
            taken_back,
        } = findings;
        Report {
            finished_at,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(0),
            state,
            exit_code: exit.code(),
            checks,
            forced,
            backup,
            restore_point,
            files,
            windows,
            failure,
            held,
            hooks,
            approvals,
            breaches,
            baseline,
            comparison,
            catalog: behind.catalog,
            catalog_after: behind.last,
            plans: behind.plans,
            degradation_percent: behind.degradation_percent,
            rls: behind.rls.unwrap_or_default(),
            canary,
            fp_before: schemas.fp_before(),
            fp_after: schemas.fp_after(),
            gonogo,
            postflight,
            taken_back,
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
        if let Some(metrics) = &self.metrics {
            let history = self.request.history.as_deref();
            gauges::measure(metrics, &ledger, (&self.reading, history), report).await;
        }
        ledger.close().await;
    }
}

pub(super) fn file_report(step: &Step, ending: &Ending, elapsed_ms: u64) -> FileReport {
    let outcome = match (ending, step.direction()) {
        (Ending::Done, Direction::Up) => FileOutcome::Applied,
        (Ending::Done, Direction::Down) => FileOutcome::Reverted,
        (Ending::RolledBack(_), _) => FileOutcome::RolledBack,
        (Ending::Begun(_), _) => FileOutcome::Begun,
        (Ending::Dirty(_), _) => FileOutcome::Dirty,
        (Ending::Unknown(_), _) => FileOutcome::Unknown,
    };
    FileReport {
        version: step.version.clone(),
        file: step.file.clone(),
        mode: step.script.mode(),
        traffic: step.traffic,
        outcome,
        statements: step.script.statements().len(),
        elapsed_ms,
        batches: None,
        watch: None,
    }
}
