//! A stop ends sessions between two transactions, and those that have none in time wherever they are.

use pgdrain::cli::demo::cluster::process::Signal;
use tokio::net::TcpStream;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// The only thing that a session reads when the proxy stops.
async fn farewell(session: &mut Wire) -> Message {
    let mut answer = session.read_to_end().await;
    assert_eq!(answer.len(), 1, "{answer:?}");
    let error = answer.swap_remove(0);
    assert_eq!(error.sqlstate(), "57P01");
    assert_eq!(error.field(b'V').as_deref(), Some("FATAL"));
    error
}

async fn until_it_stops(proxy: &Proxy) {
    let addr = proxy.addr();
    until("the proxy to take nobody any more", SOON, async || {
        TcpStream::connect(addr).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_transaction_in_progress_ends_before_the_process_does() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut idle = proxy.session(DB).await;
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN; INSERT INTO t VALUES (1)").await;
    proxy.signal(Signal::Terminate);
    farewell(&mut idle).await;
    until_it_stops(&proxy).await;
    busy.execute("INSERT INTO t VALUES (2)").await;
    // What comes behind the transaction in the same breath is not started.
    let two = [
        message::query("COMMIT"),
        message::query("INSERT INTO t VALUES (3)"),
    ];
    busy.send(&two.concat()).await;
    let answer = busy.read_until_ready().await;
    assert_eq!(answer[0].body, b"COMMIT\0");
    let error = farewell(&mut busy).await;
    let detail = error.field(b'D').unwrap_or_default();
    assert!(detail.contains("not executed"), "{error:?}");
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert_eq!(postgres.count("SELECT sum(n) FROM t").await, 3);
}

#[tokio::test]
async fn who_does_not_end_is_ended() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut sitting = proxy.session(DB).await;
    sitting.execute("BEGIN; INSERT INTO t VALUES (1)").await;
    let mut running = proxy.session(DB).await;
    running.send(&message::query("SELECT pg_sleep(600)")).await;
    proxy.signal(Signal::Terminate);
    let ended = async {
        let last = sitting.next().await.expect("a last word");
        assert_eq!(last.sqlstate(), "57P01");
        let detail = last.field(b'D').unwrap_or_default();
        assert!(!detail.contains("not executed"), "nobody knows: {last:?}");
    };
    within("the end of a session", PATIENCE, ended).await;
    assert_eq!(proxy.ended().await.code(), Some(0));
    for pid in [sitting.key().0, running.key().0] {
        postgres.until_gone(pid).await;
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}
