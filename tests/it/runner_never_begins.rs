//! What becomes of runs that never come to their next file: a proxy that is killed while one waits for its
//! time, and a session that cannot be had for a file that was begun.

use std::fs;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pgdrain::config::{Hook, HookPhase};
use pgdrain::runner::report::FileOutcome;
use pgdrain::runner::types::{Direction, RunState};

use crate::support::migrations::{
    DATABASE, Site, assert_end, end, endpoint, failure, file, options, request, runner,
};
use crate::support::poll::{SOON, until};
use crate::support::shop::Shop;

#[tokio::test]
async fn a_proxy_that_is_killed_while_a_run_waits_forgets_it_and_nothing_was_changed() {
    let mut shop = Shop::open().await;
    shop.write("1_a.up.sql", "create table a (id int);");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("2_b.up.sql", "create table b (id int);");
    let told = "select string_agg(type, ', ' order by id) from pgdrain.event \
                where type in ('waiting', 'waited')";
    let later = (Timestamp::now() + SignedDuration::from_secs(3600)).to_string();
    for (count, when) in [
        (1, ["--at", later.as_str()].as_slice()),
        (
            2,
            &["--when-below", "1", "--quiet-for", "1h", "--within", "2h"],
        ),
    ] {
        let line = [&["up"], when].concat();
        let waits = shop.begin(&line);
        let wanted = vec!["waiting"; count].join(", ");
        until("a run that waits", SOON, async || {
            shop.ask(told).await == wanted
        })
        .await;
        shop.proxy.kill();
        // Whoever followed it is told that nobody knows.
        assert_ne!(waits.ended().await.code, Some(0));
        shop.proxy.launch().await;
        // No run of it is in the books, and nobody is held.
        assert_eq!(shop.runs().await, "succeeded 0");
        assert!(!shop.has("b").await);
        shop.migrate(&["status"]).await.assert(0, &["2_b.up.sql"]);
    }
    // The next one is a run like any other.
    shop.migrate(&["up"]).await.assert(0, &[]);
    assert!(shop.has("b").await);
}

/// Its batches stay, so that it is begun, and not rolled back, whatever keeps it from going on.
#[tokio::test]
async fn a_file_that_was_begun_still_is_when_there_is_no_session_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let go = dir.path().join("go");
    let mut site = Site::start().await;
    site.sql(
        "create role mover login superuser; \
         create table t (id int primary key, n int not null default 0); \
         insert into t select i from generate_series(1, 30) i; \
         alter table t add constraint c check (id <> 15 or n = 0)",
    )
    .await;
    let moved = file(
        "2_b.up.sql",
        "-- pgdrain:batch table=t size=10\nupdate t set n = n + 1 where :batch;",
    );
    let view = site.up(std::slice::from_ref(&moved)).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(site.ask("select sum(n) from t").await, "10");
    site.sql("alter table t drop constraint c").await;

    // A file in a window before it, at whose end nobody may connect any more.
    let mut options = options();
    options.settle_wait = Duration::from_secs(2);
    options.hooks.push(Hook {
        phase: HookPhase::BeforeReopening,
        name: "wait".to_owned(),
        command: format!("while [ ! -e {} ]; do sleep 0.02; done", go.display()),
        timeout: Duration::from_secs(60),
        then: None,
    });
    site.runner = runner(
        endpoint(&site.postgres, "mover"),
        options,
        &site.own,
        &site.windows,
    );
    let first = file(
        "1_a.up.sql",
        "-- pgdrain:disabled-until 2000-01-01\ncreate table a ()",
    );
    let asked = request(Direction::Up, &[first, moved]);
    let id = site.runner.start(DATABASE, asked).expect("a run");
    until("the first file", SOON, async || {
        site.ask("select to_regclass('a') is not null").await == "true"
    })
    .await;
    site.sql("alter role mover nologin").await;
    // All of its sessions but the one that keeps the books.
    site.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mover' \
         and pid not in (select pid from pg_locks where locktype = 'advisory')",
    )
    .await;
    fs::write(&go, "").expect("a file");
    let view = end(&site.runner, &id).await;
    assert_end(&view, RunState::Failed, 2);
    let report = view.report.as_ref().expect("a report");
    let outcomes: Vec<_> = report.files.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [FileOutcome::Applied, FileOutcome::Begun]);
    assert!(failure(&view).contains("mover"), "{}", failure(&view));
    assert_eq!(site.ask("select sum(n) from t").await, "10");
    // And it goes on when somebody may.
    site.sql("alter role mover login").await;
    let files = [
        file(
            "1_a.up.sql",
            "-- pgdrain:disabled-until 2000-01-01\ncreate table a ()",
        ),
        file(
            "2_b.up.sql",
            "-- pgdrain:batch table=t size=10\nupdate t set n = n + 1 where :batch;",
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.ask("select sum(n) from t").await, "30");
}
