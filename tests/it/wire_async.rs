//! What a server says unasked: notifications, parameters, notices, and that it ends the session.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{
    self, Message, data_row, error_response, notification, parameter_status, query,
};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::script::{Script, Server, greeting};
use crate::support::wire::Wire;

/// A session at a scripted server.
async fn scripted() -> (Proxy, Script, Wire, Server) {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[
        ("user", "u"),
        ("database", "scripted"),
    ]))
    .await;
    let mut server = script.accept_session("scripted").await;
    server.wire.send(&greeting(4242, b"abcd")).await;
    wire.read_until_ready().await;
    (proxy, script, wire, server)
}

fn notice(text: &str) -> Vec<u8> {
    let mut notice = error_response("00000", text);
    notice[0] = b'N';
    notice
}

/// Everything that may come at any time, in an order that must be kept.
fn unasked() -> Vec<u8> {
    [
        parameter_status("application_name", "set by the server"),
        notice("a word"),
        notification(7, "news", "first"),
        parameter_status("DateStyle", "German"),
        notification(7, "news", "second"),
    ]
    .concat()
}

/// To an idle client, and to a held one, which waits on and is served in the end (odyssey
/// `pin_on_listen`, pgdog #1285).
#[tokio::test]
async fn what_comes_unasked_reaches_idle_and_held_clients_in_order() {
    let (proxy, _script, mut wire, mut server) = scripted().await;
    server.wire.send(&unasked()).await;
    wire.expect_bytes(&unasked()).await;

    proxy.hold("scripted", json!({})).await;
    wire.send(&query("SELECT 1")).await;
    proxy.until_held("scripted", 1).await;
    for byte in unasked() {
        server.wire.send(&[byte]).await;
    }
    wire.expect_bytes(&unasked()).await;
    proxy.until_held("scripted", 1).await;

    proxy.open("scripted").await;
    server.wire.expect(b'Q').await;
    let answer = [unasked(), message::command_complete("SELECT 0"), unasked()].concat();
    let answer = [answer, message::ready_for_query(b'I'), unasked()].concat();
    server.wire.send(&answer).await;
    wire.expect_bytes(&answer).await;
}

/// A hold does not lose a message of the server of which half has come.
#[tokio::test]
async fn a_refusal_waits_for_the_end_of_the_servers_message() {
    let (proxy, _script, mut wire, mut server) = scripted().await;
    proxy.hold("scripted", json!({})).await;
    wire.send(&query("SELECT 1")).await;
    proxy.until_held("scripted", 1).await;
    let unasked = unasked();
    let (half, rest) = unasked.split_at(unasked.len() - 3);
    server.wire.send(half).await;
    wire.expect_bytes(half).await;
    let hold = json!({"mode": "hold", "blocked": "reject"});
    let changed = proxy.admin().put("/v1/databases/scripted/mode", hold).await;
    changed.expect(202);
    proxy.until_held("scripted", 0).await;
    wire.assert_silent().await;
    server.wire.send(rest).await;
    wire.expect_bytes(rest).await;
    assert_eq!(wire.expect(b'E').await.sqlstate(), "55P03");
    wire.expect(b'Z').await;
}

/// A real server reports its changed settings with the next answer.
#[tokio::test]
async fn a_reload_of_the_server_is_reported_to_clients_held_or_not() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    for (style, held) in [("iso_8601", false), ("sql_standard", true)] {
        if held {
            proxy.hold_drained(DB, json!({})).await;
            session.send(&query("SELECT 1")).await;
            proxy.until_held(DB, 1).await;
        }
        postgres
            .execute(&format!("ALTER SYSTEM SET IntervalStyle = '{style}'"))
            .await;
        postgres.execute("SELECT pg_reload_conf()").await;
        if held {
            proxy.open(DB).await;
        } else {
            session.send(&query("SELECT 1")).await;
        }
        // The signal may reach the backend a little later.
        until("the new style", SOON, async || {
            let answer = session.read_until_ready().await;
            let report = answer.iter().find(|message| message.tag == b'S');
            let found =
                report.is_some_and(|report| report.body.ends_with(format!("{style}\0").as_bytes()));
            if !found {
                session.send(&query("SELECT 1")).await;
            }
            found
        })
        .await;
    }
}

