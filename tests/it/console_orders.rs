//! The console acts on one session, one window and one migration, and shows them closely.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::shop::Shop;
use crate::support::wire::Wire;

/// The values of a row by the names of its columns.
type Row = std::collections::BTreeMap<String, Option<String>>;

/// A table with its names.
fn table(answer: &[Message]) -> Vec<Row> {
    let head = answer.iter().find(|it| it.tag == b'T').expect("a table");
    let mut rest = &head.body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    let rows = answer.iter().filter(|it| it.tag == b'D');
    rows.map(|row| names.iter().cloned().zip(row.columns()).collect())
        .collect()
}

async fn show(console: &mut Wire, what: &str) -> Vec<Row> {
    table(&console.query(&format!("SHOW {what}")).await)
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_deref().unwrap_or("")
}

/// What is said besides: the text of every notice.
fn notices(answer: &[Message]) -> String {
    let notices = answer.iter().filter(|it| it.tag == b'N');
    let texts: Vec<String> = notices.filter_map(|it| it.field(b'M')).collect();
    texts.join("\n")
}

fn error(answer: &[Message]) -> String {
    let error = answer.iter().find(|it| it.tag == b'E');
    error.map(Message::sqlstate).unwrap_or_default()
}

/// The id of a session, as two tables show it.
async fn id(console: &mut Wire, session: &Wire) -> String {
    let pid = session.key().0.to_string();
    let sessions = show(console, "SESSIONS").await;
    let own = sessions.iter().find(|row| text(row, "pid") == pid);
    let id = text(own.expect("it is listed"), "id").to_owned();
    let clients = show(console, "CLIENTS").await;
    assert!(
        clients.iter().any(|row| text(row, "id") == id),
        "{clients:?}"
    );
    id
}

/// The newest event of a kind.
async fn event(proxy: &Proxy, kind: &str) -> Value {
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("events").clone();
    let mut newest = events.into_iter().rev();
    let found = newest.find(|event| event["kind"] == kind);
    found.unwrap_or_else(|| panic!("an event {kind}"))
}

fn assert_is_the_visitors(event: &Value) {
    assert_eq!(event["by"], "postgres", "{event}");
    let from = event["from"].as_str().unwrap_or_default();
    assert!(from.starts_with("console 127.0.0.1:"), "{event}");
}

#[tokio::test]
async fn one_session_is_cancelled_aborted_and_terminated_also_in_a_hold() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut console = proxy.session("pgdrain").await;
    let mut idle = proxy.session(DB).await;
    idle.execute("BEGIN").await;
    let mut busy = proxy.session(DB).await;
    busy.send(&message::query("SELECT pg_sleep(600)")).await;
    proxy.hold(DB, json!({"for": "1h"})).await;
    let mut held = proxy.session(DB).await;
    held.send(&message::query("SELECT 1")).await;
    proxy.until_held(DB, 1).await;

    let number = id(&mut console, &idle).await;
    let answer = console
        .query(&format!("ABORT SESSION {number} REASON 'in the way'"))
        .await;
    assert!(notices(&answer).contains("40001"), "{answer:?}");
    assert_eq!(error(&idle.query("SELECT 1").await), "40001");
    let told = event(&proxy, "session").await;
    assert_is_the_visitors(&told);
    assert_eq!(told["reason"], "in the way", "{told}");

    let number = id(&mut console, &busy).await;
    let answer = console.query(&format!("CANCEL SESSION {number}")).await;
    assert!(notices(&answer).contains("cancelled"), "{answer:?}");
    assert_eq!(error(&busy.read_until_ready().await), "57014");
    let number = id(&mut console, &held).await;
    console.execute(&format!("CANCEL SESSION {number}")).await;
    assert_eq!(error(&held.read_until_ready().await), "57014");

    for (word, session) in [("TERMINATE SESSION", idle), ("KILL_CLIENT", held)] {
        let number = id(&mut console, &session).await;
        let answer = console.query(&format!("{word} {number}")).await;
        let done = answer.iter().find(|it| it.tag == b'C').expect(word);
        assert_eq!(done.body, format!("{word}\0").as_bytes());
        let mut session = session;
        assert_eq!(error(&session.read_to_end().await), "57P01", "{word}");
        // It has gone: who asks again is told.
        until("its end", SOON, async || {
            let again = console.query(&format!("{word} {number}")).await;
            error(&again) == "42704"
        })
        .await;
    }
    let nothing = id(&mut console, &busy).await;
    let answer = console.query(&format!("ABORT SESSION {nothing}")).await;
    assert_eq!(error(&answer), "55000", "{answer:?}");
}

