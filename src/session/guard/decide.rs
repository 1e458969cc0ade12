//! The table: what becomes of a unit.
//!
//! | | outside | in a block that is deferred | in one of the server's | in a failed one |
//! | --- | --- | --- | --- | --- |
//! | reads | passes | passes, the block in front of it | passes | passes alone |
//! | `BEGIN` | answered and deferred | passes | passes | passes alone |
//! | `SAVEPOINT`, `SET LOCAL` ... | passes | answered and deferred | passes | passes alone |
//! | `COMMIT`, `ROLLBACK` | passes | answered | passes | passes |
//! | writes | waits | waits | fails the transaction | 25P02 |
//!
//! Where writes are rejected and not queued nothing is deferred, and what would wait is refused. A read
//! passes only if nothing stricter than read-only is in its way; else it waits too. In the middle of a
//! batch whose front the server has executed, a write fails the batch.

use super::unit::{Class, End, Unit};
use crate::config::Blocked;
use crate::session::class::Access;

/// Where the client's conversation stands, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Stand {
    /// In no transaction.
    Outside,
    /// In a block that the server knows nothing of.
    Deferred,
    /// In such a block, which has failed.
    DeferredFailed,
    /// In a block of the server's.
    Block,
    /// In a failed block of the server's.
    Failed,
    /// In the middle of a batch.
    Batch,
    /// In the middle of a batch that has failed.
    Skipping,
}

/// What the gates are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Gates {
    /// Transactions that only read may start.
    pub(in crate::session) lets_reads_in: bool,
    /// What happens to the others.
    pub(in crate::session) writes: Blocked,
}

/// What is to be done with the unit at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Decision {
    /// It goes to the server, with a permit for reads; a deferred block goes ahead of it.
    Forward,
    /// It goes to the server, and begins nothing.
    Pass,
    /// Its statement is answered in the server's stead, and kept.
    Defer,
    /// Its statement ends a deferred block, and is answered in the server's stead.
    EndDeferred,
    /// It has no statement, or an empty one: the server gets what it prepares, and its end is answered
    /// in the server's stead.
    AnswerEnd,
    /// It waits until traffic is open.
    Wait,
    /// It waits until reads may start.
    WaitForReads,
    /// It is refused: not executed.
    Refuse,
    /// It is refused, and its transaction fails with it.
    FailTransaction,
    /// It is refused, and its batch fails with it.
    FailBatch,
    /// It is refused as in any failed transaction.
    InFailed,
    /// It goes back in a failed block of which the server knows nothing yet.
    GoBack,
}

/// See the table above. `waits` when it has been decided before that the unit has to wait until traffic
/// is open.
#[must_use]
pub(in crate::session) fn decide(
    stand: Stand,
    unit: &Unit<'_>,
    gates: Gates,
    waits: bool,
) -> Decision {
    match stand {
        Stand::Outside if waits => blocked(gates),
        Stand::Outside => outside(unit, gates),
        Stand::Deferred if waits => blocked(gates),
        Stand::Deferred => deferred(unit, gates),
        Stand::DeferredFailed => deferred_failed(unit),
        Stand::Block if unit.class.writes() => Decision::FailTransaction,
        Stand::Batch if unit.class.writes() => Decision::FailBatch,
        Stand::Block | Stand::Batch => Decision::Forward,
        Stand::Failed => failed(unit, gates),
        Stand::Skipping => Decision::Pass,
    }
}

/// A write.
fn blocked(gates: Gates) -> Decision {
    match gates.writes {
        Blocked::Queue => Decision::Wait,
        Blocked::Reject if gates.lets_reads_in => Decision::Refuse,
        // The stricter hold says what becomes of it.
        Blocked::Reject => Decision::Wait,
    }
}

/// A read.
fn reads(gates: Gates) -> Decision {
    if gates.lets_reads_in {
        Decision::Forward
    } else {
        Decision::WaitForReads
    }
}

fn outside(unit: &Unit<'_>, gates: Gates) -> Decision {
    match unit.class {
        Class::Writes(_) => blocked(gates),
        Class::Begins(Access::Default, _)
            if gates.lets_reads_in && gates.writes == Blocked::Queue && can_be_answered(unit) =>
        {
            Decision::Defer
        }
        Class::Nothing
        | Class::Empty
        | Class::Reads
        | Class::Begins(..)
        | Class::Defers(..)
        | Class::Ends(_)
        | Class::ResetsAll
        | Class::Prepares => reads(gates),
    }
}

fn deferred(unit: &Unit<'_>, gates: Gates) -> Decision {
    match unit.class {
        Class::Writes(_) => blocked(gates),
        Class::Nothing if unit.end == End::Sync => Decision::AnswerEnd,
        Class::Empty if unit.end == End::Query => Decision::AnswerEnd,
        Class::Defers(..) if can_be_answered(unit) => Decision::Defer,
        Class::Ends(_) if can_be_answered(unit) => Decision::EndDeferred,
        Class::Nothing
        | Class::Empty
        | Class::Reads
        | Class::Begins(..)
        | Class::Defers(..)
        | Class::Ends(_)
        | Class::ResetsAll
        | Class::Prepares => reads(gates),
    }
}

fn deferred_failed(unit: &Unit<'_>) -> Decision {
    match unit.class {
        Class::Ends(_) if can_be_answered(unit) => Decision::EndDeferred,
        Class::Nothing if unit.end == End::Sync => Decision::AnswerEnd,
        Class::Empty if unit.end == End::Query => Decision::AnswerEnd,
        Class::Nothing
        | Class::Empty
        | Class::Reads
        | Class::Begins(..)
        | Class::Defers(..)
        | Class::Ends(_)
        | Class::ResetsAll
        | Class::Prepares
        | Class::Writes(_) => match unit.goes_back {
            true => Decision::GoBack,
            false => Decision::InFailed,
        },
    }
}

/// The server refuses every statement but one that ends the transaction or goes back in it. What comes
/// behind such a one in the same unit would be executed.
fn failed(unit: &Unit<'_>, gates: Gates) -> Decision {
    let single = unit.executes <= 1 && matches!(unit.end, End::Sync | End::Flush);
    match unit.class {
        Class::Ends(_) | Class::Nothing => Decision::Pass,
        _ if unit.goes_back => reads(gates),
        // It may be the end under a name that is not known.
        Class::Writes(_) if single => reads(gates),
        Class::Writes(_) => Decision::InFailed,
        Class::Empty
        | Class::Reads
        | Class::Begins(..)
        | Class::Defers(..)
        | Class::ResetsAll
        | Class::Prepares => reads(gates),
    }
}

/// Whether everything behind its front can be answered in the server's stead.
fn can_be_answered(unit: &Unit<'_>) -> bool {
    match unit.end {
        End::Query => true,
        End::Sync | End::Flush => unit.executes == 1 && unit.plain && front_can_be_answered(unit),
        End::Call | End::Cut => false,
    }
}

/// What comes in front of the first Bind goes to the server with a Sync, which makes an end of it.
fn front_can_be_answered(unit: &Unit<'_>) -> bool {
    unit.end == End::Sync || unit.front == 0
}
