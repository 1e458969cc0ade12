//! A client whose gates want it to read only: what it sends is looked at unit by unit, and goes on,
//! waits, is answered by us, or fails its transaction.
//!
//! The guard is set when a gate that wants to be read-only lets a transaction not start as it is, and
//! stays until none wants it, the server is as the client left it, and no block is deferred. In between
//! nothing goes on without having been looked at. What is decided is in `guard`; `plan` says what has to
//! be known for it, and `carry` carries it out.

mod carry;
mod plan;

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use self::plan::{Plan, kind};
use super::enforce::Settled;
use super::up::FromClient;
use super::{KEPT_MAX, Relay, Step};
use crate::config::Blocked;
use crate::session::class::{Access, Why};
use crate::session::guard::Block;
use crate::session::guard::decide::{Decision, Gates, Stand, decide};
use crate::session::guard::names::Names;
use crate::session::guard::unit::{Class, Look, look};
use crate::session::scan::Door;
use crate::session::transaction::{Status, Waits};
use crate::tls::stream::Socket;
use crate::wire::refusal::Refusal;

/// Who began to write in a transaction that had begun to read, and begins another block so soon, is
/// taken to try it again: that block waits from its `BEGIN`.
const TRIES_AGAIN: Duration = Duration::from_secs(2);

/// What is kept of a client while it is looked at.
#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) names: Names,
    pub(super) block: Block,
    /// The unit at the front of what is kept writes, or is taken to: it waits until traffic is open.
    waits: bool,
    /// Until when a block that begins is taken for a second try.
    tries_again: Option<Instant>,
    /// The name that the server was asked about, and how often in vain.
    pub(super) asked: Box<[u8]>,
    pub(super) asked_in_vain: u32,
    /// The client began the server's block as read-only.
    declared: bool,
    /// What is said when the server has answered the front of a unit.
    pub(super) unsaid: Option<Unsaid>,
    /// How many errors the server had sent when the names were last right.
    errors: u32,
    /// The server was told to send the answers that it has.
    flushed: bool,
}

/// What is said in the server's stead, and the block that there is then.
#[derive(Debug)]
pub(super) struct Unsaid {
    pub(super) answers: Vec<u8>,
    pub(super) block: Block,
}

impl Guard {
    /// The unit at the front was answered by an error of ours.
    pub(super) fn refused(&mut self) {
        self.block.fail();
        self.waits = false;
    }

    /// The server refused the unit at the front because it writes.
    pub(super) fn found_to_write(&mut self) {
        self.waits = true;
    }
}

/// What is at the front.
enum Front {
    More,
    Passes(usize),
    Asks(Box<[u8]>),
    Plan(Box<Plan>),
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Whether what the client sends has to be looked at from now on.
    pub(super) fn set_guard(&mut self) -> bool {
        if self.guard.is_none() && self.door.wants_read_only() {
            self.guard = Some(Box::new(Guard {
                errors: self.tracker.errors(),
                ..Guard::default()
            }));
        }
        self.guard.is_some()
    }

    /// The status that the client was told last.
    pub(super) fn shown_status(&self) -> u8 {
        let of_ours = self.guard.as_ref().and_then(|guard| guard.block.status());
        of_ours.unwrap_or(self.tracker.status().as_byte())
    }

    /// Whether the client believes to be in a block that the server knows nothing of.
    pub(super) fn has_deferred(&self) -> bool {
        let block = self.guard.as_ref().map(|guard| &guard.block);
        block.is_some_and(|block| *block != Block::None)
    }

