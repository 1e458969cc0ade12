//! Read-only mode: reads go on, and writes wait or are refused, in every form in which drivers send them.

use serde_json::json;

use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until, within};
use crate::support::reading::{
    INSERT, READ, nothing_open, read_only, rows, run, say, send, short, start, waits_and_goes_on,
};
use crate::support::wire::Wire;

#[tokio::test]
async fn reads_go_on_and_a_write_waits_and_runs_once() {
    let (mut postgres, proxy) = start().await;
    let mut older = proxy.session(DB).await;
    older.execute("SELECT 1").await;
    read_only(&proxy, "queue").await;
    let mut younger = proxy.session(DB).await;
    for session in [&mut older, &mut younger] {
        assert_eq!(say(session, READ).await, "T D C:SELECT 1 Z:I");
        assert_eq!(say(session, "").await, "I Z:I");
        assert_eq!(
            say(session, "SELECT 1; SHOW work_mem").await,
            "T D C:SELECT 1 T D C:SHOW Z:I"
        );
        assert_eq!(say(session, "LISTEN a").await, "C:LISTEN Z:I");
        let batch = [run("", Some(READ)), message::sync()];
        assert_eq!(send(session, &batch).await, "1 2 D C:SELECT 1 Z:I");
    }
    older.send(&message::query(INSERT)).await;
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut older).await;
    assert_eq!(answer, "C:INSERT 0 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
    assert_eq!(say(&mut younger, INSERT).await, "C:INSERT 0 1 Z:I");
}

