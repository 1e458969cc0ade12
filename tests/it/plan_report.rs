//! What `plan` says, to whom it does not wait, and that it writes nothing.

use pgdrain::runner::plan::{Back, Needs, PlanReport, Risk, Work};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{
    Direction, EventKind, PlanRequest, RunState, StepTraffic, TrafficMode,
};

use crate::support::migrations::{DATABASE, Site, assert_end, file, texts};
use crate::support::poll::{SOON, within};

const SCHEMA: &str = "
    create table orders (id int primary key, state text, total int);
    create table items (id int primary key, order_id int references orders);
    create view open_orders as select id, total from orders where state = 'open';
    create function touch() returns trigger language plpgsql as 'begin return new; end';
    create trigger touched before update on orders for each row execute function touch();
    insert into orders select n, 'open', n from generate_series(1, 1000) n;
    analyze;";

fn files() -> Vec<PostedFile> {
    vec![
        file(
            "1_index.up.sql",
            "create index concurrently orders_total on orders (total);",
        ),
        file("1_index.down.sql", "drop index concurrently orders_total;"),
        file(
            "2_state.up.sql",
            "alter table orders add column done bool;\n\nupdate orders set done = state = 'done';\n\
             alter table orders drop column total cascade;\n\
             -- pgdrain:changes view open_orders\n",
        ),
        file("2_state.down.sql", "alter table orders drop column done;"),
        file(
            "3_later.up.sql",
            "create index concurrently orders_done on orders (done);",
        ),
    ]
}

fn request(files: &[PostedFile]) -> PlanRequest {
    PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: files.to_vec(),
        format: None,
        history: None,
        traffic: TrafficMode::Auto,
    }
}

async fn plan(site: &Site, files: &[PostedFile]) -> PlanReport {
    let report = site.runner.plan(DATABASE, &request(files)).await;
    report.expect("a plan")
}

#[tokio::test]
async fn a_plan_names_locks_triggers_cascades_phases_and_the_way_down() {
    let site = Site::start().await;
    site.sql(SCHEMA).await;
    let report = plan(&site, &files()).await;
    let phases: Vec<_> = report
        .phases
        .iter()
        .map(|it| (it.traffic, it.files.len()))
        .collect();
    assert_eq!(
        phases,
        [
            (StepTraffic::Open, 1),
            (StepTraffic::Exclusive, 1),
            (StepTraffic::Open, 1)
        ]
    );
    let [index, state, _] = report.steps.as_slice() else {
        panic!("{report:#?}")
    };
    assert_eq!((index.needs, index.risk), (Needs::Open, Risk::Low));
    assert!(!index.statements[0].transaction);
    assert_eq!(index.way_down.by, Back::DownFile);
    assert!(!index.way_down.loses_data);

    let [add, update, drop] = state.statements.as_slice() else {
        panic!("{state:#?}")
    };
    assert_eq!((add.line, update.line, drop.line), (1, 3, 4));
    assert_eq!(add.needs, Needs::Exclusive);
    assert_eq!((update.work, update.needs), (Work::Rows, Needs::ReadOnly));
    assert_eq!(
        update.triggers,
        ["touched on public.orders, which calls touch() for each row"]
    );
    assert_eq!(
        drop.cascade.as_deref(),
        Some(["view open_orders".to_owned()].as_slice())
    );
    assert_eq!(drop.risk, Risk::High);
    assert!(state.way_down.loses_data);
    assert_eq!(report.steps[2].way_down.by, Back::Backup);
    let orders = report
        .tables
        .iter()
        .find(|it| it.relation == "public.orders");
    assert_eq!(orders.expect("its size").rows, Some(1000));
}

