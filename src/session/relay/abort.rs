//! Abort in place: a transaction that sits idle is ended, and the connection survives.
//!
//! ```text
//!   Flowing ── ROLLBACK, BEGIN, a statement that fails ──► Aborted, untold
//!                                                             │ told 40001
//!                      its ROLLBACK was answered              ▼
//!   Flowing ◄──────────────────────────────────────────── Aborted, told
//! ```
//!
//! The server's session is then in a failed transaction without a lock, a snapshot or a number, also
//! where savepoints were open, and the session gives its permit back. What it sends from then on:
//!
//! | | untold | told |
//! | --- | --- | --- |
//! | `ROLLBACK` alone | goes to the server | goes to the server |
//! | `COMMIT`, `PREPARE TRANSACTION` alone | 40001, and we roll back: else the server would answer them without an error | `COMMIT` goes to the server |
//! | `ROLLBACK TO` alone | 40001 | goes to the server |
//! | `ROLLBACK` and more | waits for a permit | waits for a permit |
//! | what may end the transaction and do more | 40001 | waits for a permit |
//! | anything else | 40001 | 25P02 |
//!
//! Behind an open gate a client that was told is as any other.

use std::task::Context;

use super::inject::{NAME, Purpose, statement};
use super::leaving::Remains;
use super::up::FromClient;
use super::{Phase, Relay, Step, Then};
use crate::session::injected::{Answers, Ours};
use crate::session::registry::Activity;
use crate::session::scan::{Discard, Door};
use crate::session::transaction::Status;
use crate::session::verb::{Text, Unit, Verb, unit};
use crate::tls::stream::Socket;
use crate::wire::frontend::{SYNC, parse};
use crate::wire::refusal::Refusal;

/// A statement that fails before it touches anything. The server's log shows it.
pub(super) const FAILS: &str = "pgdrain aborted this idle transaction";

/// A statement that is known to be one of ours is shorter.
const UNIT_MAX: usize = 512;

/// A cancel request that is late may hit a message of ours.
pub(super) const TRIES_MAX: u32 = 3;

/// A session whose transaction was aborted, from then on until its server is idle.
#[derive(Debug)]
pub(super) struct Aborted {
    told: Told,
    /// `ParameterStatus` of the rollback: the client gets them when it next sends something.
    settings: Vec<u8>,
}

/// Whether the client knows that its transaction has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// A gate that lets everything through: for what starts nothing.
pub(super) struct Exempt;

impl Door for Exempt {
    fn has_permit(&self) -> bool {
        true
    }
    fn admit(&mut self) -> bool {
        true
    }
    fn is_open(&self) -> bool {
        true
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Ends the transaction of a session that sits idle in it. One at work, or in the middle of a
    /// message, is let be.
    pub(super) fn abort_in_place(&mut self) {
        // One that throws the rest of a failed batch away is idle too.
        let idle = matches!(
            self.phase,
            Phase::Flowing | Phase::Discarding(_, Then::Ready)
        );
        let idle = idle && self.kept.is_empty();
        // Without a transaction there is nothing to end: the server is about to refuse what it was sent.
        let inside = self.tracker.status() != Status::Idle;
        if idle && inside && self.door.has_permit() && self.may_inject() {
            self.try_abort(1);
        }
    }

    fn try_abort(&mut self, tries: u32) {
        let messages = [
            statement("ROLLBACK"),
            statement("BEGIN"),
            parse(NAME, FAILS),
            SYNC.to_vec(),
        ];
        self.inject(&messages.concat(), Ours::All, Purpose::Abort { tries });
    }

    /// The server has answered. An error of its own choice may be a cancel request that was late.
    pub(super) fn aborted(&mut self, answers: &Answers, tries: u32) {
        let failed = answers.error.as_deref() == Some(b"42601") && answers.completed == 2;
        if !(failed && self.tracker.status() == Status::Failed) {
            tracing::warn!(
                session = self.session.id.0,
                ?answers,
                "not aborted in place"
            );
            if tries < TRIES_MAX && !matches!(self.phase, Phase::Leaving(_) | Phase::Closing(..)) {
                self.try_abort(tries + 1);
            } else {
                self.dismiss(&Refusal::AbortFailed, Remains::HalfOpen);
            }
            return;
        }
        tracing::info!(session = self.session.id.0, "transaction aborted in place");
        if let Phase::Flowing = self.phase {
            let settings = answers.settings.clone();
            self.phase = Phase::Aborted(Box::new(Aborted {
                told: Told::No,
                settings,
            }));
        }
        self.session.transaction_aborted();
        self.door.release();
    }

    /// In a failed transaction that holds nothing, and without a permit.
    pub(super) fn is_aborted(&self) -> bool {
        !self.door.has_permit()
            && self.tracker.status() == Status::Failed
            && !self.tracker.is_busy()
    }

    /// What a session does that has nothing else to do.
    pub(super) fn at_rest(&self) -> Phase {
        if self.is_aborted() && self.guard.is_none() {
            self.session.set_activity(Activity::Aborted);
            Phase::Aborted(Box::new(Aborted {
                told: Told::Yes,
                settings: Vec::new(),
            }))
        } else {
            Phase::Flowing
        }
    }

    pub(super) fn poll_aborted(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            match self.read_client(cx) {
                FromClient::Some => {}
                FromClient::Nothing => break,
                FromClient::Ended => return self.leave(Remains::HalfOpen),
                FromClient::Broke(error) => return self.client_broke(&error),
            }
        }
        let all = self.kept.len() >= UNIT_MAX || self.may_have_more();
        let Phase::Aborted(aborted) = &mut self.phase else {
            return Step::Moved;
        };
        if self.tracker.is_busy() {
            return Step::Stuck;
        }
        let told = aborted.told;
        if self.tracker.status() == Status::Idle
            || (told == Told::Yes && (self.door.is_open() || self.guard.is_some()))
        {
            self.phase = Phase::Flowing;
            self.note_activity();
            return Step::Moved;
        }
        if self.kept.is_empty() {
            return Step::Stuck;
        }
        let unit = unit(&self.kept, all);
        if unit == Unit::More {
            return Step::Stuck;
        }
        self.ours.append(&mut aborted.settings);
        self.decide(cx, told, unit)
    }

