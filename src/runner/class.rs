//! What the runner must know of a statement before it is sent, told from its first tokens.
//!
//! Only tokens are looked at: a `CONCURRENTLY` in a comment, a string or a quoted name counts for
//! nothing. What is not listed here is taken for an ordinary statement, and the server judges.

use squawk_lexer::{LiteralKind, TokenKind};

/// How a statement takes part in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Runs inside a transaction.
    Ordinary,
    /// `SET`, `RESET`: changes the session only.
    Session,
    /// Runs inside a transaction, and lets others read and write meanwhile (`REFRESH MATERIALIZED
    /// VIEW CONCURRENTLY`, `ALTER TABLE … VALIDATE CONSTRAINT` alone, `ANALYZE`).
    Concurrent,
    /// Cannot run inside a transaction (25001), and lets others read and write meanwhile.
    ConcurrentAlone,
    /// Cannot run inside a transaction (25001).
    Alone,
    /// `BEGIN` or `START TRANSACTION` without options.
    Begin,
    /// `COMMIT` or `END` without options.
    Commit,
    /// Anything else that begins, ends or hands away a transaction.
    TransactionControl,
    /// `COPY` from STDIN or to STDOUT: needs a client on the other side.
    ClientCopy,
}

impl Class {
    /// Whether the server refuses it inside a transaction block.
    pub fn is_alone(self) -> bool {
        match self {
            Self::ConcurrentAlone | Self::Alone => true,
            Self::Ordinary
            | Self::Session
            | Self::Concurrent
            | Self::Begin
            | Self::Commit
            | Self::TransactionControl
            | Self::ClientCopy => false,
        }
    }

    /// Whether others read and write meanwhile, by what the statement itself says.
    pub fn is_concurrent(self) -> bool {
        match self {
            Self::Concurrent | Self::ConcurrentAlone => true,
            Self::Ordinary
            | Self::Session
            | Self::Alone
            | Self::Begin
            | Self::Commit
            | Self::TransactionControl
            | Self::ClientCopy => false,
        }
    }
}

/// A token, as far as classification needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// An unquoted identifier or keyword.
    Keyword(&'a str),
    /// A string literal, quotes included.
    String(&'a str),
    /// One character of punctuation.
    Mark(&'a str),
    /// A quoted name, a number, anything else.
    Other,
}

impl<'a> Word<'a> {
    pub(super) fn new(kind: TokenKind, text: &'a str) -> Self {
        if kind == TokenKind::Ident {
            Self::Keyword(text)
        } else if matches!(
            kind,
            TokenKind::Literal {
                kind: LiteralKind::Str { .. }
            }
        ) {
            Self::String(text)
        } else if matches!(
            kind,
            TokenKind::OpenParen | TokenKind::CloseParen | TokenKind::Eq
        ) {
            Self::Mark(text)
        } else {
            Self::Other
        }
    }

    /// Whether the statement that starts with this word is told by more than the word. Keeps the
    /// tokens of a huge INSERT out of memory.
    pub(super) fn needs_the_rest(&self) -> bool {
        const VERBS: [&str; 17] = [
            "abort", "alter", "begin", "cluster", "commit", "copy", "create", "drop", "end",
            "prepare", "refresh", "reindex", "reset", "rollback", "set", "start", "vacuum",
        ];
        VERBS.iter().any(|verb| self.is(verb))
    }

    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Keyword(text) if text.eq_ignore_ascii_case(keyword))
    }

    fn is_mark(&self, mark: &str) -> bool {
        matches!(self, Self::Mark(text) if *text == mark)
    }

    /// `false`, `off` or `'false'`, as an option's value.
    fn is_false(&self) -> bool {
        match self {
            Self::Keyword(text) | Self::String(text) => {
                let text = text.trim_matches('\'');
                text.eq_ignore_ascii_case("false") || text.eq_ignore_ascii_case("off")
            }
            Self::Mark(_) | Self::Other => false,
        }
    }
}

