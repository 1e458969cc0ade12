//! Every statement of a held client is executed once, or answered by an error that says it was not.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, eventually};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// The function `txid_current()`, by its number in `pg_proc.dat`.
const TXID_CURRENT: u32 = 2943;

/// A client waits so long at most where a test waits for that.
const DEADLINE: [(&str, &str); 1] = [("HOLD_CLIENT_DEADLINE", "150ms")];

async fn table(postgres: &mut Postgres) {
    postgres.execute("CREATE TABLE t (n int)").await;
}

async fn rows(postgres: &mut Postgres) -> i64 {
    postgres.count("SELECT count(*) FROM t").await
}

/// A unit that writes, in each form a client can give it.
fn units() -> Vec<(&'static str, Vec<u8>)> {
    let insert = "INSERT INTO t VALUES (1)";
    let batch = [
        message::parse("", insert),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::parse("", insert),
        message::sync(),
    ];
    vec![
        ("simple", message::query(insert)),
        ("a long message", message::query(&long_insert(300 << 10))),
        ("extended", batch.concat()),
        ("function call", message::function_call(TXID_CURRENT, &[])),
        ("a lone Sync", message::sync()),
    ]
}

/// An INSERT that is longer than what is kept of a held client.
fn long_insert(length: usize) -> String {
    format!("INSERT INTO t VALUES (1) /*{}*/", "x".repeat(length))
}

/// The refusal of a unit: one error that says it was not executed, and one ReadyForQuery.
async fn refused(session: &mut Wire, name: &str, sqlstate: &str) {
    let answer = session.read_until_ready().await;
    let [error, ready] = &answer[..] else {
        panic!("{name}: {answer:?}");
    };
    assert_told(error, name, sqlstate, "ERROR");
    assert_eq!(ready.body, b"I", "{name}");
}

fn assert_told(error: &Message, name: &str, sqlstate: &str, severity: &str) {
    assert_eq!(error.tag, b'E', "{name}: {error:?}");
    assert_eq!(error.sqlstate(), sqlstate, "{name}: {error:?}");
    assert_eq!(error.field(b'V').as_deref(), Some(severity), "{name}");
    let detail = error.field(b'D').unwrap_or_default();
    assert!(detail.contains("not executed"), "{name}: {error:?}");
}

#[tokio::test]
async fn who_waited_is_served_in_order_and_once() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("CREATE TABLE t (at serial, who int, n int)")
        .await;
    let proxy = Proxy::start(&postgres).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(proxy.session(DB).await);
    }
    proxy.hold_drained(DB, json!({})).await;
    for (who, session) in sessions.iter_mut().enumerate() {
        let pipeline: Vec<u8> = (0..20)
            .flat_map(|n| message::query(&format!("INSERT INTO t (who, n) VALUES ({who}, {n})")))
            .collect();
        session.send(&pipeline).await;
    }
    proxy.until_held(DB, 4).await;
    assert_eq!(rows(&mut postgres).await, 0);
    proxy.open(DB).await;
    for session in &mut sessions {
        for _ in 0..20 {
            let answer = session.read_until_ready().await;
            assert_eq!(answer[0].body, b"INSERT 0 1\0");
        }
    }
    assert_eq!(rows(&mut postgres).await, 80);
    let misplaced = "SELECT count(*) FROM
        (SELECT n, row_number() OVER (PARTITION BY who ORDER BY at) - 1 AS place FROM t) AS places
        WHERE n <> place";
    assert_eq!(postgres.count(misplaced).await, 0);
}

/// Each unit is refused, and the session served afterwards.
async fn each_unit_is_refused(settings: &[(&str, &str)], hold: Value) {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, settings).await;
    let mut session = proxy.session(DB).await;
    for (name, unit) in units() {
        proxy.hold_drained(DB, hold.clone()).await;
        session.send(&unit).await;
        refused(&mut session, name, "55P03").await;
        // The next one is no exception.
        session.send(&[unit.clone(), unit].concat()).await;
        refused(&mut session, name, "55P03").await;
        refused(&mut session, name, "55P03").await;
        proxy.open(DB).await;
        assert_eq!(session.query_one("SELECT 'usable'").await, "usable");
        assert_eq!(rows(&mut postgres).await, 0, "{name}");
    }
}

#[tokio::test]
async fn who_waited_for_its_full_time_is_told_and_the_session_is_usable() {
    each_unit_is_refused(&DEADLINE, json!({})).await;
}

