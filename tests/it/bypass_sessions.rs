//! Exclusive means alone: sessions that did not come through us are found, named, and treated as the
//! policy says, also when they come in the middle of a window.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::pooler::Pooler;
use crate::support::proxy::Proxy;
use crate::support::shop::Shop;
use crate::support::tool;

/// A server, a proxy that has a gate for [`DB`], and a session that did not come through it.
struct Scene {
    postgres: Postgres,
    proxy: Proxy,
    around: Client,
    pid: i32,
}

impl Scene {
    async fn open() -> Self {
        Self::before(Postgres::start().await).await
    }

    async fn before(mut postgres: Postgres) -> Self {
        let proxy = Proxy::start(&postgres).await;
        let (around, pid) = direct(&mut postgres).await;
        drop(proxy.session(DB).await);
        Self {
            postgres,
            proxy,
            around,
            pid,
        }
    }

    /// The session around us begins a transaction and sits in it.
    async fn begin(&self) {
        let begun = self.around.batch_execute("BEGIN; SELECT 1").await;
        begun.expect("a transaction");
    }

    /// The same where it may be ended in the middle of that.
    async fn begin_in_danger(&self) {
        drop(self.around.batch_execute("BEGIN; SELECT 1").await);
    }

    /// Waits until the report of the only hold names the session in this list.
    async fn until_named(&self, list: &str) -> Value {
        eventually("the report to name it", SOON, async || {
            let drain = self.proxy.drain(DB).await;
            let named = drain[list].as_array().cloned().unwrap_or_default();
            named.into_iter().find(|who| who["pid"] == self.pid)
        })
        .await
    }

    async fn assert_ended(&self) {
        let error = self.around.simple_query("SELECT 1").await;
        let error = error.expect_err("its session was terminated");
        let state = error.code().map(|code| code.code().to_owned());
        assert!(
            state.as_deref() == Some("57P01") || error.is_closed(),
            "{error:?}"
        );
    }
}

/// A connection around the proxy, and its process id.
async fn direct(postgres: &mut Postgres) -> (Client, i32) {
    let client = postgres.connect(DB).await;
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid = row.expect("a row").get(0);
    (client, pid)
}

#[tokio::test]
async fn one_that_is_waited_for_is_in_the_way_until_its_transaction_is_over() {
    let scene = Scene::open().await;
    scene.begin().await;
    let impatient = json!({"bypass": "wait", "wait": "200ms"});
    let drain = scene.proxy.hold_in_vain(DB, impatient).await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&format!("pid {} ", scene.pid)), "{detail}");
    let named = &drain["in_the_way"][0];
    assert_eq!(
        (&named["pid"], &named["bypass"]),
        (&json!(scene.pid), &json!(true))
    );
    assert!(named["backend_started_at"].is_string(), "{drain}");
    scene.proxy.until_mode(DB, "open").await;

    let patient = json!({"bypass": "wait", "wait": "10m", "for": "20m"});
    scene.proxy.hold(DB, patient).await;
    scene.until_named("in_the_way").await;
    scene
        .around
        .batch_execute("COMMIT")
        .await
        .expect("a commit");
    let drain = scene.proxy.until_drained(DB).await;
    assert_eq!(drain["bypass"], json!([]), "{drain}");
}

#[tokio::test]
async fn what_one_runs_is_cancelled_and_its_session_lives() {
    let mut scene = Scene::open().await;
    let pid = u32::try_from(scene.pid).expect("a process id");
    let hold = async {
        scene.postgres.until_asleep(pid).await;
        let options = json!({"bypass": "cancel", "wait": "60s"});
        scene.proxy.hold_drained(DB, options).await
    };
    let (slept, drain) = tokio::join!(scene.around.simple_query("SELECT pg_sleep(600)"), hold);
    let error = slept.expect_err("it was cancelled");
    let code = error.code().expect("an error of the server").code();
    assert_eq!(code, "57014", "{error:?}");
    let _alive = scene.around.simple_query("SELECT 1").await.expect("a row");
    let cancelled = &drain["cancelled"][0];
    assert_eq!(
        (&cancelled["pid"], &cancelled["bypass"]),
        (&json!(scene.pid), &json!(true)),
        "{drain}"
    );
}

#[tokio::test]
async fn one_that_sits_in_its_transaction_is_not_cancelled_but_waited_for() {
    let scene = Scene::open().await;
    scene.begin().await;
    let options = json!({"bypass": "cancel", "wait": "2s"});
    let drain = scene.proxy.hold_in_vain(DB, options).await;
    assert_eq!(
        (&drain["outcome"], &drain["cancelled"]),
        (&json!("exhausted"), &json!([]))
    );
    scene
        .around
        .batch_execute("COMMIT")
        .await
        .expect("it lives");
}

