//! The window around the files that need one.

use std::sync::Arc;

use tokio::time::Instant;

use super::{End, Findings, Job};
use crate::runner::execute::millis;
use crate::runner::report::{Failure, WindowReport};
use crate::runner::stop::{Stop, WindowEnd};
use crate::runner::traffic::{Finish, Grant, Progress, Traffic, WindowRequest, WindowStage};
use crate::runner::types::{EventKind, Exit, RunState, StepTraffic};

/// A window that is ours.
pub(super) struct Window {
    /// What it lets through.
    pub(super) traffic: StepTraffic,
    pub(super) grant: Grant,
    granted_after_ms: u64,
    since: Instant,
}

impl Window {
    /// What of it can end a run.
    pub(super) fn end(&self) -> WindowEnd {
        WindowEnd {
            ends_at: self.grant.ends_at,
            lost: self.grant.lost.clone(),
        }
    }
}

impl<T: Traffic> Job<T> {
    /// Asks for a window; gives up when the run is stopped.
    pub(super) async fn begin_window(
        &self,
        traffic: StepTraffic,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<Window, End> {
        let (what, asking) = match traffic {
            StepTraffic::Exclusive | StepTraffic::Open => {
                ("exclusive", "asking for an exclusive window")
            }
            StepTraffic::ReadOnly => ("read-only", "asking for a read-only window"),
        };
        self.run.enter(RunState::Holding, asking);
        let run = Arc::clone(&self.run);
        let request = WindowRequest {
            database: self.run.database.clone(),
            duration: self.request.window.map_or(self.options.window, |it| it.0),
            traffic,
            drain: self.request.drain(),
            bypass: self.request.bypass,
            fence: self.request.fence,
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
                    self.run.enter(RunState::Applying, format!("{what} after {granted_after_ms} ms"));
                    Ok(Window { traffic, grant, granted_after_ms, since: Instant::now() })
                }
                Err(refused) => {
                    let failure = Failure::new(format!("no {what} window: {}", refused.message));
                    self.run.tell(EventKind::Failure, failure.to_string(), refused.report);
                    findings.failure = Some(failure);
                    Err((RunState::Failed, Exit::NotGranted))
                }
            }
        }
    }

    /// Ends a window if there is one.
    pub(super) async fn end_window(
        &self,
        window: &mut Option<Window>,
        finish: Finish,
        findings: &mut Findings,
    ) {
        let Some(Window {
            grant,
            granted_after_ms,
            since,
            traffic: _,
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
            felt: self.traffic.felt(&grant),
            drain: grant.report.clone(),
        });
        self.traffic.finish(grant, finish).await;
    }

    /// What happens to those who wait. Only a known and whole state lets them in.
    pub(super) fn finish(
        &self,
        (state, _): End,
        in_window: bool,
        findings: &mut Findings,
    ) -> Finish {
        let failure = findings
            .failure
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let why = match state {
            RunState::Dirty => format!("a migration stopped part-way: {failure}"),
            RunState::Unknown => format!("how a migration ended is not known: {failure}"),
            RunState::Waiting
            | RunState::Preflight
            | RunState::Backup
            | RunState::Holding
            | RunState::Draining
            | RunState::Applying
            | RunState::Reopening
            | RunState::Rehearsing
            | RunState::Succeeded
            | RunState::Failed
            | RunState::Cancelled => return Finish::Reopen,
        };
        findings.held = in_window.then(|| why.clone());
        Finish::StayHeld(why)
    }
}
