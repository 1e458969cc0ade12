//! Behind the last file a run looks whether all is as it should be; what is not ends it with 3, and with its
//! way back if that was asked for.

use std::fs;
use std::time::Duration;

use pgdrain::config::{
    Analyze, Hook, HookPhase, Postflight, Preflight, PreflightCheck, Reports, Then, Validate,
};
use pgdrain::runner::Options;
use pgdrain::runner::approvals::DecideRequest;
use pgdrain::runner::preflight::Check;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{EventKind, RunState, RunView};
use pgdrain::tasks::Tasks;

use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options, texts};

/// A constraint that nobody holds against what its file says.
fn careless(postflight: Postflight) -> Options {
    Options {
        validate: Validate {
            constraints: false,
            ..Validate::default()
        },
        postflight,
        ..options()
    }
}

/// The second leaves what postflight does not pass where files are not held against what they say.
fn files(second_down: &str) -> Vec<PostedFile> {
    vec![
        file("1_a.up.sql", "create table a (id int)"),
        file("1_a.down.sql", "drop table a"),
        file(
            "2_b.up.sql",
            "alter table a add constraint positive check (id > 0) not valid",
        ),
        file("2_b.down.sql", second_down),
    ]
}

const DROP: &str = "alter table a drop constraint positive";

#[track_caller]
fn check<'a>(view: &'a RunView, name: &str) -> &'a Check {
    let report = view.report.as_ref().expect("a report");
    let checks = &report.postflight.as_ref().expect("a postflight").checks;
    checks.iter().find(|it| it.name == name).expect(name)
}

#[tokio::test]
async fn what_a_run_leaves_is_looked_at_written_down_and_analyzed() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::start_with(Options {
        reports: Reports {
            dir: Some(dir.path().to_owned()),
            keep: 5,
            ..Reports::default()
        },
        ..options()
    })
    .await;
    site.sql("create table t (a int); insert into t select generate_series(1, 100)")
        .await;
    let analyzed = async || {
        let sql = "select reltuples from pg_class where relname = 't'";
        site.ask(sql).await
    };
    assert_eq!(analyzed().await, "-1");
    let view = site
        .up(&[file(
            "1_a.up.sql",
            "alter table t add column b int default 1",
        )])
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    for name in [
        "dirty",
        "checksums",
        "indexes",
        "constraints",
        "locks",
        "schema",
    ] {
        assert!(check(&view, name).is_passed(), "{name}: {view:#?}");
    }
    assert_eq!(analyzed().await, "100");
    let run = dir.path().join(DATABASE).join(&view.id);
    let mut all = fs::read_dir(run)
        .expect("a directory")
        .map(|it| it.expect("one").path());
    let is_it = |it: &std::path::PathBuf| {
        let name = it.file_name().expect("a name").to_string_lossy();
        name.starts_with("postflight-report-") && name.ends_with(".json")
    };
    let text = fs::read_to_string(all.find(is_it).expect("the report")).expect("text");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["passed"], true);
    assert_eq!(report["run"], view.id.as_str());
    assert_ne!(report["fp_before"], report["fp_after"]);
}

#[tokio::test]
async fn tables_are_analyzed_first_on_request_and_never_where_that_is_off() {
    let off = Postflight {
        analyze: Analyze::Off,
        ..Postflight::default()
    };
    let site = Site::start_with(Options {
        postflight: off,
        ..options()
    })
    .await;
    site.sql("create table t (a int); insert into t select generate_series(1, 100)")
        .await;
    let files = [
        file("1_a.up.sql", "alter table t add column b int"),
        // What the planner knew when the file ran.
        file(
            "2_b.up.sql",
            "create table seen as select reltuples from pg_class where relname = 't'; \
             delete from t where a > 50",
        ),
    ];
    assert_end(&site.up(&files[..1]).await, RunState::Succeeded, 0);
    let sql = "select reltuples from pg_class where relname = 't'";
    assert_eq!(site.ask(sql).await, "-1");
    let view = site.up_with(&files, |it| it.analyze_first = true).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.ask("select reltuples from seen").await, "100");
    assert_eq!(site.ask(sql).await, "100");
}

#[tokio::test]
async fn what_was_wrong_before_is_noted_and_what_is_new_ends_with_three() {
    let site = Site::start_with(careless(Postflight::default())).await;
    site.sql(
        "create table old (id int); insert into old values (1), (1); \
         alter table old add constraint old_c check (id > 5) not valid",
    )
    .await;
    let broken = site
        .client
        .batch_execute("create unique index concurrently old_i on old (id)");
    assert!(broken.await.is_err());
    let view = site.up(&files(DROP)[..2]).await;
    assert_end(&view, RunState::Succeeded, 0);
    for (name, says) in [
        ("indexes", "public.old_i on public.old is invalid"),
        ("constraints", "old_c on public.old"),
    ] {
        let check = check(&view, name);
        let said = |it: &String| it.contains(says) && it.ends_with("and was before");
        assert!(
            check.is_passed() && check.details.iter().any(said),
            "{check:?}"
        );
    }
    let view = site.up(&files(DROP)).await;
    assert_end(&view, RunState::Failed, 3);
    let why = failure(&view);
    assert!(
        why.contains("postflight: constraints not passed: positive on public.a is NOT VALID"),
        "{why}"
    );
    // It is applied, and applications go on.
    assert_eq!(site.row(2).await, "applied up 1/1");
    assert_eq!(site.windows.log(), ["begin", "reopen", "begin", "reopen"]);
    // The decision is somebody's.
    let request: Result<DecideRequest, _> = serde_json::from_value(serde_json::json!({
        "run": view.id, "decision": "fix_forward", "by": "ann",
    }));
    let decided = site
        .runner
        .decide(DATABASE, &request.expect("a request"))
        .await;
    assert_eq!(decided.expect("a decision").by, "ann");
}