#[tokio::test]
async fn one_that_is_to_be_terminated_is_gone() {
    let scene = Scene::open().await;
    scene.begin().await;
    let ran = scene
        .proxy
        .run(&["hold", DB, "--bypass", "terminate", "--wait", "60s"])
        .await;
    ran.assert(0, &["drained", "terminated:", &scene.pid.to_string()]);
    scene.assert_ended().await;
    let drain = scene.proxy.drain(DB).await;
    assert_eq!(drain["terminated"][0]["bypass"], json!(true), "{drain}");
}

/// The hold is drained long since when somebody comes.
#[tokio::test]
async fn one_that_comes_later_is_told_of_and_treated() {
    let mut scene = Scene::open().await;
    scene
        .proxy
        .hold_drained(DB, json!({"bypass": "wait"}))
        .await;
    scene.begin().await;
    let who = scene.until_named("bypass").await;
    assert_eq!(who["state"], "in_transaction", "{who}");
    until("the log to tell of it", SOON, async || {
        scene
            .proxy
            .log()
            .contains("did not come through pgdrain: pid")
    })
    .await;
    scene
        .around
        .batch_execute("COMMIT")
        .await
        .expect("it lives");

    let next = direct(&mut scene.postgres).await;
    scene
        .proxy
        .hold_drained(DB, json!({"bypass": "terminate"}))
        .await;
    scene.begin_in_danger().await;
    scene.until_named("terminated").await;
    scene.assert_ended().await;
    // Nobody that is known.
    (scene.around, scene.pid) = next;
    scene.begin_in_danger().await;
    scene.until_named("terminated").await;
    scene.proxy.open(DB).await;
    (scene.around, scene.pid) = direct(&mut scene.postgres).await;
    scene.begin().await;
    scene
        .around
        .batch_execute("COMMIT")
        .await
        .expect("nobody ends it any more");
}

/// Our own sessions, and those of clients of ours that left, are no bypass sessions.
#[tokio::test]
async fn our_own_are_let_be() {
    let scene = Scene::open().await;
    let mut inside = scene.proxy.session(DB).await;
    inside.execute("BEGIN").await;
    let mut left = scene.proxy.session(DB).await;
    left.send(&message::query("SELECT pg_sleep(600)")).await;
    let (orphan, _) = left.key();
    let backend = postgres_stop(orphan);
    drop(left);
    let options = json!({"bypass": "terminate", "wait": "10m", "for": "20m"});
    scene.proxy.hold(DB, options).await;
    scene.begin().await;
    scene.until_named("terminated").await;
    let drain = scene.proxy.drain(DB).await;
    let terminated = drain["terminated"].as_array().expect("a list");
    assert_eq!(terminated.len(), 1, "{drain}");
    inside.execute("COMMIT").await;
    backend.go_on();
    scene.proxy.until_drained(DB).await;
}

/// A stopped process, which goes on in the end whatever happens.
struct Stopped(u32);

fn postgres_stop(pid: u32) -> Stopped {
    use pgdrain::cli::demo::cluster::process::{self, Signal};
    process::send(Signal::Stop, &[pid]).expect("a shell");
    Stopped(pid)
}

impl Stopped {
    fn go_on(self) {
        drop(self);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        use pgdrain::cli::demo::cluster::process::{self, Signal};
        // It may be gone with its server.
        drop(process::send(Signal::Continue, &[self.0]));
    }
}

#[tokio::test]
async fn a_window_waits_for_them_unless_told_otherwise() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let (around, pid) = direct(&mut shop.postgres).await;
    around
        .batch_execute("begin; select 1")
        .await
        .expect("a transaction");
    let refused = shop.migrate(&["up", "--wait", "200ms"]).await;
    refused.assert(6, &[&format!("pid {pid} ")]);
    assert!(!shop.has("a").await);
    let ignoring = shop
        .migrate(&["up", "--wait", "200ms", "--bypass", "ignore"])
        .await;
    ignoring.assert(0, &["done: one file"]);
}

