//! What is done to one session, and what came of it.

use serde::{Deserialize, Serialize};

pub use crate::drain::single::{Action, Effect};

/// Body of `POST /v1/sessions/{id}/cancel`, `/terminate` and `/abort`; it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `POST /v1/sessions/{id}/cancel`, `/terminate` and `/abort`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionActed {
    /// The session's number.
    pub id: u64,
    /// The server's process id.
    pub pid: Option<i32>,
    /// The database.
    pub database: String,
    /// The database user.
    pub user: String,
    /// What the client calls itself.
    pub application_name: String,
    /// The client's address.
    pub client: String,
    /// What was asked for.
    pub action: Action,
    /// What came of it.
    pub effect: Effect,
    /// What its client gets, in a sentence.
    pub client_sees: String,
}
