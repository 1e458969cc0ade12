//! What a drain has to say: how far it is, and who was in its way.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::words;

words! {
    /// How far a drain is, or how it ended.
    DrainOutcome {
        /// Something still runs.
        Draining = "draining",
        /// Nothing runs: counted by us and seen in the server.
        Drained = "drained",
        /// Nothing runs by our count, but the server could not be asked.
        Unproved = "unproved",
        /// The ladder ended before what ran did.
        Exhausted = "exhausted",
        /// The hold ended first.
        Ended = "ended",
    }
}

words! {
    /// The step that a drain's ladder is on.
    DrainStep {
        /// Transactions may end by themselves.
        Wait = "wait",
        /// Statements were cancelled.
        Cancel = "cancel",
        /// Sessions were terminated.
        Terminate = "terminate",
    }
}

/// How a drain goes, or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainReport {
    /// How far it is.
    pub outcome: DrainOutcome,
    /// The step it is on, or ended on.
    pub step: DrainStep,
    /// When transactions could no longer start.
    pub held_at: Timestamp,
    /// When the last transaction of ours ended.
    pub last_permit_released_at: Option<Timestamp>,
    /// When it was proved that nothing runs.
    pub drained_at: Option<Timestamp>,
    /// Who was waited for.
    pub waited_for: Vec<Blocker>,
    /// Whose statement was cancelled.
    pub cancelled: Vec<Blocker>,
    /// Whose session was terminated.
    pub terminated: Vec<Blocker>,
    /// Who works in the database without coming through us.
    pub bypass: Vec<Blocker>,
    /// The same in a sentence.
    pub detail: String,
}

/// A session that stood in the way of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// The server's process id.
    pub pid: i32,
    /// The database user.
    pub user: String,
    /// What the client calls itself.
    pub application_name: String,
    /// The client's address.
    pub client: String,
    /// Its state, in the server's words where the server was asked (`pg_stat_activity.state`).
    pub state: String,
    /// How old its transaction was.
    pub transaction_age_ms: Option<u64>,
    /// When its statement began.
    pub statement_started_at: Option<Timestamp>,
}