#[tokio::test]
async fn holds_ladders_and_caps_are_told_with_who_and_from_where() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut inside = proxy.session(DB).await;
    inside.execute("BEGIN").await;
    let mut console = proxy.session("pgdrain").await;
    console.execute("CAP postgres 7 FOR 1m").await;
    assert_is_the_visitors(&event(&proxy, "cap").await);
    console.execute("HOLD postgres NOWAIT").await;
    assert_is_the_visitors(&event(&proxy, "hold").await);
    proxy.assert_draining(DB).await;
    console.execute("DRAIN postgres LADDER gentle").await;
    assert_is_the_visitors(&event(&proxy, "drain").await);
    console.execute("OPEN postgres").await;
    assert_is_the_visitors(&event(&proxy, "open").await);
}

#[tokio::test]
async fn windows_are_renewed_finished_and_given_up() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut console = proxy.session("pgdrain").await;
    let window = proxy.exclusive(DB, json!({"reason": "by hand"})).await;
    let renewed = console.query(&format!("RENEW WINDOW {}", window.id)).await;
    assert!(notices(&renewed).contains("exclusive"), "{renewed:?}");
    // What is shown is enough to name it, whatever else is held.
    let windows = show(&mut console, "WINDOWS postgres").await;
    assert_eq!(text(&windows[0], "id"), window.id);
    console
        .execute(&format!("FINISH WINDOW {}", window.id))
        .await;
    proxy.until_window(&window, "closed").await;
    proxy.until_mode(DB, "open").await;
    let over = console.query(&format!("RENEW WINDOW {}", window.id)).await;
    assert_eq!(error(&over), "55000", "{over:?}");

    let window = proxy.exclusive(DB, json!({})).await;
    console
        .execute(&format!("ABORT WINDOW {} THEN stay", window.id))
        .await;
    proxy.until_window(&window, "closed").await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("events").clone();
    let of_windows = events.iter().filter(|event| event["kind"] == "window");
    let mut aborted = of_windows.filter(|event| event["by"] == "postgres");
    let aborted = aborted.next_back().expect("who gave it up");
    assert_is_the_visitors(aborted);
    console.execute("OPEN postgres FORCE").await;
    proxy.until_mode(DB, "open").await;
    let none = console.query("FINISH WINDOW w999").await;
    assert_eq!(error(&none), "42704", "{none:?}");
}

