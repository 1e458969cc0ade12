//! A window is given to whoever asks, to its own connections alone, and as long as its lease is kept.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::auth::{Files, HBA, rule};
use crate::support::certificates::{Authority, Encrypting};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::windows::Ordered;
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

/// A session whose first statement is held.
async fn held(proxy: &Proxy) -> Wire {
    let mut session = proxy.session(DB).await;
    session.send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    session
}

async fn assert_served(mut session: Wire) {
    let answer = session.read_until_ready().await;
    assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
}

fn sqlstate(error: &Message) -> String {
    let fields = error.body.split(|byte| *byte == 0);
    let code = fields.filter_map(|field| field.strip_prefix(b"C")).next();
    String::from_utf8_lossy(code.expect("a code")).into_owned()
}

async fn post(proxy: &Proxy, window: &Ordered, verb: &str, body: Value) -> (u16, Value) {
    let path = format!("/v1/windows/{}/{verb}", window.id);
    let answer = proxy.admin().post(&path, body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn only_who_shows_the_key_passes_and_traffic_waits_meanwhile() {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({"reason": "new column"})).await;
    let waiting = held(&proxy).await;

    let mut inside = proxy.inside(&window).await;
    inside.execute("CREATE TABLE t (a int)").await;
    assert_eq!(
        inside.query_one("SHOW application_name").await,
        format!("pgdrain window {}", window.id)
    );
    let view = proxy.window(&window).await;
    assert_eq!(
        (&view["connections_used"], &view["connections_now"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(view["held"], 1, "{view}");
    let sessions = proxy.sessions(DB).await;
    let ours = sessions
        .iter()
        .filter(|session| session["window"] == *window.id);
    assert_eq!(ours.count(), 1, "{sessions:?}");
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);

    // In every place where a key may stand, with what else stands there.
    for (name, value, shown) in [
        (
            "options",
            format!("-c work_mem=7MB --pgdrain.window={}", window.key),
            None,
        ),
        (
            "application_name",
            format!("pgdrain.window={} tool", window.key),
            Some("tool"),
        ),
    ] {
        let parameters = [("user", "postgres"), ("database", DB), (name, &value)];
        let session = Wire::login_with(proxy.addr(), &parameters, None).await;
        let mut session = session.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        match shown {
            Some(shown) => assert_eq!(session.query_one("SHOW application_name").await, shown),
            None => assert_eq!(session.query_one("SHOW work_mem").await, "7MB"),
        }
        let seen = session.query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%pgdrain.window%'").await;
        assert_eq!(seen, "0");
    }

    proxy.command_window(&window, "finish").await;
    proxy.until_window(&window, "closed").await;
    assert_served(waiting).await;
    // Its connections have ended with it.
    let rest = inside.read_to_end().await;
    assert_eq!(sqlstate(&rest[0]), "57P01", "{rest:?}");
    let late = proxy
        .through(DB, &window.key)
        .await
        .expect_err("it is over");
    assert_eq!(sqlstate(&late), "28000");
    let secret = window.key.split_once('.').expect("two parts").1.to_owned();
    assert!(!proxy.log().contains(&secret));
    let journal = std::fs::read_to_string(proxy.state_dir().join("journal.json"));
    assert!(!journal.expect("a journal").contains(&secret));
}

#[tokio::test]
async fn a_wrong_key_is_told_nothing() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE DATABASE other").await;
    let proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({"connections": 1})).await;
    let (id, secret) = window.key.split_once('.').expect("two parts");
    let mut refusals = Vec::new();
    for (database, key) in [
        (DB, format!("{id}.{}", secret.to_lowercase() + "x")),
        (DB, format!("{id}.")),
        (DB, id.to_owned()),
        (DB, format!("w0000000000000000.{secret}")),
        ("other", window.key.clone()),
    ] {
        refusals.push(proxy.through(database, &key).await.expect_err("wrong"));
    }
    let first = proxy.inside(&window).await;
    // Once was agreed.
    refusals.push(proxy.through(DB, &window.key).await.expect_err("used"));
    for refusal in &refusals {
        assert_eq!(refusal.body, refusals[0].body);
        assert_eq!(sqlstate(refusal), "28000");
    }
    drop(first);
    proxy.through(DB, &window.key).await.expect_err("used");
    assert_eq!(proxy.window(&window).await["connections_used"], 1);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_the_work_first() {
    for (on_lost, mode) in [("reopen", "open"), ("stay", "hold")] {
        let mut postgres = Postgres::start().await;
        postgres.execute("CREATE TABLE t (a int)").await;
        let proxy = Proxy::start(&postgres).await;
        let order = json!({"lease": "1500ms", "on_lost": on_lost});
        let window = proxy.exclusive(DB, order).await;
        let mut inside = proxy.inside(&window).await;
        inside.execute("BEGIN").await;
        inside.execute("INSERT INTO t VALUES (1)").await;
        inside.send(&message::query("SELECT pg_sleep(600)")).await;
        let view = proxy.until_window(&window, "closed").await;
        assert_eq!(
            (&view["why"], &view["after"]),
            (&json!("lease_lost"), &json!(on_lost))
        );
        // Nothing of it runs when traffic flows.
        let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' \
                    AND pid <> pg_backend_pid()";
        assert_eq!(postgres.count(left).await, 0);
        assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
        let status = proxy.status(DB).await;
        assert_eq!(status["mode"], mode, "{status}");
        if mode == "hold" {
            let stays = status["holds"][0]["stays"].as_str().expect("a reason");
            assert!(stays.contains("lease_lost"), "{stays}");
            // A person has looked.
            proxy.open(DB).await;
        }
        proxy.session(DB).await.execute(ONE).await;
        let (status, answer) = post(&proxy, &window, "renew", json!({"term": window.term})).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("over")));
    }
}

