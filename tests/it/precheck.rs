//! What would stand in the way is named before anything is held; a drain under way can be stepped up
//! and down; two proxies in front of one database know of one another.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;

/// What a precheck answers.
async fn precheck(proxy: &Proxy, query: &str) -> Value {
    let path = format!("/v1/databases/{DB}/precheck{query}");
    proxy.admin().get(&path).await.expect(200)
}

/// The first finding of this kind.
fn finding(answer: &Value, kind: &str) -> Value {
    let findings = answer["findings"].as_array().expect("a list");
    let mut found = findings.iter().filter(|it| it["kind"] == kind);
    found.next().cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn nothing_in_the_way_is_go() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _session = proxy.session(DB).await;
    let ran = proxy.run(&["precheck", DB]).await;
    ran.assert(0, &["postgres: go", "nothing is in the way"]);
    let answer = precheck(&proxy, "").await;
    assert_eq!(
        (&answer["go"], &answer["findings"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(answer["expected"]["sessions"], 1, "{answer}");
    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "open", "nothing was held");
}

#[tokio::test]
async fn everything_in_the_way_is_named_with_what_each_ladder_does() {
    let mut postgres = Postgres::start().await;
    let timeout = format!("ALTER DATABASE {DB} SET idle_session_timeout = '20s'");
    postgres.execute(&timeout).await;
    let proxy = Proxy::start(&postgres).await;
    let mut idle = proxy.session(DB).await;
    idle.execute("BEGIN").await;
    let mut busy = proxy.session(DB).await;
    busy.send(&message::query("SELECT pg_sleep(600)")).await;
    let around = postgres.connect(DB).await;
    let prepare = "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'leftover'; BEGIN; SELECT 1";
    around.batch_execute(prepare).await.expect("prepared");

    let answer = eventually("a precheck that names both of ours", SOON, async || {
        let answer = precheck(&proxy, "?ladder=firm&bypass=terminate").await;
        let both = finding(&answer, "active") != Value::Null
            && finding(&answer, "idle_in_transaction") != Value::Null;
        both.then_some(answer)
    })
    .await;
    let fates = |kind: &str| {
        let found = finding(&answer, kind);
        [&found["gentle"], &found["firm"], &found["force"]].map(|fate| fate.to_string())
    };
    assert_eq!(
        fates("active"),
        ["\"waits\"", "\"cancels\"", "\"terminates\""]
    );
    assert_eq!(
        fates("idle_in_transaction"),
        ["\"waits\"", "\"aborts\"", "\"terminates\""]
    );
    assert_eq!(
        fates("bypass_session"),
        ["\"terminates\"", "\"terminates\"", "\"terminates\""]
    );
    let prepared = finding(&answer, "prepared_transaction");
    assert!(
        prepared["what"]
            .as_str()
            .is_some_and(|it| it.contains("leftover")),
        "{answer}"
    );
    assert_eq!(
        (&prepared["owner"], &prepared["blocks"]),
        (&json!("postgres"), &json!(false))
    );
    assert!(prepared["age_ms"].is_u64(), "{answer}");
    // Held sessions would be ended by it.
    let timeout = finding(&answer, "session_timeout");
    assert_eq!(
        (&timeout["blocks"], &answer["go"]),
        (&json!(true), &json!(false)),
        "{answer}"
    );

    let ran = proxy.run(&["precheck", DB, "--ladder", "force"]).await;
    ran.assert(
        1,
        &[
            "no-go",
            "idle_session_timeout",
            "leftover",
            "bypass_session",
        ],
    );
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let unknown = proxy
        .admin()
        .get(&format!("/v1/databases/{DB}/precheck?lader=firm"))
        .await;
    unknown.expect(400);
}

#[tokio::test]
async fn what_cannot_be_known_is_no_go() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE ROLE watcher LOGIN").await;
    let proxy = Proxy::start_set(&postgres, &[("CONTROL_USER", "watcher")]).await;
    let ran = proxy.run(&["precheck", DB, "--bypass", "terminate"]).await;
    ran.assert(
        1,
        &[
            "missing_privilege",
            "pg_read_all_stats",
            "pg_signal_backend",
            "watcher",
        ],
    );
    let nobody = Proxy::before(&format!("postgres://{}", postgres.addr()), &[]).await;
    let ran = nobody.run(&["precheck", DB]).await;
    ran.assert(1, &["unknown", "no user is configured"]);
    let ran = proxy.run(&["precheck", "nowhere"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr
            .contains("There is no database called \"nowhere\"")
    );
    // Nobody there to ask is another matter.
    let ran = proxy
        .run(&["precheck", DB, "--admin", "http://127.0.0.1:1"])
        .await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
}

#[tokio::test]
async fn what_is_to_be_expected_is_what_was_seen() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    eventually("a forecast", SOON, async || {
        let expected = precheck(&proxy, "").await["expected"].clone();
        (expected["drain_max_ms"].as_u64()? >= 1000).then_some(expected)
    })
    .await;
    session.execute("COMMIT").await;
    until("transactions a second", SOON, async || {
        session.execute("SELECT 1").await;
        let expected = precheck(&proxy, "").await["expected"].clone();
        expected["transactions_per_second"]
            .as_f64()
            .is_some_and(|it| it > 0.0)
    })
    .await;
}

#[tokio::test]
async fn a_drain_is_stepped_up_and_down_again() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut busy = proxy.session(DB).await;
    proxy
        .run(&["drain", DB, "--ladder", "firm"])
        .await
        .assert(6, &["No drain"]);
    busy.send(&message::query("SELECT pg_sleep(600)")).await;
    until("the statement to run", SOON, async || {
        proxy.status(DB).await["permits"] == 1
    })
    .await;
    proxy.hold(DB, json!({"wait": "10m", "for": "20m"})).await;
    proxy.assert_draining(DB).await;
    let up = [
        "drain", DB, "--ladder", "firm", "--wait", "1ms", "--cancel", "10m",
    ];
    proxy.run(&up).await.assert(0, &["draining"]);
    let answer = busy.read_until_ready().await;
    assert_eq!(answer[1].tag, b'E', "it was cancelled: {answer:?}");
    proxy.until_drained(DB).await;
    proxy.open(DB).await;

    // Down again, before it comes to the worst.
    busy.execute("BEGIN").await;
    let force = json!({"ladder": "force", "wait": "1ms", "cancel": "10m", "terminate": "1ms",
        "abort": "10m", "for": "20m"});
    proxy.hold(DB, force).await;
    until("the ladder to be climbed", SOON, async || {
        proxy.drain(DB).await["step"] != "wait"
    })
    .await;
    let down = ["drain", DB, "--ladder", "gentle", "--wait", "10m"];
    proxy.run(&down).await.assert(0, &["draining"]);
    until("the drain to wait again", SOON, async || {
        proxy.drain(DB).await["step"] == "wait"
    })
    .await;
    let events = proxy.admin().get("/v1/events?after=0").await.expect(200);
    assert!(events.to_string().contains("the ladder is now"), "{events}");
}

