//! The pieces of protocol that are played direct and through the proxy.

use crate::support::message::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, parse,
    query, sync,
};

/// A session after its login.
pub(super) struct Scene {
    /// What it is about.
    pub(super) name: &'static str,
    /// What the client sends, and how much it reads before it goes on.
    pub(super) batches: Vec<Batch>,
}

/// Bytes in one write, and what to wait for.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) until: Until,
}

/// How much a client reads before it goes on.
pub(super) enum Until {
    /// So many ReadyForQuery.
    Ready(usize),
    /// A message of this type.
    Tag(u8),
    /// The server closes.
    End,
}

impl Scene {
    fn new(name: &'static str, batches: impl IntoIterator<Item = Batch>) -> Self {
        Self {
            name,
            batches: batches.into_iter().collect(),
        }
    }

    /// Simple queries, each answered before the next.
    fn queries(name: &'static str, statements: &[&str]) -> Self {
        Self::new(name, statements.iter().map(|sql| ready([query(sql)])))
    }

    /// Whether the client is the one that ends the session.
    pub(super) fn says_goodbye(&self) -> bool {
        !matches!(
            self.batches.last(),
            Some(Batch {
                until: Until::End,
                ..
            })
        )
    }
}

/// Messages in one write, answered by one ReadyForQuery.
fn ready<const N: usize>(messages: [Vec<u8>; N]) -> Batch {
    Batch {
        bytes: messages.concat(),
        until: Until::Ready(1),
    }
}

fn until<const N: usize>(tag: u8, messages: [Vec<u8>; N]) -> Batch {
    Batch {
        bytes: messages.concat(),
        until: Until::Tag(tag),
    }
}

pub(super) fn all() -> Vec<Scene> {
    [simple(), extended(), copy(), odd()]
        .into_iter()
        .flatten()
        .collect()
}

fn simple() -> Vec<Scene> {
    vec![
        Scene::new("nothing but a login", []),
        Scene::queries(
            "a simple query",
            &["SELECT * FROM items ORDER BY id LIMIT 3"],
        ),
        Scene::queries(
            "several statements in one query, one of them wrong",
            &[
                "SELECT 1; SELECT 2, NULL; VALUES (3)",
                "SELECT 1; SELECT 1/0; SELECT 3",
            ],
        ),
        Scene::queries("empty queries", &["", ";", "-- nothing", "SELECT"]),
        Scene::queries(
            "a transaction that fails and is rolled back",
            &[
                "BEGIN",
                "INSERT INTO items VALUES (-1, 'x')",
                "SELECT nonsense",
                "SELECT 1",
                "ROLLBACK",
            ],
        ),
        Scene::queries(
            "savepoints and chains",
            &[
                "BEGIN",
                "SAVEPOINT s",
                "SELECT 1/0",
                "ROLLBACK TO s",
                "COMMIT AND CHAIN",
                "COMMIT",
            ],
        ),
        Scene::queries(
            "notices with all fields",
            &["SELECT speak('hello')", "COMMIT"],
        ),
        Scene::queries(
            "notifications to oneself",
            &[
                "LISTEN news",
                "NOTIFY news, 'one'",
                "BEGIN; NOTIFY news, 'two'; COMMIT",
            ],
        ),
        Scene::queries(
            "reported parameters",
            &[
                "SET application_name = 'other'",
                "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'",
                "BEGIN; SET LOCAL IntervalStyle = 'iso_8601'; ROLLBACK",
                "RESET ALL",
            ],
        ),
        Scene::queries(
            "another encoding",
            &["SET client_encoding = 'LATIN1'", "SELECT chr(228)"],
        ),
        Scene::queries(
            "many rows",
            &["SELECT n, repeat('r', n % 50) FROM generate_series(1, 50000) n"],
        ),
        Scene::queries("one large row", &["SELECT repeat('0123456789', 700000)"]),
        Scene::new(
            "a large statement",
            [ready([query(&format!(
                "SELECT length('{}')",
                "y".repeat(5_000_000)
            ))])],
        ),
        Scene::new(
            "queries sent without waiting",
            [Batch {
                bytes: (0..50)
                    .flat_map(|n| query(&format!("SELECT {n}")))
                    .collect(),
                until: Until::Ready(50),
            }],
        ),
    ]
}

