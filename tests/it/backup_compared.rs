//! With `verify = "restore"` a backup counts when it was restored and is the same.

use pgdrain::config::{Backup, Verify};
use pgdrain::runner::Options;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, RunState};

use crate::support::backups::{Kept, backup, noted, script};
use crate::support::migrations::{
    DATABASE, assert_end, end, endpoint, failure, file, options, request, runner,
};
use crate::support::tool;

/// One of everything that a fingerprint tells of, and values that are written in many ways.
const SCHEMA: &str = r#"
create role reader;
create schema "Odd ""schema""";
create type "Odd ""schema""".mood as enum ('good', 'bad');
create domain positive as int check (value > 0);
create table t (id int generated always as identity primary key, at timestamptz default now(),
    price numeric(10, 2), raw bytea, ratio float8, mood "Odd ""schema""".mood, "t" text);
insert into t (price, raw, ratio, mood, "t")
    select i / 3.0, int4send(i), i / 7.0, 'bad', repeat('x', i) from generate_series(1, 300) i;
alter table t add dropped int;
alter table t drop dropped;
create table child (id int references t, n positive);
insert into child select id, id from t;
create index on t (price) where price > 1;
create table parts (a int, b text) partition by range (a);
create table parts_1 partition of parts for values from (0) to (100);
create table parts_2 partition of parts default;
insert into parts select i, i::text from generate_series(1, 200) i;
create table "Odd ""schema"""."Tab'le" ("a b" int[], "Ü" jsonb);
insert into "Odd ""schema"""."Tab'le" values ('{1,2}', '{"a": null}'), (null, null);
create view v as select id, price from t;
create materialized view mv as select count(*) from t;
create function f(int) returns int language sql as 'select $1 + 1';
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger touched before update on t for each row execute function touch();
alter table t enable row level security;
create policy readers on t for select to reader using (id > 1);
grant select on t to reader;
comment on table t is 'with a comment';
create unlogged table cache (a int);
insert into cache values (1);
"#;

const LEFT: &str = "select count(*) from pg_database where datname like 'pgdrain_verify%'";

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "create table made ()")]
}

#[tokio::test]
async fn a_restored_backup_has_the_same_schema_and_rows() {
    let kept = Kept::start(backup(Verify::Restore)).await;
    kept.site.sql(SCHEMA).await;
    let view = kept.site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let verified = &kept.manifest(&view.id)["verified"];
    assert_eq!(verified["how"], "restore", "{verified}");
    assert_eq!(verified["owners"], true);
    assert_eq!(verified["fingerprint"].as_str().map(str::len), Some(64));
    // t, child, two parts, the odd one, cache, and twelve of pgdrain's own: layout and this run.
    assert_eq!(verified["tables"], 18);
    assert_eq!(verified["rows"], 300 + 300 + 200 + 2 + 1 + 2);
    assert_eq!(kept.site.ask(LEFT).await, "0");
}

/// Its name has to be quoted everywhere: in SQL, in libpq's connection strings, in paths.
#[tokio::test]
async fn a_database_with_an_odd_name_and_a_locale_of_its_own() {
    let kept = Kept::start(backup(Verify::Restore)).await;
    let name = r#"it's \ a/"shop""#;
    kept.site
        .sql(
            r#"create database "it's \ a/""shop""" template template0 encoding 'UTF8'
               locale_provider icu icu_locale 'de-DE' lc_collate 'C' lc_ctype 'C'"#,
        )
        .await;
    let asked = request(Direction::Up, &files());
    let id = kept.site.runner.start(name, asked).expect("a run");
    let view = kept.site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let made = view.report.expect("a report").backup.expect("a backup");
    assert_eq!(made.verified.how, Verify::Restore);
    assert!(
        made.path.contains("/it%27s%20%5C%20a%2F%22shop%22/"),
        "{}",
        made.path
    );
}