#[tokio::test]
async fn a_renewed_lease_lasts_until_the_windows_own_time() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let order = json!({"lease": "1s", "for": "4s", "on_lost": "reopen"});
    let window = proxy.exclusive(DB, order).await;
    let mut renewed = 0;
    until("the window's own time to pass", SOON, async || {
        let (status, _) = post(&proxy, &window, "renew", json!({"term": window.term})).await;
        renewed += u32::from(status == 200);
        status == 409
    })
    .await;
    assert!(renewed > 3, "{renewed}");
    let view = proxy.until_window(&window, "closed").await;
    assert_eq!(view["why"], "time_over", "{view}");
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn a_late_term_changes_nothing() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let first = proxy.exclusive(DB, json!({})).await;
    proxy.command_window(&first, "finish").await;
    proxy.until_window(&first, "closed").await;
    // Terms go on over a restart.
    proxy.launch().await;
    let second = proxy.exclusive(DB, json!({})).await;
    assert!(second.term > first.term);
    for verb in ["renew", "finish", "abort"] {
        let (status, answer) = post(&proxy, &second, verb, json!({"term": first.term})).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("late_term")),
            "{verb}"
        );
    }
    assert_eq!(proxy.window(&second).await["state"], "exclusive");
}

#[tokio::test]
async fn a_window_is_aborted_while_it_drains_and_while_it_works() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN").await;
    let draining = proxy
        .order(DB, json!({"on_lost": "stay", "wait": "10m"}))
        .await;
    let view = proxy.until_window(&draining, "draining").await;
    let path = format!("/v1/windows/{}?after={}&wait=20s", draining.id, view["seq"]);
    let (news, _) = tokio::join!(
        proxy.admin().get(&path),
        proxy.command_window(&draining, "abort")
    );
    let (news, before) = (news.expect(200)["seq"].as_u64(), view["seq"].as_u64());
    assert!(news > before, "{news:?} {before:?}");
    let view = proxy.until_window(&draining, "closed").await;
    // Nobody was let in: there is nothing that a person would have to look at.
    assert_eq!(
        (&view["why"], &view["after"]),
        (&json!("aborted"), &json!("reopen"))
    );
    proxy.session(DB).await.execute(ONE).await;
    busy.execute("COMMIT").await;

    let working = proxy.exclusive(DB, json!({"on_lost": "stay"})).await;
    let mut inside = proxy.inside(&working).await;
    inside.execute("BEGIN").await;
    proxy.command_window(&working, "abort").await;
    proxy.until_window(&working, "closed").await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    proxy.open(DB).await;
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn a_window_that_is_not_granted_says_who_was_in_the_way() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN").await;
    let window = proxy.order(DB, json!({"wait": "200ms"})).await;
    let view = proxy.until_window(&window, "closed").await;
    assert_eq!(view["why"], "not_granted");
    let pid = busy.key().0.to_string();
    assert!(
        view["detail"].as_str().expect("a sentence").contains(&pid),
        "{view}"
    );
    assert_eq!(view["drained_percent"], 0);
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn opening_by_force_ends_a_window() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({"on_lost": "stay"})).await;
    let inside = proxy.inside(&window).await;
    let refused = proxy.run(&["open", DB]).await;
    assert!(refused.stderr.contains(&window.id), "{refused:?}");
    assert_eq!(proxy.run(&["open", DB, "--force"]).await.code, Some(0));
    let view = proxy.until_window(&window, "closed").await;
    assert_eq!(
        (&view["why"], &view["after"]),
        (&json!("opened"), &json!("reopen"))
    );
    drop(inside);
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn the_same_request_gets_the_same_window() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let path = format!("/v1/databases/{DB}/windows");
    let order = json!({"reason": "r", "idempotency_key": "k"});
    let first = Ordered::from(&proxy.admin().post(&path, order.clone()).await.expect(201));
    let again = proxy.admin().post(&path, order.clone()).await.expect(201);
    assert_eq!(Ordered::from(&again).key, first.key);
    let other = json!({"reason": "another", "idempotency_key": "k"});
    let refused = proxy.admin().post(&path, other).await.expect(409);
    assert_eq!(refused["error"]["code"], "other_request");
    // Once somebody came in by it, the key is shown no more.
    proxy.until_window(&first, "exclusive").await;
    let inside = proxy.inside(&first).await;
    let again = proxy.admin().post(&path, order.clone()).await.expect(201);
    assert_eq!(
        (&again["window"]["id"], &again["key"]),
        (&json!(first.id), &Value::Null)
    );
    drop(inside);
    proxy.command_window(&first, "finish").await;
    proxy.until_window(&first, "closed").await;
    let again = proxy.admin().post(&path, order).await.expect(201);
    assert_eq!(
        (&again["window"]["id"], &again["key"]),
        (&json!(first.id), &Value::Null)
    );
}

