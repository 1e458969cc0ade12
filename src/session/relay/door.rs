//! The gates as one session goes through them: its permits, its place in the queue, and whether it may
//! have one.
//!
//! Nearly always there is one gate, that of the database. Each hold on some clients adds one for its
//! time. A transaction needs a permit of each; who lacks one holds none, and waits at that gate.

use std::sync::Arc;
use std::task::Context;

use super::enforce::Enforced;
use crate::config::{Blocked, Hold};
use crate::gate::admission::Epoch;
use crate::gate::state::Standing;
use crate::gate::{Gate, Place, Room};
use crate::session::inbox::Presumed;
use crate::session::scan::Door;

/// Whether the session may go on after its next boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    Stopping,
}

/// What is known of a transaction that is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Any,
    /// It begins no block.
    Statement,
    /// It only reads.
    Read,
}

/// What a session has of its gates, given back when it is dropped. To a session that is to stop they
/// are closed.
#[derive(Debug)]
pub(super) struct GateDoor {
    gate: Arc<Gate>,
    permit: Option<Epoch>,
    /// Gates of holds on some clients that this one is one of. One that has opened is let go at the
    /// next boundary.
    narrow: Vec<Narrow>,
    /// Where it waits.
    place: Option<Place>,
    pub(super) life: Life,
    /// While the server refuses writes because it was told to: only reads are let in, and nothing of a
    /// message goes on ahead.
    pub(super) enforced: Option<Box<Enforced>>,
}

#[derive(Debug)]
struct Narrow {
    gate: Arc<Gate>,
    permit: Option<Epoch>,
}

impl GateDoor {
    /// Of a session at its first boundary.
    pub(super) fn new(gate: Arc<Gate>, narrow: Vec<Arc<Gate>>) -> GateDoor {
        let narrow = narrow.into_iter();
        GateDoor {
            gate,
            permit: None,
            narrow: narrow.map(|gate| Narrow { gate, permit: None }).collect(),
            place: None,
            life: Life::Serving,
            enforced: None,
        }
    }

