//! The gate as one session goes through it: its permit, and whether it may have one.

use std::sync::Arc;

use crate::gate::Gate;
use crate::gate::admission::Epoch;
use crate::session::scan::Door;

/// Whether the session may go on after its next boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    Stopping,
}

/// The permit of a session, given back when it is dropped. To a session that is to stop the gate is
/// closed.
#[derive(Debug)]
pub(super) struct GateDoor {
    pub(super) gate: Arc<Gate>,
    pub(super) permit: Option<Epoch>,
    pub(super) life: Life,
}

impl GateDoor {
    /// Gives the permit back.
    pub(super) fn release(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.gate.release(permit);
        }
    }
}

impl Door for GateDoor {
    #[inline]
    fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    #[inline]
    fn admit(&mut self) -> bool {
        if self.permit.is_none() && self.life == Life::Serving {
            self.permit = self.gate.admit();
        }
        self.permit.is_some()
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.life == Life::Serving && self.gate.is_open()
    }
}

impl Drop for GateDoor {
    fn drop(&mut self) {
        self.release();
    }
}
