//! The read-only mode as it is commanded: by command line and HTTP, beside holds, for some clients, with its
//! own end, after a crash, over two generations. What it lets in and what it stops is shown elsewhere.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const WRITE: &str = "INSERT INTO t VALUES (1)";

async fn with_table() -> Postgres {
    let mut postgres = Postgres::start().await;
    postgres
        .execute(
            "CREATE ROLE app LOGIN; CREATE ROLE job LOGIN; CREATE TABLE t (n int); \
             GRANT ALL ON t TO app, job",
        )
        .await;
    postgres
}

fn path(database: &str) -> String {
    format!("/v1/databases/{database}/mode")
}

/// Lets only reads in, and waits until nobody older is left.
async fn read_only(proxy: &Proxy, database: &str, mut options: Value) -> Value {
    options["mode"] = json!("read_only");
    let path = path(database) + "?wait=drained";
    let answer = proxy.admin().put(&path, options).await.expect(200);
    answer["results"][0].clone()
}

/// A session of this user with a write that waits; so many wait then.
async fn waiting(proxy: &Proxy, user: &str, waiters: u64) -> Wire {
    let mut session = Wire::login(proxy.addr(), user, DB).await;
    session.send(&message::query(WRITE)).await;
    proxy.until_held(DB, waiters).await;
    session
}

async fn assert_written(session: &mut Wire) {
    let answer = within("an answer", PATIENCE, session.read_until_ready()).await;
    let done = answer.iter().any(|it| it.body == b"INSERT 0 1\0");
    assert!(done, "{answer:?}");
}

async fn assert_read(session: &mut Wire) {
    let read = within("an answer", PATIENCE, session.query_one("SELECT 1")).await;
    assert_eq!(read, "1");
}

/// What was told of the mode of the database: which kind of event, the mode before and after.
async fn told(proxy: &Proxy) -> Vec<(String, Value, Value)> {
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("a list").clone();
    let of_modes = ["hold", "read_only", "open", "hold_ended", "hold_overdue"];
    let events = events.into_iter().filter_map(|event| {
        let kind = event["kind"].as_str()?.to_owned();
        let told = (kind, event["before"].clone(), event["after"].clone());
        of_modes.contains(&told.0.as_str()).then_some(told)
    });
    events.collect()
}

#[tokio::test]
async fn the_command_lets_reads_in_alone_and_says_how_it_stands() {
    let postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut reader = proxy.session(DB).await;
    assert_read(&mut reader).await;
    let arguments = "read-only postgres --writes queue --for 10m --reason backup";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let ran = proxy.run(&arguments).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.starts_with("postgres: read_only, drained"),
        "{ran:?}"
    );
    assert_read(&mut reader).await;
    let mut writer = waiting(&proxy, "app", 1).await;
    writer.assert_silent().await;
    assert_read(&mut reader).await;

    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "read_only", "{status}");
    let hold = &status["holds"][0];
    let expected = json!({
        "holder": "operator", "mode": "read_only", "blocked": "queue", "then": "open",
        "reason": "backup", "overdue": false,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&hold[key], value, "{key} of {hold}");
    }
    assert!(
        hold["since"].is_string() && hold["until"].is_string(),
        "{hold}"
    );
    let counts = &hold["enforcement"];
    assert_eq!(counts["exempt"], 0, "{status}");
    let counted = counts["enforced"].as_u64().zip(counts["pending"].as_u64());
    assert_eq!(counted.map(|(a, b)| a + b), Some(2), "{status}");
    proxy.run(&["status"]).await.assert(
        0,
        &[
            "postgres: read-only since ",
            "\"backup\", until ",
            "then open",
            "writes wait: enforced in ",
        ],
    );
    let metrics = proxy.admin().get("/metrics").await.text;
    for (mode, value) in [("open", 0), ("read_only", 1), ("hold", 0)] {
        let line = format!("pgdrain_mode{{database=\"postgres\",mode=\"{mode}\"}} {value}");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }

    let ran = proxy.run(&["open", DB]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_written(&mut writer).await;
    // The session that read through the mode writes after it.
    reader.execute(WRITE).await;
    let json = proxy.run(&["read-only", "*", "--json"]).await;
    let answer: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(answer["results"][0]["mode"], "read_only", "{answer}");
}

