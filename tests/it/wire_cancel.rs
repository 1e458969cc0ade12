//! Cancel requests: the right statement or none, and an end of their connection in any case.

use serde_json::json;

use crate::support::alike::tags;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message, bind, execute, flush, parse, query, sync};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::script::{Opening, Script, Server, greeting, opening};
use crate::support::wire::Wire;

const SLEEP: &str = "SELECT pg_sleep(600)";

/// Waits until the backend of this session sleeps.
async fn until_asleep(postgres: &mut Postgres, session: &Wire) {
    let watcher = postgres.connect(DB).await;
    let pid = i32::try_from(session.key().0).expect("a process id");
    let sleeps = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
    until("a statement to sleep", SOON, async || {
        !watcher
            .query(sleeps, &[&pid])
            .await
            .expect("an answer")
            .is_empty()
    })
    .await;
}

/// A session at a scripted server.
async fn log_in(proxy: &Proxy, script: &mut Script, pid: u32, secret: &[u8]) -> (Wire, Server) {
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[
        ("user", "u"),
        ("database", "scripted"),
    ]))
    .await;
    let mut server = script.accept_session("scripted").await;
    server.wire.send(&greeting(pid, secret)).await;
    wire.greeting = wire.read_until_ready().await;
    (wire, server)
}

/// The cancel request that comes next.
async fn asked_to_cancel(script: &mut Script) -> (u32, Vec<u8>) {
    let packet = script.accept().await.wire.next_startup().await;
    let opening = opening(&packet.expect("a packet"));
    let Opening::Cancel { pid, secret } = opening else {
        panic!("a cancel request, not {opening:?}");
    };
    (pid, secret)
}

/// It hits what runs when it is asked for and nothing later (pgbouncer #245: eight minutes late).
#[tokio::test]
async fn a_cancel_that_comes_late_does_not_hit_the_next_statement() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    for _ in 0..20 {
        session.execute("SELECT 1").await;
        Wire::cancel(proxy.addr(), session.key()).await;
        assert_eq!(tags(&session.query("SELECT pg_sleep(0.002)").await), "TDCZ");
    }
    // In a transaction too.
    session.execute("BEGIN").await;
    Wire::cancel(proxy.addr(), session.key()).await;
    assert_eq!(tags(&session.query("SELECT pg_sleep(0.002)").await), "TDCZ");
    session.execute("COMMIT").await;
    // And it still works when it is meant.
    session.send(&query(SLEEP)).await;
    until_asleep(&mut postgres, &session).await;
    Wire::cancel(proxy.addr(), session.key()).await;
    assert!(tags(&session.read_until_ready().await).ends_with("EZ"));
    assert_eq!(tags(&session.query("SELECT 1").await), "TDCZ");
}

/// One ReadyForQuery and no more (pgbouncer #141, #223, npgsql #1636), also in the middle of a
/// pipeline, whose other units are served.
#[tokio::test]
async fn a_cancelled_pipeline_loses_its_running_unit_only() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let unit = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat();
    let pipeline = [
        unit("SELECT 1"),
        unit(SLEEP),
        unit("SELECT 2"),
        query("SELECT 3"),
    ]
    .concat();
    session.send(&pipeline).await;
    until_asleep(&mut postgres, &session).await;
    Wire::cancel(proxy.addr(), session.key()).await;
    let answer = session.units(&[], 4).await;
    assert_eq!(tags(&answer), "12DCZ12EZ12DCZTDCZ");
    session.assert_silent().await;
    proxy.hold_drained(DB, json!({})).await;
}

/// A held batch is answered once and thrown away up to its Sync, which may come later (pgbouncer
/// #1222, #1314, PR #1265).
#[tokio::test]
async fn a_cancelled_held_batch_is_thrown_away_up_to_its_sync() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    let insert = [
        parse("", "INSERT INTO t VALUES (1)"),
        bind("", "", &[]),
        execute("", 0),
    ];
    session.send(&[insert.concat(), flush()].concat()).await;
    proxy.until_held(DB, 1).await;
    Wire::cancel(proxy.addr(), session.key()).await;
    assert_eq!(session.expect(b'E').await.sqlstate(), "57014");
    session.send(&insert.concat()).await;
    session.assert_silent().await;
    session
        .send(&[sync(), query("SELECT count(*) FROM t")].concat())
        .await;
    session.expect(b'Z').await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[1].columns(), [Some("0".into())]);
}

