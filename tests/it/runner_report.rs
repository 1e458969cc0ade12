//! The account of a run on one page, by command and over HTTP, and the metrics that runs leave.

use pgdrain::runner::account::{html, markdown};
use pgdrain::runner::types::RunState;
use serde_json::Value;

use crate::support::migrations::{DATABASE, Site, assert_end, file, options};
use crate::support::shop::Shop;

#[tokio::test]
async fn a_run_is_told_by_whoever_remembers_it() {
    let site = Site::start().await;
    let good = site
        .up(&[file("1_a.up.sql", "create table \"<t>\" ()")])
        .await;
    assert_end(&good, RunState::Succeeded, 0);
    let bad = site
        .up(&[
            file("1_a.up.sql", "create table \"<t>\" ()"),
            file("2_b.up.sql", "select 1/0"),
        ])
        .await;
    assert_end(&bad, RunState::Failed, 2);

    // The last one, of this process.
    let last = site.runner.account(DATABASE, None).await;
    let last = last.expect("an answer").expect("a run");
    assert_eq!(
        (last.id.as_str(), last.exit_code),
        (bad.id.as_str(), Some(2))
    );
    let page = html(&last);
    for text in [
        "2_b.up.sql",
        "division by zero",
        "rolled_back",
        "None was seen.",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    // The one before, of which only the history is left: as after a restart.
    let Site {
        postgres, client, ..
    } = site;
    drop(client);
    let site = Site::on(postgres, options()).await;
    let first = site.runner.account(DATABASE, Some(&good.id)).await;
    let first = first.expect("an answer").expect("a run");
    assert_eq!(
        (first.state.as_str(), first.exit_code),
        ("succeeded", Some(0))
    );
    let kinds: Vec<_> = first.history.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds.last(), Some(&"applied"), "{kinds:?}");
    let page = markdown(&first);
    for text in [
        "the run begins",
        "1\\_a.up.sql",
        "## Lessons",
        "Checks before",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(
        site.runner
            .account(DATABASE, None)
            .await
            .expect("an answer")
            .is_some()
    );

    for nobody in ["no-such-run", "00000000-0000-4000-8000-000000000000"] {
        let none = site.runner.account(DATABASE, Some(nobody)).await;
        assert!(none.expect("an answer").is_none(), "{nobody}");
    }
}

#[tokio::test]
async fn the_command_prints_the_page_and_the_metrics_are_there() {
    let shop = Shop::open_with(
        "create table p (a int primary key); create table c (a int); \
         alter table c add constraint c_p foreign key (a) references p not valid",
        "[migrate]\ndown_required = false\n",
    )
    .await;
    let ran = shop.migrate(&["report"]).await;
    ran.assert(5, &["Nobody knows of no run"]);
    shop.write("1_a.up.sql", "create table a (b int);");
    shop.write("2_b.up.sql", "create table b (b int);");
    shop.migrate(&["up", "--steps", "1"]).await.assert(0, &[]);
    let ran = shop.migrate(&["report"]).await;
    ran.assert(
        0,
        &["# Migration of postgres: succeeded", "## What clients felt"],
    );
    let ran = shop.migrate(&["report", "--html"]).await;
    ran.assert(0, &["<!doctype html>", "1_a.up.sql"]);
    let ran = shop.migrate(&["report", "--json"]).await;
    ran.assert(0, &[]);
    let account: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    // Nobody came meanwhile, and that is known.
    assert_eq!(
        account["report"]["windows"][0]["felt"]["held"], 0,
        "{account}"
    );

    let metrics = shop.proxy.admin().get("/metrics").await.text;
    for line in [
        "pgdrain_migration_duration_seconds_count 1",
        "pgdrain_migrations_pending{database=\"postgres\"} 1",
        "pgdrain_migrations_dirty{database=\"postgres\"} 0",
        "pgdrain_foreign_keys_not_validated{database=\"postgres\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in\n{metrics}");
    }
    let value = |name: &str| -> f64 {
        let name = format!("{name}{{database=\"postgres\"}} ");
        let line = metrics.lines().find_map(|it| it.strip_prefix(&name));
        line.expect("a line").parse().expect("a number")
    };
    assert!(value("pgdrain_database_size_bytes") > 1e6, "{metrics}");
    assert!(value("pgdrain_database_connections") >= 1.0, "{metrics}");
    let checksum = value("pgdrain_schema_checksum");
    assert!(checksum > 0.0 && checksum.fract() == 0.0, "{metrics}");
}
