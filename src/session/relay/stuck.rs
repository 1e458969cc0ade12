//! Conversations that stand still because of the client, and that a cancel request does nothing for:
//! the server waits for bytes, or for room.
//!
//! | stuck | what is done | what the client gets |
//! | --- | --- | --- |
//! | a COPY in, no data comes | CopyFail | the COPY's error (57014); what it still sends of the data comes to nothing |
//! | a batch whose answers were not asked for | Flush | its answers |
//! | a batch without its Sync, in a transaction, or that ran nothing | Sync of ours | nothing: its own Sync is answered as ever |
//! | the same outside of a transaction, and it ran something | it is made to fail | 40001, and the rest up to its Sync is skipped |
//! | a batch that failed, without its Sync | Sync of ours | its own Sync is answered by us |
//! | answers that the client does not read | they are thrown away, what runs is cancelled | its connection is cut |
//!
//! A Sync of ours outside of a transaction would commit what the batch has done so far, and the client
//! believes it to be one with the rest: therefore it fails. A client that is cut may have half a
//! message, behind which nothing can be said; like one whose network broke it does not know what became
//! of its last statement, and nothing tells it that all is well.

use super::inject::{NAME, Purpose};
use super::leaving::Remains;
use super::{Phase, Relay, Then};
use crate::session::injected::{Answers, Ours};
use crate::session::scan::{Discard, Door};
use crate::session::transaction::{Status, Waits};
use crate::tls::stream::Socket;
use crate::wire::frontend::{FLUSH, SYNC, copy_fail, parse, tag};
use crate::wire::refusal::Refusal;

/// A statement that fails before it touches anything. The server's log shows it.
const FAILS: &str = "pgdrain ended this unfinished batch";

/// What the server says of a COPY that we ended.
const COPY_ENDED: &str = "pgdrain ended it for maintenance: its client sent no data";

/// How far a client that does not read had come at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread {
    left: usize,
    from_server: u64,
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Frees a conversation that stands still, behind a gate that is closed. To be asked again: a
    /// client that does not read is cut at the second time, when it has taken nothing since.
    pub(super) fn free_stuck(&mut self) {
        if self.door.is_open() || !self.door.has_permit() {
            return;
        }
        if !self.to_client.is_empty() || self.client.has_unsent() {
            self.cut_deaf();
            return;
        }
        self.unread = None;
        let between = self.injection.is_none()
            && matches!(self.phase, Phase::Flowing)
            && self.kept.is_empty()
            && self.client_scan.at_message_start()
            && self.server_scan.at_message_start()
            && self.to_server.is_empty()
            && !self.server.has_unsent();
        if between && let Some(waits) = self.tracker.waits() {
            tracing::info!(session = self.session.id.0, ?waits, "freed from its client");
            self.session.freed();
            self.free(waits);
        }
    }

    fn free(&mut self, waits: Waits) {
        let in_transaction = self.tracker.status() != Status::Idle;
        match waits {
            Waits::CopyOfQuery => {
                self.to_server.push(&copy_fail(COPY_ENDED));
                self.tracker.sent(tag::COPY_FAIL);
            }
            Waits::CopyOfBatch => {
                self.tracker.sent(tag::COPY_FAIL);
                self.sync(&copy_fail(COPY_ENDED), Purpose::SkipRest);
            }
            Waits::Skipping => self.sync(&[], Purpose::SkipRest),
            Waits::Unflushed => self.to_server.push(&FLUSH),
            Waits::Batch { runs: true } if !in_transaction => {
                let messages = [parse(NAME, FAILS), SYNC.to_vec()].concat();
                self.inject(&messages, Ours::All, Purpose::FailBatch);
            }
            Waits::Batch { .. } => self.sync(&[], Purpose::Sync),
        }
    }

    /// Sends these and a Sync, whose `ReadyForQuery` the client does not see.
    fn sync(&mut self, first: &[u8], purpose: Purpose) {
        self.tracker.sent(tag::SYNC);
        let messages = [first, &SYNC].concat();
        self.inject(&messages, Ours::Ready, purpose);
    }

    /// The server is done with a batch that it skipped the rest of: the client's Sync is ours to
    /// answer.
    pub(super) fn skip_rest(&mut self) {
        if let Phase::Flowing = self.phase {
            self.phase = Phase::Discarding(Discard::unit(tag::SYNC), Then::Ready);
        }
    }

    /// The server has undone a batch that had no end yet.
    pub(super) fn batch_failed(&mut self, answers: &Answers) {
        let failed = answers.error.as_deref() == Some(b"42601");
        if !failed || self.tracker.status() != Status::Idle {
            tracing::warn!(
                session = self.session.id.0,
                ?answers,
                "the batch was not undone"
            );
            self.dismiss(&Refusal::AbortFailed, Remains::HalfOpen);
        } else if let Phase::Flowing = self.phase {
            let refusal = Refusal::AbortedInPlace;
            self.common.metrics.refused(refusal.sqlstate().as_str());
            self.ours.extend_from_slice(&refusal.encode());
            self.skip_rest();
        }
    }

    fn cut_deaf(&mut self) {
        let now = Unread {
            left: self.to_client.len(),
            from_server: self.session.totals().bytes_out,
        };
        if self.unread.replace(now) != Some(now) {
            return;
        }
        tracing::info!(
            session = self.session.id.0,
            peer = %self.session.client,
            left = now.left,
            "the client does not read and is cut"
        );
        self.session.freed();
        self.leave(Remains::Nothing);
        self.cancel_at_once();
    }
}