/// Process ids are unique in one server only: the secret tells sessions apart (pgbouncer PR #717).
#[tokio::test]
async fn a_cancel_does_not_hit_the_same_process_id_of_another_server() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let (mut one, mut server_one) = log_in(&proxy, &mut script, 4242, b"one!").await;
    let (mut two, mut server_two) = log_in(&proxy, &mut script, 4242, b"two!").await;
    for (wire, server) in [(&mut one, &mut server_one), (&mut two, &mut server_two)] {
        wire.send(&query(SLEEP)).await;
        server.wire.expect(b'Q').await;
    }
    for (wire, secret) in [(&two, b"two!"), (&one, b"one!")] {
        let cancel = Wire::cancel(proxy.addr(), wire.key());
        let ((), asked) = tokio::join!(cancel, asked_to_cancel(&mut script));
        assert_eq!(asked, (4242, secret.to_vec()));
    }
    // Who ends takes only its own key along.
    drop((one, server_one));
    let cancel = Wire::cancel(proxy.addr(), two.key());
    let ((), asked) = tokio::join!(cancel, asked_to_cancel(&mut script));
    assert_eq!(asked, (4242, b"two!".to_vec()));
}

/// psql and libpq wait for the end of that connection: it comes when the server has acted, and not
/// before (pgbouncer PR #786).
#[tokio::test]
async fn the_end_of_a_cancel_request_comes_when_the_server_has_acted() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let (mut wire, mut server) = log_in(&proxy, &mut script, 1, b"abcd").await;
    wire.send(&query(SLEEP)).await;
    server.wire.expect(b'Q').await;
    let mut canceller = Wire::connect(proxy.addr()).await;
    let (pid, secret) = wire.key();
    canceller.send(&message::cancel_request(pid, &secret)).await;
    let mut at_server = script.accept().await;
    at_server.wire.next_startup().await.expect("a packet");
    canceller.assert_silent().await;
    drop(at_server);
    assert_eq!(canceller.read_raw_to_end().await, b"");
}

/// A session that is not logged in yet has no key that anybody could know; its login goes on.
#[tokio::test]
async fn a_cancel_of_a_session_in_login_does_nothing() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[
        ("user", "u"),
        ("database", "scripted"),
    ]))
    .await;
    let mut server = script.accept_session("scripted").await;
    let greeting = greeting(4242, b"abcd");
    let (most, ready) = greeting.split_at(greeting.len() - 6);
    server.wire.send(most).await;
    for secret in [b"abcd".to_vec(), vec![0; 4], vec![0; 32]] {
        Wire::cancel(proxy.addr(), (4242, secret)).await;
    }
    server.wire.assert_silent().await;
    server.wire.send(ready).await;
    wire.read_until_ready().await;
    wire.send(&query("SELECT 1")).await;
    server.wire.expect(b'Q').await;
}

/// Neither a server that is gone nor one that does not take connections keeps a canceller for long.
#[tokio::test]
async fn a_cancel_ends_also_when_the_server_is_gone() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let (mut wire, mut server) = log_in(&proxy, &mut script, 1, b"abcd").await;
    wire.send(&query(SLEEP)).await;
    server.wire.expect(b'Q').await;
    drop(script);
    Wire::cancel(proxy.addr(), wire.key()).await;
    // Its session lives: only the way in is closed.
    server
        .wire
        .send(
            &[
                message::command_complete("SELECT 1"),
                message::ready_for_query(b'I'),
            ]
            .concat(),
        )
        .await;
    wire.read_until_ready().await;
    let key = wire.key();
    drop(server);
    assert_eq!(wire.read_to_end().await, Vec::<Message>::new());
    Wire::cancel(proxy.addr(), key).await;
}

/// Nothing waits for anything when the proxy is asked to stop meanwhile (pgbouncer PR #786).
#[tokio::test]
async fn a_cancel_under_way_does_not_keep_the_proxy_from_stopping() {
    let mut script = Script::listen().await;
    let mut proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let (mut wire, mut server) = log_in(&proxy, &mut script, 1, b"abcd").await;
    wire.send(&query(SLEEP)).await;
    server.wire.expect(b'Q').await;
    let mut canceller = Wire::connect(proxy.addr()).await;
    let (pid, secret) = wire.key();
    canceller.send(&message::cancel_request(pid, &secret)).await;
    let at_server = script.accept().await;
    proxy.signal(pgdrain::cli::demo::cluster::process::Signal::Terminate);
    let last = [
        message::error_response("57014", "cancelled"),
        message::ready_for_query(b'I'),
    ];
    server.wire.send(&last.concat()).await;
    drop(at_server);
    server.wire.expect(b'X').await;
    drop(server);
    assert!(proxy.ended().await.success());
    assert_eq!(tags(&wire.read_to_end().await), "EZE");
}
