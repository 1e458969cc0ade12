//! `repair` looks at what stands part-way, says what it found, and writes down nothing but that.

use std::time::Duration;

use pgdrain::runner::RowState;
use pgdrain::runner::repair::{Finding, RepairError, RepairReport, RepairRequest};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::RunState;

use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, endpoint, failure, file, options, runner,
};
use crate::support::poll::{SOON, until};

async fn ask(site: &Site, dry_run: bool) -> RepairReport {
    let request = RepairRequest {
        dry_run,
        reason: Some("a test".to_owned()),
        by: Some("ann".to_owned()),
    };
    site.runner
        .repair(DATABASE, request)
        .await
        .expect("a report")
}

/// The one migration that stood part-way.
fn only(report: &RepairReport) -> &Finding {
    let [finding] = report.findings.as_slice() else {
        panic!("{report:#?}");
    };
    finding
}

/// A table with two equal rows, and a file that fails at its second statement for them.
async fn dirty() -> (Site, Vec<PostedFile>) {
    let site = Site::start().await;
    site.sql("create table t (a int); insert into t values (1), (1)")
        .await;
    let up = "create index concurrently t_b on t (a);\n\
              create unique index concurrently t_a on t (a);\nalter table t add column c int;";
    let down = "alter table t drop column c;\ndrop index concurrently t_a;\n\
                drop index concurrently t_b;";
    let files = vec![file("1_a.up.sql", up), file("1_a.down.sql", down)];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Dirty, 2);
    assert!(
        failure(&view).contains("`pgdrain migrate repair`"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "dirty up 1/3");
    (site, files)
}

#[tokio::test]
async fn invalid_remains_go_and_up_goes_on_behind_what_is_done() {
    let (site, mut files) = dirty().await;
    let foreseen = ask(&site, true).await;
    assert_eq!(
        (only(&foreseen).now, foreseen.exit_code),
        (RowState::Partial, 0)
    );
    assert_eq!(site.row(1).await, "dirty up 1/3");
    assert_eq!(site.ask("select to_regclass('t_a')").await, "t_a");

    let report = ask(&site, false).await;
    let finding = only(&report);
    assert_eq!(
        (finding.was, finding.now),
        (RowState::Dirty, RowState::Partial)
    );
    assert_eq!(
        (finding.done, finding.of, finding.resolved),
        (Some(1), Some(3), true)
    );
    assert!(
        finding.found[1].contains("public.t_a is there and invalid"),
        "{finding:#?}"
    );
    assert_eq!(finding.did[0], "dropped the invalid index public.t_a");
    assert_eq!(site.ask("select to_regclass('t_a')").await, "null");
    assert_eq!(site.row(1).await, "partial up 1/3");
    let told = "select string_agg(data->>'by', ' ') from pgdrain.event where type like 'repair%'";
    assert_eq!(site.ask(told).await, "ann ann");

    // It is neither applied nor dirty, and what is done may not be another now.
    let status = site.status(&files).await;
    assert_eq!((status.pending.len(), status.dirty.len()), (1, 0));
    assert_eq!(status.pending[0].state, Some(RowState::Partial));
    let other = files[0].sql.replace("t_b on t (a)", "t_b on t (a, a)");
    let changed = [file("1_a.up.sql", &other), files[1].clone()];
    assert_end(&site.up(&changed).await, RunState::Failed, 1);

    // What is not done may be mended.
    files[0] = file(
        "1_a.up.sql",
        &files[0].sql.replace("create unique index", "create index"),
    );
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "applied up 3/3");
    let valid = "select bool_and(indisvalid) and count(*) = 2 from pg_index \
                 where indrelid = 't'::regclass";
    assert_eq!(site.ask(valid).await, "true");
    assert!(ask(&site, false).await.findings.is_empty());
}

#[tokio::test]
async fn what_is_done_is_taken_back_by_the_down_file() {
    let (site, files) = dirty().await;
    assert_eq!(ask(&site, false).await.exit_code, 0);
    let view = site.down(&files, 1).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(
        site.ask("select count(*) from pg_index where indrelid = 't'::regclass")
            .await,
        "0"
    );
    assert_eq!(site.row(1).await, "reverted down 1/1");
}

#[tokio::test]
async fn a_way_back_that_nobody_can_tell_is_refused_and_one_that_fails_changes_nothing() {
    let site = Site::start().await;
    site.sql("create table t (a int); create table u (); insert into t values (1), (1)")
        .await;
    let up = "-- pgdrain:tx none\nalter table t add column c int;\nupdate t set c = 1;\n\
              alter table t add unique (c);";
    let files = [
        file("1_a.up.sql", up),
        file("1_a.down.sql", "alter table t drop column c;"),
    ];
    assert_end(&site.up(&files).await, RunState::Dirty, 2);
    assert_eq!(site.row(1).await, "dirty up 2/3");
    let report = ask(&site, false).await;
    assert_eq!(
        only(&report).found[0],
        "statements 1 to 2 are done: each is counted"
    );
    let view = site.down(&files, 1).await;
    assert_end(&view, RunState::Failed, 1);
    assert_eq!(site.row(1).await, "partial up 2/3");

    // One that can be told, and fails: the migration is as it was.
    site.sql("update pgdrain.migration set statements_done = 1")
        .await;
    site.sql("create view v as select c from t").await;
    let view = site.down(&files, 1).await;
    assert_end(&view, RunState::Failed, 4);
    assert_eq!(site.row(1).await, "partial up 1/3");
    site.sql("drop view v").await;
    assert_end(&site.down(&files, 1).await, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "reverted down 1/1");
}

