//! What is done besides passing on what a client sent: behind a hold that has ended of late, a batch is kept
//! that may have to be sent again; while statements are measured, the listener hears it.
//!
//! Neither is there most of the time. Whoever passes bytes on asks one question, which the gate answers with
//! one load ([`Gate::has_besides`](crate::gate::Gate::has_besides)), and comes here if it says yes.

use super::again::Again;
use super::door::GateDoor;
use super::down::Down;
use crate::clock;
use crate::session::measure::{Heard, Listener};
use crate::session::registry::Session;
use crate::session::scan::{ClientScan, Door};
use crate::session::transaction::Tracker;
use crate::tls::stream::Socket;

/// What was so before a chunk went on.
#[derive(Debug)]
pub(super) struct Besides {
    /// A transaction begins with it, of which nothing has gone on.
    fresh: bool,
    opened_lately: bool,
    measured: bool,
}

impl Besides {
    #[cold]
    pub(super) fn before(
        door: &GateDoor,
        tracker: &Tracker,
        scan: &ClientScan,
        session: &Session,
    ) -> Besides {
        let gate = door.gate();
        let of_client = session.window.is_none() && !session.probe;
        Besides {
            fresh: tracker.at_boundary() && scan.at_message_start(),
            opened_lately: gate.opened_lately(),
            measured: of_client && gate.is_measured(),
        }
    }

    /// The front of `bytes` went on, `passed` of them.
    #[cold]
    pub(super) fn after(
        self,
        (door, session): (&GateDoor, &Session),
        (again, listener): (&mut Option<Box<Again>>, &mut Option<Box<Listener>>),
        (bytes, passed): (&[u8], usize),
        most: usize,
    ) {
        if self.opened_lately && self.fresh && passed == bytes.len() {
            *again = Again::of(bytes, most);
        }
        if !self.measured {
            *listener = None;
            return;
        }
        if self.fresh {
            let listener = listener.get_or_insert_with(|| Box::new(Listener::new(session.id.0)));
            listener.begin(door.gate().statements().one_in());
        }
        // One that was there before measuring began is heard from its next transaction on.
        if let Some(listener) = listener {
            let now = listener.times().then(clock::now);
            listener.sent(&bytes[..passed], now);
        }
    }
}

impl<C: Socket> Down<'_, C> {
    /// The listener hears what the server sent. Where measuring has ended it goes.
    #[cold]
    pub(super) fn listen(&mut self, bytes: &[u8]) {
        let Some(listener) = &mut *self.listener else {
            return;
        };
        let gate = self.door.gate();
        listener.heard(bytes, clock::now, |Heard { timed, error }| {
            let error = error.as_ref().map(|state| std::str::from_utf8(state));
            let error = error.map(|state| state.unwrap_or("?????"));
            let timed = timed.as_ref();
            let timed = timed.map(|(it, took)| (it.fingerprint, &it.text, *took));
            gate.statements().answered(timed, error);
        });
        if !self.door.has_permit() {
            listener.forget_units();
        }
        if !gate.is_measured() {
            *self.listener = None;
        }
    }
}
