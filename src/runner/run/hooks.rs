//! Commands of the operator at the phases of a run, which waits for them.
//!
//! What one that fails means depends on where the run is. Before a window nothing was changed, and
//! the run has failed. In a window it counts as a validation that failed: files that are done stay
//! done, and whether traffic is let in is the hook's to say (`then`). After traffic was let in, and
//! at the end of a run that failed, it is noted.

use serde_json::json;
use tokio::time::Instant;

use super::{End, Findings, Job, Window};
use crate::config::{Hook, HookPhase, Then};
use crate::runner::backup::program::{Program, Trouble};
use crate::runner::execute::millis;
use crate::runner::report::{Failure, HookReport};
use crate::runner::stop::{Stop, StopReason};
use crate::runner::traffic::{Finish, Traffic};
use crate::runner::types::{EventKind, Exit, RunState};

/// A hook that did not end well.
struct HookFailed {
    failure: Failure,
    /// The run is to stop, and it was ended for that.
    stopped: Option<StopReason>,
    then: Then,
}

impl<T: Traffic> Job<T> {
    /// Hooks while nothing is held: one that fails ends the run.
    pub(super) async fn hooks_before(
        &self,
        phase: HookPhase,
        stop: &Stop,
        findings: &mut Findings,
    ) -> Result<(), End> {
        match self.hooks(phase, stop, None, findings).await {
            Ok(()) => Ok(()),
            Err(HookFailed {
                stopped: Some(reason),
                ..
            }) => Err(self.stopped(findings, &reason)),
            Err(HookFailed { failure, .. }) => {
                // A later window of a run that has changed something already.
                let exit = match findings.files.is_empty() {
                    true => Exit::Preflight,
                    false => Exit::of_failure(self.request.direction),
                };
                Err(self.failed(findings, failure, exit))
            }
        }
    }

    /// Hooks among the files. One that fails is a validation that failed.
    pub(super) async fn hooks_within(
        &self,
        phase: HookPhase,
        stop: &Stop,
        window: Option<&Window>,
        findings: &mut Findings,
    ) -> Result<(), End> {
        let stop = stop.clone().with_window(window.map(Window::end));
        match self.hooks(phase, &stop, None, findings).await {
            Ok(()) => Ok(()),
            Err(HookFailed {
                stopped: Some(reason @ (StopReason::Operator(_) | StopReason::Shutdown)),
                ..
            }) => Err(self.stopped(findings, &reason)),
            Err(HookFailed { failure, then, .. }) => {
                if then == Then::Stay {
                    findings.stay = Some(failure.to_string());
                }
                Err(self.failed(findings, failure, Exit::Postflight))
            }
        }
    }

    /// Ends a window with its hooks, and says how the run now ends.
    pub(super) async fn reopen(
        &self,
        end: End,
        window: &mut Option<Window>,
        findings: &mut Findings,
    ) -> End {
        let mut end = end;
        let mut finish = self.finish(end, window.is_some(), findings);
        if let Some(ours) = window.as_ref()
            && finish == Finish::Reopen
            && findings.stay.is_none()
        {
            let stop = self.last_words().with_window(Some(ours.end()));
            let phase = HookPhase::BeforeReopening;
            if let Err(failed) = self.hooks(phase, &stop, Some(end), findings).await {
                // A process that stops lets everybody go; a window that ends is no answer.
                let stops = failed.stopped == Some(StopReason::Shutdown);
                if failed.then == Then::Stay && !stops {
                    findings.stay = Some(failed.failure.to_string());
                }
                // What went wrong first is the reason that counts.
                if end.0 == RunState::Succeeded {
                    end = self.failed(findings, failed.failure, Exit::Postflight);
                }
            }
        }
        if let Some(why) = findings.stay.take().filter(|_| window.is_some()) {
            findings.held = Some(why.clone());
            finish = Finish::StayHeld(why);
        }
        let reopened = window.is_some() && finish == Finish::Reopen;
        self.end_window(window, finish, findings).await;
        self.begin_watch(end, findings).await;
        if reopened {
            // Noted, and no more: applications are back.
            let stop = self.last_words();
            let phase = HookPhase::AfterReopening;
            let _ = self.hooks(phase, &stop, Some(end), findings).await;
        }
        end
    }

