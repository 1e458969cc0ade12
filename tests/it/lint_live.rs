//! Rules that ask the catalog or the rows, on a real Postgres.

use std::collections::BTreeSet;

use pgdrain::runner::lint::{Asks, LintReport, RULES};
use pgdrain::runner::types::{Direction, PlanRequest, TrafficMode};

use crate::support::migrations::{DATABASE, Site, file};

const SCHEMA: &str = "
    create table p (id int primary key);
    create table t (id int primary key, a int, b int, p_id int);
    alter table t add constraint b_small check (b < 100);
    insert into p values (1);
    insert into t values (1, 1, null, 1), (2, 1, 2, 99);
    create view v as select a from t;
    create table big (id int);
    create function f() returns trigger language plpgsql as 'begin return new; end';
    create trigger fires after update on t for each row execute function f();
    create role stranger;
    create table sent (id int primary key, a int);
    create publication pub for table sent;
    create table theirs (id int);
    alter table theirs owner to stranger;
    analyze t; analyze p;";

async fn lint(site: &Site, sql: &str) -> LintReport {
    let request = PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: vec![
            file("1_one.up.sql", sql),
            file("1_one.down.sql", "select 1"),
        ],
        format: None,
        history: None,
        traffic: TrafficMode::Exclusive,
    };
    site.runner
        .lint(DATABASE, &request)
        .await
        .expect("a report")
}

fn rules(report: &LintReport) -> BTreeSet<&str> {
    report.findings.iter().map(|it| it.rule.as_str()).collect()
}

/// A rule, what breaks it, and what nearly does.
const CASES: [(&str, &str, &str); 11] = [
    (
        "published-table",
        "alter table sent rename column a to b",
        "alter table sent alter column a set default 1",
    ),
    (
        "set-not-null-with-nulls",
        "alter table t alter b set not null",
        "alter table t alter a set not null",
    ),
    (
        "unique-over-duplicates",
        "alter table t add unique (a)",
        "alter table t add unique (b)",
    ),
    (
        "unique-over-duplicates",
        "create unique index on t (a)",
        "create unique index on t (a) where id = 1",
    ),
    (
        "check-violated",
        "alter table t add check (p_id < 50)",
        "alter table t add check (p_id < 50) not valid",
    ),
    (
        "foreign-key-orphans",
        "alter table t add foreign key (p_id) references p",
        "alter table t add foreign key (a) references p",
    ),
    (
        "foreign-key-without-index",
        "alter table t add foreign key (p_id) references p not valid",
        "create index on t (p_id); alter table t add foreign key (p_id) references p not valid",
    ),
    (
        "drop-in-use",
        "alter table t drop column a",
        "alter table t drop column b",
    ),
    (
        "backfill-in-one-transaction",
        "update big set id = 1 where id > 5",
        "update t set a = 1 where id = 1",
    ),
    (
        "backfill-fires-triggers",
        "update t set a = 1 where id = 1",
        "delete from t where id = 1",
    ),
    (
        "missing-relation",
        "alter table nowhere add column a int",
        "create table nowhere (); alter table nowhere add column a int",
    ),
];

#[tokio::test]
async fn each_rule_that_asks_finds_what_is_there_and_nothing_else() {
    let mut site = Site::start().await;
    site.sql(SCHEMA).await;
    for (rule, breaks, passes) in CASES {
        let found = lint(&site, breaks).await;
        assert!(rules(&found).contains(rule), "{breaks}: {found:#?}");
        assert!(found.not_run.is_empty(), "{breaks}: {:?}", found.not_run);
        let found = lint(&site, passes).await;
        assert!(!rules(&found).contains(rule), "{passes}: {found:#?}");
    }

    // An index that a failed build left: two rows are equal.
    let other = site.postgres.connect(DATABASE).await;
    let failed = other
        .batch_execute("create unique index concurrently t_a on t (a)")
        .await;
    assert!(failed.is_err());
    let found = lint(
        &site,
        "create index concurrently if not exists t_a on t (a)",
    )
    .await;
    assert!(rules(&found).contains("invalid-index"), "{found:#?}");
    let found = lint(&site, "drop index t_a; create index t_a on t (a)").await;
    assert!(!rules(&found).contains("invalid-index"), "{found:#?}");
}

#[tokio::test]
async fn a_relation_of_another_role_is_named() {
    let mut site = Site::start().await;
    site.sql(SCHEMA).await;
    site.sql("create role worker login in role pg_read_all_stats; grant create on schema public to worker")
        .await;
    let endpoint = crate::support::migrations::endpoint(&site.postgres, "worker");
    let options = crate::support::migrations::options();
    site.runner = crate::support::migrations::runner(endpoint, options, &site.own, &site.windows);
    let found = lint(&site, "alter table theirs add column a int").await;
    assert!(rules(&found).contains("not-owner"), "{found:#?}");
}

#[test]
fn every_rule_that_asks_is_tested_here() {
    let mut tested: BTreeSet<_> = CASES.iter().map(|it| it.0).collect();
    tested.extend(["invalid-index", "not-owner"]);
    let asking: BTreeSet<_> = RULES
        .iter()
        .filter(|it| it.asks != Asks::Text)
        .map(|it| it.id)
        .collect();
    assert_eq!(tested, asking);
}