    /// See the table above.
    fn decide(&mut self, cx: &mut Context<'_>, told: Told, unit: Unit) -> Step {
        match (unit, told) {
            (Unit::More, _) => Step::Stuck,
            (Unit::Terminate, _) => self.leave(Remains::HalfOpen),
            (Unit::Stray, _) => {
                let settings = Vec::new();
                let aborted = Box::new(Aborted { told, settings });
                self.phase = Phase::Discarding(Discard::message(), Then::Resume(aborted));
                Step::Moved
            }
            (Unit::Passes(bytes) | Unit::Lone(Verb::Rollback, bytes), _)
            | (Unit::Lone(Verb::RollbackTo | Verb::Commit, bytes), Told::Yes) => {
                self.let_pass(cx, bytes)
            }
            // Half a message of the server's own may have come: the rest of it wakes us.
            (Unit::Lone(Verb::Commit | Verb::PrepareTransaction, _), Told::No)
                if !self.may_inject() =>
            {
                Step::Stuck
            }
            (Unit::Lone(Verb::Commit | Verb::PrepareTransaction, _), Told::No) => {
                let messages = [statement("ROLLBACK"), SYNC.to_vec()].concat();
                self.inject(&messages, Ours::All, Purpose::RefuseCommit);
                Step::Moved
            }
            (Unit::Begins(Text::RollsBack), Told::No) if self.door.is_open() => {
                self.phase = Phase::Flowing;
                Step::Moved
            }
            (Unit::Begins(Text::RollsBack), _)
            | (Unit::Begins(Text::Unknown) | Unit::Lone(Verb::PrepareTransaction, _), Told::Yes) => {
                self.park(cx, false)
            }
            (
                Unit::Lone(Verb::RollbackTo, _)
                | Unit::Begins(Text::Unknown | Text::Other | Text::Begins | Text::Lone(_)),
                Told::No,
            ) => self.answer(&Refusal::AbortedInPlace),
            (Unit::Begins(Text::Other | Text::Begins | Text::Lone(_)), Told::Yes) => {
                self.answer(&Refusal::InFailedTransaction)
            }
        }
    }

    /// Answers the unit at the front by an error, in the server's stead.
    fn answer(&mut self, refusal: &Refusal) -> Step {
        self.turn_away(refusal, false);
        Step::Moved
    }

    /// The unit at the front starts nothing: it needs no permit. What is behind it waits for the
    /// answer.
    pub(super) fn let_pass(&mut self, cx: &mut Context<'_>, bytes: usize) -> Step {
        let rest = self.kept.split_off(bytes.min(self.kept.len()));
        let now = std::mem::replace(&mut self.kept, rest);
        match self.client_scan.take(&mut self.tracker, &mut Exempt, &now) {
            Ok(_) => {
                // As in `forward`: a broken server shows when it is read.
                let _ = self.to_server.write_through(&mut self.server, cx, &now);
                Step::Moved
            }
            Err(nonsense) => self.client_misbehaved(nonsense.bad),
        }
    }

    /// The server has rolled back; the client's `COMMIT` is still in front of us.
    pub(super) fn commit_refused(&mut self, answers: &Answers) {
        if self.tracker.status() != Status::Idle || answers.error.is_some() {
            tracing::warn!(session = self.session.id.0, ?answers, "not rolled back");
            self.dismiss(&Refusal::AbortFailed, Remains::HalfOpen);
            return;
        }
        if let Phase::Aborted(_) = self.phase {
            self.ours.extend_from_slice(&answers.settings);
            self.turn_away(&Refusal::AbortedInPlace, false);
            self.session.set_activity(Activity::Idle);
        }
    }
}
