//! Units that are sent again, and the client learns nothing of it: one whose prepared statement has to be
//! prepared anew after a change of its table, once, and one that the server has refused because it
//! writes, when writes are let in.
//!
//! ```text
//!   sent ── refused, outside of a transaction ──► asked for its text ──► prepared anew ──► sent again
//!    │                                                  │                     │
//!    └── anything else: goes to the client              └─────────────────────┴── failed: the refusal
//!                                                                                 goes to the client
//! ```
//!
//! Of the second kind the refusal is not passed on, and the unit is put back in front of what the client has
//! sent since; there it waits.
//!
//! Batches of the first kind are kept only for a while after a hold on the database has ended. The permit stays with the
//! session from the first sending to the last answer. A client that sends more before it has its answer
//! gets the refusal: what it sent would come in front of what is sent again.

use std::task::Context;

use super::abort::Exempt;
use super::down::FromServer;
use super::inject::{NAME, Purpose};
use super::{Phase, Relay};
use crate::session::cached_plan::{Answer, answer, executes, text_and_types};
use crate::session::injected::{Answers, Ours};
use crate::session::refused_write;
use crate::tls::stream::Socket;
use crate::wire::frontend::{
    Named, SYNC, bind_text, close, close_bytes, execute, parse, parse_typed,
};

/// What the server knows of a statement that was prepared by the protocol.
const TEXT: &str = "SELECT statement, parameter_types::pg_catalog.oid[]::pg_catalog.text \
    FROM pg_catalog.pg_prepared_statements \
    WHERE name OPERATOR(pg_catalog.=) $1 AND NOT from_sql";

/// An answer that is longer is not a refusal.
const ANSWER_MAX: usize = 64 * 1024;

/// A batch that may have to be sent again.
#[derive(Debug)]
pub(super) struct Again {
    /// Empty when it may not any more.
    batch: Vec<u8>,
    kind: Kind,
    /// What the server has answered, and the client has not got.
    unsaid: Vec<u8>,
}

/// Why it may have to be.
#[derive(Debug)]
enum Kind {
    /// The statement of this name may have other columns.
    Changed(Vec<u8>),
    /// It may write; from this byte on it is sent again.
    Writes(usize),
}

impl Again {
    /// Of a unit whose text did not show it to write, to be sent again from this byte on if it does.
    pub(super) fn for_write(unit: &[u8], from: usize) -> Box<Again> {
        Box::new(Again {
            batch: unit.to_vec(),
            kind: Kind::Writes(from),
            unsaid: Vec::new(),
        })
    }

    /// Of what a client sent, if it can be sent again and is not too long to be kept.
    pub(super) fn of(bytes: &[u8], most: usize) -> Option<Box<Again>> {
        if bytes.len() > most {
            return None;
        }
        let statement = executes(bytes)?.to_vec();
        Some(Box::new(Again {
            batch: bytes.to_vec(),
            kind: Kind::Changed(statement),
            unsaid: Vec::new(),
        }))
    }

    /// The client has sent more, which would come in front of what is sent again if it goes on at once.
    pub(super) fn forgo(&mut self) {
        if let Kind::Changed(_) = self.kind {
            self.batch.clear();
        }
    }
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// The server sent this in answer to a batch that may have to be sent again.
    pub(super) fn watch_answer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> FromServer {
        let Some(mut again) = self.again.take() else {
            return self.down().1.hand(bytes, cx);
        };
        let before = match again.unsaid.is_empty() {
            true => self.server_scan.rest_of_message(bytes),
            false => 0,
        };
        if before > 0 {
            return self.answer_behind(cx, again, bytes.split_at(before));
        }
        again.unsaid.extend_from_slice(bytes);
        if let Kind::Writes(from) = again.kind {
            return self.watch_for_write(cx, again, from);
        }
        let flows = matches!(self.phase, Phase::Flowing) && !again.batch.is_empty();
        match answer(&again.unsaid) {
            Answer::More if flows && again.unsaid.len() <= ANSWER_MAX => {
                self.again = Some(again);
                FromServer::Some
            }
            Answer::Refused { beside, refusal } if flows => {
                self.ask_for_text(again, &beside, refusal);
                FromServer::Some
            }
            Answer::More | Answer::Other | Answer::Refused { .. } => {
                self.down().1.hand(&again.unsaid, cx)
            }
        }
    }

    /// The batch was sent in the middle of a message of the server's, whose rest is no answer to it.
    fn answer_behind(
        &mut self,
        cx: &mut Context<'_>,
        again: Box<Again>,
        (rest, answer): (&[u8], &[u8]),
    ) -> FromServer {
        match self.down().1.hand(rest, cx) {
            FromServer::Some => self.again = Some(again),
            other
            @ (FromServer::Ended | FromServer::ClientBroke(_) | FromServer::Misbehaved(_)) => {
                return other;
            }
        }
        if answer.is_empty() {
            return FromServer::Some;
        }
        self.watch_answer(cx, answer)
    }

