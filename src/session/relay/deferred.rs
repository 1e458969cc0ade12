//! A block of which the client knows and the server does not: what of it goes to the server at once,
//! and how it begins there.
//!
//! ```text
//!   BEGIN: answered ──► SAVEPOINT, SET LOCAL: answered ──► the first statement ──► all of them are
//!                                │                                                 sent ahead of it
//!                                └── COMMIT, ROLLBACK: answered; nothing happened
//! ```
//!
//! The server gets the Parse of a statement that is answered: its name is to be there when the client
//! uses it again. An error of a deferred statement answers the first one, which is not executed then.

use super::abort::{Exempt, FAILS};
use super::guarded::Unsaid;
use super::inject::{NAME, Purpose, statement_bytes};
use super::{Phase, Relay, Step, Then};
use crate::session::guard::Block;
use crate::session::injected::{Answers, Ours};
use crate::session::scan::Discard;
use crate::session::transaction::Status;
use crate::tls::stream::Socket;
use crate::wire::backend::ready_for_query;
use crate::wire::frontend::{SYNC, parse, tag};

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Sends the front of a unit, whose end is ours. What answers the rest of it is kept with the guard.
    pub(super) fn send_front(&mut self, front: &[u8]) -> Step {
        let taken = self.client_scan.take(&mut self.tracker, &mut Exempt, front);
        if let Err(nonsense) = taken {
            return self.client_misbehaved(nonsense.bad);
        }
        self.tracker.sent(tag::SYNC);
        let messages = [front, &SYNC].concat();
        self.inject(&messages, Ours::Ready, Purpose::AnswerFront);
        Step::Moved
    }

    /// The server has answered the front of a unit, and the client has got that.
    pub(super) fn front_answered(&mut self, answers: &Answers) {
        let Some(guard) = &mut self.guard else {
            return;
        };
        let Some(Unsaid {
            answers: said,
            block,
        }) = guard.unsaid.take()
        else {
            return;
        };
        if answers.failed {
            // The server would have skipped the rest of the unit.
            guard.block.fail();
            let status = self.shown_status();
            self.ours.extend_from_slice(&ready_for_query(status));
        } else {
            guard.block = block;
            self.ours.extend_from_slice(&said);
        }
        self.note_activity();
    }

    /// The deferred block begins at the server, which has a permit for it. To go back in it, it has to
    /// fail first.
    pub(super) fn begin_deferred(&mut self, to_go_back: bool) -> Step {
        if !self.may_inject() {
            return Step::Stuck;
        }
        let Some(guard) = &self.guard else {
            return Step::Moved;
        };
        let (Block::Begun(deferred) | Block::Failed(deferred)) = &guard.block else {
            return Step::Moved;
        };
        let mut messages = Vec::new();
        for text in deferred.texts() {
            messages.extend(statement_bytes(text));
        }
        if to_go_back {
            messages.extend(parse(NAME, FAILS));
        }
        messages.extend(SYNC);
        self.session.transaction_began();
        self.inject(&messages, Ours::All, Purpose::BeginDeferred { to_go_back });
        Step::Moved
    }

    /// The server has begun it, or has not.
    pub(super) fn deferred_begun(&mut self, answers: &Answers, to_go_back: bool) {
        self.tell_settings(answers);
        let status = self.tracker.status();
        let Some(guard) = &mut self.guard else {
            return;
        };
        if status != Status::Idle {
            guard.block = Block::None;
        }
        match status {
            Status::InTransaction => {
                if !self.door.wants_read_only() && !self.is_enforced() {
                    // It may write, and is as any other.
                    self.guard = None;
                }
            }
            Status::Failed if to_go_back => {}
            Status::Failed | Status::Idle => {
                guard.block.fail();
                self.answer_by(&answers.refusal);
            }
        }
    }

    /// Answers the unit at the front by an error of the server's.
    fn answer_by(&mut self, refusal: &[u8]) {
        let (Phase::Flowing, Some(first_tag)) = (&self.phase, self.kept.first()) else {
            return;
        };
        self.ours.extend_from_slice(refusal);
        self.phase = Phase::Discarding(Discard::unit(*first_tag), Then::Ready);
    }
}
