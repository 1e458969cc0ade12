//! What a session does and has done, counted by its relay alone and read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::session::Session;
use crate::clock::Stamp;

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// Nothing, outside of a transaction.
    Idle = 0,
    /// The server works for it.
    Active = 1,
    /// Nothing, inside a transaction.
    InTransaction = 2,
    /// Its next transaction waits at the gate.
    Held = 3,
    /// One side has left and the other is being ended.
    Closing = 4,
    /// Its transaction was aborted in place, and it has not ended it yet.
    Aborted = 5,
    /// It was told that its transaction block has begun, and the server does not know of it yet.
    Deferred = 6,
}

impl Activity {
    fn from_u8(byte: u8) -> Activity {
        match byte {
            0 => Activity::Idle,
            1 => Activity::Active,
            2 => Activity::InTransaction,
            3 => Activity::Held,
            5 => Activity::Aborted,
            6 => Activity::Deferred,
            _ => Activity::Closing,
        }
    }

    /// The word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Active => "active",
            Activity::InTransaction => "in_transaction",
            Activity::Held => "held",
            Activity::Closing => "closing",
            Activity::Aborted => "aborted",
            Activity::Deferred => "deferred",
        }
    }
}

/// Names what a server runs for a session, until it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running(u64);

/// Counters with one writer: a store costs as much as a plain one.
#[derive(Debug, Default)]
pub struct Meter {
    activity: AtomicU8,
    /// A [`Stamp`], as the others; zero for "none".
    transaction_since: AtomicU64,
    statement_since: AtomicU64,
    held_since: AtomicU64,
    /// When its transaction was last aborted in place.
    aborted_at: AtomicU64,
    /// When its conversation was last freed from its client.
    freed_at: AtomicU64,
    transactions: AtomicU64,
    /// What it ran when it was last seen to run one statement outside of a block, plus one.
    alone: AtomicU64,
    /// How often the server was ready for the next statement.
    answers: AtomicU64,
    /// Whether the session is over.
    pub(super) ended: AtomicBool,
    /// Whether its server connection was seen to end.
    server_ended: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// Traffic that was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions that came to their end.
    pub transactions: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes from servers.
    pub bytes_out: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.transactions += other.transactions;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl Session {
    /// What it does now.
    #[must_use]
    pub fn activity(&self) -> Activity {
        Activity::from_u8(self.meter.activity.load(Ordering::Relaxed))
    }

    /// Says what it does.
    #[inline]
    pub fn set_activity(&self, activity: Activity) {
        self.meter.activity.store(activity as u8, Ordering::Relaxed);
    }

    /// A transaction has begun, and with it a statement. It is noted to a tenth of a second.
    #[inline]
    pub fn transaction_began(&self) {
        let now = self.clock.about_now();
        self.meter.transaction_since.store(now, Ordering::Relaxed);
        self.meter.statement_since.store(now, Ordering::Relaxed);
    }

    /// A further statement has begun.
    #[inline]
    pub fn statement_began(&self) {
        let now = self.clock.about_now();
        self.meter.statement_since.store(now, Ordering::Relaxed);
    }

    /// The transaction has come to its end.
    #[inline]
    pub fn transaction_ended(&self) {
        self.meter.transaction_since.store(0, Ordering::Relaxed);
        add(&self.meter.transactions, 1);
    }

    /// Its transaction was aborted in place.
    pub fn transaction_aborted(&self) {
        self.transaction_ended();
        self.meter.aborted_at.store(self.stamp(), Ordering::Relaxed);
        self.set_activity(Activity::Aborted);
    }

    /// Its conversation was freed from its client.
    pub fn freed(&self) {
        self.meter.freed_at.store(self.stamp(), Ordering::Relaxed);
    }

    /// How long ago its conversation was freed from its client, if it ever was.
    #[must_use]
    pub fn freed_for(&self) -> Option<Duration> {
        self.since(&self.meter.freed_at)
    }

    /// How long ago its transaction was aborted in place, if one ever was.
    #[must_use]
    pub fn aborted_for(&self) -> Option<Duration> {
        self.since(&self.meter.aborted_at)
    }

    /// The server is ready for the next statement.
    #[inline]
    pub fn answered(&self) {
        add(&self.meter.answers, 1);
    }

    /// What the server runs now, if it runs something.
    #[must_use]
    pub fn running(&self) -> Running {
        Running(self.meter.answers.load(Ordering::Relaxed))
    }

    /// Whether that runs on.
    #[must_use]
    pub fn still_runs(&self, running: Running) -> bool {
        self.running() == running && !self.meter.ended.load(Ordering::Relaxed)
    }

    /// Whether the session is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.meter.ended.load(Ordering::Relaxed)
    }

    /// Its server connection was seen to end; its client may still read the last words.
    pub fn note_server_ended(&self) {
        self.meter.server_ended.store(true, Ordering::Relaxed);
    }

    /// Whether it can run nothing any more.
    #[must_use]
    pub fn is_without_server(&self) -> bool {
        self.has_ended() || self.meter.server_ended.load(Ordering::Relaxed)
    }

    /// What the server runs for it now is all that its transaction is.
    pub fn note_runs_alone(&self) {
        let running = self.running().0.saturating_add(1);
        self.meter.alone.store(running, Ordering::Release);
    }

    /// Whether the server runs one statement for it that was noted to be all of its transaction, and runs
    /// that very one still.
    #[must_use]
    pub fn runs_alone(&self) -> bool {
        let noted = self.meter.alone.load(Ordering::Acquire);
        noted
            .checked_sub(1)
            .is_some_and(|noted| self.still_runs(Running(noted)))
    }

    /// It waits at the gate, or no more.
    pub fn set_held(&self, held: bool) {
        self.meter
            .held_since
            .store(if held { self.stamp() } else { 0 }, Ordering::Relaxed);
    }

    /// Bytes came from the client.
    #[inline]
    pub fn count_in(&self, bytes: usize) {
        add(&self.meter.bytes_in, bytes as u64);
    }

    /// Bytes came from the server.
    #[inline]
    pub fn count_out(&self, bytes: usize) {
        add(&self.meter.bytes_out, bytes as u64);
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            transactions: self.meter.transactions.load(Ordering::Relaxed),
            bytes_in: self.meter.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.meter.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// How long its transaction runs already.
    #[must_use]
    pub fn transaction_age(&self) -> Option<Duration> {
        self.since(&self.meter.transaction_since)
    }

    /// How long ago its last statement began.
    #[must_use]
    pub fn statement_age(&self) -> Option<Duration> {
        self.since(&self.meter.statement_since)
    }

    /// When its transaction began, by the clock of all sessions; zero outside of one.
    #[must_use]
    pub fn transaction_stamp(&self) -> Stamp {
        self.meter.transaction_since.load(Ordering::Relaxed)
    }

    /// When it began to wait at the gate, by the same clock; zero if it does not.
    #[must_use]
    pub fn held_stamp(&self) -> Stamp {
        self.meter.held_since.load(Ordering::Relaxed)
    }

    /// How long it waits at the gate.
    #[must_use]
    pub fn held_for(&self) -> Option<Duration> {
        self.since(&self.meter.held_since)
    }

    fn stamp(&self) -> Stamp {
        self.clock.exact()
    }

    fn since(&self, stamp: &AtomicU64) -> Option<Duration> {
        self.clock.since(stamp.load(Ordering::Relaxed))
    }
}

#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}
