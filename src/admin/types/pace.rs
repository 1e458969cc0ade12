//! The last minutes of a database, for lines over time.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/databases/{db}/pace`: what was seen at regular looks, at most the last five minutes of
/// them. The lists are as long as one another and end with the last look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceView {
    /// The database.
    pub database: String,
    /// The time between two looks.
    pub every_ms: u64,
    /// Transactions that ran.
    pub running: Vec<u32>,
    /// How long the oldest of them had run.
    pub longest_ms: Vec<u64>,
    /// Clients that waited, at whichever gate.
    pub waiting: Vec<u64>,
    /// Transactions that had ended since the start; `null` where they were not counted.
    pub transactions: Vec<Option<u64>>,
    /// The mean time in microseconds of the statements that were timed since the look before; `null` where
    /// none was, as when nobody measures.
    #[serde(default)]
    pub latency_us: Vec<Option<u64>>,
}
