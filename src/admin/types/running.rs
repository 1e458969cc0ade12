//! What sessions run.

use serde::{Deserialize, Serialize};

/// The most process ids of one question.
pub const PIDS_MAX: usize = 200;

/// Answer of `GET /v1/databases/{db}/running?pids=1,2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatements {
    /// Those that the server knows of; by process id.
    pub statements: Vec<RunningStatement>,
}

/// What one session runs, or ran last. The text is the client's own: it may hold what its application put into
/// it, and is to be shown as text and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatement {
    /// The server's process id.
    pub pid: i32,
    /// Its first thousand characters; absent where the control role may not see it.
    pub text: Option<String>,
    /// Whether there is more of it.
    pub cut: bool,
    /// Whether it runs now.
    pub running: bool,
    /// What it waits for, in the server's words, such as `Lock: relation`.
    pub waits_for: Option<String>,
    /// Who holds, or waits before it for, the lock that it waits for; 0 is a prepared transaction.
    pub blocked_by: Vec<i32>,
}
