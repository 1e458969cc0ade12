//! The first stage of a hold: transaction blocks wait, single statements still pass, and what is then
//! called drained is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A stage that only ends when what it waits for has ended.
fn staged() -> Value {
    json!({"autocommit": "120s", "wait": "120s"})
}

async fn with_table() -> (Postgres, Proxy) {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n text)").await;
    let proxy = Proxy::start(&postgres).await;
    (postgres, proxy)
}

/// A session in a transaction block.
async fn in_block(proxy: &Proxy) -> Wire {
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN; INSERT INTO t VALUES ('old')").await;
    session
}

/// One statement by the extended protocol.
fn extended(sql: &str) -> Vec<u8> {
    [
        message::parse("", sql),
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

async fn until_step(proxy: &Proxy, step: &str) {
    until(&format!("a drain at {step}"), SOON, async || {
        proxy.drain(DB).await["step"] == step
    })
    .await;
}

fn assert_done(answer: &[Message], tag: &str) {
    let done = answer.iter().rfind(|it| it.tag == b'C');
    let done = done.unwrap_or_else(|| panic!("{tag}: {answer:?}"));
    assert_eq!(done.body, format!("{tag}\0").as_bytes(), "{answer:?}");
}

/// Sends the front of a unit, and its rest once the proxy has had time to forward the front.
async fn in_two(session: &mut Wire, unit: &[u8], at: usize) {
    session.send(&unit[..at]).await;
    session.assert_silent().await;
    session.send(&unit[at..]).await;
}

#[tokio::test]
async fn blocks_wait_and_statements_flow_until_the_old_ones_have_ended() {
    let (mut postgres, proxy) = with_table().await;
    let (mut old, mut free) = (in_block(&proxy).await, proxy.session(DB).await);
    free.execute("PREPARE p AS SELECT 1").await;
    let blocks = [
        (message::query("BEGIN"), "BEGIN"),
        (
            message::query("/* a */ start transaction"),
            "START TRANSACTION",
        ),
        (
            message::query("BEGIN; INSERT INTO t VALUES ('block'); COMMIT"),
            "COMMIT",
        ),
        (extended("BEGIN"), "BEGIN"),
    ];
    let mut waiting = Vec::new();
    for _ in &blocks {
        waiting.push(proxy.session(DB).await);
    }
    let (mut gone, mut cancelled) = (proxy.session(DB).await, proxy.session(DB).await);
    let mut cut = proxy.session(DB).await;

    proxy.hold(DB, staged()).await;
    until_step(&proxy, "autocommit").await;
    for (session, (unit, _)) in waiting.iter_mut().zip(&blocks) {
        session.send(unit).await;
    }
    in_two(&mut cut, &message::query("BEGIN"), 7).await;
    gone.send(&message::query("BEGIN")).await;
    cancelled.send(&message::query("BEGIN")).await;
    proxy.until_held(DB, 7).await;

    // Whoever begins no block goes on, also in a session that comes now, and with a large message.
    free.execute("INSERT INTO t VALUES ('stage')").await;
    assert_done(
        &free
            .units(&extended("INSERT INTO t VALUES ('stage')"), 1)
            .await,
        "INSERT 0 1",
    );
    let large = format!("INSERT INTO t VALUES ('{}')", "x".repeat(300_000));
    assert_done(&free.query(&large).await, "INSERT 0 1");
    in_two(
        &mut free,
        &message::query("INSERT INTO t VALUES ('stage')"),
        15,
    )
    .await;
    assert_done(&free.read_until_ready().await, "INSERT 0 1");
    let mut new = proxy.session(DB).await;
    assert_eq!(free.query_one("EXECUTE p").await, "1");
    // A pipeline goes on up to the block in it.
    let pipeline = [message::query("SELECT 1"), message::query("BEGIN")].concat();
    assert_done(&new.units(&pipeline, 1).await, "SELECT 1");
    proxy.until_held(DB, 8).await;
    assert_eq!(proxy.drain(DB).await["step"], "autocommit");
    proxy.assert_draining(DB).await;

    // Those who wait do so as in any hold.
    drop(gone);
    proxy.until_held(DB, 7).await;
    Wire::cancel(proxy.addr(), cancelled.key()).await;
    let answer = cancelled.read_until_ready().await;
    assert_eq!(answer[0].sqlstate(), "57014", "{answer:?}");
    proxy.until_held(DB, 6).await;

    // The last one that is older ends: all is closed, and drained.
    old.execute("COMMIT").await;
    let drain = proxy.until_drained(DB).await;
    assert_eq!(drain["step"], "wait", "{drain}");
    free.send(&message::query("INSERT INTO t VALUES ('held')"))
        .await;
    proxy.until_held(DB, 7).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 5);

    proxy.open(DB).await;
    for (session, (_, tag)) in waiting.iter_mut().zip(&blocks) {
        assert_done(&session.read_until_ready().await, tag);
    }
    for session in [&mut cut, &mut new] {
        assert_done(&session.read_until_ready().await, "BEGIN");
    }
    assert_done(&free.read_until_ready().await, "INSERT 0 1");
    cancelled.execute("SELECT 1").await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 7);
}

