//! What the admin HTTP tells and asks of gates for some clients, of caps, and of how gates reopen.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::App;
use super::api::AppApi;
use crate::admin::types::{
    CapRequest, CapResult, CapStatus, ModeResult, ScopeStatus, StandingHold,
};
use crate::admin::{ApiError, Caller};
use crate::config::{Config, Scope};
use crate::drain::report::{millis, timestamp};
use crate::gate::cap::Cap;
use crate::gate::mode::{HoldSpec, Mode};
use crate::gate::reopen::Pace;
use crate::gate::{Gate, Gates, LOOK_EVERY, LOOK_IDLE};
use crate::metrics::ScopeFigures;
use crate::window;

impl AppApi {
    /// The holds on some clients of this database.
    pub(super) fn scopes(&self, database: &str) -> Vec<ScopeStatus> {
        let gates = self.app.controller.gates().narrow(database);
        let gates = gates.iter();
        gates.map(|gate| self.scope_status(gate)).collect()
    }

    fn scope_status(&self, gate: &Gate) -> ScopeStatus {
        let ((_, holds), (held, oldest)) = (gate.holds(), gate.waiting());
        let holds = holds.iter();
        ScopeStatus {
            scope: gate.scope().clone(),
            holds: holds
                .map(|(holder, hold)| self.hold_status(gate, *holder, hold))
                .collect(),
            held: held as u64,
            oldest_wait_ms: oldest.map(|since| millis(since.elapsed())),
            permits: u64::from(gate.permits()),
        }
    }

    /// How a database is for these clients, after an opening.
    pub(super) fn opened(&self, gate: &Gate, scope: &Scope) -> ModeResult {
        let narrow = self
            .app
            .controller
            .gates()
            .find_scope(gate.database(), scope);
        ModeResult {
            database: gate.database().to_owned(),
            scope: said(scope),
            mode: gate
                .holds()
                .0
                .max(narrow.map_or(Mode::Open, |gate| gate.holds().0)),
            generation: 0,
            drain: None,
        }
    }

    /// Caps a database, or takes its cap off.
    pub(super) async fn set_cap(
        &self,
        database: &str,
        body: CapRequest,
        caller: &Caller,
    ) -> Result<CapResult, ApiError> {
        let by = body.by.unwrap_or_else(|| "unknown".into());
        tracing::info!(database, cap = %body.transactions, by, ?caller, "cap");
        let held = self.app.config.load().hold.duration;
        let request = window::CapRequest {
            at: body.transactions,
            duration: body.duration.map_or(held, Duration::from),
            by,
            from: Some(caller.from.clone()),
            reason: body.reason,
        };
        let capped = self.app.controller.cap(database, request).await;
        capped.map_err(|error| {
            let causes = anyhow::Error::new(error);
            ApiError::unavailable("journal_failed", format!("Nothing was capped: {causes:#}."))
        })?;
        let gate = self.app.controller.gates().find(database);
        let cap = gate.and_then(|gate| gate.capped());
        Ok(CapResult {
            database: database.to_owned(),
            cap: cap.map(|cap| cap_status(&cap)),
        })
    }
}

impl App {
    /// The server of a database, for people.
    pub(super) fn server_of(&self, database: &str) -> String {
        let target = self.config.load().target(database);
        let hosts = target.iter().flat_map(|target| &target.upstream.hosts);
        let hosts: Vec<String> = hosts.map(ToString::to_string).collect();
        hosts.join(",")
    }

    /// Sets the metrics of holds on some clients.
    pub(super) fn measure_scopes(&self, database: &str) {
        let gates = self.controller.gates().narrow(database);
        let held = gates.iter().map(|gate| {
            let (held, oldest) = gate.waiting();
            ScopeFigures {
                scope: gate.scope().to_string(),
                held,
                oldest_wait: oldest.map(|since| since.elapsed()),
                permits: usize::try_from(gate.permits()).unwrap_or(usize::MAX),
            }
        });
        let held: Vec<_> = held.collect();
        self.metrics.set_held_in_scopes(database, &held);
    }

    /// Gates look how busy they are, and while they are, the clock of their transactions ticks: a process
    /// that nobody uses wakes seldom, and whoever begins a transaction then can read the real clock.
    pub(super) fn watch_gates(self: &Arc<Self>) {
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("busiest", async move {
            let mut pause = LOOK_IDLE;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return app.sessions.clock().rest(),
                }
                pause = match app.controller.gates().look() {
                    true => {
                        app.sessions.clock().tick();
                        LOOK_EVERY
                    }
                    false => {
                        app.sessions.clock().rest();
                        LOOK_IDLE
                    }
                };
            }
        });
    }
}

/// How gates reopen.
pub(super) fn pace(config: &Config) -> Pace {
    let reopen = config.hold.reopen;
    Pace {
        rate: reopen.rate,
        transactions: reopen.transactions,
        longest: reopen.longest,
    }
}

/// A scope as answers have it: nothing for all.
/// Holds on every database, as the admin HTTP says them.
pub(super) fn standing(gates: &Gates) -> Vec<StandingHold> {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let holds = gates.standing_holds(now).into_iter();
    let said = |(scope, spec, began): (Scope, HoldSpec, Instant)| StandingHold {
        scope: said(&scope),
        mode: spec.mode(),
        since: timestamp(began),
        until: (!spec.duration.is_zero())
            .then(|| Timestamp::try_from(wall + spec.duration).ok())
            .flatten(),
        then: spec.then,
        blocked: spec.blocked,
        by: spec.by,
        reason: spec.reason.unwrap_or_default(),
    };
    holds.map(said).collect()
}

pub(super) fn said(scope: &Scope) -> Option<Scope> {
    (!scope.is_whole()).then(|| scope.clone())
}

pub(super) fn cap_status(cap: &Cap) -> CapStatus {
    let left = cap.until.saturating_duration_since(Instant::now());
    CapStatus {
        transactions: cap.spec.transactions,
        until: Timestamp::try_from(SystemTime::now() + left).ok(),
        by: cap.spec.by.clone(),
        reason: cap.spec.reason.clone().unwrap_or_default(),
    }
}
