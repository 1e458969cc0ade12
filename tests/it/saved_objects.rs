//! Views, rules, triggers, policies and grants are saved before a run, and come back exactly.

use pgdrain::config::SaveObjects;
use pgdrain::runner::Options;
use pgdrain::runner::saved::{ReplayRequest, Replayed, SavedError};
use pgdrain::runner::types::RunState;
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options};
use crate::support::proxy::Proxy;

/// Everything that can stand on tables, with names that need quotes and grants of every form.
const SCHEMA: &str = r#"
    create role app login; create role auditor; create role "Re'port"; create role owner2;
    grant all on schema public to owner2;
    create schema "Sales";
    create table companies (id bigint primary key, name text, deleted_at timestamptz);
    create table "Sales"."Deals" (id bigint primary key, company bigint, amount numeric, note text);
    insert into "Sales"."Deals" select g, 1, g from generate_series(1, 10) g;
    create view summary with (security_barrier = true) as
        select company, sum(amount) as total from "Sales"."Deals" group by 1;
    create view "Top" as select * from summary where total > 10;
    create view above as select t.total, c.name from "Top" t join companies c on c.id = t.company;
    create view live as select * from companies where deleted_at is null with cascaded check option;
    alter view live alter column name set default 'it''s new';
    alter view live owner to owner2;
    comment on view live is 'those that are there'; comment on column live.name is 'its name';
    create materialized view counts as select company, count(*) as n from "Sales"."Deals" group by 1;
    create unique index counts_company on counts (company);
    create materialized view later as select * from counts with no data;
    create rule "no delete" as on delete to "Top" do instead nothing;
    create rule log as on update to "Sales"."Deals" do also notify deals;
    alter table "Sales"."Deals" disable rule log;
    create function touch() returns trigger language plpgsql as 'begin return new; end';
    create trigger "touch 1" before update of amount on "Sales"."Deals" for each row
        when (new.amount > 0) execute function touch();
    create trigger touch_2 after insert on "Sales"."Deals" for each statement execute function touch();
    create trigger touch_3 instead of insert on "Top" for each row execute function touch();
    alter table "Sales"."Deals" disable trigger "touch 1";
    alter table "Sales"."Deals" enable replica trigger touch_2;
    comment on trigger "touch 1" on "Sales"."Deals" is 'not now';
    alter table companies enable row level security;
    alter table companies force row level security;
    create policy "Enable all" on companies to app, auditor
        using (deleted_at is null) with check (name <> 'it''s');
    create policy strict on companies as restrictive for select to public
        using (exists (select from "Top" t where t.company = id));
    grant select, insert on companies to app with grant option;
    grant select (name), update (name) on companies to "Re'port";
    set role app; grant select on companies to auditor with grant option; reset role;
    set role auditor; grant select on companies to "Re'port"; reset role;
    grant select on summary to app; grant insert on live to public;
    revoke delete, truncate on "Top" from postgres;
    grant usage on schema "Sales" to app;
    revoke execute on function touch() from public; grant execute on function touch() to app;
    alter default privileges grant select on tables to auditor;
"#;

/// Takes all of it away, by hand of somebody who knows nothing of the rest.
const SPOIL: &str = r#"
    drop view summary cascade; drop view live; drop materialized view counts cascade;
    drop rule log on "Sales"."Deals"; drop trigger "touch 1" on "Sales"."Deals";
    drop trigger touch_2 on "Sales"."Deals";
    drop policy "Enable all" on companies; drop policy if exists strict on companies;
    alter table companies disable row level security, no force row level security;
    revoke all on companies from app, auditor, "Re'port" cascade;
    grant delete on companies to public;
    revoke all on schema "Sales" from app;
    revoke execute on function touch() from app; grant execute on function touch() to public;
"#;