#[tokio::test]
async fn writes_may_be_refused_and_what_does_not_fit_is_refused_at_once() {
    let mut postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("SELECT 1").await;
    for body in [
        json!({"mode": "read_only", "blocked": "queue"}),
        json!({"mode": "read_only", "sqlstate": "57P03"}),
        json!({"mode": "read_only", "autocommit": "5s"}),
        json!({"mode": "read_only", "fence": true}),
        json!({"mode": "read_only", "writes": "drop"}),
        json!({"mode": "hold", "writes": "queue"}),
        json!({"mode": "open", "writes": "queue"}),
    ] {
        let refused = proxy.admin().put(&path(DB), body.clone()).await.expect(400);
        let message = refused["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("expected"), "{body}: {message}");
    }
    let usage = proxy.run(&["read-only", DB, "--autocommit", "5s"]).await;
    assert!(
        usage.code == Some(5) && usage.stderr.contains("--autocommit is for `hold`"),
        "{usage:?}"
    );
    assert_eq!(proxy.status(DB).await["mode"], "open");

    read_only(&proxy, DB, json!({"writes": "reject"})).await;
    let answer = session.query(WRITE).await;
    let error = answer.iter().find(|it| it.tag == b'E');
    assert_eq!(error.map(|it| it.sqlstate()).as_deref(), Some("25006"));
    proxy.open(DB).await;
    session.execute(WRITE).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_hold_takes_the_place_of_read_only_and_back_and_no_write_slips_through() {
    let postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut reader = proxy.session(DB).await;
    read_only(&proxy, DB, json!({})).await;
    let mut writer = waiting(&proxy, "app", 1).await;
    let mut generation = 0;
    for _ in 0..3 {
        proxy.hold_drained(DB, json!({})).await;
        let status = proxy.status(DB).await;
        assert_eq!(status["mode"], "hold", "{status}");
        assert_eq!(
            status["holds"].as_array().map(Vec::len),
            Some(1),
            "{status}"
        );
        reader.send(&message::query("SELECT 1")).await;
        proxy.until_held(DB, 2).await;
        let result = read_only(&proxy, DB, json!({})).await;
        assert!(result["generation"].as_u64() > Some(generation), "{result}");
        generation = result["generation"].as_u64().expect("a number");
        assert_eq!(proxy.status(DB).await["mode"], "read_only");
        // Who only reads goes on.
        within("the read", PATIENCE, reader.read_until_ready()).await;
        writer.assert_silent().await;
    }
    // A hold on everything comes over it and ends again.
    proxy.hold("*", json!({"for": "2s"})).await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    proxy.until_mode(DB, "read_only").await;
    assert_read(&mut reader).await;
    writer.assert_silent().await;
    proxy.open(DB).await;
    assert_written(&mut writer).await;
    reader.execute(WRITE).await;

    let (open, reads, held) = (json!("open"), json!("read_only"), json!("hold"));
    let told = told(&proxy).await;
    let is = |kind: &str, before: &Value, after: &Value| {
        let event = (kind.to_owned(), before.clone(), after.clone());
        assert!(told.contains(&event), "{event:?} in {told:?}");
    };
    is("read_only", &open, &reads);
    is("hold", &reads, &held);
    is("read_only", &held, &reads);
    is("hold_ended", &held, &reads);
    is("open", &reads, &open);
    is("hold_ended", &reads, &open);
}

#[tokio::test]
async fn read_only_for_some_stops_their_writes_alone_and_opens_nothing_for_others() {
    let postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut other = proxy.session(DB).await;
    let scope = json!({"user": "app"});
    let result = read_only(&proxy, DB, scope.clone()).await;
    assert_eq!(result["scope"], scope, "{result}");
    other.execute(WRITE).await;
    let mut writer = waiting(&proxy, "app", 1).await;
    let mut reader = Wire::login(proxy.addr(), "app", DB).await;
    assert_read(&mut reader).await;
    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "open", "{status}");
    let narrow = &status["scopes"][0];
    assert_eq!(narrow["holds"][0]["mode"], "read_only", "{status}");
    assert_eq!(narrow["held"], 1, "{status}");
    let text = proxy.run(&["status"]).await.stdout;
    let line = "postgres, user \"app\": read-only since ";
    assert!(text.contains(line), "{text}");

    // The stricter of two decides, and opening the one for some does not leak through the other.
    proxy.hold_drained(DB, json!({})).await;
    reader.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 2).await;
    let mut open = scope.clone();
    open["mode"] = json!("open");
    proxy.admin().put(&path(DB), open).await.expect(202);
    writer.assert_silent().await;
    reader.assert_silent().await;
    read_only(&proxy, DB, json!({})).await;
    within("the read", PATIENCE, reader.read_until_ready()).await;
    writer.assert_silent().await;
    // And for some a hold, where all may read.
    proxy.hold_drained(DB, scope.clone()).await;
    reader.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 2).await;
    assert_read(&mut other).await;
    proxy.open(DB).await;
    other.execute(WRITE).await;
    writer.assert_silent().await;
    reader.assert_silent().await;
    read_only(&proxy, DB, scope).await;
    within("the read", PATIENCE, reader.read_until_ready()).await;
    writer.assert_silent().await;
    let open = proxy.run(&["open", DB, "--user", "app"]).await;
    assert_eq!(open.code, Some(0), "{open:?}");
    assert_written(&mut writer).await;
    reader.execute(WRITE).await;
}

