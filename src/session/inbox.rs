//! Gates that a session is to go through from now on, posted by whoever holds some clients.
//!
//! The poster cannot know whether the session is inside of a transaction. It takes a permit for it, and
//! the session gives that back if it is not: so the count is never too low, and right as soon as the
//! session has looked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::Gate;
use crate::gate::admission::Epoch;

/// A permit for a session that may be inside. Dropping it gives the permit back.
#[derive(Debug)]
pub struct Presumed {
    gate: Arc<Gate>,
    permit: Option<Epoch>,
}

impl Presumed {
    /// Takes the permit.
    #[must_use]
    pub fn inside(gate: &Arc<Gate>) -> Presumed {
        Presumed {
            gate: Arc::clone(gate),
            permit: Some(gate.presume_inside()),
        }
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The gate, and the permit if the session is inside.
    #[must_use]
    pub fn accept(mut self, is_inside: bool) -> (Arc<Gate>, Option<Epoch>) {
        let permit = if is_inside { self.permit.take() } else { None };
        (Arc::clone(&self.gate), permit)
    }
}

impl Drop for Presumed {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.gate.release(permit);
        }
    }
}

/// What was posted to a session; after its end nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    posted: Mutex<Posted>,
}

#[derive(Debug, Default)]
struct Posted {
    presumed: Vec<Presumed>,
    closed: bool,
}

impl Inbox {
    /// Posts it; to a session that has ended it is dropped.
    pub(super) fn post(&self, presumed: Presumed) {
        let mut posted = self.posted();
        if !posted.closed {
            posted.presumed.push(presumed);
        }
    }

    /// Takes what was posted.
    pub(super) fn take(&self) -> Vec<Presumed> {
        std::mem::take(&mut self.posted().presumed)
    }

    /// The session has ended.
    pub(super) fn close(&self) {
        let mut posted = self.posted();
        posted.closed = true;
        posted.presumed.clear();
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
