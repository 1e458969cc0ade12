//! Commands at the phases of a run: in order, with what they are told, and what becomes of one that
//! fails, hangs, or runs while everything stops.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgdrain::config::{Hook, HookPhase, Then};
use pgdrain::runner::Options;
use pgdrain::runner::types::{Direction, RunState, RunView};

use crate::support::backups::noted;
use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, failure, file, options, request,
};
use crate::support::poll::{SOON, until};

fn hook(phase: HookPhase, command: &str) -> Hook {
    Hook {
        phase,
        name: "lb".to_owned(),
        command: command.to_owned(),
        timeout: Duration::from_secs(60),
        then: None,
    }
}

fn with(hooks: Vec<Hook>) -> Options {
    Options { hooks, ..options() }
}

const ALL: [HookPhase; 8] = [
    HookPhase::BeforePreflight,
    HookPhase::BeforeBackup,
    HookPhase::BeforeWindow,
    HookPhase::WindowOpen,
    HookPhase::AfterLastFile,
    HookPhase::BeforeReopening,
    HookPhase::AfterReopening,
    HookPhase::OnFailure,
];

/// A hook for each phase that adds a line to a file.
fn writers(file: &Path) -> Vec<Hook> {
    let line = format!(
        "echo \"$PGDRAIN_PHASE $PGDRAIN_STATE $PGDRAIN_DATABASE $PGDRAIN_DIRECTION by $PGDRAIN_BY \
         ${{PGDRAIN_EXIT_CODE:--}} ${{PGDRAIN_FAILURE:+failed}}${{PGPASSWORD:+secret}}\" >>{}",
        file.display()
    );
    ALL.into_iter().map(|phase| hook(phase, &line)).collect()
}

/// What the hooks of a run have failed with.
fn failed_hooks(view: &RunView) -> Vec<(HookPhase, String)> {
    let report = view.report.as_ref().expect("a report");
    let hooks = report.hooks.iter();
    hooks
        .filter_map(|it| Some((it.phase, it.failure.clone()?)))
        .collect()
}

#[tokio::test]
async fn each_runs_at_its_phase_and_is_told_where_the_run_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let site = Site::start_with(with(writers(&log))).await;
    // A window, files in open traffic, and a window again.
    let files = [
        file("1_a.up.sql", "create table a (b int)"),
        file("2_b.up.sql", "create index concurrently c on a (b)"),
        file("3_c.up.sql", "alter table a add d int"),
    ];
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let told = |phase_and_state: &str| format!("{phase_and_state} postgres up by a test - ");
    let expected: Vec<_> = [
        "before_preflight preflight",
        "before_window preflight",
        "window_open applying",
        "before_reopening applying",
        "after_reopening reopening",
        "before_window applying",
        "window_open applying",
        "after_last_file applying",
        "before_reopening applying",
        "after_reopening reopening",
    ]
    .into_iter()
    .map(told)
    .collect();
    let lines = fs::read_to_string(&log).expect("hooks ran");
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    // Nothing to do: nothing but the first.
    fs::remove_file(&log).expect("it is there");
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    let lines = fs::read_to_string(&log).expect("a hook ran");
    assert_eq!(lines, told("before_preflight preflight") + "\n");

    // A run that fails says so to those that come after.
    fs::remove_file(&log).expect("it is there");
    let mut files = files.to_vec();
    files.push(file("4_d.up.sql", "select 1 / 0"));
    assert_end(&site.up(&files).await, RunState::Failed, 2);
    let lines = fs::read_to_string(&log).expect("hooks ran");
    let after: Vec<_> = lines.lines().skip(3).collect();
    assert_eq!(
        after,
        [
            "before_reopening failed postgres up by a test 2 failed",
            "after_reopening failed postgres up by a test 2 failed",
            "on_failure failed postgres up by a test 2 failed",
        ]
    );
}

