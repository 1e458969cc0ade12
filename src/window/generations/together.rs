//! The newer process's side: what it asks of the former one when traffic is held or opened.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::ask::{Answer, AskError, HeldGate, HeldThere, Question, ask};
use super::{StillServed, former_lives};
use crate::audit::{Event, Kind};
use crate::config::Scope;
use crate::drain::escalation::Ladder;
use crate::drain::report::{Blocker, DrainReport, Outcome};
use crate::gate::Gate;
use crate::gate::cap::CapSpec;
use crate::gate::mode::Holder;
use crate::session::elsewhere::Elsewhere;
use crate::window::controller::{Controller, HoldRequest, OpenRefused, Target};
use crate::window::drains::Draining;
use crate::wire::startup::CancelKey;

/// How long the former process may take to do what is done at once.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The longest wait for the end of a drain; the hold itself ends long before.
const DRAIN_TIME: Duration = Duration::from_secs(7 * 86_400);

/// How long a cancel request may take there.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// How the former process drains what this one drains too.
type Theirs = Result<DrainReport, String>;

impl Elsewhere for Controller {
    fn cancel<'a>(&'a self, key: &'a CancelKey) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.cancel_there(key))
    }
}

impl Controller {
    /// Holds the former process's sessions too: each of `drains` is over when the former process's
    /// own is.
    pub(in crate::window) async fn hold_together(
        self: &Arc<Self>,
        target: &Target,
        request: &HoldRequest,
        placed: Vec<(Arc<Gate>, Draining)>,
    ) -> Vec<(Arc<Gate>, Draining)> {
        if self.generations.former().is_none() {
            return placed;
        }
        let question = Question::Hold {
            database: target.database().map(str::to_owned),
            scope: request.scope.clone(),
            spec: request.spec.clone(),
            ladder: request.ladder.clone(),
        };
        let held = self.ask_former(&question, AT_ONCE).await;
        let held = match held {
            Ok(Some(Answer::Held(held))) => Ok(held),
            // It has ended in this moment.
            Ok(None) => return placed,
            Ok(Some(_)) => Err("it gave an answer to another question".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = &held {
            tracing::error!(why, "the former process does not hold its sessions");
        }
        let holder = target.holder();
        let join = |(gate, ours): (Arc<Gate>, Draining)| {
            let of = HeldGate::of(&gate);
            let there = held
                .clone()
                .map(|held| held.into_iter().find(|there| there.gate == of));
            let joined = match there {
                // It knows no such database.
                Ok(None) => ours,
                Ok(Some(there)) => self.join(&gate, holder, ours, Ok(there)),
                Err(why) => self.join(&gate, holder, ours, Err(why)),
            };
            (gate, joined)
        };
        placed.into_iter().map(join).collect()
    }

    /// A drain that ends when both have ended.
    fn join(
        self: &Arc<Self>,
        gate: &Arc<Gate>,
        holder: Holder,
        ours: Draining,
        there: Result<HeldThere, String>,
    ) -> Draining {
        let begun = DrainReport {
            outcome: Outcome::Draining,
            ..ours.report.borrow().clone()
        };
        let (progress, report) = watch::channel(begun);
        let joined = ours.clone().told_by(report);
        self.replace_draining(&gate.name(), holder, joined.clone());
        let (controller, gate) = (Arc::clone(self), Arc::clone(gate));
        self.tasks.spawn("drain of two generations", async move {
            let generation = ours.generation;
            let theirs = async {
                let there = there.as_ref().map_err(Clone::clone)?;
                let theirs = controller.drained_there(holder, there).await?;
                // It reopens, and so do we.
                if theirs.outcome == Outcome::Exhausted {
                    gate.end_hold(holder, Some(generation));
                    controller.forget_ended().await;
                }
                Ok(theirs)
            };
            let ours = async {
                let ours = follow(ours, &progress).await;
                if ours.outcome == Outcome::Exhausted
                    && let Ok(there) = &there
                {
                    controller.end_there(holder, there).await;
                }
                ours
            };
            let (ours, theirs) = tokio::join!(ours, theirs);
            let pid = controller.generations.former().map(|former| former.pid);
            let both = both(ours, &theirs, pid);
            controller.audit.tell(Event {
                after: Some(both.outcome.to_string()),
                outcome: Some(format!("both processes: {}", both.detail)),
                ..Event::of(Kind::Drain, gate.database())
            });
            progress.send_replace(both);
        });
        joined
    }

    async fn drained_there(&self, holder: Holder, there: &HeldThere) -> Theirs {
        let question = Question::Drained {
            gate: there.gate.clone(),
            holder,
            generation: there.generation,
        };
        match self.ask_former(&question, DRAIN_TIME).await {
            Ok(Some(Answer::Drained(report))) => Ok(*report),
            Ok(None) => Err("it ended during the drain".into()),
            Ok(Some(_)) => Err("it gave an answer to another question".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// This process's drain was exhausted and reopens: so does the other.
    async fn end_there(&self, holder: Holder, there: &HeldThere) {
        let question = Question::EndHold {
            gate: there.gate.clone(),
            holder,
            generation: there.generation,
        };
        if let Err(error) = self.ask_former(&question, AT_ONCE).await {
            tracing::error!(%error, "the former process holds until its own deadline");
        }
    }

    /// Opens the former process's sessions too.
    ///
    /// # Errors
    /// When it is there and cannot be told.
    pub(in crate::window) async fn open_together(
        &self,
        target: &Target,
        scope: &Scope,
        force: bool,
    ) -> Result<(), OpenRefused> {
        let Err(former) = self.alone() else {
            return Ok(());
        };
        let _order = self.generations.order().await;
        let question = Question::Open {
            database: target.database().map(str::to_owned),
            scope: scope.clone(),
            force,
        };
        let told = self.ask_former(&question, AT_ONCE).await;
        told.map(|_| ()).map_err(|error| OpenRefused::Former {
            pid: former.pid,
            sessions: former.sessions,
            why: error.to_string(),
        })
    }

    /// Changes the ladder of the former process's drains too.
    pub async fn change_ladder_there(&self, target: &Target, ladder: &Ladder, by: &str) {
        let question = Question::Ladder {
            database: target.database().map(str::to_owned),
            ladder: ladder.clone(),
            by: by.to_owned(),
        };
        self.tell_former(&question, "another ladder").await;
    }

    /// Caps the former process's transactions too, each process for itself, or takes its cap off.
    pub(in crate::window) async fn cap_there(&self, database: &str, cap: Option<CapSpec>) {
        let database = database.to_owned();
        let question = Question::Cap { database, cap };
        self.tell_former(&question, "a cap").await;
    }

    /// Passes on what stands here whether it is heard there or not.
    async fn tell_former(&self, question: &Question, what: &str) {
        if self.alone().is_ok() {
            return;
        }
        let _order = self.generations.order().await;
        if let Err(error) = self.ask_former(question, AT_ONCE).await {
            tracing::error!(%error, what, "the former process could not be told");
        }
    }

    /// Passes on a cancel request whose session is not here.
    async fn cancel_there(&self, key: &CancelKey) {
        if self.generations.former().is_none() {
            return;
        }
        let question = Question::Cancel {
            pid: key.pid,
            secret: key.secret.to_vec(),
        };
        if let Err(error) = self.ask_former(&question, CANCEL_TIME).await {
            tracing::warn!(%error, "a cancel request did not reach the former process");
        }
    }

    /// Refuses what would need both processes to act as one.
    ///
    /// # Errors
    /// As long as the former process lives.
    pub fn alone(&self) -> Result<(), StillServed> {
        self.generations.alone().or_else(|former| {
            // It may have ended in this moment.
            match former_lives(&self.config().state_dir) {
                Ok(false) => Ok(()),
                Ok(true) | Err(_) => Err(former),
            }
        })
    }

    /// Asks the former process; `None` when it has ended.
    pub async fn ask_former(
        &self,
        question: &Question,
        patience: Duration,
    ) -> Result<Option<Answer>, AskError> {
        let state_dir = self.config().state_dir.clone();
        match ask(&state_dir, question, patience).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match former_lives(&state_dir) {
                Ok(false) => Ok(None),
                // What is not known is not over.
                Ok(true) | Err(_) => Err(error),
            },
        }
    }
}

/// Shows the course of this process's drain; it has not ended before the other has.
async fn follow(mut ours: Draining, progress: &watch::Sender<DrainReport>) -> DrainReport {
    loop {
        let report = ours.report.borrow_and_update().clone();
        if report.outcome != Outcome::Draining {
            progress.send_modify(|shown| {
                *shown = DrainReport {
                    outcome: Outcome::Draining,
                    detail: "waiting for the former process".into(),
                    ..report.clone()
                };
            });
            return report;
        }
        progress.send_replace(report);
        if ours.report.changed().await.is_err() {
            return ours.report.borrow().clone();
        }
    }
}

/// *Drained* only when both are; what is not known of the former process is not proved.
fn both(ours: DrainReport, theirs: &Theirs, pid: Option<u32>) -> DrainReport {
    let name = pid.map_or_else(
        || "the former process".to_owned(),
        |pid| format!("the former process {pid}"),
    );
    let (outcome, detail) = match (ours.outcome, theirs) {
        (Outcome::Ended | Outcome::Draining, Ok(theirs))
            if theirs.outcome == Outcome::Exhausted =>
        {
            let detail = format!("in {name}: {}", theirs.detail);
            (Outcome::Exhausted, detail)
        }
        (Outcome::Ended | Outcome::Exhausted | Outcome::Writable, _) => {
            (ours.outcome, ours.detail.clone())
        }
        (_, Err(why)) => (
            Outcome::Unproved,
            format!("held here, but nothing is known of {name}: {why}"),
        ),
        (_, Ok(theirs)) => match theirs.outcome {
            Outcome::Drained => (ours.outcome, ours.detail.clone()),
            Outcome::Exhausted => (Outcome::Exhausted, format!("in {name}: {}", theirs.detail)),
            Outcome::Writable => (Outcome::Writable, format!("in {name}: {}", theirs.detail)),
            Outcome::Unproved | Outcome::Ended | Outcome::Draining => (
                Outcome::Unproved,
                format!("held here, but in {name}: {}", theirs.detail),
            ),
        },
    };
    let mut both = DrainReport {
        outcome,
        detail,
        ..ours
    };
    if outcome != Outcome::Drained {
        both.drained_at = None;
    }
    if let Ok(theirs) = theirs {
        both.drained_at = both.drained_at.max(both.drained_at.and(theirs.drained_at));
        both.last_permit_released_at = both
            .last_permit_released_at
            .max(theirs.last_permit_released_at);
        for (here, there) in [
            (&mut both.waited_for, &theirs.waited_for),
            (&mut both.cancelled, &theirs.cancelled),
            (&mut both.aborted, &theirs.aborted),
            (&mut both.terminated, &theirs.terminated),
            (&mut both.in_the_way, &theirs.in_the_way),
            (&mut both.pending, &theirs.pending),
            (&mut both.not_enforced, &theirs.not_enforced),
        ] {
            // Its numbers of sessions are not ours.
            here.extend(there.iter().map(|blocker| Blocker {
                session: None,
                ..blocker.clone()
            }));
        }
        both.enforced = match (both.enforced, theirs.enforced) {
            (Some(here), Some(there)) => Some(here + there),
            (here, there) => here.or(there),
        };
    }
    both
}