    pub(super) fn poll_guarded(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            match self.read_client(cx) {
                FromClient::Some => {}
                FromClient::Nothing => break,
                FromClient::Ended => return self.leave(super::leaving::Remains::HalfOpen),
                FromClient::Broke(error) => return self.client_broke(&error),
            }
        }
        self.look_at_front(cx)
    }

    /// One look at the unit at the front, of a client that waits or does not.
    pub(super) fn look_at_front(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.client_scan.at_message_start() {
            return self.pass_rest(cx).unwrap_or(Step::Stuck);
        }
        if let Some(step) = self.end_guard() {
            return step;
        }
        let Some(stand) = self.stand() else {
            return Step::Stuck;
        };
        if self.kept.is_empty() {
            return Step::Stuck;
        }
        match self.front(stand) {
            Front::More => Step::Stuck,
            Front::Passes(bytes) => self.let_pass(cx, bytes),
            Front::Asks(name) => self.ask_what_it_does(cx, name),
            Front::Plan(plan) => self.carry_out(cx, *plan),
        }
    }

    /// Takes the guard away when it has nothing to do any more.
    fn end_guard(&mut self) -> Option<Step> {
        // A transaction that began before the mode writes on: its session is not read-only yet.
        let began_before = self.door.has_permit() && !self.is_enforced();
        if self.has_deferred() || self.door.wants_read_only() && !began_before {
            return None;
        }
        if self.tracker.at_boundary() && !self.door.has_permit() {
            match self.settle_read_only() {
                Settled::Done | Settled::Impossible => {}
                Settled::UnderWay => return Some(self.when_settled()),
            }
        }
        if self.is_enforced() {
            return None;
        }
        self.guard = None;
        self.stay_home();
        Some(Step::Moved)
    }

    /// Where the conversation stands; `None` where an answer has to come first.
    fn stand(&self) -> Option<Stand> {
        let block = self.guard.as_ref().map(|guard| &guard.block);
        if self.tracker.is_busy() {
            return match self.tracker.waits() {
                Some(Waits::Skipping) => Some(Stand::Skipping),
                Some(Waits::Unflushed | Waits::Batch { .. }) => Some(Stand::Batch),
                Some(Waits::CopyOfQuery | Waits::CopyOfBatch) | None => None,
            };
        }
        Some(match (block, self.tracker.status()) {
            (Some(Block::Begun(_)), _) => Stand::Deferred,
            (Some(Block::Failed(_)), _) => Stand::DeferredFailed,
            (Some(Block::None) | None, Status::Idle) => Stand::Outside,
            (Some(Block::None) | None, Status::InTransaction) => Stand::Block,
            (Some(Block::None) | None, Status::Failed) => Stand::Failed,
        })
    }

    /// What the gates are like for this client.
    fn gates(&self) -> Gates {
        let standing = self.door.standing(&self.config.hold);
        Gates {
            lets_reads_in: self.door.lets_reads_in(),
            writes: standing.map_or(Blocked::Queue, |standing| standing.blocked),
        }
    }

    /// Reads what is at the front, and decides.
    fn front(&mut self, stand: Stand) -> Front {
        let gates = self.gates();
        let full = self.kept.len() >= self.kept_at_most();
        let (errors, now) = (self.tracker.errors(), Instant::now());
        let escaped = self.has_escaped() && matches!(stand, Stand::Block | Stand::Batch);
        let Some(guard) = &mut self.guard else {
            return Front::More;
        };
        if guard.errors != errors {
            guard.errors = errors;
            guard.names.forget_statements();
        }
        if stand == Stand::Outside {
            guard.names.forget_portals();
        }
        if stand != Stand::Batch {
            guard.names.end_batch();
        }
        let asks = !matches!(stand, Stand::Failed | Stand::Batch | Stand::Skipping);
        let mut unit = match look(&self.kept, full, &guard.names, asks) {
            Look::More => return Front::More,
            Look::Passes(bytes) => return Front::Passes(bytes),
            Look::Asks(name) => return Front::Asks(name.into()),
            Look::Unit(unit) => unit,
        };
        if escaped && !unit.alone && unit.class == Class::Reads {
            // It may end the transaction and begin one that writes.
            unit.class = Class::Writes(Why::Escape);
        }
        if self.session.probe && unit.class.writes() {
            // It is ours, and it is the server that has to refuse it.
            unit.class = Class::Reads;
        }
        let begins = unit.begins_block && !matches!(unit.class, Class::Begins(Access::ReadOnly, _));
        let rejects = gates.writes == Blocked::Reject;
        if rejects && unit.begins_block {
            // Nothing is told to try again there: a second try is answered like the first.
            guard.waits = false;
        }
        if stand == Stand::Outside
            && begins
            && !rejects
            && let Some(until) = guard.tries_again.take()
            && now < until
        {
            guard.waits = true;
        }
        let mut decision = decide(stand, &unit, gates, guard.waits);
        if decision == Decision::Defer && guard.block.is_full_for(&unit) {
            decision = Decision::Forward;
        }
        let plan = Plan::of(decision, stand, unit, &guard.block, &self.kept, gates);
        Front::Plan(Box::new(plan))
    }

    /// How much of what a client sends is kept.
    fn kept_at_most(&self) -> usize {
        if self.door.is_open() {
            KEPT_MAX
        } else {
            self.config.hold.bytes_per_client
        }
    }

    /// A transaction of this client was failed because it wrote late. Where writes wait, a second try
    /// is to wait from its `BEGIN`; where they are refused, it is answered like the first.
    pub(super) fn expect_second_try(&mut self) {
        let queues = self.gates().writes == Blocked::Queue;
        if let Some(guard) = &mut self.guard
            && queues
        {
            guard.tries_again = Some(Instant::now() + TRIES_AGAIN);
        }
    }

    /// What the client is told of a write that comes too late to wait.
    pub(super) fn late_refusal(&self) -> Refusal {
        let declared = self.guard.as_ref().is_some_and(|guard| guard.declared);
        if declared {
            Refusal::WriteInReadOnly
        } else if self.gates().writes == Blocked::Reject {
            Refusal::WriteRejected(kind(Some(Why::Write)))
        } else {
            Refusal::LateWrite
        }
    }
}
