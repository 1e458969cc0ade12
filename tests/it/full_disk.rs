//! A full disk closes nothing, and keeps nothing closed. `/dev/full` says what a full disk says.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::Proxy;

const ONE: &str = "SELECT 1";

/// What is written of this file from now on meets a full disk.
fn fill(proxy: &Proxy, file: &str) {
    let path = proxy.state_dir().join(file);
    drop(fs::remove_file(&path));
    symlink("/dev/full", path).expect("a link in a directory of ours");
}

fn break_glass(proxy: &Proxy) {
    let kill = Command::new("sh")
        .args(["-c", "kill -s USR2 \"$0\"", &proxy.pid().to_string()])
        .status();
    assert!(kill.expect("a shell").success());
}

#[tokio::test]
async fn holds_and_windows_are_refused_and_traffic_flows() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    fill(&proxy, "journal.json.new");
    let mut session = proxy.session(DB).await;
    session.execute(ONE).await;
    for database in [DB, "*"] {
        let path = format!("/v1/databases/{database}/mode");
        let hold = json!({"mode": "hold", "for": "1h"});
        let refused = proxy.admin().put(&path, hold).await.expect(503);
        let message = refused["error"]["message"].to_string();
        assert!(message.contains("No space left"), "{message}");
        session.execute(ONE).await;
    }
    let window = proxy.run(&["window", "exec", DB, "--", "true"]).await;
    assert_ne!(window.code, Some(0), "{window:?}");
    assert!(window.stderr.contains("No space left"), "{window:?}");
    session.execute(ONE).await;
    proxy.session(DB).await.execute(ONE).await;

    // With room again, all is as ever.
    fs::remove_file(proxy.state_dir().join("journal.json.new")).expect("the link");
    proxy.hold_drained(DB, json!({"for": "1h"})).await;
    proxy.open(DB).await;
    session.execute(ONE).await;
}

#[tokio::test]
async fn what_is_held_can_be_opened() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    for by_signal in [false, true] {
        drop(fs::remove_file(proxy.state_dir().join("journal.json.new")));
        proxy
            .hold_drained(DB, json!({"for": "1h", "then": "stay"}))
            .await;
        let mut session = proxy.session(DB).await;
        session.send(&message::query(ONE)).await;
        proxy.until_held(DB, 1).await;
        fill(&proxy, "journal.json.new");
        if by_signal {
            break_glass(&proxy);
        } else {
            proxy.open(DB).await;
        }
        within("the held statement", PATIENCE, session.read_until_ready()).await;
        session.execute(ONE).await;
    }
}
