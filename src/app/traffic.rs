//! Lends the controller's windows to the runner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::canary::Canaries;
use crate::config::{Scope, Shared, Then};
use crate::drain::escalation::Ladder;
use crate::drain::report::{DrainReport, Outcome};
use crate::gate::mode::HoldSpec;
use crate::metrics::statements::Measured;
use crate::runner::types::StepTraffic;
use crate::runner::{self, CanaryDoor, Felt, Finish, Grant, Traffic, WindowStage};
use crate::session::registry::Activity;
use crate::tasks::Tasks;
use crate::window::steps::WindowMode;
use crate::window::{Controller, Granted, HoldRequest, Refused, Steering, Target, WindowRequest};

/// The runner's way to a window.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) controller: Arc<Controller>,
    config: Arc<Shared>,
    tasks: Tasks,
    pub(super) canaries: Canaries,
    /// Windows that are lent, by their names.
    lent: Mutex<BTreeMap<String, Granted>>,
}

impl Windows {
    pub(super) fn new(
        controller: Arc<Controller>,
        config: Arc<Shared>,
        tasks: Tasks,
        canaries: Canaries,
    ) -> Windows {
        Windows {
            controller,
            config,
            tasks,
            canaries,
            lent: Mutex::default(),
        }
    }

    /// The database of a window that is lent.
    pub(super) fn database_of(&self, grant: &Grant) -> Option<String> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.get(&grant.id).map(|window| window.database.clone())
    }

    fn request(&self, asked: &runner::WindowRequest) -> WindowRequest {
        let hold = self.config.load().hold.clone();
        WindowRequest {
            id: WindowRequest::new_id(),
            lent: None,
            database: asked.database.clone(),
            mode: match asked.traffic {
                StepTraffic::ReadOnly => WindowMode::ReadOnly,
                StepTraffic::Exclusive | StepTraffic::Open => WindowMode::Exclusive,
            },
            read_only_first: None,
            duration: asked.duration,
            blocked: hold.blocked,
            client_deadline: hold.client_deadline,
            ladder: Ladder::new(&hold.ladder.with(&asked.drain)),
            fence: asked.fence.unwrap_or(hold.fence),
            bypass: asked.bypass.unwrap_or(hold.bypass_of_window()),
            unproved: false,
            by: asked.by.clone(),
            reason: asked.reason.clone(),
        }
    }

    fn lend(&self, window: Granted) -> Grant {
        let grant = Grant {
            id: window.id.clone(),
            ends_at: window.ends_at.into(),
            lost: window.lost.clone(),
            report: as_json(&window.report),
        };
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.insert(window.id.clone(), window);
        grant
    }

    /// Tells whoever follows the run how the drain goes, until it has ended.
    fn tell_progress(
        &self,
        asked: &runner::WindowRequest,
        mut report: watch::Receiver<DrainReport>,
    ) {
        let progress = asked.progress.clone();
        self.tasks.spawn("drain progress", async move {
            let mut told = None;
            loop {
                let now = report.borrow_and_update().clone();
                let news = (now.outcome, now.step, now.in_the_way.len());
                if now.outcome != Outcome::Draining {
                    return;
                }
                if told.replace(news) != Some(news) {
                    let text = match now.in_the_way.len() {
                        0 => "asking the server for proof".to_owned(),
                        1 => format!("{}: one session is in the way", now.step),
                        many => format!("{}: {many} sessions are in the way", now.step),
                    };
                    progress.tell(WindowStage::Draining, text);
                }
                if report.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Traffic for Windows {
    async fn begin(&self, asked: runner::WindowRequest) -> Result<Grant, runner::Refused> {
        let request = self.request(&asked);
        let (mut answer, answered) = oneshot::channel();
        let mut answered = Wanted {
            answered,
            controller: Arc::clone(&self.controller),
            tasks: self.tasks.clone(),
        };
        let controller = Arc::clone(&self.controller);
        asked.progress.tell(WindowStage::Holding, "holding traffic");
        let (begun, mut draining) = mpsc::unbounded_channel();
        // In a task of its own: a window that is being opened must be closed again also when
        // nobody wants it any more.
        self.tasks.spawn("window", async move {
            let steering = Steering {
                begun,
                hold_all: std::future::pending(),
                given_up: answer.closed(),
            };
            let outcome = controller.begin_window(request, steering).await;
            if let Err(Ok(unwanted)) = answer.send(outcome) {
                controller.reopen_after(unwanted).await;
            }
        });
        if let Some(draining) = draining.recv().await {
            self.tell_progress(&asked, draining.report);
        }
        match (&mut answered.answered).await {
            Ok(Ok(window)) => Ok(self.lend(window)),
            Ok(Err(refused)) => Err(refusal(refused)),
            Err(_) => Err(runner::Refused {
                message: "the proxy is stopping".into(),
                report: serde_json::Value::Null,
            }),
        }
    }

    fn transactions(&self, database: &str) -> Option<u64> {
        Some(self.controller.sessions().totals(database).transactions)
    }

    fn measure(&self, database: &str, lasting: Duration, one_in: u32) {
        let gate = self.controller.gates().of(database);
        gate.measure(lasting, one_in);
    }

    fn measured(&self, database: &str) -> Option<Measured> {
        let gate = self.controller.gates().find(database)?;
        gate.is_measured().then(|| gate.statements().measured())
    }

    fn longest_statement(&self, database: &str) -> Option<Duration> {
        let sessions = self.controller.sessions().of(database);
        let busy = sessions.iter();
        let busy = busy.filter(|it| it.activity() == Activity::Active && it.window.is_none());
        let ages = busy.filter_map(|it| it.statement_age());
        Some(ages.max().unwrap_or_default())
    }

    fn felt(&self, grant: &Grant) -> Option<Felt> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let window = lent.get(&grant.id)?;
        let (held, longest) = self.controller.waiting(&window.database);
        Some(Felt {
            held: held as u64,
            longest_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn begin_canary(
        &self,
        grant: &Grant,
        scope: Option<Scope>,
    ) -> Result<CanaryDoor, String> {
        self.let_canary_in(grant, scope)
    }

    async fn end_canary(&self, grant: &Grant) -> bool {
        self.put_canary_out(grant).await
    }

    async fn hold(&self, database: &str, why: &str) -> Result<(), String> {
        let set = self.config.load().hold.clone();
        let request = HoldRequest {
            scope: Scope::default(),
            spec: HoldSpec {
                sqlstate: Some(set.reject_sqlstate),
                duration: set.duration,
                // Nobody but a person can say that it is over.
                then: Then::Stay,
                read_only: false,
                blocked: set.blocked,
                first_stage: Duration::ZERO,
                client_deadline: set.client_deadline,
                by: "a trigger of a migration".to_owned(),
                reason: Some(why.to_owned()),
            },
            ladder: Ladder::new(&set.ladder),
            bypass: set.bypass_of_hold(),
        };
        let target = Target::Database(database.to_owned());
        let held = self.controller.hold(&target, request).await;
        held.map(drop)
            .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    }

    async fn finish(&self, grant: Grant, finish: Finish) {
        let window = {
            let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
            lent.remove(&grant.id)
        };
        let Some(window) = window else { return };
        match finish {
            Finish::Reopen => self.controller.reopen_after(window).await,
            Finish::StayHeld(why) => self.controller.stay_held_after(window, &why).await,
        }
    }
}

/// Gives a window back that was granted in the instant in which nobody wanted it any more.
struct Wanted {
    answered: oneshot::Receiver<Result<Granted, Refused>>,
    controller: Arc<Controller>,
    tasks: Tasks,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.answered.close();
        if let Ok(Ok(window)) = self.answered.try_recv() {
            let controller = Arc::clone(&self.controller);
            let give_back = async move { controller.reopen_after(window).await };
            self.tasks.spawn("window", give_back);
        }
    }
}

fn refusal(refused: Refused) -> runner::Refused {
    let report = match &refused {
        Refused::NotDrained(report) => as_json(report),
        Refused::Another(_)
        | Refused::StillHeld(_)
        | Refused::OtherProxy(_)
        | Refused::Former(_)
        | Refused::NoFence(_)
        | Refused::Journal(_) => serde_json::Value::Null,
    };
    runner::Refused {
        // With its causes: which file of the journal, and why.
        message: format!("{:#}", anyhow::Error::new(refused)),
        report,
    }
}

fn as_json(report: &DrainReport) -> serde_json::Value {
    // Text, numbers and times: nothing that JSON cannot hold.
    serde_json::to_value(report).unwrap_or_default()
}
