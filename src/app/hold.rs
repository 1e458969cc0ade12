//! Holding, and letting only reads in: from the bodies of the admin HTTP to the controller, and back.

use std::time::Duration;

use super::api::{AppApi, refused, target};
use super::events::Command;
use super::gates::said;
use crate::admin::types::{
    HoldRequest as HoldBody, ModeResult, ModeResults, ReadOnlyRequest as ReadOnlyBody,
};
use crate::admin::{Answer, ApiError, Databases};
use crate::config::{AskedLadder, Config, HumanDuration, Scope};
use crate::drain::escalation::Ladder;
use crate::drain::report::{DrainReport, Outcome};
use crate::gate::mode::{HoldSpec, Holder, Mode};
use crate::window::{Draining, HoldRequest};
use crate::wire::refusal::Sqlstate;

impl AppApi {
    /// Holds, and raises a fence if that is asked for.
    pub(super) async fn hold(
        &self,
        databases: &Databases,
        body: HoldBody,
        answer: Answer,
        command: Command,
    ) -> Result<ModeResults, ApiError> {
        let (unproved, whole) = (body.unproved, body.scope().is_whole());
        let fence = self.app.fence_of(databases, whole, body.fence).await?;
        let request = hold_request(body, &self.app.config.load());
        let asked = Asked::of(&request, answer, unproved);
        let (drains, tag) = self.place(databases, request, command).await?;
        if let (Some(fence), Some(draining)) = (fence, drains.first()) {
            fence.keep(Holder::Operator, draining.generation);
        }
        asked.answer(drains, tag).await
    }

    /// Lets only reads in.
    pub(super) async fn read_only(
        &self,
        databases: &Databases,
        body: ReadOnlyBody,
        answer: Answer,
        command: Command,
    ) -> Result<ModeResults, ApiError> {
        let unproved = body.unproved;
        let request = read_only_request(body, &self.app.config.load());
        let asked = Asked::of(&request, answer, unproved);
        let (drains, tag) = self.place(databases, request, command).await?;
        asked.answer(drains, tag).await
    }

    /// Gives the drains, and the name of the mode that it has made.
    async fn place(
        &self,
        databases: &Databases,
        request: HoldRequest,
        command: Command,
    ) -> Result<(Vec<Draining>, String), ApiError> {
        let turn = self.app.turns.take().await;
        let held = match self.is_as_meant(databases, command.condition.as_ref()) {
            Ok(()) => {
                let target = target(databases);
                let held = self.app.controller.hold(&target, request).await;
                held.map_err(|error| {
                    tracing::error!(error = &error as &dyn std::error::Error, "not held");
                    let causes = anyhow::Error::new(error);
                    let message = format!("Nothing was held: {causes:#}.");
                    ApiError::unavailable("journal_failed", message)
                })
            }
            Err(changed) => Err(changed),
        };
        let tag = self.tag(&self.meant(databases));
        drop(turn);
        self.app.tell(command, refused(&held));
        held.map(|drains| (drains, tag))
    }
}

/// What is to be answered.
struct Asked {
    scope: Option<Scope>,
    mode: Mode,
    answer: Answer,
    unproved_will_do: bool,
}

impl Asked {
    fn of(request: &HoldRequest, answer: Answer, unproved_will_do: bool) -> Asked {
        Asked {
            scope: said(&request.scope),
            mode: request.spec.mode(),
            answer,
            unproved_will_do,
        }
    }

