//! What clients felt, statement by statement.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::HumanDuration;
use crate::metrics::statements::Measured;

/// Body of `PUT /v1/databases/{db}/statements`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureRequest {
    /// For how long statements are measured from now on; `0s` ends it. An end that is later stays.
    #[serde(rename = "for")]
    pub lasting: HumanDuration,
    /// One in so many transactions is timed; as configured when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u32>,
}

/// Answer of `GET` and `PUT /v1/databases/{db}/statements`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatementsView {
    /// The database.
    pub database: String,
    /// Until when statements are measured; absent while they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What was measured since it was begun; kept until it is begun again.
    pub measured: Measured,
}
