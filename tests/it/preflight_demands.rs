//! Preflight and what somebody has asked to be there: each check passes and fails, and is left out by
//! default.

use std::time::Duration;

use pgdrain::config::{CheckCommand, Demands, Preflight, Reference, Secret, Verify};
use pgdrain::runner::Options;
use pgdrain::runner::preflight::CheckOutcome::{self, Failed, Passed, Unknown};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::RunState;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, file, options};
use crate::support::preflight::{Look, outcome, text};

async fn site(demands: Demands) -> Site {
    let site = Site::start_with(asking(demands)).await;
    site.sql(
        "create table orders (id int primary key, total int); \
         create table item (order_id int, \"Line\" int); \
         insert into orders values (1, 1); insert into item values (1, 1), (null, 2)",
    )
    .await;
    site
}

fn asking(demands: Demands) -> Options {
    Options {
        preflight: Preflight {
            demands,
            ..Preflight::default()
        },
        ..options()
    }
}

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "alter table orders add note text")]
}

async fn look(site: &Site, name: &str) -> (CheckOutcome, String) {
    let report = site.look(&files()).await;
    (outcome(&report, name), text(&report, name).to_owned())
}

#[tokio::test]
async fn required_tables_and_columns_are_there() {
    let required = [
        "public.orders",
        "public.orders.total",
        "public.item.\"Line\"",
    ];
    let required: Vec<_> = required.map(str::to_owned).into();
    let site = site(Demands {
        required,
        ..Demands::default()
    })
    .await;
    assert_eq!(look(&site, "required").await.0, Passed);
    site.sql("alter table item rename \"Line\" to line").await;
    let (outcome, text) = look(&site, "required").await;
    assert_eq!(
        (outcome, text.as_str()),
        (Failed, "public.item.\"Line\" is missing")
    );
    // Of a table that is gone, its columns are as well.
    site.sql("drop table orders").await;
    let report = site.look(&[file("1_a.up.sql", "select 1")]).await;
    let check = report
        .checks
        .iter()
        .find(|it| it.name == "required")
        .expect("it");
    assert_eq!(check.details.len(), 3, "{check:?}");
}

#[tokio::test]
async fn rows_lead_somewhere_by_relations_that_are_written_down() {
    let relation = Reference {
        child: "public.item".to_owned(),
        columns: vec!["order_id".to_owned()],
        parent: "public.orders".to_owned(),
        keys: vec!["id".to_owned()],
    };
    let site = site(Demands {
        relations: vec![relation],
        ..Demands::default()
    })
    .await;
    assert_eq!(look(&site, "relations").await.0, Passed);
    site.sql("insert into item values (7, 1)").await;
    let (outcome, text) = look(&site, "relations").await;
    assert_eq!(outcome, Failed);
    let says = "public.item(order_id) -> public.orders(id): there are rows that lead nowhere";
    assert_eq!(text, says);
    // What cannot be asked is not passed.
    site.sql("alter table item rename order_id to other").await;
    assert_eq!(look(&site, "relations").await.0, Unknown);
}

#[tokio::test]
async fn monitoring_is_told_and_asked_for() {
    let site = site(Demands::default()).await;
    let report = site.look(&files()).await;
    assert_eq!(outcome(&report, "monitoring"), Passed);
    let named = |name: &str| {
        let check = report.checks.iter().find(|it| it.name == "monitoring");
        let details = &check.expect("the check").details;
        details.iter().any(|it| it.contains(name))
    };
    assert!(named("pg_stat_statements") && named("log_min_duration_statement"));
    drop(site);

    let preload = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("log_min_duration_statement", "1000"),
    ];
    let postgres = Postgres::start_with(&preload, &[]).await;
    let asked = Demands {
        monitoring: true,
        ..Demands::default()
    };
    let site = Site::on(postgres, asking(asked)).await;
    site.sql("create table orders (id int)").await;
    let (outcome, text) = look(&site, "monitoring").await;
    assert_eq!(outcome, Failed);
    assert!(text.contains("is not in this database"), "{text}");
    site.sql("create extension pg_stat_statements").await;
    assert_eq!(look(&site, "monitoring").await.0, Passed);
}

