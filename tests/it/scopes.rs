//! Holds on some clients: who is held, who goes on, and that each opening ends one hold alone.

use serde_json::{Value, json};

use crate::support::admin::Answer;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

async fn with_users() -> Postgres {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("CREATE ROLE app LOGIN; CREATE ROLE job LOGIN; CREATE TABLE t (n int)")
        .await;
    postgres
}

async fn mode(proxy: &Proxy, database: &str, body: Value) -> Answer {
    let path = format!("/v1/databases/{database}/mode?wait=drained");
    proxy.admin().put(&path, body).await
}

async fn open(proxy: &Proxy, database: &str, mut scope: Value) -> Value {
    scope["mode"] = json!("open");
    let path = format!("/v1/databases/{database}/mode");
    proxy.admin().put(&path, scope).await.expect(202)
}

async fn app(proxy: &Proxy) -> Wire {
    Wire::login(proxy.addr(), "app", DB).await
}

async fn named(proxy: &Proxy, user: &str, name: &str) -> Wire {
    let parameters = [("user", user), ("database", DB), ("application_name", name)];
    match Wire::login_with(proxy.addr(), &parameters, None).await {
        Ok(wire) => wire,
        Err(error) => panic!("{error:?}"),
    }
}

async fn ask(session: &mut Wire) {
    session.send(&message::query(ONE)).await;
}

async fn assert_served(session: &mut Wire) {
    let answer = session.read_until_ready().await;
    assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
}

#[tokio::test]
async fn a_hold_on_a_user_holds_that_user_alone_and_new_sessions_of_it() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let (mut held, mut free) = (app(&proxy).await, proxy.session(DB).await);
    free.execute("BEGIN").await;
    let hold = json!({"mode": "hold", "user": "app"});
    let answer = mode(&proxy, DB, hold).await.expect(200);
    let result = &answer["results"][0];
    assert_eq!(result["scope"], json!({"user": "app"}), "{answer}");
    // The transaction of another user is in nobody's way.
    assert_eq!(result["drain"]["outcome"], "drained", "{answer}");
    let mut late = app(&proxy).await;
    ask(&mut held).await;
    ask(&mut late).await;
    proxy.until_held(DB, 2).await;
    free.execute("COMMIT").await;
    free.execute(ONE).await;

    let status = proxy.status(DB).await;
    assert_eq!(status["mode"], "open", "{status}");
    let scope = &status["scopes"][0];
    assert_eq!(scope["scope"], json!({"user": "app"}), "{status}");
    assert_eq!((&scope["held"], &scope["permits"]), (&json!(2), &json!(0)));
    assert!(scope["oldest_wait_ms"].is_u64(), "{status}");
    let text = proxy.run(&["status"]).await.stdout;
    assert!(
        text.contains("user \"app\"") && text.contains("2 wait"),
        "{text}"
    );
    let metrics = proxy.admin().get("/metrics").await.text;
    let line = "pgdrain_held_in_scope{database=\"postgres\",scope=\"user \\\"app\\\"\"} 2";
    assert!(metrics.contains(line), "{metrics}");

    open(&proxy, DB, json!({"user": "app"})).await;
    assert_served(&mut held).await;
    assert_served(&mut late).await;
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("a list");
    for kind in ["hold", "open"] {
        let told = |event: &&Value| event["kind"] == kind;
        let event = events.iter().find(told).expect("it is told");
        assert_eq!(event["outcome"], "for user \"app\": done", "{event}");
    }
    let status = proxy.status(DB).await;
    assert_eq!(
        (&status["scopes"], &status["held"]),
        (&Value::Null, &json!(0))
    );
}

#[tokio::test]
async fn the_drain_of_a_narrow_hold_waits_for_its_own_sessions_and_proves_them() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let (mut inside, mut other) = (app(&proxy).await, proxy.session(DB).await);
    inside.execute("BEGIN").await;
    other.execute("BEGIN").await;
    let hold = json!({"mode": "hold", "user": "app"});
    let path = format!("/v1/databases/{DB}/mode");
    proxy.admin().put(&path, hold).await.expect(202);
    let scope = |status: &Value| status["scopes"][0].clone();
    until("one permit", SOON, async || {
        scope(&proxy.status(DB).await)["permits"] == 1
    })
    .await;
    let drain = scope(&proxy.status(DB).await)["holds"][0]["drain"].clone();
    assert_eq!(drain["outcome"], "draining", "{drain}");
    let in_the_way = drain["in_the_way"].as_array().expect("a list");
    assert_eq!(in_the_way.len(), 1, "{drain}");
    assert_eq!(in_the_way[0]["user"], "app");
    inside.execute("COMMIT").await;
    eventually("a drained scope", SOON, async || {
        let drain = scope(&proxy.status(DB).await)["holds"][0]["drain"].clone();
        (drain["outcome"] == "drained").then_some(())
    })
    .await;
    ask(&mut inside).await;
    proxy.until_held(DB, 1).await;
    other.execute("COMMIT").await;
}

