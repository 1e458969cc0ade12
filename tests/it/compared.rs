//! A database is compared before and after a run: counters of the touched tables, plans of statements, what
//! row-level security costs; thresholds decide how the run ends.

use std::time::Duration;

use pgdrain::config::{Compare, CompareWhen, HumanDuration, Reports, Thresholds, Validate};
use pgdrain::runner::Options;
use pgdrain::runner::account::{html, markdown};
use pgdrain::runner::aftermath::catalog::{CatalogComparison, TableCompared};
use pgdrain::runner::aftermath::plans::{PlanChange, PlanCompared, PlanComparison};
use pgdrain::runner::report::Report;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, RunState, RunView};

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options, request};
use crate::support::poll::{PATIENCE, SOON, until};

const STATEMENTS: [(&str, &str); 1] = [("shared_preload_libraries", "pg_stat_statements")];

/// A table with an index, of which three rows in four are dead.
const SCHEMA: &str = "
    create table t (id int primary key, a int, b text);
    insert into t select g, g, repeat('x', 60) from generate_series(1, 8000) g;
    create index t_a on t (a);
    delete from t where id % 4 <> 0";

const BY_A: &str = "select b from t where a = $1";

fn always(statements: &[&str]) -> Compare {
    Compare {
        when: CompareWhen::Always,
        statements: statements.iter().map(|it| (*it).to_owned()).collect(),
        ..Compare::default()
    }
}

async fn site(postgres: Postgres, options: Options) -> Site {
    let site = Site::on(postgres, options).await;
    site.sql(SCHEMA).await;
    site.sql("vacuum analyze t").await;
    site
}

fn files(sql: &str) -> [PostedFile; 2] {
    [
        file("1_a.up.sql", sql),
        file("1_a.down.sql", "create table back ()"),
    ]
}

fn report(view: &RunView) -> &Report {
    view.report.as_ref().expect("a report")
}

fn table<'a>(all: &'a CatalogComparison, name: &str) -> &'a TableCompared {
    let found = all.tables.iter().find(|it| it.table == name);
    found.unwrap_or_else(|| panic!("{name} in {:?}", all.tables))
}

fn plan<'a>(all: &'a PlanComparison, text: &str) -> &'a PlanCompared {
    let found = all.statements.iter().find(|it| it.text.contains(text));
    found.unwrap_or_else(|| panic!("{text} in {all:?}"))
}

