//! What the admin HTTP asks of the parts, answered.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::App;
use super::gates::cap_status;
use crate::admin::sse::Feed;
use crate::admin::types::{
    Acknowledged, CancelRequest, Cancelling, CapRequest, CapResult, DatabaseStatus, DrainRequest,
    Events, HoldStatus, MeasureRequest, MigrationStarted, Migrations, ModeRequest, ModeResults,
    Precheck, PrecheckQuery, Sessions, SessionsQuery, StatementsView, Status, WindowCommand,
    WindowOrder, WindowTaken, WindowView, WindowViews,
};
use crate::admin::types::{PaceView, RunningStatements};
use crate::admin::{Answer, Api, ApiError, Caller, Databases, Replays};
use crate::drain::report::{millis, timestamp};
use crate::gate::Gate;
use crate::gate::mode::{Holder, Mode};
use crate::gate::state::{Hold, Phase};
use crate::runner::account::Account;
use crate::runner::aftermath::WatchView;
use crate::runner::approvals::{
    Approval, ApprovalError, Approvals, ApproveRequest, DecideRequest, Decision, RevokeRequest,
};
use crate::runner::backup::{BackupError, Backups, Pruned, RestoreRequest, Restored};
use crate::runner::drift::{DriftError, DriftReport, DriftRequest};
use crate::runner::gonogo::{GoNoGo, GoNoGoRequest};
use crate::runner::lint::LintReport;
use crate::runner::plan::PlanReport;
use crate::runner::preflight::PreflightReport;
use crate::runner::rehearse::RehearseRequest;
use crate::runner::repair::{RepairError, RepairReport, RepairRequest};
use crate::runner::restore::{InPlace, InPlaceRequest};
use crate::runner::saved::{ReplayRequest, Replayed, SavedError, SavedObjects};
use crate::runner::types::{MigrationRequest, PlanRequest, RunView, StatusReport, StatusRequest};
use crate::runner::verify::{VerifyReport, VerifyRequest};
use crate::runner::{LedgerError, StartError, StatusError};
use crate::session::registry::Tally;
use crate::window::{Target, steps};

/// Answers for a running proxy.
pub(super) struct AppApi {
    pub(super) app: Arc<App>,
    pub(super) replays: Replays,
}

impl AppApi {
    pub(super) fn new(app: Arc<App>) -> AppApi {
        AppApi {
            app,
            replays: Replays::default(),
        }
    }

    pub(super) fn database_status(&self, gate: &Arc<Gate>, tally: Tally) -> DatabaseStatus {
        let database = gate.database();
        let (mode, holds) = gate.holds();
        let (held, oldest) = gate.waiting_in_database();
        DatabaseStatus {
            database: database.to_owned(),
            mode,
            tag: self.tag(&[Arc::clone(gate)]),
            holds: holds
                .iter()
                .map(|(holder, hold)| self.hold_status(gate, *holder, hold))
                .collect(),
            scopes: self.scopes(database),
            cap: gate.capped().map(|cap| cap_status(&cap)),
            sessions: tally.sessions as u64,
            in_transaction: tally.in_transaction as u64,
            held: held as u64,
            oldest_wait_ms: oldest.map(|since| millis(since.elapsed())),
            permits: u64::from(gate.permits()),
            transactions_total: tally.totals.transactions,
            bytes_in_total: tally.totals.bytes_in,
            bytes_out_total: tally.totals.bytes_out,
            server: self.app.server_of(database),
            fence: self.app.controller.fence_status(database),
            migration: self.app.runner.live(database),
        }
    }

    pub(super) fn hold_status(&self, gate: &Gate, holder: Holder, hold: &Hold) -> HoldStatus {
        let until = match hold.phase {
            Phase::Running { until } => {
                let left = until.saturating_duration_since(Instant::now());
                Timestamp::try_from(SystemTime::now() + left).ok()
            }
            Phase::Overdue => None,
        };
        let draining = self.app.controller.draining(&gate.name(), holder);
        let drain = draining
            .filter(|draining| draining.generation == hold.generation)
            .map(|draining| draining.report.borrow().clone());
        HoldStatus {
            holder,
            mode: hold.spec.mode(),
            generation: hold.generation.0,
            since: timestamp(hold.since),
            until,
            then: hold.spec.then,
            blocked: hold.spec.blocked,
            enforcement: hold.spec.read_only.then(|| {
                let sessions = &self.app.sessions;
                sessions.enforcements(gate.database(), gate.scope()).into()
            }),
            by: hold.spec.by.clone(),
            reason: hold.spec.reason.clone().unwrap_or_default(),
            overdue: hold.phase == Phase::Overdue,
            stays: match holder {
                Holder::Window => self.app.controller.why_held(gate.database()),
                Holder::Everywhere | Holder::Operator => None,
            },
            drain,
        }
    }
}

