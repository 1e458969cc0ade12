//! Preflight and those who are in the database or copy it: each check passes and fails.

use std::process::Stdio;
use std::time::Duration;

use pgdrain::config::{Preflight, PreflightCheck};
use pgdrain::runner::Options;
use pgdrain::runner::preflight::CheckOutcome::{Failed, Passed};
use pgdrain::runner::types::RunState;

use crate::support::cluster::Postgres;
use crate::support::migrations::{self, DATABASE, Site, assert_end, file, options};
use crate::support::poll::{PATIENCE, SOON, until};
use crate::support::preflight::{Look, outcome, site_of, text};
use crate::support::standby::{HBA, standby_of};

/// Limits that are reached at once.
fn short() -> Options {
    Options {
        preflight: Preflight {
            long_transaction: Duration::from_millis(1),
            idle_in_transaction: Duration::from_millis(1),
            lock_wait: Duration::from_millis(1),
            ..Preflight::default()
        },
        ..options()
    }
}

#[tokio::test]
async fn a_plain_database_passes_everything_and_nothing_is_written() {
    let site = Site::start().await;
    site.sql("create table t (a int)").await;
    // No transaction has had a number, so nothing was written; nothing else runs in this cluster.
    let next = "select pg_snapshot_xmax(pg_current_snapshot())";
    let before = site.ask(next).await;
    let files = [file("1_a.up.sql", "alter table t add b int")];
    let report = site.look(&files).await;
    assert!(report.passed && report.exit_code == 0, "{report:#?}");
    assert_eq!(report.files, ["1_a.up.sql"]);
    for name in PreflightCheck::WORDS {
        assert_eq!(outcome(&report, name), Passed, "{name}");
    }
    for name in [
        "replication",
        "slots",
        "archiver",
        "disk",
        "owners",
        "orphans",
    ] {
        let text = text(&report, name);
        assert!(text.starts_with("does not apply: "), "{name}: {text}");
    }
    // Also when there is nothing to do.
    let done = [file(
        "1_a.up.sql",
        "-- pgdrain:disabled-until 2999-01-01\nselect 1",
    )];
    let report = site.look(&done).await;
    assert!(report.passed && report.files.is_empty(), "{report:#?}");
    assert_eq!(site.ask(next).await, before);
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");
    assert!(site.windows.log().is_empty());
}

#[tokio::test]
async fn whoever_is_in_a_transaction_is_waited_for_by_a_window_and_by_nobody_else() {
    let mut site = Site::start_with(short()).await;
    site.sql("create table t (a int)").await;
    let other = site.postgres.connect(DATABASE).await;
    let open = [file("1_a.up.sql", "create index concurrently t_a on t (a)")];
    let alone = [file("1_a.up.sql", "create index t_a on t (a)")];
    assert!(site.look(&open).await.passed);
    other
        .batch_execute("begin; select 1")
        .await
        .expect("a transaction");
    for name in ["long_transactions", "idle_in_transaction"] {
        until(name, SOON, async || {
            outcome(&site.look(&open).await, name) == Failed
        })
        .await;
        let report = site.look(&alone).await;
        assert_eq!(outcome(&report, name), Passed, "{report:#?}");
        let check = report.checks.iter().find(|it| it.name == name);
        assert_eq!(check.expect("the check").details.len(), 1, "{report:#?}");
    }
    // Nothing of a run that fails it is written.
    assert_end(&site.up(&open).await, RunState::Failed, 1);
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");
    other.batch_execute("commit").await.expect("its end");
    assert!(site.look(&open).await.passed);
}

#[tokio::test]
async fn a_wait_for_a_lock_is_named_with_those_in_front() {
    let mut site = Site::start_with(short()).await;
    site.sql("create table t (a int)").await;
    let files = [file("1_a.up.sql", "create table b ()")];
    assert_eq!(outcome(&site.look(&files).await, "blocking_locks"), Passed);
    let first = site.postgres.connect(DATABASE).await;
    let second = site.postgres.connect(DATABASE).await;
    first
        .batch_execute("begin; lock table t")
        .await
        .expect("a lock");
    let pid = migrations::text(&first, "select pg_backend_pid()").await;
    let in_front = format!("on public.t, behind process {pid}");
    let watch = async {
        until("the wait to be seen", SOON, async || {
            let report = site.look(&files).await;
            outcome(&report, "blocking_locks") == Failed
                && text(&report, "blocking_locks").ends_with(&in_front)
        })
        .await;
        first.batch_execute("commit").await.expect("its end");
    };
    let (rows, ()) = tokio::join!(second.batch_execute("select * from t"), watch);
    rows.expect("the rows");
    assert_eq!(outcome(&site.look(&files).await, "blocking_locks"), Passed);
}

