//! Migrations go up and down, each with its history row, alone where they need it.

use std::time::Duration;

use pgdrain::config::{Host, Secret, UnixAddress};
use pgdrain::runner::Options;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{
    Direction, EventKind, MigrationRequest, RunState, StepTraffic, TrafficMode,
};

use crate::support::migrations::{
    DATABASE, Site, assert_end, end, endpoint, file, options, request, runner, texts,
};

fn three() -> Vec<PostedFile> {
    vec![
        file(
            "001_table.up.sql",
            "create table t (a int);\ninsert into t values (1);\n",
        ),
        file("001_table.down.sql", "drop table t;"),
        file(
            "002_index.up.sql",
            "-- no lock\ncreate index concurrently t_a on t (a);",
        ),
        file("002_index.down.sql", "drop index concurrently t_a;"),
        file(
            "003_column.up.sql",
            "BEGIN;\nalter table t add b int not null default 0;\nCOMMIT;\n",
        ),
        file("003_column.down.sql", "alter table t drop b;"),
    ]
}

#[tokio::test]
async fn up_runs_all_and_down_goes_back_one_by_one() {
    let site = Site::start().await;
    let view = site.up(&three()).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.ask("select count(b) from t").await, "1");
    assert_eq!(site.row(1).await, "applied up 2/2");
    assert_eq!(site.row(2).await, "applied up 1/1");
    assert_eq!(site.row(3).await, "applied up 1/1");
    // The transaction in the history did the work, in one of its subtransactions. (The row's own xmin is
    // that of the fingerprint, which is written behind the file.)
    let xmin = "select pg_xact_status(xid) = 'committed' and (select xmin::text::bigint from pg_attribute \
                        where attrelid = 't'::regclass and attname = 'b') > xid::text::bigint \
                from pgdrain.migration where version = '3'";
    assert_eq!(site.ask(xmin).await, "true");
    // A window around each file that needs one, none around the concurrent one.
    assert_eq!(site.windows.log(), ["begin", "reopen", "begin", "reopen"]);
    let report = view.report.as_ref().unwrap();
    let traffic: Vec<_> = report.files.iter().map(|it| it.traffic).collect();
    assert_eq!(
        traffic,
        [
            StepTraffic::Exclusive,
            StepTraffic::Open,
            StepTraffic::Exclusive
        ]
    );

    let view = site.up(&three()).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(view.report.unwrap().files.is_empty());
    assert_eq!(site.windows.log().len(), 4);

    assert_end(&site.down(&three(), 1).await, RunState::Succeeded, 0);
    assert_eq!(site.row(3).await, "reverted down 1/1");
    assert_end(&site.down(&three(), 2).await, RunState::Succeeded, 0);
    assert_eq!(site.ask("select to_regclass('t')").await, "null");
    assert_eq!(site.row(2).await, "reverted down 1/1");

    let status = site.status(&three()).await;
    assert_eq!((status.applied.len(), status.pending.len()), (0, 3));
    assert_end(&site.up(&three()).await, RunState::Succeeded, 0);
    let events = "select string_agg(type, ' ' order by id) from pgdrain.event where version = '1'";
    assert_eq!(site.ask(events).await, "applied reverted applied");
    let runs = "select string_agg(state || exit_code, ' ' order by started_at) from pgdrain.run";
    assert_eq!(
        site.ask(runs).await,
        "succeeded0 succeeded0 succeeded0 succeeded0"
    );
    assert!(site.own.pids().is_empty());
}

#[tokio::test]
async fn neighbours_share_a_window_and_steps_limit_the_run() {
    let site = Site::start().await;
    let files: Vec<_> = (1..=4)
        .map(|n| file(&format!("{n}_t.up.sql"), &format!("create table t{n} ()")))
        .collect();
    let limited = MigrationRequest {
        steps: Some(3),
        ..request(Direction::Up, &files)
    };
    let id = site.runner.start(DATABASE, limited).unwrap();
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    assert_eq!(site.ask("select to_regclass('t4')").await, "null");

    let open = MigrationRequest {
        traffic: TrafficMode::Open,
        ..request(Direction::Up, &files)
    };
    let id = site.runner.start(DATABASE, open).unwrap();
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    assert_eq!(site.runner.list(DATABASE).len(), 2);
}

