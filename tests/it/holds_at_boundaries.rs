//! A hold stops sessions between two transactions and never inside one.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// The function `pg_advisory_lock(bigint)`, by its number in `pg_proc.dat`.
const PG_ADVISORY_LOCK: u32 = 2880;

/// One way to ask for the advisory lock number 1.
fn ways_to_lock() -> Vec<(&'static str, Vec<u8>)> {
    let lock = "SELECT pg_advisory_lock(1)";
    let batch = [
        message::parse("", lock),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    let argument = 1_i64.to_be_bytes();
    vec![
        ("simple", message::query(lock)),
        ("extended", batch.concat()),
        (
            "function call",
            message::function_call(PG_ADVISORY_LOCK, &[Some(&argument)]),
        ),
    ]
}

#[tokio::test]
async fn an_idle_session_is_held_at_its_next_first_message() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    for (name, unit) in ways_to_lock() {
        let mut session = proxy.session(DB).await;
        let drain = proxy.hold_drained(DB, json!({})).await;
        assert_eq!(drain["waited_for"], json!([]), "{name}");
        session.send(&unit).await;
        proxy.until_held(DB, 1).await;
        session.assert_silent().await;
        proxy.open(DB).await;
        let answer = session.read_until_ready().await;
        assert!(
            answer.iter().all(|one| one.tag != b'E'),
            "{name}: {answer:?}"
        );
        // The lock goes with the session.
        let (pid, _) = session.key();
        drop(session);
        until("the end of the session", SOON, async || {
            let sessions = proxy.sessions(DB).await;
            sessions.iter().all(|session| session["pid"] != pid)
        })
        .await;
    }
}

#[tokio::test]
async fn a_statement_in_flight_comes_to_its_end() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let owner = postgres.connect(DB).await;
    for (name, unit) in ways_to_lock() {
        owner
            .batch_execute("SELECT pg_advisory_lock(1)")
            .await
            .expect("a free lock");
        let mut session = proxy.session(DB).await;
        session.send(&unit).await;
        postgres.until_somebody_waits().await;
        proxy.hold(DB, json!({})).await;
        proxy.assert_draining(DB).await;

        owner
            .batch_execute("SELECT pg_advisory_unlock(1)")
            .await
            .expect("our lock");
        let answer = session.read_until_ready().await;
        assert!(
            answer.iter().all(|one| one.tag != b'E'),
            "{name}: {answer:?}"
        );
        let drain = proxy.until_drained(DB).await;
        assert_eq!(drain["waited_for"][0]["pid"], session.key().0, "{name}");
        session.send(&message::query("SELECT 1")).await;
        proxy.until_held(DB, 1).await;
        proxy.open(DB).await;
        session.read_until_ready().await;
        session.execute("SELECT pg_advisory_unlock(1)").await;
    }
}

#[tokio::test]
async fn a_transaction_runs_to_its_end_and_the_next_one_is_held() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    for (begin, end) in [
        ("BEGIN", "COMMIT"),
        ("START TRANSACTION", "ROLLBACK"),
        // A failed transaction is one until it is ended.
        ("BEGIN; SELECT 1/0", "ROLLBACK"),
        ("BEGIN; SAVEPOINT a", "COMMIT"),
    ] {
        let mut session = proxy.session(DB).await;
        session.query(begin).await;
        proxy.hold(DB, json!({})).await;
        for statement in ["INSERT INTO t VALUES (1)", "SELECT count(*) FROM t"] {
            session.query(statement).await;
            proxy.assert_draining(DB).await;
        }
        session.execute(end).await;
        proxy.until_drained(DB).await;
        session.send(&message::query("SELECT 1")).await;
        proxy.until_held(DB, 1).await;
        proxy.open(DB).await;
        session.read_until_ready().await;
    }
    // Committed twice.
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn what_follows_a_commit_in_the_same_breath_is_held() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    proxy.hold(DB, json!({})).await;
    let two = [
        message::query("COMMIT"),
        message::query("INSERT INTO t VALUES (1)"),
    ];
    session.send(&two.concat()).await;
    session.read_until_ready().await;
    proxy.until_drained(DB).await;
    proxy.until_held(DB, 1).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
    proxy.open(DB).await;
    session.read_until_ready().await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_batch_without_a_sync_counts_as_running() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let begun = [message::parse("", "SELECT 'x'"), message::flush()].concat();
    session.send(&begun).await;
    session.expect(b'1').await;
    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;

    let rest = [message::bind("", "", &[]), message::execute("", 0)].concat();
    session.send(&[rest, message::flush()].concat()).await;
    session.expect(b'2').await;
    session.expect(b'D').await;
    session.expect(b'C').await;
    proxy.assert_draining(DB).await;
    session.send(&message::sync()).await;
    session.expect(b'Z').await;
    proxy.until_drained(DB).await;
}

