//! What an operator asks of a gate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Blocked, Then, words};
use crate::wire::refusal::Sqlstate;

words! {
    /// What traffic is let through: a stricter mode is greater.
    #[derive(PartialOrd, Ord)]
    Mode {
        /// Everything passes.
        Open = "open",
        /// Transactions that only read start, others do not.
        ReadOnly = "read_only",
        /// No transaction starts.
        Hold = "hold",
    }
}

words! {
    /// Who closed a gate. Each holder has at most one hold; the gate is open when there is none.
    #[derive(PartialOrd, Ord)]
    Holder {
        /// A command for every database.
        Everywhere = "everywhere",
        /// A command for this database.
        Operator = "operator",
        /// A window, which ends its hold by itself.
        Window = "window",
    }
}

/// Numbers the holds of a gate, so that a late timer or answer never touches a newer one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// A hold as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSpec {
    /// How long it lasts at most.
    pub duration: Duration,
    /// What happens when that time is over.
    pub then: Then,
    /// Whether transactions that only read are let in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What happens to what it blocks.
    pub blocked: Blocked,
    /// What a transaction that may not wait is told; 55P03 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<Sqlstate>,
    /// For how long at most only transaction blocks are kept from starting, where the gate is open before.
    /// Not written down: after a restart nobody is inside whom that would spare.
    #[serde(skip)]
    pub first_stage: Duration,
    /// How long one client waits at most.
    pub client_deadline: Duration,
    /// Who asked.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

impl HoldSpec {
    /// The mode of a gate with this hold alone.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.read_only {
            Mode::ReadOnly
        } else {
            Mode::Hold
        }
    }
}
