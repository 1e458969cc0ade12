//! A held client is watched: it may leave, cancel, be told things, and come in too great a number.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const INSERT: &str = "INSERT INTO t VALUES (1)";

async fn with_table() -> Postgres {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    postgres
}

async fn rows(postgres: &mut Postgres) -> i64 {
    postgres.count("SELECT count(*) FROM t").await
}

/// An INSERT of about this length.
fn insert_of(kib: usize) -> Vec<u8> {
    message::query(&format!("{INSERT} /*{}*/", "x".repeat(kib << 10)))
}

fn polite(unit: &[u8]) -> Vec<u8> {
    [unit, &message::terminate()].concat()
}

/// Sends all of it, as far as the sockets take what the proxy does not read, and is held.
async fn send_and_be_held(proxy: &Proxy, session: &mut Wire, bytes: &[u8]) {
    let sending = async { drop(session.try_send(bytes).await) };
    tokio::join!(sending, proxy.until_held(DB, 1));
}

#[tokio::test]
async fn a_held_client_that_leaves_is_noticed_and_its_statement_never_runs() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let insert = message::query(INSERT);
    let batch = [
        message::parse("", INSERT),
        message::bind("", "", &[]),
        message::execute("", 0),
        message::sync(),
    ]
    .concat();
    for (name, farewell) in [
        ("simple", insert.clone()),
        ("simple, then Terminate", polite(&insert)),
        ("extended, then Terminate", polite(&batch)),
        ("many", insert.repeat(1000)),
        ("half", insert[..10].to_vec()),
        ("more than is kept", insert_of(90)),
        ("more than is kept, then Terminate", polite(&insert_of(90))),
    ] {
        let mut session = proxy.session(DB).await;
        let (pid, _) = session.key();
        proxy.hold_drained(DB, json!({})).await;
        send_and_be_held(&proxy, &mut session, &farewell).await;
        drop(session);
        proxy.until_held(DB, 0).await;
        postgres.until_gone(pid).await;
        proxy.open(DB).await;
        assert_eq!(rows(&mut postgres).await, 0, "{name}");
    }
}

/// More than the socket of the proxy takes, so that the client's end stays in its own.
#[tokio::test]
async fn a_held_client_that_left_behind_a_long_statement_is_noticed_before_it_runs() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    for (name, farewell) in [
        ("long", insert_of(300)),
        ("longer", insert_of(1000)),
        ("longer, then Terminate", polite(&insert_of(1000))),
    ] {
        let mut session = proxy.session(DB).await;
        let (pid, _) = session.key();
        proxy.hold_drained(DB, json!({})).await;
        send_and_be_held(&proxy, &mut session, &farewell).await;
        drop(session);
        proxy.open(DB).await;
        postgres.until_gone(pid).await;
        assert_eq!(rows(&mut postgres).await, 0, "{name}");
        proxy.until_held(DB, 0).await;
    }
}

#[tokio::test]
async fn a_held_client_with_a_long_statement_is_served_in_the_end() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    let two = [insert_of(1000), insert_of(50)].concat();
    send_and_be_held(&proxy, &mut session, &two).await;
    proxy.open(DB).await;
    for _ in 0..2 {
        assert_eq!(session.read_until_ready().await[0].body, b"INSERT 0 1\0");
    }
    assert_eq!(rows(&mut postgres).await, 2);
    proxy.until_held(DB, 0).await;
}

