//! Messages of our own to the server, put between the client's where both directions are between
//! two messages and nothing is owed.
//!
//! They are extended messages under a reserved name, because the client's unnamed statement and
//! portal must survive them. The client sees none of the answers. Until the last of them the client
//! is not read: what it sends meanwhile waits in its socket.

use std::task::Context;

use super::down::FromServer;
use super::{Phase, Relay};
use crate::session::injected::{Answers, Ours, Ready};
use crate::tls::stream::Socket;
use crate::wire::frontend::{Named, bind, close, execute, parse_typed};

/// The name of our statements and portals; nobody else's begin so.
pub(super) const NAME: &str = "__pgdrain";

/// What was sent, and what its answers are for.
#[derive(Debug)]
pub(super) struct Injection {
    pub(super) answers: Answers,
    pub(super) purpose: Purpose,
}

/// Why messages of ours are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The idle transaction is ended and a failed one put in its place; which try it is.
    Abort { tries: u32 },
    /// The client's `COMMIT` of an aborted transaction is refused: the server rolls back.
    RefuseCommit,
    /// A batch gets a Sync that its client did not send, and goes on.
    Sync,
    /// The same for a batch that has failed: there is no more of it.
    SkipRest,
    /// A batch is undone.
    FailBatch,
    /// The text of a statement whose result columns have changed.
    AskForText,
    /// That statement is made again under its name.
    PrepareAnew,
    /// The text of a statement of which nobody knows what it does.
    AskWhatItDoes,
    /// Whether the server holds anything for the session.
    AskWhatIsHeld,
    /// What a unit prepares gets a Sync, and the rest of the unit is answered by us.
    AnswerFront,
    /// A block begins of which the client knows already; it fails when the client goes back in it.
    BeginDeferred { to_go_back: bool },
    /// A transaction that reads is failed because it writes; which try it is.
    FailLate { tries: u32 },
    /// The same for a batch.
    FailBatchLate,
    /// The server refuses writes from now on.
    Enforce,
    /// It does what the client has set.
    Restore,
}

/// The messages that execute one statement and leave nothing behind.
pub(super) fn statement(sql: &str) -> Vec<u8> {
    statement_bytes(sql.as_bytes())
}

/// The same of a text of the client's, in whichever encoding. It holds no zero.
pub(super) fn statement_bytes(sql: &[u8]) -> Vec<u8> {
    [
        parse_typed(NAME.as_bytes(), sql, &[]),
        bind(NAME, NAME),
        execute(NAME),
        close(Named::Portal, NAME),
        close(Named::Statement, NAME),
    ]
    .concat()
}

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Whether the server is between two messages of the client, with nothing to answer.
    pub(super) fn may_inject(&self) -> bool {
        self.injection.is_none()
            && !self.tracker.is_busy()
            && self.client_scan.at_message_start()
            && self.server_scan.at_message_start()
            && self.to_server.is_empty()
            && !self.server.has_unsent()
    }

    /// Sends messages of ours; [`Relay::injected`] gets the answers.
    pub(super) fn inject(&mut self, messages: &[u8], ours: Ours, purpose: Purpose) {
        if ours == Ours::All && std::mem::take(&mut self.left_behind) {
            self.to_server.push(&close(Named::Statement, NAME));
        }
        self.to_server.push(messages);
        let answers = Answers::to(ours);
        self.injection = Some(Box::new(Injection { answers, purpose }));
    }

    /// Whether the client is not read because messages of ours are under way. One that is held is: what it
    /// sends goes nowhere, and its wait may end.
    pub(super) fn waits_for_injection(&self) -> bool {
        let goes_on = match self.phase {
            Phase::Held(_) | Phase::Leaving(_) | Phase::Closing(..) => true,
            Phase::Flowing | Phase::Discarding(..) | Phase::Aborted(_) => false,
        };
        self.injection.is_some() && !goes_on
    }

    /// The server sent this while messages of ours are under way.
    pub(super) fn injected(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> FromServer {
        let Some(mut injection) = self.injection.take() else {
            return self.down().1.hand(bytes, cx);
        };
        let mut pass = Vec::new();
        let read = injection.answers.read(bytes, &mut pass);
        let from_server = if pass.is_empty() {
            FromServer::Some
        } else {
            self.down().1.hand(&pass, cx)
        };
        match (from_server, read) {
            (FromServer::Some, Ok(None)) => {
                self.injection = Some(injection);
                FromServer::Some
            }
            (
                FromServer::Some,
                Ok(Some(Ready {
                    status,
                    bytes: behind,
                })),
            ) => {
                self.tracker.ready(status);
                self.session.answered();
                if self.again.is_none() {
                    self.down().1.leave_at_boundary();
                }
                self.carry_on(cx, *injection);
                match bytes.get(behind..) {
                    Some(rest) if !rest.is_empty() => self.injected(cx, rest),
                    Some(_) | None => FromServer::Some,
                }
            }
            (FromServer::Some, Err(bad)) => FromServer::Misbehaved(bad),
            (other, _) => other,
        }
    }

    /// What the messages were for is done, or not.
    fn carry_on(&mut self, cx: &mut Context<'_>, mut injection: Injection) {
        if !matches!(self.phase, Phase::Held(_)) {
            self.note_activity();
        }
        if !matches!(injection.purpose, Purpose::Enforce | Purpose::Restore) {
            let settings = std::mem::take(&mut injection.answers.settings);
            injection.answers.settings = self.own_settings(settings);
        }
        // A statement whose execution failed is still there under its name.
        let error = injection.answers.error.as_deref();
        self.left_behind |= error.is_some_and(|error| error != b"42601");
        match injection.purpose {
            Purpose::Abort { tries } => self.aborted(&injection.answers, tries),
            Purpose::RefuseCommit => self.commit_refused(&injection.answers),
            Purpose::Sync => {}
            Purpose::SkipRest => self.skip_rest(),
            Purpose::FailBatch => self.batch_failed(&injection.answers),
            Purpose::AskForText => self.text_known(&injection.answers),
            Purpose::PrepareAnew => self.prepared_anew(cx, &injection.answers),
            Purpose::AskWhatItDoes => self.known_what_it_does(&injection.answers),
            Purpose::AskWhatIsHeld => self.known_what_is_held(&injection.answers),
            Purpose::AnswerFront => self.front_answered(&injection.answers),
            Purpose::BeginDeferred { to_go_back } => {
                self.deferred_begun(&injection.answers, to_go_back);
            }
            Purpose::FailLate { tries } => self.transaction_failed(&injection.answers, tries),
            Purpose::FailBatchLate => self.late_batch_failed(&injection.answers),
            Purpose::Enforce => self.told_to_refuse(&injection.answers),
            Purpose::Restore => self.told_to_obey(&injection.answers),
        }
    }
}
