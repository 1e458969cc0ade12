//! A transaction that sits idle is aborted in place: DDL passes, the client is told 40001 for whatever
//! it sends first, and its connection lives.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A drain that comes to the abort soon, and stays there.
fn firm() -> Value {
    json!({"ladder": "firm", "wait": "50ms", "cancel": "50ms", "stuck": "0s", "abort": "60s"})
}

async fn table(postgres: &mut Postgres) {
    postgres
        .execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        .await;
}

/// A transaction with row locks and savepoints, and a setting that ends with it. The client's
/// unnamed statement is kept.
async fn in_transaction(proxy: &Proxy) -> Wire {
    let mut session = proxy.session(DB).await;
    for sql in [
        "BEGIN",
        "SET TimeZone = 'Asia/Tokyo'",
        "UPDATE t SET n = 10 WHERE n = 1",
        "SAVEPOINT a",
        "UPDATE t SET n = 20 WHERE n = 2",
        "SAVEPOINT b",
        "LOCK TABLE t",
    ] {
        session.execute(sql).await;
    }
    let unnamed = [message::parse("", "SELECT 7"), message::sync()].concat();
    session.units(&unnamed, 1).await;
    session
}

/// Holds, and changes the table as a migration would.
async fn ddl_passes(postgres: &mut Postgres, proxy: &Proxy, pid: u32) {
    let drain = proxy.hold_drained(DB, firm()).await;
    assert_eq!(drain["aborted"][0]["pid"], pid, "{drain}");
    assert_eq!(drain["step"], "abort", "{drain}");
    assert_eq!(drain["terminated"], json!([]), "{drain}");
    let ddl = "SET lock_timeout = '2s'; ALTER TABLE t ADD c int; ALTER TABLE t DROP c";
    postgres.execute(ddl).await;
}

/// One statement by the extended protocol.
fn extended(sql: &str) -> Vec<u8> {
    [
        message::parse("", sql),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

/// An error and a status, in front of which may be what a rollback told of settings.
fn assert_refused(answer: &[Message], sqlstate: &str, status: u8, what: &str) {
    let rest: Vec<&Message> = answer.iter().filter(|it| it.tag != b'S').collect();
    let [error, ready] = &rest[..] else {
        panic!("{what}: {answer:?}");
    };
    assert_eq!(error.sqlstate(), sqlstate, "{what}: {error:?}");
    assert_eq!(ready.body, [status], "{what}: {answer:?}");
}

/// The tag of a statement that was executed, and the status behind it.
fn assert_done(answer: &[Message], tag: &str, status: u8, what: &str) {
    let done = answer.iter().find(|it| it.tag == b'C');
    let done = done.unwrap_or_else(|| panic!("{what}: {answer:?}"));
    assert_eq!(done.body, format!("{tag}\0").as_bytes(), "{what}");
    assert_eq!(answer.last().map(|it| &it.body[..]), Some(&[status][..]));
}

#[tokio::test]
async fn ddl_passes_and_the_client_is_told_whatever_it_sends_first() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    // What comes first, and the status behind its 40001.
    for (first, status) in [
        ("SELECT 1", b'E'),
        ("COMMIT", b'I'),
        ("end;", b'I'),
        ("PREPARE TRANSACTION 'x'", b'I'),
        ("ROLLBACK TO a", b'E'),
        ("COMMIT; INSERT INTO t VALUES (3)", b'E'),
        ("COMMIT AND CHAIN", b'E'),
    ] {
        for (form, bytes) in [
            ("simple", message::query(first)),
            ("extended", extended(first)),
        ] {
            let what = format!("{first}, {form}");
            let mut session = in_transaction(&proxy).await;
            let (pid, _) = session.key();
            ddl_passes(&mut postgres, &proxy, pid).await;
            session.assert_silent().await;
            let answer = session.units(&bytes, 1).await;
            assert_refused(&answer, "40001", status, &what);
            let error = answer.iter().find(|it| it.tag == b'E');
            let hint = error.and_then(|it| it.field(b'H'));
            assert!(hint.is_some_and(|hint| hint.contains("again")), "{what}");
            let told = answer.iter().any(|it| it.tag == b'S');
            assert!(told, "{what}: the time zone is as it was: {answer:?}");
            if status == b'E' {
                let answer = session.query("SELECT 1").await;
                assert_refused(&answer, "25P02", b'E', &what);
                let answer = session.units(&extended("ROLLBACK"), 1).await;
                assert_done(&answer, "ROLLBACK", b'I', &what);
            }
            proxy.open(DB).await;
            // The connection lives.
            assert_eq!(session.key().0, pid);
            session.execute("SELECT 1").await;
        }
    }
    assert_eq!(postgres.count("SELECT sum(n) FROM t").await, 3);
    assert_eq!(
        postgres
            .count("SELECT count(*) FROM pg_prepared_xacts")
            .await,
        0
    );
}

#[tokio::test]
async fn a_rollback_goes_to_the_server_and_what_follows_it_waits() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    for rollback in [message::query("rollback"), extended("ABORT")] {
        let mut session = in_transaction(&proxy).await;
        ddl_passes(&mut postgres, &proxy, session.key().0).await;
        let insert = message::query("INSERT INTO t VALUES (4)");
        let answer = session.units(&[rollback, insert].concat(), 1).await;
        assert_done(&answer, "ROLLBACK", b'I', "a lone rollback");
        proxy.until_held(DB, 1).await;
        assert_eq!(
            postgres.count("SELECT count(*) FROM t WHERE n = 4").await,
            0
        );
        proxy.open(DB).await;
        assert_done(
            &session.read_until_ready().await,
            "INSERT 0 1",
            b'I',
            "the insert",
        );
        session.execute("DELETE FROM t WHERE n = 4").await;
    }
    assert_eq!(postgres.count("SELECT sum(n) FROM t").await, 3);
}

