//! What was held is held after a crash, for the rest of its time; a broken disk closes nothing and
//! keeps nothing closed.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::{Proxy, Ran, pgdrain};
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

/// A session whose first statement is held.
async fn held(proxy: &Proxy, database: &str) -> Wire {
    let mut session = proxy.session(database).await;
    session.send(&message::query(ONE)).await;
    proxy.until_held(database, 1).await;
    session.assert_silent().await;
    session
}

async fn assert_served(mut session: Wire) {
    let answer = session.read_until_ready().await;
    assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
}

/// The moment that a status names.
fn moment(value: &Value) -> jiff::Timestamp {
    let text = value.as_str().expect("a time");
    text.parse().expect("RFC 3339")
}

/// Another `serve` on the state directory of `proxy`, which has to give up.
async fn second_serve(proxy: &Proxy) -> Ran {
    let mut serve = pgdrain();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--upstream", "postgres://postgres@127.0.0.1:1"])
        .arg("--state-dir")
        .arg(proxy.state_dir());
    let output = tokio::process::Command::from(serve)
        .kill_on_drop(true)
        .output();
    let output = within("the second proxy to end", PATIENCE, output).await;
    let output = output.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The new journal cannot be written: a directory is in its place.
fn break_journal(proxy: &Proxy) {
    fs::create_dir(proxy.state_dir().join("journal.json.new")).expect("a directory");
}

/// Waits until the journal names no hold.
async fn until_forgotten(proxy: &Proxy) {
    until("the journal to forget what was opened", SOON, async || {
        let journal = fs::read_to_string(proxy.state_dir().join("journal.json"));
        let journal: Value = serde_json::from_str(&journal.expect("a journal")).expect("JSON");
        journal["everywhere"].is_null() && journal["databases"] == json!({})
    })
    .await;
}

/// A hold that ended by itself is no more in the journal either: a clock that goes back would
/// bring it back.
#[tokio::test]
async fn a_hold_that_ended_by_itself_is_forgotten() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold("*", json!({"for": "50ms"})).await;
    proxy.hold(DB, json!({"for": "50ms"})).await;
    until_forgotten(&proxy).await;
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn a_hold_goes_on_after_a_crash_for_the_rest_of_its_time() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let hold = json!({
        "for": "1h", "then": "stay", "blocked": "queue", "by": "anna", "reason": "new column"
    });
    proxy.hold_drained(DB, hold).await;
    let before = proxy.status(DB).await["holds"][0].clone();
    // Twice: the rest of its time is counted from its true beginning.
    for _ in 0..2 {
        proxy.launch().await;
        let status = proxy.status(DB).await;
        assert_eq!(status["mode"], "hold", "{status}");
        let after = &status["holds"][0];
        for same in ["holder", "then", "blocked", "by", "reason", "overdue"] {
            assert_eq!(after[same], before[same], "{same}");
        }
        let moved = moment(&after["until"]).duration_since(moment(&before["until"]));
        assert!(
            moved.abs() < jiff::SignedDuration::from_secs(10),
            "{moved:?}"
        );
        let session = held(&proxy, DB).await;
        drop(session);
        proxy.until_held(DB, 0).await;
    }
    let session = held(&proxy, DB).await;
    proxy.open(DB).await;
    assert_served(session).await;

    // What was opened is open after a crash too.
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
    assert_ne!(proxy.status(DB).await["mode"], "hold");
}

#[tokio::test]
async fn a_hold_whose_time_passed_meanwhile_is_over_or_overdue_as_it_was_told() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold(DB, json!({"for": "3s"})).await;
    let stay = json!({"for": "3s", "then": "stay"});
    proxy.hold("template1", stay).await;
    let end = moment(&proxy.status("template1").await["holds"][0]["until"]);
    proxy.kill();
    until("the end of both holds", SOON, async || {
        jiff::Timestamp::now() > end
    })
    .await;
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
    assert_eq!(proxy.status(DB).await["mode"], "open");

    let session = held(&proxy, "template1").await;
    until("the hold to be overdue", SOON, async || {
        proxy.status("template1").await["holds"][0]["overdue"] == true
    })
    .await;
    proxy.open("template1").await;
    assert_served(session).await;
}