#[tokio::test]
async fn traffic_stays_held_and_everything_counts_where_that_is_asked_for() {
    let strict = Postflight {
        strict: true,
        then: Then::Stay,
        ..Postflight::default()
    };
    // The file says NOT VALID, which is enough elsewhere.
    let site = Site::start_with(Options {
        postflight: strict,
        ..options()
    })
    .await;
    assert_end(
        &site.up(&files("select 1")[..2]).await,
        RunState::Succeeded,
        0,
    );
    let view = site.up(&files("select 1")).await;
    assert_end(&view, RunState::Failed, 3);
    let log = site.windows.log();
    assert!(
        log[3].starts_with("held: postflight: constraints not passed"),
        "{log:?}"
    );
    // A way back that is none.
    let view = site.down(&files("select 1"), 1).await;
    assert_end(&view, RunState::Failed, 3);
    let schema = check(&view, "schema");
    let said = &schema.details;
    assert!(
        said[0].contains("2_b.down.sql does not lead back"),
        "{schema:?}"
    );
    assert!(
        said[1].contains("+ constraint public.a.positive"),
        "{schema:?}"
    );
}

#[tokio::test]
async fn a_run_takes_itself_back_in_its_window_if_postflight_fails() {
    let site = Site::start_with(careless(Postflight {
        then: Then::Stay,
        ..Postflight::default()
    }))
    .await;
    let back = |it: &mut pgdrain::runner::types::MigrationRequest| it.down_on_failure = true;
    let view = site.up_with(&files(DROP), back).await;
    assert_end(&view, RunState::Failed, 3);
    let report = view.report.as_ref().expect("a report");
    assert!(report.taken_back, "{report:#?}");
    assert!(failure(&view).starts_with("postflight: constraints"));
    assert_eq!(site.row(1).await, "reverted down 1/1");
    assert_eq!(site.row(2).await, "reverted down 1/1");
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
    // One window for the way there and back; what it was is known.
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    let same = "select fp_before = fp_after from pgdrain.run";
    assert_eq!(site.ask(same).await, "true");

    // A way back that fails is a failed rollback, with both reasons.
    let view = site.up_with(&files("drop table nowhere"), back).await;
    assert_end(&view, RunState::Failed, 4);
    let why = failure(&view);
    assert!(
        why.contains("postflight: constraints") && why.contains("nowhere"),
        "{why}"
    );
    let state = "select state from pgdrain.migration where version = '2'";
    assert_eq!(site.ask(state).await, "applied");

    // And one that is not there is seen before anything is held.
    let alone = [file("3_c.up.sql", "create table c (id int)")];
    let all = [files("drop table nowhere"), alone.to_vec()].concat();
    let view = site.up_with(&all, back).await;
    assert_end(&view, RunState::Failed, 1);
    let checks = texts(&view, EventKind::Check).join("\n");
    assert!(
        checks.contains("way_back FAILED: 3_c.up.sql has no way back"),
        "{checks}"
    );
}

#[tokio::test]
async fn a_hook_that_fails_behind_the_last_file_takes_it_back_too() {
    let site = Site::start_with(Options {
        hooks: vec![Hook {
            phase: HookPhase::AfterLastFile,
            name: "smoke".to_owned(),
            command: "false".to_owned(),
            timeout: Duration::from_secs(30),
            then: None,
        }],
        ..options()
    })
    .await;
    let view = site
        .up_with(&files(DROP), |it| it.down_on_failure = true)
        .await;
    assert_end(&view, RunState::Failed, 3);
    assert!(view.report.as_ref().is_some_and(|it| it.taken_back));
    assert_eq!(site.row(1).await, "reverted down 1/1");
    // As it was before, so that everybody may come in.
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
}

#[tokio::test]
async fn whoever_is_left_waiting_for_a_lock_is_named() {
    let mut site = Site::start_with(Options {
        preflight: Preflight {
            off: vec![PreflightCheck::BlockingLocks],
            ..Preflight::default()
        },
        postflight: Postflight {
            locks_time: Duration::from_millis(300),
            ..Postflight::default()
        },
        ..options()
    })
    .await;
    site.sql("create table x (a int)").await;
    let holder = site.postgres.connect(DATABASE).await;
    let held = holder.batch_execute("begin; lock table x in access exclusive mode");
    held.await.expect("a lock");
    // Who waited before the first file would be none of the run's; this one comes while it runs.
    let waiter = site.postgres.connect(DATABASE).await;
    let sql = "create table a (id int);\n\
        do $$ begin while not exists (select from pg_locks where not granted) loop \
        perform pg_sleep(0.05); end loop; end $$";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    site.running("do $$ begin while").await;
    let waits = Tasks::new().spawn("waiter", async move {
        waiter.batch_execute("begin; lock table x").await
    });
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 3);
    let locks = check(&view, "locks");
    assert!(
        locks
            .text
            .contains("waits for AccessExclusiveLock on public.x"),
        "{locks:?}"
    );
    holder.batch_execute("rollback").await.expect("the end");
    assert!(waits.await.expect("the waiter").is_ok());
    let view = site
        .up(&[
            file("1_a.up.sql", sql),
            file("2_b.up.sql", "create table b (id int)"),
        ])
        .await;
    assert_end(&view, RunState::Succeeded, 0);
}