#[tokio::test]
async fn nothing_writes_behind_a_rollback_while_the_gate_is_closed() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let insert = "INSERT INTO t VALUES (4)";
    let pipelined = [
        message::parse("", "ROLLBACK"),
        message::bind("", "", &[]),
        message::execute("", 0),
        message::parse("", insert),
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    for bytes in [
        message::query(&format!("ROLLBACK; {insert}")),
        pipelined.concat(),
    ] {
        let mut session = in_transaction(&proxy).await;
        ddl_passes(&mut postgres, &proxy, session.key().0).await;
        session.send(&bytes).await;
        proxy.until_held(DB, 1).await;
        assert_eq!(
            postgres.count("SELECT count(*) FROM t WHERE n = 4").await,
            0
        );
        proxy.open(DB).await;
        let answer = session.read_until_ready().await;
        let tags: Vec<_> = answer.iter().filter(|it| it.tag == b'C').collect();
        assert_eq!(tags.len(), 2, "{answer:?}");
        session.execute("DELETE FROM t WHERE n = 4").await;
    }
    // Told already, and with text that hides what it does.
    let mut session = in_transaction(&proxy).await;
    ddl_passes(&mut postgres, &proxy, session.key().0).await;
    assert_refused(&session.query("SELECT 1").await, "40001", b'E', "first");
    let hidden = format!("/* x */ COMMIT; {insert}");
    session.send(&message::query(&hidden)).await;
    proxy.until_held(DB, 1).await;
    assert_eq!(
        postgres.count("SELECT count(*) FROM t WHERE n = 4").await,
        0
    );
    proxy.open(DB).await;
    session.read_until_ready().await;
    assert_eq!(
        postgres.count("SELECT count(*) FROM t WHERE n = 4").await,
        1
    );
}

