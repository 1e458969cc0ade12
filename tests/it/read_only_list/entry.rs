//! The statements: data beside this file, a line for each.

use std::fmt::Write;

use pgdrain::session::class::{Access, Shape, shape};

/// Which list a statement is from, and with it what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A read: passes, and is answered as by Postgres.
    Read,
    /// Session state and transaction control: if it passes, it is answered as by Postgres.
    Session,
    /// A write that no text shows: passes, and the server refuses it.
    Function,
    /// A write or an escape: never carried out.
    Write,
}

/// A statement, or several in one string.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// What is sent.
    pub(super) sql: String,
    /// Which list it is from.
    pub(super) kind: Kind,
    /// Its answer differs from one time to the next.
    pub(super) volatile: bool,
    /// It would take away what the older sessions have from before.
    pub(super) young: bool,
    /// Postgres refuses it, and where a `BEGIN` is deferred only later than it is sent.
    pub(super) deferred: bool,
}

impl Entry {
    /// Whether our lexer has it held or refused.
    pub(super) fn held(&self) -> bool {
        matches!(
            shape(self.sql.as_bytes()),
            Shape::Writes(_) | Shape::Begins(Access::ReadWrite)
        )
    }

    /// Whether our lexer takes it for a read, or for something as harmless, whatever stands around it.
    pub(super) fn passes(&self) -> bool {
        !self.held()
            && !matches!(
                shape(self.sql.as_bytes()),
                Shape::Executes(_) | Shape::ResetsAll
            )
    }

    /// On one line.
    pub(super) fn shown(&self) -> String {
        self.sql.replace('\n', "¶")
    }
}

/// All statements that are tried, in the order of their lists.
pub(super) fn all() -> Vec<Entry> {
    [
        (Kind::Read, include_str!("reads.sql")),
        (Kind::Session, include_str!("sessions.sql")),
        (Kind::Function, include_str!("functions.sql")),
        (Kind::Write, include_str!("writes.sql")),
    ]
    .into_iter()
    .flat_map(|(kind, text)| lines(text).map(move |line| entry(kind, line)))
    .collect()
}

/// What passes although it changes something, and the query that shows it.
pub(super) fn holes() -> Vec<(&'static str, &'static str)> {
    let hole = |line: &'static str| line.split_once(" => ").expect("a statement => a query");
    lines(include_str!("holes.sql")).map(hole).collect()
}

/// The parts of each batch.
pub(super) fn batches() -> Vec<Vec<&'static str>> {
    let parts = |line: &'static str| line.split(" ;; ").collect();
    lines(include_str!("batches.sql")).map(parts).collect()
}

/// What each older session does before the mode.
pub(super) fn before() -> Vec<&'static str> {
    lines(include_str!("session.sql")).collect()
}

/// A file begins with a comment of its own, up to the first line that is none.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().skip_while(|line| line.starts_with("-- "))
}

fn entry(kind: Kind, line: &str) -> Entry {
    let (volatile, line) = flag(line, '~');
    let (young, line) = flag(line, '^');
    let (deferred, line) = flag(line, '!');
    Entry {
        sql: line.replace('¶', "\n"),
        kind,
        volatile,
        young,
        deferred,
    }
}

fn flag(line: &str, mark: char) -> (bool, &str) {
    match line.strip_prefix(mark) {
        Some(rest) => (true, rest),
        None => (false, line),
    }
}

/// One complaint a line.
pub(super) fn listed<T: AsRef<str>>(complaints: &[T]) -> String {
    complaints.iter().fold(String::new(), |mut all, one| {
        let _ = write!(all, "\n  {}", one.as_ref());
        all
    })
}
