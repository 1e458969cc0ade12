//! The ways in which a client can send a statement.

use crate::support::message;

/// A way to send a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A Query.
    Simple,
    /// An unnamed statement in one batch.
    Unnamed,
    /// Parsed under a name, and bound and executed in a later batch.
    Named,
    /// Bound and executed, having been parsed before the mode under the name of this number.
    Before(usize),
    /// SQL's PREPARE and EXECUTE.
    Prepared,
    /// Among reads, each with its own Sync, in one write.
    Syncs,
    /// Among reads in one batch, with one Sync.
    Batch,
    /// Parse and Describe are flushed ahead; the rest comes at once behind.
    Flushed,
    /// Through a named portal, a row at a time.
    Portal,
    /// Among reads, each a Query, in one write.
    Queries,
    /// The first of a transaction.
    First,
    /// A transaction's second, after a read.
    Late,
    /// A whole transaction in one batch.
    Block,
    /// A whole transaction in one write, each statement with its own Sync.
    Blocks,
}

/// Every form that needs nothing from before.
pub(super) const FORMS: [Form; 13] = [
    Form::Simple,
    Form::Unnamed,
    Form::Named,
    Form::Prepared,
    Form::Syncs,
    Form::Batch,
    Form::Flushed,
    Form::Portal,
    Form::Queries,
    Form::First,
    Form::Late,
    Form::Block,
    Form::Blocks,
];

/// What is sent in one write, and how many ReadyForQuery answer it.
pub(super) type Step = (Vec<u8>, usize);

/// The name under which an older session has parsed a statement before the mode.
pub(super) fn name_before(number: usize) -> String {
    format!("before_{number}")
}

fn run(statement: &str) -> Vec<u8> {
    [
        message::bind("", statement, &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
    ]
    .concat()
}

/// These parts in one batch, with one Sync: statements, `FLUSH`, `PARSE name text`, and `BIND name` for
/// one that was parsed or prepared under this name.
pub(super) fn batch(parts: &[&str]) -> Vec<u8> {
    let part = |part: &&str| match part.split_once(' ') {
        None if *part == "FLUSH" => message::flush(),
        Some(("BIND", name)) => run(name),
        Some(("PARSE", rest)) => {
            let (name, sql) = rest.split_once(' ').expect("a name and a text");
            message::parse(name, sql)
        }
        _ => unnamed(part),
    };
    synced(&parts.iter().map(part).collect::<Vec<_>>())
}

fn unnamed(sql: &str) -> Vec<u8> {
    [message::parse("", sql), run("")].concat()
}

fn synced(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), message::sync()].concat()
}

impl Form {
    /// The steps of this form, one after the other's answer.
    pub(super) fn steps(self, sql: &str) -> Vec<Step> {
        let q = |sql: &str| (message::query(sql), 1);
        let read = || unnamed("select 1");
        match self {
            Form::Simple => vec![q(sql)],
            Form::Unnamed => vec![(synced(&[unnamed(sql)]), 1)],
            Form::Named => vec![
                (synced(&[message::parse("named", sql)]), 1),
                (synced(&[run("named")]), 1),
                (synced(&[message::close(b'S', "named")]), 1),
            ],
            Form::Before(number) => vec![(synced(&[run(&name_before(number))]), 1)],
            Form::Prepared => vec![
                q(&format!("prepare in_sql as {sql}")),
                q("execute in_sql"),
                q("deallocate in_sql"),
            ],
            Form::Syncs => {
                let parts = [
                    synced(&[read()]),
                    synced(&[unnamed(sql)]),
                    synced(&[read()]),
                ];
                vec![([parts.concat(), message::query("select 2")].concat(), 4)]
            }
            Form::Batch => vec![(synced(&[read(), unnamed(sql), read()]), 1)],
            Form::Flushed => {
                let ahead = [message::parse("", sql), message::describe(b'S', "")];
                vec![(synced(&[ahead.concat(), message::flush(), run("")]), 1)]
            }
            Form::Portal => {
                let portal = [message::parse("", sql), message::bind("p", "", &[])];
                let one = message::execute("p", 1);
                vec![(synced(&[portal.concat(), one.clone(), one]), 1)]
            }
            Form::Queries => {
                let read = message::query("select 1");
                vec![([read.clone(), message::query(sql), read].concat(), 3)]
            }
            Form::First => vec![q("begin"), q(sql), q("commit")],
            Form::Late => vec![
                q("begin"),
                q("select count(*) from app.docs"),
                q(sql),
                q("commit"),
            ],
            Form::Block => vec![(
                synced(&[unnamed("begin"), unnamed(sql), unnamed("commit")]),
                1,
            )],
            Form::Blocks => {
                let parts = ["begin", sql, "commit"].map(|sql| synced(&[unnamed(sql)]));
                vec![(parts.concat(), 3)]
            }
        }
    }
}
