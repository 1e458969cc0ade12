//! While two processes serve: what is asked of traffic goes to both, each keeps its own clock.

use std::process::Command;

use pgdrain::cli::demo::cluster::process::Signal;
use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, eventually, until, within};
use crate::support::proxy::{Former, Proxy};
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

/// A proxy that has taken over from another, which still serves a session.
async fn two(postgres: &Postgres) -> (Proxy, Former, Wire) {
    let mut proxy = Proxy::start(postgres).await;
    let old = proxy.session(DB).await;
    let former = proxy.take_over(&[]).await;
    (proxy, former, old)
}

async fn is_held(session: &mut Wire) {
    session.send(&message::query(ONE)).await;
    session.assert_silent().await;
}

async fn is_served(session: &mut Wire) {
    let answer = within("an answer", PATIENCE, session.read_until_ready()).await;
    assert!(
        answer.iter().any(|it| it.body == b"SELECT 1\0"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn both_hold_and_both_open() {
    let postgres = Postgres::start().await;
    let (proxy, _former, mut old) = two(&postgres).await;
    let mut new = proxy.session(DB).await;
    for database in [DB, "*"] {
        proxy.hold_drained(database, json!({"for": "1h"})).await;
        is_held(&mut old).await;
        is_held(&mut new).await;
        proxy.open(database).await;
        is_served(&mut old).await;
        is_served(&mut new).await;
    }
    // Breaking the glass reaches both too.
    proxy.hold(DB, json!({"for": "1h"})).await;
    is_held(&mut old).await;
    is_held(&mut new).await;
    let broken = Command::new("sh")
        .args(["-c", "kill -s USR2 \"$0\"", &proxy.pid().to_string()])
        .status();
    assert!(broken.expect("a shell").success());
    is_served(&mut old).await;
    is_served(&mut new).await;
}

#[tokio::test]
async fn drained_means_that_both_are() {
    let postgres = Postgres::start().await;
    let (proxy, former, mut old) = two(&postgres).await;
    proxy.session(DB).await.execute(ONE).await;
    old.execute("BEGIN; SELECT 1").await;
    let drain = proxy
        .hold_in_vain(
            DB,
            json!({"for": "1h", "ladder": "gentle", "wait": "100ms"}),
        )
        .await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&former.pid().to_string()), "{drain}");
    assert_eq!(drain["in_the_way"][0]["state"], "in_transaction", "{drain}");
    until("both to have reopened", SOON, async || {
        proxy.status(DB).await["mode"] == "open"
    })
    .await;
    old.execute(ONE).await;

    // It ends by itself, and that is waited for.
    proxy.hold(DB, json!({"for": "1h", "wait": "1h"})).await;
    let status = proxy.status(DB).await;
    assert_eq!(
        status["holds"][0]["drain"]["outcome"], "draining",
        "{status}"
    );
    old.execute("COMMIT").await;
    until("both to be drained", SOON, async || {
        proxy.status(DB).await["holds"][0]["drain"]["outcome"] == "drained"
    })
    .await;
    proxy.open(DB).await;
    old.execute(ONE).await;

    // By force.
    old.execute("BEGIN; SELECT 1").await;
    let force = json!({"for": "1h", "ladder": "force", "wait": "50ms", "cancel": "50ms", "terminate": "10s"});
    proxy.hold_drained(DB, force).await;
}

#[tokio::test]
async fn a_former_process_that_cannot_be_asked_leaves_it_unproved() {
    let postgres = Postgres::start().await;
    let (proxy, former, mut old) = two(&postgres).await;
    proxy.session(DB).await.execute(ONE).await;
    old.execute("BEGIN; SELECT 1").await;
    former.signal(Signal::Stop);
    let drain = proxy.hold_in_vain(DB, json!({"for": "1h"})).await;
    assert_eq!(drain["outcome"], "unproved", "{drain}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&former.pid().to_string()), "{drain}");
    former.signal(Signal::Continue);
}

/// Windows and migrations need one process that knows all.
#[tokio::test]
async fn windows_wait_until_the_former_process_has_ended() {
    let postgres = Postgres::start().await;
    let (proxy, mut former, old) = two(&postgres).await;
    let told = format!("process {} still serves 1 sessions", former.pid());
    let migrations = tempfile::tempdir().expect("a directory");
    std::fs::write(migrations.path().join("1_x.up.sql"), "SELECT 1;").expect("a file");
    let dir = migrations.path().display().to_string();
    let refused = proxy.run(&["migrate", "up", DB, "--dir", &dir]).await;
    assert!(
        refused.code != Some(0) && refused.stderr.contains(&told),
        "{refused:?}"
    );
    let window = proxy
        .command(&["window", "exec", DB, "--", "true"])
        .output();
    let window = window.expect("the binary starts");
    let said = String::from_utf8_lossy(&window.stderr);
    assert!(!window.status.success() && said.contains(&told), "{said}");
    drop(old);
    assert!(former.ended().await.success());
}

/// The cancel request comes to the process that accepts; the session is the other's.
#[tokio::test]
async fn a_cancel_request_finds_its_session() {
    let postgres = Postgres::start().await;
    let (proxy, _former, mut old) = two(&postgres).await;
    old.send(&message::query("SELECT pg_sleep(3600)")).await;
    until("the statement to run", SOON, async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        proxy.session(DB).await.query_one(query).await == "1"
    })
    .await;
    Wire::cancel(proxy.addr(), old.key()).await;
    let answer = within("the end of the statement", PATIENCE, old.read_until_ready()).await;
    let error = answer.iter().find(|message| message.tag == b'E');
    assert_eq!(error.expect("an error").sqlstate(), "57014");
}

/// Whoever dies, the other's holds end by its own clock.
#[tokio::test]
async fn each_keeps_its_own_deadline() {
    let postgres = Postgres::start().await;
    let (mut proxy, _former, mut old) = two(&postgres).await;
    proxy.hold(DB, json!({"for": "1s", "then": "open"})).await;
    is_held(&mut old).await;
    proxy.kill();
    is_served(&mut old).await;

    // A fresh start finds the former process, and commands it.
    proxy.launch().await;
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["former"]["sessions"], 1, "{status}");
    proxy.hold(DB, json!({"for": "1h"})).await;
    is_held(&mut old).await;
    proxy.open(DB).await;
    is_served(&mut old).await;
}