#[tokio::test]
async fn application_names_and_networks_are_scopes_and_all_parts_have_to_fit() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let hold =
        json!({"mode": "hold", "user": "app", "application_name": "web", "client": "127.0.0.0/8"});
    mode(&proxy, DB, hold).await.expect(200);
    mode(&proxy, DB, json!({"mode": "hold", "client": "10.0.0.0/8"}))
        .await
        .expect(200);
    let mut web = named(&proxy, "app", "web").await;
    for (user, name) in [("app", "job"), ("job", "web"), ("app", "")] {
        named(&proxy, user, name).await.execute(ONE).await;
    }
    ask(&mut web).await;
    proxy.until_held(DB, 1).await;
    // Another scope is another hold.
    open(&proxy, DB, json!({"user": "app"})).await;
    open(&proxy, DB, json!({})).await;
    web.assert_silent().await;
    let scope = json!({"user": "app", "application_name": "web", "client": "127.0.0.0/8"});
    open(&proxy, DB, scope).await;
    assert_served(&mut web).await;
}

#[tokio::test]
async fn opening_a_narrow_hold_never_leaks_through_a_wider_one_nor_the_other_way_round() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = app(&proxy).await;
    let narrow = json!({"mode": "hold", "user": "app"});
    for narrow_first in [true, false] {
        proxy.hold_drained(DB, json!({})).await;
        mode(&proxy, DB, narrow.clone()).await.expect(200);
        ask(&mut session).await;
        proxy.until_held(DB, 1).await;
        let (first, second) = match narrow_first {
            true => (json!({"user": "app"}), json!({})),
            false => (json!({}), json!({"user": "app"})),
        };
        open(&proxy, DB, first).await;
        session.assert_silent().await;
        proxy.until_held(DB, 1).await;
        open(&proxy, DB, second).await;
        assert_served(&mut session).await;
    }
    // One on every database is not ended for one of them.
    mode(&proxy, "*", narrow).await.expect(200);
    let path = format!("/v1/databases/{DB}/mode");
    let body = json!({"mode": "open", "user": "app"});
    let refused = proxy.admin().put(&path, body).await.expect(409);
    assert_eq!(refused["error"]["code"], "held", "{refused}");
    ask(&mut session).await;
    proxy.until_held(DB, 1).await;
    open(&proxy, "*", json!({"user": "app"})).await;
    assert_served(&mut session).await;
}

#[tokio::test]
async fn a_narrow_hold_on_everything_is_on_databases_that_come_later() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let path = "/v1/databases/*/mode";
    let hold = json!({"mode": "hold", "user": "app"});
    proxy.admin().put(path, hold).await.expect(202);
    let mut late = Wire::login(proxy.addr(), "app", "template1").await;
    ask(&mut late).await;
    proxy.until_held("template1", 1).await;
    proxy.session("template1").await.execute(ONE).await;
    open(&proxy, "*", json!({"user": "app"})).await;
    assert_served(&mut late).await;
}

#[tokio::test]
async fn the_stricter_of_two_holds_decides() {
    let postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let mut session = app(&proxy).await;
    let strict = json!({"mode": "hold", "user": "app", "blocked": "reject", "sqlstate": "57P03"});
    proxy.hold_drained(DB, json!({})).await;
    ask(&mut session).await;
    proxy.until_held(DB, 1).await;
    mode(&proxy, DB, strict).await.expect(200);
    let answer = session.read_until_ready().await;
    assert_eq!(answer[0].sqlstate(), "57P03", "{answer:?}");
    let mut other = proxy.session(DB).await;
    ask(&mut other).await;
    proxy.until_held(DB, 1).await;
    open(&proxy, DB, json!({"user": "app"})).await;
    ask(&mut session).await;
    proxy.until_held(DB, 2).await;
    open(&proxy, DB, json!({})).await;
    assert_served(&mut session).await;
    assert_served(&mut other).await;
}