/// Classifies a statement by its tokens (without comments and white space).
pub(super) fn classify(words: &[Word<'_>]) -> Class {
    let Some((verb, rest)) = words.split_first() else {
        return Class::Ordinary;
    };
    let Word::Keyword(verb) = verb else {
        return Class::Ordinary;
    };
    match verb.to_ascii_lowercase().as_str() {
        "begin" => plain(rest, Class::Begin),
        "start" if starts(rest, &["transaction"]) => plain(&rest[1..], Class::Begin),
        "commit" | "end" => plain(rest, Class::Commit),
        "abort" => Class::TransactionControl,
        // ROLLBACK TO a savepoint stays inside the transaction.
        "rollback" if rest.iter().any(|word| word.is("to")) => Class::Ordinary,
        "rollback" => Class::TransactionControl,
        "prepare" if starts(rest, &["transaction"]) => Class::TransactionControl,
        "set" | "reset" => Class::Session,
        "copy" => copy(rest),
        "create" => create(rest),
        "drop" => drop_object(rest),
        "alter" => alter(rest),
        "refresh" if has(rest, "concurrently") => Class::Concurrent,
        // SHARE UPDATE EXCLUSIVE, as autovacuum's own.
        "analyze" | "analyse" => Class::Concurrent,
        "reindex" => reindex(rest),
        "vacuum" => Class::Alone,
        "cluster" => cluster(rest),
        _ => Class::Ordinary,
    }
}

/// `BEGIN WORK` is `BEGIN`; an isolation level or a chain is more than the runner can honour.
fn plain(rest: &[Word<'_>], class: Class) -> Class {
    match rest {
        [] => class,
        [word] if word.is("work") || word.is("transaction") => class,
        _ => Class::TransactionControl,
    }
}

fn copy(rest: &[Word<'_>]) -> Class {
    let client = |pair: &[Word<'_>]| {
        (pair[0].is("from") && pair[1].is("stdin")) || (pair[0].is("to") && pair[1].is("stdout"))
    };
    if rest.windows(2).any(client) {
        Class::ClientCopy
    } else {
        Class::Ordinary
    }
}

fn create(rest: &[Word<'_>]) -> Class {
    let unique = usize::from(starts(rest, &["unique"]));
    if starts(&rest[unique..], &["index", "concurrently"]) {
        return Class::ConcurrentAlone;
    }
    let alone = starts(rest, &["database"])
        || starts(rest, &["tablespace"])
        || (starts(rest, &["subscription"]) && creates_slot(rest));
    if alone { Class::Alone } else { Class::Ordinary }
}

/// CREATE SUBSCRIPTION makes a replication slot, unless told not to or not to connect.
fn creates_slot(rest: &[Word<'_>]) -> bool {
    let refuses = |option: &[Word<'_>]| {
        (option[0].is("create_slot") || option[0].is("connect"))
            && option[1].is_mark("=")
            && option[2].is_false()
    };
    !rest.windows(3).any(refuses)
}

fn drop_object(rest: &[Word<'_>]) -> Class {
    if starts(rest, &["index", "concurrently"]) {
        return Class::ConcurrentAlone;
    }
    let alone = ["database", "tablespace", "subscription"];
    if alone.iter().any(|kind| starts(rest, &[kind])) {
        Class::Alone
    } else {
        Class::Ordinary
    }
}

fn alter(rest: &[Word<'_>]) -> Class {
    if starts(rest, &["table"])
        && follows(rest, "detach", "partition")
        && rest.last().is_some_and(|word| word.is("concurrently"))
    {
        return Class::ConcurrentAlone;
    }
    if only_validates(rest) {
        return Class::Concurrent;
    }
    let publications = has(rest, "refresh") || has(rest, "publication");
    let alone = starts(rest, &["system"])
        || (starts(rest, &["database"]) && follows(rest, "set", "tablespace"))
        || (starts(rest, &["subscription"]) && publications);
    if alone { Class::Alone } else { Class::Ordinary }
}

/// `ALTER TABLE t VALIDATE CONSTRAINT c` and nothing else: SHARE UPDATE EXCLUSIVE, and at most ROW
/// SHARE on the table that a foreign key leads to.
fn only_validates(rest: &[Word<'_>]) -> bool {
    if !starts(rest, &["table"]) {
        return false;
    }
    let mut name = &rest[1..];
    for optional in [&["if", "exists"][..], &["only"]] {
        if starts(name, optional) {
            name = &name[optional.len()..];
        }
    }
    // `name` or `schema.name`, which is three tokens: any other action is longer.
    match name {
        [_, action @ ..] if is_validate(action) => true,
        [_, Word::Other, _, action @ ..] => is_validate(action),
        _ => false,
    }
}

fn is_validate(action: &[Word<'_>]) -> bool {
    action.len() == 3 && starts(action, &["validate", "constraint"])
}

/// `REINDEX TABLE CONCURRENTLY t` and `REINDEX (CONCURRENTLY) TABLE t`; whole schemas commit after
/// each table.
fn reindex(rest: &[Word<'_>]) -> Class {
    if has(rest, "concurrently") {
        Class::ConcurrentAlone
    } else if has(rest, "schema") || has(rest, "database") || has(rest, "system") {
        Class::Alone
    } else {
        Class::Ordinary
    }
}

/// CLUSTER without a table does every table, each in a transaction of its own.
fn cluster(rest: &[Word<'_>]) -> Class {
    let options_end = rest
        .iter()
        .rposition(|word| word.is_mark(")"))
        .map_or(0, |at| at + 1);
    let names_a_table = rest[options_end..].iter().any(|word| !word.is("verbose"));
    if names_a_table {
        Class::Ordinary
    } else {
        Class::Alone
    }
}

fn starts(words: &[Word<'_>], keywords: &[&str]) -> bool {
    words.len() >= keywords.len() && words.iter().zip(keywords).all(|(word, it)| word.is(it))
}

fn has(words: &[Word<'_>], keyword: &str) -> bool {
    words.iter().any(|word| word.is(keyword))
}

fn follows(words: &[Word<'_>], first: &str, second: &str) -> bool {
    words
        .windows(2)
        .any(|pair| pair[0].is(first) && pair[1].is(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::split::split;

    fn check(class: Class, statements: &[&str]) {
        for statement in statements {
            let found = split(statement).unwrap();
            assert_eq!(
                found.iter().map(|it| it.class).collect::<Vec<_>>(),
                [class],
                "{statement}"
            );
        }
    }

    #[test]
    fn what_cannot_run_in_a_transaction_is_known() {
        check(
            Class::ConcurrentAlone,
            &[
                "create index concurrently on t (a)",
                "CREATE /* c */ UNIQUE -- c\n INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)",
                "drop index concurrently if exists i",
                "reindex index concurrently i",
                "reindex (verbose, concurrently) table t",
                "alter table only p detach partition c concurrently",
            ],
        );
        check(
            Class::Alone,
            &[
                "vacuum",
                "vacuum (full, analyze) t",
                "alter system set work_mem = '1MB'",
                "create database d",
                "drop database if exists d with (force)",
                "create tablespace s location '/x'",
                "drop tablespace s",
                "alter database d set tablespace s",
                "reindex schema public",
                "cluster",
                "cluster verbose",
                "cluster (verbose)",
                "create subscription s connection 'c' publication p",
                "drop subscription s",
                "alter subscription s refresh publication",
                "alter subscription s set publication p",
            ],
        );
    }

    #[test]
    fn what_only_looks_like_it_is_ordinary() {
        check(
            Class::Ordinary,
            &[
                "create index i on t (a) -- concurrently",
                "create index \"concurrently\" on t (a)",
                "create table t (a text default 'vacuum')",
                "create view vacuum as select 1",
                "alter type mood add value 'x'",
                "alter table p detach partition c finalize",
                "alter table p detach partition c",
                "cluster t using i",
                "cluster (verbose) t",
                "cluster verbose t",
                "create subscription s connection 'c' publication p with (create_slot = false)",
                "create subscription s connection 'c' publication p with (enabled, connect = 'off')",
                "alter subscription s disable",
                "reindex table t",
                "alter table t validate constraint c, add column d int",
                "alter table t add column d int, validate constraint c",
                "alter table t alter d drop not null, validate constraint c",
                "alter domain d validate constraint c",
                "prepare q as select 1",
                "savepoint a",
                "rollback to savepoint a",
                "release a",
                "copy t to '/tmp/x'",
            ],
        );
        check(
            Class::Concurrent,
            &[
                "refresh materialized view concurrently v",
                "alter table t validate constraint c",
                "alter table if exists only \"S\".t validate constraint \"validate\"",
                "analyze",
                "analyze (verbose) t (a, b)",
            ],
        );
        check(Class::Session, &["set lock_timeout = '2s'", "reset all"]);
    }

    #[test]
    fn transaction_control_is_told_apart() {
        check(Class::Begin, &["begin", "BEGIN WORK", "start transaction"]);
        check(Class::Commit, &["commit", "END TRANSACTION"]);
        check(
            Class::TransactionControl,
            &[
                "begin isolation level serializable",
                "start transaction read only",
                "commit and chain",
                "commit prepared 'x'",
                "rollback",
                "rollback prepared 'x'",
                "abort",
                "prepare transaction 'x'",
            ],
        );
    }
}
