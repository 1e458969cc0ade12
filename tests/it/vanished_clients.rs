//! A client that vanishes in the middle of a statement is not waited for, and what it left in our
//! hands is not started.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;

/// Waits for a lock in one unit, then writes.
const LOCK_AND_WRITE: &str = "SELECT pg_advisory_lock(1); INSERT INTO t VALUES (1)";

/// A lock that is taken, and a table that is empty.
async fn lock_and_table(postgres: &mut Postgres) -> tokio_postgres::Client {
    let owner = postgres.connect(DB).await;
    owner
        .batch_execute("CREATE TABLE t (n int); SELECT pg_advisory_lock(1)")
        .await
        .expect("a free lock");
    owner
}

async fn unlock(owner: &tokio_postgres::Client) {
    owner
        .batch_execute("SELECT pg_advisory_unlock(1)")
        .await
        .expect("our lock");
}

#[tokio::test]
async fn the_statement_of_a_vanished_client_is_cancelled_and_its_backend_ends() {
    let mut postgres = Postgres::start().await;
    let owner = lock_and_table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, &[("CLIENT_GONE", "10ms")]).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query(LOCK_AND_WRITE)).await;
    postgres.until_somebody_waits().await;
    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;
    let (pid, _) = session.key();
    drop(session);
    let drain = proxy.until_drained(DB).await;
    assert_eq!(drain["waited_for"][0]["pid"], pid);
    postgres.until_gone(pid).await;
    unlock(&owner).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn with_client_gone_never_the_statement_runs_to_its_end_and_the_drain_waits() {
    let mut postgres = Postgres::start().await;
    let owner = lock_and_table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, &[("CLIENT_GONE", "never")]).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query(LOCK_AND_WRITE)).await;
    postgres.until_somebody_waits().await;
    let (pid, _) = session.key();
    drop(session);
    until("the proxy to see the client leave", SOON, async || {
        let sessions = proxy.sessions(DB).await;
        sessions.iter().all(|session| session["state"] == "closing")
    })
    .await;
    // Longer than the default of client_gone.
    let drain = proxy.hold_in_vain(DB, json!({"wait": "2s"})).await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    assert_eq!(drain["in_the_way"][0]["pid"], pid);

    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;
    unlock(&owner).await;
    proxy.until_drained(DB).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
    postgres.until_gone(pid).await;
}

#[tokio::test]
async fn what_a_vanished_client_had_sent_ahead_is_not_started_behind_a_closed_gate() {
    let mut postgres = Postgres::start().await;
    let owner = lock_and_table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, &[("CLIENT_GONE", "never")]).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query(LOCK_AND_WRITE)).await;
    postgres.until_somebody_waits().await;
    proxy.hold(DB, json!({})).await;
    // Behind the unit in flight: kept, and never forwarded.
    session
        .send(&message::query("INSERT INTO t VALUES (2)"))
        .await;
    drop(session);
    unlock(&owner).await;
    proxy.until_drained(DB).await;
    until("the end of the session", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
    proxy.open(DB).await;
    assert_eq!(postgres.count("SELECT sum(n) FROM t").await, 1);
}

#[tokio::test]
async fn an_idle_transaction_of_a_vanished_client_is_rolled_back() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN; INSERT INTO t VALUES (1)").await;
    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;
    drop(session);
    proxy.until_drained(DB).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_client_that_vanishes_in_the_middle_of_a_copy_leaves_nothing() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query("COPY t FROM STDIN")).await;
    session.expect(b'G').await;
    session.send(&message::copy_data(b"1\n2\n")).await;
    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;
    drop(session);
    proxy.until_drained(DB).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}
