//! What a file says about itself in comments is done, or refused: never passed over.

use pgdrain::runner::Options;
use pgdrain::runner::types::{RunState, RunView, StepTraffic};

use crate::support::migrations::{Site, assert_end, failure, file, options};

/// The text of a check, with its details.
fn check(view: &RunView, name: &str) -> String {
    let checks = &view.report.as_ref().expect("a report").checks;
    let check = checks.iter().find(|it| it.name == name).expect("the check");
    format!("{}\n{}", check.text, check.details.join("\n"))
}

#[tokio::test]
async fn a_file_runs_statement_by_statement_if_it_says_so() {
    let site = Site::start().await;
    let sql = "-- pgdrain:tx none\ncreate table t ();\nselect 1 / 0;\n";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Dirty, 2);
    // In a transaction it would be gone.
    assert_eq!(site.ask("select to_regclass('t')").await, "t");
    assert_eq!(site.row(1).await, "dirty up 1/2");
}

#[tokio::test]
async fn each_file_meets_the_traffic_that_it_names() {
    let site = Site::start().await;
    let files = [
        file("1_a.up.sql", "-- pgdrain:traffic open\ncreate table a ()"),
        file(
            "2_b.up.sql",
            "-- pgdrain:traffic read_only\ncreate table b ()",
        ),
        file(
            "3_c.up.sql",
            "-- pgdrain:traffic read_only\ncreate table c ()",
        ),
        file("4_d.up.sql", "create table d ()"),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(
        site.windows.log(),
        ["begin read-only", "reopen", "begin", "reopen"]
    );
    let report = view.report.as_ref().expect("a report");
    let traffic: Vec<_> = report.files.iter().map(|it| it.traffic).collect();
    let (open, reads, alone) = (
        StepTraffic::Open,
        StepTraffic::ReadOnly,
        StepTraffic::Exclusive,
    );
    assert_eq!(traffic, [open, reads, reads, alone]);
}

#[tokio::test]
async fn timeouts_are_those_of_the_file() {
    let site = Site::start().await;
    let look = "create table seen_{n} as select current_setting('lock_timeout') as l, \
                current_setting('statement_timeout') as s";
    let own = "-- pgdrain:lock_timeout 1500ms\n-- pgdrain:statement_timeout 0s\n";
    let files = [
        file("1_a.up.sql", &format!("{own}{}", look.replace("{n}", "1"))),
        file("2_b.up.sql", &look.replace("{n}", "2")),
        file(
            "3_c.up.sql",
            &format!("-- pgdrain:tx none\n{own}{}", look.replace("{n}", "3")),
        ),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_eq!(
        site.ask("select l || ' ' || s from seen_1").await,
        "1500ms 0"
    );
    assert_eq!(
        site.ask("select l || ' ' || s from seen_2").await,
        "5s 30min"
    );
    assert_eq!(
        site.ask("select l || ' ' || s from seen_3").await,
        "1500ms 0"
    );
}

#[tokio::test]
async fn a_statement_that_runs_into_its_files_timeout_is_rolled_back() {
    let site = Site::start().await;
    let sql = "-- pgdrain:statement_timeout 50ms\ncreate table t ();\nselect pg_sleep(60);";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(failure(&view).contains("ERROR 57014"), "{}", failure(&view));
    assert_eq!(site.ask("select to_regclass('t')").await, "null");
}

#[tokio::test]
async fn an_assertion_before_a_file_keeps_it_from_running() {
    let site = Site::start().await;
    site.sql("create table t (a int); insert into t values (1)")
        .await;
    let claims = "-- pgdrain:assert pre select count(*) = 0 from t\n";
    for mode in ["", "-- pgdrain:tx none\n"] {
        let sql = format!("{mode}{claims}alter table t add b int");
        let view = site.up(&[file("1_a.up.sql", &sql)]).await;
        assert_end(&view, RunState::Failed, 2);
        assert!(
            failure(&view).contains("pgdrain:assert pre: it is false"),
            "{}",
            failure(&view)
        );
        assert_eq!(site.row(1).await.split(' ').next(), Some("failed"));
    }
    site.sql("delete from t").await;
    let sql = format!("{claims}alter table t add b int");
    assert_end(
        &site.up(&[file("1_a.up.sql", &sql)]).await,
        RunState::Succeeded,
        0,
    );
}

#[tokio::test]
async fn an_assertion_after_a_file_rolls_it_back() {
    let site = Site::start().await;
    let table = [
        ("select count(*) = 1 from t", "it is false"),
        ("select null::bool", "it is null, which is not true"),
        ("select 't'", "a boolean was expected, a text came"),
        (
            "select true from generate_series(1, 2)",
            "one row was expected, 2 came",
        ),
        ("select true, true", "one column was expected, 2 came"),
        ("select nope from t", "ERROR 42703"),
    ];
    for (claim, text) in table {
        let sql = format!("create table t (a int);\n-- pgdrain:assert post {claim}\n");
        let view = site.up(&[file("1_a.up.sql", &sql)]).await;
        assert_end(&view, RunState::Failed, 2);
        let failure = failure(&view);
        assert!(
            failure.contains(text) && failure.contains("pgdrain:assert post"),
            "{failure}"
        );
        assert!(failure.contains("line 2"), "{failure}");
        assert_eq!(site.ask("select to_regclass('t')").await, "null");
    }
    let sql = "create table t (a int);\n-- pgdrain:assert post select count(*) = 0 from t";
    assert_end(
        &site.up(&[file("1_a.up.sql", sql)]).await,
        RunState::Succeeded,
        0,
    );
    // Without a transaction there is nothing to roll back.
    let alone = "-- pgdrain:tx none\ncreate table u ();\n-- pgdrain:assert post select false";
    let files = [file("1_a.up.sql", sql), file("2_b.up.sql", alone)];
    assert_end(&site.up(&files).await, RunState::Dirty, 2);
}

#[tokio::test]
async fn rows_come_and_go_as_declared() {
    let site = Site::start().await;
    site.sql("create table t (a int); insert into t values (1), (2)")
        .await;
    let wrong = "-- pgdrain:rows t -2\n-- pgdrain:rows made +1\ndelete from t where a = 1;\n\
                 create table made as select 1";
    let view = site.up(&[file("1_a.up.sql", wrong)]).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(
        failure(&view),
        "1_a.up.sql, line 1: pgdrain:rows: t changed by -1 rows, declared was -2"
    );
    assert_eq!(site.ask("select count(*) from t").await, "2");
    let right = wrong.replace("t -2", "public.t -1");
    assert_end(
        &site.up(&[file("1_a.up.sql", &right)]).await,
        RunState::Succeeded,
        0,
    );
    assert_eq!(site.ask("select count(*) from t").await, "1");
}

#[tokio::test]
async fn a_file_runs_as_the_role_that_it_names() {
    let site = Site::start().await;
    site.sql(
        "create role \"App\"; create role other; grant create on schema public to \"App\", other",
    )
    .await;
    let files = [
        file("1_a.up.sql", "-- pgdrain:owner \"App\"\ncreate table a ()"),
        file(
            "2_b.up.sql",
            "-- pgdrain:tx none\n-- pgdrain:owner OTHER\ncreate table b ()",
        ),
        file("3_c.up.sql", "create table c ()"),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let owners = "select string_agg(relowner::regrole::text, ' ' order by relname) \
                  from pg_class where relname in ('a', 'b', 'c')";
    assert_eq!(site.ask(owners).await, "\"App\" other postgres");
    let nobody = file("4_d.up.sql", "-- pgdrain:owner nobody\ncreate table d ()");
    let mut files = files.to_vec();
    files.push(nobody);
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    let text = check(&view, "owners");
    let expected = "4_d.up.sql: role \"nobody\" does not exist";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(site.ask("select to_regclass('d')").await, "null");
}

#[tokio::test]
async fn a_way_back_is_there_or_explained() {
    let strict = Options {
        down_required: true,
        ..options()
    };
    let site = Site::start_with(strict).await;
    let lone = [file("1_a.up.sql", "create table a ()")];
    let view = site.up(&lone).await;
    assert_end(&view, RunState::Failed, 5);
    assert!(check(&view, "files").starts_with("1_a.up.sql has no down file: write one, or say"));
    assert_eq!(site.ask("select to_regclass('a')").await, "null");

    let explained = [file(
        "1_a.up.sql",
        "-- pgdrain:irreversible nothing was there before\ncreate table a ()",
    )];
    assert_end(&site.up(&explained).await, RunState::Succeeded, 0);
    let view = site.down(&explained, 1).await;
    assert_end(&view, RunState::Failed, 1);
    assert!(
        check(&view, "pending").contains("it is irreversible, nothing was there before"),
        "{}",
        check(&view, "pending")
    );
    // A way back that could not be run is none.
    let broken = [
        explained[0].clone(),
        file("2_b.up.sql", "create table b ()"),
        file("2_b.down.sql", "-- nothing yet"),
    ];
    let view = site.up(&broken).await;
    assert_end(&view, RunState::Failed, 5);
    assert!(check(&view, "files").contains("2_b.down.sql, line 1: the file holds no statement"));
}

#[tokio::test]
async fn a_disabled_file_is_passed_over_and_shown() {
    let site = Site::start().await;
    let files = [
        file(
            "1_a.up.sql",
            "-- pgdrain:disabled-until 9999-12-31\ncreate table a ()",
        ),
        file(
            "2_b.up.sql",
            "-- pgdrain:disabled-until 2020-01-01\ncreate table b ()",
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
    assert_eq!(site.ask("select to_regclass('b')").await, "b");
    assert!(check(&view, "checksums").contains("1_a.up.sql is disabled until 9999-12-31"));
    let status = site.status(&files).await;
    assert_eq!(
        status.pending[0].detail.as_deref(),
        Some("disabled until 9999-12-31")
    );
}

#[tokio::test]
async fn directives_that_are_not_understood_or_not_done_are_all_named() {
    let site = Site::start().await;
    let files = [
        file(
            "1_a.up.sql",
            "-- pgdrain:lock_timout 2s\ncreate table a ();\n  -- pgdrain:tx nome\n",
        ),
        file(
            "2_b.up.sql",
            "update t set a = 1;\n-- pgdrain:batch table=t size=1000 pause=1ms",
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 5);
    let text = check(&view, "files");
    for expected in [
        "1_a.up.sql, line 1, column 4: \"lock_timout\" is not one of",
        "did you mean \"lock_timeout\"?",
        "1_a.up.sql, line 3, column 6: pgdrain:tx: \"nome\" is not one of none",
        "2_b.up.sql, line 1, column 1: pgdrain:batch: the statement has to say WHERE :batch",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(site.windows.log().is_empty());
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");
}
