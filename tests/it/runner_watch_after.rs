//! After a run its database is watched: triggers are told, hold traffic, or take the run back; a restart
//! takes the watch up.

use std::path::Path;
use std::time::Duration;

use pgdrain::config::{
    Hook, HookPhase, HumanDuration, Thresholds, Trigger, TriggerAction, TriggerOn,
};
use pgdrain::runner::Options;
use pgdrain::runner::aftermath::{WatchState, WatchView};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, RunState, TrafficMode};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, file, options, request};
use crate::support::poll::{PATIENCE, SOON, eventually, until};

/// Options with a trigger on anybody who waits for a lock.
fn with(action: TriggerAction, state_dir: Option<&Path>) -> Options {
    let trigger = Trigger {
        on: TriggerOn::Blocked,
        above: 0,
        lasting: HumanDuration(Duration::ZERO),
        action,
        statement: None,
    };
    Options {
        triggers: vec![trigger],
        state_dir: state_dir.map(Path::to_owned),
        ..options()
    }
}

fn files() -> Vec<PostedFile> {
    vec![
        file("1_a.up.sql", "create table a ()"),
        file("1_a.down.sql", "drop table a"),
    ]
}

/// Runs files and asks for a watch.
async fn watched(site: &Site, files: &[PostedFile]) -> String {
    let view = site
        .up_with(files, |it| {
            it.watch = Some(HumanDuration(Duration::from_secs(600)))
        })
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    view.id
}

/// Somebody who holds a lock, and somebody who waits for it.
struct Queue {
    _holder: Client,
    _waiter: JoinSet<()>,
}

async fn queue(site: &mut Site) -> Queue {
    site.sql("create table u ()").await;
    let holder = site.postgres.connect(DATABASE).await;
    let hold = holder.batch_execute("begin; lock table u");
    hold.await.expect("a lock");
    let client = site.postgres.connect(DATABASE).await;
    let mut waiter = JoinSet::new();
    // However its wait ends: the test is about who looks on.
    waiter.spawn(async move { drop(client.batch_execute("select from u").await) });
    Queue {
        _holder: holder,
        _waiter: waiter,
    }
}

async fn view(site: &Site, state: WatchState) -> WatchView {
    eventually(&format!("{state:?}"), PATIENCE, async || {
        let view = site.runner.watching(DATABASE)?;
        (view.state == state).then_some(view)
    })
    .await
}

async fn events(site: &Site, kind: &str) -> String {
    site.ask(&format!(
        "select count(*) from pgdrain.event where type = '{kind}'"
    ))
    .await
}

#[tokio::test]
async fn a_trigger_is_told_and_the_watch_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut site = Site::start_with(with(TriggerAction::Alert, Some(dir.path()))).await;
    let run = watched(&site, &files()).await;
    let _queue = queue(&mut site).await;
    until("the trigger to fire", SOON, async || {
        let view = site.runner.watching(DATABASE);
        view.is_some_and(|it| it.fired.len() == 1 && it.fired[0].done == "told")
    })
    .await;
    let shown = site.status(&files()).await.after.expect("a watch");
    assert_eq!(
        (shown.run.as_str(), shown.state),
        (run.as_str(), WatchState::Watching)
    );
    assert_eq!(shown.worst.blocked, Some(1.0));
    let attached = site.runner.follow(&run, 0, Duration::ZERO).await;
    assert!(attached.expect("the run").after.is_some());
    let kept = dir.path().join(format!("watches/{run}.json"));
    assert!(kept.exists());
    assert!(site.runner.unwatch(DATABASE));
    view(&site, WatchState::Cancelled).await;
    assert!(!site.runner.unwatch(DATABASE));
    assert!(!kept.exists());
    assert_eq!(
        (
            events(&site, "trigger").await,
            events(&site, "watched").await
        ),
        ("1".into(), "1".into())
    );
}

