//! What a statement does that was prepared before anybody looked: the server knows its text.

use std::task::Context;

use super::inject::{NAME, Purpose};
use super::{Relay, Step};
use crate::session::class::Why;
use crate::session::guard::names::Known;
use crate::session::injected::{Answers, Ours};
use crate::session::scan::Door;
use crate::tls::stream::Socket;
use crate::wire::frontend::{Named, SYNC, bind_text, close, execute, parse};

/// A text that is longer than what is looked at tells nothing.
const TEXT: &str = "SELECT CASE WHEN pg_catalog.octet_length(statement) \
    OPERATOR(pg_catalog.<=) 32768 THEN statement END, from_sql \
    FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.=) $1";

/// A cancel request that is late may hit a message of ours.
const TRIES_MAX: u32 = 3;

impl<C: Socket, S: Socket> Relay<C, S> {
    /// Asks the server for the text of this statement. It takes a snapshot for that, and so needs a permit.
    pub(super) fn ask_what_it_does(&mut self, cx: &mut Context<'_>, name: Box<[u8]>) -> Step {
        if !self.may_inject() {
            return Step::Stuck;
        }
        if !self.door.has_permit() && !self.door.admit_read() {
            return self.wait(cx, false);
        }
        let messages = [
            parse(NAME, TEXT),
            bind_text(NAME, NAME, &name),
            execute(NAME),
            close(Named::Portal, NAME),
            close(Named::Statement, NAME),
            SYNC.to_vec(),
        ];
        if let Some(guard) = &mut self.guard {
            guard.asked = name;
        }
        self.inject(&messages.concat(), Ours::All, Purpose::AskWhatItDoes);
        Step::Moved
    }

    /// The server has told, or has not.
    pub(super) fn known_what_it_does(&mut self, answers: &Answers) {
        self.tell_settings(answers);
        let Some(guard) = &mut self.guard else {
            return;
        };
        guard.asked_in_vain += u32::from(answers.error.is_some());
        if answers.error.is_some() && guard.asked_in_vain < TRIES_MAX {
            // It is asked for again when its unit is looked at.
            return;
        }
        guard.asked_in_vain = 0;
        let known = match (&answers.error, &answers.row) {
            (None, Some(row)) => Known::of_row(row),
            (None, None) => Known::Missing,
            (Some(_), _) => Known::Writes(Why::Unknown),
        };
        let name = std::mem::take(&mut guard.asked);
        guard.names.learn(&name, known);
    }

    /// Settings that came with answers to messages of ours are true for the client too.
    pub(super) fn tell_settings(&mut self, answers: &Answers) {
        self.ours.extend_from_slice(&answers.settings);
    }
}
