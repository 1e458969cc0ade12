//! A session that sends statements in any form, and what came back.

use std::net::SocketAddr;

use crate::support::message::{self, Message};
use crate::support::wire::Wire;

use super::entry::{self, Entry};
use super::form::{Form, batch, name_before};

/// The ordinary role, and its database.
pub(super) const APP: &str = "app";
pub(super) const LIST: &str = "list";

/// One session of the ordinary role.
pub(super) struct Talk {
    wire: Wire,
    /// Which of the entries it has parsed before the mode, by number.
    pub(super) parsed: Vec<bool>,
}

impl Talk {
    /// One that has nothing.
    pub(super) async fn start(addr: SocketAddr) -> Self {
        let wire = Wire::login(addr, APP, LIST).await;
        let parsed = Vec::new();
        Self { wire, parsed }
    }

    /// One that has prepared everything before the mode that can be prepared, and has temporary
    /// tables, a cursor and the like.
    pub(super) async fn prepared(addr: SocketAddr, entries: &[Entry]) -> Self {
        let mut talk = Self::start(addr).await;
        for sql in entry::before() {
            talk.wire.execute(sql).await;
        }
        for (number, entry) in entries.iter().enumerate() {
            let parse = message::parse(&name_before(number), &entry.sql);
            let answer = talk.wire.units(&[parse, message::sync()].concat(), 1).await;
            talk.parsed.push(answer[0].tag == b'1');
        }
        talk
    }

    /// Sends a statement in this form, ends what is open then, and returns all answers.
    pub(super) async fn run(&mut self, form: Form, sql: &str) -> Vec<Message> {
        let mut answers = Vec::new();
        for (bytes, count) in form.steps(sql) {
            answers.extend(self.wire.units(&bytes, count).await);
        }
        self.settle(&answers).await;
        answers
    }

    /// Sends statements in one batch, ends what is open then, and returns all answers.
    pub(super) async fn batch(&mut self, parts: &[&str]) -> Vec<Message> {
        let answer = self.wire.units(&batch(parts), 1).await;
        self.settle(&answer).await;
        answer
    }

    /// Outside any transaction again. Who was told to try again is held from its next BEGIN, for a
    /// while: another attempt takes that away.
    async fn settle(&mut self, answers: &[Message]) {
        let ready = answers.last().is_some_and(|last| last.body == b"I");
        if !ready {
            self.wire.query("rollback").await;
        }
        let retries = answers
            .iter()
            .any(|it| it.tag == b'E' && it.sqlstate() == "40001");
        for _ in 0..if retries { 3 } else { 0 } {
            let begun = self.wire.query("begin").await;
            self.wire.query("rollback").await;
            if begun[0].tag == b'C' {
                break;
            }
        }
    }

    /// Sends a Query that has to succeed.
    pub(super) async fn execute(&mut self, sql: &str) {
        self.wire.execute(sql).await;
    }

    /// The only value of an answer.
    pub(super) async fn ask(&mut self, sql: &str) -> String {
        self.wire.query_one(sql).await
    }

    /// Sends any bytes, and returns the answers up to so many ReadyForQuery.
    pub(super) async fn units(&mut self, bytes: &[u8], count: usize) -> Vec<Message> {
        self.wire.units(bytes, count).await
    }
}

/// The SQLSTATEs of the errors in an answer.
pub(super) fn errors(answer: &[Message]) -> Vec<String> {
    let errors = answer.iter().filter(|message| message.tag == b'E');
    errors.map(Message::sqlstate).collect()
}

/// What a statement did, as far as it can be compared from inside a transaction and outside of one: rows,
/// tags and SQLSTATEs.
pub(super) fn outcome(answer: &[Message]) -> Vec<String> {
    let kept = answer
        .iter()
        .filter(|it| matches!(it.tag, b'D' | b'C' | b'E'));
    kept.map(|it| match it.tag {
        b'E' => it.sqlstate(),
        _ => it.body.escape_ascii().to_string(),
    })
    .collect()
}

/// An answer as it is compared: without our own setting, which is not shown to clients, without process
/// ids, and of a read-only error nothing but the SQLSTATE.
pub(super) fn compared(answer: &[Message], volatile: bool) -> Vec<String> {
    let ours = b"default_transaction_read_only\0";
    let kept = answer
        .iter()
        .filter(|it| it.tag != b'S' || !it.body.starts_with(ours));
    kept.map(|it| match it.tag {
        b'E' if it.sqlstate() == "25006" => "E 25006".to_owned(),
        b'A' => format!("A {}", it.body[4..].escape_ascii()),
        b'D' if volatile => "D".to_owned(),
        tag => format!("{} {}", char::from(tag), it.body.escape_ascii()),
    })
    .collect()
}
