//! Read-only mode is said to be entered when nobody can write any more: who began before is waited for or
//! ended by the ladder, who only reads is left alone and named, and a write that is tried is refused.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A ladder that comes to each of its steps soon.
fn firm() -> Value {
    json!({"ladder": "firm", "wait": "100ms", "cancel": "300ms", "stuck": "0s", "abort": "60s"})
}

async fn table(postgres: &mut Postgres) {
    postgres
        .execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        .await;
}

fn read_only(mut options: Value) -> Value {
    options["mode"] = "read_only".into();
    options
}

/// Begins read-only mode and returns its drain once it has ended, as entered.
async fn entered(proxy: &Proxy, options: Value) -> Value {
    let path = format!("/v1/databases/{DB}/mode?wait=drained");
    let answer = proxy.admin().put(&path, read_only(options)).await;
    let answer = answer.expect(200);
    let drain = answer["results"][0]["drain"].clone();
    assert_eq!(drain["outcome"], "drained", "{answer}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.starts_with("entered: "), "{drain}");
    assert!(detail.contains("a write that was tried"), "{drain}");
    drain
}

/// Begins it and returns at once.
async fn begin(proxy: &Proxy, options: Value) {
    let path = format!("/v1/databases/{DB}/mode");
    let answer = proxy.admin().put(&path, read_only(options)).await;
    answer.expect(202);
}

fn pids(list: &Value) -> Vec<u64> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|who| who["pid"].as_u64()).collect()
}

fn pid(session: &Wire) -> u64 {
    session.key().0.into()
}