async fn changed_plans(postgres: Postgres) {
    let compare = always(&[
        BY_A,
        "select 1; drop table t",
        "select nothing from nowhere",
    ]);
    let site = site(
        postgres,
        Options {
            compare,
            ..options()
        },
    )
    .await;
    site.sql("create extension pg_stat_statements").await;
    // With a constant, which pg_stat_statements takes out.
    for _ in 0..50 {
        site.sql("select count(*) from t where id between 17 and 19")
            .await;
    }
    let sql =
        "drop index t_a; alter table t rename column b to c; create table n (id int primary key)";
    let view = site.up(&files(sql)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let plans = report(&view).plans.as_ref().expect("plans");
    let lost = plan(plans, "select b from t");
    assert_eq!(lost.change, PlanChange::Lost, "{lost:?}");
    assert!(
        lost.before.join(" ").contains("public.t using t_a")
            || lost.before.join(" ").contains("using t_a"),
        "{lost:?}"
    );
    assert!(
        lost.error.as_ref().is_some_and(|it| it.contains("\"b\"")),
        "{lost:?}"
    );
    let same = plan(plans, "from t where id between");
    assert_eq!(same.change, PlanChange::Same, "{same:?}");
    for text in ["drop table t", "nowhere"] {
        let left = plans.left_out.iter().any(|it| it.text.contains(text));
        assert!(left, "{text} in {plans:?}");
    }
    assert_eq!(site.ask("select count(*) from t").await, "2000");

    // The new table is there, the dropped index gone, and what is dead was seen.
    let catalog = report(&view).catalog.as_ref().expect("a comparison");
    let t = table(catalog, "public.t");
    let (before, since) = (t.before.expect("figures"), t.since.expect("figures"));
    let bloat = before.bloat_percent.expect("an estimate");
    assert!((70.0..80.0).contains(&bloat), "{before:?}");
    assert!(before.rows >= 2000 && since.bytes >= 8192, "{t:?}");
    assert!(table(catalog, "public.n").before.is_none());
    let gone = catalog.indexes.iter().find(|it| it.index == "public.t_a");
    assert!(gone.expect("the index").since.is_none());

    let account = site.runner.account(DATABASE, None).await;
    let account = account.expect("an account").expect("a run");
    for page in [html(&account), markdown(&account)] {
        for text in [
            "Tables and indexes, before and since",
            "Plans, before and since",
            "can no longer be planned",
            "is gone",
            "not compared",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }
    // And in the history, for whoever comes later.
    let kept = "select count(*) from pgdrain.run \
                where report ? 'plans' and report->'baseline' ? 'catalog' and report ? 'catalog'";
    assert_eq!(site.ask(kept).await, "1");
}

#[tokio::test]
async fn tables_and_plans_are_in_the_report_its_page_and_the_history() {
    changed_plans(Postgres::start_with(&STATEMENTS, &[]).await).await;
}

#[tokio::test]
async fn a_server_that_plans_without_parameters_is_asked_so() {
    if let Some(postgres) = Postgres::of_version("16", &STATEMENTS).await {
        changed_plans(postgres).await;
    }
}

#[tokio::test]
async fn an_index_that_goes_is_a_plan_that_changes() {
    let compare = always(&[BY_A]);
    let options = Options {
        compare,
        ..options()
    };
    let site = site(Postgres::start().await, options).await;
    let view = site.up(&files("drop index t_a")).await;
    let plans = report(&view).plans.as_ref().expect("plans");
    let changed = plan(plans, "select b from t");
    assert_eq!(changed.change, PlanChange::Changed);
    assert_eq!(changed.after, ["Seq Scan on public.t"]);
    assert!(changed.cost_after > changed.cost_before, "{changed:?}");
    // Nobody asked for a look at traffic: what took no time is not known.
    let catalog = report(&view).catalog.as_ref().expect("a comparison");
    assert_eq!(
        (catalog.since.seconds, catalog.since.index_use_percent),
        (0.0, None)
    );
}

#[tokio::test]
async fn a_statement_that_can_no_longer_be_planned_fails_its_file() {
    let options = Options {
        compare: always(&[BY_A, "select gone from t"]),
        validate: Validate {
            explain: true,
            ..Validate::default()
        },
        ..options()
    };
    let mut site = site(Postgres::start().await, options).await;
    let view = site.up(&files("alter table t drop column b")).await;
    assert_end(&view, RunState::Failed, 2);
    let why = failure(&view);
    assert!(
        why.contains("1 statements can no longer be planned: select b from t"),
        "{why}"
    );
    assert!(!why.contains("gone"), "{why}");
    assert_eq!(site.ask("select count(b) from t").await, "2000");

    // Somebody who holds a lock elsewhere keeps nobody from looking, and fails nothing.
    site.sql("create table u (id int)").await;
    let holder = site.postgres.connect(DATABASE).await;
    let held = holder.batch_execute("begin; lock table t in row exclusive mode; lock table u");
    held.await.expect("a lock");
    let view = site.up(&files("create table v (id int)")).await;
    assert_end(&view, RunState::Succeeded, 0);
    let left = "select count(*) from pg_prepared_statements where name like 'pgdrain%'";
    assert_eq!(site.ask(left).await, "0");
}

/// Runs a file, with somebody who works meanwhile.
async fn under_work(site: &Site, files: &[PostedFile], work: &str) -> RunView {
    let id = site.runner.start(DATABASE, request(Direction::Up, files));
    let id = id.expect("a run");
    until("the run to be over", PATIENCE, async || {
        for _ in 0..20 {
            site.sql(work).await;
        }
        let view = site.runner.follow(&id, 0, Duration::ZERO).await;
        view.expect("the run").state.is_final()
    })
    .await;
    site.end(&id).await
}

#[tokio::test]
async fn thresholds_about_traffic_behind_the_files_decide_how_a_run_ends() {
    let thresholds = Thresholds {
        degradation_percent: Some(50),
        index_use_percent: Some(90),
        over: Duration::from_secs(3),
        ..Thresholds::default()
    };
    let options = Options {
        thresholds,
        down_required: false,
        ..options()
    };
    let site = site(Postgres::start_with(&STATEMENTS, &[]).await, options).await;
    site.sql("create extension pg_stat_statements").await;
    let work = "set enable_bitmapscan = off; select b from t where a = 12";
    for _ in 0..40 {
        site.sql(work).await;
    }
    let view = under_work(
        &site,
        &[file("1_a.up.sql", "comment on table t is 'x'")],
        work,
    )
    .await;
    assert_end(&view, RunState::Succeeded, 0);
    let used = report(&view).catalog.as_ref().expect("a comparison");
    assert!(used.since.index_use_percent > Some(90.0), "{used:?}");
    assert!(
        used.since.seconds >= 3.0 && used.since.lock_waits.looks >= 3,
        "{used:?}"
    );

    let drop = [
        file("1_a.up.sql", "comment on table t is 'x'"),
        file("2_b.up.sql", "drop index t_a"),
    ];
    let view = under_work(&site, &drop, work).await;
    assert_end(&view, RunState::Succeeded, 3);
    let broken: Vec<_> = report(&view).breaches.iter().collect();
    let names: Vec<_> = broken.iter().map(|it| it.threshold.as_str()).collect();
    assert_eq!(
        names,
        ["degradation_percent", "index_use_percent"],
        "{broken:?}"
    );
    assert!(report(&view).degradation_percent > Some(50.0));
}

#[tokio::test]
async fn what_row_level_security_costs_is_measured_as_the_role_and_decides() {
    let limit = |ms| Options {
        thresholds: Thresholds {
            rls: Some(Duration::from_millis(ms)),
            rls_role: Some("app".to_owned()),
            ..Thresholds::default()
        },
        down_required: false,
        ..options()
    };
    let postgres = Postgres::start().await;
    let site = site(postgres, limit(20)).await;
    site.sql(
        "create role app; grant select on t to app; alter table t enable row level security; \
         create function slow(int) returns bool language plpgsql volatile as $$ begin \
             perform pg_sleep(0.0001); return true; end $$; \
         create policy p on t to app using (a > 0)",
    )
    .await;
    let one = file("1_a.up.sql", "comment on table t is 'x'");
    let view = site.up(std::slice::from_ref(&one)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let rls = &report(&view).rls;
    assert_eq!((rls.len(), rls[0].table.as_str()), (1, "public.t"));

    let dear = file(
        "2_b.up.sql",
        "-- pgdrain:changes row_security t\ndrop policy p on t; create policy p on t to app using (slow(a))",
    );
    let view = site.up(&[one.clone(), dear.clone()]).await;
    assert_end(&view, RunState::Succeeded, 3);
    let breach = &report(&view).breaches[0];
    assert!(breach.text.contains("public.t"), "{breach:?}");

    // A policy that needs what only the application sets: not measured is not kept.
    let theirs = file(
        "3_c.up.sql",
        "-- pgdrain:changes row_security t\ndrop policy p on t; \
         create policy p on t to app using (a = current_setting('app.tenant')::int)",
    );
    let view = site.up(&[one, dear, theirs]).await;
    assert_end(&view, RunState::Succeeded, 3);
    let breach = &report(&view).breaches[0];
    assert!(
        breach.text.contains("not known") && breach.text.contains("app.tenant"),
        "{breach:?}"
    );
}

#[tokio::test]
async fn a_watch_counts_too_is_reported_in_its_middle_and_at_its_end_over_a_restart() {
    let (state, reports) = (tempfile::tempdir(), tempfile::tempdir());
    let (state, reports) = (state.expect("a directory"), reports.expect("a directory"));
    let settings = |watch_after| Options {
        compare: always(&[BY_A]),
        state_dir: Some(state.path().to_owned()),
        reports: Reports {
            dir: Some(reports.path().to_owned()),
            watch_after,
            ..Reports::default()
        },
        ..options()
    };
    let long = Duration::from_secs(2);
    let site = site(Postgres::start().await, settings(long)).await;
    let view = site
        .up_with(&files("drop index t_a"), |it| {
            it.watch = Some(HumanDuration(Duration::from_secs(600)));
        })
        .await;
    let run = view.id;
    // The process ends before the report is due, and the next one makes it.
    site.runner.stop_all();
    let Site { postgres, .. } = site;
    let mut site = Site::on(postgres, settings(long)).await;
    site.runner.take_up_watches();
    let place = reports.path().join(DATABASE).join(&run);
    let written = |extension: &str| {
        let all = std::fs::read_dir(&place).into_iter().flatten();
        let all = all.filter_map(|it| it.ok().map(|it| it.path()));
        let ours = all.filter(|it| {
            let name = it.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("watch-report-") && name.ends_with(extension)
        });
        ours.collect::<Vec<_>>()
    };
    until("the report in the middle", PATIENCE, async || {
        written(".html").len() == 1
    })
    .await;
    let page = std::fs::read_to_string(&written(".html")[0]).expect("a page");
    for text in [
        "In the watch after it",
        "At the last report of the watch",
        "changed",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    let shown = site
        .status(&files("drop index t_a"))
        .await
        .after
        .expect("a watch");
    assert!(
        shown
            .catalog
            .is_some_and(|it| it.since.lock_waits.looks > 0)
    );
    // Somebody waits for a lock while it lasts.
    let holder = site.postgres.connect(DATABASE).await;
    holder
        .batch_execute("begin; lock table t")
        .await
        .expect("a lock");
    let waiter = site.postgres.connect(DATABASE).await;
    let mut waits = tokio::task::JoinSet::new();
    waits.spawn(async move { waiter.batch_execute("select from t").await });
    until("the wait to be seen", SOON, async || {
        let view = site.runner.watching(DATABASE);
        view.is_some_and(|it| it.worst.blocked == Some(1.0))
    })
    .await;
    drop(holder);
    assert!(site.runner.unwatch(DATABASE));
    until("the report at the end", PATIENCE, async || {
        written(".json").len() == 2 && written(".md").len() == 2
    })
    .await;
    let events = "select string_agg(type, ' ' order by id) from pgdrain.event \
                  where type like 'watch%'";
    assert_eq!(site.ask(events).await, "watch_report watched");
}
