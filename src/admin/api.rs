//! What the admin HTTP needs of the program behind it.

use std::future::Future;
use std::time::Duration;

use hyper::StatusCode;

use super::caller::Caller;
use super::sse::Feed;
use super::surface::Surface;
use super::types::{
    Acknowledged, CancelRequest, Cancelling, CapRequest, CapResult, ConfigProblem, DrainRequest,
    ErrorBody, ErrorDetail, Events, MeasureRequest, MigrationStarted, Migrations, ModeRequest,
    ModeResult, ModeResults, ModeStates, Precheck, PrecheckQuery, Sessions, SessionsQuery,
    StatementsView, Status, WindowCommand, WindowOrder, WindowTaken, WindowView, WindowViews,
};
use super::types::{PaceView, RunningStatements};
use crate::runner::account::Account;
use crate::runner::aftermath::WatchView;
use crate::runner::approvals::{
    Approval, Approvals, ApproveRequest, DecideRequest, Decision, RevokeRequest,
};
use crate::runner::backup::{Backups, Pruned, RestoreRequest, Restored};
use crate::runner::drift::{DriftReport, DriftRequest};
use crate::runner::gonogo::{GoNoGo, GoNoGoRequest};
use crate::runner::lint::LintReport;
use crate::runner::plan::PlanReport;
use crate::runner::preflight::PreflightReport;
use crate::runner::rehearse::RehearseRequest;
use crate::runner::repair::{RepairReport, RepairRequest};
use crate::runner::restore::{InPlace, InPlaceRequest};
use crate::runner::saved::{ReplayRequest, Replayed, SavedObjects};
use crate::runner::types::{MigrationRequest, PlanRequest, RunView, StatusReport, StatusRequest};
use crate::runner::verify::{VerifyReport, VerifyRequest};
use crate::window::steps::Command;

