//! What a run does while nothing is held and nothing is changed but its own books.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{End, Findings, Job};
use crate::config::HookPhase;
use crate::runner::adopt::entry::WriteBack;
use crate::runner::execute::{Executor, Felt, Settings};
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::lock::LockError;
use crate::runner::plan::{Plan, Wish};
use crate::runner::preflight::{self, Check, Subject};
use crate::runner::recover;
use crate::runner::report::Failure;
use crate::runner::stop::Stop;
use crate::runner::survey::plan_report;
use crate::runner::today;
use crate::runner::traffic::Traffic;
use crate::runner::types::{EventKind, Exit, RunState};

/// Measuring goes on for so long behind each look of a batch.
const MEASURED: Duration = Duration::from_secs(60);

impl<T: Traffic> Job<T> {
    /// Everything that happens while nothing is held.
    pub(super) async fn prepare(
        &self,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(Executor<'_>, Plan), End> {
        self.wait_for_time(stop, findings).await?;
        findings.measuring = self.begin_measuring();
        self.run.enter(RunState::Preflight, "preflight begins");
        let phase = HookPhase::BeforePreflight;
        self.hooks_before(phase, stop, findings).await?;
        self.stand_at_gate(findings).await;
        let mut ledger = self.open_ledger(stop, findings).await?;
        match self.check(&mut ledger, findings).await {
            Ok((plan, write_back)) => {
                let kept = async {
                    self.back_up(&ledger, stop, findings).await?;
                    self.save_objects(&ledger, &plan, stop, findings).await?;
                    self.look_at_touched(&plan, findings).await;
                    Ok(())
                };
                if let Err(end) = kept.await {
                    let report = self.report(end, findings.clone());
                    self.close_books(ledger, &report).await;
                    return Err(end);
                }
                let mut executor = Executor::new(
                    Arc::clone(&self.connector),
                    ledger,
                    &self.run,
                    self.settings(write_back),
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
    async fn check(
        &self,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) -> Result<(Plan, Option<WriteBack>), End> {
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
        let subject = Subject {
            reading: &self.reading,
            history: self.request.history.as_deref(),
            write_back: self.request.write_back || self.options.write_back,
            wish: Wish {
                direction: self.request.direction,
                steps: self.request.steps,
                traffic: self.request.traffic,
                today: today(),
                down_required: self.options.down_required,
            },
            owner: self.options.owner.as_deref(),
            limits: &self.options.preflight,
            connector: &self.connector,
            database: &self.run.database,
            backup: &self.options.backup,
            makes_backup: self
                .request
                .backup
                .unwrap_or(self.options.backup.dir.is_some()),
            whole: false,
        };
        let mut found = preflight::examine(ledger, &subject).await;
        if let Some(plan) = &found.plan {
            let people = self.people(ledger, plan, findings).await;
            found.checks.extend(people);
            found.checks.extend(self.way_back(plan));
            found.checks.extend(self.gate_check(findings));
        }
        let not_passed = found.not_passed();
        let forced = self.request.force && found.may_be_forced();
        self.add_checks(findings, found.checks);
        let plan = found.plan.filter(|_| not_passed.is_empty() || forced);
        let Some(plan) = plan else {
            if self.request.force {
                self.run.note("these cannot be forced: nothing was done");
            }
            let exit = if found.unusable_files {
                Exit::Usage
            } else {
                Exit::Preflight
            };
            return Err((RunState::Failed, exit));
        };
        let write_back = found.write_back;
        if plan.steps.is_empty() {
            return Err((RunState::Succeeded, Exit::Success));
        }
        self.tell_plan(&plan).await;
        if !not_passed.is_empty() {
            self.tell_forced(&not_passed);
            findings.forced = not_passed;
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
                .await?;
            match findings.forced.as_slice() {
                [] => Ok(()),
                checks => ledger.forced(&self.run.id, checks).await,
            }
        };
        match opened.await {
            Ok(()) => {
                self.keep_gate(ledger, findings).await;
                Ok((plan, write_back))
            }
            Err(error) => Err(self.failed(findings, books(error), Exit::Preflight)),
        }
    }

    /// Says that somebody took it upon himself to go on against what preflight found.
    fn tell_forced(&self, checks: &[String]) {
        let reason = self.request.reason.as_deref().unwrap_or_default();
        let (by, names) = (&self.run.by, checks.join(", "));
        let text = format!("forced by {by} against {names}: {reason}");
        let data = json!({ "forced": checks, "by": by, "reason": reason });
        self.run.tell(EventKind::Note, text, data);
    }

    /// Says which plan this is. A plan that cannot be looked up has no hash, and stops nothing.
    async fn tell_plan(&self, plan: &Plan) {
        let owner = self.options.owner.as_deref();
        let found = plan_report(&self.connector, &self.run.database, owner, plan).await;
        match found.map(|it| it.hash) {
            Ok(Some(hash)) => {
                let text = format!("plan {hash}");
                self.run
                    .tell(EventKind::Note, text, json!({ "plan": hash }));
            }
            Ok(None) => {}
            Err(error) => self.run.note(format!("the plan has no hash: {error}")),
        }
    }

    fn add_checks(&self, findings: &mut Findings, checks: Vec<Check>) {
        for check in &checks {
            let verdict = if check.is_passed() {
                "passed"
            } else {
                "FAILED"
            };
            let mut text = format!("{} {verdict}: {}", check.name, check.text);
            if let Some(hint) = &check.hint {
                text += &format!(" (what to do: {hint})");
            }
            self.run.tell(EventKind::Check, text, json!(check));
        }
        findings.checks.extend(checks);
    }

    /// What clients feel, measured for as long as somebody asks.
    fn felt(&self) -> Felt {
        let (traffic, database) = (Arc::clone(&self.traffic), self.run.database.clone());
        let one_in = self.options.measures.one_in;
        Felt::new(move || {
            traffic.measure(&database, MEASURED, one_in);
            traffic.measured(&database)
        })
    }

    fn settings(&self, write_back: Option<WriteBack>) -> Settings {
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
            retry: options.retry,
            write_back,
            validate: options.validate,
            maintenance_work_mem: options.maintenance_work_mem,
            batch: options.batch,
            felt: Some(self.felt()),
        }
    }
}