impl Api for AppApi {
    async fn ready(&self) -> Result<(), ApiError> {
        if self.app.shutdowns.asked().is_some() {
            return Err(ApiError::unavailable("stopping", "pgdrain is stopping."));
        }
        let gates = self.app.controller.gates();
        let held = || {
            gates
                .all()
                .into_iter()
                .find(|gate| gate.holds().0 == Mode::Hold)
        };
        match self.app.config.load().hold.ready {
            true => Ok(()),
            false => held().map_or(Ok(()), |gate| {
                let message = format!("Traffic of {:?} is held.", gate.database());
                Err(ApiError::unavailable("held", message))
            }),
        }
    }

    async fn metrics(&self) -> String {
        self.measure();
        self.app.metrics.render()
    }

    async fn status(&self) -> Status {
        let config = self.app.config.load();
        let hosts: Vec<String> = config
            .upstream
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect();
        let gates = self.app.controller.gates().all();
        let tallies = self.app.sessions.tallies();
        let uptime = Timestamp::now().duration_since(self.app.started_at);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.app.started_at,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(0),
            listen: self.app.listen.clone(),
            upstream: hosts.join(","),
            state_dir: config.state_dir.display().to_string(),
            databases: gates
                .iter()
                .map(|gate| {
                    let tally = tallies.get(gate.database()).copied().unwrap_or_default();
                    self.database_status(gate, tally)
                })
                .collect(),
            standing: super::gates::standing(self.app.controller.gates()),
            former: self.app.controller.generations().former(),
            stopping: self.app.shutdowns.asked().map(|how| how.what().to_owned()),
        }
    }

    async fn sessions(
        &self,
        databases: Databases,
        query: SessionsQuery,
    ) -> Result<Sessions, ApiError> {
        self.app.list_sessions(&databases, &query)
    }

    async fn set_mode(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
    ) -> Result<ModeResults, ApiError> {
        self.change_mode(databases, request, answer, caller, None)
            .await
    }

    async fn events(&self, after: u64, wait: Duration) -> Events {
        self.app.events(after, wait).await
    }

    fn follow_events(&self, after: u64) -> Feed {
        self.app.follow_events(after)
    }

    async fn change_drain(
        &self,
        databases: Databases,
        request: DrainRequest,
        caller: Caller,
    ) -> Result<ModeResults, ApiError> {
        let target = target(&databases);
        self.app.change_drain(&target, &request, &caller).await
    }

    async fn precheck(&self, database: String, query: PrecheckQuery) -> Precheck {
        self.app.precheck(database, query).await
    }

    async fn cap(
        &self,
        database: String,
        request: CapRequest,
        caller: Caller,
    ) -> Result<CapResult, ApiError> {
        self.set_cap(&database, request, &caller).await
    }

    async fn running(
        &self,
        database: String,
        pids: Vec<i32>,
    ) -> Result<RunningStatements, ApiError> {
        self.app.running(&database, &pids).await
    }

    async fn pace(&self, database: String) -> Result<PaceView, ApiError> {
        self.app.pace(database)
    }

    async fn statements(&self, database: String, most: usize) -> StatementsView {
        self.statements_of(database, most)
    }

    async fn measure_statements(
        &self,
        database: String,
        request: MeasureRequest,
        caller: Caller,
    ) -> Result<StatementsView, ApiError> {
        self.set_measuring(database, request, &caller)
    }

    async fn start_migration(
        &self,
        database: String,
        request: MigrationRequest,
    ) -> Result<MigrationStarted, ApiError> {
        self.app.may_migrate()?;
        started(self.app.runner.start(&database, request))
    }

    async fn rehearse_migration(
        &self,
        database: String,
        request: RehearseRequest,
    ) -> Result<MigrationStarted, ApiError> {
        self.app.may_migrate()?;
        started(self.app.runner.rehearse(&database, request))
    }

    async fn backups(&self, database: String) -> Result<Backups, ApiError> {
        let backups = self.app.runner.backups(&database).await;
        backups.map_err(|error| no_backup(&error))
    }

    async fn prune_backups(&self, database: String) -> Result<Pruned, ApiError> {
        let pruned = self.app.runner.prune(&database).await;
        pruned.map_err(|error| no_backup(&error))
    }

    async fn restore_backup(
        &self,
        database: String,
        request: RestoreRequest,
    ) -> Result<Restored, ApiError> {
        self.app.may_migrate()?;
        let restored = self.app.runner.restore(&database, request).await;
        restored.map_err(|error| no_backup(&error))
    }

    async fn restore_in_place(
        &self,
        database: String,
        request: InPlaceRequest,
    ) -> Result<InPlace, ApiError> {
        self.app.may_migrate()?;
        let restored = self.app.runner.restore_in_place(&database, request).await;
        restored.map_err(|error| no_backup(&error))
    }

    async fn repair_migration(
        &self,
        database: String,
        request: RepairRequest,
    ) -> Result<RepairReport, ApiError> {
        self.app.may_migrate()?;
        let report = self.app.runner.repair(&database, request).await;
        report.map_err(|error| {
            let text = format!("{error}.");
            match error {
                RepairError::Busy(_) => ApiError::conflict("busy", text),
                RepairError::History(_) | RepairError::Lost => {
                    ApiError::unavailable("no_history", text)
                }
            }
        })
    }

    async fn verify_migration(
        &self,
        database: String,
        request: VerifyRequest,
    ) -> Result<VerifyReport, ApiError> {
        let report = self.app.runner.verify(&database, &request).await;
        report.map_err(unanswered)
    }

    async fn migration_drift(
        &self,
        database: String,
        request: DriftRequest,
    ) -> Result<DriftReport, ApiError> {
        self.app.may_migrate()?;
        let report = self.app.runner.drift(&database, &request).await;
        report.map_err(|error| {
            let text = format!("{error}.");
            match error {
                DriftError::Invalid(_) => ApiError::bad_request(text),
                DriftError::Busy(_) => ApiError::conflict("busy", text),
                DriftError::History(_) => ApiError::unavailable("no_history", text),
            }
        })
    }

    async fn saved_objects(&self, database: String, run: String) -> Result<SavedObjects, ApiError> {
        let saved = self.app.runner.saved_objects(&database, &run).await;
        saved.map_err(|error| not_replayed(&error))
    }

    async fn replay_objects(
        &self,
        database: String,
        request: ReplayRequest,
    ) -> Result<Replayed, ApiError> {
        self.app.may_migrate()?;
        let replayed = self.app.runner.replay(&database, request).await;
        replayed.map_err(|error| not_replayed(&error))
    }

    async fn migration_status(
        &self,
        database: String,
        request: StatusRequest,
    ) -> Result<StatusReport, ApiError> {
        let status = self.app.runner.status(&database, &request).await;
        status.map_err(unanswered)
    }

    async fn plan_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> Result<PlanReport, ApiError> {
        let report = self.app.runner.plan(&database, &request).await;
        report.map_err(unanswered)
    }

    async fn lint_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> Result<LintReport, ApiError> {
        let report = self.app.runner.lint(&database, &request).await;
        report.map_err(unanswered)
    }

    async fn preflight_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> Result<PreflightReport, ApiError> {
        let report = self.app.runner.preflight(&database, &request).await;
        report.map_err(unanswered)
    }

    async fn migration_report(
        &self,
        database: String,
        run: Option<String>,
    ) -> Result<Account, ApiError> {
        let account = self.app.runner.account(&database, run.as_deref()).await;
        account.map_err(unanswered)?.ok_or_else(|| {
            let which = run.map_or_else(|| "no run".to_owned(), |run| format!("no run {run}"));
            ApiError::not_found(format!("Nobody knows of {which} in {database}."))
        })
    }

    async fn unwatch(&self, database: String) -> Result<WatchView, ApiError> {
        let ended = self.app.runner.unwatch(&database);
        let view = self.app.runner.watching(&database).filter(|_| ended);
        let text = format!("No migration of {database} is watched.");
        view.ok_or_else(|| ApiError::conflict("over", text))
    }

    async fn migrations(&self, database: String) -> Result<Migrations, ApiError> {
        let migrations = self.app.runner.list(&database);
        Ok(Migrations { migrations })
    }

    async fn migration(&self, id: String, after: u64, wait: Duration) -> Result<RunView, ApiError> {
        let view = self.app.runner.follow(&id, after, wait).await;
        view.ok_or_else(|| ApiError::not_found(format!("There is no migration {id} here.")))
    }

    async fn order_window(
        &self,
        database: String,
        order: WindowOrder,
        caller: Caller,
    ) -> Result<WindowTaken, ApiError> {
        self.app.order_window(database, order, caller).await
    }

    async fn windows(&self, databases: Databases) -> WindowViews {
        self.app.windows(&databases)
    }

    async fn window(&self, id: String, after: u64, wait: Duration) -> Result<WindowView, ApiError> {
        self.app.window(&id, after, wait).await
    }

    fn follow_window(&self, id: String) -> Result<Feed, ApiError> {
        self.app.follow_window(&id)
    }

    async fn command_window(
        &self,
        id: String,
        command: steps::Command,
        body: WindowCommand,
        caller: Caller,
    ) -> Result<WindowView, ApiError> {
        self.app.command_window(&id, command, &body, &caller)
    }

    async fn cancel_migration(
        &self,
        id: String,
        request: CancelRequest,
    ) -> Result<Cancelling, ApiError> {
        let by = request.by.as_deref().unwrap_or("unknown");
        if self.app.runner.cancel(&id, by) {
            Ok(Cancelling { id })
        } else {
            Err(ApiError::conflict(
                "over",
                format!("Migration {id} does not run."),
            ))
        }
    }

    async fn approve(
        &self,
        database: String,
        request: ApproveRequest,
    ) -> Result<Approval, ApiError> {
        self.app.may_migrate()?;
        let done = self.app.runner.approve(&database, &request).await;
        done.map_err(not_written)
    }

    async fn approvals(
        &self,
        database: String,
        plan: Option<String>,
    ) -> Result<Approvals, ApiError> {
        let done = self.app.runner.approvals(&database, plan.as_deref()).await;
        done.map_err(not_written)
    }

    async fn revoke(&self, database: String, request: RevokeRequest) -> Result<Approval, ApiError> {
        self.app.may_migrate()?;
        let done = self.app.runner.revoke(&database, &request).await;
        done.map_err(not_written)
    }

    async fn gonogo(&self, database: String, request: GoNoGoRequest) -> Result<GoNoGo, ApiError> {
        let done = self.app.runner.gonogo(&database, &request).await;
        done.map_err(unanswered)
    }

    async fn decide(&self, database: String, request: DecideRequest) -> Result<Decision, ApiError> {
        self.app.may_migrate()?;
        let done = self.app.runner.decide(&database, &request).await;
        done.map_err(not_written)
    }

    async fn acknowledge(
        &self,
        id: String,
        request: CancelRequest,
    ) -> Result<Acknowledged, ApiError> {
        let by = request.by.unwrap_or_else(|| "unknown".to_owned());
        if self.app.runner.acknowledge(&id, &by) {
            Ok(Acknowledged { id, by })
        } else {
            Err(ApiError::not_found(format!(
                "There is no migration {id} here."
            )))
        }
    }
}

