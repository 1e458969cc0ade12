//! What a shell learns from a command: its exit code, and what it prints. A scripted admin HTTP
//! stands in for pgdrain, so that answers that are rare in life come when they are needed.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::{Ran, pgdrain};

/// A command, the answers it gets in turn, its exit code, and what it then prints.
async fn check(line: &str, answers: &[(u16, Value)], code: i32, printed: &[&str]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let admin = listener.local_addr().expect("it is bound");
    // Without answers nobody is there from the start.
    let listener = (!answers.is_empty()).then_some(listener);
    let mut command = pgdrain();
    command
        .args(line.split_whitespace())
        .env("PGDRAIN_ADMIN", format!("http://{admin}"))
        .env("USER", "alice")
        .stdin(Stdio::null());
    let run = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let serve = async {
        let mut requests = Vec::new();
        if let Some(listener) = listener {
            for (status, body) in answers {
                requests.push(answer(&listener, *status, &body.to_string()).await);
            }
        }
        requests
    };
    let both = async { tokio::join!(run, serve) };
    let (output, requests) = within(line, PATIENCE, both).await;
    let output = output.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ran = Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert_eq!(ran.code, Some(code), "{line}: {ran:?}");
    for part in printed {
        let found = ran.stdout.contains(part) || ran.stderr.contains(part);
        assert!(found, "{line}: {part} in {ran:?}");
    }
    requests
}

/// Answers one request and gives it back.
async fn answer(listener: &TcpListener, status: u16, body: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("the command connects");
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, sent)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if sent.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                break;
            }
        }
        assert_ne!(
            stream.read_buf(&mut request).await.expect("it reads"),
            0,
            "{text}"
        );
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it is read");
    stream.write_all(body.as_bytes()).await.expect("it is read");
    String::from_utf8(request).expect("requests are text")
}

/// A drain that ended like this, with somebody in the way.
fn drain(outcome: &str) -> Value {
    json!({
        "outcome": outcome, "step": "wait", "held_at": "2026-01-02T03:04:05Z",
        "last_permit_released_at": null, "drained_at": null, "cancelled": [], "terminated": [],
        "bypass": [], "detail": "one transaction still runs", "waited_for": [{
            "pid": 4711, "user": "app", "application_name": "worker", "client": "10.0.0.7:50122",
            "state": "in_transaction", "transaction_age_ms": 95000, "statement_started_at": null
        }],
    })
}

fn result(mode: &str, drain: Value) -> Value {
    json!([{ "database": "shop", "mode": mode, "generation": 3, "drain": drain }])
}

fn view(state: &str, exit_code: Value, events: Value) -> Value {
    json!({
        "id": "m1", "database": "shop", "direction": "up", "state": state,
        "exit_code": exit_code, "events": events, "report": null
    })
}

fn event(seq: u64, text: &str) -> Value {
    json!({ "seq": seq, "at": "2026-01-02T03:04:05Z", "kind": "note", "text": text })
}

