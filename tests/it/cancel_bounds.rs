//! Cancel requests: one for each statement, so many at a time, and never a late one.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::fake_postgres::FakePostgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, within};
use crate::support::proxy::Proxy;
use crate::support::script::{Opening, Script, Server, opening};
use crate::support::wire::Wire;

/// A proxy before a scripted server.
async fn start(script: &Script, settings: &[(&str, &str)]) -> Proxy {
    Proxy::before_set(&format!("postgres://{}", script.addr()), settings).await
}

/// A client and its server, at work on a statement.
async fn busy(proxy: &Proxy, script: &mut Script, pid: u32) -> (Wire, Server) {
    let (client, server) = tokio::join!(proxy.session("shop"), async {
        let mut server = script.accept().await;
        server.greet(pid, b"abcd").await;
        server
    });
    run((client, server)).await
}

async fn run((mut client, mut server): (Wire, Server)) -> (Wire, Server) {
    client.send(&message::query("SELECT 'for long'")).await;
    server.wire.expect(b'Q').await;
    (client, server)
}

/// A client that asks for a cancel and waits.
async fn ask(proxy: &Proxy, client: &Wire) -> Wire {
    let (pid, secret) = client.key();
    let mut asking = Wire::connect(proxy.addr()).await;
    asking.send(&message::cancel_request(pid, &secret)).await;
    asking
}

/// The process id that the next connection asks to cancel.
async fn cancel_arrives(script: &mut Script) -> (u32, Server) {
    let mut server = script.accept().await;
    let packet = within("a cancel request", SOON, server.wire.next_startup()).await;
    let opening = opening(&packet.expect("a packet"));
    let Opening::Cancel { pid, .. } = opening else {
        panic!("a cancel request, not {opening:?}");
    };
    (pid, server)
}

/// Logs a further client in: whatever came before is dealt with, and the next connection of the
/// server is this one, not a cancel request.
async fn next_is_a_session(proxy: &Proxy, script: &mut Script, pid: u32) {
    let (_client, _server) = busy(proxy, script, pid).await;
}

fn answer() -> Vec<u8> {
    let complete = message::command_complete("SELECT 1");
    [complete, message::ready_for_query(b'I')].concat()
}

#[tokio::test]
async fn several_requests_for_one_statement_are_one() {
    let mut script = Script::listen().await;
    let proxy = start(&script, &[]).await;
    let (mut client, mut server) = busy(&proxy, &mut script, 11).await;
    let mut asking = vec![ask(&proxy, &client).await];
    let (pid, cancelling) = cancel_arrives(&mut script).await;
    assert_eq!(pid, 11);
    for _ in 0..5 {
        asking.push(ask(&proxy, &client).await);
    }
    next_is_a_session(&proxy, &mut script, 12).await;
    next_is_a_session(&proxy, &mut script, 13).await;
    // All of them are told when the server has acted on the one.
    drop(cancelling);
    for wire in &mut asking {
        assert!(wire.read_to_end().await.is_empty());
    }
    server.wire.send(&answer()).await;
    client.read_until_ready().await;
    next_is_a_session(&proxy, &mut script, 14).await;
    // The next statement can be cancelled again.
    let (client, _server) = run((client, server)).await;
    let mut asking = ask(&proxy, &client).await;
    let (pid, cancelling) = cancel_arrives(&mut script).await;
    assert_eq!(pid, 11);
    drop(cancelling);
    assert!(asking.read_to_end().await.is_empty());
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_never_sent() {
    let mut script = Script::listen().await;
    let proxy = start(&script, &[("LIMITS_CANCELS", "1")]).await;
    let (first, _first_server) = busy(&proxy, &mut script, 21).await;
    let (second, second_server) = busy(&proxy, &mut script, 22).await;
    let mut asking_first = ask(&proxy, &first).await;
    let (pid, cancelling) = cancel_arrives(&mut script).await;
    assert_eq!(pid, 21);
    // Only one may be on its way: this one waits, and meanwhile its statement ends and the next
    // begins.
    let mut asking_second = ask(&proxy, &second).await;
    next_is_a_session(&proxy, &mut script, 23).await;
    let (mut second, mut second_server) = (second, second_server);
    second_server.wire.send(&answer()).await;
    second.read_until_ready().await;
    let (second, _second_server) = run((second, second_server)).await;
    drop(cancelling);
    assert!(asking_first.read_to_end().await.is_empty());
    assert!(asking_second.read_to_end().await.is_empty());
    next_is_a_session(&proxy, &mut script, 24).await;
    // A request for what runs now is sent.
    let _asking = ask(&proxy, &second).await;
    let (pid, _cancelling) = cancel_arrives(&mut script).await;
    assert_eq!(pid, 22);
}

#[tokio::test]
async fn keys_that_nobody_has_reach_no_server() {
    let fake = FakePostgres::start().await;
    let proxy = Proxy::before(&format!("postgres://{}", fake.addr()), &[]).await;
    let mut session = proxy.session("shop").await;
    let (pid, secret) = session.key();
    for number in 0..200_u32 {
        let mut guess = secret.clone();
        // The right process id, and the right length.
        guess[0] ^= 1 + u8::try_from(number % 255).expect("below 255");
        let key = if number % 2 == 0 {
            (pid, guess)
        } else {
            (number, secret.clone())
        };
        Wire::cancel(proxy.addr(), key).await;
    }
    session.execute("SELECT 1").await;
    assert_eq!(fake.seen().cancels, []);
}

#[tokio::test]
async fn a_drain_cancels_through_the_same_bound() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start_set(&postgres, &[("LIMITS_CANCELS", "1")]).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut session = proxy.session(DB).await;
        session.send(&message::query("SELECT pg_sleep(600)")).await;
        sessions.push(session);
    }
    let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    crate::support::poll::until("running statements", SOON, async || {
        postgres.count(running).await == 4
    })
    .await;
    let drain = proxy
        .hold_drained(DB, json!({"ladder": "firm", "wait": "0s"}))
        .await;
    assert_eq!(
        drain["cancelled"].as_array().map(Vec::len),
        Some(4),
        "{drain}"
    );
    for session in &mut sessions {
        let answer = session.read_until_ready().await;
        let error = answer.iter().find(|message| message.tag == b'E');
        assert_eq!(error.expect("cancelled").sqlstate(), "57014");
    }
}
