//! Whatever is killed, and whenever: no batch is lost and none is repeated.

use pgdrain::config::{Hook, HookPhase, Host};
use pgdrain::runner::Options;
use pgdrain::runner::recover::Outcome;
use pgdrain::runner::repair::RepairRequest;
use pgdrain::runner::report::FileOutcome;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, RunState, RunView, TrafficMode};

use crate::runner_survives::cutter::{Cut, Cutter};
use crate::support::migrations::{
    DATABASE, Site, assert_end, end, endpoint, file, options, request, runner,
};
use crate::support::poll::{SOON, until};

/// Each row counts how often it was done. Nothing in the statement keeps a batch from being
/// repeated: what does is the checkpoint.
fn files(directive: &str) -> Vec<PostedFile> {
    let sql = format!(
        "-- pgdrain:batch table=t size=100 {directive}\nupdate t set n = n + 1 where :batch"
    );
    vec![file("1_a.up.sql", &sql)]
}

async fn site() -> Site {
    let site = Site::start().await;
    site.sql(
        "create table t (id int primary key, n int not null default 0); \
         insert into t select i from generate_series(1, 2000) i",
    )
    .await;
    site
}

async fn assert_done(site: &Site) {
    assert_eq!(site.ask("select count(*) from t where n = 1").await, "2000");
    assert_eq!(
        site.ask("select batches || ' ' || rows_done from pgdrain.backfill")
            .await,
        "20 2000"
    );
}

/// Waits until so many rows are done, and a batch is at work.
async fn at_work(site: &Site, rows: u32) {
    until("batches", SOON, async || {
        let done = site.ask("select sum(n) from t").await;
        done.parse::<u32>().is_ok_and(|done| done >= rows)
    })
    .await;
}

const BACKENDS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                        where application_name = 'pgdrain migrate'";