/// The run that was started, or why none was.
fn started(id: Result<String, StartError>) -> Result<MigrationStarted, ApiError> {
    match id {
        Ok(id) => Ok(MigrationStarted { id }),
        Err(error @ StartError::Busy { .. }) => {
            Err(ApiError::conflict("busy", format!("{error}.")))
        }
        Err(error @ StartError::Invalid(_)) => Err(ApiError::bad_request(format!("{error}."))),
    }
}

/// Why nothing was approved, revoked or decided, or nobody can say.
fn not_written(error: ApprovalError) -> ApiError {
    let text = format!("{error}.");
    match error {
        ApprovalError::Invalid(_) => ApiError::bad_request(text),
        ApprovalError::NoRun(_) => ApiError::not_found(text),
        ApprovalError::Nothing(_) => ApiError::conflict("nothing_to_do", text),
        ApprovalError::History(_) => ApiError::unavailable("no_history", text),
    }
}

/// Why there is no answer about backups, or nothing was restored.
fn no_backup(error: &BackupError) -> ApiError {
    let text = format!("{error}.");
    match error {
        BackupError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ApiError::not_found(text)
        }
        BackupError::NotConfigured => ApiError::conflict("no_backups", text),
        BackupError::Refused(_)
        | BackupError::File { .. }
        | BackupError::Program(_)
        | BackupError::Connect(_)
        | BackupError::Server { .. }
        | BackupError::Different(_)
        | BackupError::Stopped(_) => ApiError::conflict("not_restored", text),
    }
}

/// Why saved objects are not shown, or none was put back.
fn not_replayed(error: &SavedError) -> ApiError {
    let text = format!("{error}.");
    match error {
        SavedError::NotFound(_) => ApiError::not_found(text),
        SavedError::Server { .. } | SavedError::Different(_) => {
            ApiError::conflict("not_replayed", text)
        }
        SavedError::History(LedgerError::Lock(_)) => ApiError::conflict("busy", text),
        SavedError::History(_) | SavedError::Connect(_) => {
            ApiError::unavailable("no_history", text)
        }
    }
}

/// Why a question about migrations has no answer.
fn unanswered(error: StatusError) -> ApiError {
    let text = format!("{error}.");
    match error {
        StatusError::Invalid(_) => ApiError::bad_request(text),
        StatusError::History(_) => ApiError::unavailable("no_history", text),
        StatusError::Survey(_) => ApiError::unavailable("no_catalog", text),
    }
}

pub(super) fn refused<T>(result: &Result<T, ApiError>) -> Option<&str> {
    result.as_ref().err().map(|error| error.message.as_str())
}

pub(super) fn target(databases: &Databases) -> Target {
    match databases {
        Databases::All => Target::Everywhere,
        Databases::One(name) => Target::Database(name.clone()),
    }
}
