//! What was done to traffic, as watchers get it.

use serde::{Deserialize, Serialize};

pub use crate::audit::{Event, Kind as EventKind, Told as ToldEvent};

/// Answer of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// In order.
    pub events: Vec<ToldEvent>,
    /// The number of the last one there is, to go on from.
    pub last: u64,
    /// Whether events behind the one that was asked for are kept no more.
    pub gap: bool,
}
