//! At the gate: a client waits, watched for everything that can end its wait.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::door::{GateDoor, Life};
use super::leaving::Remains;
use super::up::FromClient;
use super::{End, KEPT_MAX, Phase, Relay, Step, Then};
use crate::config::Blocked;
use crate::gate::Room;
use crate::gate::state::Standing;
use crate::session::registry::Activity;
use crate::session::scan::{Discard, Discarded, Door, Pause};
use crate::tls::stream::Socket;
use crate::wire::backend::ready_for_query;
use crate::wire::frame::BadLength;
use crate::wire::refusal::{Refusal, notice_held};

/// How long the end of a client may take to come in behind its last bytes.
const GRACE: Duration = Duration::from_millis(10);

/// A client in the queue of its database; its place is with the door.
#[derive(Debug)]
pub(super) struct Held {
    deadline: Pin<Box<Sleep>>,
    /// When it is told that it waits, if it is, and has not been told.
    notice: Option<Pin<Box<Sleep>>>,
    /// The server has part of the message already: the client cannot be answered and go on.
    mid_message: bool,
    pub(super) server: Server,
    heard: Heard,
}

/// What the server of a held client is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// It waits, like its client.
    Idle,
    /// It has sent an error although it was asked nothing: it is about to end the connection.
    Ending,
}

/// How much was read of what the client has sent. Its end is seen only behind all of it.
#[derive(Debug)]
enum Heard {
    /// All of it.
    All,
    /// As much as is kept, and there may be more.
    Part,
    /// Its first message to the end, by now; the client's end may be on its way.
    Whole(Pin<Box<Sleep>>),
}

/// A gate that lets nothing start, for the moment.
struct NotYet<'a>(&'a GateDoor);

