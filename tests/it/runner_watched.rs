//! A run is watched while it goes on: what it does to others is seen, told, kept, and held against limits.

use std::time::Duration;

use pgdrain::config::{RunLog, Thresholds};
use pgdrain::runner::Options;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{EventKind, RunState, RunView};
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, file, options, texts};
use crate::support::poll::{SOON, until, within};

/// Takes the strongest lock and keeps it until somebody lets it go.
fn kept() -> Vec<PostedFile> {
    let sql = "-- pgdrain:traffic open\nalter table t add a int; select pg_advisory_xact_lock(77)";
    vec![file("1_a.up.sql", sql)]
}

/// The figures that the watcher has now.
async fn now(site: &Site, id: &str) -> Option<pgdrain::runner::watcher::Now> {
    let view = site.runner.follow(id, 0, Duration::ZERO).await;
    view.expect("the run").watch
}

/// A run that holds a lock while another session waits for it, for at least as long as it takes to be
/// seen.
async fn one_that_blocks(site: &mut Site) -> RunView {
    site.sql("create table t ()").await;
    let gate = site.postgres.connect(DATABASE).await;
    let close = gate.batch_execute("select pg_advisory_lock(77)");
    close.await.expect("the gate");
    let id = site.begin(&kept());
    site.running("select pg_advisory_xact_lock").await;
    let mut waiters = JoinSet::new();
    let waiter = site.postgres.connect(DATABASE).await;
    waiters.spawn(async move { waiter.batch_execute("select from t").await });
    until("the watcher to see who waits", SOON, async || {
        let seen = now(site, &id).await;
        seen.is_some_and(|it| it.blocked == 1 && it.wait_ms > 0 && it.held_ms >= 100)
    })
    .await;
    until("it to be told", SOON, async || {
        let view = site.runner.follow(&id, 0, Duration::ZERO).await;
        let view = view.expect("the run");
        let told = texts(&view, EventKind::Watch);
        told.iter()
            .any(|it| it.contains("1 session blocked, the longest for"))
    })
    .await;
    // It is in the status, too, and in the table, which the run's own transaction could not show.
    let running = site.status(&kept()).await.running.expect("a run");
    assert_eq!(
        (running.id.as_str(), running.state),
        (id.as_str(), RunState::Applying)
    );
    until("a row of progress", SOON, async || {
        let row = "select step || ' ' || (detail->>'blocked') from pgdrain.progress";
        site.ask(&format!("select coalesce(({row}), '')")).await == "runs 1"
    })
    .await;
    drop(gate);
    let view = site.end(&id).await;
    let answer = within("the waiter", SOON, waiters.join_next()).await;
    let answer = answer.expect("a waiter").expect("no panic");
    answer.expect("an answer");
    view
}

#[tokio::test]
async fn who_waits_and_which_locks_are_held_is_in_events_and_report() {
    let mut site = Site::start().await;
    let view = one_that_blocks(&mut site).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(view.watch, None);
    let report = view.report.expect("a report");
    assert!(report.breaches.is_empty(), "{report:?}");
    let seen = report.files[0].watch.as_ref().expect("figures");
    assert_eq!(
        (seen.blocked_max, seen.ungranted_max >= 1),
        (1, true),
        "{seen:?}"
    );
    assert!(seen.wait_max_ms > 0 && seen.held_max_ms >= 100, "{seen:?}");
    let lock = &seen.held[0];
    assert_eq!(
        (lock.relation.as_str(), lock.mode.as_str()),
        ("public.t", "AccessExclusiveLock")
    );
    // It is kept with the run.
    let kept = site
        .ask("select report #>> '{files,0,watch,blocked_max}' from pgdrain.run")
        .await;
    assert_eq!(kept, "1");
}

#[tokio::test]
async fn a_run_that_keeps_others_waiting_ends_with_three_if_that_is_asked() {
    let thresholds = Thresholds {
        lock_held: Some(Duration::from_millis(50)),
        lock_wait: None,
        blocked: Some(1),
        ..Thresholds::default()
    };
    let mut site = Site::start_with(Options {
        thresholds,
        ..options()
    })
    .await;
    let view = one_that_blocks(&mut site).await;
    // It is done all the same: the way back is for somebody to decide.
    assert_end(&view, RunState::Succeeded, 3);
    assert_eq!(site.row(1).await, "applied up 2/2");
    let report = view.report.expect("a report");
    let names: Vec<_> = report
        .breaches
        .iter()
        .map(|it| it.threshold.as_str())
        .collect();
    assert_eq!(names, ["lock_held", "blocked"]);
    assert_eq!(
        report.to_string(),
        "done: one file, but 2 thresholds were not kept"
    );
    assert_eq!(site.windows.log(), [""; 0]);
}

