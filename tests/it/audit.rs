//! What was done to traffic is written down: who, from where, what, why, before, after, outcome.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::cluster::Postgres;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;

/// The events behind `after`, in short.
async fn told(proxy: &Proxy, after: u64) -> Vec<[String; 6]> {
    let events = proxy
        .admin()
        .get(&format!("/v1/events?after={after}"))
        .await
        .expect(200);
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or("-").to_owned();
    let events = events["events"].as_array().expect("a list").clone();
    let keys = ["kind", "database", "by", "reason", "before", "after"];
    let short = |event: &Value| keys.map(|key| text(event, key));
    events.iter().map(short).collect()
}

fn line(words: &str) -> [String; 6] {
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    words.try_into().expect("six words")
}

#[tokio::test]
async fn every_change_of_mode_is_told_with_who_and_why() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let spec = json!({"for": "60s", "by": "anna", "reason": "column"});
    proxy.hold_drained("postgres", spec).await;
    let body = json!({"mode": "open", "by": "ben", "reason": "enough"});
    proxy
        .admin()
        .put("/v1/databases/postgres/mode", body)
        .await
        .expect(202);
    let seen = told(&proxy, 0).await;
    let expected = [
        "started - - - - -",
        "hold postgres anna column open hold",
        "drain postgres - - - drained",
        "hold_ended postgres - - hold open",
        "open postgres ben enough hold open",
    ];
    assert_eq!(seen, expected.map(line));
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let from = events["events"][1]["from"].as_str().expect("an address");
    assert!(from.starts_with("127.0.0.1:"), "{from}");

    // The same is in the file, one object a line, and nobody else reads it.
    let file = proxy.state_dir().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).expect("a file of events");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(Value::from(lines), events["events"]);
    let mode = file.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_refused_and_what_ends_by_itself_is_told_too() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold("*", json!({"for": "1s"})).await;
    let refused = proxy
        .admin()
        .put("/v1/databases/postgres/mode", json!({"mode": "open"}))
        .await;
    let message = refused.expect(409)["error"]["message"].clone();
    let outcome = format!("refused: {}", message.as_str().expect("a sentence"));
    let all = || async {
        let events = proxy.admin().get("/v1/events?after=1").await.expect(200);
        events["events"].as_array().expect("a list").clone()
    };
    let told = all().await;
    assert!(
        told.iter()
            .any(|event| event["kind"] == "hold" && event["database"] == "*")
    );
    // Nobody has connected to it: there is no gate, but the refusal is told.
    let open = |event: &&Value| event["kind"] == "open";
    assert_eq!(
        told.iter().find(open).map(|event| &event["outcome"]),
        Some(&Value::from(outcome))
    );
    let mut session = proxy.session("postgres").await;
    session.send(&message::query("SELECT 1")).await;
    until("the end of the hold", SOON, async || {
        let told = all().await;
        told.iter()
            .any(|event| event["kind"] == "hold_ended" && event["from"] == "timer")
    })
    .await;
    session.read_until_ready().await;
}

#[tokio::test]
async fn a_stream_of_events_is_taken_up_where_it_was_left() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold("postgres", json!({"for": "60s"})).await;
    let mut stream = follow(&proxy, 1).await;
    let text = read_until(&mut stream, "event: hold").await;
    assert!(
        text.contains("id: 2\n") && !text.contains("id: 1\n"),
        "{text}"
    );
    proxy.open("postgres").await;
    read_until(&mut stream, "event: open").await;
    drop(stream);

    let last = proxy.admin().get("/v1/events").await.expect(200)["last"].as_u64();
    assert!(proxy.terminate().await.success());
    proxy.launch().await;
    let mut stream = follow(&proxy, last.expect("a number")).await;
    let text = read_until(&mut stream, "event: started").await;
    assert!(text.contains("event: stopping"), "{text}");
}

/// Asks for the stream of events behind one.
async fn follow(proxy: &Proxy, seen: u64) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.admin().addr)
        .await
        .expect("the admin HTTP");
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
         last-event-id: {seen}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("taken");
    stream
}

/// Reads until this was said.
async fn read_until(stream: &mut TcpStream, said: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains(said) {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.expect("the answer goes on");
            assert_ne!(read, 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    within(said, PATIENCE, read).await;
    text
}