#[tokio::test]
async fn a_copy_in_comes_to_its_end() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let copy = "COPY t FROM STDIN";
    let batch = [
        message::parse("", copy),
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ];
    let ways = [
        (message::query(copy), message::copy_done()),
        (
            batch.concat(),
            [message::copy_done(), message::sync()].concat(),
        ),
        (message::query(copy), message::copy_fail("changed my mind")),
    ];
    for (begin, end) in ways {
        let mut session = proxy.session(DB).await;
        session.send(&begin).await;
        while session.read().await.tag != b'G' {}
        proxy.hold(DB, json!({})).await;
        for _ in 0..100 {
            session.send(&message::copy_data(b"7\n")).await;
        }
        proxy.assert_draining(DB).await;
        session.send(&end).await;
        session.read_until_ready().await;
        proxy.until_drained(DB).await;
        session.send(&message::query("SELECT 1")).await;
        proxy.until_held(DB, 1).await;
        proxy.open(DB).await;
        session.read_until_ready().await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 200);
}

/// Sends a part of a message and waits until the proxy has it.
async fn send_part(proxy: &Proxy, session: &mut Wire, part: &[u8]) {
    let (pid, _) = session.key();
    let bytes_in = async || {
        let sessions = proxy.sessions(DB).await;
        let session = sessions.iter().find(|session| session["pid"] == pid);
        session.expect("our session")["bytes_in"]
            .as_u64()
            .expect("a count")
    };
    let before = bytes_in().await;
    session.send(part).await;
    until("the proxy to read", SOON, async || {
        bytes_in().await == before + part.len() as u64
    })
    .await;
}

#[tokio::test]
async fn half_a_message_is_in_nobodys_way() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let query = message::query("SELECT 'whole'");
    for (open_part, held_part) in [(1, 0), (3, 1), (5, 4), (12, 0), (0, 7)] {
        let mut session = proxy.session(DB).await;
        let (first, rest) = query.split_at(open_part);
        send_part(&proxy, &mut session, first).await;
        let drain = proxy.hold_drained(DB, json!({})).await;
        assert_eq!(drain["waited_for"], json!([]));
        let (second, rest) = rest.split_at(held_part);
        send_part(&proxy, &mut session, second).await;
        proxy.open(DB).await;
        session.send(rest).await;
        let answer = session.read_until_ready().await;
        assert_eq!(answer[1].columns(), [Some("whole".to_owned())]);
    }
}

#[tokio::test]
async fn the_rest_of_half_a_message_is_held() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let query = message::query("SELECT 'whole'");
    for part in [1, 5, 12] {
        let mut session = proxy.session(DB).await;
        let (first, rest) = query.split_at(part);
        send_part(&proxy, &mut session, first).await;
        proxy.hold_drained(DB, json!({})).await;
        session.send(rest).await;
        proxy.until_held(DB, 1).await;
        session.assert_silent().await;
        proxy.open(DB).await;
        let answer = session.read_until_ready().await;
        assert_eq!(answer[1].columns(), [Some("whole".to_owned())]);
    }
}
