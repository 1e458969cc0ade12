//! A client whose gates want it to read only: what it sends is looked at unit by unit, and goes on,
//! waits, is answered by us, or fails its transaction.
//!
//! The guard is set when a gate that wants to be read-only lets a transaction not start as it is, and
//! stays until none wants it, the server is as the client left it, and no block is deferred. In between
//! nothing goes on without having been looked at. All of what is decided is in `guard`; here it is
//! carried out.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::again::Again;
use super::away::Whither;
use super::enforce::Settled;
use super::up::{FromClient, note_start};
use super::{KEPT_MAX, Phase, Relay, Step};
use crate::config::Blocked;
use crate::session::class::{Access, Why};
use crate::session::guard::answers::{answers, begin_tag, end_tag};
use crate::session::guard::decide::{Decision, Gates, Stand, decide};
use crate::session::guard::names::{Names, Note};
use crate::session::guard::unit::{Class, End, Look, Unit, look};
use crate::session::guard::{Block, Deferred};
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

/// What is to be done with the unit at the front, and what has to be known for it.
#[derive(Debug)]
struct Plan {
    decision: Decision,
    stand: Stand,
    bytes: usize,
    front: usize,
    /// From which byte on it is sent again if the server refuses it for writing.
    again: Option<usize>,
    /// What is answered in the server's stead, and the block then.
    answers: Vec<u8>,
    block: Block,
    notes: Vec<Note>,
    /// It is a whole read in no transaction.
    may_go_away: bool,
    /// Why it may write, if it may.
    why: Option<Why>,
    /// It begins a block that the client wants read-only.
    declares: bool,
}

/// What is at the front.
enum Front {
    More,
    Passes(usize),
    Asks(Box<[u8]>),
    Plan(Box<Plan>),
}

/// Whether a transaction may begin.
enum Start {
    Yes,
    No,
    Later(Step),
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

    fn carry_out(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        match plan.decision {
            Decision::Forward => self.start_and_forward(cx, plan),
            Decision::Pass => self.pass_unit(cx, plan),
            Decision::Defer | Decision::EndDeferred | Decision::AnswerEnd => {
                self.answer_unit(cx, plan)
            }
            Decision::Wait if self.has_deferred() && !self.door.wants_read_only() => {
                match self.start(false) {
                    Start::Yes => self.begin_deferred(false),
                    Start::No => self.wait(cx, true),
                    Start::Later(step) => step,
                }
            }
            Decision::Wait => self.wait(cx, true),
            Decision::WaitForReads => self.wait(cx, false),
            Decision::Refuse => self.refuse_unit(&Refusal::WriteRejected(kind(plan.why))),
            Decision::InFailed => self.refuse_unit(&Refusal::InFailedTransaction),
            Decision::FailTransaction => self.fail_transaction(1),
            Decision::FailBatch => self.fail_batch_of_unit(),
            Decision::GoBack => match self.start(true) {
                Start::Yes => self.begin_deferred(true),
                Start::No => self.wait(cx, false),
                Start::Later(step) => step,
            },
        }
    }

    /// Asks for a permit, behind a server that is as it is to be.
    fn start(&mut self, reads: bool) -> Start {
        if self.door.has_permit() {
            return Start::Yes;
        }
        match self.settle_read_only() {
            Settled::Done => {}
            Settled::UnderWay => return Start::Later(self.when_settled()),
            Settled::Impossible => return Start::No,
        }
        let admitted = if reads {
            self.door.admit_read()
        } else {
            self.door.admit()
        };
        if !admitted {
            return Start::No;
        }
        // The mode may have begun in between, and have found nobody inside.
        match self.settle_read_only() {
            Settled::Done => {
                self.go_on();
                Start::Yes
            }
            Settled::UnderWay | Settled::Impossible => {
                self.door.release();
                Start::Later(Step::Moved)
            }
        }
    }

    /// What was sent to the server just now has to be written; else its answer wakes us.
    fn when_settled(&self) -> Step {
        match self.injection {
            Some(_) => Step::Moved,
            None => Step::Stuck,
        }
    }