/// It comes when the window is exclusive, and DDL waits for its lock.
#[tokio::test]
async fn one_that_locks_what_a_migration_needs_is_ended_in_time() {
    let mut shop = Shop::open().await;
    let file = "select pg_sleep(2);\nalter table written add column note text;";
    shop.write("001_a.up.sql", file);
    let (around, _) = direct(&mut shop.postgres).await;
    let up = shop.begin(&["up", "--bypass", "terminate", "--lock-timeout", "10s"]);
    // Asked of the proxy: whoever asks the server is in a transaction of its own then.
    until("an exclusive window", SOON, async || {
        shop.window().await["drain"]["outcome"] == "drained"
    })
    .await;
    let lock = "begin; lock table written in row exclusive mode";
    // It may be ended in the middle of that.
    drop(around.batch_execute(lock).await);
    up.ended().await.assert(0, &["done: one file"]);
    assert!(
        around.simple_query("select 1").await.is_err(),
        "it was terminated"
    );
    assert!(shop.proxy.log().contains("terminated"));
}

#[tokio::test]
async fn what_cannot_be_seen_blocks_a_window() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE ROLE watcher LOGIN").await;
    let proxy = Proxy::start_set(&postgres, &[("CONTROL_USER", "watcher")]).await;
    let (around, pid) = direct(&mut postgres).await;
    let blind = ["hold", DB, "--bypass", "wait", "--wait", "200ms"];
    let ran = proxy.run(&blind).await;
    let said = format!("the session {pid} of \"postgres\" does");
    ran.assert(6, &["unproved", &said, "pg_read_all_stats"]);
    proxy.open(DB).await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("001_a.up.sql"), "create table a ();").expect("a file");
    let dir = dir.path().to_str().expect("a path in UTF-8");
    let up = ["migrate", "up", DB, "--dir", dir, "--wait", "200ms"];
    proxy.run(&up).await.assert(6, &["pg_read_all_stats"]);
    drop(around);
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_proved_and_nobody_ended() {
    let mut postgres = Postgres::start().await;
    let pooler = Pooler::start(postgres.addr()).await;
    let upstream = format!("postgres://postgres@{}", pooler.addr());
    let proxy = Proxy::before(&upstream, &[]).await;
    let (around, _) = direct(&mut postgres).await;
    around
        .batch_execute("BEGIN; SELECT 1")
        .await
        .expect("a transaction");
    let mut inside = proxy.session(DB).await;
    let options = json!({"bypass": "terminate", "ladder": "force", "wait": "200ms",
        "cancel": "1s", "terminate": "1s"});
    let drain = proxy.hold_in_vain(DB, options.clone()).await;
    assert_eq!(drain["outcome"], "unproved", "{drain}");
    let detail = drain["detail"].as_str().expect("a sentence");
    assert!(detail.contains("a pooler stands between"), "{detail}");
    assert_eq!(
        (&drain["terminated"], &drain["cancelled"]),
        (&json!([]), &json!([]))
    );
    around.batch_execute("COMMIT").await.expect("it lives");
    proxy.open(DB).await;

    // The ladder stops at waiting.
    inside.execute("BEGIN").await;
    let drain = proxy.hold_in_vain(DB, options).await;
    assert_eq!(drain["outcome"], "exhausted", "{drain}");
    assert_eq!(
        (&drain["terminated"], &drain["cancelled"]),
        (&json!([]), &json!([]))
    );
    inside.execute("COMMIT").await;
}

#[tokio::test]
async fn a_report_names_prepared_transactions_and_base_backups() {
    let hba = [
        "local all all trust",
        "host all all 127.0.0.1/32 trust",
        "host replication all 127.0.0.1/32 trust",
    ];
    let scene = Scene::before(Postgres::start_with(&[], &hba).await).await;
    let prepare = "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'left behind'";
    scene.around.batch_execute(prepare).await.expect("prepared");
    let target = tempfile::tempdir().expect("a directory");
    let backup = target.path().join("backup");
    let backup = backup.to_str().expect("a path in UTF-8");
    let slowly = [
        "--max-rate=32k",
        "--checkpoint=fast",
        "--wal-method=none",
        "-D",
        backup,
    ];
    let _child = tool::spawn("pg_basebackup", scene.postgres.addr(), &slowly);
    let named = eventually("a report that names both", SOON, async || {
        let drain = scene.proxy.hold_drained(DB, json!({})).await;
        let obstacles = drain["obstacles"].as_array().cloned().unwrap_or_default();
        (obstacles.len() == 2).then_some(obstacles)
    })
    .await;
    assert_eq!(named[0]["kind"], "base_backup");
    assert_eq!(
        (&named[1]["kind"], &named[1]["name"], &named[1]["owner"]),
        (
            &json!("prepared_transaction"),
            &json!("left behind"),
            &json!("postgres")
        )
    );
    let ran = scene.proxy.run(&["hold", DB]).await;
    ran.assert(0, &["left behind", "base_backup"]);
}
