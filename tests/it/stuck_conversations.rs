//! A conversation that stands still because of its client is freed from it by a drain, and whatever the
//! client sends later is answered once.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const INSERT: &str = "INSERT INTO t VALUES (1)";

/// A drain that frees what is stuck soon, and stays there.
fn freeing() -> Value {
    json!({"ladder": "firm", "wait": "50ms", "cancel": "50ms", "stuck": "60s", "abort": "0s"})
}

/// The same, and it aborts what is idle then.
fn aborting() -> Value {
    json!({"ladder": "firm", "wait": "50ms", "cancel": "50ms", "stuck": "50ms", "abort": "60s"})
}

async fn started() -> (Postgres, Proxy, Wire) {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let session = proxy.session(DB).await;
    (postgres, proxy, session)
}

/// Holds until drained; DDL would pass then.
async fn drained(postgres: &mut Postgres, proxy: &Proxy, options: Value, pid: u32) {
    let drain = proxy.hold_drained(DB, options).await;
    assert_eq!(drain["freed"][0]["pid"], pid, "{drain}");
    let ddl = "SET lock_timeout = '2s'; ALTER TABLE t ADD c int; ALTER TABLE t DROP c";
    postgres.execute(ddl).await;
}

/// Waits until the session has sent something that the server answers later, or never.
async fn until_active(proxy: &Proxy) {
    until("a session at work", SOON, async || {
        proxy.sessions(DB).await[0]["state"] == "active"
    })
    .await;
}

fn batch(sql: &str) -> Vec<u8> {
    [
        message::parse("", sql),
        message::bind("", "", &[]),
        message::execute("", 0),
    ]
    .concat()
}

fn tags(answer: &[Message]) -> String {
    answer.iter().map(|it| char::from(it.tag)).collect()
}

/// The session works as ever.
async fn assert_lives(session: &mut Wire, proxy: &Proxy) {
    proxy.open(DB).await;
    for _ in 0..2 {
        assert_eq!(session.query_one("SELECT 7").await, "7");
    }
    session.assert_silent().await;
}

#[tokio::test]
async fn a_copy_whose_client_is_silent_fails_and_its_late_data_comes_to_nothing() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    for in_block in [false, true] {
        if in_block {
            session.execute("BEGIN").await;
        }
        session
            .up_to(b'G', &message::query("COPY t FROM STDIN"))
            .await;
        session.send(&message::copy_data(b"1\n")).await;
        let ladder = if in_block { aborting() } else { freeing() };
        drained(&mut postgres, &proxy, ladder, pid).await;
        let late = [
            message::copy_data(b"2\n"),
            message::copy_data(&[b'x'; 100_000]),
            message::copy_done(),
        ];
        session.send(&late.concat()).await;
        let answer = session.read_until_ready().await;
        assert_eq!(tags(&answer), "EZ", "{answer:?}");
        assert_eq!(answer[0].sqlstate(), "57014");
        if in_block {
            assert_eq!(answer[1].body, b"E");
            let answer = session.query("COMMIT").await;
            assert_eq!(answer[0].sqlstate(), "40001", "{answer:?}");
        }
        assert_lives(&mut session, &proxy).await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_copy_by_the_extended_protocol_fails_and_its_sync_is_answered_once() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    for behind in [message::sync(), Vec::new()] {
        let begun = [batch("COPY t FROM STDIN"), message::flush(), behind];
        session.up_to(b'G', &begun.concat()).await;
        drained(&mut postgres, &proxy, freeing(), pid).await;
        assert_eq!(session.read().await.sqlstate(), "57014");
        let rest = [
            message::copy_data(b"2\n"),
            message::copy_done(),
            message::sync(),
        ];
        let answer = session.units(&rest.concat(), 1).await;
        assert_eq!(
            (tags(&answer).as_str(), &answer[0].body[..]),
            ("Z", &b"I"[..])
        );
        assert_lives(&mut session, &proxy).await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_batch_that_wrote_is_undone_and_what_follows_of_it_is_skipped() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    for flush in [message::flush(), Vec::new()] {
        session.send(&[batch(INSERT), flush].concat()).await;
        until_active(&proxy).await;
        drained(&mut postgres, &proxy, freeing(), pid).await;
        let rest = [batch(INSERT), message::sync()];
        let answer = session.units(&rest.concat(), 1).await;
        assert_eq!(tags(&answer), "12CEZ", "{answer:?}");
        assert_eq!(answer[3].sqlstate(), "40001");
        assert_eq!(answer[4].body, b"I");
        assert_lives(&mut session, &proxy).await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_batch_that_ran_nothing_goes_on_behind_the_hold() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    let prepare = [
        message::parse("", INSERT),
        message::describe(b'S', ""),
        message::flush(),
    ];
    session.up_to(b'n', &prepare.concat()).await;
    drained(&mut postgres, &proxy, freeing(), pid).await;
    let run = [
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    session.send(&run.concat()).await;
    proxy.until_held(DB, 1).await;
    session.assert_silent().await;
    proxy.open(DB).await;
    assert_eq!(tags(&session.read_until_ready().await), "2CZ");
    assert_lives(&mut session, &proxy).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_batch_that_failed_gets_its_sync_answered() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    session.execute("BEGIN").await;
    session.execute("LOCK TABLE t").await;
    let fails = [batch("SELECT 1/0"), message::flush()];
    session.up_to(b'E', &fails.concat()).await;
    drained(&mut postgres, &proxy, aborting(), pid).await;
    let rest = [batch(INSERT), message::sync()];
    let answer = session.units(&rest.concat(), 1).await;
    assert_eq!(
        (tags(&answer).as_str(), &answer[0].body[..]),
        ("Z", &b"E"[..])
    );
    session.execute("ROLLBACK").await;
    assert_lives(&mut session, &proxy).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_batch_in_a_transaction_is_ended_and_the_transaction_aborted() {
    let (mut postgres, proxy, mut session) = started().await;
    let (pid, _) = session.key();
    for rest in [message::sync(), [batch(INSERT), message::sync()].concat()] {
        session.execute("BEGIN").await;
        let begun = [batch(INSERT), message::flush()];
        session.up_to(b'C', &begun.concat()).await;
        drained(&mut postgres, &proxy, aborting(), pid).await;
        let answer = session.units(&rest, 1).await;
        assert_eq!(answer.last().map(|it| &it.body[..]), Some(&b"E"[..]));
        // Whatever it knows already, a COMMIT is not taken for one.
        let answer = session.query("COMMIT").await;
        let committed = answer.iter().any(|it| it.body == b"COMMIT\0");
        assert!(!committed, "{answer:?}");
        assert_eq!(answer.last().map(|it| &it.body[..]), Some(&b"I"[..]));
        assert_lives(&mut session, &proxy).await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let (mut postgres, proxy, mut deaf) = started().await;
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    deaf.send(&message::query(rows)).await;
    let watcher = postgres.connect(DB).await;
    until("a backend that cannot send", SOON, async || {
        let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        let row = watcher.query_one(stuck, &[]).await.expect("a count");
        row.get::<_, i64>(0) > 0
    })
    .await;
    let drain = proxy.hold_drained(DB, freeing()).await;
    assert_eq!(drain["terminated"], json!([]), "{drain}");
    postgres.until_gone(deaf.key().0).await;
}
