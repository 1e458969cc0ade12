//! Windows for anybody: what is asked for, and how they stand.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::drain::DrainReport;
use crate::config::{AskedCap, Blocked, Bypass, HumanDuration, Preset};

pub use crate::window::IfBusy;
pub use crate::window::steps::{After, Stage, Why, WindowMode};

/// Body of `POST /v1/databases/{db}/windows`; what is left out is as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOrder {
    /// Who waits for it: everybody, or who writes; `exclusive` if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<WindowMode>,
    /// How long reads go on, while writes are held already, before an exclusive window holds all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_for: Option<HumanDuration>,
    /// The window's own end, from the moment in which traffic is held for it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<HumanDuration>,
    /// How long it goes on without a renewal; 30 s if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<HumanDuration>,
    /// What happens to traffic when the holder, or the window's time, is lost while it works:
    /// `reopen` if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<After>,
    /// What to do when another window is open: `refuse` if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_busy: Option<IfBusy>,
    /// How many connections may come in by its key; any number if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// What happens to transactions that may not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// How far the drain goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// How long it waits after it freed conversations that are stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<HumanDuration>,
    /// How long it waits after aborting idle transactions in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<HumanDuration>,
    /// How long it waits after terminating sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<HumanDuration>,
    /// How many transactions may run at once before traffic is held and after it flows again: a
    /// number, or a part such as `50%` of the most that were seen at once in the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<AskedCap>,
    /// How long before; 30 s if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_before: Option<HumanDuration>,
    /// How long after; 30 s if that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_after: Option<HumanDuration>,
    /// What is done about sessions that did not come through us, for as long as it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
    /// Whether the server keeps new sessions out meanwhile; superusers get in all the same, and so must
    /// whoever comes by the window's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<bool>,
    /// Why, for logs and for those who wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whether to be content when the server cannot be asked if anything still runs.
    #[serde(default)]
    pub unproved: bool,
    /// The same request sent again with the same key gets the same window; also as the header
    /// `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/windows`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowTaken {
    /// What `pgdrain.window` is set to by a connection that goes through the window: its name and
    /// its secret. Shown to whoever asked for the window and to nobody else; absent when the request
    /// was sent again after a connection came in by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The window.
    pub window: WindowView,
}

impl std::fmt::Debug for WindowTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowTaken {{ key: ***, window: {:?} }}", self.window)
    }
}

/// How one window stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowView {
    /// Its name.
    pub id: String,
    /// The database.
    pub database: String,
    /// Who waits for it.
    pub mode: WindowMode,
    /// Its number, which commands about it have to show; a later window has a greater one.
    pub term: u64,
    /// Where it stands.
    pub state: Stage,
    /// Counts the news about it.
    pub seq: u64,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was asked for.
    pub since: Timestamp,
    /// How many windows are before it; only while it is queued.
    pub position: Option<u64>,
    /// What is left of its lease, if nobody renews it; only while it is open.
    pub lease_left_ms: Option<u64>,
    /// What is left of its own time; only while traffic is held for it.
    pub left_ms: Option<u64>,
    /// What happens to traffic when its holder is lost while it works.
    pub on_lost: After,
    /// Why it ended, once that is so.
    pub why: Option<Why>,
    /// What that means for traffic.
    pub after: Option<After>,
    /// A sentence about why it was not granted, or what it waits for.
    pub detail: Option<String>,
    /// How many connections may come in; absent for any number.
    pub connections_allowed: Option<u32>,
    /// How many came in.
    pub connections_used: u32,
    /// How many are inside.
    pub connections_now: u64,
    /// Clients that wait for traffic to flow.
    pub held: u64,
    /// How much of what ran when traffic was held has ended.
    pub drained_percent: Option<u8>,
    /// How its drain goes, or went.
    pub drain: Option<DrainReport>,
}

/// Answer of `GET /v1/databases/{db}/windows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowViews {
    /// Every window that is remembered, oldest first.
    pub windows: Vec<WindowView>,
}

/// Body of `POST /v1/windows/{id}/renew`, `/finish` and `/abort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowCommand {
    /// The window's term.
    pub term: u64,
    /// What happens to traffic, when a window is aborted that was exclusive: as `on_lost` says, if
    /// that is not said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<After>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
