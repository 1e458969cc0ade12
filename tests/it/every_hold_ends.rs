//! Every hold ends: by its own time, by a command, or because its drain came to nothing.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What a held client has sent.
const ONE: &str = "SELECT 1";

/// A session with a statement at the closed gate of its database.
async fn held(proxy: &Proxy, database: &str) -> Wire {
    let mut session = proxy.session(database).await;
    session.send(&message::query(ONE)).await;
    proxy.until_held(database, 1).await;
    session
}

/// The statement of [`held`] was executed.
async fn assert_served(session: &mut Wire) {
    let answer = session.read_until_ready().await;
    assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
}

/// The moment that a status names.
fn moment(value: &Value) -> jiff::Timestamp {
    let text = value.as_str().expect("a time");
    text.parse().expect("RFC 3339")
}

#[tokio::test]
async fn a_hold_that_opens_serves_the_held_at_its_end() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let drain = proxy.hold_drained(DB, json!({"for": "3s"})).await;
    let mut session = held(&proxy, DB).await;
    assert_served(&mut session).await;
    let served_at = jiff::Timestamp::now();
    let least = jiff::SignedDuration::from_secs(3);
    assert!(served_at.duration_since(moment(&drain["held_at"])) >= least);
    let status = proxy.status(DB).await;
    assert_eq!(
        (&status["mode"], &status["holds"]),
        (&json!("open"), &json!([]))
    );
}

#[tokio::test]
async fn a_hold_that_stays_is_overdue_and_holds_until_it_is_opened() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let hold = json!({"for": "3s", "then": "stay"});
    proxy.hold_drained(DB, hold).await;
    let first = proxy.status(DB).await["holds"][0].clone();
    assert_eq!(
        (&first["overdue"], &first["then"]),
        (&json!(false), &json!("stay"))
    );
    assert!(first["until"].is_string(), "{first}");
    let mut session = held(&proxy, DB).await;
    until("the hold to be overdue", SOON, async || {
        proxy.status(DB).await["holds"][0]["overdue"] == true
    })
    .await;
    let status = proxy.status(DB).await;
    assert_eq!(
        (&status["mode"], &status["held"]),
        (&json!("hold"), &json!(1))
    );
    assert_eq!(status["holds"][0]["until"], Value::Null);
    session.assert_silent().await;
    assert!(
        proxy.log().contains("past its end"),
        "it is said in the log"
    );

    proxy.open(DB).await;
    assert_served(&mut session).await;
}

#[tokio::test]
async fn a_renewed_hold_outlives_the_first_ones_timer() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold_drained(DB, json!({"for": "3s"})).await;
    let first = proxy.status(DB).await["holds"][0].clone();
    proxy.hold_drained(DB, json!({"for": "5m"})).await;
    let mut session = held(&proxy, DB).await;
    // Another hold of the same length, begun later, comes to its end: so did the first one's timer.
    proxy.session("template1").await;
    proxy.hold("template1", json!({"for": "3s"})).await;
    proxy.until_mode("template1", "open").await;
    assert!(jiff::Timestamp::now() > moment(&first["until"]));

    let status = proxy.status(DB).await;
    assert_eq!(
        (&status["mode"], &status["held"]),
        (&json!("hold"), &json!(1))
    );
    assert!(status["holds"][0]["generation"].as_u64() > first["generation"].as_u64());
    session.assert_silent().await;
    proxy.open(DB).await;
    assert_served(&mut session).await;
}

#[tokio::test]
async fn a_hold_on_everything_covers_databases_seen_later_and_is_opened_as_one() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold("*", json!({"for": "5m"})).await;
    // Also one that nobody has connected to yet is not opened alone.
    for _ in 0..2 {
        let path = format!("/v1/databases/{DB}/mode");
        let refused = proxy.admin().put(&path, json!({"mode": "open"})).await;
        let refused = refused.expect(409);
        assert_eq!(refused["error"]["code"], "held", "{refused}");
        let ran = proxy.run(&["open", DB]).await;
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.stderr.contains("open '*'"), "{ran:?}");
        if proxy.status(DB).await.is_null() {
            drop(held(&proxy, DB).await);
        }
    }
    proxy.until_held(DB, 0).await;
    let mut session = held(&proxy, DB).await;
    assert_eq!(proxy.status(DB).await["holds"][0]["holder"], "everywhere");

    // A hold of its own on top ends with the same command.
    proxy.hold(DB, json!({})).await;
    let ran = proxy.run(&["open", "*"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_served(&mut session).await;
    assert_eq!(proxy.status(DB).await["holds"], json!([]));
    proxy.session("template1").await.execute(ONE).await;
}

#[tokio::test]
async fn a_hold_on_everything_ends_by_itself_for_databases_seen_later_too() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    proxy.hold("*", json!({"for": "3s"})).await;
    let mut session = held(&proxy, DB).await;
    assert_served(&mut session).await;
    proxy.session("template1").await.execute(ONE).await;
    assert_eq!(proxy.status("template1").await["mode"], "open");
}

