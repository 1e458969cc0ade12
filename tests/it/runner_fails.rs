//! A migration that fails says where and why, and leaves a known state.

use std::time::Duration;

use pgdrain::config::{HumanDuration, Preflight, Preset};
use pgdrain::runner::preflight::CheckOutcome;
use pgdrain::runner::types::{
    Direction, EventKind, MigrationRequest, RunState, RunView, StatusRequest, TrafficMode,
};
use pgdrain::runner::{Options, StartError};

use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, end, endpoint, failure, file, options, request, runner,
    texts,
};

/// The text of a check.
fn check<'a>(view: &'a RunView, name: &str) -> (&'a str, CheckOutcome) {
    let checks = &view.report.as_ref().expect("a report").checks;
    let check = checks.iter().find(|it| it.name == name).expect("the check");
    (&check.text, check.outcome)
}

#[tokio::test]
async fn a_faulty_statement_is_named_and_everything_of_its_file_is_undone() {
    let site = Site::start().await;
    let faulty = file(
        "002_faulty.up.sql",
        "create table half ();\n\n-- é\ninsert into t (a)\n  values ('é', nope);\nselect 1;\n",
    );
    let files = [
        file("001_t.up.sql", "create table t (a int)"),
        faulty,
        file("003_c.up.sql", "select 3"),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(
        failure(&view),
        "002_faulty.up.sql, statement 2 of 3, line 5, column 16: ERROR 42703: column \"nope\" does \
         not exist"
    );
    assert_eq!(site.ask("select to_regclass('half')").await, "null");
    assert_eq!(site.row(1).await, "applied up 1/1");
    assert_eq!(site.row(2).await, "failed up 0/3");
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    let kept = "select failed_stmt || failed_sqlstate from pgdrain.migration where version = '2'";
    assert_eq!(site.ask(kept).await, "242703");
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration where version = '3'")
            .await,
        "0"
    );

    // What was rolled back may be put right and run again.
    let files = [
        files[0].clone(),
        file("002_faulty.up.sql", "create table whole ()"),
        files[2].clone(),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_eq!(site.row(2).await, "applied up 1/1");
}

#[tokio::test]
async fn errors_in_functions_carry_their_context() {
    let site = Site::start().await;
    let sql = "do $$\nbegin\n  perform 1;\n  raise exception 'no' using detail = 'd', hint = 'h', \
               errcode = 'P0123';\nend $$";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Failed, 2);
    let failure = view.report.unwrap().failure.unwrap();
    assert_eq!(failure.sqlstate.as_deref(), Some("P0123"));
    assert_eq!(
        (failure.detail.as_deref(), failure.hint.as_deref()),
        (Some("d"), Some("h"))
    );
    assert!(failure.context.unwrap().contains("line 4 at RAISE"));
}

#[tokio::test]
async fn a_failed_down_file_leaves_the_migration_applied() {
    let site = Site::start().await;
    let files = [
        file("1_t.up.sql", "create table t ()"),
        file("1_t.down.sql", "drop table t; drop table u"),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let view = site.down(&files, 1).await;
    assert_end(&view, RunState::Failed, 4);
    assert!(
        failure(&view).starts_with("1_t.down.sql, statement 2 of 2, line 1, column 0")
            || failure(&view).contains("42P01")
    );
    assert_eq!(site.row(1).await, "applied down 0/2");
    let fixed = [files[0].clone(), file("1_t.down.sql", "drop table t")];
    let view = site.down(&fixed, 1).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "reverted down 1/1");
}

#[tokio::test]
async fn what_fails_only_at_commit_is_rolled_back() {
    let site = Site::start().await;
    site.sql("create table p (a int primary key); create table c (a int references p deferrable initially deferred)").await;
    let view = site
        .up(&[file("1_a.up.sql", "insert into c values (1)")])
        .await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).starts_with("1_a.up.sql: ERROR 23503: at COMMIT: "),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "failed up 0/1");
}

