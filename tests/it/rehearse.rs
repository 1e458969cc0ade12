//! A rehearsal runs the pending files up, down and up again where nobody minds, and says what they
//! did; the database itself is not touched.

use pgdrain::config::{Backup, Secret, Verify};
use pgdrain::runner::Options;
use pgdrain::runner::plan::LockMode;
use pgdrain::runner::rehearse::{Data, Leg, Rehearsal, RehearseRequest, StatementTrace};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, PlanRequest, RunState, RunView, TrafficMode};

use crate::support::backups::backup;
use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options};
use crate::support::poll::{SOON, until};

/// Databases that rehearsals made.
const COPIES: &str = "select count(*) from pg_database where datname like 'pgdrain_rehearse_%'";

pub(crate) async fn site() -> Site {
    let backup: Backup = backup(Verify::None);
    Site::start_with(Options {
        backup,
        ..options()
    })
    .await
}

pub(crate) fn rehearsal(files: &[PostedFile]) -> RehearseRequest {
    let json = serde_json::json!({ "files": files, "by": "a test" });
    serde_json::from_value(json).expect("the smallest request")
}

pub(crate) async fn rehearse(site: &Site, request: RehearseRequest) -> RunView {
    let id = site
        .runner
        .rehearse(DATABASE, request)
        .expect("a rehearsal");
    let view = site.end(&id).await;
    assert_eq!(site.ask(COPIES).await, "0", "{view:#?}");
    view
}

pub(crate) fn found(view: &RunView) -> Rehearsal {
    let report = view.report.clone().expect("a report");
    report.rehearsal.expect("a rehearsal")
}

fn traces(leg: &Leg) -> Vec<&StatementTrace> {
    leg.files.iter().flat_map(|it| &it.trace).collect()
}

/// `relation Mode` of every lock of a statement.
fn locks(trace: &StatementTrace) -> Vec<String> {
    let lock = |it: &pgdrain::runner::rehearse::TracedLock| {
        let new = if it.new { " (new)" } else { "" };
        format!("{} {}{new}", it.relation, it.mode)
    };
    trace.locks.iter().map(lock).collect()
}

fn four() -> Vec<PostedFile> {
    vec![
        file(
            "1_add.up.sql",
            "alter table t add column b int default 1;\ncreate table u (a int references t);",
        ),
        file(
            "1_add.down.sql",
            "drop table u;\nalter table t drop column b;",
        ),
        file("2_type.up.sql", "alter table t alter column c type bigint;"),
        file("2_type.down.sql", "alter table t alter column c type int;"),
        file("3_index.up.sql", "create index concurrently t_b on t (b);"),
        file("3_index.down.sql", "drop index concurrently t_b;"),
        file(
            "4_rows.up.sql",
            "-- pgdrain:batch table=t size=10 pause=0ms done=\"b <> 2\"\n\
             update t set b = 2 where :batch;",
        ),
        file("4_rows.down.sql", "update t set b = 1;"),
    ]
}

const TABLE: &str = "create table t (a int primary key, c int); \
                     insert into t select i, i from generate_series(1, 40) i;";