#[tokio::test]
async fn it_ends_by_its_own_time_or_stays_as_it_was_told() {
    let postgres = with_table().await;
    let proxy = Proxy::start(&postgres).await;
    let mut reader = proxy.session(DB).await;
    read_only(&proxy, DB, json!({"for": "2s"})).await;
    let mut writer = waiting(&proxy, "app", 1).await;
    assert_written(&mut writer).await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
    reader.execute(WRITE).await;

    read_only(&proxy, DB, json!({"for": "1s", "then": "stay"})).await;
    until("it to be overdue", SOON, async || {
        proxy.status(DB).await["holds"][0]["overdue"] == true
    })
    .await;
    assert_eq!(proxy.status(DB).await["mode"], "read_only");
    let mut writer = waiting(&proxy, "app", 1).await;
    assert_read(&mut reader).await;
    writer.assert_silent().await;
    let overdue = ("hold_overdue".to_owned(), Value::Null, json!("read_only"));
    assert!(told(&proxy).await.contains(&overdue));
    // Breaking the glass ends it too.
    let broken = Command::new("sh")
        .args(["-c", "kill -s USR2 \"$0\"", &proxy.pid().to_string()])
        .status();
    assert!(broken.expect("a shell").success());
    assert_written(&mut writer).await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
}

#[tokio::test]
async fn a_crash_leaves_the_mode_that_was_declared() {
    let postgres = with_table().await;
    let mut proxy = Proxy::start(&postgres).await;
    let asked = json!({"for": "1h", "writes": "reject", "by": "anna", "reason": "backup"});
    read_only(&proxy, DB, asked).await;
    read_only(&proxy, "*", json!({"for": "1h", "user": "job"})).await;
    for (policy, then) in [("resume", "open"), ("hold", "stay")] {
        proxy.set("PGDRAIN_AFTER_RESTART", policy);
        proxy.launch().await;
        let status = proxy.status(DB).await;
        assert_eq!(status["mode"], "read_only", "{status}");
        let hold = &status["holds"][0];
        assert_eq!(
            (&hold["mode"], &hold["blocked"], &hold["then"], &hold["by"]),
            (
                &json!("read_only"),
                &json!("reject"),
                &json!(then),
                &json!("anna")
            ),
            "{policy}"
        );
        let narrow = &status["scopes"][0]["holds"][0];
        assert_eq!(narrow["mode"], "read_only", "{policy}: {status}");
        let mut session = proxy.session(DB).await;
        assert_read(&mut session).await;
        let answer = session.query(WRITE).await;
        let error = answer.iter().find(|it| it.tag == b'E');
        let error = error.map(|it| it.sqlstate());
        assert_eq!(error.as_deref(), Some("25006"), "{policy}");
    }
    proxy.set("PGDRAIN_AFTER_RESTART", "open");
    proxy.launch().await;
    proxy.session(DB).await.execute(WRITE).await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
}

#[tokio::test]
async fn both_generations_are_read_only_before_and_after_a_hand_over() {
    let postgres = with_table().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut old = proxy.session(DB).await;
    read_only(&proxy, DB, json!({"for": "1h"})).await;
    assert_read(&mut old).await;
    let _former = proxy.take_over(&[]).await;
    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "read_only", "{status}");
    let mut new = waiting(&proxy, "app", 1).await;
    old.send(&message::query(WRITE)).await;
    old.assert_silent().await;
    proxy.open(DB).await;
    assert_written(&mut old).await;
    assert_written(&mut new).await;
    // Asked of the newer one, it is in both.
    read_only(&proxy, DB, json!({"for": "1h"})).await;
    assert_read(&mut old).await;
    assert_read(&mut new).await;
    old.send(&message::query(WRITE)).await;
    old.assert_silent().await;
    proxy.open("*").await;
    assert_written(&mut old).await;
    new.execute(WRITE).await;
}