#[tokio::test]
async fn a_first_statement_that_fails_leaves_nothing_to_repair() {
    let site = Site::start().await;
    let files = [file(
        "1_a.up.sql",
        "-- pgdrain:tx none\nselect 1/0;\nvacuum;",
    )];
    assert_end(&site.up(&files).await, RunState::Failed, 2);
    assert_eq!(site.row(1).await, "failed up 0/2");
    let report = ask(&site, false).await;
    assert_eq!((report.findings.len(), report.exit_code), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_told_is_said_and_left() {
    let site = Site::start().await;
    site.sql(
        "create table t (a int); create procedure p() language plpgsql as $$ begin \
         insert into t values (1); commit; perform 1/0; end $$",
    )
    .await;
    let files = [file(
        "1_a.up.sql",
        "-- pgdrain:tx none\nselect 1;\ncall p();\nvacuum;",
    )];
    assert_end(&site.up(&files).await, RunState::Dirty, 2);
    let before = site.ask("select m::text from pgdrain.migration m").await;
    let report = ask(&site, false).await;
    let finding = only(&report);
    assert_eq!((finding.resolved, report.exit_code), (false, 2));
    assert_eq!(
        (finding.was, finding.now),
        (RowState::Dirty, RowState::Dirty)
    );
    assert!(
        finding.found[1].contains("nothing in the catalogs tells"),
        "{finding:#?}"
    );
    assert_eq!(
        site.ask("select m::text from pgdrain.migration m").await,
        before
    );
}

#[tokio::test]
async fn a_way_back_that_stops_part_way_goes_on_from_there() {
    let site = Site::start().await;
    site.sql("create table t (a int)").await;
    let down = "-- pgdrain:tx none\nset search_path = pg_catalog;\ndrop table public.n;\n\
                drop table public.m;";
    let up = "create table public.n (); create table public.m ();";
    let files = [file("1_a.up.sql", up), file("1_a.down.sql", down)];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    site.sql("create view v as select from m").await;
    assert_end(&site.down(&files, 1).await, RunState::Dirty, 4);
    let report = ask(&site, false).await;
    assert_eq!(
        (only(&report).now, only(&report).done),
        (RowState::Partial, Some(2))
    );
    // The way up has to wait.
    assert_end(&site.up(&files).await, RunState::Failed, 1);
    site.sql("drop view v").await;
    assert_end(&site.down(&files, 1).await, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "reverted down 3/3");
    assert_eq!(site.ask("select to_regclass('m')").await, "null");
}

#[tokio::test]
async fn an_older_history_is_read_too_and_its_statements_are_looked_for() {
    let (site, _) = dirty().await;
    // As layout 6 had it: nothing says which statements were counted.
    site.sql(
        "alter table pgdrain.migration drop column counted, drop column alone, \
         drop column down_run, drop column up_done, drop column up_total; \
         delete from pgdrain.layout; insert into pgdrain.layout values (6); \
         drop table pgdrain.saved_object, pgdrain.schema_dump; \
         alter table pgdrain.migration drop column fp_before, drop column fp_after; \
         alter table pgdrain.run drop column fp_before, drop column fp_after; \
         alter table pgdrain.migration drop constraint migration_state_check, \
         add constraint migration_state_check check (state in ('running', 'applied', 'failed', \
         'dirty', 'reverted', 'begun')); drop index t_a; \
         update pgdrain.migration set failed_sqlstate = null",
    )
    .await;
    let foreseen = ask(&site, true).await;
    assert_eq!(only(&foreseen).done, Some(1));
    assert!(
        only(&foreseen).found[1].contains("t_a is not there"),
        "{foreseen:#?}"
    );
    let report = ask(&site, false).await;
    assert_eq!(
        (only(&report).now, only(&report).done),
        (RowState::Partial, Some(1))
    );
}

#[tokio::test]
async fn nothing_is_repaired_while_a_migration_runs() {
    let site = Site::start().await;
    site.windows.set(Behaviour::Drain);
    let id = site.begin(&[file("1_a.up.sql", "select 1")]);
    until("the drain", SOON, async || site.windows.log() == ["begin"]).await;
    let busy = site.runner.repair(DATABASE, RepairRequest::default()).await;
    assert!(matches!(busy, Err(RepairError::Busy(_))), "{busy:?}");
    // Nor by another proxy.
    let other = runner(
        endpoint(&site.postgres, "postgres"),
        options(),
        &site.own,
        &site.windows,
    );
    let busy = other.repair(DATABASE, RepairRequest::default()).await;
    let text = busy.expect_err("it is busy").to_string();
    assert!(
        text.contains("another migration holds the lock: process"),
        "{text}"
    );
    assert!(site.runner.cancel(&id, "ann"));
    assert_end(&site.end(&id).await, RunState::Cancelled, 2);
}

#[tokio::test]
async fn what_a_dead_proxy_left_running_is_settled_and_named() {
    let site = Site::start().await;
    let sql = "create table a ();\nselect pg_sleep(600)";
    site.run_and_die(&[file("1_a.up.sql", sql)], async || {
        site.running("select pg_sleep").await;
    })
    .await;
    until(
        "the process to be gone",
        Duration::from_secs(20),
        async || {
            let sql = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' \
                   and pid <> pg_backend_pid()";
            site.ask(sql).await == "0"
        },
    )
    .await;
    let foreseen = ask(&site, true).await;
    assert_eq!(only(&foreseen).now, RowState::Failed);
    assert_eq!(site.row(1).await, "running up 0/2");
    let report = ask(&site, false).await;
    assert_eq!(
        (only(&report).was, only(&report).now),
        (RowState::Running, RowState::Failed)
    );
    assert_eq!(site.row(1).await, "failed up 0/2");
}
