//! A file leaves grants, owners, row security, policies and views as they were, but for what it says;
//! otherwise nothing of it stays.

use pgdrain::config::{CountRows, Postflight, PostflightCheck, Validate};
use pgdrain::runner::Options;
use pgdrain::runner::types::{EventKind, RunState, RunView};

use crate::support::migrations::{Site, assert_end, failure, file, options, texts};

const SCHEMA: &str = "
    create role app; create role auditor;
    create table t (id int primary key, a int, b text);
    create table u (id int primary key);
    insert into t select g, g, 'x' from generate_series(1, 5) g;
    alter table t enable row level security;
    create policy p on t to app using (a > 0);
    grant select, insert on t to app; grant update (b) on t to app;
    create view v as select id, a from t; grant select on v to app;
    create view w as select id from v;
    create function f() returns int language sql as 'select 1';
    revoke execute on function f() from public; grant execute on function f() to app";

/// Everything that a file may not change without a word.
const STATE: &str = "
    select (select string_agg(relname || coalesce(relacl::text, '') || relrowsecurity || relowner::regrole,
                              ' ' order by relname)
            from pg_class where relname in ('t', 'u', 'v', 'w', 't2'))
        || (select count(*) from pg_policy) || (select proacl::text from pg_proc where proname = 'f')
        || (select count(*) from pg_constraint where not convalidated) || (select count(*) from t)";

async fn site(validate: Validate) -> Site {
    let options = Options {
        validate,
        ..options()
    };
    let site = Site::start_with(options).await;
    site.sql(SCHEMA).await;
    site
}

/// Runs a file that is to fail, and says why; nothing of it stays.
async fn refused(site: &Site, sql: &str) -> String {
    let before = site.ask(STATE).await;
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(site.ask(STATE).await, before, "{sql}");
    assert_eq!(
        site.windows.log().last().map(String::as_str),
        Some("reopen")
    );
    failure(&view)
}

/// Runs a file that is to be applied, and forgets it.
async fn applied(site: &Site, sql: &str) -> RunView {
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Succeeded, 0);
    site.sql("delete from pgdrain.migration").await;
    view
}