/// Waits until this session's server waits for an advisory lock that somebody else has.
async fn until_it_waits(postgres: &mut Postgres, session: &Wire) {
    let pid = session.key().0;
    let sql = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    until("the statement to wait", SOON, async || {
        postgres.count(&sql).await == 1
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_sits_idle_is_waited_for_and_then_aborted_in_place() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut reader = proxy.session(DB).await;
    let mut writer = proxy.session(DB).await;
    writer.execute("BEGIN").await;
    writer.execute("UPDATE t SET n = 10 WHERE n = 1").await;

    let drain = entered(&proxy, firm()).await;
    assert_eq!(pids(&drain["waited_for"]), [pid(&writer)], "{drain}");
    assert_eq!(pids(&drain["aborted"]), [pid(&writer)], "{drain}");
    assert_eq!(drain["terminated"], json!([]), "{drain}");
    assert_eq!(drain["enforced"], 1, "{drain}");
    // What is left of its transaction keeps the server from being told; it can do nothing.
    assert_eq!(pids(&drain["not_enforced"]), [pid(&writer)], "{drain}");
    assert_eq!(
        postgres.count("SELECT count(*) FROM t WHERE n = 10").await,
        0
    );

    assert_eq!(reader.query_one("SELECT count(*) FROM t").await, "2");
    let refused = writer.query("COMMIT").await;
    assert_eq!(refused[0].sqlstate(), "40001", "{refused:?}");
    assert_eq!(writer.query_one("SELECT count(*) FROM t").await, "2");
    writer.send(&message::query("DELETE FROM t")).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    let answer = writer.read_until_ready().await;
    assert_eq!(answer[0].body, b"DELETE 2\0", "{answer:?}");
    // Nothing of the write that was tried is left.
    let left = "SELECT count(*) FROM pg_class WHERE relname = 'pgdrain_probe'";
    assert_eq!(postgres.count(left).await, 0);
    let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgdrain probe'";
    until("the end of our own session", SOON, async || {
        postgres.count(there).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_single_statement_that_reads_is_left_alone_and_named() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut simple = proxy.session(DB).await;
    simple.send(&message::query("SELECT pg_sleep(600)")).await;
    let mut extended = proxy.session(DB).await;
    let batch = [
        message::parse("", "SELECT pg_sleep(600)"),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    extended.send(&batch.concat()).await;
    for session in [&simple, &extended] {
        postgres.until_asleep(session.key().0).await;
    }

    let options = json!({
        "ladder": "force", "wait": "50ms", "cancel": "50ms", "abort": "50ms", "terminate": "60s"
    });
    let drain = entered(&proxy, options).await;
    let both = [pid(&simple), pid(&extended)];
    assert_eq!(pids(&drain["pending"]), both, "{drain}");
    for done in ["cancelled", "terminated", "aborted"] {
        assert_eq!(drain[done], json!([]), "{drain}");
    }
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&format!("pid {}", both[0])), "{detail}");
    simple.assert_silent().await;
    extended.assert_silent().await;

    // They leave the list as they end, and can write no more either.
    for (session, left) in [(&mut simple, 1), (&mut extended, 0)] {
        let (key, addr) = (session.key(), proxy.addr());
        Wire::cancel(addr, key).await;
        let answer = session.read_until_ready().await;
        assert!(answer.iter().any(|it| it.tag == b'E'), "{answer:?}");
        until("the list to be current", SOON, async || {
            pids(&proxy.drain(DB).await["pending"]).len() == left
        })
        .await;
        assert_eq!(proxy.drain(DB).await["outcome"], "drained");
        session.send(&message::query("DELETE FROM t")).await;
    }
    proxy.until_held(DB, 2).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn what_may_write_is_waited_for_however_it_looks() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    // It writes, and then looks like any read that waits.
    let hidden = "CREATE FUNCTION hidden() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO t VALUES (3); PERFORM pg_advisory_xact_lock(1); RETURN 1; END $$";
    postgres.execute(hidden).await;
    let proxy = Proxy::start(&postgres).await;
    let waits = "SELECT pg_advisory_xact_lock(1)";
    let extended = |sql: &str| {
        [
            message::parse("", sql),
            message::bind("", "", &[]),
            message::execute("", 0),
        ]
        .concat()
    };
    let two = [
        extended(waits),
        extended("INSERT INTO t VALUES (4)"),
        message::sync(),
    ]
    .concat();
    let unfinished = [extended(waits), message::flush()].concat();
    let update = "UPDATE t SET n = n WHERE pg_advisory_xact_lock(1) IS NOT NULL";
    for (what, begin_with, bytes) in [
        ("an update", None, message::query(update)),
        ("a function", None, message::query("SELECT hidden()")),
        ("a block", Some("BEGIN"), message::query(waits)),
        (
            "several statements",
            None,
            message::query(&format!("{waits}; INSERT INTO t VALUES (5)")),
        ),
        ("a batch of two", None, two),
        ("a batch without its end", None, unfinished),
    ] {
        let other = postgres.connect(DB).await;
        other
            .batch_execute("SELECT pg_advisory_lock(1)")
            .await
            .expect("the lock");
        let mut session = proxy.session(DB).await;
        if let Some(begin) = begin_with {
            session.execute(begin).await;
        }
        session.send(&bytes).await;
        until_it_waits(&mut postgres, &session).await;
        begin(&proxy, json!({"wait": "60s"})).await;
        eventually(what, SOON, async || {
            let drain = proxy.drain(DB).await;
            assert_eq!(drain["outcome"], "draining", "{what}: {drain}");
            (pids(&drain["in_the_way"]) == [pid(&session)]).then_some(())
        })
        .await;
        // It was looked at more than once by now.
        session.assert_silent().await;
        assert_eq!(proxy.drain(DB).await["outcome"], "draining", "{what}");
        other
            .batch_execute("SELECT pg_advisory_unlock(1)")
            .await
            .expect("unlocked");
        if begin_with.is_some() {
            session.read_until_ready().await;
            session.execute("COMMIT").await;
        } else if what == "a batch without its end" {
            session.send(&message::sync()).await;
        }
        let drain = eventually(what, PATIENCE, async || {
            let drain = proxy.drain(DB).await;
            (drain["outcome"] != "draining").then_some(drain)
        })
        .await;
        assert_eq!(drain["outcome"], "drained", "{what}: {drain}");
        assert!(drain.get("pending").is_none(), "{what}: {drain}");
        proxy.open(DB).await;
    }
}

#[tokio::test]
async fn the_ladder_does_nothing_to_who_began_to_read_after_it() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut writer = proxy.session(DB).await;
    writer.execute("BEGIN").await;
    writer.execute("UPDATE t SET n = 10 WHERE n = 1").await;
    let mut idle = proxy.session(DB).await;
    let mut busy = proxy.session(DB).await;
    let options = json!({
        "ladder": "force", "wait": "2s", "cancel": "1s", "stuck": "200ms", "abort": "0s",
        "terminate": "60s"
    });
    begin(&proxy, options).await;
    idle.execute("BEGIN READ ONLY").await;
    assert_eq!(idle.query_one("SELECT count(*) FROM t").await, "2");
    busy.send(&message::query("SELECT pg_sleep(600)")).await;
    postgres.until_asleep(busy.key().0).await;
    assert_eq!(proxy.drain(DB).await["outcome"], "draining");
    let drain = proxy.until_drained(DB).await;
    assert_eq!(pids(&drain["terminated"]), [pid(&writer)], "{drain}");
    assert_eq!(pids(&drain["cancelled"]), [pid(&writer)], "{drain}");
    assert_eq!(drain["enforced"], 2, "{drain}");
    busy.assert_silent().await;
    assert_eq!(idle.query_one("SELECT count(*) FROM t").await, "2");
    idle.execute("COMMIT").await;
}

#[tokio::test]
async fn who_does_not_leave_is_named_and_traffic_flows_again() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut writer = proxy.session(DB).await;
    writer.execute("BEGIN").await;
    writer.execute("UPDATE t SET n = 10 WHERE n = 1").await;
    let path = format!("/v1/databases/{DB}/mode?wait=drained");
    let order = read_only(json!({"wait": "200ms"}));
    let answer = proxy.admin().put(&path, order).await.expect(409);
    let drain = &answer["results"][0]["drain"];
    assert_eq!(drain["outcome"], "exhausted", "{answer}");
    assert_eq!(pids(&drain["in_the_way"]), [pid(&writer)], "{answer}");
    proxy.until_mode(DB, "open").await;
    writer.execute("COMMIT").await;
    proxy.session(DB).await.execute("DELETE FROM t").await;
}

#[tokio::test]
async fn some_clients_are_read_only_and_others_are_not() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    postgres
        .execute("CREATE ROLE anna LOGIN; GRANT ALL ON t TO anna")
        .await;
    let proxy = Proxy::start(&postgres).await;
    let mut anna = Wire::login(proxy.addr(), "anna", DB).await;
    let mut other = proxy.session(DB).await;
    other.execute("BEGIN").await;
    other.execute("INSERT INTO t VALUES (3)").await;
    let drain = entered(&proxy, json!({"user": "anna", "wait": "60s"})).await;
    assert_eq!(drain["enforced"], 1, "{drain}");
    other.execute("COMMIT").await;
    assert_eq!(anna.query_one("SELECT count(*) FROM t").await, "3");
    anna.send(&message::query("DELETE FROM t")).await;
    until("her statement to be held", SOON, async || {
        let sessions = proxy.sessions(DB).await;
        sessions
            .iter()
            .any(|it| it["state"] == "held" && it["user"] == "anna")
    })
    .await;
    other.execute("INSERT INTO t VALUES (4)").await;
}

#[tokio::test]
async fn without_a_user_for_it_nothing_is_tried_and_that_is_said() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::before(&format!("postgres://{}", postgres.addr()), &[]).await;
    let mut session = proxy.session(DB).await;
    let path = format!("/v1/databases/{DB}/mode?wait=drained");
    let order = read_only(json!({"wait": "200ms"}));
    let answer = proxy.admin().put(&path, order).await.expect(409);
    let drain = &answer["results"][0]["drain"];
    assert_eq!(drain["outcome"], "unproved", "{answer}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains("no write was tried"), "{detail}");
    assert!(detail.contains("no user is configured"), "{detail}");
    // The mode is on all the same.
    assert_eq!(drain["enforced"], 1, "{answer}");
    assert_eq!(session.query_one("SELECT count(*) FROM t").await, "2");
    session.send(&message::query("DELETE FROM t")).await;
    proxy.until_held(DB, 1).await;
}

#[tokio::test]
async fn what_is_left_alone_is_shown_to_people() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    session.send(&message::query("SELECT pg_sleep(600)")).await;
    postgres.until_asleep(session.key().0).await;
    let ran = proxy.run(&["read-only", DB]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = session.key().0.to_string();
    for part in ["entered: ", "still reads what began before", &pid] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
}