    /// Hooks of a run that did not succeed.
    pub(super) async fn hooks_on_failure(&self, end: End, findings: &mut Findings) {
        if end.0 != RunState::Succeeded {
            let stop = self.last_words();
            let phase = HookPhase::OnFailure;
            let _ = self.hooks(phase, &stop, Some(end), findings).await;
        }
    }

    /// What ends a hook that has to run although the run was cancelled: the end of the process alone.
    pub(super) fn last_words(&self) -> Stop {
        Stop::new(self.stopping.clone())
    }

    /// Runs the hooks of a phase, one after the other, up to the first that fails. `end` is how the
    /// run ends, where that is known.
    async fn hooks(
        &self,
        phase: HookPhase,
        stop: &Stop,
        end: Option<End>,
        findings: &mut Findings,
    ) -> Result<(), HookFailed> {
        let hooks = self.options.hooks.iter();
        for hook in hooks.filter(|it| it.phase == phase) {
            let begun = Instant::now();
            let text = format!("{phase}: {} begins", hook.name);
            self.run.tell(
                EventKind::Note,
                text,
                json!({ "hook": hook.name, "phase": phase }),
            );
            let program = self.hook_program(hook, end, findings);
            let ended = program.run(stop, tokio::time::sleep(hook.timeout)).await;
            let elapsed_ms = millis(begun.elapsed());
            let trouble = ended.err().map(|it| trouble(hook, it));
            let text = match &trouble {
                None => format!("{phase}: {} ended well after {elapsed_ms} ms", hook.name),
                Some((failure, _)) => format!("{phase}: {failure}"),
            };
            let report = HookReport {
                phase,
                name: hook.name.clone(),
                failure: trouble.as_ref().map(|(failure, _)| failure.message.clone()),
                elapsed_ms,
            };
            self.run
                .tell(EventKind::Note, text, json!({ "hook": report }));
            findings.hooks.push(report);
            if let Some((failure, stopped)) = trouble {
                let then = hook.then.unwrap_or(match phase {
                    // None of its files has run.
                    HookPhase::WindowOpen => Then::Open,
                    HookPhase::BeforePreflight
                    | HookPhase::BeforeBackup
                    | HookPhase::BeforeWindow
                    | HookPhase::AfterLastFile
                    | HookPhase::BeforeReopening
                    | HookPhase::AfterReopening
                    | HookPhase::OnFailure => Then::Stay,
                });
                return Err(HookFailed {
                    failure,
                    stopped,
                    then,
                });
            }
        }
        Ok(())
    }

    /// A hook's command, with what it is told. There is no password in that.
    fn hook_program(&self, hook: &Hook, end: Option<End>, findings: &Findings) -> Program {
        // Until it has failed, a run may yet fail.
        let (state, exit) = match end.filter(|it| it.0 != RunState::Succeeded) {
            Some((state, exit)) => (state, exit.code().to_string()),
            None => (self.run.state(), String::new()),
        };
        let failure = findings.failure.as_ref();
        Program::shell(&hook.command, &hook.name)
            .env("PGDATABASE", &self.run.database)
            .env("PGDRAIN_DATABASE", &self.run.database)
            .env("PGDRAIN_RUN", &self.run.id)
            .env("PGDRAIN_BY", &self.run.by)
            .env("PGDRAIN_DIRECTION", self.run.direction.as_str())
            .env("PGDRAIN_PHASE", hook.phase.as_str())
            .env("PGDRAIN_STATE", state.as_str())
            .env("PGDRAIN_EXIT_CODE", exit)
            .env("PGDRAIN_HELD", findings.held.as_deref().unwrap_or_default())
            .env(
                "PGDRAIN_FAILURE",
                // The system takes no zero bytes here.
                failure
                    .map(|it| it.to_string().replace('\0', ""))
                    .unwrap_or_default(),
            )
    }
}

/// What is said of a hook that did not end well, and whether the run was to stop.
fn trouble(hook: &Hook, trouble: Trouble) -> (Failure, Option<StopReason>) {
    let name = &hook.name;
    match trouble {
        Trouble::Stopped(reason) => (
            Failure::new(format!("{name} was ended: {reason}")),
            Some(reason),
        ),
        // That is what the wait for its time is told as.
        Trouble::ServerGone { .. } => {
            let time = humantime::format_duration(hook.timeout);
            let text = format!("{name} did not end within {time} and was ended");
            (Failure::new(text), None)
        }
        trouble @ (Trouble::NotStarted { .. } | Trouble::Failed { .. }) => {
            (Failure::new(trouble.to_string()), None)
        }
    }
}
