//! The JSON of the admin HTTP, the same for the server and the command line.
//!
//! Times are RFC 3339 in UTC, durations are whole milliseconds in keys that end in `_ms`, and
//! durations in requests are text such as `5m`. Requests refuse unknown keys, so that a misspelt one
//! is not silently ignored; answers may grow new keys.

mod action;
mod caller;
mod config;
mod drain;
mod endpoints;
mod events;
mod gates;
mod migration;
mod mode;
mod pace;
mod precheck;
mod present;
mod read_only;
mod running;
mod session;
mod shutdown;
mod statements;
mod window;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::window::fence::FenceStatus;
pub use crate::window::generations::FormerView;
pub use action::{Action, ActionRequest, Effect, SessionActed};
pub use caller::CallerView;
pub use config::{ConfigChecked, ConfigProblem, ConfigReloaded, ConfigView, Setting};
pub use drain::{Blocker, DrainOutcome, DrainReport, DrainStep, Obstacle};
pub use endpoints::Endpoints;
pub use events::{Event, EventKind, Events, ToldEvent};
pub use gates::{CapRequest, CapResult, CapStatus, ScopeStatus};
pub use migration::{Acknowledged, CancelRequest, Cancelling, MigrationStarted, Migrations};
pub use mode::{
    HoldRequest, HoldStatus, Holder, ModeName, ModeRequest, ModeResult, ModeResults, OpenRequest,
    StandingHold,
};
pub use pace::PaceView;
pub use precheck::{DrainRequest, Fate, Finding, FindingKind, Forecast, Precheck, PrecheckQuery};
pub use present::{IfMatch, ModeState, ModeStates};
pub use read_only::{Enforcement, ReadOnlyRequest};
pub use running::{PIDS_MAX, RunningStatement, RunningStatements};
pub use session::{
    ClientAt, ReplicationKind, SessionSort, SessionState, SessionView, Sessions, SessionsQuery,
};
pub use shutdown::Shutdown;
pub use statements::{MeasureRequest, StatementsView};
pub use window::{
    After, IfBusy, Stage, Why, WindowCommand, WindowMode, WindowOrder, WindowTaken, WindowView,
    WindowViews,
};

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the running program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// The server, as `host:port`; several are parted by commas.
    pub upstream: String,
    /// The directory of its state.
    pub state_dir: String,
    /// Every database that has a gate, by name.
    pub databases: Vec<DatabaseStatus>,
    /// Holds on every database, those included that no client has come to yet. What they do to the others is
    /// at those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standing: Vec<StandingHold>,
    /// The process that this one took over from, as long as it serves sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<FormerView>,
    /// Once it was told to stop: what becomes of clients until it has, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
}

/// How one database is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub database: String,
    /// What its gate does now.
    pub mode: ModeName,
    /// Names its mode and its holds: the `ETag` of its mode.
    #[serde(default)]
    pub tag: String,
    /// Why it is held; empty when open.
    pub holds: Vec<HoldStatus>,
    /// Holds on some of its clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ScopeStatus>,
    /// How many transactions may run at once, if that is capped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<CapStatus>,
    /// Clients that are connected.
    pub sessions: u64,
    /// Of these, how many are inside a transaction.
    pub in_transaction: u64,
    /// Of these, how many wait, at whichever gate.
    pub held: u64,
    /// How long the longest of them has waited.
    pub oldest_wait_ms: Option<u64>,
    /// Transactions that run with a permit.
    pub permits: u64,
    /// Transactions that ended since the start.
    pub transactions_total: u64,
    /// Bytes from its clients since the start.
    #[serde(default)]
    pub bytes_in_total: u64,
    /// Bytes to its clients since the start.
    #[serde(default)]
    pub bytes_out_total: u64,
    /// Its server, as `host:port`; several that are tried in turn are parted by commas.
    #[serde(default)]
    pub server: String,
    /// The fence around it, if the server keeps new sessions out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceStatus>,
    /// The migration that runs.
    pub migration: Option<String>,
}

/// Body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
    /// What was reached all the same; only where a mode was to be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ModeResult>,
    /// How the mode is that was to be changed; only where it is another one than `If-Match` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<Box<ModeStates>>,
    /// What is wrong with a configuration; only where one was to be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ConfigProblem>,
}

/// What went wrong, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A word that stays the same from version to version, such as `not_found`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// Answer of `GET /healthz` and `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok` or `ready`.
    pub status: String,
}
