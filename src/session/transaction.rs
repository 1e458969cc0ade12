//! Where transactions begin and end, seen from the messages that pass.
//!
//! The tracker follows what the server still owes. A **unit** ends with the message that the
//! server answers by one `ReadyForQuery`: Query, FunctionCall or Sync. Three things make counting
//! harder than it looks (Postgres documentation sections 55.2.3 and 55.2.6; `PostgresMain` and
//! `CopyGetData` in the server):
//!
//! - After an error in an extended message the server skips everything up to the next Sync, a
//!   pipelined Query included: units merge.
//! - While it reads COPY data the server ignores Sync and Flush: a Sync may never be answered. In
//!   the middle of the data it is, if the server has found an error in front of it.
//! - An extended message without a Sync holds locks and is answered by no `ReadyForQuery`.
//!
//! Where a client breaks the protocol so that nobody can tell, the tracker counts too much rather
//! than too little, or says that it has lost count: such a session is not taken for quiescent.

mod copy;
mod parts;

use std::collections::VecDeque;

use self::parts::{Batch, Copy, Data, End, Unit};
use crate::wire::backend::tag as from_server;
use crate::wire::frontend::tag as from_client;

/// Units that may be unanswered at once; a client that is further ahead is read no more until the
/// server catches up. Bounds the memory of a session.
const UNITS_MAX: usize = 4096;

/// The status byte of `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `I`: no transaction.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Status {
    /// Reads the byte; one that the protocol does not know counts as a transaction, which is the
    /// careful guess.
    #[must_use]
    pub fn from_byte(byte: u8) -> Status {
        match byte {
            b'I' => Status::Idle,
            b'E' => Status::Failed,
            _ => Status::InTransaction,
        }
    }

    /// The byte.
    #[must_use]
    pub fn as_byte(self) -> u8 {
        match self {
            Status::Idle => b'I',
            Status::InTransaction => b'T',
            Status::Failed => b'E',
        }
    }
}

/// What a server waits for that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The data of a COPY that a Query began.
    CopyOfQuery,
    /// The data of a COPY that an Execute began.
    CopyOfBatch,
    /// The Sync of a batch that has failed.
    Skipping,
    /// A Flush or Sync, to send the answers that it has; or it is still at work on them.
    Unflushed,
    /// The rest of a batch, all of it so far answered.
    Batch {
        /// Whether something of it may have done work.
        runs: bool,
    },
}

/// What the messages of one session so far amount to.
#[derive(Debug)]
pub struct Tracker {
    /// Units that were sent and not answered by `ReadyForQuery`, oldest first.
    units: VecDeque<Unit>,
    /// What was sent since the end of the last unit.
    open: Batch,
    /// Extended messages of the oldest unit (or of `open`) that were answered.
    answered: u32,
    /// Syncs behind the beginning of the data of a COPY: answered if the server found an error in
    /// front of them, ignored if it completes. They are the first units, behind the COPY's Query.
    doubtful: usize,
    /// The data of a COPY by the oldest unit had ended before the server asked for it.
    ended_ahead: bool,
    /// Nobody can tell which answer is for what: the session counts as busy from here on.
    lost_count: bool,
    status: Status,
    copy: Copy,
    /// How many errors the server has sent, modulo 2^32.
    errors: u32,
}

impl Default for Tracker {
    /// A session that has just logged in.
    fn default() -> Tracker {
        Tracker {
            units: VecDeque::new(),
            open: Batch::default(),
            answered: 0,
            doubtful: 0,
            ended_ahead: false,
            lost_count: false,
            status: Status::Idle,
            copy: Copy::No,
            errors: 0,
        }
    }
}