    async fn answer(self, drains: Vec<Draining>, tag: String) -> Result<ModeResults, ApiError> {
        let mut results = Vec::new();
        for draining in drains {
            let (database, generation) = (draining.database.clone(), draining.generation);
            let drain = match self.answer {
                Answer::AtOnce => draining.report.borrow().clone(),
                Answer::WhenDrained => draining.ended().await,
            };
            results.push(ModeResult {
                database,
                scope: self.scope.clone(),
                mode: match self.answer {
                    Answer::AtOnce => self.mode,
                    Answer::WhenDrained => self.mode_after(&drain),
                },
                generation: generation.0,
                drain: Some(drain),
            });
        }
        let tag = Some(tag);
        let results = ModeResults { tag, results };
        match self.answer {
            Answer::AtOnce => Ok(results),
            Answer::WhenDrained => drained(results, self.unproved_will_do),
        }
    }

    /// An exhausted drain has reopened, and one whose hold ended had been.
    fn mode_after(&self, drain: &DrainReport) -> Mode {
        match drain.outcome {
            Outcome::Draining | Outcome::Drained | Outcome::Writable | Outcome::Unproved => {
                self.mode
            }
            Outcome::Exhausted | Outcome::Ended => Mode::Open,
        }
    }
}

/// What the body leaves out, the configuration says.
fn hold_request(body: HoldBody, config: &Config) -> HoldRequest {
    let set = &config.hold;
    let asked = AskedLadder {
        preset: body.ladder,
        autocommit: body.autocommit,
        wait: body.wait,
        cancel: body.cancel,
        stuck: body.stuck,
        abort: body.abort,
        terminate: body.terminate,
    };
    HoldRequest {
        scope: body.scope(),
        spec: HoldSpec {
            sqlstate: Some(body.sqlstate.unwrap_or(set.reject_sqlstate)),
            duration: body.duration.map_or(set.duration, Duration::from),
            then: body.then.unwrap_or(set.then),
            read_only: false,
            blocked: body.blocked.unwrap_or(set.blocked),
            first_stage: Duration::ZERO,
            client_deadline: set.client_deadline,
            by: body.by.unwrap_or_else(|| "unknown".into()),
            reason: body.reason,
        },
        ladder: Ladder::new(&set.ladder.with(&asked)),
        bypass: body.bypass.unwrap_or(set.bypass_of_hold()),
    }
}

/// The same for the read-only mode, whose first stage would be itself.
fn read_only_request(body: ReadOnlyBody, config: &Config) -> HoldRequest {
    let (hold, set) = (&config.hold, &config.read_only);
    let asked = AskedLadder {
        preset: body.ladder,
        autocommit: Some(HumanDuration(Duration::ZERO)),
        wait: body.wait,
        cancel: body.cancel,
        stuck: body.stuck,
        abort: body.abort,
        terminate: body.terminate,
    };
    HoldRequest {
        scope: body.scope(),
        spec: HoldSpec {
            sqlstate: Some(Sqlstate::READ_ONLY),
            duration: body.duration.map_or(set.duration, Duration::from),
            then: body.then.unwrap_or(set.then),
            read_only: true,
            blocked: body.writes.unwrap_or(set.writes),
            first_stage: Duration::ZERO,
            client_deadline: hold.client_deadline,
            by: body.by.unwrap_or_else(|| "unknown".into()),
            reason: body.reason,
        },
        ladder: Ladder::new(&hold.ladder.with(&asked)),
        bypass: body.bypass.unwrap_or(hold.bypass_of_hold()),
    }
}

fn drained(modes: ModeResults, unproved_will_do: bool) -> Result<ModeResults, ApiError> {
    let undone = modes.results.iter().filter_map(|result| {
        let drain = result.drain.as_ref()?;
        let done = match drain.outcome {
            Outcome::Drained => true,
            Outcome::Unproved => unproved_will_do,
            Outcome::Draining | Outcome::Writable | Outcome::Exhausted | Outcome::Ended => false,
        };
        (!done).then(|| format!("{}: {}", result.database, drain.detail))
    });
    let undone: Vec<String> = undone.collect();
    if undone.is_empty() {
        Ok(modes)
    } else {
        Err(ApiError::not_drained(
            format!("Not drained: {}.", undone.join("; ")),
            modes.results,
        ))
    }
}
