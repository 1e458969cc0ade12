//! Read-only mode and statements whose form is out of the ordinary: COPY to the client, messages that are
//! longer than what is kept of a client, portals that are read in parts, blocks that begin one by one.

use tokio::task::JoinSet;

use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::reading::{
    INSERT, READ, nothing_open, read_only, rows, run, say, send, short, start, waits_and_goes_on,
};
use crate::support::wire::Wire;

/// The messages of one statement with one parameter, whose Bind is `length` bytes long and a bit.
fn long(statement: &str, sql: Option<&str>, length: usize) -> Vec<u8> {
    let parse = sql.map(|sql| message::parse(statement, sql));
    let value = "x".repeat(length);
    [
        parse.unwrap_or_default(),
        message::bind("", statement, &[Some(&value)]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

/// Below what is kept of a client, above it, and above what is read at once.
const LENGTHS: [usize; 3] = [60 << 10, 70 << 10, 1 << 20];

#[tokio::test]
async fn copy_to_the_client_is_answered_as_postgres_answers() {
    let (mut postgres, proxy) = start().await;
    postgres
        .execute("INSERT INTO t SELECT generate_series(10, 12)")
        .await;
    let mut sessions = vec![proxy.session(DB).await];
    for writes in ["queue", "reject"] {
        read_only(&proxy, writes).await;
        sessions.push(proxy.session(DB).await);
        let mut direct = Wire::login(postgres.addr(), "postgres", DB).await;
        direct
            .execute("SET default_transaction_read_only = on")
            .await;
        for copy in [
            "COPY t TO STDOUT",
            "copy (select n from t order by n desc) to stdout (format csv, header)",
            "COPY t (n) TO STDOUT WITH BINARY",
            "COPY (SELECT n FROM t WHERE n > 100) TO STDOUT",
            "COPY t TO STDOUT; SELECT 1",
            "COPY nowhere TO STDOUT",
        ] {
            let query = message::query(copy);
            let extended = [run("", Some(copy)), message::sync()].concat();
            let described = [
                message::parse("", copy),
                message::describe(b'S', ""),
                message::bind("", "", &[]),
                message::describe(b'P', ""),
                message::execute("", 0),
                message::sync(),
            ];
            for unit in [query, extended, described.concat()] {
                let expected = direct.units(&unit, 1).await;
                for session in &mut sessions {
                    let answer = within(copy, SOON, session.units(&unit, 1)).await;
                    assert_eq!(answer, expected, "{copy}, {writes}");
                }
            }
        }
        // In a block, and in the middle of one.
        let session = &mut sessions[0];
        assert_eq!(say(session, "BEGIN").await, "C:BEGIN Z:T");
        let copied = "H d d d c C:COPY 3 Z:T";
        assert_eq!(say(session, "COPY t TO STDOUT").await, copied);
        let extended = [run("", Some("COPY t TO STDOUT")), message::sync()];
        assert_eq!(send(session, &extended).await, format!("1 2 {copied}"));
        assert_eq!(say(session, "COMMIT").await, "C:COMMIT Z:I");
    }
    // The other direction is a write.
    let answer = say(&mut sessions[0], "COPY t FROM STDIN").await;
    assert_eq!(answer, "E:25006 Z:I");
    proxy.open(DB).await;
    read_only(&proxy, "queue").await;
    sessions[0].send(&message::query("COPY t FROM STDIN")).await;
    proxy.until_held(DB, 1).await;
    nothing_open(&mut postgres, &sessions[0]).await;
    proxy.open(DB).await;
    let rest = [message::copy_data(b"13\n"), message::copy_done()];
    let answer = within("an answer", SOON, send(&mut sessions[0], &rest)).await;
    assert_eq!(answer, "G C:COPY 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 4);
}

#[tokio::test]
async fn reads_with_long_binds_go_on() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let prepared = [
        message::parse("older", "SELECT length($1)"),
        message::sync(),
    ];
    assert_eq!(send(&mut session, &prepared).await, "1 Z:I");
    for writes in ["queue", "reject"] {
        read_only(&proxy, writes).await;
        for length in LENGTHS {
            let read = long("", Some("SELECT length($1)"), length);
            assert_eq!(
                send(&mut session, &[read]).await,
                "1 2 D C:SELECT 1 Z:I",
                "{writes}, {length}"
            );
            let named = long("older", None, length);
            assert_eq!(send(&mut session, &[named]).await, "2 D C:SELECT 1 Z:I");
            // And one that the server refuses, behind which the next is as ever.
            let wrong = long("", Some("SELECT $1::int"), length);
            let answer = send(&mut session, &[wrong]).await;
            assert!(answer.ends_with("E:22P02 Z:I"), "{length}: {answer}");
        }
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        for length in LENGTHS {
            let read = long("", Some("SELECT length($1)"), length);
            let answer = send(&mut session, &[read]).await;
            assert_eq!(answer, "1 2 D C:SELECT 1 Z:T", "{writes}, {length}");
        }
        assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
        nothing_open(&mut postgres, &session).await;
    }
}

#[tokio::test]
async fn writes_with_long_binds_wait_and_run_once() {
    const SQL: &str = "INSERT INTO t SELECT length($1)";
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let prepared = [message::parse("older", SQL), message::sync()];
    assert_eq!(send(&mut session, &prepared).await, "1 Z:I");
    let mut written = 0;
    for length in LENGTHS {
        for (unit, wanted) in [
            (long("", Some(SQL), length), "1 2 C:INSERT 0 1 Z:I"),
            (long("older", None, length), "2 C:INSERT 0 1 Z:I"),
        ] {
            read_only(&proxy, "queue").await;
            session.send(&unit).await;
            let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
            assert_eq!(answer, wanted, "{length}");
            written += 1;
            assert_eq!(rows(&mut postgres).await, written);
        }
        // The first statement of a block.
        read_only(&proxy, "queue").await;
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        session.send(&long("older", None, length)).await;
        let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
        assert_eq!(answer, "2 C:INSERT 0 1 Z:T", "{length}");
        assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
        // Where it may not wait it is refused, and what comes behind it is not.
        read_only(&proxy, "reject").await;
        let refused = send(&mut session, &[long("older", None, length)]).await;
        assert_eq!(refused, "E:25006 Z:I", "{length}");
        assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:I");
        proxy.open(DB).await;
    }
    let lengths = LENGTHS.map(|length| length.to_string()).join(", ");
    let found = format!("SELECT count(*) FROM t WHERE n IN ({lengths})");
    assert_eq!(postgres.count(&found).await, written, "each as it was sent");
}

/// A function in them writes: what is too long to be kept is not sent again, and its client learns of that.
#[tokio::test]
async fn long_statements_that_the_server_refuses_are_answered_by_it() {
    const SQL: &str = "SELECT writes(length($1))";
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    for length in LENGTHS {
        let unit = long("", Some(SQL), length);
        if unit.len() <= 64 << 10 {
            session.send(&unit).await;
            let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
            assert_eq!(answer, "1 2 D C:SELECT 1 Z:I");
            assert_eq!(rows(&mut postgres).await, 1);
            read_only(&proxy, "queue").await;
            continue;
        }
        let answer = send(&mut session, &[unit]).await;
        assert_eq!(answer, "1 2 E:25006 Z:I", "{length}");
        nothing_open(&mut postgres, &session).await;
        // A text that is so long is not looked at in parts: it waits, whatever it is.
        let text = format!("SELECT length('{}')", "x".repeat(length));
        session.send(&message::query(&text)).await;
        let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
        assert_eq!(answer, "T D C:SELECT 1 Z:I", "{length}");
        read_only(&proxy, "queue").await;
    }
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn portals_are_read_in_parts() {
    const SERIES: &str = "SELECT generate_series(1, 5)";
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let more = |portal: &str, most, end: Vec<u8>| [message::execute(portal, most), end].concat();
    for writes in ["queue", "reject"] {
        read_only(&proxy, writes).await;
        // In one batch.
        let batch = [
            message::parse("", SERIES),
            message::bind("", "", &[]),
            more("", 2, message::execute("", 2)),
            more("", 2, message::sync()),
        ];
        let answer = send(&mut session, &batch).await;
        assert_eq!(answer, "1 2 D D s D D s D C:SELECT 1 Z:I", "{writes}");
        // With a Flush in between, as drivers fetch.
        let first = [
            message::parse("", SERIES),
            message::bind("p", "", &[]),
            more("p", 2, message::flush()),
        ];
        let answer = session.up_to(b's', &first.concat()).await;
        assert_eq!(short(&answer), "1 2 D D s", "{writes}");
        let answer = session.up_to(b's', &more("p", 2, message::flush())).await;
        assert_eq!(short(&answer), "D D s");
        let answer = send(&mut session, &[more("p", 0, message::sync())]).await;
        assert_eq!(answer, "D C:SELECT 1 Z:I");
        nothing_open(&mut postgres, &session).await;
        // In a block, over several batches, and the portal ends with its block.
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        let open = [
            message::parse("series", SERIES),
            message::bind("p", "series", &[]),
            more("p", 2, message::sync()),
        ];
        assert_eq!(send(&mut session, &open).await, "1 2 D D s Z:T");
        let next = [more("p", 2, message::sync())];
        assert_eq!(send(&mut session, &next).await, "D D s Z:T");
        assert_eq!(send(&mut session, &next).await, "D C:SELECT 1 Z:T");
        assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
        assert_eq!(send(&mut session, &next).await, "E:34000 Z:I");
        let close = [message::close(b'S', "series"), message::sync()];
        assert_eq!(send(&mut session, &close).await, "3 Z:I");
    }
}

/// A portal whose first rows are read, and which writes then, or was bound to a write before.
#[tokio::test]
async fn portals_that_write_do_not() {
    const WRITES: &str = "INSERT INTO t SELECT generate_series(1, 5) RETURNING n";
    const CALLS: &str =
        "SELECT CASE WHEN n < 4 THEN n ELSE writes(n) END FROM generate_series(1, 5) n";
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let open = |sql: &str, end: Vec<u8>| {
        let messages = [
            message::parse("", sql),
            message::bind("p", "", &[]),
            message::execute("p", 2),
            end,
        ];
        messages.concat()
    };
    let next = [message::execute("p", 2), message::sync()];
    for writes in ["queue", "reject"] {
        read_only(&proxy, writes).await;
        let refused = if writes == "queue" { "40001" } else { "25006" };
        // What calls a function that writes is refused when it does, by the server.
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        let answer = send(&mut session, &[open(CALLS, message::sync())]).await;
        assert_eq!(answer, "1 2 D D s Z:T", "{writes}");
        let answer = send(&mut session, &next).await;
        assert_eq!(answer, "D E:25006 Z:E", "{writes}");
        assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
        // Rows of it were forwarded: it is not sent again.
        let answer = session.up_to(b's', &open(CALLS, message::flush())).await;
        assert_eq!(short(&answer), "1 2 D D s");
        let answer = send(&mut session, &next).await;
        assert_eq!(answer, "D E:25006 Z:I", "{writes}");
        nothing_open(&mut postgres, &session).await;
        // What writes by its text fails the block that has read, with its portals.
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:T");
        let answer = send(&mut session, &[open(WRITES, message::sync())]).await;
        assert_eq!(answer, format!("E:{refused} Z:E"), "{writes}");
        assert_eq!(send(&mut session, &next).await, "E:34000 Z:E");
        assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
        assert_eq!(rows(&mut postgres).await, 0, "{writes}");
        proxy.open(DB).await;
    }
    // Outside of a block it waits with its first part, and the rest comes behind that.
    read_only(&proxy, "queue").await;
    session.send(&open(WRITES, message::flush())).await;
    proxy.until_held(DB, 1).await;
    nothing_open(&mut postgres, &session).await;
    proxy.open(DB).await;
    let answer = within("rows", SOON, session.up_to(b's', &[])).await;
    assert_eq!(short(&answer), "1 2 D D s");
    let rest = [message::execute("p", 0), message::sync()];
    assert_eq!(send(&mut session, &rest).await, "D D D C:INSERT 0 3 Z:I");
    assert_eq!(rows(&mut postgres).await, 5);
}

/// Blocks that wait, and those that are deferred, begin one by one; each is run once, and nobody is lost.
async fn blocks_begin_in_turn(setting: (&str, &str)) {
    const CLIENTS: u64 = 24;
    let (mut postgres, _unpaced) = start().await;
    let proxy = Proxy::start_set(&postgres, &[setting, ("HOLD_REOPEN_FOR", "5m")]).await;
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(proxy.session(DB).await);
    }
    for _round in 0..2 {
        postgres.execute("TRUNCATE t").await;
        read_only(&proxy, "queue").await;
        for (number, session) in (0..CLIENTS).zip(&mut sessions) {
            assert_eq!(say(session, "BEGIN").await, "C:BEGIN Z:T");
            assert_eq!(say(session, "SAVEPOINT a").await, "C:SAVEPOINT Z:T");
            let insert = format!("INSERT INTO t VALUES ({number})");
            match number % 3 {
                0 => session.send(&message::query(&insert)).await,
                1 => {
                    let batch = [run("", Some(&insert)), message::sync()].concat();
                    session.send(&batch).await;
                }
                // Nothing of it waits yet.
                _ => {}
            }
        }
        proxy.until_held(DB, CLIENTS * 2 / 3).await;
        let mut clients = JoinSet::new();
        for (number, mut session) in (0..CLIENTS).zip(std::mem::take(&mut sessions)) {
            clients.spawn(async move {
                let answer = match number % 3 {
                    2 => {
                        let insert = format!("INSERT INTO t VALUES ({number})");
                        session.query(&insert).await
                    }
                    _ => within("an answer", PATIENCE, session.read_until_ready()).await,
                };
                let answer = short(&answer);
                assert!(answer.ends_with("C:INSERT 0 1 Z:T"), "{number}: {answer}");
                assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
                session
            });
        }
        proxy.open(DB).await;
        within("all of them", PATIENCE, async {
            while let Some(session) = clients.join_next().await {
                sessions.push(session.expect("no client is refused"));
            }
        })
        .await;
        let each = "SELECT count(*) FROM (SELECT n FROM t GROUP BY n HAVING count(*) = 1) one";
        assert_eq!(postgres.count(each).await, 24);
        assert_eq!(rows(&mut postgres).await, 24);
        until("everybody to be inside", SOON, async || {
            let status = proxy.status(DB).await;
            status["held"] == 0 && status["permits"] == 0
        })
        .await;
    }
    assert_eq!(say(&mut sessions[0], INSERT).await, "C:INSERT 0 1 Z:I");
}

#[tokio::test]
async fn deferred_blocks_begin_one_after_the_other() {
    blocks_begin_in_turn(("HOLD_REOPEN_TRANSACTIONS", "1")).await;
}

#[tokio::test]
async fn deferred_blocks_begin_at_a_rate() {
    blocks_begin_in_turn(("HOLD_REOPEN_RATE", "20")).await;
}