#[tokio::test]
async fn a_migration_tells_how_far_it_is_before_its_commit() {
    let mut site = Site::start().await;
    site.sql("create role plain; grant create on schema public to plain")
        .await;
    let gate = site.postgres.connect(DATABASE).await;
    let close = gate.batch_execute("select pg_advisory_lock(77)");
    close.await.expect("the gate");
    let sql = "-- pgdrain:owner plain\n-- pgdrain:traffic open\n\
               set client_min_messages = error;\n\
               select pgdrain.progress('copy', 'orders', 12.5);\n\
               select pg_advisory_xact_lock(77);\n\
               select pgdrain.progress('copy', 'orders', 100)";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    site.running("select pg_advisory_xact_lock").await;
    until("its line in the table", SOON, async || {
        let row = "select pct from pgdrain.progress where phase = 'copy' and step = 'orders'";
        site.ask(row).await == "12.50"
    })
    .await;
    drop(gate);
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let told = texts(&view, EventKind::Progress);
    assert_eq!(told, ["copy: orders, 12.5 %", "copy: orders, 100 %"]);
    let row = "select pct from pgdrain.progress where phase = 'copy'";
    assert_eq!(site.ask(row).await, "100.00");
}

#[tokio::test]
async fn a_watcher_that_is_killed_comes_back_and_fails_nothing() {
    let mut site = Site::start().await;
    site.sql("create table t ()").await;
    let gate = site.postgres.connect(DATABASE).await;
    let close = gate.batch_execute("select pg_advisory_lock(77)");
    close.await.expect("the gate");
    let id = site.begin(&kept());
    site.running("select pg_advisory_xact_lock").await;
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where application_name = 'pgdrain watch'";
    until("a watcher to kill", SOON, async || {
        site.ask(kill).await == "1"
    })
    .await;
    until("it to be back", SOON, async || {
        let view = site.runner.follow(&id, 0, Duration::ZERO).await;
        let view = view.expect("the run");
        let notes = texts(&view, EventKind::Note);
        notes
            .iter()
            .any(|it| it.starts_with("the run is not watched for now"))
            && notes.contains(&"the run is watched again")
    })
    .await;
    drop(gate);
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn an_index_that_is_built_is_followed_to_its_end() {
    let mut site = Site::start().await;
    site.sql("create table t as select i from generate_series(1, 1000) i")
        .await;
    // Who holds a snapshot of the table is waited for by a build that locks nobody out.
    let reader = site.postgres.connect(DATABASE).await;
    let read = reader.batch_execute("begin; insert into t values (0)");
    read.await.expect("a transaction");
    let id = site.begin(&[file("1_a.up.sql", "create index concurrently t_i on t (i)")]);
    until("the phase of the build", SOON, async || {
        let seen = now(&site, &id).await;
        seen.is_some_and(|it| {
            it.work.iter().any(|work| {
                work.what == "create index"
                    && work.phase == "waiting for writers before build"
                    && work.relation.as_deref() == Some("public.t")
            })
        })
    })
    .await;
    let end = reader.batch_execute("commit");
    end.await.expect("the end");
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn what_happens_is_written_down_in_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = RunLog {
        dir: Some(dir.path().to_owned()),
        ..RunLog::default()
    };
    let site = Site::start_with(Options { log, ..options() }).await;
    let view = site.up(&[file("1_a.up.sql", "create table t ()")]).await;
    assert_end(&view, RunState::Succeeded, 0);
    let all = view.events.len();
    until("every event in the file", SOON, async || {
        let text = std::fs::read_to_string(dir.path().join("migrations.jsonl"));
        text.is_ok_and(|it| it.lines().count() == all && it.ends_with('\n'))
    })
    .await;
    let logs = std::fs::read_dir(dir.path()).expect("the directory");
    let logs = logs.filter(|it| {
        let name = it.as_ref().expect("a file").file_name();
        name.to_string_lossy().starts_with("migrate-safe-")
    });
    assert_eq!(logs.count(), 1);
}

#[tokio::test]
async fn the_watcher_never_waits_behind_what_it_watches() {
    let mut site = Site::on(Postgres::start().await, options()).await;
    let view = one_that_blocks(&mut site).await;
    // While the strongest lock was held it went on looking: ten times a second, not once.
    let seen = view.report.expect("a report").files[0].watch.clone();
    let seen = seen.expect("figures");
    assert!(seen.looks >= 2, "{seen:?}");
}