#[tokio::test]
async fn a_narrow_hold_ends_by_its_time_and_survives_a_crash() {
    let postgres = with_users().await;
    let mut proxy = Proxy::start(&postgres).await;
    drop(app(&proxy).await);
    mode(
        &proxy,
        DB,
        json!({"mode": "hold", "user": "app", "for": "1h"}),
    )
    .await
    .expect(200);
    proxy.kill();
    proxy.launch().await;
    let mut session = app(&proxy).await;
    ask(&mut session).await;
    proxy.until_held(DB, 1).await;
    proxy.session(DB).await.execute(ONE).await;
    // Renewed with less time, the same gate ends by itself.
    let short = json!({"mode": "hold", "user": "app", "for": "1s"});
    let path = format!("/v1/databases/{DB}/mode");
    proxy.admin().put(&path, short).await.expect(202);
    assert_served(&mut session).await;
    until("a journal without it", SOON, async || {
        let journal = proxy.state_dir().join("journal.json");
        let text = std::fs::read_to_string(journal).expect("a journal");
        !text.contains("scopes")
    })
    .await;
}

#[tokio::test]
async fn who_waits_at_a_narrow_hold_can_leave_cancel_and_run_out_of_time() {
    let mut postgres = with_users().await;
    postgres.execute("GRANT ALL ON t TO app").await;
    let settings = [("HOLD_CLIENT_DEADLINE", "2s")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let (mut leaves, mut cancels, mut waits) =
        (app(&proxy).await, app(&proxy).await, app(&proxy).await);
    let hold = json!({"mode": "hold", "user": "app"});
    mode(&proxy, DB, hold).await.expect(200);
    for session in [&mut leaves, &mut cancels] {
        let insert = message::query("INSERT INTO t VALUES (1)");
        session.send(&insert).await;
    }
    proxy.until_held(DB, 2).await;
    drop(leaves);
    proxy.until_held(DB, 1).await;
    Wire::cancel(proxy.addr(), cancels.key()).await;
    assert_eq!(cancels.read_until_ready().await[0].sqlstate(), "57014");
    ask(&mut waits).await;
    assert_eq!(waits.read_until_ready().await[0].sqlstate(), "55P03");
    proxy.until_held(DB, 0).await;
    open(&proxy, DB, json!({"user": "app"})).await;
    cancels.execute(ONE).await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

/// Sessions that never stop, while narrow and wide holds come and go: whenever a narrow hold is
/// drained nobody of it is inside, and in the end everybody goes on.
#[tokio::test]
async fn a_race_of_holds_and_openings_loses_nobody_and_lets_nobody_through() {
    let mut postgres = with_users().await;
    let proxy = Proxy::start(&postgres).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..12 {
        let user = if number % 2 == 0 { "app" } else { "job" };
        let (mut session, stop) = (Wire::login(proxy.addr(), user, DB).await, stop.clone());
        clients.spawn(async move {
            let mut done = 0_u32;
            while !stop.is_cancelled() {
                session.execute("BEGIN").await;
                session.execute(ONE).await;
                session.execute("COMMIT").await;
                done += 1;
            }
            done
        });
    }
    let watcher = postgres.connect(DB).await;
    let narrow = json!({"mode": "hold", "user": "app", "ladder": "gentle"});
    for round in 0..25 {
        match round % 3 {
            0 => {}
            _ => proxy.hold(DB, json!({})).await,
        }
        let answer = mode(&proxy, DB, narrow.clone()).await.expect(200);
        assert_eq!(
            answer["results"][0]["drain"]["outcome"], "drained",
            "{answer}"
        );
        if round % 3 == 1 {
            // What it opens is not the narrow one.
            open(&proxy, DB, json!({})).await;
        }
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'";
        let row = watcher.query_one(busy, &[]).await.expect("a count");
        assert_eq!(row.get::<_, i64>(0), 0, "round {round}");
        let scopes = [json!({"user": "app"}), json!({})];
        for scope in scopes {
            open(&proxy, DB, scope).await;
        }
    }
    stop.cancel();
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client.expect("nobody is stuck, and nobody got an error");
    }
    assert!(done > 100, "{done} transactions");
}
