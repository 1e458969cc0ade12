//! A thread of the process that is lost, by a bug in what runs it, is the end of the process and of nothing else.
//!
//! strace makes the next look of one thread for news an error (EBADF), at which tokio panics there.

use std::process::{Child, Command, Stdio};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;

/// The threads of a process whose names begin so.
fn threads(pid: u32, name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("Linux");
    let tasks = tasks.map(|task| task.expect("an entry").path());
    let named = tasks.filter(|task| {
        let comm = std::fs::read_to_string(task.join("comm"));
        comm.is_ok_and(|comm| comm.starts_with(name))
    });
    let id = |task: std::path::PathBuf| task.file_name().map(|it| it.to_string_lossy().into());
    named.filter_map(id).collect()
}

/// strace on these threads; none, and said so, where it is not installed.
#[expect(clippy::print_stdout, reason = "what is skipped is said, not hidden")]
fn break_next_look(threads: &[String]) -> Option<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", "trace=epoll_wait"]);
    strace.args(["-e", "inject=epoll_wait:error=EBADF"]);
    for thread in threads {
        strace.args(["-p", thread]);
    }
    match strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            println!("skipped: there is no strace: {error}");
            None
        }
    }
}

/// A file that runs for long, alone.
fn migration(dir: &std::path::Path) {
    let sql = "create table a (); select pg_sleep(600)";
    std::fs::write(dir.join("1_a.up.sql"), sql).expect("room");
}

/// Begins the migration through the command, which goes on beside.
async fn migrating(proxy: &Proxy, postgres: &mut Postgres, dir: &std::path::Path) -> Child {
    migration(dir);
    let dir = dir.display().to_string();
    let mut up = proxy.command(&["migrate", "up", DB, "--dir", &dir]);
    let up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let client = postgres.connect(DB).await;
    until("the migration", SOON, async || {
        let sql = "select from pg_stat_activity where query like '%pg_sleep(600)%' \
                   and application_name = 'pgdrain migrate' and state = 'active'";
        client.query_opt(sql, &[]).await.expect("a look").is_some()
    })
    .await;
    up.expect("the command")
}

/// The next process on the same state directory: nothing is half-way, and everybody is served.
async fn all_is_well_again(proxy: &mut Proxy, postgres: &mut Postgres) {
    proxy.launch().await;
    let client = postgres.connect(DB).await;
    until("the migration's end is known", SOON, async || {
        let sql = "select state from pgdrain.migration";
        let row = client.query_one(sql, &[]).await.expect("the history");
        row.get::<_, String>(0) == "failed"
    })
    .await;
    let there = client.query_one("select to_regclass('a')::text", &[]).await;
    assert_eq!(there.expect("a look").get::<_, Option<String>>(0), None);
    let mut session = proxy.session(DB).await;
    session.send(&message::query("SELECT 1")).await;
    let answer = session.read_until_ready().await;
    assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
}

#[tokio::test]
async fn a_lost_worker_ends_the_process_in_order() {
    let mut postgres = Postgres::start().await;
    let mut proxy = Proxy::start_set(&postgres, &[("WORKERS", "3")]).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(proxy.session(DB).await);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut up = migrating(&proxy, &mut postgres, dir.path()).await;
    let threads = threads(proxy.pid(), "worker-1");
    assert_eq!(threads.len(), 1);
    let Some(mut strace) = break_next_look(&threads) else {
        return;
    };
    let status = proxy.ended().await;
    // Not a success: whoever supervises it starts it again.
    assert_eq!(status.code(), Some(5), "{status:?}");
    drop((strace.wait(), up.wait()));
    let log = proxy.log();
    assert!(log.contains("a worker thread panicked and its sessions ended"));
    assert!(log.contains("a worker thread was lost"), "{log}");
    for mut session in sessions {
        session.read_to_end().await;
    }
    all_is_well_again(&mut proxy, &mut postgres).await;
}

#[tokio::test]
async fn a_lost_home_of_migrations_ends_the_process_as_a_crash_does() {
    let mut postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut session = proxy.session(DB).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut up = migrating(&proxy, &mut postgres, dir.path()).await;
    let threads = threads(proxy.pid(), "tokio-r");
    let Some(mut strace) = break_next_look(&threads) else {
        return;
    };
    let status = proxy.ended().await;
    // By tokio itself in a build for tests; else by the watch that is kept on it.
    assert_eq!(status.code(), None, "{status:?}");
    drop((strace.wait(), up.wait()));
    session.read_to_end().await;
    all_is_well_again(&mut proxy, &mut postgres).await;
}
