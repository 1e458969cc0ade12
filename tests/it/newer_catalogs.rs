//! What Postgres 17 and 18 have in their catalogs that 15 has not: the runner sees it as what it is.

use pgdrain::config::Validate;
use pgdrain::runner::Options;
use pgdrain::runner::saved::ReplayRequest;
use pgdrain::runner::types::{RunState, RunView};
use pgdrain::runner::verify::VerifyRequest;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options};

/// A site on a version; none, and said so, where `make versions` has put none.
async fn site_of(version: &str, schema: &str) -> Option<Site> {
    let postgres = Postgres::of_version(version, &[]).await?;
    let options = Options {
        validate: Validate::default(),
        ..options()
    };
    let site = Site::on(postgres, options).await;
    site.sql(schema).await;
    Some(site)
}

/// What `verify` says of constraints, and the lines of the schema.
async fn verified(site: &Site) -> (Vec<String>, Vec<String>) {
    let request = VerifyRequest::default();
    let report = site.runner.verify(DATABASE, &request).await;
    let report = report.expect("a report");
    let check = report.checks.iter().find(|it| it.name == "constraints");
    (check.expect("the check").details.clone(), report.schema)
}

fn check(view: &RunView, name: &str) -> String {
    let checks = &view.report.as_ref().expect("a report").checks;
    let check = checks.iter().find(|it| it.name == name).expect("the check");
    format!("{} {:?}", check.text, check.details)
}

#[tokio::test]
async fn constraints_that_are_not_null_not_valid_or_not_enforced() {
    let schema = "create table t (id int primary key, a int, b int, \
                                  c int generated always as (a + 1) virtual); \
                  insert into t values (1, null, -1)";
    let Some(site) = site_of("18", schema).await else {
        return;
    };
    let files = vec![
        file(
            "1_a.up.sql",
            "alter table t add constraint a_there not null a not valid",
        ),
        file(
            "2_b.up.sql",
            "alter table t add constraint b_positive check (b > 0) not enforced",
        ),
        file("3_c.up.sql", "alter table t validate constraint a_there"),
    ];
    assert_end(&site.up(&files[..2]).await, RunState::Succeeded, 0);
    let (wrong, lines) = verified(&site).await;
    // What is not enforced was never meant to be held against rows.
    assert_eq!(wrong, ["a_there on public.t is NOT VALID"]);
    let has = |text: &str| lines.iter().any(|it| it.contains(text));
    assert!(
        has("NOT NULL a NOT VALID") && has("NOT ENFORCED"),
        "{lines:#?}"
    );
    assert!(has("default=(a + 1) identity= generated=v"), "{lines:#?}");

    // The rows that would fail it are found before.
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    let found = check(&view, "constraints");
    assert!(found.contains("violate a_there"), "{found}");
    site.sql("update t set a = 1").await;
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_eq!(verified(&site).await.0, [""; 0]);

    // A text that is run is seen for what it does to them.
    let hidden =
        "do $$ begin execute 'alter table t add constraint b_there not null b not valid'; end $$";
    let files = [files, vec![file("4_d.up.sql", hidden)]].concat();
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 2);
    let why = failure(&view);
    assert!(
        why.contains("\"b_there\" of public.t is not valid"),
        "{why}"
    );
    // And a virtual column by its expression, as any other.
    let other = "alter table t drop constraint b_positive; \
                 alter table t alter column c set expression as (a + 2)";
    site.sql(other).await;
    let (_, changed) = verified(&site).await;
    assert_ne!(lines, changed);
    assert!(changed.iter().any(|it| it.contains("default=(a + 2)")));
}

#[tokio::test]
async fn the_right_to_maintain_is_a_grant_like_any_other() {
    let schema = "create role keeper; create table t (id int primary key); \
                  grant maintain, select on t to keeper";
    for version in ["17", "18"] {
        let Some(site) = site_of(version, schema).await else {
            continue;
        };
        let acl = "select relacl::text from pg_class where relname = 't'";
        let before = site.ask(acl).await;
        let comment = file("1_a.up.sql", "comment on table t is 'kept'");
        let view = site.up(std::slice::from_ref(&comment)).await;
        assert_end(&view, RunState::Succeeded, 0);
        site.sql("revoke maintain on t from keeper; revoke maintain on t from postgres")
            .await;
        let request = ReplayRequest {
            run: view.id,
            objects: Vec::new(),
            dry_run: false,
            by: None,
        };
        let replayed = site.runner.replay(DATABASE, request).await;
        assert!(replayed.expect("a replay").done);
        assert_eq!(site.ask(acl).await, before);
        let hidden = "do $$ begin execute 'revoke maintain on t from keeper'; end $$";
        let view = site.up(&[comment, file("2_b.up.sql", hidden)]).await;
        assert_end(&view, RunState::Failed, 2);
        let why = failure(&view);
        assert!(why.contains("lost MAINTAIN of keeper"), "{why}");
        assert_eq!(site.ask(acl).await, before);
    }
}
