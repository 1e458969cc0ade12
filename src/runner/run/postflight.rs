//! What happens between the last file and the reopening: statistics, the checks, and the way back if they
//! are not passed and that was asked for.

use serde_json::json;

use super::{Course, End, Findings, Job};
use crate::config::{Analyze, OnCanaryFailure, Then};
use crate::runner::adopt;
use crate::runner::execute::Executor;
use crate::runner::history::LedgerError;
use crate::runner::plan::{self, Action, Plan, Wish};
use crate::runner::postflight::{Before, Looking, PostflightReport};
use crate::runner::preflight::Check;
use crate::runner::report::{Failure, FileOutcome, chain};
use crate::runner::traffic::Traffic;
use crate::runner::types::{Direction, EventKind, Exit, RunState};
use crate::runner::{texts, today};

impl<T: Traffic> Job<T> {
    /// Just before the first file: what is wrong already.
    pub(super) async fn wrong_before(&self, executor: &Executor<'_>, findings: &mut Findings) {
        match Before::look(&executor.ledger().session().client).await {
            Ok(before) => findings.wrong_before = Some(before),
            Err(error) => {
                let why = chain(&error);
                self.run
                    .note(format!("what is wrong before it is not known: {why}"));
            }
        }
    }

    /// Everything behind the last file that may still make the run fail. An error is how it ends.
    pub(super) async fn postflight(
        &self,
        executor: &Executor<'_>,
        plan: &Plan,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let settings = &self.options.postflight;
        if settings.analyze == Analyze::BeforeReopening {
            self.analyze(plan, findings).await;
        }
        let ledger = executor.ledger();
        self.schema_after(ledger, findings).await;
        let looking = Looking {
            settings,
            reading: &self.reading,
            history: self.request.history.as_deref(),
            before: findings.wrong_before.as_ref(),
            declared: self.options.validate.constraints,
            own: self.connector.own_pids(),
            strange: &findings.schemas.strange,
            schema_read: findings.schemas.read(),
        };
        let checks = looking.checks(ledger).await;
        for check in &checks {
            self.tell_check("postflight", check);
        }
        let wrong: Vec<_> = checks.iter().filter(|it| !it.is_passed()).collect();
        let names: Vec<_> = wrong.iter().map(|it| it.name.as_str()).collect();
        let failure = (!wrong.is_empty()).then(|| {
            let texts: Vec<_> = wrong.iter().map(|it| it.text.as_str()).collect();
            Failure::new(format!(
                "postflight: {} not passed: {}",
                names.join(", "),
                texts.join("; ")
            ))
        });
        findings.postflight = Some(PostflightReport {
            run: self.run.id.clone(),
            database: self.run.database.clone(),
            direction: self.run.direction,
            at: jiff::Timestamp::now(),
            pgdrain: env!("CARGO_PKG_VERSION").to_owned(),
            passed: failure.is_none(),
            fp_before: findings.schemas.fp_before(),
            fp_after: findings.schemas.fp_after(),
            checks,
        });
        let Some(failure) = failure else {
            return Ok(());
        };
        if settings.then == Then::Stay {
            findings.stay = Some(failure.to_string());
        }
        Err(self.failed(findings, failure, Exit::Postflight))
    }

    fn tell_check(&self, phase: &str, check: &Check) {
        let verdict = match check.is_passed() {
            true => "passed",
            false => "FAILED",
        };
        let text = format!("{phase}: {} {verdict}: {}", check.name, check.text);
        self.run.tell(
            EventKind::Check,
            text,
            json!({ "phase": phase, "check": check }),
        );
    }

    /// Whether the run may come to take itself back.
    fn may_go_back(&self) -> bool {
        let canary = &self.options.canary;
        let by_canary = canary.on_failure == OnCanaryFailure::Down
            && (canary.is_wanted() || self.request.canary.is_some());
        self.request.direction == Direction::Up && (self.request.down_on_failure || by_canary)
    }

    /// Whether it does after a validation that failed: its canary's, or any.
    fn goes_back(&self, findings: &Findings) -> bool {
        let canary = findings.canary.as_ref();
        let canary_failed = canary.is_some_and(|it| it.failure.is_some());
        let by_canary = canary_failed && self.options.canary.on_failure == OnCanaryFailure::Down;
        self.request.direction == Direction::Up && (self.request.down_on_failure || by_canary)
    }

    /// The check that each file has a way back, where the run is to take it by itself.
    pub(super) fn way_back(&self, plan: &Plan) -> Option<Check> {
        if !self.may_go_back() {
            return None;
        }
        let without = plan.steps.iter().filter_map(|it| match &it.action {
            Action::Apply { down_sql: None, .. } => Some(format!("{} has no way back", it.file)),
            Action::Apply { .. } | Action::Revert { .. } => None,
        });
        let well = "each file has a way back, to be taken if postflight or a canary fails";
        Some(Check::of("way_back", without.collect(), well))
    }

    /// Takes back what the run has applied, in its window, if its end asks for that.
    pub(super) async fn down_on_failure(
        &self,
        end: End,
        course: &mut Course<'_>,
        findings: &mut Findings,
    ) -> End {
        if !self.goes_back(findings) || end != (RunState::Failed, Exit::Postflight) {
            return end;
        }
        let why = findings.failure.take().unwrap_or_default();
        let plan = match self.plan_back(&course.executor, findings).await {
            Ok(plan) => plan,
            Err(error) => return self.not_back(&why, &error, findings),
        };
        let files = plan.steps.len();
        self.run
            .note(format!("the way back begins: {files} files, since {why}"));
        let (state, exit) = self.run_steps(&plan, false, course, findings).await;
        if state != RunState::Succeeded {
            let error = findings.failure.take().unwrap_or_default();
            let end = self.not_back(&why, &error.to_string(), findings);
            // Nobody is let in where nobody knows.
            return match state == RunState::Dirty || state == RunState::Unknown {
                true => (state, exit),
                false => end,
            };
        }
        self.run.note("everything is taken back");
        findings.stay = None;
        findings.taken_back = true;
        findings.failure = Some(why);
        end
    }

    fn not_back(&self, why: &Failure, error: &str, findings: &mut Findings) -> End {
        let failure = Failure::new(format!("{why}; the way back failed: {error}"));
        self.failed(findings, failure, Exit::Rollback)
    }

    /// The down files of what this run has applied, newest first.
    async fn plan_back(
        &self,
        executor: &Executor<'_>,
        findings: &Findings,
    ) -> Result<Plan, String> {
        let applied = findings.files.iter();
        let applied: Vec<_> = applied
            .filter(|it| it.outcome == FileOutcome::Applied)
            .map(|it| &it.version)
            .collect();
        let ledger = executor.ledger();
        let history = self.request.history.as_deref();
        let known = async {
            let rows = ledger.rows().await?;
            Ok::<_, LedgerError>(
                adopt::learn(ledger.session(), &self.reading, history, rows).await?,
            )
        };
        let (set, known) = known.await.map_err(|it| it.to_string())?;
        let wish = Wish {
            direction: Direction::Down,
            steps: u32::try_from(applied.len()).ok(),
            traffic: self.request.traffic,
            today: today(),
            down_required: self.options.down_required,
        };
        let plan = plan::build(set, &known.rows, wish).map_err(|it| texts(&it).join("; "))?;
        let ours = |it: &plan::Step| applied.contains(&&it.version);
        match plan.steps.len() == applied.len() && plan.steps.iter().all(ours) {
            true => Ok(plan),
            false => Err("other migrations stand above those of this run".to_owned()),
        }
    }
}
