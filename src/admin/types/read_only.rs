//! The read-only mode: what is asked for, and how far it is enforced.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::{Blocked, Bypass, HumanDuration, Preset, Scope, Then};
use crate::session::registry::Counts;

/// In how many sessions the server refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// In these it does.
    pub enforced: usize,
    /// In these it does not yet: they are in a transaction, or will be told before their next.
    pub pending: usize,
    /// These no hold stops, or they work in a window.
    pub exempt: usize,
}

impl From<Counts> for Enforcement {
    fn from(counts: Counts) -> Enforcement {
        Enforcement {
            enforced: counts.enforced,
            pending: counts.pending,
            exempt: counts.exempt,
        }
    }
}

/// How to let only reads in; what is left out is as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOnlyRequest {
    /// Only for sessions of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for sessions that gave this `application_name` at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_name: Option<String>,
    /// Only for clients in this network, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
    /// Its own end, from now.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<HumanDuration>,
    /// What happens at that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// What happens to transactions that write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Blocked>,
    /// How far the drain goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Preset>,
    /// How long it waits for transactions to end that began before and may write.
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
    /// What is done about sessions that did not come through us, until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
    /// Why, for logs and for those who wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whether to be content when the server cannot be asked if anything older still runs.
    #[serde(default)]
    pub unproved: bool,
}

impl ReadOnlyRequest {
    /// Whom it is for.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let Self {
            user,
            application_name,
            client,
            ..
        } = self.clone();
        Scope {
            user,
            application_name,
            client,
        }
    }
}