#[tokio::test]
async fn progress_can_be_followed_from_any_point() {
    let site = Site::start().await;
    let sql = "do $$ begin raise notice 'half of it'; end $$;\nselect 1;";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(
        view.events
            .iter()
            .map(|it| it.seq)
            .eq(1..=view.events.len() as u64)
    );
    assert_eq!(texts(&view, EventKind::Notice), ["NOTICE: half of it"]);
    assert_eq!(texts(&view, EventKind::Statement).len(), 2);
    let checks = &view.report.as_ref().unwrap().checks;
    assert_eq!(checks.len(), 32, "{checks:#?}");
    let rest = site
        .runner
        .follow(&view.id, 3, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(rest.events[0].seq, 4);
    assert!(
        site.runner
            .follow("no such run", 0, Duration::ZERO)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn what_a_file_sets_does_not_outlive_it() {
    let site = Site::start().await;
    site.sql("create role other; grant all on schema public to other")
        .await;
    let fiddle = "create schema evil;\n\
        create function evil.clock_timestamp() returns timestamptz language sql as \
        $$ select '2000-01-01'::timestamptz $$;\n\
        set search_path = evil, pg_catalog;\n\
        set statement_timeout = '1ms';\nset role other;\nset work_mem = '1MB';\n\
        create temp table text (a int);\nprepare p as select 1;\nset timezone = 'Asia/Tokyo'";
    let look = "create table seen as select current_setting('search_path') as path, \
        current_user::text as role, current_setting('work_mem') as work_mem, \
        (select count(*) from pg_prepared_statements) as prepared, to_regclass('text') as temp";
    // In one window, on one session.
    let files = [
        file("1_fiddle.up.sql", &fiddle.replace("'1ms'", "'5s'")),
        file("2_look.up.sql", look),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    let row = "select seen::text from seen";
    assert_eq!(
        site.ask(row).await,
        "(\"\"\"$user\"\", public\",postgres,4MB,0,)"
    );
    let at = "select finished_at > '2020-01-01' and applied_by = 'postgres' \
              from pgdrain.migration where version = '1'";
    assert_eq!(site.ask(at).await, "true");
}

#[tokio::test]
async fn files_run_as_the_owner_and_the_history_as_ourselves() {
    let site = Site::start().await;
    site.sql(
        "create role \"App \"\"Owner\"; create schema app authorization \"App \"\"Owner\"; \
         create role runner login; grant \"App \"\"Owner\" to runner; \
         grant pg_read_all_stats to runner; grant create on database postgres to runner; \
         grant usage on schema public to runner",
    )
    .await;
    let owner = Options {
        owner: Some("App \"Owner".to_owned()),
        ..options()
    };
    let runner = runner(
        endpoint(&site.postgres, "runner"),
        owner,
        &site.own,
        &site.windows,
    );
    let files = [
        file("1_a.up.sql", "create table app.a (n int)"),
        file("2_b.up.sql", "create index concurrently a_n on app.a (n)"),
        file("2_b.down.sql", "drop index concurrently app.a_n"),
    ];
    let id = runner
        .start(DATABASE, request(Direction::Up, &files))
        .unwrap();
    assert_end(&end(&runner, &id).await, RunState::Succeeded, 0);
    let owner = |name: &str| {
        format!("select relowner::regrole from pg_class where oid = '{name}'::regclass")
    };
    assert_eq!(site.ask(&owner("app.a")).await, "\"App \"\"Owner\"");
    assert_eq!(site.ask(&owner("pgdrain.migration")).await, "runner");
    let id = runner
        .start(DATABASE, request(Direction::Down, &files))
        .unwrap();
    assert_end(&end(&runner, &id).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn unusual_defaults_of_the_role_change_nothing() {
    let site = Site::start().await;
    site.sql(
        "alter role postgres set default_transaction_isolation = 'serializable'; \
         alter role postgres set default_transaction_read_only = on; \
         alter role postgres set search_path = 'nowhere'; \
         alter role postgres set standard_conforming_strings = off; \
         alter role postgres set datestyle = 'German'; \
         alter role postgres set statement_timeout = '5s'",
    )
    .await;
    let files = [
        file(
            "1_a.up.sql",
            "create table public.t (a text); insert into public.t values ('\\')",
        ),
        file(
            "2_b.up.sql",
            "create index concurrently t_a on public.t (a)",
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
}

#[tokio::test]
async fn the_primary_is_found_among_hosts_and_over_a_socket() {
    let mut site = Site::start().await;
    let port = site.postgres.addr().port();
    let mut place = endpoint(&site.postgres, "postgres");
    // Nobody listens on the first.
    place.hosts = vec![
        Host::Tcp {
            name: "127.0.0.1".to_owned(),
            port: 1,
        },
        Host::Unix(UnixAddress {
            directory: site.postgres.socket_dir().to_owned(),
            port,
        }),
    ];
    place.password = Some(Secret::new("sesame"));
    assert!(!format!("{place:?}").contains("sesame"));
    site.runner = runner(place, options(), &site.own, &site.windows);
    let view = site.up(&[file("1_a.up.sql", "select 1")]).await;
    assert_end(&view, RunState::Succeeded, 0);
}

/// All that the tables are: columns, constraints, indexes, triggers, functions, who may do what.
const LAYOUT: &str = "
    select string_agg(line, E'\n' order by line collate \"C\") from (
        select format('column %s.%s %s %s %s', a.attrelid::regclass, a.attname,
                      format_type(a.atttypid, a.atttypmod), a.attnotnull,
                      pg_get_expr(d.adbin, d.adrelid)) as line
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace = 'pgdrain'::regnamespace and c.relkind = 'r'
          and a.attnum > 0 and not a.attisdropped
        union all
        select format('constraint %s on %s: %s', conname, conrelid::regclass,
                      pg_get_constraintdef(oid))
        from pg_constraint where connamespace = 'pgdrain'::regnamespace
        union all
        select pg_get_indexdef(indexrelid) from pg_index
        join pg_class c on c.oid = indrelid where c.relnamespace = 'pgdrain'::regnamespace
        union all
        select pg_get_triggerdef(t.oid) from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'pgdrain'::regnamespace and not tgisinternal
        union all
        select pg_get_functiondef(oid) || proacl::text from pg_proc
        where pronamespace = 'pgdrain'::regnamespace
        union all
        select format('grants %s %s %s', relname, relowner::regrole, relacl) from pg_class
        where relnamespace = 'pgdrain'::regnamespace
        union all
        select format('grants %s', nspacl) from pg_namespace where nspname = 'pgdrain') as lines";

/// The first tables let no run ask for read-only traffic.
#[tokio::test]
async fn the_tables_of_an_older_pgdrain_are_brought_up_to_date_by_the_next_run() {
    let site = Site::start().await;
    let files = three();
    assert_end(&site.up(&files[..2]).await, RunState::Succeeded, 0);
    let fresh = site.ask(LAYOUT).await;
    site.sql(
        "alter table pgdrain.run drop column fp_before, drop column fp_after; \
         alter table pgdrain.migration drop column fp_before, drop column fp_after; \
         drop table pgdrain.schema_dump; \
         alter table pgdrain.run drop constraint run_traffic_check, \
             add constraint run_traffic_check check (traffic in ('auto', 'open', 'exclusive')); \
         alter table pgdrain.migration drop constraint migration_tx_mode_check, \
             add constraint migration_tx_mode_check check (tx_mode in ('file', 'none')), \
             drop constraint migration_state_check, \
             add constraint migration_state_check \
             check (state in ('running', 'applied', 'failed', 'dirty', 'reverted')), \
             drop column counted, drop column alone, drop column down_run, drop column up_done, \
             drop column up_total; \
         drop table pgdrain.backfill, pgdrain.progress, pgdrain.saved_object, \
             pgdrain.rehearsed, pgdrain.rehearsal, pgdrain.approval, pgdrain.decision; \
         update pgdrain.layout set version = 1",
    )
    .await;
    let reading = MigrationRequest {
        traffic: TrafficMode::ReadOnly,
        ..request(Direction::Up, &files)
    };
    let id = site.runner.start(DATABASE, reading).unwrap();
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "applied up 2/2");
    assert_eq!(site.row(3).await, "applied up 1/1");
    let layouts = "select string_agg(version::text, ' ' order by version) from pgdrain.layout";
    assert_eq!(site.ask(layouts).await, "1 2 3 4 5 6 7 8 9");
    // What was brought up to date is what is made anew.
    assert_eq!(site.ask(LAYOUT).await, fresh);
    let traffic = "select string_agg(traffic, ' ' order by started_at) from pgdrain.run";
    assert_eq!(site.ask(traffic).await, "auto read_only");
}