#[tokio::test]
async fn a_window_is_refused_where_another_proxy_serves() {
    let postgres = Postgres::start().await;
    let first = Proxy::start(&postgres).await;
    let mut second = Proxy::start(&postgres).await;
    let _one = first.session(DB).await;
    let _two = second.session(DB).await;
    let other = eventually("the first to see the second", SOON, async || {
        let answer = precheck(&first, "").await;
        let other = finding(&answer, "other_proxy");
        (other != Value::Null).then_some(other)
    })
    .await;
    assert!(
        other["what"]
            .as_str()
            .is_some_and(|it| it.contains("pgdrain control")),
        "{other}"
    );
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("001_a.up.sql"), "create table a ();").expect("a file");
    let dir = dir.path().to_str().expect("a path in UTF-8");
    let up = ["migrate", "up", DB, "--dir", dir];
    first
        .run(&up)
        .await
        .assert(6, &["another pgdrain serves", "pgdrain control"]);
    let mode = first.status(DB).await["mode"].clone();
    assert_eq!(mode, "open", "nothing was held");

    second.kill();
    until("the second to be forgotten", SOON, async || {
        finding(&precheck(&first, "").await, "other_proxy") == Value::Null
    })
    .await;
    first.run(&up).await.assert(0, &["done: one file"]);
}

/// The lock is taken again on the next control connection.
#[tokio::test]
async fn a_proxy_that_lost_its_control_connection_is_seen_again() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _session = proxy.session(DB).await;
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
                 AND classid = x'70676472'::int::oid AND objid = (SELECT oid FROM pg_database \
                 WHERE datname = 'postgres')";
    let client = postgres.connect(DB).await;
    let seen = async || {
        until("the lock", SOON, async || {
            let row = client.query_one(locks, &[]).await.expect("a count");
            row.get::<_, i64>(0) == 1
        })
        .await;
    };
    seen().await;
    let end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity \
               WHERE application_name = 'pgdrain control'";
    client.batch_execute(end).await.expect("terminated");
    seen().await;
}