#[tokio::test]
async fn the_hash_changes_with_what_would_be_done_and_with_nothing_else() {
    let site = Site::start().await;
    site.sql(SCHEMA).await;
    let first = plan(&site, &files()).await.hash.expect("a hash");
    site.sql("insert into orders select n, 'x', n from generate_series(2000, 9000) n; analyze")
        .await;
    assert_eq!(plan(&site, &files()).await.hash.as_ref(), Some(&first));

    let mut changed = files();
    changed[2] = file(
        "2_state.up.sql",
        &changed[2].sql.replace("done bool", "done int"),
    );
    assert_ne!(plan(&site, &changed).await.hash.as_ref(), Some(&first));
    let exclusive = PlanRequest {
        traffic: TrafficMode::Exclusive,
        ..request(&files())
    };
    let forced = site
        .runner
        .plan(DATABASE, &exclusive)
        .await
        .expect("a plan");
    assert_ne!(forced.hash.as_ref(), Some(&first));
    site.sql("create view more as select total from orders")
        .await;
    assert_ne!(plan(&site, &files()).await.hash.as_ref(), Some(&first));
}

#[tokio::test]
async fn plan_and_lint_write_nothing_and_a_run_tells_the_same_hash() {
    let site = Site::start().await;
    site.sql(SCHEMA).await;
    // No transaction has had a number, so nothing was written; nothing else runs in this cluster.
    let next = "select pg_snapshot_xmax(pg_current_snapshot())";
    let before = site.ask(next).await;
    let planned = plan(&site, &files()).await;
    let linted = site.runner.lint(DATABASE, &request(&files())).await;
    assert!(!linted.expect("a report").findings.is_empty());
    assert_eq!(site.ask(next).await, before);
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");
    assert!(site.windows.log().is_empty());

    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let told = format!("plan {}", planned.hash.expect("a hash"));
    assert!(
        texts(&view, EventKind::Note).contains(&told.as_str()),
        "{view:#?}"
    );
}

#[tokio::test]
async fn a_plan_waits_for_nobodys_lock() {
    let mut site = Site::start().await;
    site.sql(SCHEMA).await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table orders in access exclusive mode")
        .await
        .expect("a lock");
    let report = within("a plan", SOON, plan(&site, &files())).await;
    assert!(report.hash.is_some());
    let unique = [file("1_u.up.sql", "alter table orders add unique (total)")];
    let linted = within(
        "a lint",
        SOON,
        site.runner.lint(DATABASE, &request(&unique)),
    )
    .await;
    let linted = linted.expect("a report");
    let not_run: Vec<_> = linted.not_run.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(not_run, ["unique-over-duplicates"]);
    assert!(
        linted.not_run[0].why.contains("lock timeout"),
        "{linted:#?}"
    );
}

#[tokio::test]
async fn what_stands_in_the_way_is_part_of_the_answer() {
    let site = Site::start().await;
    site.sql(SCHEMA).await;
    let down = PlanRequest {
        direction: Direction::Down,
        ..request(&files())
    };
    let report = site.runner.plan(DATABASE, &down).await.expect("an answer");
    assert!(report.steps.is_empty() && report.problems.is_empty());
    let bad = [file("1_a.up.sql", "select 1;\ncommit;")];
    let report = plan(&site, &bad).await;
    assert_eq!(report.hash, None);
    assert!(report.problems[0].contains("line 2"), "{report:#?}");
}

#[tokio::test]
async fn what_is_not_known_is_taken_for_the_worst() {
    let site = Site::start().await;
    site.sql(SCHEMA).await;
    site.sql("create function anything() returns int language sql as 'select 1'")
        .await;
    for sql in [
        "select anything()",
        "do $$ begin execute 'drop table orders'; end $$",
        "select frobnicate()",
    ] {
        let report = plan(&site, &[file("1_x.up.sql", sql)]).await;
        let statement = &report.steps[0].statements[0];
        assert!(!statement.known, "{sql}");
        assert_eq!(
            (statement.needs, statement.risk),
            (Needs::Exclusive, Risk::High),
            "{sql}"
        );
        assert!(statement.locks.iter().any(|it| it.relation == "*"), "{sql}");
    }
}
