//! A transaction that began by reading, while its gates want that, and then writes: it fails, and is to
//! be run again as a whole.
//!
//! The server's transaction is ended and a failed one put in its place, as when one is aborted in place:
//! so it gives its locks and its snapshot back at once, and the client ends it as it ends any that failed.

use super::abort::{FAILS, TRIES_MAX};
use super::inject::{NAME, Purpose, statement};
use super::leaving::Remains;
use super::{Phase, Relay, Step};
use crate::session::injected::{Answers, Ours};
use crate::session::scan::Door;
use crate::session::transaction::Status;
use crate::tls::stream::Socket;
use crate::wire::frontend::{SYNC, parse};
use crate::wire::refusal::Refusal;

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Fails the transaction that the server has open, because of the unit at the front.
    pub(super) fn fail_transaction(&mut self, tries: u32) -> Step {
        if !self.may_inject() {
            // Half a message of the server's own may have come: the rest of it wakes us.
            return Step::Stuck;
        }
        let messages = [
            statement("ROLLBACK"),
            statement("BEGIN"),
            parse(NAME, FAILS),
            SYNC.to_vec(),
        ];
        self.inject(&messages.concat(), Ours::All, Purpose::FailLate { tries });
        Step::Moved
    }

    /// The server has answered. An error of its own choice may be a cancel request that was late.
    pub(super) fn transaction_failed(&mut self, answers: &Answers, tries: u32) {
        self.tell_settings(answers);
        if matches!(self.phase, Phase::Leaving(_) | Phase::Closing(..)) {
            return;
        }
        let failed = answers.error.as_deref() == Some(b"42601") && answers.completed == 2;
        if !(failed && self.tracker.status() == Status::Failed) {
            tracing::warn!(session = self.session.id.0, ?answers, "not failed");
            if tries < TRIES_MAX {
                self.fail_transaction(tries + 1);
            } else {
                self.dismiss(&Refusal::AbortFailed, Remains::HalfOpen);
            }
            return;
        }
        if self.door.has_permit() {
            self.door.release();
            self.session.transaction_ended();
        }
        self.refuse_late_write();
    }

    /// Fails the batch that the server is in the middle of, all of it so far answered.
    pub(super) fn fail_batch_for_write(&mut self) -> Step {
        let between = self.injection.is_none()
            && self.server_scan.at_message_start()
            && self.to_server.is_empty()
            && !self.server.has_unsent();
        if !between {
            return Step::Stuck;
        }
        let messages = [parse(NAME, FAILS), SYNC.to_vec()].concat();
        self.inject(&messages, Ours::All, Purpose::FailBatchLate);
        Step::Moved
    }

    /// The server has undone the batch.
    pub(super) fn late_batch_failed(&mut self, answers: &Answers) {
        self.tell_settings(answers);
        if matches!(self.phase, Phase::Leaving(_) | Phase::Closing(..)) {
            return;
        }
        let failed = answers.error.as_deref() == Some(b"42601");
        if !failed || self.tracker.status() == Status::InTransaction {
            tracing::warn!(session = self.session.id.0, ?answers, "not failed");
            self.dismiss(&Refusal::AbortFailed, Remains::HalfOpen);
            return;
        }
        let refusal = self.late_refusal();
        self.expect_second_try();
        self.common.metrics.refused(refusal.sqlstate().as_str());
        self.ours.extend_from_slice(&refusal.encode());
        // Whatever is left of the batch, the client ends it by a Sync.
        self.skip_rest();
    }

    fn refuse_late_write(&mut self) {
        let refusal = self.late_refusal();
        self.expect_second_try();
        self.refuse_unit(&refusal);
    }
}
