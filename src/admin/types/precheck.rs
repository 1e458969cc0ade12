//! What is asked of a drain under way, and of a precheck.

use serde::{Deserialize, Serialize};

use crate::config::{Bypass, HumanDuration, Preset};

use super::WindowMode;
pub use crate::window::precheck::{Fate, Finding, FindingKind, Forecast, Precheck};

/// Body of `PUT /v1/databases/{db}/drain`; what is left out is as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// How far the drain goes from now on.
    pub ladder: Option<Preset>,
    /// For how long at most only transaction blocks are kept from starting, before all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autocommit: Option<HumanDuration>,
    /// How long it waits for transactions to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<HumanDuration>,
    /// How long it waits after cancelling statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<HumanDuration>,
    /// How long it waits after freeing what stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<HumanDuration>,
    /// How long it waits after aborting idle transactions in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<HumanDuration>,
    /// How long it waits after terminating sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<HumanDuration>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a precheck is about, as it stands in the query of its URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrecheckQuery {
    /// Who is to wait: everybody, or who writes.
    pub mode: Option<WindowMode>,
    /// How far the drain is to go.
    pub ladder: Option<Preset>,
    /// What is to be done about sessions that did not come through us.
    pub bypass: Option<Bypass>,
    /// Whether a fence is to be raised.
    pub fence: Option<bool>,
}