    /// What [`Relay::watch_answer`] does for a unit that may write.
    fn watch_for_write(
        &mut self,
        cx: &mut Context<'_>,
        mut again: Box<Again>,
        from: usize,
    ) -> FromServer {
        let flows = matches!(self.phase, Phase::Flowing) && self.guard.is_some();
        match refused_write::answer(&again.unsaid, from > 0) {
            refused_write::Answer::More if flows && again.unsaid.len() <= ANSWER_MAX => {
                self.again = Some(again);
                FromServer::Some
            }
            refused_write::Answer::Refused { told } if flows => {
                // As below.
                let _ = self.server_scan.read(&mut self.tracker, &again.unsaid);
                self.session.answered();
                let told = self.own_settings(told);
                self.to_client.push(&told);
                self.down().1.leave_at_boundary();
                again.batch.drain(..from);
                again.batch.append(&mut self.kept);
                self.kept = again.batch;
                if let Some(guard) = &mut self.guard {
                    guard.found_to_write();
                }
                FromServer::Some
            }
            refused_write::Answer::More
            | refused_write::Answer::Other
            | refused_write::Answer::Refused { .. } => self.down().1.hand(&again.unsaid, cx),
        }
    }

    fn ask_for_text(&mut self, mut again: Box<Again>, beside: &[u8], refusal: Vec<u8>) {
        // Every message in it was seen to be whole, so that no length of it is nonsense.
        let _ = self.server_scan.read(&mut self.tracker, &again.unsaid);
        let beside = self.own_settings(beside.to_vec());
        self.to_client.push(&beside);
        again.unsaid = refusal;
        let statement = match &again.kind {
            Kind::Changed(statement) if self.may_inject() => statement,
            Kind::Changed(_) | Kind::Writes(_) => return self.pass_refusal(&again),
        };
        let messages = [
            parse(NAME, TEXT),
            bind_text(NAME, NAME, statement),
            execute(NAME),
            close(Named::Portal, NAME),
            close(Named::Statement, NAME),
            SYNC.to_vec(),
        ];
        self.again = Some(again);
        self.inject(&messages.concat(), Ours::All, Purpose::AskForText);
    }

    /// The text is tried under a name of ours first: should it not do any more, the client's statement is
    /// still there.
    pub(super) fn text_known(&mut self, answers: &Answers) {
        self.to_client.push(&answers.settings);
        let Some(again) = self.again.take() else {
            return;
        };
        let row = answers.row.as_deref().and_then(text_and_types);
        let (Some((text, types)), None, Phase::Flowing, Kind::Changed(statement)) =
            (row, &answers.error, &self.phase, &again.kind)
        else {
            return self.pass_refusal(&again);
        };
        let messages = [
            parse_typed(NAME.as_bytes(), text, &types),
            close(Named::Statement, NAME),
            close_bytes(Named::Statement, statement),
            parse_typed(statement, text, &types),
            SYNC.to_vec(),
        ];
        self.again = Some(again);
        self.inject(&messages.concat(), Ours::All, Purpose::PrepareAnew);
    }

    /// Nothing starts after its client left, which is not read meanwhile.
    pub(super) fn prepared_anew(&mut self, cx: &mut Context<'_>, answers: &Answers) {
        self.to_client.push(&answers.settings);
        let Some(again) = self.again.take() else {
            return;
        };
        let flows = matches!(self.phase, Phase::Flowing);
        let has_left = self.client.peer_has_closed(cx);
        if answers.error.is_some() || !flows || has_left {
            return self.pass_refusal(&again);
        }
        let batch = &again.batch;
        match self.client_scan.take(&mut self.tracker, &mut Exempt, batch) {
            Ok(_) => {
                tracing::debug!(session = self.session.id.0, "prepared anew and sent again");
                self.to_server.push(batch);
                self.note_activity();
            }
            // It was read once already.
            Err(_) => self.pass_refusal(&again),
        }
    }

    /// The client gets what the server said first.
    fn pass_refusal(&mut self, again: &Again) {
        self.to_client.push(&again.unsaid);
        self.down().1.leave_at_boundary();
        self.note_activity();
    }

    /// What the server has said goes to the client before the server's end does.
    pub(super) fn say_the_rest(&mut self) {
        if let Some(again) = self.again.take() {
            if self.injection.is_none() {
                let _ = self.server_scan.read(&mut self.tracker, &again.unsaid);
            }
            let said = self.own_settings(again.unsaid);
            self.to_client.push(&said);
        }
    }
}
