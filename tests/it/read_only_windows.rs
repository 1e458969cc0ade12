//! Windows that let reads in: their connections write, all others read, and whoever would write waits.
//! And the stages in front of a window that lets nobody in.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgdrain::tasks::Tasks;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::{Proxy, Ran};
use crate::support::windows::Ordered;
use crate::support::wire::Wire;

const COUNT: &str = "SELECT count(*) FROM t";

async fn table(postgres: &mut Postgres) {
    postgres
        .execute("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        .await;
}

/// A client that reads again and again, in blocks and without, until it is told to stop. No read may
/// fail.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Reader {
    async fn start(proxy: &Proxy) -> Self {
        let mut session = proxy.session(DB).await;
        let (stop, reads) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&reads));
        let task = Tasks::new().spawn("reader", async move {
            while !stopped.load(Ordering::Relaxed) {
                session.query_one(COUNT).await;
                session.execute("BEGIN").await;
                session.query_one(COUNT).await;
                session.execute("COMMIT").await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, reads, task }
    }

    /// Waits until it has read twice more: once may have been under way.
    async fn goes_on(&self) {
        let before = self.reads.load(Ordering::Relaxed);
        until("reads to go on", SOON, async || {
            self.reads.load(Ordering::Relaxed) >= before + 2
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no read failed");
    }
}

/// A session whose write waits.
async fn held_write(proxy: &Proxy, sql: &str) -> Wire {
    let mut session = proxy.session(DB).await;
    session.send(&message::query(sql)).await;
    proxy.until_held(DB, 1).await;
    session
}

async fn assert_done(mut session: Wire, tag: &str) {
    let answer = session.read_until_ready().await;
    assert_eq!(answer[0].body, format!("{tag}\0").as_bytes(), "{answer:?}");
}

/// `pgdrain window exec` with a shell script, not waited for.
fn exec(proxy: &Proxy, flags: &[&str], script: &str) -> Child {
    let command = ["--", "sh", "-c", script];
    let all = [&["window", "exec", DB][..], flags, &command[..]].concat();
    let mut command = proxy.command(&all);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

async fn end(mut child: Child) -> Ran {
    until("the command to end", SOON, async || {
        child.try_wait().expect("a child of ours").is_some()
    })
    .await;
    let output = child.wait_with_output().expect("it has ended");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

const PSQL: &str = "psql -X -q -U postgres -v ON_ERROR_STOP=1 -c";

async fn only_window(proxy: &Proxy) -> Value {
    let path = "/v1/databases/*/windows";
    let list = proxy.admin().get(path).await.expect(200);
    list["windows"][0].clone()
}

#[tokio::test]
async fn an_index_is_built_while_reads_go_on_and_writes_wait() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let reader = Reader::start(&proxy).await;
    let gone_on = proxy.state_dir().join("go on");
    let script = format!(
        "{PSQL} 'CREATE INDEX CONCURRENTLY by_n ON t (n)' && {PSQL} 'CREATE TABLE u AS SELECT 1 AS n' \
         && while [ ! -e '{}' ]; do sleep 0.05; done",
        gone_on.display()
    );
    let running = exec(&proxy, &["--mode", "read_only"], &script);
    until("the work to be done", SOON, async || {
        let done = "SELECT count(*) FROM pg_class WHERE relname = 'u'";
        postgres.count(done).await == 1
    })
    .await;
    let window = only_window(&proxy).await;
    assert_eq!(
        (&window["state"], &window["mode"]),
        (&json!("exclusive"), &json!("read_only"))
    );
    assert_eq!(proxy.status(DB).await["mode"], "read_only");
    let writer = held_write(&proxy, "INSERT INTO t VALUES (1001)").await;
    reader.goes_on().await;
    assert_eq!(postgres.count(COUNT).await, 1000);
    let valid = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = 'by_n'::regclass";
    assert_eq!(postgres.count(valid).await, 1);

    std::fs::write(gone_on, "").expect("a file in a directory of ours");
    let ran = end(running).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_done(writer, "INSERT 0 1").await;
    reader.goes_on().await;
    reader.stop().await;
    proxy.until_mode(DB, "open").await;
}

/// What the connection of a window waits for in the database is let go by itself: who reads holds nothing
/// while he is kept waiting.
#[tokio::test]
async fn the_windows_locks_and_the_readers_do_not_wait_for_each_other() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut reads_then_writes = proxy.session(DB).await;
    let window = proxy.exclusive(DB, json!({"mode": "read_only"})).await;
    let mut inside = proxy.inside(&window).await;
    reads_then_writes.execute("BEGIN").await;
    reads_then_writes.query_one(COUNT).await;
    // It needs the lock that the reader's transaction is in the way of.
    inside
        .send(&message::query("ALTER TABLE t ADD c int"))
        .await;
    postgres.until_somebody_waits().await;
    let refused = reads_then_writes.query("DELETE FROM t").await;
    assert_eq!(refused[0].sqlstate(), "40001", "{refused:?}");
    let altered = inside.read_until_ready().await;
    assert_eq!(altered[0].body, b"ALTER TABLE\0", "{altered:?}");
    reads_then_writes.execute("ROLLBACK").await;
    proxy.command_window(&window, "finish").await;
    proxy.until_mode(DB, "open").await;
    reads_then_writes.execute("DELETE FROM t").await;
}

fn staged() -> Value {
    json!({
        "cap": 4, "cap_before": "1s", "cap_after": "0s", "read_only_for": "4s", "lease": "60s",
        "for": "60s"
    })
}

async fn until_state(proxy: &Proxy, window: &Ordered, state: &str) -> Value {
    proxy.until_window(window, state).await
}

#[tokio::test]
async fn a_window_goes_from_stage_to_stage_and_traffic_never_flows_in_between() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let reader = Reader::start(&proxy).await;
    let window = proxy.order(DB, staged()).await;
    until_state(&proxy, &window, "capped").await;
    proxy
        .session(DB)
        .await
        .execute("INSERT INTO t VALUES (1001)")
        .await;
    until_state(&proxy, &window, "read_only").await;
    // Its own time begins when all is held.
    until("the time that is left", SOON, async || {
        let left = proxy.window(&window).await["left_ms"].as_u64();
        left.is_some_and(|left| left > 60_000)
    })
    .await;
    proxy.until_mode(DB, "read_only").await;
    let writer = held_write(&proxy, "INSERT INTO t VALUES (1002)").await;
    reader.goes_on().await;
    let early = proxy.through(DB, &window.key).await;
    assert!(early.is_err(), "nobody is let in while reads go on");

    let view = until_state(&proxy, &window, "exclusive").await;
    assert_eq!(view["drain"]["outcome"], "drained", "{view}");
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    let mut inside = proxy.inside(&window).await;
    assert_eq!(inside.query_one(COUNT).await, "1001");
    inside.execute("ALTER TABLE t ADD c int").await;
    // Now the reader waits too.
    proxy.until_held(DB, 2).await;
    proxy.command_window(&window, "finish").await;
    assert_done(writer, "INSERT 0 1").await;
    reader.goes_on().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_window_that_is_aborted_in_any_stage_reopens() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    for stage in ["capped", "read_only", "draining", "exclusive"] {
        let mut blocker = proxy.session(DB).await;
        if stage == "draining" {
            blocker.execute("BEGIN").await;
            blocker.execute("UPDATE t SET n = n WHERE n = 1").await;
        }
        let mut order = staged();
        order["wait"] = "60s".into();
        order["read_only_for"] = "1s".into();
        let window = proxy.order(DB, order).await;
        until_state(&proxy, &window, stage).await;
        if stage != "capped" {
            // The stage begins just before its hold.
            until("traffic to be held", SOON, async || {
                proxy.status(DB).await["mode"] != "open"
            })
            .await;
        }
        let mut writer = proxy.session(DB).await;
        writer
            .send(&message::query("INSERT INTO t VALUES (1)"))
            .await;
        if stage != "capped" {
            proxy.until_held(DB, 1).await;
        }
        proxy.command_window(&window, "abort").await;
        let view = until_state(&proxy, &window, "closed").await;
        assert_eq!(view["why"], "aborted", "{stage}: {view}");
        assert_done(writer, "INSERT 0 1").await;
        proxy.until_mode(DB, "open").await;
        if stage == "draining" {
            blocker.execute("COMMIT").await;
        }
        blocker.execute("DELETE FROM t WHERE n = 2").await;
    }
}

#[tokio::test]
async fn a_stage_whose_hold_is_opened_by_force_is_the_end_of_the_window() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let mut order = staged();
    order["read_only_for"] = "60s".into();
    let window = proxy.order(DB, order).await;
    until_state(&proxy, &window, "read_only").await;
    proxy.until_mode(DB, "read_only").await;
    let writer = held_write(&proxy, "INSERT INTO t VALUES (1)").await;
    let ran = proxy.run(&["open", DB]).await;
    assert_ne!(ran.code, Some(0), "a window is at work: {ran:?}");
    let ran = proxy.run(&["open", DB, "--force"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_done(writer, "INSERT 0 1").await;
    let view = until_state(&proxy, &window, "closed").await;
    assert_eq!(view["why"], "not_granted", "{view}");
}

#[tokio::test]
async fn a_holder_that_dies_leaves_nothing_closed() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let proxy = Proxy::start(&postgres).await;
    let script = format!("{PSQL} 'SELECT pg_sleep(600)'");
    let flags = ["--mode", "read_only", "--lease", "2s"];
    let mut running = exec(&proxy, &flags, &script);
    until("the command to be inside", SOON, async || {
        only_window(&proxy).await["connections_now"] == 1
    })
    .await;
    let writer = held_write(&proxy, "INSERT INTO t VALUES (1)").await;
    running.kill().expect("a child of ours");
    running.wait().expect("it was killed");
    assert_done(writer, "INSERT 0 1").await;
    let why = eventually("the end of the window", SOON, async || {
        let window = only_window(&proxy).await;
        (window["state"] == "closed").then(|| window["why"].clone())
    })
    .await;
    assert_eq!(why, "lease_lost");
    let inside = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' \
                  AND pid <> pg_backend_pid()";
    assert_eq!(postgres.count(inside).await, 0);
}

#[tokio::test]
async fn after_a_crash_reads_go_on_until_the_work_is_known_to_be_over() {
    let mut postgres = Postgres::start().await;
    table(&mut postgres).await;
    let mut proxy = Proxy::start(&postgres).await;
    let order = json!({"mode": "read_only", "on_lost": "stay"});
    let window = proxy.exclusive(DB, order).await;
    let mut inside = proxy.inside(&window).await;
    inside.execute("BEGIN").await;
    inside.execute("INSERT INTO t VALUES (1001)").await;
    proxy.launch().await;
    proxy.until_mode(DB, "read_only").await;
    let mut session = proxy.session(DB).await;
    assert_eq!(session.query_one(COUNT).await, "1000");
    let writer = held_write(&proxy, "INSERT INTO t VALUES (1002)").await;
    eventually("the backend to be gone", SOON, async || {
        let holds = proxy.status(DB).await["holds"].clone();
        let stays = holds[0]["stays"].as_str()?.to_owned();
        stays.contains("rolled back").then_some(())
    })
    .await;
    assert_eq!(session.query_one(COUNT).await, "1000");
    let ran = proxy.run(&["open", DB]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_done(writer, "INSERT 0 1").await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let path = format!("/v1/databases/{DB}/windows");
    for order in [
        json!({"mode": "read_only", "read_only_for": "1s"}),
        json!({"mode": "read_only", "fence": true}),
        json!({"mode": "sometimes"}),
    ] {
        proxy.admin().post(&path, order).await.expect(400);
    }
}
