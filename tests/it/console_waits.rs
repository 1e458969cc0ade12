//! `PAUSE` answers when nothing runs any more, and whoever stops waiting learns what became of the hold.

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A proxy, a client in a transaction, and a console that waits for its end after this command.
async fn waiting(postgres: &Postgres, command: &str) -> (Proxy, Wire, Wire) {
    let proxy = Proxy::start(postgres).await;
    let mut client = proxy.session(DB).await;
    client.execute("BEGIN").await;
    let mut console = proxy.session("pgdrain").await;
    console.send(&message::query(command)).await;
    proxy.until_mode(DB, "hold").await;
    (proxy, client, console)
}

#[tokio::test]
async fn it_answers_when_drained() {
    let postgres = Postgres::start().await;
    let (proxy, mut client, mut console) = waiting(&postgres, "PAUSE postgres").await;
    proxy.assert_draining(DB).await;
    console.assert_silent().await;
    // Another console sees who is in the way.
    let mut other = proxy.session("pgdrain").await;
    let pid = client.key().0.to_string();
    let blockers = other.query("SHOW BLOCKERS postgres").await;
    let row = blockers
        .iter()
        .find(|it| it.tag == b'D')
        .expect("a blocker");
    assert_eq!(row.columns()[1].as_deref(), Some(pid.as_str()));
    client.execute("COMMIT").await;
    let answer = console.read_until_ready().await;
    let tags: Vec<u8> = answer.iter().map(|it| it.tag).collect();
    assert_eq!(tags, b"NCZ", "{answer:?}");
    assert_eq!(proxy.drain(DB).await["outcome"], "drained");
    console.execute("RESUME postgres").await;
}

#[tokio::test]
async fn a_drain_that_fails_is_an_error_that_names_who_is_in_the_way() {
    let postgres = Postgres::start().await;
    let (proxy, client, mut console) = waiting(&postgres, "PAUSE postgres WAIT 200ms").await;
    let answer = console.read_until_ready().await;
    assert_eq!(answer[0].sqlstate(), "55000", "{answer:?}");
    let detail = answer[0].field(b'D').expect("a detail");
    assert!(detail.contains(&client.key().0.to_string()), "{detail}");
    let hint = answer[0].field(b'H').expect("a hint");
    assert!(hint.contains("LADDER firm"), "{hint}");
    proxy.until_mode(DB, "open").await;
}

#[tokio::test]
async fn a_pause_that_is_cancelled_is_taken_back() {
    let postgres = Postgres::start().await;
    for command in ["PAUSE postgres", "PAUSE"] {
        let (proxy, mut client, mut console) = waiting(&postgres, command).await;
        Wire::cancel(proxy.addr(), console.key()).await;
        let answer = console.read_until_ready().await;
        assert_eq!(answer[0].sqlstate(), "57014", "{answer:?}");
        let text = answer[0].field(b'M').expect("a message");
        assert!(text.contains("is open again"), "{text}");
        proxy.until_mode(DB, "open").await;
        client.execute("COMMIT").await;
        // A late request does not touch the next statement.
        Wire::cancel(proxy.addr(), console.key()).await;
        console.execute("SHOW STATE").await;
    }
}

#[tokio::test]
async fn a_hold_goes_on_when_its_waiting_is_cancelled() {
    let postgres = Postgres::start().await;
    let (proxy, mut client, mut console) = waiting(&postgres, "HOLD postgres FOR 1m").await;
    Wire::cancel(proxy.addr(), console.key()).await;
    let answer = console.read_until_ready().await;
    assert_eq!(answer[0].sqlstate(), "57014", "{answer:?}");
    let text = answer[0].field(b'M').expect("a message");
    assert!(
        text.contains("goes on") && text.contains("then open"),
        "{text}"
    );
    let hint = answer[0].field(b'H').expect("a hint");
    assert!(hint.contains("OPEN \"postgres\""), "{hint}");
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    client.execute("COMMIT").await;
    proxy.until_drained(DB).await;
    console.execute("OPEN postgres").await;
}

#[tokio::test]
async fn somebody_elses_hold_is_not_taken_back() {
    let postgres = Postgres::start().await;
    let (proxy, _client, mut console) = waiting(&postgres, "PAUSE postgres").await;
    proxy
        .hold(DB, serde_json::json!({"by": "ben", "reason": "mine now"}))
        .await;
    until("the hold of another", SOON, async || {
        proxy.status(DB).await["holds"][0]["by"] == "ben"
    })
    .await;
    Wire::cancel(proxy.addr(), console.key()).await;
    let answer = console.read_until_ready().await;
    // The first hold ended with the second, or was still waited for.
    assert!(
        matches!(answer[0].sqlstate().as_str(), "57014" | "55000"),
        "{answer:?}"
    );
    assert_eq!(proxy.status(DB).await["holds"][0]["by"], "ben");
}

#[tokio::test]
async fn who_vanishes_leaves_a_hold_that_ends_by_itself() {
    let postgres = Postgres::start().await;
    let (proxy, mut client, console) = waiting(&postgres, "PAUSE postgres FOR 1s").await;
    drop(console);
    proxy.assert_draining(DB).await;
    client.execute("COMMIT").await;
    proxy.until_mode(DB, "open").await;
}
