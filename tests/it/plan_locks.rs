//! The locks and rewrites that a plan foretells are those that a server takes and makes.

use std::collections::BTreeMap;

use pgdrain::runner::plan::{LockMode, PlannedStatement, Work};
use pgdrain::runner::types::{Direction, PlanRequest, TrafficMode};
use tokio_postgres::Client;

use crate::support::migrations::{DATABASE, Site, file};

const SCHEMA: &str = "
    create schema other;
    create domain positive as int;
    create domain strict as int check (value > 0);
    create function trig() returns trigger language plpgsql as 'begin return new; end';
    create table p (id int primary key, a int);
    create table t (id int primary key, a int, b text, v varchar(80), n numeric(10, 2), d positive);
    insert into t values (1, 1, 'x', 'x', 1, 1);
    create index t_a on t (a);
    create unique index t_u on t (a, b);
    alter table t add constraint a_known check (a is not null);
    create table c (id int primary key, t_id int references t (id), q int);
    alter table c add constraint c_later foreign key (q) references p not valid;
    create table lone (id int, other_id int);
    create table pt (k int not null, x int) partition by range (k);
    create table pt1 partition of pt for values from (0) to (10);
    create table pt2 partition of pt for values from (10) to (20);
    create table loose (k int not null, x int);
    create view v as select id, a from t;
    create materialized view m as select id, a from t;
    create unique index m_id on m (id);
    create sequence s;
    create trigger trig before insert on p for each row execute function trig();
    create policy seen on p using (true);
    analyze;";

/// Statements, each of which is run in a transaction that is rolled back.
const STATEMENTS: [&str; 74] = [
    "alter table t add column x int",
    "alter table t add column x int not null default 5",
    "alter table t add column x timestamptz default now()",
    "alter table t add column x float default random()",
    "alter table t add column x strict",
    "alter table t add column x positive",
    "alter table t add column x int generated always as (a * 2) stored",
    "alter table t add column x int generated always as identity",
    "alter table t add column x bigserial",
    "alter table t add column x int references p",
    "alter table t drop column v",
    "alter table t add constraint ck check (a > 0) not valid",
    "alter table t add check (a > 0)",
    "alter table t alter a set default 3, alter b drop default",
    "alter table t alter a set not null",
    "alter table t alter b drop not null",
    "alter table t alter a set statistics 10",
    "alter table t alter b set storage external",
    "alter table t alter v type varchar(200)",
    "alter table t alter v type varchar(10)",
    "alter table t alter v type text",
    "alter table t alter n type numeric(12, 2)",
    "alter table t alter n type numeric(12, 3)",
    "alter table t alter b type varchar(100)",
    "alter table t rename to t2",
    "alter table t rename column b to b2",
    "alter table t set (fillfactor = 50)",
    "alter table t set (fillfactor = 50, user_catalog_table = true)",
    "alter table t owner to postgres",
    "alter table t replica identity full",
    "alter table t set schema other",
    "alter table t cluster on t_pkey",
    "alter table t enable row level security",
    "alter table t add constraint u unique using index t_u",
    "alter table t add unique (b)",
    "alter table lone set unlogged",
    "alter table t set logged",
    "alter table lone add primary key (id)",
    "alter table lone add foreign key (other_id) references t not valid",
    "alter table lone add foreign key (other_id) references t",
    "alter table c validate constraint c_later",
    "alter table c drop constraint c_t_id_fkey",
    "alter table p disable trigger all",
    "alter table lone inherit loose_parent",
    "alter table pt add column z int",
    "alter table pt attach partition loose for values from (40) to (50)",
    "alter table pt detach partition pt1",
    "alter index t_a rename to t_b",
    "alter sequence s restart",
    "alter domain positive add check (value > 0)",
    "create index on t (b)",
    "create unique index on pt (k)",
    "create table n (t_id int references t)",
    "create table n (like t)",
    "create table n () inherits (lone)",
    "create table pt3 partition of pt for values from (20) to (30)",
    "create table n as select * from t",
    "create trigger more before insert on t for each row execute function trig()",
    "create rule r as on delete to t do instead nothing",
    "create policy mine on t using (true)",
    "create or replace view v as select id, a from t",
    "create statistics st on a, b from t",
    "drop table c",
    "drop table pt1",
    "drop view v",
    "drop index t_a",
    "drop policy seen on p",
    "drop trigger trig on p",
    "refresh materialized view m",
    "refresh materialized view concurrently m",
    "comment on column t.a is 'x'",
    "insert into t (id, a) values (9, 9)",
    "update pt set x = 1",
    "truncate t, c",
];

