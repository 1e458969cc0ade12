//! A window that somebody works in, when the proxy is killed: unknown until its backends are gone,
//! and then what was agreed.

use serde_json::{Value, json};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;

const ONE: &str = "SELECT 1";

#[tokio::test]
async fn a_window_that_waited_or_drained_is_no_more_and_traffic_flows() {
    let postgres = Postgres::start().await;
    for stage in ["queued", "draining"] {
        let mut proxy = Proxy::start(&postgres).await;
        let mut busy = proxy.session(DB).await;
        busy.execute("BEGIN").await;
        let order = json!({"on_lost": "reopen", "wait": "10m", "if_busy": "queue"});
        let mut window = proxy.order(DB, order.clone()).await;
        proxy.until_window(&window, "draining").await;
        if stage == "queued" {
            window = proxy.order(DB, order).await;
            assert_eq!(proxy.window(&window).await["state"], "queued");
        }
        proxy.launch().await;
        proxy.session(DB).await.execute(ONE).await;
        let path = format!("/v1/windows/{}", window.id);
        assert_eq!(proxy.admin().get(&path).await.status, 404);
        proxy.until_mode(DB, "open").await;
        // The next one is as good as any, with a later term.
        let next = proxy.exclusive(DB, json!({})).await;
        assert!(next.term > window.term);
    }
}

#[tokio::test]
async fn what_worked_is_ended_and_the_policy_acts() {
    for (on_lost, mode) in [("reopen", "open"), ("stay", "hold")] {
        let mut postgres = Postgres::start().await;
        postgres.execute("CREATE TABLE t (a int)").await;
        let mut proxy = Proxy::start(&postgres).await;
        let window = proxy.exclusive(DB, json!({"on_lost": on_lost})).await;
        let mut inside = proxy.inside(&window).await;
        inside.execute("INSERT INTO t VALUES (1)").await;
        inside.execute("BEGIN").await;
        inside.execute("INSERT INTO t VALUES (2)").await;
        // It does not look at its socket before it has slept: it outlives the proxy.
        inside.send(&message::query("SELECT pg_sleep(600)")).await;
        postgres.until_asleep(inside.key().0).await;
        proxy.launch().await;
        let mut early = proxy.session(DB).await;
        early.send(&message::query("SELECT count(*) FROM t")).await;
        if mode == "open" {
            let answer = early.read_until_ready().await;
            // What was committed is there, and what was not is not.
            assert!(
                answer
                    .iter()
                    .any(|message| message.body.ends_with(b"\0\0\0\x011")),
                "{answer:?}"
            );
            proxy.until_mode(DB, "open").await;
        } else {
            until("the proxy to know what became of it", SOON, async || {
                let status = proxy.status(DB).await;
                let stays = status["holds"][0]["stays"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                stays.contains("its backends are gone")
            })
            .await;
        }
        let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' \
                    AND pid <> pg_backend_pid()";
        assert_eq!(postgres.count(left).await, 0);
        proxy
            .through(DB, &window.key)
            .await
            .expect_err("its key died with the proxy");
        if mode == "hold" {
            // A person has to look, also after one more crash.
            proxy.launch().await;
            proxy.until_mode(DB, "hold").await;
            proxy.open(DB).await;
            proxy.session(DB).await.execute(ONE).await;
        }
        assert_eq!(postgres.count("SELECT count(*) FROM t").await, 1);
    }
}

#[tokio::test]
async fn a_window_that_was_ending_is_ended_after_the_crash() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (a int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({"on_lost": "reopen"})).await;
    let mut inside = proxy.inside(&window).await;
    inside.execute("BEGIN").await;
    inside.execute("INSERT INTO t VALUES (2)").await;
    // The server has no time for cancel requests.
    let pid = inside.key().0;
    let freeze = pgdrain::cli::demo::cluster::process::Signal::Stop;
    pgdrain::cli::demo::cluster::process::send(freeze, &[pid]).expect("a shell");
    inside
        .send(&message::query("INSERT INTO t VALUES (3)"))
        .await;
    proxy.command_window(&window, "finish").await;
    let view = proxy.window(&window).await;
    assert_eq!(view["state"], "ending", "{view}");
    // It is not let go while its backend is there.
    proxy.launch().await;
    let mut early = proxy.session(DB).await;
    early.send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    until("the proxy to find the backend", SOON, async || {
        let stays = proxy.status(DB).await["holds"][0]["stays"].to_string();
        stays.contains(&pid.to_string())
    })
    .await;
    let thaw = pgdrain::cli::demo::cluster::process::Signal::Continue;
    pgdrain::cli::demo::cluster::process::send(thaw, &[pid]).expect("a shell");
    early.read_until_ready().await;
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_grants_no_window_and_lets_nobody_in() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({})).await;
    let broken = proxy.state_dir().join("journal.json.new");
    std::fs::create_dir(&broken).expect("a directory");
    // A backend that a crash would forget may not work.
    proxy
        .through(DB, &window.key)
        .await
        .expect_err("not written down");
    let path = "/v1/databases/template1/windows";
    let refused = proxy.admin().post(path, json!({})).await.expect(503);
    assert_eq!(refused["error"]["code"], "journal_failed");
    std::fs::remove_dir(&broken).expect("it was empty");
    proxy.inside(&window).await.execute(ONE).await;
    assert_eq!(proxy.window(&window).await["connections_used"], 1);
}

/// Process ids are used again: whoever has that of a left backend by now is known by when it was started.
#[tokio::test]
async fn a_stranger_with_the_process_id_of_a_left_backend_is_left_alone() {
    let mut postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({"on_lost": "reopen"})).await;
    let inside = proxy.inside(&window).await;
    let file = proxy.state_dir().join("journal.json");
    let noted = eventually("its start to be noted", SOON, async || {
        let text = std::fs::read_to_string(&file).expect("a journal");
        let journal: Value = serde_json::from_str(&text).expect("JSON");
        let born = &journal["windows"][DB]["lent"]["born"][0];
        (born["pid"] == inside.key().0 && born["born"].is_i64()).then_some(journal)
    })
    .await;
    proxy.kill();
    // The same window, had it left the process id of a session that is none of its.
    for (off, ends) in [(1, false), (0, true)] {
        let stranger = postgres.connect(DB).await;
        let row = stranger
            .query_one(
                "SELECT pid, (extract(epoch from backend_start) * 1000000)::int8
                   FROM pg_stat_activity WHERE pid = pg_backend_pid()",
                &[],
            )
            .await
            .expect("a row");
        let (pid, born): (i32, i64) = (row.get(0), row.get(1));
        let mut journal = noted.clone();
        let lent = &mut journal["windows"][DB]["lent"];
        lent["backends"] = json!([pid]);
        lent["born"] = json!([{"pid": pid, "born": born - off}]);
        std::fs::write(&file, journal.to_string()).expect("a journal");
        proxy.launch().await;
        proxy.until_mode(DB, "open").await;
        proxy.session(DB).await.execute(ONE).await;
        assert_eq!(stranger.batch_execute(ONE).await.is_err(), ends);
        proxy.kill();
    }
}