#[tokio::test]
async fn an_exhausted_ladder_reopens_and_names_who_was_in_the_way() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let parameters = [
        ("user", "postgres"),
        ("database", DB),
        ("application_name", "night job"),
    ];
    let login = Wire::login_with(proxy.addr(), &parameters, None).await;
    let mut busy = login.expect("a session");
    let client = proxy.sessions(DB).await[0]["client"].clone();
    let (pid, _) = busy.key();
    busy.execute("BEGIN").await;
    let drain = proxy.hold_in_vain(DB, json!({"wait": "100ms"})).await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    let blocker = &drain["waited_for"][0];
    assert_eq!(
        [
            &blocker["pid"],
            &blocker["user"],
            &blocker["application_name"]
        ],
        [&json!(pid), &json!("postgres"), &json!("night job")],
        "{drain}"
    );
    assert_eq!(blocker["client"], client);
    assert_eq!(blocker["state"], "in_transaction");
    assert!(blocker["transaction_age_ms"].is_u64(), "{drain}");
    assert!(blocker["statement_started_at"].is_string(), "{drain}");
    proxy.until_mode(DB, "open").await;
    proxy.session(DB).await.execute(ONE).await;

    let ran = proxy.run(&["hold", DB, "--wait", "100ms"]).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    let client = client.as_str().expect("an address");
    for part in [&pid.to_string(), "postgres", "night job", client] {
        assert!(
            ran.stdout.contains(part) || ran.stderr.contains(part),
            "{part}: {ran:?}"
        );
    }
    proxy.until_mode(DB, "open").await;
    busy.execute("COMMIT").await;
}

#[tokio::test]
async fn firm_cancels_a_running_statement_and_holds_the_session_at_its_next() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query("SELECT pg_sleep(600)")).await;
    until("the statement to run", SOON, async || {
        proxy.status(DB).await["permits"] == 1
    })
    .await;
    let firm = json!({"ladder": "firm", "wait": "100ms", "cancel": "60s"});
    let drain = proxy.hold_drained(DB, firm).await;
    let (pid, _) = session.key();
    assert_eq!(drain["cancelled"][0]["pid"], pid, "{drain}");
    assert_eq!(
        (&drain["step"], &drain["terminated"]),
        (&json!("cancel"), &json!([]))
    );
    let answer = session.read_until_ready().await;
    let error = answer.iter().find(|message| message.tag == b'E');
    assert_eq!(error.expect("an error").sqlstate(), "57014");

    session.send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    assert_served(&mut session).await;
}

#[tokio::test]
async fn force_terminates_a_session_that_is_idle_in_its_transaction() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.execute("BEGIN").await;
    session.execute("INSERT INTO t VALUES (1)").await;
    let force = json!({"ladder": "force", "wait": "50ms", "cancel": "50ms", "stuck": "0s", "abort": "0s", "terminate": "60s"});
    let drain = proxy.hold_drained(DB, force).await;
    let (pid, _) = session.key();
    assert_eq!(drain["terminated"][0]["pid"], pid, "{drain}");
    let last = session.read_to_end().await;
    assert_eq!(last[0].sqlstate(), "57P01", "{last:?}");
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_hold_that_rejects_answers_at_once_and_leaves_the_session() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let ran = proxy.run(&["hold", DB, "--blocked", "reject"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for _ in 0..2 {
        let answer = session.query(ONE).await;
        assert_eq!(answer[0].sqlstate(), "55P03");
        let detail = answer[0].field(b'D').unwrap_or_default();
        assert!(detail.contains("not executed"), "{answer:?}");
    }
    // A client that waits already is told when the hold is changed.
    proxy.hold(DB, json!({"blocked": "queue"})).await;
    session.send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    proxy.hold(DB, json!({"blocked": "reject"})).await;
    assert_eq!(session.read_until_ready().await[0].sqlstate(), "55P03");
    proxy.open(DB).await;
    session.execute(ONE).await;
}

#[tokio::test]
async fn a_forceful_drain_is_not_kept_up_by_a_client_that_does_not_read() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut deaf = proxy.session(DB).await;
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    deaf.send(&message::query(rows)).await;
    let watcher = postgres.connect(DB).await;
    until("a backend that cannot send", SOON, async || {
        let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        let row = watcher.query_one(stuck, &[]).await.expect("a count");
        row.get::<_, i64>(0) > 0
    })
    .await;
    let force = json!({"ladder": "force", "wait": "100ms", "cancel": "100ms", "stuck": "0s", "abort": "0s", "terminate": "20s"});
    let drain = proxy.hold_drained(DB, force).await;
    assert_eq!(drain["terminated"][0]["pid"], deaf.key().0, "{drain}");
    postgres.until_gone(deaf.key().0).await;
}

#[tokio::test]
async fn one_on_everybody_shows_before_anybody_has_come() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut console = proxy.session("pgdrain").await;
    let path = "/v1/databases/*/mode";
    let hold = json!({"mode": "hold", "for": "5m", "by": "anna", "reason": "new index"});
    proxy.admin().put(path, hold).await.expect(202);
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["databases"], json!([]));
    let standing = &status["standing"][0];
    assert_eq!(
        (&standing["mode"], &standing["by"]),
        (&json!("hold"), &json!("anna"))
    );
    assert!(standing["until"].is_string(), "{standing}");
    let text = proxy.run(&["status"]).await.stdout;
    assert!(text.contains("*: whoever comes waits"), "{text}");
    assert!(text.contains("\"new index\""), "{text}");
    let rows = console.query("SHOW HOLDS").await;
    let row = rows
        .iter()
        .find(|it| it.tag == b'D')
        .expect("a row")
        .columns();
    assert_eq!(row[0].as_deref(), Some("*"));
    proxy
        .admin()
        .put(path, json!({"mode": "open"}))
        .await
        .expect(202);
    let status = proxy.admin().get("/v1/status").await.expect(200);
    assert_eq!(status["standing"], json!(null));
}