    /// Gives the permits back.
    pub(super) fn release(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.gate.release(permit);
        }
        if !self.narrow.is_empty() {
            self.release_narrow();
            self.narrow.retain(|narrow| !narrow.gate.is_open());
        }
    }

    fn release_narrow(&mut self) {
        for narrow in &mut self.narrow {
            if let Some(permit) = narrow.permit.take() {
                narrow.gate.release(permit);
            }
        }
    }

    /// From now on another gate is in the way. The permit that was presumed is kept inside of a
    /// transaction, and given back otherwise.
    pub(super) fn attach(&mut self, presumed: Presumed) {
        self.narrow
            .retain(|narrow| narrow.permit.is_some() || !narrow.gate.is_open());
        let known = |narrow: &Narrow| Arc::ptr_eq(&narrow.gate, presumed.gate());
        if self.narrow.iter().any(known) {
            // It came to the session at its registration too; what it has inside it has a permit for.
            return;
        }
        let (gate, permit) = presumed.accept(self.permit.is_some());
        self.narrow.push(Narrow { gate, permit });
    }

    /// What happens to this session while it may not start a transaction; `None` when it may.
    pub(super) fn standing(&self, config: &Hold) -> Option<Standing> {
        let gates = self.narrow.iter().map(|narrow| &narrow.gate);
        let closed = gates.chain([&self.gate]).filter(|gate| !gate.is_open());
        // Without a hold there are only too many before it.
        let waits = Standing {
            blocked: Blocked::Queue,
            deadline: config.client_deadline,
            sqlstate: None,
            read_only: false,
        };
        closed
            .map(|gate| gate.blocked().unwrap_or(waits))
            .reduce(Standing::stricter)
    }

    /// Takes a place in the queue, if there is room.
    pub(super) fn join(&mut self, cx: &Context<'_>, room: Room) -> bool {
        self.place = self.in_the_way().join(cx.waker(), room);
        self.place.is_some()
    }

    /// Keeps the waker and the place of a waiting session current; to be called before the gates are
    /// asked again.
    pub(super) fn look(&self, cx: &Context<'_>) {
        let Some(place) = &self.place else {
            return;
        };
        loop {
            let gate = self.in_the_way();
            gate.look(place, cx.waker());
            // It may have opened before we were seen to wait there.
            if Arc::ptr_eq(gate, self.in_the_way()) {
                return;
            }
        }
    }

    /// Whether it has to go for a newer one.
    pub(super) fn is_evicted(&self) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| self.gate.is_evicted(place))
    }

    /// Whether its turn has come.
    pub(super) fn is_called(&self) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| self.gate.is_called(place))
    }

    /// Gives the place in the queue back, and its turn with it.
    pub(super) fn leave_queue(&mut self) {
        if let Some(place) = self.place.take() {
            self.gate.leave(place);
        }
    }

    /// Whether there is more to do than to pass on what the client sends; see [`super::besides`].
    #[inline]
    pub(super) fn has_besides(&self) -> bool {
        self.gate.has_besides()
    }

    /// The gate of the database.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether all gates are open to anybody.
    pub(super) fn stands_open(&self) -> bool {
        self.gate.is_open() && self.narrow_open()
    }

    /// Whether a hold on any of its gates is read-only, also behind one that lets nothing in.
    #[inline]
    pub(super) fn wants_read_only(&self) -> bool {
        self.gate.wants_read_only()
            || (!self.narrow.is_empty()
                && self
                    .narrow
                    .iter()
                    .any(|narrow| narrow.gate.wants_read_only()))
    }

    /// Whether a transaction that only reads may start now.
    pub(super) fn lets_reads_in(&self) -> bool {
        let lets = |gate: &Gate| gate.is_open() || gate.is_read_only();
        self.life == Life::Serving
            && self.narrow.iter().all(|narrow| lets(&narrow.gate))
            && (lets(&self.gate) || self.is_called())
    }

    /// Asks all gates for a transaction that only reads; true when the session has a permit afterwards.
    pub(super) fn admit_read(&mut self) -> bool {
        self.admit_as(Kind::Read)
    }

    /// The first gate that lets nobody in, or else the first that lets in only some, or that of the
    /// database. So who waits is at a gate that, when it opens, wakes it.
    fn in_the_way(&self) -> &Arc<Gate> {
        let gates = || {
            let narrow = self.narrow.iter().map(|narrow| &narrow.gate);
            narrow.chain([&self.gate])
        };
        let shut = gates().find(|gate| !gate.is_open() && !gate.is_read_only());
        let closed = || gates().find(|gate| !gate.is_open());
        shut.or_else(closed).unwrap_or(&self.gate)
    }

    #[inline]
    fn narrow_open(&self) -> bool {
        self.narrow.is_empty() || self.narrow.iter().all(|narrow| narrow.gate.is_open())
    }

    /// Asks every gate of a hold on some clients; gives all permits back if one says no.
    fn admit_narrow(&mut self, kind: Kind) -> bool {
        for narrow in &mut self.narrow {
            if narrow.permit.is_none() {
                narrow.permit = match kind {
                    Kind::Read => narrow.gate.admit_read(),
                    Kind::Any | Kind::Statement => narrow.gate.admit(),
                };
                if kind == Kind::Statement && narrow.permit.is_none() {
                    narrow.permit = narrow.gate.admit_autocommit();
                }
            }
        }
        let all = self.narrow.iter().all(|narrow| narrow.permit.is_some());
        if !all {
            self.release_narrow();
        }
        all
    }

    /// Asks all gates; those that let in only some are asked for a transaction of this kind.
    #[inline]
    fn admit_as(&mut self, kind: Kind) -> bool {
        if self.permit.is_some() {
            return true;
        }
        if self.life != Life::Serving || (self.enforced.is_some() && kind != Kind::Read) {
            return false;
        }
        if !self.narrow.is_empty() && !self.admit_narrow(kind) {
            return false;
        }
        self.permit = match (&self.place, kind) {
            (None, Kind::Any | Kind::Statement) => self.gate.admit(),
            (Some(place), Kind::Any | Kind::Statement) => self.gate.admit_from(place),
            (None, Kind::Read) => self.gate.admit_read(),
            (Some(place), Kind::Read) => self.gate.admit_read_from(place),
        };
        if kind == Kind::Statement && self.permit.is_none() {
            self.permit = self.gate.admit_autocommit();
        }
        if self.permit.is_none() && !self.narrow.is_empty() {
            self.release_narrow();
        }
        self.permit.is_some()
    }
}

impl Door for GateDoor {
    #[inline]
    fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    #[inline]
    fn admit(&mut self) -> bool {
        self.admit_as(Kind::Any)
    }

    fn lets_statements_in(&self) -> bool {
        let narrow = self.narrow.iter().map(|narrow| &narrow.gate);
        let mut gates = narrow.chain([&self.gate]);
        self.life == Life::Serving && gates.all(|gate| gate.is_open() || gate.is_in_first_stage())
    }

    fn admit_statement(&mut self) -> bool {
        self.admit_as(Kind::Statement)
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.life == Life::Serving
            && self.enforced.is_none()
            && self.narrow_open()
            && (self.gate.is_open() || (self.place.is_some() && self.is_called()))
    }
}

impl Drop for GateDoor {
    fn drop(&mut self) {
        self.release();
        self.leave_queue();
    }
}
