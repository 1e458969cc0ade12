//! A running migration can be stopped: by people, by the window's end, by another runner's lock.

use std::time::Duration;

use pgdrain::runner::types::{Direction, MigrationRequest, RunState, TrafficMode};
use pgdrain::runner::{Options, StartError};

use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, end, endpoint, failure, file, options, request, runner,
};
use crate::support::poll::{SOON, until};

/// A file that holds a lock and sleeps.
fn sleeper() -> Vec<pgdrain::runner::source::PostedFile> {
    vec![
        file(
            "1_a.up.sql",
            "create table a ();\nselect pg_sleep(600);\nselect 3",
        ),
        file("2_b.up.sql", "select 2"),
    ]
}

#[tokio::test]
async fn a_cancelled_statement_is_rolled_back_and_traffic_runs_again() {
    let site = Site::start().await;
    let id = site.begin(&sleeper());
    let pid = site.running("select pg_sleep").await;
    assert!(site.own.contains(pid));
    assert!(site.runner.cancel(&id, "ann"));
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(
        failure(&view),
        "1_a.up.sql, statement 2 of 3, line 2: cancelled by ann"
    );
    assert_eq!(site.row(1).await, "failed up 0/3");
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration").await,
        "1"
    );
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    assert!(!site.runner.cancel(&id, "ann"), "it is over");
    assert!(!site.runner.cancel("no such run", "ann"));
}

#[tokio::test]
async fn a_run_that_waits_for_its_window_can_be_cancelled() {
    let site = Site::start().await;
    site.windows.set(Behaviour::Drain);
    let id = site.begin(&sleeper());
    until("the drain", SOON, async || {
        let view = site.runner.follow(&id, 0, Duration::ZERO).await.unwrap();
        view.state == RunState::Draining
    })
    .await;
    site.runner.stop_all();
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(failure(&view), "cancelled because the proxy stops");
    assert_eq!(site.windows.log(), ["begin"]);
}

#[tokio::test]
async fn the_windows_end_cancels_and_rolls_back() {
    let site = Site::start().await;
    site.windows
        .set(Behaviour::GrantFor(Duration::from_millis(300)));
    let view = site.up(&sleeper()).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).ends_with("cancelled because the window has reached its end"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "failed up 0/3");
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
}

#[tokio::test]
async fn a_lost_window_cancels_at_once() {
    let site = Site::start().await;
    let id = site.begin(&sleeper());
    site.running("select pg_sleep").await;
    site.windows.lose("the lease was not renewed");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 2);
    let text = failure(&view);
    assert!(
        text.ends_with("cancelled because the window was lost: the lease was not renewed"),
        "{text}"
    );
    assert_eq!(site.row(1).await, "failed up 0/3");
}

#[tokio::test]
async fn what_cannot_be_rolled_back_stays_held_when_cancelled() {
    let mut site = Site::start().await;
    site.sql("create table t (a int)").await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table t in row exclusive mode")
        .await
        .unwrap();
    let files = [file(
        "1_a.up.sql",
        "create table b ();\ncreate index concurrently t_a on t (a)",
    )];
    let id = site.begin(&files);
    site.running("create index").await;
    site.windows.lose("gone");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Dirty, 2);
    assert_eq!(site.row(1).await, "dirty up 1/2");
    let log = site.windows.log();
    assert!(
        log[1].starts_with("held: a migration stopped part-way"),
        "{log:?}"
    );
    assert!(log[1].contains("invalid indexes there: t_a"), "{log:?}");
}

#[tokio::test]
async fn a_statement_that_ignores_the_cancel_is_terminated() {
    let site = Site::start_with(Options {
        cancel_wait: Duration::from_millis(500),
        ..options()
    })
    .await;
    // The handler swallows the first cancel and goes on.
    let sql = "do $$ begin\n\
               begin perform pg_sleep(600); exception when query_canceled then null; end;\n\
               perform pg_sleep(600); end $$";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    site.running("do ").await;
    site.runner.cancel(&id, "ann");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(site.row(1).await, "failed up 0/1");
}

#[tokio::test]
async fn one_run_at_a_time_in_a_process() {
    let site = Site::start().await;
    let id = site.begin(&sleeper());
    let error = site
        .runner
        .start(DATABASE, request(Direction::Up, &[]))
        .unwrap_err();
    assert!(matches!(error, StartError::Busy { id: busy } if busy == id));
    assert_eq!(site.runner.live(DATABASE).as_deref(), Some(id.as_str()));
    site.runner.cancel(&id, "ann");
    site.end(&id).await;
    assert_eq!(site.runner.live(DATABASE), None);
}

#[tokio::test]
async fn one_run_at_a_time_in_a_database() {
    let site = Site::start().await;
    let id = site.begin(&sleeper());
    site.running("select pg_sleep").await;
    let impatient = Options {
        lock_wait: Duration::from_millis(600),
        ..options()
    };
    let other = runner(
        endpoint(&site.postgres, "postgres"),
        impatient,
        &site.own,
        &site.windows,
    );
    let view = end(
        &other,
        &other
            .start(DATABASE, request(Direction::Up, &sleeper()))
            .unwrap(),
    )
    .await;
    assert_end(&view, RunState::Failed, 1);
    let report = view.report.unwrap();
    let lock = report.checks.last().unwrap();
    assert!(
        lock.text.contains("(pgdrain migrate, 127.0.0.1, since "),
        "{lock:?}"
    );
    let error = other
        .recover(DATABASE, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("another migration holds the lock"),
        "{error}"
    );
    site.runner.cancel(&id, "ann");
    assert_end(&site.end(&id).await, RunState::Cancelled, 2);
}

#[tokio::test]
async fn two_runners_that_race_apply_everything_once() {
    let site = Site::start().await;
    let patient = Options {
        lock_wait: Duration::from_secs(60),
        ..options()
    };
    let files: Vec<_> = (1..=5)
        .map(|n| {
            file(
                &format!("{n}_a.up.sql"),
                &format!("create table t{n} (); select pg_sleep(0.02)"),
            )
        })
        .collect();
    let request = MigrationRequest {
        traffic: TrafficMode::Open,
        ..request(Direction::Up, &files)
    };
    let runners: Vec<_> = (0..4)
        .map(|_| {
            runner(
                endpoint(&site.postgres, "postgres"),
                patient.clone(),
                &site.own,
                &site.windows,
            )
        })
        .collect();
    let ids: Vec<_> = runners
        .iter()
        .map(|it| it.start(DATABASE, request.clone()).unwrap())
        .collect();
    let mut applied = 0;
    for (runner, id) in runners.iter().zip(&ids) {
        let view = end(runner, id).await;
        assert_end(&view, RunState::Succeeded, 0);
        applied += view.report.unwrap().files.len();
    }
    assert_eq!(applied, 5);
    assert_eq!(
        site.ask("select count(*) from pgdrain.event where type = 'applied'")
            .await,
        "5"
    );
}
