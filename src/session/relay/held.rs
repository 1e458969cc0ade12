//! At the gate: a client waits, watched for everything that can end its wait.

use std::pin::Pin;
use std::task::Context;

use tokio::time::Sleep;

use super::leaving::Remains;
use super::up::FromClient;
use super::{Phase, Relay, Step};
use crate::config::Blocked;
use crate::gate::Place;
use crate::session::registry::Activity;
use crate::session::scan::{Discard, Discarded, Pause};
use crate::stream::Socket;
use crate::wire::backend::READY_IDLE;
use crate::wire::refusal::Refusal;

/// A client in the queue of its gate.
#[derive(Debug)]
pub(super) struct Held {
    place: Place,
    deadline: Pin<Box<Sleep>>,
    /// The server has part of the message already: the client cannot be answered and go on.
    mid_message: bool,
    pub(super) server: Server,
}

/// What the server of a held client is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// It waits, like its client.
    Idle,
    /// It has sent an error although it was asked nothing: it is about to end the connection.
    Ending,
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// The gate did not let the transaction at the front of `kept` start.
    pub(super) fn park(&mut self, cx: &mut Context<'_>, mid_message: bool) -> Step {
        let Some((blocked, wait)) = self.door.gate.blocked() else {
            // It opened meanwhile.
            return Step::Moved;
        };
        let place = match blocked {
            Blocked::Queue => self
                .door
                .gate
                .join(cx.waker(), self.config.hold.clients_max),
            Blocked::Reject => {
                self.turn_away(&Refusal::HoldRejects, mid_message);
                return Step::Moved;
            }
        };
        let Some(place) = place else {
            self.turn_away(&Refusal::TooManyHeld, mid_message);
            return Step::Moved;
        };
        self.session.set_activity(Activity::Held);
        self.session.set_held(true);
        let deadline = Box::pin(tokio::time::sleep(wait));
        self.phase = Phase::Held(Box::new(Held {
            place,
            deadline,
            mid_message,
            server: Server::Idle,
        }));
        // The gate may have opened before we were in its queue: ask again.
        Step::Moved
    }

    /// One look at everything that can end the wait. The client comes first: what it sent must not
    /// start after it left.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            match self.read_client(cx) {
                FromClient::Some => {}
                FromClient::Nothing => break,
                FromClient::Ended => return self.leave(Remains::HalfOpen),
                FromClient::Broke(error) => return self.client_broke(&error),
            }
        }
        if self.kept.len() >= self.config.hold.bytes_per_client && self.client.peer_has_closed(cx) {
            return self.leave(Remains::Nothing);
        }
        let Phase::Held(held) = &mut self.phase else {
            return Step::Moved;
        };
        if held.deadline.as_mut().poll(cx).is_ready() {
            self.refuse(&Refusal::HoldExpired);
            return Step::Moved;
        }
        if held.server == Server::Ending {
            return Step::Stuck;
        }
        self.door.gate.refresh(&held.place, cx.waker());
        let kept = std::mem::take(&mut self.kept);
        let before = kept.len();
        match self.forward(cx, &kept) {
            Ok(Pause::Gate { .. }) if self.kept.len() == before => Step::Stuck,
            Ok(_) => {
                if let Phase::Held(held) = std::mem::replace(&mut self.phase, Phase::Flowing) {
                    self.unpark(*held);
                }
                Step::Moved
            }
            Err(error) => self.client_misbehaved(error),
        }
    }

    /// Leaves the queue.
    pub(super) fn unpark(&mut self, held: Held) {
        self.door.gate.leave(held.place);
        self.session.set_held(false);
        self.note_activity();
    }

    /// Answers the held statement by an error, and throws it away.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        if let Phase::Held(held) = std::mem::replace(&mut self.phase, Phase::Flowing) {
            let mid_message = held.mid_message;
            self.unpark(*held);
            self.turn_away(refusal, mid_message);
        }
    }

    /// Answers the unit at the front of `kept` by an error, and discards it.
    fn turn_away(&mut self, refusal: &Refusal, mid_message: bool) {
        match self.kept.first() {
            Some(first_tag) if !mid_message => {
                self.common.metrics.refused(refusal.sqlstate().0);
                self.ours.extend_from_slice(&refusal.encode());
                self.phase = Phase::Discarding(Discard::unit(*first_tag));
            }
            _ => self.dismiss(&Refusal::HeldMidMessage, Remains::HalfOpen),
        }
    }

    /// Discards up to the end of the refused unit, as the server does after an error.
    pub(super) fn poll_discarding(&mut self, cx: &mut Context<'_>) -> Step {
        let Phase::Discarding(discard) = &mut self.phase else {
            return Step::Moved;
        };
        if self.kept.is_empty() {
            return match self.read_client(cx) {
                FromClient::Nothing => Step::Stuck,
                FromClient::Some => Step::Moved,
                FromClient::Ended => self.leave(Remains::HalfOpen),
                FromClient::Broke(error) => self.client_broke(&error),
            };
        }
        match discard.read(&self.kept) {
            Ok(Discarded::More) => self.kept = Vec::new(),
            Ok(Discarded::Ended(bytes)) => {
                self.kept.drain(..bytes);
                self.ours.extend_from_slice(&READY_IDLE);
                self.phase = Phase::Flowing;
            }
            Ok(Discarded::Terminate) => return self.leave(Remains::HalfOpen),
            Err(error) => return self.client_misbehaved(error),
        }
        Step::Moved
    }
}