#[tokio::test]
async fn a_second_request_is_refused_or_waits_its_turn() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let first = proxy.exclusive(DB, json!({})).await;
    let path = format!("/v1/databases/{DB}/windows");
    let refused = proxy.admin().post(&path, json!({})).await.expect(409);
    assert_eq!(refused["error"]["code"], "busy");
    assert!(
        refused["error"]["message"]
            .as_str()
            .expect("text")
            .contains(&first.id)
    );

    let second = proxy.order(DB, json!({"if_busy": "queue"})).await;
    let gone = proxy
        .order(DB, json!({"if_busy": "queue", "lease": "1s"}))
        .await;
    let third = proxy.order(DB, json!({"if_busy": "queue"})).await;
    let view = proxy.window(&third).await;
    assert_eq!(
        (&view["state"], &view["position"]),
        (&json!("queued"), &json!(3))
    );
    // Whose client is gone loses its place.
    let view = proxy.until_window(&gone, "closed").await;
    assert_eq!(view["why"], "lease_lost");
    assert_eq!(proxy.window(&third).await["position"], 2);

    // And so does one that is given up, at once.
    let given_up = proxy.order(DB, json!({"if_busy": "queue"})).await;
    let last = proxy.order(DB, json!({"if_busy": "queue"})).await;
    assert_eq!(proxy.window(&last).await["position"], 4);
    proxy.command_window(&given_up, "abort").await;
    until("its place to be given up", SOON, async || {
        proxy.window(&last).await["position"] == 3
    })
    .await;
    proxy.command_window(&last, "abort").await;

    proxy.command_window(&first, "finish").await;
    proxy.until_window(&second, "exclusive").await;
    assert_eq!(proxy.window(&third).await["state"], "queued");
    // Whoever does not wait comes after whoever does.
    proxy.admin().post(&path, json!({})).await.expect(409);
    proxy.command_window(&second, "abort").await;
    proxy.until_window(&third, "exclusive").await;
    let list = proxy.admin().get(&path).await.expect(200);
    let list = list["windows"].as_array().expect("a list").clone();
    let open: Vec<&Value> = list
        .iter()
        .filter(|window| window["state"] != "closed")
        .map(|window| &window["id"])
        .collect();
    assert_eq!((list.len(), open), (6, vec![&json!(third.id)]));
}

