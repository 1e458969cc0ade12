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

/// From now on no file of the process may become longer; `None` takes that back.
fn limit_files(proxy: &Proxy, bytes: Option<u64>) {
    let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", proxy.pid()))
        .arg(format!("--fsize={soft}:"))
        .status();
    assert!(limited.expect("util-linux").success());
}

fn complaints(proxy: &Proxy) -> usize {
    proxy.log().matches("events are not written down").count()
}

/// Traffic and commands go on when the file of events can take no more; that is said once, and with room
/// again it goes on behind what is there.
#[tokio::test]
async fn what_cannot_be_written_down_happens_all_the_same() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let file = proxy.state_dir().join("audit.jsonl");
    let hold_and_open = async |reason: &str| {
        let spec = json!({"for": "1h", "reason": reason});
        proxy.hold_drained(DB, spec).await;
        proxy.open(DB).await;
        proxy.session(DB).await.execute(ONE).await;
    };
    hold_and_open("before").await;
    // Longer than the journal and the log get, which are to be written all the while.
    let padding = json!({"padding": "x".repeat(1 << 20)});
    let mut before = fs::read(&file).expect("a file of events");
    before.extend(format!("{padding}\n").bytes());
    fs::write(&file, &before).expect("room");

    // A file that is as long as one may be.
    limit_files(&proxy, Some(before.len() as u64));
    hold_and_open("too large").await;
    hold_and_open("too large").await;
    assert_eq!(complaints(&proxy), 1, "{}", proxy.log());
    assert_eq!(fs::read(&file).expect("the same"), before);
    // Watchers are told in any case.
    let events = proxy.admin().get("/v1/events").await.expect(200);
    assert!(events.to_string().contains("too large"), "{events}");

    // A full disk says another word for the same.
    fill(&proxy, "audit.jsonl");
    limit_files(&proxy, None);
    hold_and_open("no space").await;
    assert_eq!(complaints(&proxy), 1, "{}", proxy.log());

    fs::remove_file(&file).expect("the link");
    fs::write(&file, &before).expect("room");
    hold_and_open("room").await;
    let after = fs::read_to_string(&file).expect("a file of events");
    let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert!(after.lines().all(whole), "a torn line");
    assert!(after.contains("\"before\"") && after.contains("\"room\""));
    assert_eq!(complaints(&proxy), 1, "{}", proxy.log());
    // The next time it is said anew.
    limit_files(&proxy, Some(after.len() as u64));
    hold_and_open("too large").await;
    assert_eq!(complaints(&proxy), 2, "{}", proxy.log());
}