#[tokio::test]
async fn up_down_and_up_in_a_copy_tell_locks_rewrites_and_times_and_plans_know_them() {
    let site = site().await;
    site.sql(TABLE).await;
    site.sql("create database pgdrain_rehearse_left").await;
    let files = four();
    let view = rehearse(&site, rehearsal(&files)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let found = found(&view);
    assert!(found.findings.is_empty() && found.irreversible.is_empty());
    let course = &found.courses[0];

    let up = traces(&course.up);
    assert_eq!(
        locks(up[0]),
        ["public.t AccessExclusive"],
        "a constant default needs no rewrite"
    );
    assert!(up[0].rewritten.is_empty());
    assert_eq!(locks(up[1]), ["public.u AccessExclusive (new)"]);
    assert_eq!(up[2].rewritten, ["public.t", "public.t_pkey"]);
    let index = up[3];
    assert!(
        index.sampled && index.text == "CREATE INDEX CONCURRENTLY",
        "{index:?}"
    );
    let too_strong = index
        .locks
        .iter()
        .find(|it| it.mode > LockMode::ShareUpdateExclusive);
    assert_eq!(too_strong, None);
    assert!(up[4].sampled && up[4].number == 1, "{:?}", up[4]);

    let [down, again] = [&course.down, &course.again].map(|it| it.as_ref().expect("a leg"));
    let order: Vec<_> = down.files.iter().map(|it| it.file.file.as_str()).collect();
    let back = [
        "4_rows.down.sql",
        "3_index.down.sql",
        "2_type.down.sql",
        "1_add.down.sql",
    ];
    assert_eq!(order, back);
    assert_eq!(course.before, down.fingerprint);
    assert_eq!(course.up.fingerprint, again.fingerprint);
    assert_ne!(course.before, course.up.fingerprint);

    // Nothing but the report is in the database.
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
    let columns = "select count(*) from pg_attribute where attrelid = 't'::regclass and attnum > 0";
    assert_eq!(site.ask(columns).await, "2");
    let kept = "select report #>> '{courses,0,up,fingerprint}' from pgdrain.rehearsal";
    assert_eq!(Some(site.ask(kept).await), course.up.fingerprint);

    let request = PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: files.clone(),
        format: None,
        history: None,
        traffic: TrafficMode::Auto,
    };
    let plan = site.runner.plan(DATABASE, &request).await.expect("a plan");
    let statements = plan.steps.iter().flat_map(|it| &it.statements);
    for (statement, trace) in statements.zip(up) {
        let expected = statement.expected.as_ref().expect("it was rehearsed");
        assert_eq!(expected.elapsed_ms, trace.elapsed_ms);
        assert_eq!(expected.among, "no rows at all");
    }
    // With rows is better known.
    let full = RehearseRequest {
        data: Data::Full,
        ..rehearsal(&files)
    };
    let view = rehearse(&site, full).await;
    assert_end(&view, RunState::Succeeded, 0);
    let batches = found_batches(&view);
    assert_eq!(batches, Some(40));
    let plan = site.runner.plan(DATABASE, &request).await.expect("a plan");
    let expected = plan.steps[0].statements[0].expected.clone().expect("one");
    assert_eq!(expected.among, "the rows of the database");
    // And the files run in earnest, as if nothing had been.
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let view = rehearse(&site, rehearsal(&files)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(self::found(&view).notes, ["nothing is pending"]);
}

fn found_batches(view: &RunView) -> Option<i64> {
    let found = found(view);
    let last = found.courses[0].up.files.last()?;
    last.file.batches.map(|it| it.rows)
}

#[tokio::test]
async fn what_a_way_down_leaves_behind_or_loses_is_named() {
    let site = site().await;
    site.sql(TABLE).await;
    let files = [
        file(
            "1_a.up.sql",
            "alter table t add b int;\ndelete from t where a > 30;",
        ),
        file("1_a.down.sql", "select 1;"),
    ];
    let full = RehearseRequest {
        data: Data::Full,
        ..rehearsal(&files)
    };
    let view = rehearse(&site, full).await;
    // The second way up meets the column that was left.
    assert_end(&view, RunState::Failed, 3);
    let found = found(&view);
    let said = found.findings.join("\n");
    assert!(
        said.contains("after the way down: has column public.t.b"),
        "{said}"
    );
    assert!(
        said.contains("public.t has 30 rows instead of 40"),
        "{said}"
    );
    assert!(failure(&view).contains("column \"b\" of relation \"t\" already exists"));
    assert_eq!(site.ask("select count(*) from t").await, "40");
}

#[tokio::test]
async fn a_file_without_a_way_back_ends_the_way_down_and_is_named() {
    let site = site().await;
    let files = [
        file("1_a.up.sql", "create table a ();"),
        file("1_a.down.sql", "drop table a;"),
        file(
            "2_b.up.sql",
            "-- pgdrain:irreversible it only adds\ncreate table b ();",
        ),
        file("3_c.up.sql", "create table c ();"),
        file("3_c.down.sql", "drop table c;"),
    ];
    let view = rehearse(&site, rehearsal(&files)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let found = found(&view);
    assert_eq!(found.irreversible, ["2_b.up.sql"]);
    let names = |leg: &Option<Leg>| -> Vec<String> {
        let leg = leg.as_ref().expect("a leg");
        leg.files.iter().map(|it| it.file.file.clone()).collect()
    };
    assert_eq!(names(&found.courses[0].down), ["3_c.down.sql"]);
    assert_eq!(names(&found.courses[0].again), ["3_c.up.sql"]);
}

#[tokio::test]
async fn each_failure_has_its_code_and_leaves_no_copy() {
    let site = site().await;
    let up = [
        file(
            "1_a.up.sql",
            "create table a ();\nalter table nonesuch add b int;",
        ),
        file("1_a.down.sql", "drop table a;"),
    ];
    let view = rehearse(&site, rehearsal(&up)).await;
    assert_end(&view, RunState::Failed, 2);
    let said = failure(&view);
    assert!(
        said.starts_with("1_a.up.sql, statement 2 of 2, line 2"),
        "{said}"
    );
    let down = [
        file("1_a.up.sql", "create table a ();"),
        file("1_a.down.sql", "drop table nonesuch;"),
    ];
    let view = rehearse(&site, rehearsal(&down)).await;
    assert_end(&view, RunState::Failed, 4);
    // Both are kept, with what was seen until then.
    let codes =
        "select string_agg(exit_code::text, ' ' order by started_at) from pgdrain.rehearsal";
    assert_eq!(site.ask(codes).await, "2 4");
    let broken = [file("1_a.up.sql", "\\copy a from x")];
    let view = rehearse(&site, rehearsal(&broken)).await;
    assert_end(&view, RunState::Failed, 5);

    // Somebody stops it.
    let slow = [
        file("1_a.up.sql", "select pg_sleep(600);"),
        file("1_a.down.sql", "select 1;"),
    ];
    let id = site
        .runner
        .rehearse(DATABASE, rehearsal(&slow))
        .expect("a rehearsal");
    let busy = site.runner.rehearse(DATABASE, rehearsal(&slow));
    assert!(
        busy.expect_err("one at a time")
            .to_string()
            .contains("is running")
    );
    site.running("select pg_sleep").await;
    // Meanwhile the copy is for nobody else.
    site.sql("create role outsider").await;
    let may = "select has_database_privilege('outsider', datname, 'connect') from pg_database \
               where datname like 'pgdrain_rehearse_%'";
    assert_eq!(site.ask(may).await, "false");
    assert!(site.runner.cancel(&id, "ann"));
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(site.ask(COPIES).await, "0");

    // Its connections are lost in the middle.
    let id = site
        .runner
        .rehearse(DATABASE, rehearsal(&slow))
        .expect("a rehearsal");
    site.running("select pg_sleep").await;
    site.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where pid <> pg_backend_pid() and backend_type = 'client backend'",
    )
    .await;
    assert_end(&site.end(&id).await, RunState::Failed, 2);
    until("no copy", SOON, async || site.ask(COPIES).await == "0").await;
}

#[tokio::test]
async fn without_pg_dump_there_is_no_copy_and_nothing_was_done() {
    let settings = Backup {
        pg_dump: "/nonexistent/pg_dump".into(),
        ..backup(Verify::None)
    };
    let site = Site::start_with(Options {
        backup: settings,
        ..options()
    })
    .await;
    let view = rehearse(&site, rehearsal(&four())).await;
    assert_end(&view, RunState::Failed, 1);
    assert!(
        failure(&view).contains("no copy: pg_dump cannot be started"),
        "{view:#?}"
    );
    assert_eq!(
        site.ask("select to_regnamespace('pgdrain') is null").await,
        "true"
    );
}

#[tokio::test]
async fn a_named_database_is_rehearsed_in_unless_it_is_the_one_to_be_spared() {
    let site = site().await;
    site.sql("create database staging").await;
    site.sql("create table t (a int primary key, c int)").await;
    let mut postgres = site.postgres;
    let client = postgres.connect("staging").await;
    client.batch_execute(TABLE).await.expect("a table");
    let site = Site { postgres, ..site };
    let on = |database: &str| RehearseRequest {
        on: Some(Secret::new(site.postgres.url(database))),
        ..rehearsal(&four())
    };
    let view = rehearse(&site, on(DATABASE)).await;
    assert_end(&view, RunState::Failed, 5);
    assert!(failure(&view).contains("is postgres itself"), "{view:#?}");
    let view = rehearse(&site, on("staging")).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(found_batches(&view), Some(40));
    // What was pending there is applied there, and not here.
    let sql = "select string_agg(state, ' ') from pgdrain.migration";
    let row = client.query_one(sql, &[]).await.expect("its history");
    assert_eq!(row.get::<_, String>(0), "applied applied applied applied");
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
    assert_eq!(
        site.ask("select place from pgdrain.rehearsal").await,
        "staging"
    );
}

const FAMILY: &str = "\
    create type mood as enum ('sad', 'ok'); create domain price as numeric(8,2) check (value > 0); \
    create table parent (id bigint generated always as identity primary key, name varchar(20) unique not null); \
    create table child (id serial primary key, parent_id bigint not null references parent, \
        mood mood not null, price price not null, tags text[] not null, at timestamptz not null, \
        data jsonb not null, up int references child, code uuid unique not null); \
    create table odd (a int primary key check (a < 0)); \
    insert into parent (name) values ('real');";

#[tokio::test]
async fn made_up_rows_honour_keys_and_types_and_limits_are_held_against_them() {
    let site = site().await;
    site.sql(FAMILY).await;
    let files = [
        file(
            "1_a.up.sql",
            "alter table child add sum numeric;\nupdate child set sum = price;\n\
             alter table odd add b int;\n\
             do $$ begin if (select count(*) from child) = 300 then perform pg_sleep(0.1); end if; end $$;",
        ),
        file(
            "1_a.down.sql",
            "alter table odd drop b;\nalter table child drop sum;",
        ),
    ];
    let request = RehearseRequest {
        scale: vec![30, 300],
        limits: serde_json::from_str(r#"{"migration": "100ms"}"#).expect("limits"),
        ..rehearsal(&files)
    };
    // However slow this machine is, the file with 300 rows takes longer than it may.
    let view = rehearse(&site, request).await;
    assert_end(&view, RunState::Failed, 3);
    let found = found(&view);
    let over = "with 300 rows, 1_a.up.sql took";
    assert!(
        found.findings.iter().any(|it| it.starts_with(over)),
        "{found:#?}"
    );
    assert_eq!(found.courses.len(), 3);
    let filled = |table: &str| {
        let mut all = found.courses[2].filled.iter();
        let it = all.find(|it| it.table == table).expect(table);
        it.not_filled.clone().unwrap_or_else(|| "filled".to_owned())
    };
    assert_eq!(filled("public.parent"), "filled");
    assert_eq!(filled("public.child"), "filled");
    assert!(filled("public.odd").contains("odd_a_check"), "{found:#?}");
    assert_eq!(site.ask("select count(*) from parent").await, "1");
}

#[tokio::test]
async fn the_cost_of_row_level_security_is_measured_as_the_role_and_past_it() {
    let site = site().await;
    site.sql(TABLE).await;
    site.sql("create role app").await;
    let files = [
        file(
            "1_a.up.sql",
            "alter table t enable row level security;\n\
             create policy small on t for select to app using (a < 20);\ngrant select on t to app;",
        ),
        file(
            "1_a.down.sql",
            "revoke select on t from app;\ndrop policy small on t;\n\
             alter table t disable row level security;",
        ),
    ];
    let request = RehearseRequest {
        data: Data::Full,
        rls_role: Some("app".to_owned()),
        ..rehearsal(&files)
    };
    let view = rehearse(&site, request).await;
    assert_end(&view, RunState::Succeeded, 0);
    let costs = &found(&view).courses[0].rls;
    assert_eq!(costs.len(), 1, "{costs:?}");
    assert_eq!(costs[0].table, "public.t");
    assert!(
        costs[0].as_role_ms > 0.0 && costs[0].bypassing_ms > 0.0,
        "{costs:?}"
    );
}