    /// It waits no more.
    fn go_on(&mut self) {
        if let Phase::Held(_) = self.phase {
            self.phase = Phase::Flowing;
            self.unpark();
        }
        if let Some(guard) = &mut self.guard {
            guard.waits = false;
        }
    }

    /// The unit waits: for reads to be let in, or because it `writes` for traffic to be open.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>, writes: bool) -> Step {
        if let Some(guard) = &mut self.guard {
            guard.waits = writes;
        }
        if let Phase::Held(_) = self.phase {
            return Step::Stuck;
        }
        self.park(cx, false)
    }

    /// Answers the unit by an error of ours and throws it away.
    pub(super) fn refuse_unit(&mut self, refusal: &Refusal) -> Step {
        if let Phase::Held(_) = self.phase {
            self.refuse(refusal);
        } else {
            self.turn_away(refusal, false);
        }
        Step::Moved
    }

    fn start_and_forward(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        let begins = matches!(plan.stand, Stand::Outside | Stand::Deferred);
        let start = if begins {
            self.start(true)
        } else if self.door.has_permit() || self.door.admit_read() {
            self.go_on();
            Start::Yes
        } else {
            Start::No
        };
        match start {
            Start::Yes if plan.stand == Stand::Deferred => self.begin_deferred(false),
            Start::Yes if plan.may_go_away => self.read_somewhere(cx, plan),
            Start::Yes => self.pass_unit(cx, plan),
            Start::No => self.wait(cx, false),
            Start::Later(step) => step,
        }
    }

    /// Sends a read to a standby, if there is one that it can go to.
    fn read_somewhere(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        match self.whither(plan.bytes) {
            Whither::Asked(step) => return step,
            Whither::Waits => {
                self.door.release();
                if let Some(guard) = &mut self.guard {
                    guard.waits = true;
                }
                return Step::Moved;
            }
            Whither::Standby => self.go_away(plan.bytes),
            Whither::Server => {}
        }
        self.pass_unit(cx, plan)
    }

    /// Sends the unit to the server.
    fn pass_unit(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        self.go_on();
        if plan.bytes == 0 {
            return Step::Stuck;
        }
        if !plan.may_go_away {
            self.forget_what_is_held();
        }
        self.again = plan
            .again
            .filter(|_from| self.tracker.at_boundary())
            .map(|from| Again::for_write(&self.kept[..plan.bytes], from));
        let declared = plan.declares;
        let outside = plan.stand == Stand::Outside;
        if let Some(guard) = &mut self.guard {
            guard.flushed = false;
            guard.declared = if outside { declared } else { guard.declared };
            plan.notes
                .into_iter()
                .for_each(|note| guard.names.note(note));
        }
        let busy = self.tracker.is_busy();
        let began = self.tracker.at_boundary();
        let step = self.let_pass(cx, plan.bytes);
        let permit = self.door.has_permit();
        note_start(&self.session, (permit && !began, busy), permit);
        step
    }

    /// Answers the unit in the server's stead. What comes in front of its first Bind goes to the server,
    /// with an end of ours.
    fn answer_unit(&mut self, cx: &mut Context<'_>, plan: Plan) -> Step {
        if plan.front > 0 && !self.may_inject() {
            return Step::Stuck;
        }
        if plan.front > 0 && !self.door.has_permit() && !self.door.admit_read() {
            return self.wait(cx, false);
        }
        self.go_on();
        let rest = self.kept.split_off(plan.bytes);
        let mut unit = std::mem::replace(&mut self.kept, rest);
        unit.truncate(plan.front);
        let Some(guard) = &mut self.guard else {
            return Step::Moved;
        };
        plan.notes
            .into_iter()
            .for_each(|note| guard.names.note(note));
        if unit.is_empty() {
            guard.block = plan.block;
            self.ours.extend_from_slice(&plan.answers);
            self.note_activity();
            return Step::Moved;
        }
        guard.unsaid = Some(Unsaid {
            answers: plan.answers,
            block: plan.block,
        });
        self.send_front(&unit)
    }

    /// Fails the batch that the server is in the middle of.
    fn fail_batch_of_unit(&mut self) -> Step {
        let unflushed = self.tracker.waits() == Some(Waits::Unflushed);
        let Some(guard) = &mut self.guard else {
            return Step::Moved;
        };
        if unflushed {
            if !std::mem::replace(&mut guard.flushed, true) {
                self.to_server.push(&crate::wire::frontend::FLUSH);
                return Step::Moved;
            }
            return Step::Stuck;
        }
        self.fail_batch_for_write()
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

impl Plan {
    fn of(
        decision: Decision,
        stand: Stand,
        unit: Unit<'_>,
        block: &Block,
        kept: &[u8],
        gates: Gates,
    ) -> Plan {
        let (answers, after) = spoken(decision, &unit, block, kept);
        let outside_of_all = stand == Stand::Outside;
        let outside = outside_of_all && gates.writes == Blocked::Queue;
        let single = unit.alone && matches!(unit.end, End::Query | End::Sync);
        let reads = matches!(unit.class, Class::Reads);
        let may_be_again = outside && single && reads && unit.plain && unit.bytes <= AGAIN_MAX;
        let from = if unit.from_start { 0 } else { unit.front };
        Plan {
            decision,
            stand,
            bytes: unit.bytes,
            front: front_of(decision, &unit),
            again: may_be_again.then_some(from),
            answers,
            block: after,
            may_go_away: outside_of_all && reads && matches!(unit.end, End::Query | End::Sync),
            why: unit.class.why(),
            declares: matches!(unit.class, Class::Begins(Access::ReadOnly, _)),
            notes: unit.notes,
        }
    }
}

/// What kind of statement was refused, as the client is told.
fn kind(why: Option<Why>) -> &'static str {
    match why {
        Some(Why::Write) => "The statement writes, and was not executed.",
        Some(Why::Ddl) => "The statement changes the catalog, and was not executed.",
        Some(Why::Escape) => "The statement would let others write, and was not executed.",
        Some(Why::Unknown) => "What the statement does cannot be told; it was not executed.",
        None => {
            "The statement reads, but is treated like a write: its session holds state that a standby does \
             not have, or the server has refused it because it writes. It was not executed."
        }
    }
}