#[tokio::test]
async fn a_block_begins_with_its_first_statement() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    // It ends before it began.
    assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
    nothing_open(&mut postgres, &session).await;
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    assert_eq!(
        say(&mut session, "START TRANSACTION").await,
        "C:START TRANSACTION Z:T"
    );
    assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
    // What comes in front of its first statement is done with it.
    assert_eq!(
        say(&mut session, "BEGIN ISOLATION LEVEL REPEATABLE READ").await,
        "C:BEGIN Z:T"
    );
    assert_eq!(
        say(&mut session, "SET LOCAL work_mem = '7MB'").await,
        "C:SET Z:T"
    );
    assert_eq!(say(&mut session, "SAVEPOINT a").await, "C:SAVEPOINT Z:T");
    assert_eq!(proxy.sessions(DB).await[0]["state"], "deferred");
    nothing_open(&mut postgres, &session).await;
    assert_eq!(session.query_one("SHOW work_mem").await, "7MB");
    assert_eq!(
        session.query_one("SHOW transaction_isolation").await,
        "repeatable read"
    );
    assert_eq!(say(&mut session, "ROLLBACK TO a").await, "C:ROLLBACK Z:T");
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    // One that writes first waits with nothing open, and is done with all that came in front of it.
    assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
    assert_eq!(
        say(&mut session, "SET LOCAL work_mem = '7MB'").await,
        "C:SET Z:T"
    );
    session.send(&message::query(INSERT)).await;
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
    assert_eq!(answer, "C:INSERT 0 1 Z:T");
    assert_eq!(session.query_one("SHOW work_mem").await, "7MB");
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn drivers_begin_blocks_in_every_form_of_the_extended_protocol() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let before = [message::parse("before", "BEGIN"), message::sync()];
    assert_eq!(send(&mut session, &before).await, "1 Z:I");
    read_only(&proxy, "queue").await;
    let end = [run("", Some("COMMIT")), message::sync()];
    let named = |sql| [run("b", sql), message::sync()];
    // Parsed and executed at once, then by its name alone.
    assert_eq!(
        send(&mut session, &named(Some("BEGIN"))).await,
        "1 2 C:BEGIN Z:T"
    );
    nothing_open(&mut postgres, &session).await;
    assert_eq!(send(&mut session, &end).await, "1 2 C:COMMIT Z:I");
    assert_eq!(send(&mut session, &named(None)).await, "2 C:BEGIN Z:T");
    assert_eq!(send(&mut session, &end).await, "1 2 C:COMMIT Z:I");
    // Prepared before anybody looked.
    assert_eq!(
        send(&mut session, &[run("before", None), message::sync()]).await,
        "2 C:BEGIN Z:T"
    );
    nothing_open(&mut postgres, &session).await;
    // Parsed by itself, and described.
    let select = [
        message::parse("s", READ),
        message::describe(b'S', "s"),
        message::sync(),
    ];
    assert_eq!(send(&mut session, &select).await, "1 t T Z:T");
    nothing_open(&mut postgres, &session).await;
    assert_eq!(
        send(&mut session, &[run("s", None), message::sync()]).await,
        "2 D C:SELECT 1 Z:T"
    );
    assert_eq!(send(&mut session, &end).await, "1 2 C:COMMIT Z:I");
    // With a Describe of its portal; and what fails of it.
    let described = [
        message::parse("", "BEGIN"),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    assert_eq!(send(&mut session, &described).await, "1 2 n C:BEGIN Z:T");
    assert_eq!(
        send(
            &mut session,
            &[
                message::parse("x", "SELECT nothing FROM nowhere"),
                message::sync()
            ]
        )
        .await,
        "E:42P01 Z:E"
    );
    assert_eq!(say(&mut session, "SELECT 1").await, "E:25P02 Z:E");
    assert_eq!(send(&mut session, &end).await, "1 2 C:ROLLBACK Z:I");
    assert_eq!(
        send(&mut session, &named(Some("BEGIN"))).await,
        "E:42P05 Z:I"
    );
    // The first statement in the same batch: one unit.
    let both = [run("", Some("BEGIN")), run("", Some(READ)), message::sync()];
    assert_eq!(
        send(&mut session, &both).await,
        "1 2 C:BEGIN 1 2 D C:SELECT 1 Z:T"
    );
    assert_eq!(send(&mut session, &end).await, "1 2 C:COMMIT Z:I");
    let both = [
        run("", Some("BEGIN")),
        run("", Some(INSERT)),
        message::sync(),
    ]
    .concat();
    session.send(&both).await;
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
    assert_eq!(answer, "1 2 C:BEGIN 1 2 C:INSERT 0 1 Z:T");
    assert_eq!(send(&mut session, &end).await, "1 2 C:COMMIT Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn clients_that_flush_and_wait_go_on() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    let prepare = |sql: &str| {
        [
            message::parse("", sql),
            message::describe(b'S', ""),
            message::flush(),
        ]
        .concat()
    };
    for begin in [false, true] {
        if begin {
            assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        }
        session.send(&prepare(READ)).await;
        for tag in [b'1', b't', b'T'] {
            within("an answer", SOON, session.expect(tag)).await;
        }
        let ready = if begin { "Z:T" } else { "Z:I" };
        let answer = send(&mut session, &[run("", None), message::sync()]).await;
        assert_eq!(answer, format!("2 D C:SELECT 1 {ready}"));
    }
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    // A batch whose front was read already fails when it writes.
    session
        .send(&[run("", Some(READ)), message::flush()].concat())
        .await;
    for tag in [b'1', b'2', b'D', b'C'] {
        within("an answer", SOON, session.expect(tag)).await;
    }
    let answer = send(&mut session, &[run("", Some(INSERT)), message::sync()]).await;
    assert_eq!(answer, "E:40001 Z:I");
    // One that writes waits with its Parse.
    session.send(&prepare(INSERT)).await;
    proxy.until_held(DB, 1).await;
    nothing_open(&mut postgres, &session).await;
    proxy.open(DB).await;
    for tag in [b'1', b't', b'n'] {
        within("an answer", SOON, session.expect(tag)).await;
    }
    let answer = send(&mut session, &[run("", None), message::sync()]).await;
    assert_eq!(answer, "2 C:INSERT 0 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn who_writes_late_is_told_to_try_again_and_succeeds_when_it_does() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let prepared = [message::parse("back", "ROLLBACK"), message::sync()];
    assert_eq!(send(&mut session, &prepared).await, "1 Z:I");
    read_only(&proxy, "queue").await;
    assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
    assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:T");
    assert_eq!(say(&mut session, INSERT).await, "E:40001 Z:E");
    assert_eq!(say(&mut session, READ).await, "E:25P02 Z:E");
    // Its end by a name that nobody knows.
    let back = [run("back", None), message::sync()];
    assert_eq!(send(&mut session, &back).await, "2 C:ROLLBACK Z:I");
    nothing_open(&mut postgres, &session).await;
    // The second try waits from its beginning; a statement in between does not.
    assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:I");
    session.send(&message::query("BEGIN")).await;
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
    assert_eq!(answer, "C:BEGIN Z:T");
    assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:T");
    assert_eq!(say(&mut session, INSERT).await, "C:INSERT 0 1 Z:T");
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn a_late_write_fails_its_transaction_in_every_form() {
    let (mut postgres, proxy) = start().await;
    read_only(&proxy, "queue").await;
    let insert = [run("", Some(INSERT)), message::sync()].concat();
    for (write, read) in [
        (message::query(INSERT), "SELECT 1"),
        (insert.clone(), "SELECT 1"),
        (
            message::query("SET TRANSACTION READ WRITE"),
            "SHOW work_mem",
        ),
        (
            message::query("COMMIT; INSERT INTO t VALUES (1)"),
            "SELECT 1",
        ),
        (
            message::query("DO 'BEGIN END'"),
            "DECLARE c CURSOR FOR SELECT 1",
        ),
        (message::function_call(1598, &[]), "SAVEPOINT a; SELECT 1"),
    ] {
        let mut session = proxy.session(DB).await;
        assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
        assert!(say(&mut session, read).await.ends_with("Z:T"));
        assert_eq!(send(&mut session, &[write]).await, "E:40001 Z:E");
        assert_eq!(say(&mut session, "COMMIT").await, "C:ROLLBACK Z:I");
        nothing_open(&mut postgres, &session).await;
    }
    // In one that the client began as read-only the answer is the server's.
    let mut session = proxy.session(DB).await;
    assert_eq!(say(&mut session, "BEGIN READ ONLY").await, "C:BEGIN Z:T");
    assert_eq!(say(&mut session, INSERT).await, "E:25006 Z:E");
    assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
    assert_eq!(rows(&mut postgres).await, 0);
}

#[tokio::test]
async fn a_function_that_writes_is_run_again_once_writes_are_let_in() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    let prepared = [message::parse("w", "SELECT writes(3)"), message::sync()];
    assert_eq!(send(&mut session, &prepared).await, "1 Z:I");
    let described = [
        message::parse("named", "SELECT writes(4)"),
        message::bind("", "named", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    for (number, (unit, wanted)) in [
        (message::query("SELECT writes(1)"), "T D C:SELECT 1 Z:I"),
        (
            [run("", Some("SELECT writes(2)")), message::sync()].concat(),
            "1 2 D C:SELECT 1 Z:I",
        ),
        (
            [run("w", None), message::sync()].concat(),
            "2 D C:SELECT 1 Z:I",
        ),
        (described.concat(), "1 2 T D C:SELECT 1 Z:I"),
    ]
    .into_iter()
    .enumerate()
    {
        read_only(&proxy, "queue").await;
        session.send(&unit).await;
        proxy.until_held(DB, 1).await;
        nothing_open(&mut postgres, &session).await;
        proxy.open(DB).await;
        let answer = within("an answer", SOON, session.read_until_ready()).await;
        assert_eq!(short(&answer), wanted);
        let rows = rows(&mut postgres).await;
        assert_eq!(rows, i64::try_from(number).expect("few") + 1);
    }
    // In a block, and behind other statements, the error is the server's.
    read_only(&proxy, "queue").await;
    assert_eq!(
        say(&mut session, "SELECT 1; SELECT writes(1)").await,
        "T D C:SELECT 1 T E:25006 Z:I"
    );
    assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
    assert_eq!(say(&mut session, "SELECT writes(1)").await, "T E:25006 Z:E");
    assert_eq!(say(&mut session, "ROLLBACK").await, "C:ROLLBACK Z:I");
    assert_eq!(rows(&mut postgres).await, 4);
}

#[tokio::test]
async fn writes_are_refused_where_they_may_not_wait() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "reject").await;
    let refused = within(INSERT, SOON, session.query(INSERT)).await;
    assert_eq!(short(&refused), "E:25006 Z:I");
    assert!(refused[0].field(b'D').is_some() && refused[0].field(b'H').is_some());
    let insert = [run("", Some(INSERT)), message::sync()];
    assert_eq!(send(&mut session, &insert).await, "E:25006 Z:I");
    assert_eq!(say(&mut session, "BEGIN READ WRITE").await, "E:25006 Z:I");
    assert_eq!(say(&mut session, "SELECT writes(1)").await, "T E:25006 Z:I");
    assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:I");
    // A block begins at the server, and fails.
    assert_eq!(say(&mut session, "BEGIN").await, "C:BEGIN Z:T");
    assert_eq!(say(&mut session, INSERT).await, "E:25006 Z:E");
    assert_eq!(say(&mut session, "COMMIT").await, "C:ROLLBACK Z:I");
    proxy.open(DB).await;
    assert_eq!(say(&mut session, INSERT).await, "C:INSERT 0 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn statements_that_were_prepared_before_are_known() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    for (name, sql) in [("r", READ), ("w", INSERT)] {
        let parse = [message::parse(name, sql), message::sync()];
        assert_eq!(send(&mut session, &parse).await, "1 Z:I");
    }
    session.execute("PREPARE sr (int) AS SELECT $1").await;
    session
        .execute("PREPARE sw (int) AS INSERT INTO t VALUES ($1)")
        .await;
    read_only(&proxy, "queue").await;
    let by_name = |name| [run(name, None), message::sync()];
    for _ in 0..2 {
        assert_eq!(
            send(&mut session, &by_name("r")).await,
            "2 D C:SELECT 1 Z:I"
        );
        assert_eq!(
            say(&mut session, "EXECUTE sr (1)").await,
            "T D C:SELECT 1 Z:I"
        );
    }
    assert_eq!(send(&mut session, &by_name("nothing")).await, "E:26000 Z:I");
    assert_eq!(say(&mut session, "BEGIN READ ONLY").await, "C:BEGIN Z:T");
    assert_eq!(
        send(&mut session, &by_name("r")).await,
        "2 D C:SELECT 1 Z:T"
    );
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    // A name that comes to mean something else.
    session.execute("DEALLOCATE sr").await;
    session
        .execute("PREPARE sr (int) AS INSERT INTO t VALUES ($1)")
        .await;
    for write in ["EXECUTE sr (1)", "EXECUTE sw (1)"] {
        session.send(&message::query(write)).await;
        let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
        assert_eq!(answer, "C:INSERT 0 1 Z:I", "{write}");
        read_only(&proxy, "queue").await;
    }
    session.send(&by_name("w").concat()).await;
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
    assert_eq!(answer, "2 C:INSERT 0 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 3);
}

#[tokio::test]
async fn pipelines_go_on_unit_by_unit() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    let read = [run("", Some(READ)), message::sync()].concat();
    let pipeline = [
        read.clone(),
        message::query("SET default_transaction_read_only = off"),
        message::query(INSERT),
        read.clone(),
    ];
    session.send(&pipeline.concat()).await;
    let first = within("an answer", SOON, session.read_until_ready()).await;
    assert_eq!(short(&first), "1 2 D C:SELECT 1 Z:I");
    let answer = waits_and_goes_on(&mut postgres, &proxy, &mut session).await;
    assert_eq!(answer, "C:SET Z:I");
    for wanted in ["C:INSERT 0 1 Z:I", "1 2 D C:SELECT 1 Z:I"] {
        let answer = within("an answer", SOON, session.read_until_ready()).await;
        assert_eq!(short(&answer), wanted);
    }
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing() {
    let (mut postgres, proxy) = start().await;
    read_only(&proxy, "queue").await;
    for (before, last) in [
        (vec!["BEGIN"], None),
        (vec!["BEGIN", "SAVEPOINT a"], None),
        (vec!["BEGIN"], Some(INSERT)),
        (vec![], Some(INSERT)),
        (vec![], Some("SELECT writes(1)")),
        (vec!["BEGIN", READ], None),
    ] {
        let mut session = proxy.session(DB).await;
        let (pid, _) = session.key();
        for sql in before {
            session.execute(sql).await;
        }
        if let Some(sql) = last {
            session.send(&message::query(sql)).await;
            proxy.until_held(DB, 1).await;
        }
        drop(session);
        proxy.until_held(DB, 0).await;
        postgres.until_gone(pid).await;
    }
    proxy.open(DB).await;
    until("no sessions", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
    assert_eq!(rows(&mut postgres).await, 0);
}

#[tokio::test]
async fn a_wait_that_ends_in_an_error_fails_the_block() {
    let (mut postgres, proxy) = start().await;
    let mut session = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    for sql in ["BEGIN", "SAVEPOINT a"] {
        session.execute(sql).await;
    }
    session.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    Wire::cancel(proxy.addr(), session.key()).await;
    let answer = within("an answer", SOON, session.read_until_ready()).await;
    assert_eq!(short(&answer), "E:57014 Z:E");
    assert_eq!(say(&mut session, READ).await, "E:25P02 Z:E");
    nothing_open(&mut postgres, &session).await;
    // It goes back to what was deferred too, and on from there.
    assert_eq!(say(&mut session, "ROLLBACK TO a").await, "C:ROLLBACK Z:T");
    assert_eq!(say(&mut session, READ).await, "T D C:SELECT 1 Z:T");
    assert_eq!(say(&mut session, "COMMIT").await, "C:COMMIT Z:I");
    // An error of what was deferred is that of the first statement.
    session.execute("BEGIN").await;
    assert_eq!(
        say(&mut session, "SET LOCAL work_mem = 'much'").await,
        "C:SET Z:T"
    );
    assert_eq!(say(&mut session, READ).await, "E:22023 Z:E");
    assert_eq!(say(&mut session, "COMMIT").await, "C:ROLLBACK Z:I");
    proxy.open(DB).await;
    assert_eq!(say(&mut session, INSERT).await, "C:INSERT 0 1 Z:I");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn modes_that_follow_each_other_lose_nobody() {
    let (mut postgres, proxy) = start().await;
    let mut deferred = proxy.session(DB).await;
    let mut reader = proxy.session(DB).await;
    let mut writer = proxy.session(DB).await;
    read_only(&proxy, "queue").await;
    deferred.execute("BEGIN").await;
    reader.execute(READ).await;
    writer.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    // A hold stops the reads too, and a block that has not begun does not stand in its way.
    proxy.hold_drained(DB, json!({})).await;
    reader.send(&message::query(READ)).await;
    deferred.send(&message::query(READ)).await;
    proxy.until_held(DB, 3).await;
    // Back to read-only: the reads go on.
    read_only(&proxy, "queue").await;
    let answer = within("an answer", SOON, reader.read_until_ready()).await;
    assert_eq!(short(&answer), "T D C:SELECT 1 Z:I");
    let answer = within("an answer", SOON, deferred.read_until_ready()).await;
    assert_eq!(short(&answer), "T D C:SELECT 1 Z:T");
    proxy.until_held(DB, 1).await;
    assert_eq!(say(&mut deferred, "COMMIT").await, "C:COMMIT Z:I");
    // Deferred while read-only, begun while open.
    deferred.execute("BEGIN").await;
    proxy.open(DB).await;
    let answer = within("an answer", SOON, writer.read_until_ready()).await;
    assert_eq!(short(&answer), "C:INSERT 0 1 Z:I");
    assert_eq!(say(&mut deferred, INSERT).await, "C:INSERT 0 1 Z:T");
    assert_eq!(say(&mut deferred, "COMMIT").await, "C:COMMIT Z:I");
    assert_eq!(rows(&mut postgres).await, 2);
}