#[tokio::test]
async fn what_the_session_had_besides_its_transaction_is_kept() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("LISTEN news").await;
    session.execute("CREATE TEMP TABLE mine (n int)").await;
    session.execute("SELECT pg_advisory_lock(7)").await;
    session.execute("PREPARE named AS SELECT 8").await;
    session.execute("BEGIN").await;
    session.execute("LOCK TABLE t").await;
    let unnamed = [message::parse("", "SELECT 7"), message::sync()].concat();
    session.units(&unnamed, 1).await;
    ddl_passes(&mut postgres, &proxy, session.key().0).await;
    postgres.execute("NOTIFY news, 'still here'").await;
    proxy.open(DB).await;
    // The window is over, and the client does not know yet. A server tells no news in a transaction.
    let mut answer = session.query("COMMIT").await;
    let news = answer.iter().position(|it| it.tag == b'A');
    answer.remove(news.expect("news"));
    assert_refused(&answer, "40001", b'I', "commit");
    let run = [
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    session.execute("BEGIN").await;
    assert_eq!(session.query_one("EXECUTE named").await, "8");
    assert_eq!(session.query_one("SELECT count(*) FROM mine").await, "0");
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(session.query_one(held).await, "1");
    let ours = "SELECT count(*) FROM pg_prepared_statements WHERE name <> 'named'";
    assert_eq!(session.query_one(ours).await, "0");
    session.execute("COMMIT").await;
    // A Query ends an unnamed statement; so this is looked at in a session of its own.
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    session.units(&unnamed, 1).await;
    ddl_passes(&mut postgres, &proxy, session.key().0).await;
    let rollback = [
        message::parse("r", "ROLLBACK"),
        message::bind("", "r", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    let answer = session.units(&rollback.concat(), 1).await;
    assert_done(&answer, "ROLLBACK", b'I', "named");
    proxy.open(DB).await;
    let answer = session.units(&run.concat(), 1).await;
    let row = answer.iter().find(|it| it.tag == b'D').expect("a row");
    assert_eq!(row.columns(), [Some("7".to_owned())]);
}

#[tokio::test]
async fn a_driver_is_told_and_retries() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let (mut client, connection) = tokio_postgres::connect(&proxy.url(DB), tokio_postgres::NoTls)
        .await
        .expect("a session");
    let connection = tokio::spawn(connection);
    let mut tries = 0;
    loop {
        tries += 1;
        let transaction = client.transaction().await.expect("begins");
        transaction
            .execute("UPDATE t SET n = n + 100 WHERE n = $1", &[&1])
            .await
            .expect("updates");
        if tries == 1 {
            proxy.hold_drained(DB, firm()).await;
            proxy.open(DB).await;
        }
        match transaction.commit().await {
            Ok(()) => break,
            Err(error) => {
                let code = error.code().map(|code| code.code().to_owned());
                assert_eq!((tries, code.as_deref()), (1, Some("40001")));
            }
        }
    }
    assert_eq!(tries, 2);
    assert_eq!(postgres.count("SELECT sum(n) FROM t").await, 103);
    connection.abort();
}

#[tokio::test]
async fn one_that_works_is_cancelled_first_and_aborted_once_it_is_idle() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = in_transaction(&proxy).await;
    session.send(&message::query("SELECT pg_sleep(600)")).await;
    until("the statement to run", SOON, async || {
        proxy.sessions(DB).await[0]["state"] == "active"
    })
    .await;
    // Its own error leaves the locks of the savepoints in front of it.
    let (pid, _) = session.key();
    ddl_passes(&mut postgres, &proxy, pid).await;
    let answer = session.read_until_ready().await;
    assert_refused(&answer[1..], "57014", b'E', "cancelled");
    assert_eq!(proxy.sessions(DB).await[0]["state"], "aborted");
    assert_refused(&session.query("COMMIT").await, "40001", b'I', "commit");
    proxy.open(DB).await;
    session.execute("SELECT 1").await;
}

#[tokio::test]
async fn an_aborted_session_ends_with_its_server_its_client_and_the_proxy() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut killed = in_transaction(&proxy).await;
    let (pid, _) = killed.key();
    ddl_passes(&mut postgres, &proxy, pid).await;
    postgres
        .execute(&format!("SELECT pg_terminate_backend({pid})"))
        .await;
    let last = killed.read_to_end().await;
    assert_eq!(last.last().expect("last words").sqlstate(), "57P01");
    proxy.open(DB).await;

    let left = in_transaction(&proxy).await;
    let (pid, _) = left.key();
    ddl_passes(&mut postgres, &proxy, pid).await;
    drop(left);
    postgres.until_gone(pid).await;
    proxy.open(DB).await;

    let mut stopped = in_transaction(&proxy).await;
    ddl_passes(&mut postgres, &proxy, stopped.key().0).await;
    assert!(proxy.terminate().await.success());
    let last = stopped.read_to_end().await;
    assert_eq!(last.last().expect("last words").sqlstate(), "57P01");
}