#[tokio::test]
async fn a_prepared_transaction_counts_where_it_holds_what_files_need() {
    let site = Site::start().await;
    site.sql("create table t (a int); create table u (a int)")
        .await;
    site.sql("begin; insert into t values (1); prepare transaction 'forgotten'")
        .await;
    let on_t = [file("1_a.up.sql", "alter table t add b int")];
    let on_u = [file("1_a.up.sql", "alter table u add b int")];
    let report = site.look(&on_t).await;
    assert_eq!(outcome(&report, "prepared_transactions"), Failed);
    let said = text(&report, "prepared_transactions");
    assert!(
        said.contains("'forgotten'") && said.contains("RowExclusiveLock on"),
        "{said}"
    );
    let report = site.look(&on_u).await;
    assert!(report.passed, "{report:#?}");
    assert!(format!("{report:?}").contains("'forgotten'"));
    site.sql("rollback prepared 'forgotten'").await;
    assert!(site.look(&on_t).await.passed);
}

#[tokio::test]
async fn an_autovacuum_that_does_not_make_way_is_named() {
    let settings = [
        ("autovacuum", "on"),
        ("autovacuum_naptime", "1s"),
        ("autovacuum_freeze_max_age", "100000"),
        ("autovacuum_vacuum_cost_delay", "0"),
    ];
    let postgres = Postgres::start_with(&settings, &[]).await;
    let site = site_of(postgres, options()).await;
    // Slow enough to be met, and left alone until it has to be; others are done at once.
    site.sql(
        "create table t (a text) with (autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100, \
              autovacuum_vacuum_cost_limit = 1); create table u (a int); \
              insert into t select repeat('x', 1000) from generate_series(1, 20000)",
    )
    .await;
    let on_t = [file("1_a.up.sql", "alter table t add b int")];
    assert!(site.look(&on_t).await.passed);
    // Each subtransaction that writes takes a number.
    site.sql(
        "do $$ begin for n in 1 .. 110000 loop \
             begin insert into u values (n); exception when others then raise; end; \
         end loop; end $$",
    )
    .await;
    until(
        "the autovacuum against wraparound of t",
        PATIENCE,
        async || outcome(&site.look(&on_t).await, "autovacuum") == Failed,
    )
    .await;
    let report = site.look(&[file("1_a.up.sql", "create table w ()")]).await;
    assert_eq!(outcome(&report, "autovacuum"), Passed, "{report:#?}");
}

#[tokio::test]
async fn backups_that_run_are_named() {
    let site = site_of(Postgres::start_with(&[], &HBA).await, options()).await;
    let files = [file("1_a.up.sql", "create table a ()")];
    assert!(site.look(&files).await.passed);
    let dump = "begin; set application_name = 'pg_dump'";
    site.sql(dump).await;
    let report = site.look(&files).await;
    assert_eq!(outcome(&report, "backups"), Failed);
    assert!(
        text(&report, "backups").starts_with("pg_dump by process"),
        "{report:#?}"
    );
    site.sql("commit").await;

    let target = site.postgres.dir().join("copy");
    let mut copy = site.postgres.command("pg_basebackup");
    copy.args([
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-X",
        "none",
        "-c",
        "fast",
        "--max-rate=32",
    ]);
    copy.arg("-p")
        .arg(site.postgres.addr().port().to_string())
        .arg("-D")
        .arg(target);
    let mut copy = copy.stderr(Stdio::null()).spawn().expect("pg_basebackup");
    until("the base backup to be seen", SOON, async || {
        text(&site.look(&files).await, "backups").starts_with("a base backup by process")
    })
    .await;
    copy.kill().expect("a child of ours");
    copy.wait().expect("a child of ours");
    until("its end", SOON, async || site.look(&files).await.passed).await;
}

