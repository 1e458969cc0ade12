//! What is to be done with the unit at the front of what a guarded client sent, and what has to be known
//! for it.

use crate::config::Blocked;
use crate::session::class::{Access, Why};
use crate::session::guard::answers::{answers, begin_tag, end_tag};
use crate::session::guard::decide::{Decision, Gates, Stand};
use crate::session::guard::names::Note;
use crate::session::guard::unit::{Class, End, Unit};
use crate::session::guard::{Block, Deferred};

/// A longer unit is not kept to be sent again.
const AGAIN_MAX: usize = 64 * 1024;

/// The length of a Sync.
const SYNC_LEN: usize = 5;

/// What is to be done with the unit at the front, and what has to be known for it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) decision: Decision,
    pub(super) stand: Stand,
    pub(super) bytes: usize,
    pub(super) front: usize,
    /// From which byte on it is sent again if the server refuses it for writing.
    pub(super) again: Option<usize>,
    /// What is answered in the server's stead, and the block then.
    pub(super) answers: Vec<u8>,
    pub(super) block: Block,
    pub(super) notes: Vec<Note>,
    /// It is a whole read in no transaction.
    pub(super) may_go_away: bool,
    /// Why it may write, if it may.
    pub(super) why: Option<Why>,
    /// It begins a block that the client wants read-only.
    pub(super) declares: bool,
}

impl Plan {
    pub(super) fn of(
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
pub(super) fn kind(why: Option<Why>) -> &'static str {
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