#[tokio::test]
async fn progress_is_streamed_and_every_change_is_told() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut busy = proxy.session(DB).await;
    busy.execute("BEGIN").await;
    let order = json!({"wait": "10m", "by": "anna", "reason": "r"});
    let window = proxy.order(DB, order).await;
    proxy.until_window(&window, "draining").await;
    until("the drain to begin", SOON, async || {
        proxy.window(&window).await["drained_percent"] == 0
    })
    .await;
    let mut stream = TcpStream::connect(proxy.admin().addr)
        .await
        .expect("it listens");
    let request = format!(
        "GET /v1/windows/{}/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
        window.id
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut events = String::new();
    until("the first piece of news", SOON, async || {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).await.expect("it writes");
        events += &String::from_utf8_lossy(&some[..read]);
        events.contains("event: draining")
    })
    .await;
    let waiting = held(&proxy).await;
    busy.execute("COMMIT").await;
    proxy.until_window(&window, "exclusive").await;
    let by_her = json!({"term": window.term, "by": "berta"});
    assert_eq!(post(&proxy, &window, "finish", by_her).await.0, 202);
    assert_served(waiting).await;
    let rest = stream.read_to_string(&mut events);
    within("the end of the news", SOON, rest)
        .await
        .expect("text");
    let told: Vec<Value> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let first = &told[0];
    assert_eq!(
        (&first["state"], &first["drained_percent"]),
        (&json!("draining"), &json!(0))
    );
    assert_eq!(
        first["drain"]["in_the_way"][0]["pid"],
        busy.key().0,
        "{first}"
    );
    assert!(first["left_ms"].as_u64().is_some() && first["key"].is_null());
    let last = told.last().expect("more than one");
    assert_eq!(
        (&last["state"], &last["drained_percent"]),
        (&json!("closed"), &json!(100))
    );

    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("a list").clone();
    let changes: Vec<Value> = events
        .iter()
        .filter(|event| event["kind"] == "window")
        .map(|event| {
            json!([
                event["by"],
                event["reason"],
                event["before"],
                event["after"]
            ])
        })
        .collect();
    let expected: Vec<Value> = ["queued", "draining", "exclusive", "ending", "closed"]
        .windows(2)
        .map(|pair| {
            // Who ended it is told, too.
            let by = if pair[1] == "ending" { "berta" } else { "anna" };
            json!([by, "r", pair[0], pair[1]])
        })
        .collect();
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn a_key_passes_encrypted_and_with_every_kind_of_proof() {
    let mut postgres = Postgres::start_with(&[], &HBA).await;
    postgres
        .execute("CREATE USER scram PASSWORD 'hush-scram'")
        .await;
    let files = Files::new();
    let kept = postgres.kept("scram").await;
    let users = files.write("users", &format!("\"scram\" \"{kept}\"\n"));
    let terminated = format!("users_file = '{users}'\n{}", rule("scram-sha-256"));
    for rules in ["", &terminated] {
        let proxy = files.proxy(&postgres, rules).await;
        let window = proxy.exclusive(DB, json!({"connections": 1})).await;
        let options = format!("-c pgdrain.window={}", window.key);
        let parameters = [("user", "scram"), ("database", DB), ("options", &options)];
        let wrong = Wire::login_with(proxy.addr(), &parameters, Some("wrong")).await;
        // The key replaces no password, and a login that failed has not used it.
        assert_eq!(sqlstate(&wrong.expect_err("a wrong password")), "28P01");
        until("the failed login to be over", SOON, async || {
            proxy.window(&window).await["connections_now"] == 0
        })
        .await;
        let inside = Wire::login_with(proxy.addr(), &parameters, Some("hush-scram")).await;
        let mut inside = inside.unwrap_or_else(|error| panic!("{rules}: {error:?}"));
        assert_eq!(inside.query_one("SELECT current_user").await, "scram");
        // Not even at the level `trace`.
        let secret = window.key.split_once('.').expect("two parts").1;
        assert!(!proxy.log().contains(secret));
    }

    let postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let pair = authority.sign("proxy", &["localhost"]);
    let proxy = Proxy::start_set(&postgres, &pair.settings()).await;
    let window = proxy.exclusive(DB, json!({})).await;
    let tls = Encrypting::trusting(&authority, None);
    let mut inside = Wire::new(tls.asked(proxy.addr()).await.expect("a handshake"));
    let name = format!("pgdrain.window={}", window.key);
    let parameters = [
        ("user", "postgres"),
        ("database", DB),
        ("application_name", &name),
    ];
    inside.log_in(&parameters, None).await.expect("let in");
    inside.execute("CREATE TABLE t (a int)").await;
}