#[tokio::test]
async fn a_concurrent_index_that_fails_leaves_a_dirty_state_and_traffic_held() {
    let site = Site::start().await;
    site.sql("create table t (a int, b int); insert into t values (1, 1), (1, 2)")
        .await;
    let sql = "create index concurrently t_b on t (b);\n\ncreate unique index concurrently t_a on t (a);\nselect 3;";
    let files = [file("1_index.up.sql", sql)];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Dirty, 2);
    let text = failure(&view);
    assert!(
        text.starts_with("1_index.up.sql, statement 2 of 3, line 3: ERROR 23505: could not"),
        "{text}"
    );
    assert!(text.contains("invalid indexes there: t_a"), "{text}");
    assert_eq!(site.row(1).await, "dirty up 1/3");
    assert_eq!(
        site.ask("select indisvalid from pg_index where indexrelid = 't_a'::regclass")
            .await,
        "false"
    );
    let log = site.windows.log();
    assert_eq!((log.len(), log[0].as_str()), (2, "begin"));
    assert!(
        log[1].starts_with("held: a migration stopped part-way: 1_index.up.sql"),
        "{}",
        log[1]
    );
    assert_eq!(
        view.report.unwrap().held.as_deref(),
        log[1].strip_prefix("held: ")
    );

    // Nothing runs until somebody has looked.
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    let (text, outcome) = check(&view, "dirty");
    assert_eq!(outcome, CheckOutcome::Failed);
    assert!(
        text.starts_with("1_index (up) stopped at statement 2 of 3: could not create unique"),
        "{text}"
    );
    let status = site.status(&files).await;
    assert_eq!((status.dirty.len(), status.pending.len()), (1, 1));

    // As the hint says.
    site.sql("drop index t_a; drop index t_b; delete from t where b = 2; update pgdrain.migration set state = 'failed'").await;
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn if_not_exists_does_not_hide_an_invalid_index() {
    let site = Site::start().await;
    site.sql("create table t (a int); insert into t values (1), (1)")
        .await;
    let broken = site
        .client
        .batch_execute("create unique index concurrently \"T_a\" on t (a)")
        .await;
    assert!(broken.is_err());
    let sql = "create unique index concurrently if not exists \"T_a\" on t (a)";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Dirty, 2);
    assert!(
        failure(&view).contains("index T_a is invalid"),
        "{}",
        failure(&view)
    );
    // It ran in open traffic: there is no window to stay held.
    assert!(site.windows.log().is_empty());
    assert_eq!(view.report.unwrap().held, None);
}

