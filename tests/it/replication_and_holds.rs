//! Replication connections: marked, not held unless configured so, and in no drain's way.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const LOGICAL: [(&str, &str); 3] = [
    ("user", "postgres"),
    ("database", DB),
    ("replication", "database"),
];

async fn cluster() -> Postgres {
    let settings = [("wal_level", "logical"), ("max_wal_senders", "8")];
    let hba = [
        "local all all trust",
        "host all all 127.0.0.1/32 trust",
        "host replication all 127.0.0.1/32 trust",
    ];
    Postgres::start_with(&settings, &hba).await
}

async fn log_in(proxy: &Proxy, parameters: &[(&str, &str)]) -> Wire {
    let outcome = Wire::login_with(proxy.addr(), parameters, None).await;
    outcome.unwrap_or_else(|error| panic!("refused: {error:?}"))
}

/// A stream of changes that has begun.
async fn stream(proxy: &Proxy, slot: &str) -> Wire {
    let mut wire = log_in(proxy, &LOGICAL).await;
    wire.execute(&format!(
        "CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL test_decoding"
    ))
    .await;
    let start = format!("START_REPLICATION SLOT {slot} LOGICAL 0/0");
    wire.send(&message::query(&start)).await;
    wire.expect(b'W').await;
    wire
}

/// Reads the stream until a change holds this text.
async fn until_change(wire: &mut Wire, text: &str) {
    let seen = async {
        loop {
            let message = wire.read().await;
            assert_eq!(message.tag, b'd', "{message:?}");
            if String::from_utf8_lossy(&message.body).contains(text) {
                return;
            }
        }
    };
    within(&format!("the change {text}"), SOON, seen).await;
}

async fn kind(proxy: &Proxy, database: &str, pid: u32) -> (serde_json::Value, String) {
    let sessions = proxy.sessions(database).await;
    let session = sessions.iter().find(|session| session["pid"] == pid);
    let kind = session.expect("a session")["replication"].clone();
    (kind, proxy.run(&["sessions", database]).await.stdout)
}

#[tokio::test]
async fn a_stream_goes_on_during_a_hold_and_is_in_no_drains_way() {
    let mut postgres = cluster().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut ordinary = proxy.session(DB).await;
    let mut changes = stream(&proxy, "a").await;
    let (pid, _) = changes.key();
    let (json, text) = kind(&proxy, DB, pid).await;
    assert_eq!(json, "logical");
    assert!(text.contains("logical"), "{text}");
    let (json, _) = kind(&proxy, DB, ordinary.key().0).await;
    assert!(json.is_null(), "{json}");

    let drain = proxy.hold_drained(DB, json!({})).await;
    assert_eq!(drain["bypass"], json!([]), "{drain}");
    ordinary
        .send(&message::query("INSERT INTO t VALUES (2)"))
        .await;
    proxy.until_held(DB, 1).await;
    postgres.execute("INSERT INTO t VALUES (1)").await;
    until_change(&mut changes, "INSERT: n[integer]:1").await;
    // One that comes during the hold is served too.
    let mut other = stream(&proxy, "b").await;
    postgres.execute("INSERT INTO t VALUES (3)").await;
    until_change(&mut other, "INSERT: n[integer]:3").await;
    proxy.open(DB).await;
    ordinary.read_until_ready().await;
    until_change(&mut changes, "INSERT: n[integer]:2").await;
}

#[tokio::test]
async fn sql_on_a_replication_connection_that_is_not_held_is_named() {
    let postgres = cluster().await;
    let proxy = Proxy::start(&postgres).await;
    let _known = proxy.session(DB).await;
    let mut wire = log_in(&proxy, &LOGICAL).await;
    let (pid, _) = wire.key();
    wire.execute("BEGIN").await;
    let drain = proxy.hold_drained(DB, json!({"ladder": "force"})).await;
    assert_eq!(drain["bypass"][0]["pid"], pid, "{drain}");
    assert_eq!(drain["terminated"], json!([]), "{drain}");
    assert_eq!(wire.query_one("SELECT 'on'").await, "on");
    wire.execute("COMMIT").await;
}

