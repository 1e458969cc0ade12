//! Sessions as an operator sees them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::words;

words! {
    /// What a session does.
    SessionState {
        /// It proves who it is.
        Login = "login",
        /// It is outside a transaction and asks nothing.
        Idle = "idle",
        /// It waits for the answer to a statement.
        Active = "active",
        /// It is inside a transaction and asks nothing.
        InTransaction = "in_transaction",
        /// Its next transaction waits at the gate.
        Held = "held",
        /// It ends.
        Closing = "closing",
        /// Its transaction was aborted in place, and it has not ended it yet.
        Aborted = "aborted",
        /// It was told that its transaction block has begun; the server does not know of it yet.
        Deferred = "deferred",
    }
}

words! {
    /// What a replication connection is for.
    ReplicationKind {
        /// The log of the whole cluster, and base backups.
        Physical = "physical",
        /// The changes of one database.
        Logical = "logical",
    }
}

/// Answer of `GET /v1/databases/{db}/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Every session, oldest first.
    pub sessions: Vec<SessionView>,
}

/// One client and its server connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its number, counted from the start of the process.
    pub id: u64,
    /// The server's process id, which is what `pg_backend_pid()` tells the client.
    pub pid: Option<i32>,
    /// The database.
    pub database: String,
    /// The database user.
    pub user: String,
    /// What the client calls itself.
    pub application_name: String,
    /// `physical` or `logical` when it was opened for replication; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationKind>,
    /// The client's address.
    pub client: String,
    /// What it does.
    pub state: SessionState,
    /// When it was accepted.
    pub connected_at: Timestamp,
    /// How old its transaction is.
    pub transaction_age_ms: Option<u64>,
    /// When its statement began.
    pub statement_started_at: Option<Timestamp>,
    /// How long it has waited at the gate.
    pub held_ms: Option<u64>,
    /// Transactions that ended.
    pub transactions: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// The server it is on, as `host:port`.
    pub server: String,
    /// The window it works in; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}