/// The schema as lines; those of the role's own default privileges are in it.
async fn fingerprint(client: &Client) -> Vec<String> {
    let begin = "begin isolation level repeatable read, read only; set local search_path = ''";
    client.batch_execute(begin).await.expect("a transaction");
    let sql = include_str!("../../src/runner/backup/fingerprint.sql");
    let rows = client.query(sql, &[]).await.expect("a fingerprint");
    client.batch_execute("commit").await.expect("its end");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Lines that are in one and not in the other.
fn differences(before: &[String], after: &[String]) -> Vec<String> {
    let not_in = |all: &[String], line: &&String| !all.contains(line);
    let gone = before
        .iter()
        .filter(|it| not_in(after, it))
        .map(|it| format!("- {it}"));
    let new = after
        .iter()
        .filter(|it| not_in(before, it))
        .map(|it| format!("+ {it}"));
    gone.chain(new).collect()
}

async fn replay(
    site: &Site,
    run: &str,
    objects: &[&str],
    dry_run: bool,
) -> Result<Replayed, SavedError> {
    let request = ReplayRequest {
        run: run.to_owned(),
        objects: objects.iter().map(ToString::to_string).collect(),
        dry_run,
        by: Some("a test".to_owned()),
    };
    site.runner.replay(DATABASE, request).await
}

/// A site with the schema, and the id of a run that touched every table of it.
async fn saved(how: SaveObjects) -> (Site, String) {
    let settings = Options {
        save_objects: how,
        ..options()
    };
    let site = Site::start_with(settings).await;
    site.sql(SCHEMA).await;
    let touching = "drop function if exists touch(int); comment on table companies is null; \
                    comment on table \"Sales\".\"Deals\" is null";
    let view = site.up(&[file("1_a.up.sql", touching)]).await;
    assert_end(&view, RunState::Succeeded, 0);
    (site, view.id)
}

#[tokio::test]
async fn what_was_saved_comes_back_exactly() {
    for how in [SaveObjects::Touched, SaveObjects::All] {
        let (site, run) = saved(how).await;
        let before = fingerprint(&site.client).await;
        let same = replay(&site, &run, &[], false)
            .await
            .expect("nothing to do");
        assert!(
            same.done && same.replayed.is_empty() && same.unchanged > 20,
            "{same:?}"
        );

        site.sql(SPOIL).await;
        let spoilt = fingerprint(&site.client).await;
        assert!(differences(&before, &spoilt).len() > 30);
        let told = replay(&site, &run, &[], true).await.expect("a dry run");
        assert_eq!(fingerprint(&site.client).await, spoilt);
        let done = replay(&site, &run, &[], false).await.expect("a replay");
        assert!(done.done && done.refused.is_empty(), "{done:?}");
        assert_eq!(told.replayed, done.replayed);
        let differences = differences(&before, &fingerprint(&site.client).await);
        assert!(differences.is_empty(), "{differences:#?}");
        let event = "select data->>'by' from pgdrain.event where type = 'replayed'";
        assert_eq!(site.ask(event).await, "a test");
        // Rows of what is computed are computed again, and no others.
        assert_eq!(site.ask("select sum(n) from counts").await, "10");
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_nothing_is_done() {
    let (site, run) = saved(SaveObjects::Touched).await;
    site.sql(
        "revoke all on companies from app cascade; \
         drop policy \"Enable all\" on companies; create policy \"Enable all\" on companies using (true); \
         drop view above; create table above (a int); \
         drop view \"Top\" cascade",
    )
    .await;
    let before = fingerprint(&site.client).await;
    let refused = replay(&site, &run, &[], false).await.expect("an answer");
    assert!(!refused.done && refused.replayed.is_empty());
    let text = refused.refused.join("\n");
    for expected in [
        "policy/public.companies.\"Enable all\": another one is in its place. Saved: CREATE POLICY",
        "view/public.above: another relation has its name",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(fingerprint(&site.client).await, before);
    // Each can be put back by itself, and what it needs has to be there.
    let rule = "rule/public.\"Top\".\"no delete\"";
    let refused = replay(&site, &run, &[rule], false)
        .await
        .expect("an answer");
    assert_eq!(
        refused.refused,
        [format!("{rule}: public.\"Top\" is not there")]
    );
    let done = replay(&site, &run, &["view/public.\"Top\"", rule], false).await;
    assert_eq!(done.expect("a replay").replayed.len(), 2);
    let unknown = replay(&site, &run, &["view/public.nowhere"], false).await;
    let unknown = unknown.expect_err("there is none").to_string();
    assert_eq!(unknown, "not saved before that run: view/public.nowhere");
    // A statement that fails takes the others with it.
    site.sql("drop view \"Top\" cascade; drop owned by \"Re'port\"; drop role \"Re'port\"")
        .await;
    let before = fingerprint(&site.client).await;
    let all = ["view/public.\"Top\"", rule, "grants/public.companies"];
    let failed = replay(&site, &run, &all, false)
        .await
        .expect_err("a role is gone");
    let failed = failed.to_string();
    assert!(
        failed.starts_with("grants/public.companies, nothing was put back")
            && failed.contains("does not exist"),
        "{failed}"
    );
    assert_eq!(fingerprint(&site.client).await, before);
}

#[tokio::test]
async fn only_what_the_files_touch_is_saved_and_nothing_if_so_wished() {
    let (site, run) = saved(SaveObjects::Touched).await;
    let view = site
        .up(&[
            file("1_a.up.sql", "x"),
            file("2_b.up.sql", "comment on table companies is 'x'"),
        ])
        .await;
    // The first file is another one by now.
    assert_end(&view, RunState::Failed, 1);
    site.sql("delete from pgdrain.migration").await;
    let view = site
        .up(&[file("2_b.up.sql", "comment on view live is 'x'")])
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    let objects = site
        .runner
        .saved_objects(DATABASE, &view.id)
        .await
        .expect("some");
    let names: Vec<_> = objects.objects.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "view/public.live",
            "grants/schema public",
            "grants/public.live"
        ]
    );
    let all = site
        .runner
        .saved_objects(DATABASE, &run)
        .await
        .expect("more");
    assert!(all.objects.len() > 20);

    let (site, run) = saved(SaveObjects::None).await;
    let none = site
        .runner
        .saved_objects(DATABASE, &run)
        .await
        .expect_err("none");
    assert_eq!(
        none.to_string(),
        format!("nothing was saved before run {run}")
    );
}

#[tokio::test]
async fn a_run_that_cannot_read_definitions_ends_before_it_begins() {
    let mut site = Site::start().await;
    site.sql("create table t (a int); create view v as select * from t")
        .await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table t in access exclusive mode")
        .await
        .expect("a lock");
    let view = site
        .up_with(&[file("1_a.up.sql", "comment on view v is 'x'")], |it| {
            it.force = true;
            it.reason = Some("the lock is on purpose".to_owned());
        })
        .await;
    assert_end(&view, RunState::Failed, 1);
    let why = failure(&view);
    assert!(
        why.contains("cannot be read") && why.contains("save_objects"),
        "{why}"
    );
    assert!(site.windows.log().is_empty());
    other.batch_execute("rollback").await.expect("its end");
    let again = site
        .up(&[file("1_a.up.sql", "comment on view v is 'x'")])
        .await;
    assert_end(&again, RunState::Succeeded, 0);
}

#[tokio::test]
async fn the_commands_show_a_script_and_put_things_back() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("create role app; create table t (a int); create view v as select * from t; grant select on v to app")
        .await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("1_a.up.sql"), "comment on table t is 'x'").expect("room");
    std::fs::write(
        dir.path().join("1_a.down.sql"),
        "comment on table t is null",
    )
    .expect("room");
    let proxy = Proxy::start(&postgres).await;
    let path = dir.path().display().to_string();
    let up = proxy
        .run(&["migrate", "up", "postgres", "--dir", &path, "--json"])
        .await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let row = postgres.connect("postgres").await;
    let row = row
        .query_one("select run_id::text from pgdrain.run", &[])
        .await;
    let run: String = row.expect("a run").get(0);
    let objects = |more: &[&str]| {
        let mut all = vec!["migrate", "objects", "postgres", run.as_str()];
        all.extend(more);
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let ask = async |more: &[&str]| {
        let all = objects(more);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        proxy.run(&all).await
    };
    let listed = ask(&["--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed["objects"][0]["kind"], "view");
    let script = ask(&["--sql"]).await;
    assert!(
        script
            .stdout
            .contains("-- view/public.v\nCREATE VIEW public.v AS"),
        "{script:?}"
    );

    postgres.execute("drop view v").await;
    let dry = ask(&["--replay", "--dry-run"]).await;
    assert!(
        dry.code == Some(0) && dry.stdout.contains("would put back view/public.v"),
        "{dry:?}"
    );
    // The script alone does it, and there is nothing left to do.
    postgres.execute(&script.stdout).await;
    let nothing = ask(&["--replay"]).await;
    assert!(
        nothing.code == Some(0) && !nothing.stdout.contains("put back"),
        "{nothing:?}"
    );
    postgres
        .execute("drop view v; create view v as select 1 as a")
        .await;
    let refused = ask(&["--replay"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.stdout.contains("in the way: view/public.v"),
        "{refused:?}"
    );
    postgres.execute("drop view v").await;
    let back = ask(&["--replay", "view/public.v", "grants/public.v"]).await;
    assert!(
        back.code == Some(0) && back.stdout.contains("put back grants/public.v"),
        "{back:?}"
    );
    let other = postgres.connect("postgres").await;
    let lock = "select pg_advisory_lock(1885824114, 0)";
    other.batch_execute(lock).await.expect("the lock");
    let busy = ask(&["--replay"]).await;
    assert_eq!(busy.code, Some(6), "{busy:?}");
    let unknown = proxy.run(&["migrate", "objects", "postgres", "0-0"]).await;
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
}