#[track_caller]
fn assert_says(text: &str, expected: &[&str]) {
    for it in expected {
        assert!(text.contains(it), "{it:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_view_that_is_made_anew_has_the_grants_it_had() {
    let site = site(Validate::default()).await;
    site.sql("alter default privileges grant select on tables to auditor")
        .await;
    let anew = "drop view w; drop view v; create view v as select id, a from t where a > 1; \
                create view w as select id from v;";
    let why = refused(&site, anew).await;
    assert_says(
        &why,
        &[
            "the file changes what it does not say",
            "grants on public.v: lost SELECT of app; new SELECT of auditor",
            "grants on public.w: new SELECT of auditor",
            "-- pgdrain:changes grants public.v",
        ],
    );
    applied(
        &site,
        &format!("-- pgdrain:changes grants v, public.w\n{anew}"),
    )
    .await;
    let granted = "grant select on v to app; revoke all on v, w from auditor";
    applied(&site, &format!("{anew} {granted}")).await;
    // The body of a view may change where it is named; the function keeps its grants.
    applied(
        &site,
        "create or replace view v as select id, a from t where a > 3",
    )
    .await;
    let function = "drop function f(); create function f() returns int language sql as 'select 2'";
    let why = refused(&site, function).await;
    let lost = "grants on public.f(): lost EXECUTE of app; new EXECUTE of PUBLIC";
    assert_says(&why, &[lost, "-- pgdrain:changes grants public.f"]);
}

#[tokio::test]
async fn what_goes_by_cascade_or_by_a_text_that_is_run_is_named() {
    let site = site(Validate::default()).await;
    let why = refused(&site, "drop view v cascade").await;
    assert_says(
        &why,
        &["view public.w is gone, and no statement drops it by name"],
    );
    let run = "do $$ begin
        execute 'alter table t disable row level security'; execute 'drop policy p on t';
        execute 'create policy q on t using (true)'; execute 'alter table u owner to app';
        execute 'create or replace view v as select 1 as id, 2 as a';
        execute 'alter table t add constraint c check (a > 100) not valid';
        execute 'revoke insert on t from app'; end $$";
    let why = refused(&site, run).await;
    assert_says(
        &why,
        &[
            "row security of public.t is off now",
            "policy \"p\" of public.t is gone",
            "policy \"q\" of public.t is new",
            "public.u belongs to app, not to postgres",
            "view public.v is another one now",
            "public.v no longer takes INSERT, UPDATE, DELETE",
            "constraint \"c\" of public.t is not valid",
            "grants on public.t: lost INSERT of app",
        ],
    );
    let said = "-- pgdrain:changes row_security t\n-- pgdrain:changes owner u\n\
                -- pgdrain:changes view v\n-- pgdrain:changes writes v, w\n\
                -- pgdrain:changes constraint t\n-- pgdrain:changes grants t\n";
    applied(&site, &format!("{said}{run}")).await;
    let why = refused(
        &site,
        "update pg_index set indisvalid = false where indrelid = 'u'::regclass",
    )
    .await;
    assert_says(&why, &["index public.u_pkey of u is invalid"]);
}

#[tokio::test]
async fn a_view_in_the_place_of_a_table_is_held_against_the_table() {
    let site = site(Validate::default()).await;
    let swap = "alter table t rename to t2; create view t";
    let why = refused(
        &site,
        &format!("{swap} as select distinct id, a, b from t2"),
    )
    .await;
    assert_says(
        &why,
        &[
            "public.t no longer takes INSERT, UPDATE, DELETE",
            "public.t was a table with row security; as a view without security_invoker",
            "grants on public.t: lost INSERT of app, SELECT of app, UPDATE (b) of app",
        ],
    );
    let right = " with (security_invoker = true) as select id, a, b from t2; \
                 grant select, insert on t to app; grant update (b) on t to app";
    applied(&site, &format!("{swap}{right}")).await;
    assert_eq!(site.ask("select count(*) from t").await, "5");
}

#[tokio::test]
async fn what_statements_name_may_change() {
    let site = site(Validate::default()).await;
    for sql in [
        "alter table t rename column a to c; alter table t rename column b to d",
        "alter table t rename column c to a; alter table t rename column d to b",
        "create table s (id serial primary key, b int); grant update (b) on s to app",
        "alter table t rename column b to x; alter table t rename column x to b; alter table s owner to app",
        "reassign owned by app to postgres; drop table s",
        "alter table t add constraint c check (a > 0) not valid",
        "alter table t validate constraint c; create index on t (a); alter table t add column e int",
        "grant select on t to auditor; revoke insert on t from app",
        "alter table u owner to app; drop policy p on t; alter table t disable row level security",
        "alter view v set (security_barrier = true); drop view w; drop table u",
        "do $$ begin grant select on v to auditor; alter table t enable row level security; end $$",
        "savepoint s; insert into t values (7, 7, 'x'); rollback to s; insert into t values (8, 8, 'x')",
        "-- pgdrain:owner app\nselect 1",
        "alter table t drop column b",
    ] {
        applied(&site, sql).await;
    }
    // Where the file left its role and its path is where it goes on.
    let view = applied(
        &site,
        "-- pgdrain:assert post select current_user = 'auditor' and current_schema() = 'app'\n\
         create schema app; grant usage on schema app to auditor; set search_path = app; set role auditor",
    )
    .await;
    assert!(view.report.is_some());
}

#[tokio::test]
async fn a_file_without_a_transaction_is_dirty_and_says_why() {
    let site = site(Validate::default()).await;
    let sql = "-- pgdrain:tx none\ndo $$ begin execute 'revoke select on v from app'; end $$";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Dirty, 2);
    assert_says(&failure(&view), &["grants on public.v: lost SELECT of app"]);
    site.sql("update pgdrain.migration set state = 'failed'")
        .await;
    let right =
        "-- pgdrain:tx none\ngrant select on v to app; create index concurrently i on u (id)";
    applied(&site, right).await;
}

#[tokio::test]
async fn rows_of_what_is_touched_stay_as_many_where_that_is_asked_for() {
    let touched = Validate {
        rows: CountRows::Touched,
        ..Validate::default()
    };
    let site = site(touched).await;
    let insert = "insert into t values (6, 6, 'x'); insert into u values (1)";
    let why = refused(&site, insert).await;
    let expected = [
        "public.t has +1 rows; public.u has +1 rows",
        "-- pgdrain:rows public.t +1",
    ];
    assert_says(&why, &expected);
    let said = "-- pgdrain:rows t +1\n-- pgdrain:rows public.u +1\n";
    applied(&site, &format!("{said}{insert}")).await;
    applied(&site, "update t set a = a + 1; alter table u rename to u2").await;
    // Others write too.
    applied(
        &site,
        "-- pgdrain:traffic open\ninsert into t values (9, 9, 'x')",
    )
    .await;
    let why = refused(&site, "delete from t where id = 9").await;
    assert_says(&why, &["public.t has -1 rows"]);

    let small = Validate {
        rows_max: 0,
        ..touched
    };
    let site = self::site(small).await;
    let view = applied(&site, "delete from t where id = 1").await;
    let notes = texts(&view, EventKind::Note).join("\n");
    assert_says(
        &notes,
        &["rows of public.t are not counted: it is larger than rows_max"],
    );
}

#[tokio::test]
async fn each_look_can_be_left_out() {
    let nothing = Validate {
        grants: false,
        row_security: false,
        views: false,
        constraints: false,
        indexes: false,
        rows: CountRows::Off,
        ..Validate::default()
    };
    // Postflight would see the constraint, too.
    let site = Site::start_with(Options {
        validate: nothing,
        postflight: Postflight {
            off: vec![PostflightCheck::Constraints],
            ..Postflight::default()
        },
        ..options()
    })
    .await;
    site.sql(SCHEMA).await;
    applied(
        &site,
        "-- pgdrain:rows t 0\ndrop view v cascade; delete from t; do $$ begin \
         execute 'revoke all on t from app'; execute 'drop policy p on t'; \
         execute 'alter table t add check (a > 5) not valid'; end $$",
    )
    .await;
    assert_eq!(site.ask("select to_regclass('w')").await, "null");
}

#[tokio::test]
async fn a_directive_that_is_not_understood_is_refused_with_its_line() {
    let site = site(Validate::default()).await;
    let sql = "select 1;\n-- pgdrain:changes grant t\n-- pgdrain:changes view\n-- pgdrain:changes view a.b.c";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Failed, 5);
    let checks = &view.report.as_ref().expect("a report").checks;
    let text: String = checks
        .iter()
        .map(|it| it.details.join("\n") + "\n")
        .collect();
    assert_says(
        &text,
        &[
            "line 2, column 4: pgdrain:changes: \"grant\" is not one of grants, owner",
            "did you mean \"grants\"?",
            "line 3, column 4: pgdrain:changes: \"\" is no name",
            "line 4, column 4: pgdrain:changes: \"a.b.c\" is no name",
        ],
    );
}
