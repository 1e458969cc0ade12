//! What the runner needs of the proxy: to be alone in a database for a while, or alone to write.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::types::StepTraffic;
use crate::config::{AskedLadder, Bypass, Scope, Secret};
use crate::metrics::statements::Measured;

/// Opens and ends windows.
pub trait Traffic: Send + Sync + 'static {
    /// Holds, drains, and makes the window exclusive (or the only one to write, as asked).
    ///
    /// Dropping the future gives the window back: traffic runs again.
    fn begin(&self, request: WindowRequest) -> impl Future<Output = Result<Grant, Refused>> + Send;

    /// How many transactions of a database have ended since the proxy began; `None` if nobody knows.
    fn transactions(&self, _database: &str) -> Option<u64> {
        None
    }

    /// Measures the statements of a database from now on, for at least this long, those of one in so many
    /// transactions.
    fn measure(&self, _database: &str, _lasting: Duration, _one_in: u32) {}

    /// What was measured of the statements of a database; `None` if nobody measures.
    fn measured(&self, _database: &str) -> Option<Measured> {
        None
    }

    /// How long the statement has run that runs longest in a database, of those that came through the
    /// proxy; `None` if nobody knows.
    fn longest_statement(&self, _database: &str) -> Option<Duration> {
        None
    }

    /// What clients feel of a window now; `None` if nobody can tell.
    fn felt(&self, _grant: &Grant) -> Option<Felt> {
        None
    }

    /// Lets one scope into the database of a window that still holds everybody else, and whoever shows the
    /// key that it gives back.
    ///
    /// # Errors
    /// When nobody can be let in, in a sentence.
    fn begin_canary(
        &self,
        _grant: &Grant,
        _scope: Option<Scope>,
    ) -> impl Future<Output = Result<CanaryDoor, String>> + Send {
        async { Err("nobody can be let in here".to_owned()) }
    }

    /// Ends the connections of a canary; false when one of them would not end.
    fn end_canary(&self, _grant: &Grant) -> impl Future<Output = bool> + Send {
        async { true }
    }

    /// Holds the traffic of a database until somebody has looked.
    ///
    /// # Errors
    /// When it cannot be held, in a sentence.
    fn hold(&self, _database: &str, _why: &str) -> impl Future<Output = Result<(), String>> + Send {
        async { Err("nobody can hold traffic here".to_owned()) }
    }

    /// Ends the window. Called exactly once for each grant, unless the process dies or the run
    /// panics; a grant that is dropped instead ends as its own deadline says.
    fn finish(&self, grant: Grant, finish: Finish) -> impl Future<Output = ()> + Send;
}

/// The traffic of a database that nobody else uses: every window is granted at once, and none is
/// lost.
#[derive(Debug, Default)]
pub struct Nobody {
    lost: watch::Sender<Option<String>>,
}

impl Traffic for Nobody {
    async fn begin(&self, request: WindowRequest) -> Result<Grant, Refused> {
        Ok(Grant {
            id: request.run,
            ends_at: Instant::now() + request.duration,
            lost: self.lost.subscribe(),
            report: serde_json::Value::Null,
        })
    }

    async fn finish(&self, _grant: Grant, _finish: Finish) {}
}

/// What is asked of a window.
#[derive(Clone, Debug)]
pub struct WindowRequest {
    /// The database to be alone in.
    pub database: String,
    /// How long the window may last, counted from the hold.
    pub duration: Duration,
    /// What traffic it lets through: nothing, or what reads. Never everything.
    pub traffic: StepTraffic,
    /// How running transactions are ended.
    pub drain: AskedLadder,
    /// What is done about sessions that did not come through the proxy; `None` is as configured.
    pub bypass: Option<Bypass>,
    /// Whether the server keeps new sessions out meanwhile; `None` is as configured.
    pub fence: Option<bool>,
    /// Why, for logs and for those who wait.
    pub reason: Option<String>,
    /// Who asks.
    pub by: String,
    /// The run, to tell apart windows in logs and in the journal.
    pub run: String,
    /// Where to tell how far it is.
    pub progress: Progress,
}

/// A window that was granted: nobody else runs a transaction in the database.
#[derive(Debug)]
pub struct Grant {
    /// The window.
    pub id: String,
    /// When it ends by itself.
    pub ends_at: Instant,
    /// Becomes `Some` with the reason when the window is lost before that; a dropped sender means
    /// the same.
    pub lost: watch::Receiver<Option<String>>,
    /// What the drain has to say, for the report.
    pub report: serde_json::Value,
}

/// Where the commands of a canary come in.
#[derive(Debug)]
pub struct CanaryDoor {
    /// What libpq calls `PGHOST` and `PGPORT`.
    pub address: (String, u16),
    /// What it calls `PGOPTIONS`: with it a connection passes the closed gate.
    pub options: Secret,
}

/// What clients feel of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Felt {
    /// Clients whose next transaction waits.
    pub held: u64,
    /// How long the longest of them has waited, in milliseconds.
    pub longest_ms: u64,
}

/// What happens to those who wait when a window ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// They are let in.
    Reopen,
    /// They stay held, for the reason given, until somebody decides.
    StayHeld(String),
}

/// Why a window was not granted. Traffic runs (or is held by somebody else) as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// A sentence for people.
    pub message: String,
    /// What the drain has to say: who was in the way.
    pub report: serde_json::Value,
}

/// How far a window is on its way to being exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowStage {
    /// Transactions no longer start.
    Holding,
    /// Waiting for those that run.
    Draining,
}

/// Takes the news of a window that is being opened.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(WindowStage, String) + Send + Sync>);

impl Progress {
    /// Calls a function with each piece of news.
    pub fn new(tell: impl Fn(WindowStage, String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells a piece of news in a sentence.
    pub fn tell(&self, stage: WindowStage, text: impl Into<String>) {
        (self.0)(stage, text.into());
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