#[tokio::test]
async fn changed_missing_and_late_files_are_all_named_before_anything_runs() {
    let site = Site::start().await;
    let files = [
        file("1_a.up.sql", "create table a ()"),
        file("2_b.up.sql", "create table b ()"),
        file("4_d.up.sql", "create table d ()"),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let changed = [
        file("1_a.up.sql", "create table a (changed int)"),
        file("3_c.up.sql", "create table c ()"),
        file("4_d.up.sql", "\u{feff}create table d ()"),
        file("5_e.up.sql", "create table e ()"),
    ];
    let view = site.up(&changed).await;
    assert_end(&view, RunState::Failed, 1);
    assert_eq!(
        check(&view, "checksums"),
        ("2 things are wrong", CheckOutcome::Failed)
    );
    let (text, _) = check(&view, "pending");
    assert!(
        text.starts_with("3_c.up.sql is older than version 4"),
        "{text}"
    );
    assert_eq!(site.ask("select to_regclass('e')").await, "null");
    assert_eq!(site.windows.log().len(), 2);
    let status = site.status(&changed).await;
    assert_eq!(status.changed.len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_run_is_a_mistake_of_the_caller() {
    let site = Site::start().await;
    let files = [file("1_a.up.sql", "create table a ();\n\\copy a from x\n")];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 5);
    let (text, _) = check(&view, "files");
    assert_eq!(
        text,
        "1_a.up.sql, line 2: \\copy is a command of psql, not SQL"
    );

    let mut garbled = file("1_a.up.sql", "select 1");
    garbled.sql.push(';');
    let request = MigrationRequest {
        lock_timeout: Some(HumanDuration(Duration::ZERO)),
        steps: Some(0),
        ..request(Direction::Up, &[garbled.clone()])
    };
    let error = site.runner.start(DATABASE, request.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "steps must be at least 1; lock_timeout must be at least 1ms"
    );
    let request = MigrationRequest {
        lock_timeout: None,
        steps: None,
        ..request
    };
    let error = site.runner.start(DATABASE, request).unwrap_err();
    assert!(matches!(error, StartError::Invalid(it) if it[0].contains("arrived with SHA-256")));
}

#[tokio::test]
async fn lock_timeout_ends_the_wait_for_a_lock() {
    let mut site = Site::start().await;
    site.sql("create table t (a int)").await;
    let other = site.postgres.connect(DATABASE).await;
    other.batch_execute("begin; select * from t").await.unwrap();
    let request = MigrationRequest {
        lock_timeout: Some(HumanDuration(Duration::from_millis(100))),
        traffic: TrafficMode::Open,
        ..request(
            Direction::Up,
            &[file("1_a.up.sql", "select 1; alter table t add b int")],
        )
    };
    let id = site.runner.start(DATABASE, request).unwrap();
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).starts_with("1_a.up.sql, statement 2 of 2, line 1: ERROR 55P03"),
        "{}",
        failure(&view)
    );
    other.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn a_concurrent_index_is_not_ended_by_lock_timeout() {
    let mut site = Site::start().await;
    site.sql("create table t (a int); create table u (a int)")
        .await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin isolation level repeatable read; select * from u")
        .await
        .unwrap();
    let request = MigrationRequest {
        lock_timeout: Some(HumanDuration(Duration::from_millis(50))),
        ..request(
            Direction::Up,
            &[file("1_a.up.sql", "create index concurrently t_a on t (a)")],
        )
    };
    let id = site.runner.start(DATABASE, request).unwrap();
    let pid = site.running("create index").await;
    let waits = format!(
        "select count(*) > 0 from pg_locks where pid = {pid} and not granted \
                         and clock_timestamp() - waitstart > '200ms'"
    );
    crate::support::poll::until("the wait", crate::support::poll::SOON, async || {
        site.ask(&waits).await == "true"
    })
    .await;
    other.batch_execute("commit").await.unwrap();
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn a_window_that_is_refused_leaves_everything_as_it_was() {
    let site = Site::start().await;
    site.windows.set(Behaviour::Refuse);
    let request = MigrationRequest {
        ladder: Some(Preset::Firm),
        wait: Some(HumanDuration(Duration::from_secs(90))),
        ..request(Direction::Up, &[file("1_a.up.sql", "create table a ()")])
    };
    let id = site.runner.start(DATABASE, request).unwrap();
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 6);
    assert_eq!(
        failure(&view),
        "no exclusive window: process 7 is in the way"
    );
    let told = view
        .events
        .iter()
        .find(|it| it.kind == EventKind::Failure)
        .unwrap();
    assert_eq!(
        told.data,
        serde_json::json!({ "ladder": "firm", "wait": "1m 30s" })
    );
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
    assert_eq!(
        site.ask("select state || exit_code from pgdrain.run").await,
        "failed6"
    );
}

#[tokio::test]
async fn preflight_names_missing_rights_and_long_transactions() {
    let mut site = Site::start().await;
    site.sql("create role runner login; create role app").await;
    let poor = Options {
        owner: Some("app".to_owned()),
        ..options()
    };
    let poor = runner(
        endpoint(&site.postgres, "runner"),
        poor,
        &site.own,
        &site.windows,
    );
    let files = [file("1_a.up.sql", "create table a ()")];
    let id = poor
        .start(DATABASE, request(Direction::Up, &files))
        .unwrap();
    let view = end(&poor, &id).await;
    assert_end(&view, RunState::Failed, 1);
    let report = view.report.as_ref().unwrap();
    let privileges = report
        .checks
        .iter()
        .find(|it| it.name == "privileges")
        .unwrap();
    assert_eq!(privileges.details.len(), 3, "{privileges:#?}");
    assert_eq!(check(&view, "long_transactions").1, CheckOutcome::Unknown);
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");

    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("set application_name = 'report'; begin; select pg_sleep(0.02)")
        .await
        .unwrap();
    site.sql("begin; create table p (); prepare transaction 'forgotten'")
        .await;
    site.sql("select pg_sleep(0.02)").await;
    let short = Options {
        preflight: Preflight {
            long_transaction: Duration::from_millis(10),
            ..Preflight::default()
        },
        ..options()
    };
    let short = runner(
        endpoint(&site.postgres, "postgres"),
        short,
        &site.own,
        &site.windows,
    );
    let id = short
        .start(DATABASE, request(Direction::Up, &files))
        .unwrap();
    let view = end(&short, &id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.as_ref().unwrap();
    let long = report
        .checks
        .iter()
        .find(|it| it.name == "long_transactions")
        .unwrap();
    assert!(
        long.details
            .iter()
            .any(|it| it.contains("postgres, report, 127.0.0.1): idle in transaction")),
        "{long:#?}"
    );
    assert!(
        long.details
            .iter()
            .any(|it| it.contains("prepared transaction 'forgotten'")),
        "{long:#?}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_so() {
    let site = Site::start().await;
    let id = site
        .runner
        .start(
            "nowhere",
            request(Direction::Up, &[file("1_a.up.sql", "select 1")]),
        )
        .unwrap();
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 1);
    assert_eq!(texts(&view, EventKind::Check).len(), 1);
    assert!(
        check(&view, "connectable")
            .0
            .contains("database \"nowhere\" does not exist"),
        "{view:#?}"
    );
    assert!(
        site.runner
            .status("nowhere", &StatusRequest::default())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_script_cannot_commit_behind_the_runners_back() {
    let site = Site::start().await;
    // With this setting lexers differ about backslashes: the server sees a commit where we see a
    // string and a comment.
    let sql = "create table t ();\nset standard_conforming_strings = off;\n\
               select 'a\\''; commit; select ' -- '\n, 1";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Dirty, 2);
    assert!(
        failure(&view).contains("the file ended the runner's transaction"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "dirty up 0/3");
}