/// A longer unit is not kept to be sent again.
const AGAIN_MAX: usize = 64 * 1024;

/// The length of a Sync.
const SYNC_LEN: usize = 5;

/// What is said in the server's stead, and the block then.
fn spoken(decision: Decision, unit: &Unit<'_>, block: &Block, kept: &[u8]) -> (Vec<u8>, Block) {
    let (command, after) = match (decision, unit.class, block) {
        (Decision::Defer, Class::Begins(_, text), _) => {
            (Some(begin_tag(text)), Block::Begun(Deferred::of(text)))
        }
        (Decision::Defer, Class::Defers(tag, text), Block::Begun(deferred)) => {
            let mut deferred = deferred.clone();
            deferred.add(text);
            (Some(tag.text()), Block::Begun(deferred))
        }
        (Decision::EndDeferred, Class::Ends(ends), block) => {
            let failed = matches!(block, Block::Failed(_));
            (Some(end_tag(ends, failed)), Block::None)
        }
        (Decision::AnswerEnd, _, block) => (None, block.clone()),
        _ => return (Vec::new(), Block::None),
    };
    let status = after.status().unwrap_or(b'I');
    let behind = &kept[front_of(decision, unit)..unit.bytes];
    (answers(behind, command, status), after)
}

/// How much of the unit goes to the server all the same: of one that executes nothing all but its Sync.
fn front_of(decision: Decision, unit: &Unit<'_>) -> usize {
    if decision == Decision::AnswerEnd && unit.end == End::Sync {
        unit.bytes - SYNC_LEN
    } else {
        unit.front
    }
}