fn extended() -> Vec<Scene> {
    let select = "SELECT id, name FROM items WHERE id <= $1 ORDER BY id";
    vec![
        Scene::new(
            "an extended query with everything described",
            [ready([
                parse("s", select),
                describe(b'S', "s"),
                bind("p", "s", &[Some("3")]),
                describe(b'P', "p"),
                execute("p", 0),
                close(b'P', "p"),
                close(b'S', "s"),
                sync(),
            ])],
        ),
        Scene::new(
            "a named statement used again",
            [
                ready([parse("again", select), sync()]),
                ready([bind("", "again", &[Some("2")]), execute("", 0), sync()]),
                ready([bind("", "again", &[None]), execute("", 0), sync()]),
                ready([bind("", "again", &[Some("two")]), execute("", 0), sync()]),
            ],
        ),
        Scene::new(
            "a pipeline of units in one write",
            [Batch {
                bytes: (1..=20)
                    .flat_map(|n| {
                        let n = n.to_string();
                        let unit = [parse("", select), bind("", "", &[Some(&n)]), execute("", 0)];
                        [unit.concat(), sync()].concat()
                    })
                    .collect(),
                until: Until::Ready(20),
            }],
        ),
        Scene::new(
            "a pipeline without a Sync between its statements",
            [ready([
                parse("a", "INSERT INTO items VALUES (-2, 'piped')"),
                bind("", "a", &[]),
                execute("", 0),
                parse("b", "SELECT count(*) FROM items"),
                bind("", "b", &[]),
                execute("", 0),
                parse("c", "SELECT 1/0"),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
            ])],
        ),
        Scene::new(
            "a portal read in pieces",
            [
                ready([query("BEGIN")]),
                until(
                    b's',
                    [
                        parse("", select),
                        bind("p", "", &[Some("10")]),
                        execute("p", 4),
                        flush(),
                    ],
                ),
                ready([execute("p", 4), sync()]),
                ready([execute("p", 4), sync()]),
                ready([close(b'P', "p"), sync()]),
                ready([query("COMMIT")]),
            ],
        ),
        Scene::new(
            "Flush instead of Sync",
            [
                until(b'T', [parse("f", select), describe(b'S', "f"), flush()]),
                until(b'C', [bind("", "f", &[Some("1")]), execute("", 0), flush()]),
                ready([sync()]),
            ],
        ),
        Scene::new(
            "an error skips everything up to Sync",
            [
                until(b'E', [parse("bad", "SELECT FROM nowhere"), flush()]),
                ready([
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
                ready([
                    parse("", "SELECT 1"),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                ]),
            ],
        ),
        Scene::new(
            "a large parameter",
            [ready([
                parse("", "SELECT length($1), $1"),
                bind("", "", &[Some(&"z".repeat(3_000_000))]),
                execute("", 0),
                sync(),
            ])],
        ),
        Scene::new(
            "an empty statement and a lone Sync",
            [
                ready([sync()]),
                ready([parse("", ""), bind("", "", &[]), execute("", 0), sync()]),
            ],
        ),
    ]
}

fn copy() -> Vec<Scene> {
    let copy_in = || query("COPY items FROM STDIN");
    vec![
        Scene::queries(
            "COPY out, as text and as binary",
            &[
                "COPY items TO STDOUT",
                "COPY items TO STDOUT (FORMAT binary)",
            ],
        ),
        Scene::new(
            "COPY in",
            [
                ready([query("BEGIN")]),
                until(b'G', [copy_in()]),
                ready([
                    copy_data(b"-3\tcop"),
                    copy_data(b"ied\n-4\t\\N\n"),
                    copy_done(),
                ]),
                ready([query("SELECT * FROM items WHERE id < 0")]),
                ready([query("ROLLBACK")]),
            ],
        ),
        Scene::new(
            "COPY in without waiting for the server's consent",
            [
                ready([query("BEGIN")]),
                ready([copy_in(), copy_data(b"-3\tblind\n"), copy_done()]),
                ready([query("ROLLBACK")]),
            ],
        ),
        Scene::new(
            "COPY in that the client gives up",
            [
                until(b'G', [copy_in()]),
                ready([copy_data(b"-3\tx\n"), copy_fail("changed my mind")]),
                ready([query("SELECT 1")]),
            ],
        ),
        Scene::new(
            "COPY in that the server refuses half-way",
            [
                until(b'G', [copy_in()]),
                until(b'E', [copy_data(b"not a number\tx\n"), copy_done()]),
                ready([]),
                ready([query("SELECT 1")]),
            ],
        ),
        Scene::new(
            "COPY in by the extended protocol",
            [
                ready([query("BEGIN")]),
                until(
                    b'G',
                    [
                        parse("", "COPY items FROM STDIN"),
                        bind("", "", &[]),
                        execute("", 0),
                        flush(),
                    ],
                ),
                ready([copy_data(b"-5\tx\n"), copy_done(), sync()]),
                ready([query("ROLLBACK")]),
            ],
        ),
        Scene::new(
            "COPY in of much data",
            [
                ready([query("BEGIN")]),
                until(b'G', [copy_in()]),
                ready([
                    (1..=30_000)
                        .flat_map(|n| copy_data(format!("-{n}\tm\n").as_bytes()))
                        .collect(),
                    copy_done(),
                ]),
                ready([query("ROLLBACK")]),
            ],
        ),
        Scene::new(
            "stray CopyData outside of COPY is ignored",
            [ready([copy_data(b"stray"), copy_done(), query("SELECT 1")])],
        ),
    ]
}

fn odd() -> Vec<Scene> {
    // int4pl and int4div by their fixed numbers (`src/include/catalog/pg_proc.dat`).
    let (plus, divide) = (177, 154);
    let (six, zero) = (6_i32.to_be_bytes(), 0_i32.to_be_bytes());
    vec![
        Scene::new(
            "function calls: a result, NULL, an error, in a transaction",
            [
                ready([function_call(plus, &[Some(&six), Some(&six)])]),
                ready([function_call(plus, &[Some(&six), None])]),
                ready([function_call(divide, &[Some(&six), Some(&zero)])]),
                ready([query("BEGIN")]),
                ready([function_call(plus, &[Some(&six), Some(&six)])]),
                ready([query("COMMIT")]),
            ],
        ),
        Scene::new(
            "a server that ends the session",
            [Batch {
                bytes: query("SELECT pg_terminate_backend(pg_backend_pid())"),
                until: Until::End,
            }],
        ),
        Scene::new(
            "a message type that nobody knows",
            [Batch {
                bytes: vec![b'y', 0, 0, 0, 4],
                until: Until::End,
            }],
        ),
    ]
}