#[tokio::test]
async fn where_holds_are_for_all_a_replication_command_waits_too() {
    let mut postgres = cluster().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start_set(&postgres, &[("HOLD_REPLICATION", "hold")]).await;
    let mut changes = stream(&proxy, "a").await;
    let mut later = log_in(&proxy, &LOGICAL).await;
    let mut in_transaction = log_in(&proxy, &LOGICAL).await;
    in_transaction.execute("BEGIN").await;
    proxy.hold(DB, json!({})).await;
    proxy.assert_draining(DB).await;
    in_transaction.execute("COMMIT").await;
    proxy.until_drained(DB).await;
    later.send(&message::query("IDENTIFY_SYSTEM")).await;
    proxy.until_held(DB, 1).await;
    // A stream that has begun has no transaction to hold.
    postgres.execute("INSERT INTO t VALUES (1)").await;
    until_change(&mut changes, "INSERT: n[integer]:1").await;
    later.assert_silent().await;
    proxy.open(DB).await;
    let answer: Vec<Message> = later.read_until_ready().await;
    assert!(
        answer.iter().any(|message| message.tag == b'D'),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_log_of_a_cluster_is_no_databases_and_needs_no_listed_one() {
    let postgres = cluster().await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "[databases.shop]\n").expect("writable");
    let path = file.path().display().to_string();
    let proxy = Proxy::start_with(&postgres, &["--config", &path]).await;
    for value in ["true", "on", "YES", "1", "t"] {
        // What libpq names a database then is a word of pg_hba.conf.
        let parameters = [
            ("user", "postgres"),
            ("database", "replication"),
            ("replication", value),
        ];
        let mut wire = log_in(&proxy, &parameters).await;
        assert!(
            !wire.query_one("IDENTIFY_SYSTEM").await.is_empty(),
            "{value}"
        );
        let (json, _) = kind(&proxy, "replication", wire.key().0).await;
        assert_eq!(json, "physical", "{value}");
    }
    for value in ["false", "0", "off"] {
        let parameters = [
            ("user", "postgres"),
            ("database", "replication"),
            ("replication", value),
        ];
        let refused = Wire::login_with(proxy.addr(), &parameters, None)
            .await
            .err();
        assert_eq!(refused.expect("not listed").sqlstate(), "3D000", "{value}");
    }
    // A name that no database has gets no gate.
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"], json!([]), "{status}");
}

#[tokio::test]
async fn streams_end_at_once_when_the_proxy_stops() {
    let mut postgres = cluster().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut changes = stream(&proxy, "a").await;
    // The proxy waits half a minute for transactions; a test waits less.
    assert!(proxy.terminate().await.success());
    let last = changes.read_to_end().await.pop();
    assert_eq!(last.expect("a reason").sqlstate(), "57P01");
    let senders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    until("the sender to end", SOON, async || {
        postgres.count(senders).await == 0
    })
    .await;
}

fn tool(postgres: &Postgres, name: &str) -> Command {
    let mut command = postgres.command(name);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn the_tools_of_postgres_work_during_a_hold() {
    let mut postgres = cluster().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let _known = proxy.session(DB).await;
    proxy.hold_drained("*", json!({})).await;

    // A directory that the tools may write into: they run as the server's user.
    let target = postgres.dir().join("backup");
    let addr = proxy.addr();
    let mut backup = tool(&postgres, "pg_basebackup");
    backup.args([
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-X",
        "stream",
        "-c",
        "fast",
        "-p",
    ]);
    backup.arg(addr.port().to_string()).arg("-D").arg(&target);
    run(backup).await;
    assert!(target.join("PG_VERSION").exists());

    let url = proxy.url(DB);
    let mut create = tool(&postgres, "pg_recvlogical");
    create.args([
        "-d",
        &url,
        "--slot",
        "s",
        "--create-slot",
        "-P",
        "test_decoding",
    ]);
    run(create).await;
    postgres.execute("INSERT INTO t VALUES (7)").await;
    let end = postgres.connect(DB).await;
    let end = end
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await;
    let end: String = end.expect("a position").get(0);
    let mut receive = tool(&postgres, "pg_recvlogical");
    receive.args([
        "-d", &url, "--slot", "s", "--start", "-f", "-", "--endpos", &end,
    ]);
    let changes = run(receive).await;
    assert!(changes.contains("INSERT: n[integer]:7"), "{changes}");
    let mut drop = tool(&postgres, "pg_recvlogical");
    drop.args(["-d", &url, "--slot", "s", "--drop-slot"]);
    run(drop).await;
    proxy.until_mode(DB, "hold").await;
}

/// What a tool printed, which has to succeed.
async fn run(command: Command) -> String {
    let what = format!("{command:?}");
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = within(&what, PATIENCE, output).await.expect("it starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
