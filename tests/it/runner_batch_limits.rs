//! Batches get out of the way: of locks, of those who wait for locks, of what they leave behind.

use std::sync::Arc;
use std::time::Duration;

use pgdrain::config::{Preflight, PreflightCheck};
use pgdrain::metrics::statements::Statements;
use pgdrain::runner::Options;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{EventKind, RunState};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options, texts};
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::standby::{HBA, standby_of};

/// Each row counts how often it was done.
fn batch(directive: &str) -> Vec<PostedFile> {
    let sql = format!(
        "-- pgdrain:lock_timeout 50ms\n-- pgdrain:batch table=t size=100 {directive}\n\
         update t set n = n + 1 where :batch"
    );
    vec![file("1_a.up.sql", &sql)]
}

async fn site() -> Site {
    filled(Site::start().await).await
}

async fn filled(site: Site) -> Site {
    site.sql(
        "create table t (id int primary key, n int not null default 0); create table u (); \
         insert into t select i from generate_series(1, 1000) i; analyze t",
    )
    .await;
    site
}

async fn assert_done(site: &Site) {
    let done = "select count(*) from t where n = 1";
    assert_eq!(site.ask(done).await, "1000");
}

/// A client that holds a lock on another table, and one that waits for it.
struct Queue {
    holder: Client,
    waiter: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Queue {
    async fn form(site: &mut Site) -> Self {
        let holder = site.postgres.connect(DATABASE).await;
        let hold = holder.batch_execute("begin; lock table u");
        hold.await.expect("a lock");
        let client = site.postgres.connect(DATABASE).await;
        let mut waiter = JoinSet::new();
        waiter.spawn(async move { client.batch_execute("select from u").await });
        let blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        until("somebody to wait", SOON, async || {
            site.ask(blocked).await == "1"
        })
        .await;
        Self { holder, waiter }
    }

    async fn dissolve(mut self) {
        let end = self.holder.batch_execute("commit");
        end.await.expect("the end");
        let answer = within("the waiter", SOON, self.waiter.join_next()).await;
        let answer = answer.expect("a waiter").expect("no panic");
        answer.expect("an answer");
    }
}

/// Waits until a run has told something.
async fn told(site: &Site, id: &str, text: &str) {
    until(text, SOON, async || {
        let view = site.runner.follow(id, 0, std::time::Duration::ZERO).await;
        let view = view.expect("the run");
        view.events.iter().any(|it| it.text.contains(text))
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_meets_a_lock_is_tried_again_and_done_once() {
    let mut site = site().await;
    let other = site.postgres.connect(DATABASE).await;
    let hold = "begin; select from t where id = 450 for update";
    other.batch_execute(hold).await.expect("a lock");
    let id = site.begin(&batch(""));
    told(
        &site,
        &id,
        "try 2 of 10 failed: 1_a.up.sql, statement 1 of 1, line 3: ERROR 55P03",
    )
    .await;
    assert_eq!(site.ask("select sum(n) from t").await, "400");
    other.batch_execute("commit").await.expect("the end");
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

#[tokio::test]
async fn a_batch_that_meets_a_lock_each_time_is_given_up_and_the_file_is_begun() {
    let mut site = site().await;
    let other = site.postgres.connect(DATABASE).await;
    let hold = "begin; select from t where id = 150 for update";
    other.batch_execute(hold).await.expect("a lock");
    let view = site.up(&batch("")).await;
    assert_end(&view, RunState::Failed, 2);
    let text = failure(&view);
    for expected in [
        "ERROR 55P03",
        "after 1 batch that changed 100 rows",
        "given up after 10 tries",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(site.row(1).await, "begun up 0/1");
    other.batch_execute("commit").await.expect("the end");
    assert_end(&site.up(&batch("")).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let mut site = site().await;
    site.sql("alter system set deadlock_timeout = '50ms'").await;
    site.sql("select pg_reload_conf()").await;
    let other = site.postgres.connect(DATABASE).await;
    let hold = "set deadlock_timeout = '10min'; begin; select from t where id = 90 for update";
    other.batch_execute(hold).await.expect("a lock");
    let sql = "-- pgdrain:batch table=t size=100\nupdate t set n = n + 1 where :batch";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and application_name = 'pgdrain migrate'";
    until("the first batch to wait", SOON, async || {
        site.ask(waits).await == "1"
    })
    .await;
    // The batch holds the row that is asked for now: it finds the deadlock, and lets go.
    let asked = other.batch_execute("select from t where id = 10 for update; commit");
    asked.await.expect("the batch to let go");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let notes = texts(&view, EventKind::Note);
    assert!(notes.iter().any(|it| it.contains("40P01")), "{notes:?}");
    assert_done(&site).await;
}

#[tokio::test]
async fn batches_wait_while_too_many_sessions_wait_for_locks() {
    let mut site = site().await;
    let queue = Queue::form(&mut site).await;
    let id = site.begin(&batch("max_blocked=0"));
    told(
        &site,
        &id,
        "1_a.up.sql: waits, 1 sessions wait for locks (max_blocked=0)",
    )
    .await;
    assert_eq!(site.ask("select sum(n) from t").await, "100");
    queue.dissolve().await;
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(texts(&view, EventKind::Note).contains(&"1_a.up.sql: goes on"));
    assert_done(&site).await;
}

#[tokio::test]
async fn batches_wait_for_a_standby_that_falls_behind() {
    let server = Postgres::start_with(&[], &HBA).await;
    // Preflight would not let it begin beside a standby that is behind.
    let unasked = Options {
        preflight: Preflight {
            off: vec![PreflightCheck::Replication],
            ..Preflight::default()
        },
        ..options()
    };
    let site = filled(Site::on(server, unasked).await).await;
    let mut standby = standby_of(&site.postgres).await;
    let replaying = "select count(*) from pg_stat_replication where state = 'streaming'";
    until("the standby", SOON, async || {
        site.ask(replaying).await == "1"
    })
    .await;
    let replay = standby.connect(DATABASE).await;
    let stop = replay.batch_execute("select pg_wal_replay_pause()");
    stop.await.expect("a pause");
    let id = site.begin(&batch("max_lag=1d max_lag_bytes=1KiB"));
    told(&site, &id, "bytes behind (max_lag_bytes=1024)").await;
    assert_eq!(site.ask("select sum(n) from t").await, "100");
    let resume = replay.batch_execute("select pg_wal_replay_resume()");
    resume.await.expect("the end of the pause");
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_done(&site).await;
}

#[tokio::test]
async fn a_run_that_waits_for_room_can_be_cancelled() {
    let mut site = site().await;
    let queue = Queue::form(&mut site).await;
    let id = site.begin(&batch("max_blocked=0"));
    told(&site, &id, "waits, 1 sessions").await;
    assert!(site.runner.cancel(&id, "ann"));
    assert_end(&site.end(&id).await, RunState::Cancelled, 2);
    assert_eq!(site.row(1).await, "begun up 0/1");
    queue.dissolve().await;
    assert_end(
        &site.up(&batch("max_blocked=0")).await,
        RunState::Succeeded,
        0,
    );
    assert_done(&site).await;
}

#[tokio::test]
async fn the_table_is_vacuumed_between_batches_where_the_file_asks() {
    let site = site().await;
    let view = site.up(&batch("vacuum=4")).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_done(&site).await;
    let vacuums = "select vacuum_count from pg_stat_user_tables where relname = 't'";
    until("two vacuums", SOON, async || site.ask(vacuums).await == "2").await;
    let notes = texts(&view, EventKind::Note);
    assert!(
        !notes.iter().any(|it| it.contains("VACUUM failed")),
        "{notes:?}"
    );
}

/// What so many clients felt.
fn feel(site: &Site, units: usize, took: Duration) {
    let clients = site.windows.clients.get_or_init(|| {
        let clients = Statements::default();
        clients.measure(Duration::from_secs(600), 1);
        clients
    });
    for _ in 0..units {
        clients.answered(Some((7, &Arc::from("select ?"), took)), None);
    }
}

#[tokio::test]
async fn pauses_grow_while_clients_are_slow_and_shrink_again() {
    let site = site().await;
    let slow = file(
        "1_a.up.sql",
        "-- pgdrain:batch table=t size=1 pause=20ms max_p99=50ms\n\
         update t set n = n + 1 where :batch",
    );
    // Nobody measures: that is said, and keeps nothing waiting.
    let id = site.begin(std::slice::from_ref(&slow));
    told(
        &site,
        &id,
        "is not measured here, so max_p99 keeps nothing waiting",
    )
    .await;
    feel(&site, 1, Duration::from_millis(1));
    let has = async |text: &str| {
        let view = site.runner.follow(&id, 0, Duration::ZERO).await;
        let view = view.expect("the run");
        view.events.iter().any(|it| it.text.contains(text))
    };
    until("pauses to grow", PATIENCE, async || {
        feel(&site, 30, Duration::from_millis(500));
        has("1_a.up.sql: pauses grow, clients feel a p99 of").await
    })
    .await;
    let before: i64 = site
        .ask("select sum(n) from t")
        .await
        .parse()
        .expect("a number");
    until("no pauses any more", PATIENCE, async || {
        feel(&site, 20_000, Duration::from_millis(1));
        has("no pauses for clients any more").await
    })
    .await;
    until("it to go on", PATIENCE, async || {
        let now = site.ask("select sum(n) from t").await;
        now.parse::<i64>().expect("a number") > before
    })
    .await;
    site.runner.cancel(&id, "ann");
    assert_end(&site.end(&id).await, RunState::Cancelled, 2);
}