#[tokio::test]
async fn a_role_that_is_no_superuser_compares_all_but_owners_and_grants() {
    let kept = Kept::start(backup(Verify::None)).await;
    kept.site
        .sql(
            "create role plain login createdb in role pg_read_all_stats; grant create on database postgres to plain; \
              create role other; grant create, usage on schema public to plain",
        )
        .await;
    let options = Options {
        backup: Backup {
            dir: Some(kept.dir.path().join("backups")),
            ..backup(Verify::Restore)
        },
        ..options()
    };
    let plain = runner(
        endpoint(&kept.site.postgres, "plain"),
        options,
        &kept.site.own,
        &kept.site.windows,
    );
    kept.site
        .sql(
            "set role plain; create table t as select i from generate_series(1, 10) i; \
              grant select on t to other; reset role",
        )
        .await;
    let id = plain
        .start(DATABASE, request(Direction::Up, &files()))
        .expect("a run");
    let view = end(&plain, &id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(kept.manifest(&view.id)["verified"]["owners"], false);
    assert_eq!(kept.site.ask(LEFT).await, "0");

    // Without the right to make databases it cannot be verified, and so it is none.
    kept.site.sql("alter role plain nocreatedb").await;
    let more = [files(), vec![file("2_b.up.sql", "create table b ()")]].concat();
    let id = plain
        .start(DATABASE, request(Direction::Up, &more))
        .expect("a run");
    let view = end(&plain, &id).await;
    assert_end(&view, RunState::Failed, 1);
    assert!(
        failure(&view).contains("cannot create a scratch database"),
        "{view:#?}"
    );
    assert_eq!(
        kept.names().len(),
        2,
        "the first one, and the pointer to it"
    );
}

/// pg_restore restores, and then somebody changes something.
async fn restored_otherwise(change: &str, told: &str) {
    let bin = tempfile::tempdir().expect("a directory");
    let text = format!(
        "case \"$*\" in *--version*|*--list*) exec {restore} \"$@\";; esac\n\
         {restore} \"$@\" && exec {psql} -qXc '{change}'",
        restore = tool::program("pg_restore").display(),
        psql = tool::program("psql").display()
    );
    let kept = Kept::start(Backup {
        pg_restore: script(bin.path(), "pg_restore", &text),
        ..backup(Verify::Restore)
    })
    .await;
    kept.site
        .sql("create table t as select i as a from generate_series(1, 10) i")
        .await;
    let view = kept.site.up(&files()).await;
    assert_end(&view, RunState::Failed, 1);
    let failure = failure(&view);
    assert!(failure.contains(told), "{told} in {failure}");
    assert!(kept.names().is_empty(), "{:?}", kept.names());
    assert_eq!(kept.site.ask(LEFT).await, "0");
    assert_eq!(kept.site.ask("select to_regclass('made')").await, "null");
    assert!(kept.site.windows.log().is_empty());
}

#[tokio::test]
async fn other_values_are_found() {
    let change = "update t set a = 11 where a = 1";
    restored_otherwise(change, "public.t has other values in its 10 rows").await;
}

#[tokio::test]
async fn missing_rows_are_found() {
    let change = "delete from t where a = 1";
    restored_otherwise(change, "public.t has 9 rows instead of 10").await;
}

#[tokio::test]
async fn another_schema_is_found() {
    let change = "alter table t alter a set default 1";
    restored_otherwise(change, "lacks column public.t.a #1 integer default=").await;
}

#[tokio::test]
async fn a_pg_restore_that_fails_is_a_failed_run() {
    restored_otherwise("select 1 / 0", "pg_restore failed (exit status: 1)").await;
}

#[tokio::test]
async fn what_a_crash_left_is_dropped_and_what_is_in_use_is_not() {
    let mut kept = Kept::start(backup(Verify::Restore)).await;
    kept.site.sql("create database pgdrain_verify_left").await;
    kept.site.sql("create database pgdrain_verify_used").await;
    // Its run lives: the session that made it is there.
    let keeper = kept.site.postgres.connect(DATABASE).await;
    let name = "set application_name = 'pgdrain_verify_used'";
    keeper.batch_execute(name).await.expect("a name");
    let view = kept.site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(noted(&view, "dropped pgdrain_verify_left"), "{view:#?}");
    let left = "select string_agg(datname, ',') from pg_database where datname like 'pgdrain_%'";
    assert_eq!(kept.site.ask(left).await, "pgdrain_verify_used");
}

#[tokio::test]
async fn cancelling_while_it_is_restored_drops_the_scratch_database() {
    let bin = tempfile::tempdir().expect("a directory");
    let ready = bin.path().join("ready");
    let text = format!(
        "case \"$*\" in *--version*|*--list*) exec {restore} \"$@\";; esac\n\
         touch {ready}; exec sleep 600",
        restore = tool::program("pg_restore").display(),
        ready = ready.display()
    );
    let kept = Kept::start(Backup {
        pg_restore: script(bin.path(), "pg_restore", &text),
        ..backup(Verify::Restore)
    })
    .await;
    let id = kept.site.begin(&files());
    crate::support::poll::until("the restore", crate::support::poll::SOON, async || {
        ready.exists()
    })
    .await;
    assert_eq!(kept.site.ask(LEFT).await, "1");
    assert!(kept.site.runner.cancel(&id, "ann"));
    let view = kept.site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(kept.site.ask(LEFT).await, "0");
    assert!(kept.names().is_empty(), "{:?}", kept.names());
}