#[tokio::test]
async fn one_that_fails_before_the_window_ends_the_run_with_nothing_changed() {
    for phase in [HookPhase::BeforePreflight, HookPhase::BeforeWindow] {
        let hooks = vec![
            hook(
                phase,
                "echo first >&2; echo the balancer is away >&2; exit 3",
            ),
            hook(phase, "exit 0"),
        ];
        let site = Site::start_with(with(hooks)).await;
        let view = site.up(&[file("1_a.up.sql", "create table a ()")]).await;
        assert_end(&view, RunState::Failed, 1);
        let told = failure(&view);
        assert!(
            told.starts_with("lb failed") && told.ends_with("the balancer is away"),
            "{told}"
        );
        let failed = failed_hooks(&view);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(view.report.expect("a report").hooks.len(), 1);
        assert!(site.windows.log().is_empty());
        assert_eq!(site.ask("select to_regclass('a')").await, "null");
    }
}

#[tokio::test]
async fn one_that_fails_in_the_window_is_a_failed_validation_and_says_what_traffic_does() {
    let files = [file("1_a.up.sql", "create table a ()")];
    for (phase, then, held, applied) in [
        (HookPhase::WindowOpen, None, false, false),
        (HookPhase::WindowOpen, Some(Then::Stay), true, false),
        (HookPhase::AfterLastFile, None, true, true),
        (HookPhase::AfterLastFile, Some(Then::Open), false, true),
        (HookPhase::BeforeReopening, None, true, true),
    ] {
        let hook = Hook {
            then,
            ..hook(phase, "echo smoke >&2; exit 1")
        };
        let site = Site::start_with(with(vec![hook])).await;
        let view = site.up(&files).await;
        assert_end(&view, RunState::Failed, 3);
        let end = match held {
            true => format!("held: {}", failure(&view)),
            false => "reopen".to_owned(),
        };
        assert_eq!(site.windows.log(), ["begin", &end], "{phase} {then:?}");
        let there = site.ask("select to_regclass('a') is not null").await;
        assert_eq!(there, applied.to_string(), "{phase} {then:?}");
        let recorded = site
            .ask("select exit_code || ' ' || (report->'hooks'->0->>'name') from pgdrain.run")
            .await;
        assert_eq!(recorded, "3 lb");
    }
}

#[tokio::test]
async fn after_reopening_and_after_a_failure_one_that_fails_is_noted() {
    let hooks = vec![
        hook(HookPhase::AfterReopening, "exit 1"),
        hook(HookPhase::OnFailure, "exit 1"),
    ];
    let site = Site::start_with(with(hooks)).await;
    let view = site.up(&[file("1_a.up.sql", "create table a ()")]).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(noted(&view, "after_reopening: lb failed"), "{view:#?}");
    let mut files = vec![file("1_a.up.sql", "create table a ()")];
    files.push(file("2_b.up.sql", "select 1 / 0"));
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(noted(&view, "on_failure: lb failed"), "{view:#?}");
    assert!(failure(&view).contains("division by zero"));
}

#[tokio::test]
async fn one_that_does_not_end_is_ended_by_its_time_by_the_window_and_by_people() {
    let dir = tempfile::tempdir().expect("a directory");
    let begun = dir.path().join("begun");
    let sleeps = format!("touch {}; sleep 600", begun.display());
    let files = [file("1_a.up.sql", "create table a ()")];

    let slow = Hook {
        timeout: Duration::from_millis(100),
        ..hook(HookPhase::BeforeWindow, &sleeps)
    };
    let site = Site::start_with(with(vec![slow])).await;
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    assert_eq!(failure(&view), "lb did not end within 100ms and was ended");

    let site = Site::start_with(with(vec![hook(HookPhase::AfterLastFile, &sleeps)])).await;
    site.windows
        .set(Behaviour::GrantFor(Duration::from_millis(500)));
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 3);
    let told = "lb was ended: cancelled because the window has reached its end";
    assert_eq!(failure(&view), told);
    assert_eq!(site.windows.log(), ["begin", &format!("held: {told}")]);

    // The hooks that clean up run all the same.
    fs::remove_file(&begun).expect("it began");
    let cleaned = dir.path().join("cleaned");
    let hooks = vec![
        hook(HookPhase::WindowOpen, &sleeps),
        hook(
            HookPhase::AfterReopening,
            &format!("touch {}", cleaned.display()),
        ),
    ];
    let site = Site::start_with(with(hooks)).await;
    let id = site
        .runner
        .start(DATABASE, request(Direction::Up, &files))
        .expect("a run");
    until("the hook", SOON, async || begun.exists()).await;
    assert!(site.runner.cancel(&id, "ann"));
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(failure(&view), "cancelled by ann");
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
    assert!(cleaned.exists());
}
