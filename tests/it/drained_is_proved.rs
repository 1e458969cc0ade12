//! *Drained* is said only when the server itself shows that nothing of ours runs; unknown is never
//! zero.

use pgdrain::cli::demo::cluster::Shutdown;
use pgdrain::cli::demo::cluster::process::{self, Signal};
use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until};
use crate::support::proxy::Proxy;

/// A role that may log in with this password, and with no other, and may see nothing.
const WATCHER: &str = "CREATE ROLE watcher LOGIN PASSWORD 'right'";

/// `trust` for everybody but the watcher.
const HBA: [&str; 3] = [
    "host all watcher 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 trust",
    "local all all trust",
];

/// Holds twice: once as it is, once content without a proof; says why there is none.
async fn assert_unproved(proxy: &Proxy) -> String {
    let ran = proxy.run(&["hold", DB, "--wait", "200ms"]).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    let drain = proxy.drain(DB).await;
    assert_eq!(drain["outcome"], "unproved", "{drain}");
    assert_eq!(drain["drained_at"], Value::Null);
    let detail = drain["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.starts_with("held, proof unknown: "), "{detail}");
    assert!(
        ran.stdout.contains(&detail) || ran.stderr.contains(&detail),
        "{detail}: {ran:?}"
    );
    assert_eq!(proxy.status(DB).await["mode"], "hold");

    let ran = proxy
        .run(&["hold", DB, "--wait", "200ms", "--unproved"])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("unproved"), "{ran:?}");
    proxy.open(DB).await;
    detail
}

#[tokio::test]
async fn a_backend_at_work_whose_client_is_gone_is_waited_for() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query("SELECT pg_sleep(600)")).await;
    let (pid, _) = session.key();
    until("the statement to run", SOON, async || {
        postgres.count(&at_work(pid)).await == 1
    })
    .await;
    // It cannot take notice of anything now, and the server shows it at work.
    process::send(Signal::Stop, &[pid]).expect("a shell");
    drop(session);
    assert_waited_for(&proxy, pid).await;
    assert_eq!(postgres.count(&at_work(pid)).await, 0);
}

/// The server shows such a backend idle, and it would run the statement as soon as it could.
#[tokio::test]
async fn a_backend_that_has_not_read_its_statement_yet_is_waited_for() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let (pid, _) = session.key();
    process::send(Signal::Stop, &[pid]).expect("a shell");
    session
        .send(&message::query("INSERT INTO t VALUES (1)"))
        .await;
    until("the statement to be forwarded", SOON, async || {
        proxy.status(DB).await["permits"] == 1
    })
    .await;
    drop(session);
    assert_waited_for(&proxy, pid).await;
    // Whatever became of the statement, it is over.
    let before = postgres.count("SELECT count(*) FROM t").await;
    postgres.until_gone(pid).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, before);
}

/// Counts a backend while it runs something.
fn at_work(pid: u32) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'")
}

/// A stopped backend whose client is gone is in the way, also when its connection was given up;
/// once it goes on, the database is drained.
async fn assert_waited_for(proxy: &Proxy, pid: u32) {
    let patient = json!({"wait": "10m", "for": "20m"});
    proxy.hold(DB, patient.clone()).await;
    until("the connection to be given up", PATIENCE, async || {
        let status = proxy.status(DB).await;
        let drain = &status["holds"][0]["drain"];
        assert_eq!(drain["outcome"], "draining", "{status}");
        status["permits"] == 0 && status["sessions"] == 0
    })
    .await;
    until("the drain to name the backend", SOON, async || {
        let drain = proxy.drain(DB).await;
        assert_eq!(drain["outcome"], "draining", "{drain}");
        drain["in_the_way"][0]["pid"] == pid
    })
    .await;

    // A hold with less patience says who it is, and reopens.
    let drain = proxy.hold_in_vain(DB, json!({"wait": "100ms"})).await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&format!("pid {pid} ")), "{detail}");
    proxy.until_mode(DB, "open").await;

    proxy.hold(DB, patient).await;
    process::send(Signal::Continue, &[pid]).expect("a shell");
    proxy.until_drained(DB).await;
}