#[tokio::test]
async fn a_cancel_request_answers_a_held_statement_and_leaves_the_session() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    for round in 0..3 {
        session.send(&message::query(INSERT)).await;
        proxy.until_held(DB, 1).await;
        Wire::cancel(proxy.addr(), session.key()).await;
        let answer = session.read_until_ready().await;
        assert_eq!(answer[0].sqlstate(), "57014", "round {round}");
        let detail = answer[0].field(b'D').unwrap_or_default();
        assert!(detail.contains("not executed"), "{answer:?}");
        assert_eq!((answer.len(), &answer[1].body[..]), (2, &b"I"[..]));
        proxy.until_held(DB, 0).await;
    }
    // One that comes too late is for nobody.
    Wire::cancel(proxy.addr(), session.key()).await;
    proxy.open(DB).await;
    session.execute(INSERT).await;
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn a_cancel_request_with_a_wrong_secret_changes_nothing() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    session.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    let (pid, secret) = session.key();
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    let longer = [secret.clone(), vec![0; 4]].concat();
    for guess in [wrong, vec![0; 4], longer] {
        Wire::cancel(proxy.addr(), (pid, guess)).await;
    }
    Wire::cancel(proxy.addr(), (pid + 1, secret)).await;
    proxy.until_held(DB, 1).await;
    session.assert_silent().await;
    proxy.open(DB).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[0].body, b"INSERT 0 1\0");
    assert_eq!(rows(&mut postgres).await, 1);
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled_while_the_drain_waits_for_it() {
    let postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    proxy.hold(DB, json!({})).await;
    session.send(&message::query("SELECT pg_sleep(600)")).await;
    proxy.assert_draining(DB).await;
    // A statement that the server has not begun cannot be cancelled there.
    let mut watcher = Wire::login(postgres.addr(), "postgres", DB).await;
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while watcher.query_one(sleeps).await == "0" {}
    Wire::cancel(proxy.addr(), session.key()).await;
    let answer = session.read_until_ready().await;
    let [.., error, ready] = &answer[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(error.sqlstate(), "57014");
    assert_eq!(ready.body, b"E");
    session.execute("ROLLBACK").await;
    proxy.until_drained(DB).await;
}

#[tokio::test]
async fn notifications_reach_a_held_client() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("LISTEN news").await;
    proxy.hold_drained(DB, json!({})).await;
    postgres.execute("NOTIFY news, 'to an idle session'").await;
    session.expect(b'A').await;
    session.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 1).await;
    postgres.execute("NOTIFY news, 'to a held one'").await;
    let news = session.expect(b'A').await;
    assert!(news.body.ends_with(b"news\0to a held one\0"), "{news:?}");
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    session.expect(b'C').await;
    session.expect(b'Z').await;
}

#[tokio::test]
async fn who_comes_during_a_hold_logs_in_and_is_held_at_its_first_statement() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    drop(proxy.session(DB).await);
    proxy.hold_drained(DB, json!({})).await;
    let mut session = proxy.session(DB).await;
    // A statement may come in the same breath as the start-up packet.
    let mut hasty = Wire::connect(proxy.addr()).await;
    let startup = message::startup(&[("user", "postgres"), ("database", DB)]);
    hasty
        .send(&[startup, message::query(INSERT)].concat())
        .await;
    let greeting = hasty.read_until_ready().await;
    assert_eq!(greeting[0].tag, b'R');
    session.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 2).await;
    session.assert_silent().await;
    hasty.assert_silent().await;
    assert_eq!(rows(&mut postgres).await, 0);
    proxy.open(DB).await;
    for session in [&mut session, &mut hasty] {
        let answer = session.read_until_ready().await;
        assert_eq!(answer[0].body, b"INSERT 0 1\0");
    }
    assert_eq!(rows(&mut postgres).await, 2);
}

#[tokio::test]
async fn when_as_many_are_held_as_may_further_ones_are_told() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start_set(&postgres, &[("HOLD_CLIENTS_MAX", "2")]).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(proxy.session(DB).await);
    }
    proxy.hold_drained(DB, json!({})).await;
    for (session, held) in sessions.iter_mut().zip(1..=2) {
        session.send(&message::query(INSERT)).await;
        proxy.until_held(DB, held).await;
    }
    let last = sessions.last_mut().expect("three");
    let answer = last.query(INSERT).await;
    assert_eq!(answer[0].sqlstate(), "53300");
    assert_eq!(answer[0].field(b'V').as_deref(), Some("ERROR"));
    let detail = answer[0].field(b'D').unwrap_or_default();
    assert!(detail.contains("not executed"), "{answer:?}");
    // A place that is given back is there for another.
    drop(sessions.swap_remove(0));
    proxy.until_held(DB, 1).await;
    let last = sessions.first_mut().expect("two");
    last.send(&message::query(INSERT)).await;
    proxy.until_held(DB, 2).await;
    proxy.open(DB).await;
    for session in &mut sessions {
        session.read_until_ready().await;
    }
    assert_eq!(rows(&mut postgres).await, 2);
}
