//! SIGTERM ends sessions between transactions and says so; SIGHUP takes over a changed
//! configuration, or none of it.

use std::fs;
use std::path::Path;

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// The last words to a session: one error, then the end.
async fn assert_ended(session: &mut Wire, detail: &str) {
    let last = session.read_to_end().await;
    assert_eq!(last.len(), 1, "{last:?}");
    assert_eq!(last[0].sqlstate(), "57P01", "{last:?}");
    let said = last[0].field(b'D').unwrap_or_default();
    assert!(said.contains(detail), "{last:?}");
}

#[tokio::test]
async fn sigterm_ends_idle_sessions_and_leaves_nothing_behind() {
    let mut postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let (mut fresh, mut used) = (proxy.session(DB).await, proxy.session(DB).await);
    used.execute("SELECT 1").await;
    let endpoints = proxy.state_dir().join("endpoints.json");
    assert!(endpoints.exists());
    proxy.signal(Signal::Terminate);
    assert_ended(&mut fresh, "").await;
    assert_ended(&mut used, "").await;
    drop((fresh, used));
    let status = proxy.ended().await;
    assert!(status.success(), "{status}");
    assert!(!endpoints.exists());
    let ours = "SELECT count(*) FROM pg_stat_activity \
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    until("the end of every connection", SOON, async || {
        postgres.count(ours).await == 0
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_a_transaction_come_to_its_end() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let (mut busy, mut idle) = (proxy.session(DB).await, proxy.session(DB).await);
    busy.execute("BEGIN").await;
    busy.execute("INSERT INTO t VALUES (1)").await;
    let addr = proxy.addr();
    proxy.signal(Signal::Terminate);
    // By now the busy one was told to stop too.
    assert_ended(&mut idle, "").await;
    busy.execute("INSERT INTO t VALUES (2)").await;
    until("new clients to be turned away", SOON, async || {
        tokio::net::TcpStream::connect(addr).await.is_err()
    })
    .await;
    let answer = busy.query("COMMIT").await;
    assert_eq!(answer[0].body, b"COMMIT\0", "{answer:?}");
    assert_ended(&mut busy, "").await;
    drop((busy, idle));
    assert!(proxy.ended().await.success());
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn sigterm_tells_held_clients_that_nothing_was_executed() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let hold = json!({"for": "1h", "then": "stay"});
    proxy.hold_drained(DB, hold).await;
    session
        .send(&message::query("INSERT INTO t VALUES (1)"))
        .await;
    proxy.until_held(DB, 1).await;
    proxy.signal(Signal::Terminate);
    assert_ended(&mut session, "not executed").await;
    drop(session);
    assert!(proxy.ended().await.success());
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);

    // A stop is no opening.
    proxy.launch().await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");
}

/// Writes a configuration file as a whole.
fn configure(path: &Path, text: &str) {
    fs::write(path, text).expect("room on the disk");
}

/// Sends SIGHUP and waits until the log says so once more.
async fn reload(proxy: &Proxy, said: &str) {
    let before = proxy.log().matches(said).count();
    proxy.signal(Signal::Hangup);
    until("the reload to be logged", SOON, async || {
        proxy.log().matches(said).count() > before
    })
    .await;
}

#[tokio::test]
async fn sighup_takes_over_hold_defaults_and_the_log_level() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pgdrain.toml");
    configure(&file, "[hold]\nthen = \"open\"\n");
    let path = file.display().to_string();
    let proxy = Proxy::start_with(&postgres, &["--config", &path]).await;
    let mut session = proxy.session(DB).await;
    proxy.hold_drained(DB, json!({})).await;
    let hold = proxy.status(DB).await["holds"][0].clone();
    assert_eq!(
        (&hold["then"], &hold["blocked"]),
        (&json!("open"), &json!("queue"))
    );
    assert!(!proxy.log().contains("DEBUG"));

    let changed = "[hold]\nthen = \"stay\"\nblocked = \"reject\"\n[log]\nlevel = \"debug\"\n";
    configure(&file, changed);
    reload(&proxy, "configuration reloaded").await;
    let log = proxy.log();
    for key in ["hold.then", "hold.blocked", "log.level"] {
        assert!(log.contains(key), "{key}");
    }
    // The hold that is there keeps what it was given; the next one begins with the new.
    assert_eq!(proxy.status(DB).await["holds"][0]["then"], "open");
    proxy.hold_drained(DB, json!({})).await;
    let hold = proxy.status(DB).await["holds"][0].clone();
    assert_eq!(
        (&hold["then"], &hold["blocked"]),
        (&json!("stay"), &json!("reject"))
    );
    assert_eq!(session.query("SELECT 1").await[0].sqlstate(), "55P03");

    // Less is logged as soon as the level says so: not even the reload itself.
    configure(
        &file,
        "listen = [\"127.0.0.1:1\"]\n[log]\nlevel = \"error\"\n",
    );
    proxy.signal(Signal::Hangup);
    until("the defaults to be back", SOON, async || {
        proxy.hold(DB, json!({})).await;
        proxy.status(DB).await["holds"][0]["then"] == "open"
    })
    .await;
    let quiet = proxy.log();
    proxy.open(DB).await;
    session.execute("SELECT 1").await;
    assert_eq!(proxy.log(), quiet);
}

#[tokio::test]
async fn sighup_with_a_bad_file_changes_nothing_and_says_so() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pgdrain.toml");
    configure(&file, "[hold]\nthen = \"stay\"\n");
    let path = file.display().to_string();
    let proxy = Proxy::start_with(&postgres, &["--config", &path]).await;
    let mut session = proxy.session(DB).await;
    let bad = [
        "[hold]\nthen = \"open\"\nblocked = \"perhaps\"\n",
        "[hold]\nthen = \"open\"\nno_such_key = 1\n",
        "[hold\n",
    ];
    for text in bad {
        configure(&file, text);
        reload(&proxy, "the configuration was not reloaded").await;
        proxy.hold_drained(DB, json!({})).await;
        assert_eq!(proxy.status(DB).await["holds"][0]["then"], "stay", "{text}");
        proxy.open(DB).await;
    }
    assert!(proxy.log().contains("no_such_key"));
    fs::remove_file(&file).expect("it was there");
    reload(&proxy, "the configuration was not reloaded").await;
    session.execute("SELECT 1").await;

    configure(&file, "[hold]\nthen = \"open\"\n");
    reload(&proxy, "configuration reloaded").await;
    proxy.hold_drained(DB, json!({})).await;
    assert_eq!(proxy.status(DB).await["holds"][0]["then"], "open");
}