#[tokio::test]
async fn a_role_that_may_not_see_what_sessions_do_proves_nothing() {
    let mut postgres = Postgres::start().await;
    postgres.execute(WATCHER).await;
    let proxy = Proxy::start_set(&postgres, &[("CONTROL_USER", "watcher")]).await;
    let mut session = proxy.session(DB).await;
    let detail = assert_unproved(&proxy).await;
    assert!(detail.contains("pg_read_all_stats"), "{detail}");

    postgres.execute("GRANT pg_read_all_stats TO watcher").await;
    let ran = proxy.run(&["hold", DB]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    proxy.open(DB).await;
    session.execute("SELECT 1").await;
}

#[tokio::test]
async fn without_a_user_for_it_nothing_is_proved() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::before(&format!("postgres://{}", postgres.addr()), &[]).await;
    let mut session = proxy.session(DB).await;
    let detail = assert_unproved(&proxy).await;
    assert!(detail.contains("no user is configured"), "{detail}");

    // What is counted by ourselves is still waited for.
    session.execute("BEGIN").await;
    let drain = proxy
        .hold_in_vain(DB, json!({"wait": "100ms", "unproved": true}))
        .await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
}

#[tokio::test]
async fn with_a_wrong_password_nothing_is_proved_until_it_is_right() {
    let mut postgres = Postgres::start_with(&[], &HBA).await;
    postgres.execute(WATCHER).await;
    postgres.execute("GRANT pg_read_all_stats TO watcher").await;
    let secret = "wrong-and-secret";
    let settings = [("CONTROL_USER", "watcher"), ("CONTROL_PASSWORD", secret)];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let _session = proxy.session(DB).await;
    let detail = assert_unproved(&proxy).await;
    assert!(
        detail.contains("password authentication failed"),
        "{detail}"
    );
    assert!(!detail.contains(secret) && !proxy.log().contains(secret));

    postgres
        .execute(&format!("ALTER ROLE watcher PASSWORD '{secret}'"))
        .await;
    proxy.hold_drained(DB, json!({})).await;
    assert!(!proxy.log().contains(secret));
}

#[tokio::test]
async fn sessions_at_another_server_than_the_control_connection_are_not_proved() {
    let mut first = Postgres::start().await;
    let second = Postgres::start().await;
    let both = format!("postgres://postgres@{},{}", first.addr(), second.addr());
    let proxy = Proxy::before(&both, &[]).await;
    first.stop(Shutdown::Fast).await.expect("it stops");
    let mut session = proxy.session(DB).await;
    assert_eq!(
        proxy.sessions(DB).await[0]["server"],
        second.addr().to_string()
    );
    first.start().await.expect("it starts");
    let detail = assert_unproved(&proxy).await;
    assert!(detail.contains("at another server"), "{detail}");
    session.execute("SELECT 1").await;

    // Once that session is gone, all of them are where the control connection is.
    drop(session);
    until("the end of the session", SOON, async || {
        proxy.status(DB).await["sessions"] == 0
    })
    .await;
    let _session = proxy.session(DB).await;
    assert_eq!(
        proxy.sessions(DB).await[0]["server"],
        first.addr().to_string()
    );
    proxy.hold_drained(DB, json!({"wait": "60s"})).await;
}

#[tokio::test]
async fn sessions_that_did_not_come_through_us_are_named_when_they_are_at_work() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _session = proxy.session(DB).await;
    let idle = postgres.connect(DB).await;
    idle.batch_execute("SET application_name = 'idler'")
        .await
        .expect("set");
    let around = postgres.connect(DB).await;
    let begin = "SET application_name = 'nightly report'; BEGIN; SELECT 1";
    around.batch_execute(begin).await.expect("a transaction");
    let row = around.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = row.expect("a row").get(0);

    let drain = proxy.hold_drained(DB, json!({})).await;
    let named = drain["bypass"].as_array().expect("a list");
    assert_eq!(named.len(), 1, "{drain}");
    assert_eq!(
        (&named[0]["pid"], &named[0]["user"]),
        (&json!(pid), &json!("postgres"))
    );
    assert_eq!(named[0]["application_name"], "nightly report");
    assert!(named[0]["transaction_age_ms"].is_u64(), "{drain}");
    let ran = proxy.run(&["hold", DB]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("nightly report"), "{ran:?}");

    around.batch_execute("COMMIT").await.expect("a commit");
    let drain = proxy.hold_drained(DB, json!({})).await;
    assert_eq!(drain["bypass"], json!([]), "{drain}");
}