impl Door for NotYet<'_> {
    fn has_permit(&self) -> bool {
        false
    }
    fn admit(&mut self) -> bool {
        false
    }
    fn is_open(&self) -> bool {
        self.0.is_open()
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// The gate did not let the transaction at the front of `kept` start.
    pub(super) fn park(&mut self, cx: &mut Context<'_>, mid_message: bool) -> Step {
        let Some(standing) = self.door.standing(&self.config.hold) else {
            return match self.door.life {
                // Its server has to be told first that it may write.
                Life::Serving if self.door.enforced => {
                    self.look_again(cx);
                    Step::Stuck
                }
                // It opened meanwhile.
                Life::Serving => Step::Moved,
                // The server has to come to its end first; then the session does.
                Life::Stopping => Step::Stuck,
            };
        };
        match standing.blocked {
            Blocked::Queue => {}
            Blocked::Reject => {
                self.turn_away(&Refusal::HoldRejects(standing.sqlstate), mid_message);
                return Step::Moved;
            }
        }
        let hold = &self.config.hold;
        let room = Room {
            here: hold.clients_max,
            everywhere: hold.clients_max_total,
            when_full: hold.when_full,
        };
        if !self.door.join(cx, room) {
            self.turn_away(&Refusal::TooManyHeld, mid_message);
            return Step::Moved;
        }
        self.session.set_activity(Activity::Held);
        self.session.set_held(true);
        self.phase = Phase::Held(Box::new(Held {
            deadline: Box::pin(sleep(standing.deadline)),
            notice: hold.notice_after.map(|after| Box::pin(sleep(after))),
            mid_message,
            server: Server::Idle,
            heard: Heard::All,
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
        if self.may_have_more() && self.client.peer_has_closed(cx) {
            return self.leave(Remains::Nothing);
        }
        let Phase::Held(held) = &mut self.phase else {
            return Step::Moved;
        };
        let whole = !held.mid_message && self.client_scan.at_message_start();
        let guarded = whole && self.set_guard();
        let Phase::Held(held) = &mut self.phase else {
            return Step::Moved;
        };
        self.door.look(cx);
        if self.door.is_evicted() {
            self.refuse(&Refusal::HeldEvicted);
            return Step::Moved;
        }
        if held.deadline.as_mut().poll(cx).is_ready() && !self.door.stands_open() {
            self.refuse(&Refusal::HoldExpired);
            return Step::Moved;
        }
        if held.server == Server::Ending {
            return Step::Stuck;
        }
        if let Some(Standing {
            blocked: Blocked::Reject,
            sqlstate,
            read_only,
            ..
        }) = self.door.standing(&self.config.hold)
            && !self.door.is_open()
            // What is rejected where reads are let in, the guard says.
            && !(read_only && guarded)
        {
            self.refuse(&Refusal::HoldRejects(sqlstate));
            return Step::Moved;
        }
        if let Some(notice) = &mut held.notice
            && notice.as_mut().poll(cx).is_ready()
        {
            held.notice = None;
            let waited = self.session.held_for().unwrap_or_default();
            self.ours.extend_from_slice(&notice_held(waited));
            return Step::Moved;
        }
        if self.injection.is_some() {
            // Behind it nothing goes on to the server.
            return Step::Stuck;
        }
        if guarded {
            return self.look_at_front(cx);
        }
        match self.hear_out(cx) {
            Ok(None) => {}
            Ok(Some(step)) => return step,
            Err(error) => return self.client_misbehaved(error),
        }
        let kept = std::mem::take(&mut self.kept);
        let before = kept.len();
        match self.forward(cx, &kept) {
            Ok(Pause::Gate { .. }) if self.kept.len() == before => Step::Stuck,
            Ok(_) => {
                if let Phase::Held(_) = std::mem::replace(&mut self.phase, Phase::Flowing) {
                    self.unpark();
                }
                Step::Moved
            }
            Err(error) => self.client_misbehaved(error),
        }
    }

    /// Whether as much is kept as may be, so that the client's end may lie behind more.
    pub(super) fn may_have_more(&self) -> bool {
        self.kept.len() >= self.config.hold.bytes_per_client.min(KEPT_MAX)
    }

    /// Before a client goes on that sent more than is kept, the rest of its first message is read:
    /// only behind it shows whether the client has left. `None` when nothing is in its way.
    fn hear_out(&mut self, cx: &mut Context<'_>) -> Result<Option<Step>, BadLength> {
        let (open, more) = (self.door.is_open(), self.may_have_more());
        let Phase::Held(held) = &mut self.phase else {
            return Ok(None);
        };
        match &mut held.heard {
            Heard::All if !more => return Ok(None),
            Heard::Whole(grace) if open => {
                let pending = grace.as_mut().poll(cx).is_pending();
                return Ok(pending.then_some(Step::Stuck));
            }
            Heard::All | Heard::Part | Heard::Whole(_) => held.heard = Heard::Part,
        }
        Ok(if self.forward_in_part(cx)? {
            Some(Step::Moved)
        } else if self.kept.is_empty() {
            Some(Step::Stuck)
        } else if open && let Phase::Held(held) = &mut self.phase {
            held.heard = Heard::Whole(Box::pin(sleep(GRACE)));
            Some(Step::Moved)
        } else {
            None
        })
    }

    /// Lets all go on that does not make a message whole. True when bytes went on.
    fn forward_in_part(&mut self, cx: &mut Context<'_>) -> Result<bool, BadLength> {
        let mut door = NotYet(&self.door);
        let scan = &mut self.client_scan;
        let taken = scan.take(&mut self.tracker, &mut door, &self.kept);
        let taken = taken.map_err(|nonsense| nonsense.bad)?;
        if taken.bytes == 0 {
            return Ok(false);
        }
        let rest = self.kept.split_off(taken.bytes);
        let part = std::mem::replace(&mut self.kept, rest);
        // As in `forward`: a broken server shows when it is read.
        let _ = self.to_server.write_through(&mut self.server, cx, &part);
        if let Phase::Held(held) = &mut self.phase {
            held.mid_message = !self.client_scan.at_message_start();
        }
        Ok(true)
    }

    /// Leaves the queue.
    pub(super) fn unpark(&mut self) {
        self.door.leave_queue();
        self.session.set_held(false);
        self.note_activity();
    }

    /// Whether the server has begun its last words, which are kept from the client. They may come in
    /// pieces, and so the session cannot go on in front of their end.
    pub(super) fn server_is_ending(&self) -> bool {
        matches!(&self.phase, Phase::Held(held) if held.server == Server::Ending)
    }

    /// Answers the held statement by an error, and throws it away.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        if self.server_is_ending() {
            self.close(End::ServerLeft, None);
            return;
        }
        if let Phase::Held(held) = std::mem::replace(&mut self.phase, Phase::Flowing) {
            let mid_message = held.mid_message;
            self.unpark();
            self.turn_away(refusal, mid_message);
        }
    }

    /// Answers the unit at the front of `kept` by an error, and discards it.
    pub(super) fn turn_away(&mut self, refusal: &Refusal, mid_message: bool) {
        if let Some(guard) = &mut self.guard {
            guard.refused();
        }
        match self.kept.first() {
            Some(first_tag) if !mid_message => {
                self.common.metrics.refused(refusal.sqlstate().as_str());
                self.ours.extend_from_slice(&refusal.encode());
                self.phase = Phase::Discarding(Discard::unit(*first_tag), Then::Ready);
            }
            _ => self.dismiss(&Refusal::HeldMidMessage, Remains::HalfOpen),
        }
    }

    /// Discards up to the end of the refused unit, as the server does after an error.
    pub(super) fn poll_discarding(&mut self, cx: &mut Context<'_>) -> Step {
        let Phase::Discarding(discard, _) = &mut self.phase else {
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
                self.discarded();
            }
            Ok(Discarded::Terminate) => return self.leave(Remains::HalfOpen),
            Err(error) => return self.client_misbehaved(error),
        }
        Step::Moved
    }

    /// All is thrown away that was to be; the client gets its answer, if there is one.
    fn discarded(&mut self) {
        let next = self.at_rest();
        self.phase = match std::mem::replace(&mut self.phase, next) {
            Phase::Discarding(_, Then::Ready) => {
                let status = self.shown_status();
                self.ours.extend_from_slice(&ready_for_query(status));
                return;
            }
            Phase::Discarding(_, Then::Resume(aborted)) => Phase::Aborted(aborted),
            other @ (Phase::Flowing
            | Phase::Held(_)
            | Phase::Aborted(_)
            | Phase::Leaving(_)
            | Phase::Closing(..)) => other,
        };
    }
}
