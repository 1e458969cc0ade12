//! Files of six tools are read as those tools read them, and run.

use pgdrain::runner::StartError;
use pgdrain::runner::source::Format;
use pgdrain::runner::types::{Direction, RunState};

use crate::support::migrations::{DATABASE, Site, assert_end, file, request};

#[tokio::test]
async fn flyway_runs_versions_then_repeatables_that_changed() {
    let site = Site::start().await;
    let views = |body: &str| {
        file(
            "R__views.sql",
            &format!("create or replace view v as {body}"),
        )
    };
    let mut files = vec![
        file("V1.10__c.sql", "alter table t add c int"),
        file("V1_9__b.sql", "create table t (a int)"),
        file("U1.10__c.sql", "alter table t drop c"),
        views("select count(*) as n from t"),
        file("V2__index.sql", "create index t_a on t (a)"),
        file("V2__index.sql.conf", "executeInTransaction=false"),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    let ran: Vec<_> = view
        .report
        .as_ref()
        .expect("a report")
        .files
        .iter()
        .map(|it| it.file.clone())
        .collect();
    assert_eq!(
        ran,
        [
            "V1_9__b.sql",
            "V1.10__c.sql",
            "V2__index.sql",
            "R__views.sql"
        ]
    );
    let rows = "select string_agg(version || ' ' || tx_mode, ', ' order by version_key) \
                from pgdrain.migration where source = 'flyway'";
    assert_eq!(
        site.ask(rows).await,
        "1.9 file, 1.10 file, 2 none, R__views file"
    );

    assert!(
        site.up(&files)
            .await
            .report
            .expect("a report")
            .files
            .is_empty()
    );
    files[3] = views("select count(*) as n, 1 as more from t");
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(view.report.expect("a report").files.len(), 1);
    assert_eq!(site.ask("select more from v").await, "1");

    // A new version comes after a repeatable one that has run.
    files.push(file("V3__d.sql", "create table d ()"));
    files.push(file("U3__d.sql", "drop table d"));
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_end(&site.down(&files, 1).await, RunState::Succeeded, 0);
    assert_eq!(site.ask("select to_regclass('d')").await, "null");
}

#[tokio::test]
async fn dbmate_and_goose_run_the_half_that_is_meant() {
    let dbmate = "-- migrate:up\ncreate table t (a int);\n\n-- migrate:down\ndrop table t;\n";
    let goose = "-- +goose Up\n-- +goose StatementBegin\ncreate table t (a int);\n\
                 -- +goose StatementEnd\n\n-- +goose Down\ndrop table t;\n";
    for (format, sql) in [(Format::Dbmate, dbmate), (Format::Goose, goose)] {
        let site = Site::start().await;
        let files = [file("20240101000000_t.sql", sql)];
        assert_end(&site.up(&files).await, RunState::Succeeded, 0);
        assert_eq!(site.ask("select to_regclass('t')").await, "t");
        let row = "select source || ' ' || version from pgdrain.migration";
        assert_eq!(site.ask(row).await, format!("{format} 20240101000000"));
        // What changes the way back alone does not change what was applied.
        let later = [file(
            "20240101000000_t.sql",
            &sql.replace("drop table t", "drop table if exists t"),
        )];
        assert_end(&site.up(&later).await, RunState::Succeeded, 0);
        assert_end(&site.down(&later, 1).await, RunState::Succeeded, 0);
        assert_eq!(site.ask("select to_regclass('t')").await, "null");
    }
}

#[tokio::test]
async fn errors_in_the_second_half_name_its_own_line() {
    let site = Site::start().await;
    let sql = "-- migrate:up\ncreate table t ();\n-- migrate:down\n\ndrop table nope;\n";
    let files = [file("1_t.sql", sql)];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let view = site.down(&files, 1).await;
    assert_end(&view, RunState::Failed, 4);
    let failure = view.report.expect("a report").failure.expect("a failure");
    assert_eq!(failure.line, Some(5));
}

#[tokio::test]
async fn no_transaction_is_said_in_each_formats_own_way() {
    let table = [
        ("1_a.sql", "-- no-transaction\n{}"),
        (
            "1_a.sql",
            "-- migrate:up transaction:false\n{}\n-- migrate:down\n",
        ),
        ("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\n{}"),
    ];
    for (name, template) in table {
        let site = Site::start().await;
        let sql = template.replace("{}", "create table t ();\nselect 1 / 0;");
        assert_end(&site.up(&[file(name, &sql)]).await, RunState::Dirty, 2);
        assert_eq!(site.ask("select to_regclass('t')").await, "t", "{template}");
    }
}

#[tokio::test]
async fn prisma_runs_directories_and_a_down_file_of_them() {
    let site = Site::start().await;
    let files = [
        file("0_init/migration.sql", "create table a ()"),
        file("20240102030405_b/migration.sql", "create table b ()"),
        file("20240102030405_b/down.sql", "drop table b"),
        file("migration_lock.toml", "provider = \"postgresql\""),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_end(&site.down(&files, 1).await, RunState::Succeeded, 0);
    assert_eq!(site.ask("select to_regclass('b')").await, "null");
    assert_eq!(site.ask("select to_regclass('a')").await, "a");
}

#[tokio::test]
async fn a_directory_that_could_be_two_is_refused_with_the_way_out() {
    let site = Site::start().await;
    let files = [
        file("1_a.up.sql", "create table a ()"),
        file("1_a.down.sql", "drop table a"),
        file("2_b.sql", "create table b ()"),
    ];
    let error = site
        .runner
        .start(DATABASE, request(Direction::Up, &files))
        .unwrap_err();
    assert!(matches!(error, StartError::Invalid(_)));
    let text = error.to_string();
    assert!(
        text.contains("golang-migrate (1_a.up.sql), sqlx (2_b.sql); say which with --format"),
        "{text}"
    );
    let view = site
        .up_with(&files, |it| it.format = Some(Format::Sqlx))
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration where source = 'sqlx'")
            .await,
        "2"
    );

    // Read as another format they would all run again.
    let pairs = [files[0].clone(), files[1].clone()];
    let view = site.up_with(&pairs, |it| it.format = None).await;
    assert_end(&view, RunState::Failed, 1);
}

#[tokio::test]
async fn what_only_psql_understands_is_refused_with_its_line() {
    let site = Site::start().await;
    let files = [
        file("1_a.up.sql", "select 1;\n\\set x 1\n"),
        file(
            "2_b.up.sql",
            "create table b (a int);\n\ncopy b from stdin;\n1\n\\.\n",
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 5);
    let report = view.report.expect("a report");
    let check = report
        .checks
        .iter()
        .find(|it| it.name == "files")
        .expect("the check");
    assert!(check.details[0].starts_with("1_a.up.sql, line 2: \\set is a command of psql"));
    assert!(check.details[1].starts_with("2_b.up.sql, line 3: COPY from STDIN"));
}