#[tokio::test]
async fn traffic_is_capped_before_and_after_a_window() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    // Two at once, and then half of that.
    let mut busy = [proxy.session(DB).await, proxy.session(DB).await];
    for session in &mut busy {
        session.execute("BEGIN").await;
    }
    let cap = async || proxy.status(DB).await["cap"]["transactions"].as_u64();
    let order = json!({"cap": "50%", "cap_before": "2s", "cap_after": "1h"});
    let window = proxy.order(DB, order).await;
    proxy.until_window(&window, "capped").await;
    // It is told first, and then done.
    let until_capped = async || {
        until("the window's cap", SOON, async || cap().await == Some(1)).await;
    };
    until_capped().await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
    for session in &mut busy {
        session.execute("COMMIT").await;
    }
    proxy.until_window(&window, "exclusive").await;
    proxy.command_window(&window, "finish").await;
    proxy.until_window(&window, "closed").await;
    assert_eq!(cap().await, Some(1));
    // One at a time flows all the same.
    busy[0].execute("BEGIN").await;
    busy[1].send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    busy[0].execute("COMMIT").await;
    busy[1].read_until_ready().await;

    // Without a time after it the cap goes with the window, also with one that was given up.
    let order = json!({"cap": "1", "cap_before": "1h", "cap_after": "0s"});
    let window = proxy.order(DB, order).await;
    proxy.until_window(&window, "capped").await;
    proxy.command_window(&window, "abort").await;
    until("the cap to be taken off", SOON, async || {
        cap().await.is_none()
    })
    .await;
    // Whoever caps meanwhile has the say.
    let order = json!({"cap": "1", "cap_before": "1h", "cap_after": "1h"});
    let window = proxy.order(DB, order).await;
    proxy.until_window(&window, "capped").await;
    until_capped().await;
    assert_eq!(proxy.run(&["cap", DB, "5"]).await.code, Some(0));
    let next = proxy.order(DB, json!({"if_busy": "queue"})).await;
    proxy.command_window(&window, "abort").await;
    // It has its turn when nothing of the other is left.
    proxy.until_window(&next, "exclusive").await;
    assert_eq!(cap().await, Some(5));
    proxy.command_window(&next, "finish").await;
    proxy.until_window(&next, "closed").await;
    assert_eq!(cap().await, Some(5));
    let refused = json!({"cap": "off"});
    let path = format!("/v1/databases/{DB}/windows");
    proxy.admin().post(&path, refused).await.expect(400);
}