/// The program behind the admin HTTP.
///
/// Cancel safety: a future is dropped when its caller goes away or pgdrain stops. What a call has
/// begun must therefore go on by itself; the future only waits for news of it.
pub trait Api: Surface + Send + Sync + 'static {
    /// Whether clients are served.
    fn ready(&self) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// The text of all metrics.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// How everything is.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// The sessions of a database, as far as they are asked for.
    fn sessions(
        &self,
        databases: Databases,
        query: SessionsQuery,
    ) -> impl Future<Output = Result<Sessions, ApiError>> + Send;

    /// Holds or opens; answers at once, or when the drain ended.
    ///
    /// A hold that was waited for and is not drained is an error with the results in it.
    fn set_mode(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
    ) -> impl Future<Output = Result<ModeResults, ApiError>> + Send;

    /// Gives the drains under way another ladder.
    fn change_drain(
        &self,
        databases: Databases,
        request: DrainRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<ModeResults, ApiError>> + Send;

    /// What would stand in the way of a window.
    fn precheck(
        &self,
        database: String,
        query: PrecheckQuery,
    ) -> impl Future<Output = Precheck> + Send;

    /// What was done to traffic behind the event `after`; waits for news at most `wait`.
    fn events(&self, after: u64, wait: Duration) -> impl Future<Output = Events> + Send;

    /// The same, and all that is to come.
    fn follow_events(&self, after: u64) -> Feed;

    /// Caps how many transactions run at once, or takes the cap off.
    fn cap(
        &self,
        database: String,
        request: CapRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<CapResult, ApiError>> + Send;

    /// What was measured of the statements of a database: those that took most time, so many at most.
    fn statements(
        &self,
        database: String,
        most: usize,
    ) -> impl Future<Output = StatementsView> + Send;

    /// Measures the statements of a database for a time, or no more.
    fn measure_statements(
        &self,
        database: String,
        request: MeasureRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<StatementsView, ApiError>> + Send;

    /// Starts a migration in the proxy's process and answers at once.
    fn start_migration(
        &self,
        database: String,
        request: MigrationRequest,
    ) -> impl Future<Output = Result<MigrationStarted, ApiError>> + Send;

    /// Where each file stands in a database.
    fn migration_status(
        &self,
        database: String,
        request: StatusRequest,
    ) -> impl Future<Output = Result<StatusReport, ApiError>> + Send;

    /// What a migration would do. Writes nothing.
    fn plan_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> impl Future<Output = Result<PlanReport, ApiError>> + Send;

    /// What is wrong with the files that a migration would run. Writes nothing.
    fn lint_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> impl Future<Output = Result<LintReport, ApiError>> + Send;

    /// Every check that a migration makes before it. Writes nothing.
    fn preflight_migration(
        &self,
        database: String,
        request: PlanRequest,
    ) -> impl Future<Output = Result<PreflightReport, ApiError>> + Send;

    /// Starts a rehearsal in the proxy's process and answers at once.
    fn rehearse_migration(
        &self,
        database: String,
        request: RehearseRequest,
    ) -> impl Future<Output = Result<MigrationStarted, ApiError>> + Send;

    /// The backups of a database.
    fn backups(&self, database: String) -> impl Future<Output = Result<Backups, ApiError>> + Send;

    /// Removes backups that need not be kept.
    fn prune_backups(
        &self,
        database: String,
    ) -> impl Future<Output = Result<Pruned, ApiError>> + Send;

    /// Restores a backup into a database that is made for it; answers when it is there.
    fn restore_backup(
        &self,
        database: String,
        request: RestoreRequest,
    ) -> impl Future<Output = Result<Restored, ApiError>> + Send;

    /// Puts a backup in the place of its database, or says what would be lost by that.
    fn restore_in_place(
        &self,
        database: String,
        request: InPlaceRequest,
    ) -> impl Future<Output = Result<InPlace, ApiError>> + Send;

    /// Looks at migrations that stand part-way, and writes down what is true.
    fn repair_migration(
        &self,
        database: String,
        request: RepairRequest,
    ) -> impl Future<Output = Result<RepairReport, ApiError>> + Send;

    /// Whether a database is as it should be after its migrations. Writes nothing.
    fn verify_migration(
        &self,
        database: String,
        request: VerifyRequest,
    ) -> impl Future<Output = Result<VerifyReport, ApiError>> + Send;

    /// Whether the schema is what the last run left; accepts it if asked to.
    fn migration_drift(
        &self,
        database: String,
        request: DriftRequest,
    ) -> impl Future<Output = Result<DriftReport, ApiError>> + Send;

    /// The views, policies, grants ... that were saved before a run.
    fn saved_objects(
        &self,
        database: String,
        run: String,
    ) -> impl Future<Output = Result<SavedObjects, ApiError>> + Send;

    /// Puts saved objects back, or says what that would be; answers when it is done.
    fn replay_objects(
        &self,
        database: String,
        request: ReplayRequest,
    ) -> impl Future<Output = Result<Replayed, ApiError>> + Send;

    /// The account of a run of a database, or of its last one.
    fn migration_report(
        &self,
        database: String,
        run: Option<String>,
    ) -> impl Future<Output = Result<Account, ApiError>> + Send;

    /// Ends the watch after the last migration of a database.
    fn unwatch(&self, database: String)
    -> impl Future<Output = Result<WatchView, ApiError>> + Send;

    /// The migrations of a database that are remembered.
    fn migrations(
        &self,
        database: String,
    ) -> impl Future<Output = Result<Migrations, ApiError>> + Send;

    /// A migration and its events behind the sequence number `after`; waits for news at most `wait`.
    fn migration(
        &self,
        id: String,
        after: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<RunView, ApiError>> + Send;

    /// Takes an order for a window and answers at once.
    fn order_window(
        &self,
        database: String,
        order: WindowOrder,
        caller: Caller,
    ) -> impl Future<Output = Result<WindowTaken, ApiError>> + Send;

    /// The windows that are remembered.
    fn windows(&self, databases: Databases) -> impl Future<Output = WindowViews> + Send;

    /// A window; waits for news behind the sequence number `after`, at most `wait`.
    fn window(
        &self,
        id: String,
        after: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<WindowView, ApiError>> + Send;

    /// The same as it changes, until it is over.
    fn follow_window(&self, id: String) -> Result<Feed, ApiError>;

    /// Renews a window, finishes it, or gives it up, and answers at once.
    fn command_window(
        &self,
        id: String,
        command: Command,
        body: WindowCommand,
        caller: Caller,
    ) -> impl Future<Output = Result<WindowView, ApiError>> + Send;

    /// Asks a migration to stop and answers at once.
    fn cancel_migration(
        &self,
        id: String,
        request: CancelRequest,
    ) -> impl Future<Output = Result<Cancelling, ApiError>> + Send;

    /// Takes down that somebody looks after a migration.
    fn acknowledge(
        &self,
        id: String,
        request: CancelRequest,
    ) -> impl Future<Output = Result<Acknowledged, ApiError>> + Send;

    /// Takes down that a plan is approved.
    fn approve(
        &self,
        database: String,
        request: ApproveRequest,
    ) -> impl Future<Output = Result<Approval, ApiError>> + Send;

    /// What was approved, of one plan or of all.
    fn approvals(
        &self,
        database: String,
        plan: Option<String>,
    ) -> impl Future<Output = Result<Approvals, ApiError>> + Send;

    /// Takes an approval back.
    fn revoke(
        &self,
        database: String,
        request: RevokeRequest,
    ) -> impl Future<Output = Result<Approval, ApiError>> + Send;

    /// What speaks for and against running the files up. Writes nothing.
    fn gonogo(
        &self,
        database: String,
        request: GoNoGoRequest,
    ) -> impl Future<Output = Result<GoNoGo, ApiError>> + Send;

    /// What sessions with these process ids run.
    fn running(
        &self,
        database: String,
        pids: Vec<i32>,
    ) -> impl Future<Output = Result<RunningStatements, ApiError>> + Send;

    /// The last minutes of a database.
    fn pace(&self, database: String) -> impl Future<Output = Result<PaceView, ApiError>> + Send;

    /// Takes down what is to be done about a migration that failed.
    fn decide(
        &self,
        database: String,
        request: DecideRequest,
    ) -> impl Future<Output = Result<Decision, ApiError>> + Send;
}

/// The code of that error.
pub(super) const TOO_MANY_FAILURES: &str = "too_many_failures";

/// Which databases a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    /// Every one, those that come later too: `*` in a path.
    All,
    /// This one.
    One(String),
}

impl Databases {
    pub(super) fn from_path(name: String) -> Self {
        match name.as_str() {
            "*" => Self::All,
            _ => Self::One(name),
        }
    }
}

/// When a request for a mode is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As soon as the gates know.
    AtOnce,
    /// When the drain ended, well or not.
    WhenDrained,
}

/// An error that is answered with a status, a code and a sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A word that stays the same from version to version.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// What was reached all the same.
    pub results: Vec<ModeResult>,
    /// How the mode is that was to be changed.
    pub present: Option<Box<ModeStates>>,
    /// What is wrong with a configuration.
    pub problems: Vec<ConfigProblem>,
}

impl ApiError {
    /// An error without results.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            results: Vec::new(),
            present: None,
            problems: Vec::new(),
        }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: it is not known who asks, and it has to be.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: who asks may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 429: who asks was wrong too often about who it is.
    pub fn too_many_failures() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            TOO_MANY_FAILURES,
            "Too many tokens from this address were wrong; wait a minute.",
        )
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 404: there is no such database.
    pub fn no_database(name: &str) -> Self {
        Self::not_found(format!("There is no database called {name:?}."))
    }

    /// 409: it cannot be done as things are.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 503: not now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 409 `not_drained`: it was waited for, and it did not come to pass.
    pub fn not_drained(message: impl Into<String>, results: Vec<ModeResult>) -> Self {
        Self {
            results,
            ..Self::conflict("not_drained", message)
        }
    }

    /// 412 `changed`: it was to be done to another state than this.
    pub fn changed(present: ModeStates) -> Self {
        let message = "The mode is not the one that If-Match names: nothing was done.";
        Self {
            present: Some(Box::new(present)),
            ..Self::new(StatusCode::PRECONDITION_FAILED, "changed", message)
        }
    }

    /// 422 `invalid_config`: everything that is wrong with a configuration.
    pub fn invalid_config(message: impl Into<String>, problems: Vec<ConfigProblem>) -> Self {
        Self {
            problems,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_config", message)
        }
    }

    pub(super) fn into_body(self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.to_owned(),
                message: self.message,
            },
            results: self.results,
            present: self.present,
            problems: self.problems,
        }
    }
}
