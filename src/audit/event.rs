//! One event: the line of the file and what watchers get.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::words;

words! {
    /// What happened.
    Kind {
        /// The proxy began to serve.
        Started = "started",
        /// A process took over from another, or the former one has ended.
        HandOver = "hand_over",
        /// The proxy was told to stop.
        Stopping = "stopping",
        /// The configuration was read again.
        Reload = "reload",
        /// Somebody held traffic, or renewed a hold.
        Hold = "hold",
        /// Somebody let only reads in, or renewed that.
        ReadOnly = "read_only",
        /// Somebody opened traffic.
        Open = "open",
        /// Somebody opened everything by force, past the admin HTTP.
        BreakGlass = "break_glass",
        /// A hold ended.
        HoldEnded = "hold_ended",
        /// A hold's time passed and traffic stays held.
        HoldOverdue = "hold_overdue",
        /// A drain ended, or its ladder was changed.
        Drain = "drain",
        /// Concurrent transactions were capped, or are no more.
        Cap = "cap",
        /// A window changed its state.
        Window = "window",
        /// A database was closed to new connections at the server, or opened again.
        Fence = "fence",
        /// A session that did not come through us stands in the way.
        Bypass = "bypass",
        /// Somebody cancelled, aborted or terminated one session.
        Session = "session",
        /// Somebody was not let in where operators ask.
        Access = "access",
    }
}

/// Something that was done to traffic. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// Where; nothing for the whole proxy, `*` for every database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Who asked for it: the name of a token, or of a user of the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From where: the address of an HTTP client, `signal`, or `timer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The mode or state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The mode or state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl Event {
    /// Something that happened in a database; the rest is set by struct update.
    #[must_use]
    pub fn of(kind: Kind, database: &str) -> Event {
        Event {
            database: Some(database.to_owned()),
            ..Event::here(kind)
        }
    }

    /// Something that happened to the whole proxy.
    #[must_use]
    pub fn here(kind: Kind) -> Event {
        Event {
            kind,
            database: None,
            by: None,
            from: None,
            reason: None,
            before: None,
            after: None,
            outcome: None,
        }
    }
}

/// An event with its number and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Counted from one over the life of the state directory.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}