#[tokio::test]
async fn parameters_that_change_in_the_middle_are_reported_as_directly() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET DateStyle = 'SQL' AS 'SELECT 1';
             CREATE FUNCTION g() RETURNS text LANGUAGE sql
                 AS $$ SELECT set_config('TimeZone', 'Asia/Tokyo', false) $$",
        )
        .await;
    let alike = Alike::start(&postgres).await;
    let talk = async |wire: &mut Wire| {
        let mut answer = Vec::new();
        for sql in [
            "SELECT f()",
            "SELECT g()",
            "BEGIN; SELECT g(); SET LOCAL application_name = 'x'; SELECT 1/0",
            "ROLLBACK",
            "SET client_encoding = 'LATIN1'; SELECT 1; RESET client_encoding",
            "SET SESSION AUTHORIZATION DEFAULT; DISCARD ALL",
        ] {
            answer.extend(wire.query(sql).await);
        }
        answer
    };
    let answer = alike.sessions("parameters", talk).await;
    assert!(tags(&answer).contains('S'));
}

#[tokio::test]
async fn a_flood_of_notices_passes_whole() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let flood = "DO $$ BEGIN FOR n IN 1..20000 LOOP RAISE NOTICE '% %', n, repeat('n', n % 300);
                 END LOOP; END $$";
    let talk = async |wire: &mut Wire| wire.query(flood).await;
    let answer = alike.sessions("notices", talk).await;
    assert_eq!(answer.len(), 20_000 + 2);
}

/// The server's own last words, unchanged: pools and drivers know them by their SQLSTATE.
#[tokio::test]
async fn the_end_of_a_session_reads_as_directly() {
    let settings = [
        ("idle_in_transaction_session_timeout", "200ms"),
        ("statement_timeout", "10s"),
    ];
    let mut postgres = Postgres::start_with(&settings, &[]).await;
    let alike = Alike::start(&postgres).await;
    let killer = postgres.connect(DB).await;
    let terminate = async |wire: &mut Wire| {
        let pid = i32::try_from(wire.key().0).expect("a process id");
        let killed = killer
            .query_one("SELECT pg_terminate_backend($1)", &[&pid])
            .await;
        killed.expect("an answer");
        wire.read_to_end().await
    };
    let idle = alike.sessions("terminated when idle", terminate).await;
    let in_transaction = async |wire: &mut Wire| {
        let mut answer = wire.query("BEGIN").await;
        answer.extend(terminate(wire).await);
        answer
    };
    let in_transaction = alike
        .sessions("terminated in a transaction", in_transaction)
        .await;
    let timeout = async |wire: &mut Wire| {
        let mut answer = wire.query("BEGIN; SELECT 1").await;
        answer.extend(wire.read_to_end().await);
        answer
    };
    let timeout = alike.sessions("a timeout of the server", timeout).await;
    let last = |answer: &[Message]| answer.last().map(Message::sqlstate);
    assert_eq!(last(&idle).as_deref(), Some("57P01"));
    assert_eq!(last(&in_transaction).as_deref(), Some("57P01"));
    assert_eq!(last(&timeout).as_deref(), Some("25P03"));
}

/// Notifications keep their place and their sender's process id, which is the server's (proxysql
/// #5136).
#[tokio::test]
async fn process_ids_are_the_servers_own_everywhere() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let (mut one, mut two) = (proxy.session(DB).await, proxy.session(DB).await);
    one.execute("LISTEN news").await;
    two.execute("NOTIFY news, 'x'").await;
    let news = one.expect(b'A').await;
    assert_eq!(news.body[..4], two.key().0.to_be_bytes());
    assert_eq!(
        one.query_one("SELECT pg_backend_pid()").await,
        one.key().0.to_string()
    );

    two.send(&query("SELECT pg_sleep(600)")).await;
    let cancel = format!(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
         WHERE pid = {} AND wait_event = 'PgSleep'",
        two.key().0
    );
    until("the statement to sleep", SOON, async || {
        one.query(&cancel)
            .await
            .iter()
            .any(|message| message.bytes() == data_row(&[Some("t")]))
    })
    .await;
    let answer = two.read_until_ready().await;
    assert_eq!(answer[answer.len() - 2].sqlstate(), "57014");
}