#[tokio::test]
async fn a_hold_ends_with_0_when_drained_and_with_6_when_not() {
    let drained = json!({ "results": result("hold", drain("drained")) });
    let line = "hold shop --for 5m --ladder firm --reason test";
    let requests = check(line, &[(200, drained)], 0, &["shop: hold, drained"]).await;
    assert!(
        requests[0].starts_with("PUT /v1/databases/shop/mode?wait=drained "),
        "{requests:?}"
    );
    let (_, body) = requests[0].split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let expected = json!({
        "mode": "hold", "for": "5m", "ladder": "firm", "reason": "test", "by": "alice",
        "unproved": false
    });
    assert_eq!(body, expected);

    let refused = json!({
        "error": { "code": "not_drained", "message": "The drain is exhausted." },
        "results": result("open", drain("exhausted")),
    });
    let named = [
        "The drain is exhausted.",
        "4711",
        "10.0.0.7:50122",
        "1m 35s",
    ];
    check("hold shop", &[(409, refused.clone())], 6, &named).await;
    check(
        "hold shop --json",
        &[(409, refused)],
        6,
        &["\"not_drained\""],
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_asked_ends_with_5_and_says_what_to_do() {
    let wrong = json!({ "error": { "code": "bad_request", "message": "The body is wrong." } });
    check(
        "hold shop",
        &[(400, wrong)],
        5,
        &["error: The body is wrong. (bad_request)"],
    )
    .await;
    check(
        "status",
        &[],
        5,
        &["is `pgdrain serve` running? (--admin URL)"],
    )
    .await;
    check(
        "open * --force",
        &[],
        5,
        &["is `pgdrain serve` running?", "SIGUSR2"],
    )
    .await;
    check(
        "open shop --force",
        &[],
        5,
        &["is `pgdrain serve` running?"],
    )
    .await;
    check(
        "migrate up shop --dir /nonexistent",
        &[],
        5,
        &["/nonexistent: cannot be read"],
    )
    .await;
}

#[tokio::test]
async fn an_open_that_does_not_open_ends_with_6() {
    let open = json!({ "results": result("open", Value::Null) });
    check("open shop", &[(202, open)], 0, &["shop: open"]).await;
    let held = json!({ "results": result("hold", Value::Null) });
    check(
        "open shop",
        &[(202, held)],
        6,
        &["still held by somebody else"],
    )
    .await;
    let refused = json!({ "error": { "code": "held", "message": "The window w1 works in shop." } });
    let named = ["The window w1 works in shop."];
    check("open shop", &[(409, refused.clone())], 6, &named).await;
    check("open shop --json", &[(409, refused)], 6, &["\"held\""]).await;
}

#[tokio::test]
async fn a_migration_is_followed_to_its_own_exit_code() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("001_a.up.sql"), "select 1;").expect("writable");
    let up = format!("migrate up shop --dir {}", directory.path().display());
    let started = (202, json!({ "id": "m1" }));
    let running = (
        200,
        view(
            "applying",
            Value::Null,
            json!([event(1, "one"), event(2, "two")]),
        ),
    );
    // Events 3 and 4 were more than could be kept.
    let over = (
        200,
        view("failed", json!(2), json!([event(5, "failed: no")])),
    );

    let answers = [started.clone(), running.clone(), over.clone()];
    let printed = ["03:04:05Z two", "(2 earlier events", "03:04:05Z failed: no"];
    let requests = check(&up, &answers, 2, &printed).await;
    assert!(
        requests[0].contains("\"sql\":\"select 1;\""),
        "{requests:?}"
    );
    assert!(
        requests[1].starts_with("GET /v1/migrations/m1?after=0&wait=10s "),
        "{requests:?}"
    );
    assert!(
        requests[2].starts_with("GET /v1/migrations/m1?after=2&wait=10s "),
        "{requests:?}"
    );

    let json = ["\"seq\":5", "\"exit_code\":2"];
    check(
        &format!("{up} --json"),
        &[started.clone(), over.clone()],
        2,
        &json,
    )
    .await;

    // The proxy dies: nobody here knows how it ended.
    let lost = ["not known here", "migrate attach 'shop'"];
    check(&up, &[started, running], 2, &lost).await;

    let busy = json!({ "error": { "code": "busy", "message": "Migration m0 is running." } });
    check(
        &up,
        &[(409, busy)],
        6,
        &["Migration m0", "migrate attach 'shop'"],
    )
    .await;
}

#[tokio::test]
async fn attach_and_cancel_find_the_migration_of_the_database() {
    let summary = |state: &str| {
        let exit_code = if state == "applying" {
            Value::Null
        } else {
            json!(0)
        };
        (
            200,
            json!({ "migrations": [{
                "id": "m1", "database": "shop", "direction": "up", "state": state,
                "started_at": "2026-01-02T03:04:05Z", "by": "alice", "exit_code": exit_code
            }]}),
        )
    };
    let done = (200, view("succeeded", json!(0), json!([event(1, "done")])));
    check(
        "migrate attach shop",
        &[summary("succeeded"), done],
        0,
        &["done"],
    )
    .await;
    let none = (200, json!({ "migrations": [] }));
    check(
        "migrate attach shop",
        &[none],
        5,
        &["no migration has run in shop"],
    )
    .await;

    let asked = (202, json!({ "id": "m1" }));
    let cancelled = (
        200,
        view(
            "cancelled",
            json!(2),
            json!([event(1, "cancelled by alice")]),
        ),
    );
    let answers = [summary("applying"), asked, cancelled];
    let requests = check("migrate cancel shop", &answers, 0, &["cancelled by alice"]).await;
    assert!(
        requests[1].starts_with("POST /v1/migrations/m1/cancel "),
        "{requests:?}"
    );
    assert!(requests[1].ends_with(r#"{"by":"alice"}"#), "{requests:?}");
    check(
        "migrate cancel shop",
        &[summary("succeeded")],
        5,
        &["no migration runs in shop"],
    )
    .await;
}

#[tokio::test]
async fn a_migration_status_that_preflight_would_refuse_ends_with_1() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("001_a.up.sql"), "select 1;").expect("writable");
    let line = format!("migrate status shop --dir {}", directory.path().display());
    let file = |detail: &str| {
        let at = "2026-01-02T03:04:05Z";
        json!([{ "version": "1", "file": "001_a.up.sql", "state": "applied", "at": at, "detail": detail }])
    };
    let none = json!([]);
    let fine = json!({ "applied": file(""), "pending": none, "changed": none, "dirty": none });
    check(&line, &[(200, fine)], 0, &["applied", "001_a.up.sql"]).await;
    let changed =
        json!({ "applied": none, "pending": none, "changed": file("has changed"), "dirty": none });
    check(&line, &[(200, changed)], 1, &["changed", "has changed"]).await;
}