#[tokio::test]
async fn what_sessions_run_and_wait_for_is_shown() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut console = proxy.session("pgdrain").await;
    let mut holder = proxy.session(DB).await;
    assert!(show(&mut console, "RUNNING postgres").await.is_empty());
    holder.execute("BEGIN").await;
    holder.execute("LOCK TABLE t").await;
    let mut waiter = proxy.session(DB).await;
    waiter.send(&message::query("SELECT n FROM t")).await;
    let (first, second) = (holder.key().0.to_string(), waiter.key().0.to_string());
    let rows = eventually("somebody who waits for the lock", SOON, async || {
        let rows = show(&mut console, "RUNNING postgres").await;
        let waits = rows.iter().any(|row| !text(row, "waits_for").is_empty());
        waits.then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = |pid: &str| rows.iter().find(|row| text(row, "pid") == pid).expect(pid);
    assert_eq!(text(row(&first), "runs"), "no");
    assert_eq!(text(row(&first), "statement"), "LOCK TABLE t");
    assert_eq!(text(row(&second), "runs"), "yes");
    assert_eq!(text(row(&second), "waits_for"), "Lock: relation");
    assert_eq!(text(row(&second), "blocked_by"), first);
    assert_eq!(text(row(&second), "statement"), "SELECT n FROM t");
    // The command line shows the same.
    let shown = proxy.run(&["sessions", DB, "--running"]).await;
    for part in ["LOCK TABLE t", "SELECT n FROM t", "Lock: relation", &first] {
        assert!(shown.stdout.contains(part), "{part} in {shown:?}");
    }
    let all: Value = serde_json::from_str(
        &proxy
            .run(&["sessions", DB, "--running", "--json"])
            .await
            .stdout,
    )
    .expect("JSON");
    assert_eq!(all["sessions"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["statements"].as_array().map(Vec::len), Some(2), "{all}");
    holder.execute("COMMIT").await;
}

#[tokio::test]
async fn statements_and_the_last_minutes_are_shown() {
    let postgres = Postgres::start().await;
    let settings = [("MIGRATE_MEASURES_ONE_IN", "1")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut client = proxy.session(DB).await;
    let mut console = proxy.session("pgdrain").await;
    assert!(show(&mut console, "STATEMENTS postgres").await.is_empty());
    console.execute("MEASURE postgres FOR 1m").await;
    until("something to be measured", SOON, async || {
        client.execute("SELECT 41 + 1").await;
        show(&mut console, "STATEMENTS postgres").await.len() > 1
    })
    .await;
    let rows = show(&mut console, "STATEMENTS postgres").await;
    assert_eq!(text(&rows[0], "statement"), "(all)");
    assert!(
        rows.iter().any(|row| text(row, "statement").contains("+")),
        "{rows:?}"
    );
    let off = console.query("MEASURE postgres OFF").await;
    assert!(notices(&off).contains("not measured"), "{off:?}");
    let pace = eventually("a look", SOON, async || {
        let rows = show(&mut console, "PACE postgres").await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(text(pace.last().expect("a row"), "waiting"), "0");
    let unknown = console.query("SHOW PACE nobody").await;
    assert_eq!(error(&unknown), "42704", "{unknown:?}");
}

#[tokio::test]
async fn a_migration_is_followed_and_cancelled() {
    let shop = Shop::open().await;
    shop.write("1_a.up.sql", "create table a ();\nselect pg_sleep(600);");
    let running = shop.begin(&["up"]);
    let mut console = shop.proxy.session("pgdrain").await;
    let id = eventually("the migration to sleep", SOON, async || {
        let runs = show(&mut console, "MIGRATIONS postgres").await;
        let run = runs.iter().find(|row| text(row, "state") == "applying")?;
        let id = text(run, "id").to_owned();
        let steps = show(&mut console, &format!("MIGRATION {id}")).await;
        let begun = |row: &Row| text(row, "kind") == "file_started";
        steps.iter().any(begun).then_some(id)
    })
    .await;
    let acknowledged = console.query(&format!("ACKNOWLEDGE MIGRATION {id}")).await;
    assert!(
        notices(&acknowledged).contains("postgres"),
        "{acknowledged:?}"
    );
    let cancelled = console.query(&format!("CANCEL MIGRATION {id}")).await;
    assert!(
        notices(&cancelled).contains("asked to stop"),
        "{cancelled:?}"
    );
    assert_eq!(running.ended().await.code, Some(2));
    let again = console.query(&format!("CANCEL MIGRATION {id}")).await;
    assert_eq!(error(&again), "55000", "{again:?}");
    let none = console.query("SHOW MIGRATION nothing").await;
    assert_eq!(error(&none), "42704", "{none:?}");
    // What only those may do who may speak for others is refused here: there is no such plan.
    let approved = console.query("APPROVE postgres PLAN feed AS dba").await;
    assert_ne!(error(&approved), "", "{approved:?}");
    assert!(show(&mut console, "APPROVALS postgres").await.is_empty());
}
