//! Before a window lets everybody in: some clients, and a command that tries what matters. What fails is a
//! validation that failed; whether traffic stays held then is said by `migrate.canary.then`.

use serde_json::json;
use tokio::time::Instant;

use super::{End, Findings, Job, Window};
use crate::config::{Scope, Then};
use crate::runner::backup::program::{Program, Trouble};
use crate::runner::execute::millis;
use crate::runner::report::{CanaryReport, Failure};
use crate::runner::stop::{Stop, StopReason};
use crate::runner::traffic::{CanaryDoor, Traffic};
use crate::runner::types::{Direction, EventKind, Exit, RunState};

impl<T: Traffic> Job<T> {
    /// Makes the canary of a run that has done well so far, if one is wanted; says how the run now ends.
    pub(super) async fn canary(
        &self,
        end: End,
        window: Option<&Window>,
        stop: &Stop,
        findings: &mut Findings,
    ) -> End {
        let scope = self.request.canary.clone();
        let scope = scope.or_else(|| self.options.canary.scope.clone());
        let wanted = scope.is_some() || self.options.canary.is_wanted();
        let Some(window) = window.filter(|_| wanted && end.0 == RunState::Succeeded) else {
            return end;
        };
        if self.request.direction == Direction::Down {
            return end;
        }
        let begun = Instant::now();
        let stop = stop.clone().with_window(Some(window.end()));
        let tried = self.try_canary(window, scope.clone(), &stop).await;
        let mut failure = tried.err();
        if !self.traffic.end_canary(&window.grant).await && failure.is_none() {
            let text = "connections of the canary did not end";
            failure = Some((Failure::new(text), None));
        }
        let report = CanaryReport {
            scope,
            failure: failure.as_ref().map(|(failure, _)| failure.message.clone()),
            lasted_ms: millis(begun.elapsed()),
        };
        let text = match &report.failure {
            None => format!("canary: it went well for {} ms", report.lasted_ms),
            Some(failure) => format!("canary: {failure}"),
        };
        self.run
            .tell(EventKind::Note, text, json!({ "canary": report }));
        findings.canary = Some(report);
        match failure {
            None => end,
            Some((_, Some(reason @ (StopReason::Operator(_) | StopReason::Shutdown)))) => {
                self.stopped(findings, &reason)
            }
            Some((failure, _)) => {
                if self.options.canary.then == Then::Stay {
                    findings.stay = Some(failure.to_string());
                }
                self.failed(findings, failure, Exit::Postflight)
            }
        }
    }

    async fn try_canary(
        &self,
        window: &Window,
        scope: Option<Scope>,
        stop: &Stop,
    ) -> Result<(), (Failure, Option<StopReason>)> {
        let settings = &self.options.canary;
        let text = match &scope {
            Some(scope) => format!("canary: {scope} is let in, all others wait"),
            None => "canary: all others wait".to_owned(),
        };
        let begun = Instant::now();
        let door = self.traffic.begin_canary(&window.grant, scope).await;
        let door = door.map_err(|why| (Failure::new(format!("no canary: {why}")), None))?;
        self.run
            .tell(EventKind::Note, text, serde_json::Value::Null);
        if let Some(command) = &settings.command {
            let timeout = tokio::time::sleep(settings.timeout);
            let ended = self.canary_program(command, &door).run(stop, timeout).await;
            ended.map_err(|it| self.trouble(it))?;
        }
        tokio::select! {
            biased;
            reason = stop.fired() => {
                let failure = Failure::new(format!("the canary was ended: {reason}"));
                Err((failure, Some(reason)))
            }
            () = tokio::time::sleep_until(begun + settings.lasting) => Ok(()),
        }
    }

    /// The command of the canary, with the key that lets it in. Who else may read its environment on this
    /// machine may read all that its user may.
    fn canary_program(&self, command: &str, door: &CanaryDoor) -> Program {
        let (host, port) = &door.address;
        Program::shell(command, "the canary's command")
            .env("PGHOST", host)
            .env("PGPORT", port.to_string())
            .env("PGDATABASE", &self.run.database)
            .env("PGOPTIONS", door.options.expose())
            .env("PGDRAIN_DATABASE", &self.run.database)
            .env("PGDRAIN_RUN", &self.run.id)
            .env("PGDRAIN_BY", &self.run.by)
            .env("PGDRAIN_PHASE", "canary")
    }

    fn trouble(&self, trouble: Trouble) -> (Failure, Option<StopReason>) {
        match trouble {
            Trouble::Stopped(reason) => {
                let text = format!("the canary's command was ended: {reason}");
                (Failure::new(text), Some(reason))
            }
            Trouble::ServerGone { .. } => {
                let time = humantime::format_duration(self.options.canary.timeout);
                let text = format!("the canary's command did not end within {time}");
                (Failure::new(text), None)
            }
            trouble @ (Trouble::NotStarted { .. } | Trouble::Failed { .. }) => {
                (Failure::new(trouble.to_string()), None)
            }
        }
    }
}