#[tokio::test]
async fn the_stage_ends_by_time_and_an_opening_ends_it_at_once() {
    let (_postgres, proxy) = with_table().await;
    let (mut old, mut free) = (in_block(&proxy).await, proxy.session(DB).await);
    let mut block = proxy.session(DB).await;

    proxy.hold(DB, staged()).await;
    block.send(&message::query("BEGIN")).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    assert_done(&block.read_until_ready().await, "BEGIN");
    block.execute("COMMIT").await;

    let soon = json!({"autocommit": "100ms", "wait": "120s"});
    proxy.hold(DB, soon).await;
    until_step(&proxy, "wait").await;
    free.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 1).await;
    proxy.assert_draining(DB).await;
    // What is left of the first stage's time is nothing: a hold again is one of all.
    proxy.hold(DB, staged()).await;
    free.assert_silent().await;
    old.execute("COMMIT").await;
    proxy.until_drained(DB).await;
    proxy.open(DB).await;
    assert_done(&free.read_until_ready().await, "SELECT 1");
}

#[tokio::test]
async fn a_hold_that_rejects_or_that_is_for_some_has_a_first_stage_too() {
    let (mut postgres, proxy) = with_table().await;
    postgres.execute("CREATE ROLE app LOGIN").await;
    let mut old = Wire::login(proxy.addr(), "app", DB).await;
    old.execute("BEGIN").await;
    let mut app = Wire::login(proxy.addr(), "app", DB).await;
    let mut other = proxy.session(DB).await;
    let mut hold = staged();
    hold["user"] = json!("app");
    hold["blocked"] = json!("reject");
    proxy.hold(DB, hold).await;
    let answer = app.query("BEGIN").await;
    assert_eq!(answer[0].sqlstate(), "55P03", "{answer:?}");
    app.execute("SELECT 1").await;
    // Half a statement is nothing to reject yet.
    in_two(&mut app, &message::query("SELECT 1"), 3).await;
    assert_done(&app.read_until_ready().await, "SELECT 1");
    other.execute("BEGIN; COMMIT").await;

    old.execute("COMMIT").await;
    until("a statement to be rejected", SOON, async || {
        let answer = app.query("SELECT 1").await;
        answer[0].tag == b'E' && answer[0].sqlstate() == "55P03"
    })
    .await;
    other.execute("BEGIN; COMMIT").await;
}

#[tokio::test]
async fn a_window_with_a_first_stage_is_alone_afterwards() {
    let (mut postgres, proxy) = with_table().await;
    let mut old = in_block(&proxy).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (mut session, stop) = (proxy.session(DB).await, Arc::clone(&stop));
        clients.spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                session.execute("INSERT INTO t VALUES ('load')").await;
                done += 1;
            }
            done
        });
    }
    let ordering = proxy.exclusive(DB, json!({"autocommit": "120s", "wait": "120s"}));
    let ending = async {
        until_step(&proxy, "autocommit").await;
        let before = postgres.count("SELECT count(*) FROM t").await;
        until("statements to flow", SOON, async || {
            postgres.count("SELECT count(*) FROM t").await > before + 20
        })
        .await;
        old.execute("COMMIT").await;
    };
    let (window, ()) = tokio::join!(ordering, ending);
    let alone = postgres.count("SELECT count(*) FROM t").await;
    let mut inside = proxy.inside(&window).await;
    inside.execute("ALTER TABLE t ADD m int").await;
    proxy.until_held(DB, 6).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, alone);
    stop.store(true, Ordering::Relaxed);
    proxy.command_window(&window, "finish").await;
    let mut acknowledged = 1;
    while let Some(done) = clients.join_next().await {
        acknowledged += done.expect("nobody got an error");
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, acknowledged);
}