#[tokio::test]
async fn a_hold_on_everything_is_there_again_before_any_client() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold("*", json!({"for": "1h"})).await;
    proxy.launch().await;
    let sessions = [held(&proxy, DB).await, held(&proxy, "template1").await];
    assert_eq!(proxy.status(DB).await["holds"][0]["holder"], "everywhere");
    proxy.open("*").await;
    for session in sessions {
        assert_served(session).await;
    }
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_refuses_holds_and_leaves_traffic_alone() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    break_journal(&proxy);
    for database in [DB, "*"] {
        let path = format!("/v1/databases/{database}/mode");
        let refused = proxy.admin().put(&path, json!({"mode": "hold"})).await;
        let refused = refused.expect(503);
        assert_eq!(refused["error"]["code"], "journal_failed");
        let message = refused["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("journal.json.new"), "{message}");
        let ran = proxy.run(&["hold", database]).await;
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(ran.stderr.contains("journal.json.new"), "{ran:?}");
        session.execute(ONE).await;
    }
    assert_eq!(proxy.status(DB).await["holds"], json!([]));
    fs::remove_dir(proxy.state_dir().join("journal.json.new")).expect("it was empty");
    proxy.hold_drained(DB, json!({})).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_keeps_nothing_closed() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let state_dir = proxy.state_dir().display().to_string();
    for way in ["open", "open by force", "signal"] {
        proxy.hold(DB, json!({"for": "1h", "then": "stay"})).await;
        proxy.hold("*", json!({"for": "1h", "then": "stay"})).await;
        let session = held(&proxy, DB).await;
        break_journal(&proxy);
        match way {
            "open" => assert_eq!(proxy.run(&["open", "*"]).await.code, Some(0)),
            "open by force" => {
                let ran = proxy.run(&["open", "*", "--force"]).await;
                assert_eq!(ran.code, Some(0), "{ran:?}");
            }
            _ => {
                // Nobody answers at this address: the process itself is told.
                let open = ["open", "*", "--force", "--state-dir", &state_dir];
                let nobody = ["--admin", "http://127.0.0.1:1"];
                let ran = proxy.run(&[&open[..], &nobody[..]].concat()).await;
                assert_eq!(ran.code, Some(0), "{ran:?}");
            }
        }
        assert_served(session).await;
        proxy.until_mode(DB, "open").await;
        proxy.session("template1").await.execute(ONE).await;
        fs::remove_dir(proxy.state_dir().join("journal.json.new")).expect("it was empty");
    }
    // A disk that works again is told, so that a crash brings nothing back.
    until_forgotten(&proxy).await;
    assert!(
        proxy
            .log()
            .contains("the journal still names a hold that has ended")
    );

    // The signal alone, sent by hand.
    proxy.hold(DB, json!({})).await;
    let session = held(&proxy, DB).await;
    let kill = Command::new("sh")
        .args(["-c", "kill -s USR2 \"$0\"", &proxy.pid().to_string()])
        .status();
    assert!(kill.expect("a shell").success());
    assert_served(session).await;
    until_forgotten(&proxy).await;
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn a_second_proxy_on_the_same_state_directory_ends_and_says_why() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold(DB, json!({})).await;
    let ran = second_serve(&proxy).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("is in use by another pgdrain"),
        "{ran:?}"
    );
    let directory = proxy.state_dir().display().to_string();
    assert!(ran.stderr.contains(&directory), "{ran:?}");
    // The first one is untouched, and still found.
    proxy.until_mode(DB, "hold").await;
    let endpoints = fs::read_to_string(proxy.state_dir().join("endpoints.json"));
    let endpoints: Value = serde_json::from_str(&endpoints.expect("a file")).expect("JSON");
    assert_eq!(endpoints["pid"], proxy.pid());
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_nothing_is_served() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold(DB, json!({})).await;
    proxy.kill();
    let path = proxy.state_dir().join("journal.json");
    let whole = fs::read(&path).expect("a journal");
    let half = whole[..whole.len() / 2].to_vec();
    let newer = br#"{"format": 99, "everywhere": null, "databases": {}, "windows": {}}"#;
    for damaged in [half, b"".to_vec(), b"\0\0\0\0".to_vec(), newer.to_vec()] {
        fs::write(&path, &damaged).expect("room on the disk");
        let ran = second_serve(&proxy).await;
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(ran.stderr.contains(&path.display().to_string()), "{ran:?}");
        // It is left as it was, for a person to look at.
        assert_eq!(fs::read(&path).expect("still there"), damaged);
    }
    fs::write(&path, whole).expect("room on the disk");
    proxy.launch().await;
    proxy.until_mode(DB, "hold").await;
}

#[tokio::test]
async fn after_a_restart_holds_go_on_stay_or_are_over_as_configured() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold(DB, json!({"for": "1h"})).await;
    proxy.kill();
    proxy.set("PGDRAIN_AFTER_RESTART", "hold");
    proxy.launch().await;
    let hold = proxy.status(DB).await["holds"][0].clone();
    assert_eq!(
        (&hold["then"], &hold["overdue"]),
        (&json!("stay"), &json!(false))
    );

    proxy.kill();
    proxy.set("PGDRAIN_AFTER_RESTART", "open");
    proxy.launch().await;
    proxy.session(DB).await.execute(ONE).await;
    until_forgotten(&proxy).await;
}