/// Holds go over with the rest of their time, and stay where they are too.
#[tokio::test]
async fn a_hold_is_taken_up_and_stays() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut old = proxy.session(DB).await;
    proxy
        .hold_drained(DB, json!({"for": "1h", "by": "anna"}))
        .await;
    is_held(&mut old).await;
    let before = proxy.status(DB).await["holds"][0].clone();
    let mut former = proxy.take_over(&[]).await;
    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "hold", "{status}");
    assert_eq!(status["holds"][0]["by"], before["by"], "{status}");
    let mut new = proxy.session(DB).await;
    is_held(&mut new).await;
    proxy.open(DB).await;
    is_served(&mut old).await;
    is_served(&mut new).await;
    drop(old);
    assert!(former.ended().await.success());
    eventually("the journal to forget", SOON, async || {
        let journal = std::fs::read_to_string(proxy.state_dir().join("journal.json")).ok()?;
        (!journal.contains("anna")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_ladder_and_a_cap_reach_both_and_opening_all_by_force_lifts_the_cap() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let (mut old, mut other) = (proxy.session(DB).await, proxy.session(DB).await);
    let _former = proxy.take_over(&[]).await;
    proxy.session(DB).await.execute(ONE).await;

    old.execute("BEGIN; SELECT 1").await;
    proxy
        .hold(DB, json!({"for": "1h", "ladder": "gentle", "wait": "1h"}))
        .await;
    let firm = json!({"ladder": "firm", "wait": "10ms", "cancel": "10ms", "abort": "10s"});
    let path = format!("/v1/databases/{DB}/drain");
    proxy.admin().put(&path, firm).await.expect(200);
    until("the transaction there to be aborted", SOON, async || {
        proxy.status(DB).await["holds"][0]["drain"]["outcome"] == "drained"
    })
    .await;
    proxy.open(DB).await;
    let answer = old.query("ROLLBACK").await;
    assert!(
        answer.iter().any(|it| it.body == b"ROLLBACK\0"),
        "{answer:?}"
    );

    old.execute("BEGIN; SELECT 1").await;
    let path = format!("/v1/databases/{DB}/cap");
    let cap = json!({"transactions": "1", "for": "1h"});
    proxy.admin().put(&path, cap).await.expect(200);
    is_held(&mut other).await;
    let force = json!({"mode": "open", "force": true});
    let path = "/v1/databases/*/mode";
    proxy.admin().put(path, force).await.expect(202);
    is_served(&mut other).await;
    assert!(proxy.status(DB).await["cap"].is_null());
    old.execute("COMMIT").await;
}
