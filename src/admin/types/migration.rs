//! Migrations over HTTP: the envelopes around what the runner says.

use serde::{Deserialize, Serialize};

use crate::runner::types::RunSummary;

/// Answer of `POST /v1/databases/{db}/migrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStarted {
    /// The migration, to follow and to cancel.
    pub id: String,
}

/// Answer of `GET /v1/databases/{db}/migrations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Migrations {
    /// Those that are remembered, oldest first; the one that runs is the last.
    pub migrations: Vec<RunSummary>,
}

/// Body of `POST /v1/migrations/{id}/cancel`; an empty body is one without keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `POST /v1/migrations/{id}/ack`, whose body is that of `cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The migration.
    pub id: String,
    /// Who looks after it.
    pub by: String,
}

/// Answer of `POST /v1/migrations/{id}/cancel`: it was asked to stop and will say how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelling {
    /// The migration.
    pub id: String,
}