#[tokio::test]
async fn who_is_rejected_is_told_at_once_and_the_session_is_usable() {
    each_unit_is_refused(&[], json!({"blocked": "reject"})).await;
}

#[tokio::test]
async fn a_client_that_waits_for_the_error_before_its_sync_gets_it() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, &DEADLINE).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    let parse = message::parse("s", "INSERT INTO t VALUES (1)");
    let describe = message::describe(b'S', "s");
    session
        .send(&[parse, describe, message::flush()].concat())
        .await;
    assert_told(&session.expect(b'E').await, "flush", "55P03", "ERROR");
    // Up to the Sync everything is skipped, as the server does.
    let more = [message::bind("", "s", &[]), message::execute("", 0)].concat();
    session.send(&more).await;
    session.assert_silent().await;
    proxy.open(DB).await;
    session.send(&message::sync()).await;
    assert_eq!(session.expect(b'Z').await.body, b"I");
    let unknown = [message::describe(b'S', "s"), message::sync()].concat();
    session.send(&unknown).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[0].sqlstate(), "26000", "never prepared: {answer:?}");
    assert_eq!(rows(&mut postgres).await, 0);
}

#[tokio::test]
async fn a_statement_that_the_server_has_in_part_ends_with_its_session() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start_set(&postgres, &DEADLINE).await;
    let mut session = proxy.session(DB).await;
    let query = message::query("INSERT INTO t VALUES (1)");
    let (first, rest) = query.split_at(9);
    session.send(first).await;
    eventually("the proxy to forward a part", SOON, async || {
        let sessions = proxy.sessions(DB).await;
        (sessions[0]["bytes_in"] == 9).then_some(())
    })
    .await;
    proxy.hold_drained(DB, json!({})).await;
    session.send(rest).await;
    let answer = session.read_to_end().await;
    assert_eq!(answer.len(), 1, "{answer:?}");
    assert_told(&answer[0], "in part", "57P01", "FATAL");
    proxy.open(DB).await;
    postgres.until_gone(session.key().0).await;
    assert_eq!(rows(&mut postgres).await, 0);
}

#[tokio::test]
async fn a_server_that_ends_a_held_session_says_that_nothing_was_executed() {
    let settings = [("idle_session_timeout", "1s")];
    let mut postgres = Postgres::start_with(&settings, &[]).await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut sessions = [proxy.session(DB).await, proxy.session(DB).await];
    let insert = message::query("INSERT INTO t VALUES (1)");
    proxy.hold(DB, json!({})).await;
    for session in &mut sessions {
        session.send(&insert).await;
    }
    proxy.until_held(DB, 2).await;
    // One by an order, one by the server's own clock.
    let order = format!(
        "SELECT count(pg_terminate_backend({}))",
        sessions[0].key().0
    );
    postgres.count(&order).await;
    for (session, name) in sessions.iter_mut().zip(["terminated", "timeout"]) {
        let answer = session.read_to_end().await;
        assert_eq!(answer.len(), 1, "{name}: {answer:?}");
        assert_told(&answer[0], name, "57P01", "FATAL");
    }
    proxy.open(DB).await;
    assert_eq!(rows(&mut postgres).await, 0);
}

#[tokio::test]
async fn a_server_that_dies_under_a_held_session_says_that_nothing_was_executed() {
    use pgdrain::cli::demo::cluster::Shutdown;

    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    for (name, how) in [
        ("immediate", Some(Shutdown::Immediate)),
        ("fast", Some(Shutdown::Fast)),
        ("crash", None),
    ] {
        let mut session = proxy.session(DB).await;
        proxy.hold_drained(DB, json!({})).await;
        session
            .send(&message::query("INSERT INTO t VALUES (1)"))
            .await;
        proxy.until_held(DB, 1).await;
        match how {
            Some(how) => postgres.stop(how).await.expect("an end"),
            None => postgres.crash().await.expect("an end"),
        }
        let mut answer = session.read_to_end().await;
        // Postgres warns of an immediate end.
        answer.retain(|message| message.tag != b'N');
        assert_eq!(answer.len(), 1, "{name}: {answer:?}");
        assert_told(&answer[0], name, "57P01", "FATAL");
        proxy.open(DB).await;
        postgres.start().await.expect("a start");
        assert_eq!(rows(&mut postgres).await, 0, "{name}");
    }
}