#[tokio::test]
async fn killed_backends_cost_a_run_nothing_but_time() {
    let site = site().await;
    let id = site.begin(&files("pause=20ms"));
    // The session that works and the one that keeps the books, wherever they are.
    for rows in [100, 400, 500, 900, 1500] {
        at_work(&site, rows).await;
        site.ask(BACKENDS).await;
    }
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_done(&site).await;
    assert!(
        view.events
            .iter()
            .any(|it| it.text.contains("try 1 of 10 failed"))
    );
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back_goes_on_with_the_next_batch() {
    let mut site = site().await;
    let id = site.begin(&files("pause=20ms"));
    for rows in [300, 1000] {
        at_work(&site, rows).await;
        site.postgres.crash().await.expect("a crash");
        site.postgres.start().await.expect("a server");
        site.client = site.postgres.connect(DATABASE).await;
    }
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

#[tokio::test]
async fn a_dead_proxy_leaves_a_file_that_is_begun_and_the_next_run_goes_on() {
    let site = site().await;
    let files = files("pause=20ms");
    for rows in [300, 900] {
        site.run_and_die(&files, async || at_work(&site, rows).await)
            .await;
        let recovery = site.recover().await;
        let outcomes: Vec<_> = recovery.resolved.iter().map(|it| &it.outcome).collect();
        assert_eq!(outcomes, [&Outcome::Begun]);
        assert_eq!(recovery.reason_to_stay_held(), None);
        assert_eq!(site.row(1).await, "begun up 0/1");
        let done = site.ask("select sum(n) from t").await;
        let kept = "select rows_done from pgdrain.backfill";
        assert_eq!(site.ask(kept).await, done);
    }
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

#[tokio::test]
async fn a_dead_proxy_in_the_first_batch_leaves_nothing() {
    let mut site = site().await;
    let other = site.postgres.connect(DATABASE).await;
    let hold = "begin; select from t where id = 50 for update";
    other.batch_execute(hold).await.expect("a lock");
    site.run_and_die(&files(""), async || {
        site.running("update t set n").await;
    })
    .await;
    let recovery = site.recover().await;
    assert_eq!(recovery.resolved[0].outcome, Outcome::RolledBack);
    assert_eq!(site.row(1).await, "failed up 0/1");
    other.batch_execute("commit").await.expect("the end");
    assert_end(&site.up(&files("")).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

/// Runs the file over a connection that is cut at the first commit of a batch.
async fn cut(site: &Site, cut: Cut) -> RunView {
    let cutter = Cutter::start(site.postgres.addr(), "commit\0", cut).await;
    let mut endpoint = endpoint(&site.postgres, "postgres");
    endpoint.hosts = vec![Host::Tcp {
        name: "127.0.0.1".to_owned(),
        port: cutter.port(),
    }];
    let runner = runner(endpoint, options(), &site.own, &site.windows);
    let id = runner
        .start(DATABASE, request(Direction::Up, &files("")))
        .expect("a run");
    let view = end(&runner, &id).await;
    assert!(cutter.has_cut());
    view
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten() {
    for how in [Cut::Before, Cut::After, Cut::AfterAnswer] {
        let site = site().await;
        assert_end(&cut(&site, how).await, RunState::Succeeded, 0);
        assert_done(&site).await;
    }
}

#[tokio::test]
async fn a_batch_that_outlives_its_connection_is_waited_for() {
    let site = site().await;
    // The commit of the first batch takes a while: the next session finds the row of the file locked.
    site.sql(
        "create function sleep() returns trigger language plpgsql as \
         $$ begin perform pg_sleep(0.5); return null; end $$; \
         create constraint trigger sleep after update on t deferrable initially deferred \
         for each row when (new.id = 1) execute function sleep()",
    )
    .await;
    assert_end(&cut(&site, Cut::After).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

/// A run in whose window the role of migrations can no longer log in, and has no session left.
async fn without_a_session(site: &Site, dir: &std::path::Path, files: &[PostedFile]) -> RunView {
    let mut request = request(Direction::Up, files);
    request.traffic = TrafficMode::Exclusive;
    let id = site.runner.start(DATABASE, request).expect("a run");
    until("the window", SOON, async || dir.join("open").exists()).await;
    site.sql("alter role postgres nologin").await;
    site.ask(BACKENDS).await;
    std::fs::write(dir.join("go"), "").expect("room");
    let view = site.end(&id).await;
    site.sql("alter role postgres login").await;
    std::fs::remove_file(dir.join("open")).expect("it is there");
    std::fs::remove_file(dir.join("go")).expect("it is there");
    view
}

#[tokio::test]
async fn a_run_that_gets_no_session_says_of_a_file_that_it_is_still_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display();
    let hook = Hook {
        phase: HookPhase::WindowOpen,
        name: "wait".to_owned(),
        command: format!("touch {path}/open; until test -e {path}/go; do sleep 0.05; done"),
        timeout: SOON,
        then: None,
    };
    let mut site = Site::start().await;
    let options = Options {
        hooks: vec![hook],
        settle_wait: std::time::Duration::from_millis(300),
        ..options()
    };
    site.runner = runner(
        endpoint(&site.postgres, "postgres"),
        options,
        &site.own,
        &site.windows,
    );
    let sql = "create table t (id int primary key, n int not null default 0, \
                               check (n = 0 or id < 1500)); \
               insert into t select i from generate_series(1, 2000) i";
    site.sql(sql).await;
    // Each stops in the middle: one between two batches, the other between two statements.
    let statements = "-- pgdrain:tx none\ncreate table a ();\nselect 1 / (select count(*) from a)";
    for (files, state) in [
        (files(""), "begun up 0/1"),
        (vec![file("2_b.up.sql", statements)], "partial up 1/2"),
    ] {
        let version = if state.starts_with("begun") { 1 } else { 2 };
        std::fs::write(dir.path().join("go"), "").expect("room");
        assert_eq!(site.up(&files).await.exit_code, Some(2));
        let repair = RepairRequest::default();
        site.runner.repair(DATABASE, repair).await.expect("a look");
        assert_eq!(site.row(version).await, state);
        let _ = std::fs::remove_file(dir.path().join("open"));
        std::fs::remove_file(dir.path().join("go")).expect("it is there");
        let view = without_a_session(&site, dir.path(), &files).await;
        assert_end(&view, RunState::Failed, 2);
        let files = &view.report.as_ref().expect("a report").files;
        let outcomes: Vec<_> = files.iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, [FileOutcome::Begun], "{view:#?}");
        assert_eq!(site.row(version).await, state);
        // Not in the way of the other.
        site.sql("delete from pgdrain.migration; delete from pgdrain.backfill")
            .await;
    }
}