#[tokio::test]
async fn staging_is_of_the_same_major_version() {
    let mut site = site(Demands::default()).await;
    let major = "select current_setting('server_version_num')::int / 10000";
    let major: u32 = site.ask(major).await.parse().expect("a number");
    let url = format!("postgres://postgres@{}/{DATABASE}", site.postgres.addr());
    for (staging, expected) in [
        (format!("{major}.1"), Passed),
        (format!("{}.1", major + 1), Failed),
        ("newest".to_owned(), Unknown),
        (url, Passed),
        (
            "postgres://postgres@127.0.0.1:1/shop?connect_timeout=1".to_owned(),
            Unknown,
        ),
    ] {
        let demands = Demands {
            staging: Some(Secret::new(staging.as_str())),
            ..Demands::default()
        };
        site.runner = crate::support::migrations::runner(
            crate::support::migrations::endpoint(&site.postgres, "postgres"),
            asking(demands),
            &site.own,
            &site.windows,
        );
        let (outcome, text) = look(&site, "version").await;
        assert_eq!(outcome, expected, "{staging}: {text}");
    }
}

#[tokio::test]
async fn a_backup_is_fresh_and_verified_or_made_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let asking = |age: Duration, verify: Verify| Options {
        backup: pgdrain::config::Backup {
            dir: Some(dir.path().to_owned()),
            ..crate::support::backups::backup(verify)
        },
        ..asking(Demands {
            backup_age: Some(age),
            ..Demands::default()
        })
    };
    let hour = Duration::from_secs(3600);
    let mut site = Site::start_with(asking(hour, Verify::List)).await;
    site.sql("create table orders (id int)").await;
    let with = |site: &Site, options: Options| {
        crate::support::migrations::runner(
            crate::support::migrations::endpoint(&site.postgres, "postgres"),
            options,
            &site.own,
            &site.windows,
        )
    };
    assert_eq!(look(&site, "backup").await.0, Passed);
    // One that makes none finds none.
    let view = site.up_with(&files(), |it| it.backup = Some(false)).await;
    assert_end(&view, RunState::Failed, 1);
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let more = [files(), vec![file("2_b.up.sql", "create table b (id int)")]].concat();
    site.runner = with(&site, asking(Duration::from_millis(1), Verify::List));
    let view = site.up_with(&more, |it| it.backup = Some(false)).await;
    assert_end(&view, RunState::Failed, 1);
    site.runner = with(&site, asking(hour, Verify::None));
    let view = site.up_with(&more, |it| it.backup = Some(false)).await;
    assert_end(&view, RunState::Succeeded, 0);
}

#[tokio::test]
async fn commands_are_checks() {
    let command = |name: &str, command: &str| CheckCommand {
        name: name.to_owned(),
        command: command.to_owned(),
        timeout: Duration::from_secs(30),
    };
    let both = |second: CheckCommand| Demands {
        commands: vec![
            command(
                "first",
                "test \"$PGDATABASE\" = postgres && test -n \"$PGPORT\"",
            ),
            second,
        ],
        ..Demands::default()
    };
    let good = site(both(command("second", "true"))).await;
    assert_eq!(
        look(&good, "commands").await,
        (Passed, "2 commands ended well".to_owned())
    );
    drop(good);
    let bad = site(both(command("prisma", "echo drift >&2; exit 2"))).await;
    let (outcome, text) = look(&bad, "commands").await;
    assert!(
        outcome == Failed && text.contains("prisma") && text.contains("drift"),
        "{text}"
    );
    drop(bad);
    let slow = site(both(CheckCommand {
        timeout: Duration::from_millis(50),
        ..command("slow", "sleep 60")
    }))
    .await;
    let (outcome, text) = look(&slow, "commands").await;
    assert_eq!(
        (outcome, text.as_str()),
        (Failed, "slow did not end within 50ms")
    );
}

#[tokio::test]
async fn index_builds_have_the_memory_that_is_configured() {
    let site = Site::start_with(Options {
        maintenance_work_mem: Some(96 << 20),
        ..options()
    })
    .await;
    let view = site
        .up(&[
            file("1_a.up.sql", "create table seen as select current_setting('maintenance_work_mem') as mem"),
            file(
                "2_b.up.sql",
                "-- pgdrain:tx none\ninsert into seen select current_setting('maintenance_work_mem')",
            ),
        ])
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    let all = "select string_agg(mem, ' ') from seen";
    assert_eq!(site.ask(all).await, "96MB 96MB");
}