impl Tracker {
    /// The status of the last `ReadyForQuery`.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Counts the errors that the server has sent.
    #[must_use]
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Nothing runs, nothing is owed, and no message without a Sync is outstanding: a transaction
    /// begins with the next message, and none of the session's is left.
    #[inline]
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.status == Status::Idle && self.nothing_sent()
    }

    /// Whether the server works on something, or waits for more of it.
    #[inline]
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.nothing_sent()
    }

    /// Whether the client may send more while a gate is being closed: not while a whole unit is
    /// unanswered, but always the data of a COPY, and the rest of a batch. A session whose answers
    /// nobody can tell apart has no steps.
    #[must_use]
    pub fn may_send_in_step(&self) -> bool {
        self.units.is_empty() || self.copy != Copy::No || self.lost_count
    }

    /// Whether all that the server has is one Query, or a batch with one Execute and its Sync, outside of
    /// a block: with its answer the session's transaction ends.
    #[must_use]
    pub fn runs_alone(&self) -> bool {
        let idle = self.status == Status::Idle && self.copy == Copy::No && !self.lost_count;
        match self.units.front() {
            Some(unit) if idle && self.units.len() == 1 && self.open.is_empty() => match unit.end {
                End::Query => unit.batch.is_empty(),
                End::Sync => unit.batch.executes <= 1,
            },
            Some(_) | None => false,
        }
    }

    /// Whether as many units are unanswered as may be.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.units.len() >= UNITS_MAX
    }

    /// What the server waits for in the middle of a unit, if it waits; `None` too where whole units
    /// are unanswered.
    #[must_use]
    pub fn waits(&self) -> Option<Waits> {
        let units = self.units.len();
        match self.copy {
            _ if self.lost_count || self.doubtful > 0 => None,
            Copy::In(_) if self.copy_at() == 1 => (units == 1).then_some(Waits::CopyOfQuery),
            Copy::In(_) => (units == 0).then_some(Waits::CopyOfBatch),
            Copy::Both => None,
            Copy::No if units > 0 || self.open.is_empty() => None,
            Copy::No if self.open.skipping => Some(Waits::Skipping),
            Copy::No if self.answered < self.open.expected => Some(Waits::Unflushed),
            Copy::No => Some(Waits::Batch {
                runs: self.open.runs,
            }),
        }
    }

    /// Replication streams: there is no transaction to wait for.
    #[must_use]
    pub fn streams_both_ways(&self) -> bool {
        self.copy == Copy::Both
    }

    /// Whether a message of this type starts a transaction when it comes at a boundary. COPY
    /// messages that arrive late are ignored by the server, Flush asks for nothing, and Terminate
    /// ends the session.
    #[inline]
    #[must_use]
    pub fn starts_transaction(tag: u8) -> bool {
        !matches!(
            tag,
            from_client::COPY_DATA
                | from_client::COPY_DONE
                | from_client::COPY_FAIL
                | from_client::FLUSH
                | from_client::TERMINATE
        )
    }

    /// A client's message has been forwarded to its last byte.
    #[inline]
    pub fn sent(&mut self, tag: u8) {
        match tag {
            from_client::QUERY | from_client::FUNCTION_CALL => {
                self.in_place_of_data();
                self.end_unit(End::Query);
            }
            from_client::SYNC => self.sync(),
            from_client::PARSE
            | from_client::BIND
            | from_client::DESCRIBE
            | from_client::EXECUTE
            | from_client::CLOSE => {
                self.in_place_of_data();
                self.extended(tag);
            }
            from_client::COPY_DATA => self.copy_data(Data::Some),
            from_client::COPY_DONE | from_client::COPY_FAIL => self.copy_data(Data::Ended),
            // Flush, Terminate; anything else is for the server to refuse.
            _ => {}
        }
    }

    /// A message of the server has begun. `ReadyForQuery` is told by [`Tracker::ready`] instead.
    #[inline]
    pub fn received(&mut self, tag: u8) {
        match tag {
            from_server::PARSE_COMPLETE
            | from_server::BIND_COMPLETE
            | from_server::CLOSE_COMPLETE
            | from_server::NO_DATA
            | from_server::ROW_DESCRIPTION
            | from_server::PORTAL_SUSPENDED
            | from_server::EMPTY_QUERY => self.answered(),
            from_server::COMMAND_COMPLETE => {
                self.copy_completed();
                self.answered();
            }
            from_server::ERROR => self.error(),
            from_server::COPY_IN => self.copy_in(),
            from_server::COPY_BOTH => self.copy = Copy::Both,
            _ => {}
        }
    }

    /// The server has sent `ReadyForQuery`.
    #[inline]
    pub fn ready(&mut self, status: Status) {
        if self.units.pop_front().is_none() {
            // A Sync that looked ignored was not: it ended what was open.
            self.open = Batch::default();
        }
        self.answered = 0;
        self.doubtful = 0;
        self.ended_ahead = false;
        self.copy = Copy::No;
        self.status = status;
    }

    #[inline]
    fn nothing_sent(&self) -> bool {
        self.units.is_empty() && self.open.is_empty() && self.copy == Copy::No && !self.lost_count
    }

    /// The batch that the server answers now.
    fn front(&self) -> &Batch {
        self.units.front().map_or(&self.open, |unit| &unit.batch)
    }

    /// In the data of a COPY the server refuses any other message, and ends the COPY; one that it
    /// reads when an error in the data has ended the COPY already, it carries out. Which of the two
    /// it was its answers do not tell.
    #[inline]
    fn in_place_of_data(&mut self) {
        self.lost_count |= matches!(self.copy, Copy::In(_));
    }

    /// One more message that the server answers for itself, unless it skips it.
    #[inline]
    fn extended(&mut self, tag: u8) {
        if !self.open.skipping {
            self.open.runs |= matches!(tag, from_client::BIND | from_client::EXECUTE);
            self.open.executes += u32::from(tag == from_client::EXECUTE);
            self.open.expected = self.open.expected.saturating_add(1);
            self.open.data = Data::None;
        }
    }

    /// One of them was answered. The same types answer a Query, which is not counted so.
    #[inline]
    fn answered(&mut self) {
        if self.answered < self.front().expected {
            self.answered += 1;
        }
    }

    #[inline]
    fn end_unit(&mut self, end: End) {
        if end == End::Query && self.open.skipping {
            return;
        }
        let batch = std::mem::take(&mut self.open);
        self.units.push_back(Unit {
            batch: Batch {
                skipping: false,
                ..batch
            },
            end,
            data_behind: Data::None,
        });
    }

    fn sync(&mut self) {
        match self.copy {
            Copy::In(Data::None) => {}
            Copy::In(Data::Some | Data::Ended) => {
                self.doubtful += 1;
                self.end_unit(End::Sync);
            }
            Copy::No | Copy::Both => self.end_unit(End::Sync),
        }
    }

    /// An error in an extended message makes the server skip to the next Sync; one in a Query is
    /// followed by its own `ReadyForQuery`.
    fn error(&mut self) {
        self.errors = self.errors.wrapping_add(1);
        // Which of the Syncs in the data were read in front of the error, and so ignored, nobody can
        // tell.
        self.lost_count |= self.doubtful > 0;
        self.doubtful = 0;
        if let Copy::In(_) = self.copy {
            self.copy = Copy::No;
        }
        if self.answered >= self.front().expected {
            return;
        }
        while let Some(unit) = self.units.front_mut() {
            if unit.end == End::Sync {
                // What is left of this unit is its Sync.
                unit.batch = Batch::default();
                self.answered = 0;
                return;
            }
            self.units.pop_front();
        }
        self.open = Batch {
            skipping: true,
            ..Batch::default()
        };
        self.answered = 0;
    }
}

#[cfg(test)]
mod tests;