#[tokio::test]
async fn a_run_is_taken_back_or_traffic_is_held() {
    let mut site = Site::start_with(with(TriggerAction::RollBack, None)).await;
    let run = watched(&site, &files()).await;
    let queue_now = queue(&mut site).await;
    let ended = view(&site, WatchState::RolledBack).await;
    assert_eq!(ended.run, run);
    assert!(
        ended.fired[0].done.starts_with("rolled back by run "),
        "{ended:?}"
    );
    assert_eq!(site.row(1).await, "reverted down 1/1");
    drop(queue_now);

    // Without a way back nothing is guessed.
    let waits = "select count(*) from pg_locks where not granted";
    until("nobody to wait", SOON, async || {
        site.ask(waits).await == "0"
    })
    .await;
    watched(&site, &[file("1_a.up.sql", "create table a ()")]).await;
    site.sql("drop table u").await;
    let _queue = queue(&mut site).await;
    let ended = view(&site, WatchState::Held).await;
    assert!(ended.fired[0].done.contains("traffic is held"), "{ended:?}");
    assert_eq!(site.row(1).await, "applied up 1/1");
    let log = site.windows.log();
    assert!(
        log.last()
            .is_some_and(|it| it.starts_with("hold: after run")),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_restart_takes_the_watch_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::start_with(with(TriggerAction::Hold, Some(dir.path()))).await;
    let run = watched(&site, &files()).await;
    let kept = dir.path().join(format!("watches/{run}.json"));
    until("it to be kept", SOON, async || kept.exists()).await;
    site.runner.stop_all();
    let Site { postgres, .. } = site;
    let mut site = Site::on(postgres, with(TriggerAction::Hold, Some(dir.path()))).await;
    assert!(site.runner.watching(DATABASE).is_none());
    site.runner.take_up_watches();
    assert_eq!(view(&site, WatchState::Watching).await.run, run);
    let _queue = queue(&mut site).await;
    view(&site, WatchState::Held).await;
    until("the file to be gone", SOON, async || !kept.exists()).await;
    let log = site.windows.log();
    assert!(
        log.last()
            .is_some_and(|it| it.contains("blocked above 0 for 0s")),
        "{log:?}"
    );
}

#[tokio::test]
async fn statements_are_held_against_their_means_before_the_run() {
    let settings = [("shared_preload_libraries", "pg_stat_statements")];
    let postgres = Postgres::start_with(&settings, &[]).await;
    let site = Site::on(postgres, with(TriggerAction::Alert, None)).await;
    site.sql("create extension pg_stat_statements; create function work() returns void language sql as 'select pg_sleep(0.01)'").await;
    for _ in 0..40 {
        site.sql("select work()").await;
    }
    let slow = file(
        "1_a.up.sql",
        "create or replace function work() returns void language sql as 'select pg_sleep(0.03)'",
    );
    watched(&site, &[slow]).await;
    let figure = eventually("the comparison", PATIENCE, async || {
        site.sql("select work()").await;
        site.runner.watching(DATABASE)?.now.slower_percent
    })
    .await;
    assert!(figure > 10.0, "{figure}");
}

#[tokio::test]
async fn the_watch_begins_when_traffic_is_let_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let go = dir.path().join("go");
    // Applications are back, and the run still waits for its last hook.
    let hook = Hook {
        phase: HookPhase::AfterReopening,
        name: "warm up".to_owned(),
        command: format!("until [ -e {} ]; do sleep 0.05; done", go.display()),
        timeout: PATIENCE,
        then: None,
    };
    let mut site = Site::start_with(Options {
        hooks: vec![hook],
        ..with(TriggerAction::RollBack, None)
    })
    .await;
    let mut request = request(Direction::Up, &files());
    request.watch = Some(HumanDuration(Duration::from_secs(600)));
    request.traffic = TrafficMode::Exclusive;
    let run = site.runner.start(DATABASE, request).expect("a run");
    assert_eq!(view(&site, WatchState::Watching).await.run, run);
    let now = site.runner.follow(&run, 0, Duration::ZERO).await;
    assert!(!now.expect("the run").state.is_final());
    // What a trigger does to the run waits for its end.
    let _queue = queue(&mut site).await;
    until("the trigger to be seen", SOON, async || {
        site.runner
            .watching(DATABASE)
            .is_some_and(|it| it.worst.blocked == Some(1.0))
    })
    .await;
    assert_eq!(site.row(1).await, "applied up 1/1");
    std::fs::write(&go, "").expect("room");
    assert_end(&site.end(&run).await, RunState::Succeeded, 0);
    view(&site, WatchState::RolledBack).await;
    assert_eq!(site.row(1).await, "reverted down 1/1");
}

#[tokio::test]
async fn what_row_level_security_costs_is_a_trigger() {
    let trigger = Trigger {
        on: TriggerOn::RlsMs,
        above: 5,
        lasting: HumanDuration(Duration::ZERO),
        action: TriggerAction::Alert,
        statement: None,
    };
    let site = Site::start_with(Options {
        triggers: vec![trigger],
        thresholds: Thresholds {
            rls_role: Some("app".to_owned()),
            ..Thresholds::default()
        },
        ..options()
    })
    .await;
    site.sql(
        "create role app; create table t as select 1 as a from generate_series(1, 200); \
         grant select on t to app; alter table t enable row level security; \
         create function slow(int) returns bool language plpgsql volatile as $$ begin \
             perform pg_sleep(0.0001); return true; end $$; create policy p on t to app using (true)",
    )
    .await;
    let dear = "-- pgdrain:changes row_security t\ndrop policy p on t; \
                create policy p on t to app using (slow(a))";
    watched(
        &site,
        &[file("1_a.up.sql", dear), file("1_a.down.sql", "select 1")],
    )
    .await;
    until("the trigger to fire", PATIENCE, async || {
        let view = site.runner.watching(DATABASE);
        view.is_some_and(|it| it.fired.len() == 1 && it.fired[0].figure > 5.0)
    })
    .await;
}