/// More of them, whose work is no matter of a file.
const MORE: [&str; 11] = [
    "delete from c where q is null",
    "lock table pt in share mode",
    "lock table t",
    "analyze t",
    "cluster t using t_pkey",
    "reindex table t",
    "reindex index t_a",
    "grant select on t to public",
    "with gone as (delete from c returning *) select * from gone for update",
    "merge into lone using p on lone.id = p.id when matched then delete",
    "comment on table t is 'x'",
];

#[tokio::test]
async fn locks_are_those_that_the_server_takes() {
    let mut site = Site::start().await;
    site.sql(SCHEMA).await;
    site.sql("create table loose_parent (id int, other_id int)")
        .await;
    let worker = site.postgres.connect(DATABASE).await;
    let version: i32 = site
        .ask("select current_setting('server_version_num')")
        .await
        .parse()
        .expect("a number");
    let mut wrong = Vec::new();
    for sql in STATEMENTS.iter().chain(&MORE) {
        // MERGE came with PostgreSQL 15.
        if sql.starts_with("merge") && version < 150_000 {
            continue;
        }
        let planned = planned(&site, sql).await;
        let (taken, rewritten) = taken(&worker, sql).await;
        let foretold = foretold(&planned);
        if !planned.known || foretold != taken {
            wrong.push(format!("{sql}\n  plan   {foretold:?}\n  server {taken:?}"));
        }
        let rewrite = planned.work == Work::Rewrite && !sql.starts_with("refresh");
        if rewrite != rewritten
            && !sql.contains("set logged")
            && !sql.starts_with("truncate")
            && !sql.starts_with("refresh")
        {
            wrong.push(format!(
                "{sql}\n  plan {:?}, rewritten: {rewritten}",
                planned.work
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn planned(site: &Site, sql: &str) -> PlannedStatement {
    let request = PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: vec![file("1_one.up.sql", sql)],
        format: None,
        history: None,
        traffic: TrafficMode::Auto,
    };
    let report = site.runner.plan(DATABASE, &request).await.expect("a plan");
    assert_eq!(report.problems, Vec::<String>::new(), "{sql}");
    let step = report.steps.into_iter().next().expect("a step");
    step.statements.into_iter().next().expect("a statement")
}

/// The locks that matter: not those of readers.
fn foretold(planned: &PlannedStatement) -> BTreeMap<String, LockMode> {
    let locks = planned
        .locks
        .iter()
        .filter(|it| it.mode >= LockMode::RowExclusive);
    locks
        .filter(|it| !it.new && !it.relation.contains("t_a") && !it.relation.contains("t_pkey"))
        .filter(|it| !it.relation.contains("t_u"))
        .map(|it| (it.relation.clone(), it.mode))
        .collect()
}

/// What a server locks for a statement, and whether it gave a table new files.
async fn taken(worker: &Client, sql: &str) -> (BTreeMap<String, LockMode>, bool) {
    let relations = "select c.oid, format('%s.%s', n.nspname, c.relname), \
                            case c.relkind when 'S' then 0 else coalesce(pg_relation_filenode(c.oid), 0) end \
                     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                     where n.nspname in ('public', 'other') and c.relkind in ('r', 'p', 'v', 'm', 'S')";
    let before: BTreeMap<u32, (String, u32)> = worker
        .query(relations, &[])
        .await
        .expect("relations")
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    worker.batch_execute("begin").await.expect("a transaction");
    let done = worker.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let rows = worker
        .query(
            "select relation, mode from pg_locks \
             where pid = pg_backend_pid() and locktype = 'relation' and granted",
            &[],
        )
        .await
        .expect("locks");
    let mut taken = BTreeMap::new();
    for row in rows {
        let (oid, mode): (u32, &str) = (row.get(0), row.get(1));
        let mode = LockMode::parse(mode).expect("a mode");
        if let Some((name, _)) = before.get(&oid)
            && mode >= LockMode::RowExclusive
        {
            let entry = taken.entry(name.clone()).or_insert(mode);
            *entry = mode.max(*entry);
        }
    }
    let after = worker.query(relations, &[]).await.expect("relations");
    let rewritten = after.iter().any(|row| {
        let (oid, node): (u32, u32) = (row.get(0), row.get(2));
        before.get(&oid).is_some_and(|(_, old)| *old != node)
    });
    worker.batch_execute("rollback").await.expect("the end");
    (taken, rewritten)
}
