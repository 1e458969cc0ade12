//! What a query string amounts to, as far as read-only mode has to know it: a lexer of our own, and
//! rules over its words. What they do not know is taken for a write.
//!
//! This is policy, not protection: which statements wait and which go on. The server itself refuses
//! what slips through, because its sessions are read-only; rules, triggers and functions that write
//! are seen by no lexer. So the rules err towards *write* wherever they err.
//!
//! Nothing here but [`normal()`] allocates, nothing recurses, and every byte is looked at a bounded number of times.

mod functions;
mod lexer;
mod normal;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not named here is a write"
)]
mod query;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not named here is a write"
)]
mod statement;
mod unit;

#[cfg(test)]
mod tests;

use self::unit::Unit;

pub use self::normal::{Normal, normal};

/// What a query string amounts to: the text of one Query, or of a Parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Nothing is in it but comments, blanks and semicolons.
    Empty,
    /// Reads and session state, also several, also with transaction control among them, that write
    /// nothing and escape nothing.
    Reads,
    /// Alone: begins a block.
    Begins(Access),
    /// Alone: `SAVEPOINT`, `SET LOCAL`, `SET TRANSACTION` (not read-write), `SET CONSTRAINTS`. It may
    /// be answered now and sent later, ahead of the first statement of its transaction.
    Defers(Tag),
    /// Alone: ends the transaction, without `AND CHAIN`.
    Ends(Ends),
    /// `RESET ALL` or `DISCARD ALL`, alone or among reads and session state, with no transaction
    /// control: it cannot be used before the unit has ended, and has then to be undone. A `DISCARD
    /// ALL` forgets all prepared statements.
    ResetsAll,
    /// Alone: `EXECUTE` of the statement with this name, as the server knows it.
    Executes(&'a [u8]),
    /// `PREPARE` or `DEALLOCATE`, alone or among reads: it changes which names mean what.
    Prepares,
    /// Anything else.
    Writes(Why),
}

/// The access mode that a `BEGIN` asks for; the last one in the statement counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// None is named: the session's default.
    Default,
    /// `READ ONLY`.
    ReadOnly,
    /// `READ WRITE`, which overrides the session's default.
    ReadWrite,
}

/// Which CommandComplete the server sends for a statement that can be deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Of `SAVEPOINT`.
    Savepoint,
    /// Of `SET LOCAL` and `SET TRANSACTION`.
    Set,
    /// Of `SET CONSTRAINTS`.
    SetConstraints,
}

impl Tag {
    /// The tag's text in a CommandComplete, without the zero byte behind it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Tag::Savepoint => "SAVEPOINT",
            Tag::Set => "SET",
            Tag::SetConstraints => "SET CONSTRAINTS",
        }
    }
}

/// How a transaction is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT`.
    Rollback,
}

/// Why something is taken for a write: for messages, never for decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It changes rows, sequences, files or the server's state.
    Write,
    /// It changes the catalog.
    Ddl,
    /// It would make the session, or this transaction, read-write.
    Escape,
    /// It cannot be told what it does.
    Unknown,
}

/// Reads a query string, without the zero byte behind it.
///
/// The answer holds with `standard_conforming_strings` on and off: a text that means different
/// things is unknown.
#[must_use]
pub fn shape(sql: &[u8]) -> Shape<'_> {
    Unit::read(sql).shape()
}

/// Whether this is exactly one statement, and it reads (or touches session state) and writes nothing.
///
/// For reports about what runs: a text that the server has cut off can hide what comes behind, and
/// is only known to be cut when that leaves a quote or comment open.
#[must_use]
pub fn reads_alone(sql: &[u8]) -> bool {
    Unit::read(sql).reads_alone()
}

/// Both at once, for whoever needs both.
#[must_use]
pub fn shape_and_alone(sql: &[u8]) -> (Shape<'_>, bool) {
    let unit = Unit::read(sql);
    (unit.shape(), unit.reads_alone())
}

/// Whether this is exactly one query that another session of the same user could execute as well, if
/// the first holds nothing that it uses: as far as its text tells, it neither uses nor changes what
/// belongs to its session.
#[must_use]
pub fn reads_anywhere(sql: &[u8]) -> bool {
    Unit::read(sql).reads_anywhere()
}