#[tokio::test]
async fn connections_are_counted_against_the_limits_of_server_and_database() {
    let mut site = Site::start().await;
    let files = [file("1_a.up.sql", "create table a ()")];
    let few = site.with(Preflight {
        connections_percent: 1,
        ..Preflight::default()
    });
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(site.postgres.connect(DATABASE).await);
    }
    let report = few.look(&files).await;
    assert_eq!(outcome(&report, "connections"), Failed);
    assert!(
        text(&report, "connections").contains("of 240 connections of the server"),
        "{report:#?}"
    );
    drop(others);
    assert_eq!(outcome(&site.look(&files).await, "connections"), Passed);
    site.sql("alter database postgres connection limit 1").await;
    let report = site.look(&files).await;
    assert!(
        text(&report, "connections").contains("connections of the database"),
        "{report:#?}"
    );
}

/// Whether there is a standby, and it is not behind.
async fn keeps_up(site: &Site) -> bool {
    let report = site.look(&[file("1_a.up.sql", "create table a ()")]).await;
    outcome(&report, "replication") == Passed && text(&report, "replication").ends_with("keep up")
}

#[tokio::test]
async fn a_standby_has_to_keep_up() {
    let server = Postgres::start_with(&[], &HBA).await;
    let mut standby = standby_of(&server).await;
    let site = site_of(server, options()).await;
    let files = [file("1_a.up.sql", "create table a ()")];
    until("a standby that keeps up", SOON, async || {
        keeps_up(&site).await
    })
    .await;

    standby.execute("select pg_wal_replay_pause()").await;
    site.sql("create table big as select repeat('x', 100) from generate_series(1, 1000)")
        .await;
    let hasty = site.with(Preflight {
        replication_lag: Duration::from_millis(200),
        ..Preflight::default()
    });
    let report = hasty.look(&files).await;
    assert_eq!(outcome(&report, "replication"), Failed);
    assert!(
        text(&report, "replication").contains("has not replayed within 200ms"),
        "{report:#?}"
    );
    let by_bytes = site.with(Preflight {
        replication_bytes: 1000,
        ..Preflight::default()
    });
    let report = by_bytes.look(&files).await;
    assert!(
        text(&report, "replication").contains("behind, more than"),
        "{report:#?}"
    );
    standby.execute("select pg_wal_replay_resume()").await;
    until("a standby that keeps up again", SOON, async || {
        keeps_up(&site).await
    })
    .await;
}

#[tokio::test]
async fn slots_that_hold_back_wal_are_named() {
    let site = Site::start().await;
    let files = [file("1_a.up.sql", "create table a ()")];
    site.sql("select pg_create_physical_replication_slot('unused')")
        .await;
    assert_eq!(outcome(&site.look(&files).await, "slots"), Passed);
    site.sql("select pg_create_physical_replication_slot('left', true)")
        .await;
    let report = site.look(&files).await;
    assert_eq!(outcome(&report, "slots"), Failed);
    assert!(
        text(&report, "slots").starts_with("slot left is inactive"),
        "{report:#?}"
    );
    // A check that is switched off says so.
    let off = site.with(Preflight {
        off: vec![PreflightCheck::Slots],
        ..Preflight::default()
    });
    let report = off.look(&files).await;
    assert!(
        report.passed && text(&report, "slots").starts_with("switched off"),
        "{report:#?}"
    );
    site.sql("select pg_drop_replication_slot('left')").await;
    assert!(site.look(&files).await.passed);
}

#[tokio::test]
async fn an_archiver_that_fails_is_named() {
    let settings = [("archive_mode", "on"), ("archive_command", "false")];
    let site = site_of(Postgres::start_with(&settings, &[]).await, options()).await;
    let files = [file("1_a.up.sql", "create table a ()")];
    let archiver = async || outcome(&site.look(&files).await, "archiver");
    assert_eq!(archiver().await, Passed);
    site.sql("create table t (); select pg_switch_wal()").await;
    until("a failure", PATIENCE, async || archiver().await == Failed).await;
    site.sql("alter system set archive_command = 'true'").await;
    site.sql("select pg_reload_conf()").await;
    until("an archive again", PATIENCE, async || {
        archiver().await == Passed
    })
    .await;
}
