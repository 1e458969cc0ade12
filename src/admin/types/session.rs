//! Sessions as an operator sees them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{HumanDuration, words};

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

words! {
    /// By what a list of sessions is sorted.
    SessionSort {
        /// By number: the oldest session first.
        Id = "id",
        /// The oldest transaction first; sessions outside of one behind them.
        Transaction = "transaction",
        /// Who has waited longest at the gate first.
        Held = "held",
        /// Who has ended most transactions first.
        Transactions = "transactions",
        /// Who has sent most first.
        BytesIn = "bytes_in",
        /// Who was sent most first.
        BytesOut = "bytes_out",
        /// By the user's name.
        User = "user",
        /// By `application_name`.
        Application = "application",
    }
}

/// Where a client is, as a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAt {
    /// In this network.
    Net(IpNet),
    /// On our Unix socket.
    Unix,
}

/// Not the name of a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no address, no network such as 10.0.0.0/8, and not \"unix\"")]
pub struct NotAPlace(String);

impl FromStr for ClientAt {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse::<IpNet>();
        net.or_else(|_no_net| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self::Net)
            .map_err(|_no_address| NotAPlace(text.to_owned()))
    }
}

impl std::fmt::Display for ClientAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Which sessions are listed, and in what order. What is not said matches every session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionsQuery {
    /// What they do.
    pub state: Option<SessionState>,
    /// Their user.
    pub user: Option<String>,
    /// Their `application_name`.
    pub application: Option<String>,
    /// Where their clients are.
    pub address: Option<ClientAt>,
    /// Their transaction has run, or they have waited at the gate, for longer than this.
    pub longer_than: Option<HumanDuration>,
    /// The order; by number if that is not said.
    pub sort: Option<SessionSort>,
    /// How many at most; all if that is not said. The admin HTTP always says it.
    pub limit: Option<usize>,
    /// [`Sessions::next`] of the page before.
    pub cursor: Option<String>,
}

/// Answer of `GET /v1/databases/{db}/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Those that were asked for, in the order that was asked for.
    pub sessions: Vec<SessionView>,
    /// How many match, on whichever page.
    #[serde(default)]
    pub total: u64,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
