//! Gates for some clients, and caps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::mode::HoldStatus;
use crate::config::{AskedCap, HumanDuration, Scope};

/// A closed gate for some clients of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScopeStatus {
    /// Whom it is for.
    pub scope: Scope,
    /// Why it is closed.
    pub holds: Vec<HoldStatus>,
    /// Clients that wait at it.
    pub held: u64,
    /// How long the longest of them has waited.
    pub oldest_wait_ms: Option<u64>,
    /// Transactions of such clients that still run.
    pub permits: u64,
}

/// How a database is capped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapStatus {
    /// The most transactions at once.
    pub transactions: u32,
    /// When it ends.
    pub until: Option<Timestamp>,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Body of `PUT /v1/databases/{db}/cap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapRequest {
    /// A number, a part such as `50%` of the most that were seen at once in the last minute, or `off`.
    pub transactions: AskedCap,
    /// Its own end, from now; that of holds when absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<HumanDuration>,
    /// Why, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `PUT /v1/databases/{db}/cap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapResult {
    /// The database.
    pub database: String,
    /// The cap that is on now; absent when there is none.
    pub cap: Option<CapStatus>,
}
