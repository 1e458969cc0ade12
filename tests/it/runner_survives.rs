//! Whatever is killed, and whenever: afterwards it is known what became of each migration.

use std::time::Duration;

use pgdrain::cli::demo::cluster::Shutdown;
use pgdrain::config::Host;
use pgdrain::runner::recover::{Outcome, Recovery};
use pgdrain::runner::types::{Direction, RunState};

use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, endpoint, failure, file, options, request, runner,
};
use crate::support::poll::{SOON, eventually, until};

pub(crate) mod cutter;

use cutter::{Cut, Cutter};

impl Site {
    pub(crate) async fn kill(&self, pid: i32) {
        self.sql(&format!("select pg_terminate_backend({pid})"))
            .await;
    }

    /// Runs files in a runner whose process dies when `until` is over, as by SIGKILL: its sockets
    /// close and nobody is left to hear an answer.
    pub(crate) async fn run_and_die(
        &self,
        files: &[pgdrain::runner::source::PostedFile],
        until: impl AsyncFnOnce(),
    ) {
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let files = files.to_vec();
        let endpoint = endpoint(&self.postgres, "postgres");
        let (own, windows) = (self.own.clone(), self.windows.clone());
        process.spawn(async move {
            let runner = runner(endpoint, options(), &own, &windows);
            runner
                .start(DATABASE, request(Direction::Up, &files))
                .expect("a run");
            std::future::pending::<()>().await;
        });
        until().await;
        process.shutdown_background();
    }

    pub(crate) async fn recover(&self) -> Recovery {
        self.runner
            .recover(DATABASE, Duration::from_secs(20))
            .await
            .expect("a recovery")
    }
}

fn outcomes(recovery: &Recovery) -> Vec<(&str, &Outcome)> {
    recovery
        .resolved
        .iter()
        .map(|it| (it.name.as_str(), &it.outcome))
        .collect()
}

const SLEEPER: &str = "create table a ();\nselect pg_sleep(600)";

#[tokio::test]
async fn a_killed_backend_in_a_statement_means_rolled_back() {
    let site = Site::start().await;
    let id = site.begin(&[file("1_a.up.sql", SLEEPER)]);
    site.kill(site.running("select pg_sleep").await).await;
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).starts_with("1_a.up.sql, statement 2 of 2, line 2: ERROR 57P01"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "failed up 0/2");
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
}

#[tokio::test]
async fn a_killed_backend_in_a_concurrent_statement_means_dirty() {
    let mut site = Site::start().await;
    site.sql("create table t (a int)").await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table t in row exclusive mode")
        .await
        .unwrap();
    let sql = "select 1;\ncreate index concurrently t_a on t (a)";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    site.kill(site.running("create index").await).await;
    let view = site.end(&id).await;
    assert_end(&view, RunState::Dirty, 2);
    assert_eq!(site.row(1).await, "dirty up 1/2");
    assert!(site.windows.log()[1].starts_with("held: "));
}

#[tokio::test]
async fn a_killed_backend_between_two_statements_is_noticed() {
    let mut site = Site::start().await;
    // The first run makes the tables; then the count of a statement can be made to wait.
    assert_end(
        &site.up(&[file("1_a.up.sql", "select 1")]).await,
        RunState::Succeeded,
        0,
    );
    let sql = "vacuum;\nselect pg_sleep(0.5);\ncreate table b ()";
    let files = [file("1_a.up.sql", "select 1"), file("2_b.up.sql", sql)];
    let id = site.begin(&files);
    let pid = site.running("select pg_sleep").await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; select from pgdrain.migration where version = '2' for update")
        .await
        .unwrap();
    let waits = "select count(*) from pg_stat_activity where application_name = 'pgdrain migrate' \
                 and wait_event_type = 'Lock'";
    until("the count to wait", SOON, async || {
        site.ask(waits).await == "1"
    })
    .await;
    site.kill(pid).await;
    other.batch_execute("commit").await.unwrap();
    let view = site.end(&id).await;
    // The statement and its count are one transaction.
    assert_end(&view, RunState::Dirty, 2);
    assert_eq!(site.row(2).await, "dirty up 1/3");
    assert!(
        failure(&view).starts_with("2_b.up.sql, statement 2 of 3, line 2: "),
        "{}",
        failure(&view)
    );
}

#[tokio::test]
async fn a_killed_ledger_is_brought_back_to_life() {
    let site = Site::start().await;
    let vacuum = "vacuum;\nselect pg_sleep(0.5)";
    for (version, sql) in [(1, "select 1;\nselect pg_sleep(0.5)"), (2, vacuum)] {
        let files: Vec<_> = [(1, "select 1;\nselect pg_sleep(0.5)"), (2, vacuum)]
            .iter()
            .take(version)
            .map(|(version, sql)| file(&format!("{version}_a.up.sql"), sql))
            .collect();
        let id = site.begin(&files);
        site.running("select pg_sleep").await;
        let ledger = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'";
        assert_eq!(site.ask(ledger).await, "true", "{sql}");
        assert_end(&site.end(&id).await, RunState::Succeeded, 0);
        assert_eq!(site.row(version as u64).await, "applied up 2/2");
    }
    assert_eq!(
        site.ask("select count(*) from pgdrain.run where state = 'succeeded'")
            .await,
        "2"
    );
}

#[tokio::test]
async fn a_killed_backend_at_commit_means_rolled_back() {
    let site = Site::start().await;
    slow_commit(&site).await;
    let id = site.begin(&[file("1_a.up.sql", "insert into slow values (1)")]);
    site.kill(site.running("commit").await).await;
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(failure(&view).contains("at COMMIT"), "{}", failure(&view));
    assert_eq!(site.row(1).await, "failed up 0/1");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_committed() {
    let site = Site::start().await;
    let cutter = Cutter::start(site.postgres.addr(), "commit\0", Cut::AfterAnswer).await;
    let view = through(&site, &cutter).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(cutter.has_cut());
    assert_eq!(site.row(1).await, "applied up 1/1");
    assert!(
        view.events
            .iter()
            .any(|it| it.text.contains("the answer was lost")),
        "{view:#?}"
    );
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_found_rolled_back() {
    let site = Site::start().await;
    let cutter = Cutter::start(site.postgres.addr(), "commit\0", Cut::Before).await;
    let view = through(&site, &cutter).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(cutter.has_cut());
    assert_eq!(site.row(1).await, "failed up 0/1");
}

#[tokio::test]
async fn a_commit_that_outlives_its_connection_is_waited_for() {
    let site = Site::start().await;
    slow_commit(&site).await;
    // The connection ends while the server is still busy committing, and does not notice.
    let cutter = Cutter::start(site.postgres.addr(), "commit\0", Cut::After).await;
    let mut endpoint = endpoint(&site.postgres, "postgres");
    endpoint.hosts = vec![Host::Tcp {
        name: "127.0.0.1".to_owned(),
        port: cutter.port(),
    }];
    let runner = runner(endpoint, options(), &site.own, &site.windows);
    let files = [file(
        "1_a.up.sql",
        "set client_connection_check_interval = 0; insert into slow values (0.7)",
    )];
    let id = runner
        .start(DATABASE, request(Direction::Up, &files))
        .unwrap();
    let view = crate::support::migrations::end(&runner, &id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "applied up 2/2");
}

/// Inserts into `slow` make the commit take that many seconds.
pub(crate) async fn slow_commit(site: &Site) {
    site.sql(
        "create table slow (seconds float); \
         create function sleep() returns trigger language plpgsql as \
         $$ begin perform pg_sleep(case new.seconds when 1 then 600 else new.seconds end); return null; end $$; \
         create constraint trigger sleep after insert on slow deferrable initially deferred \
         for each row execute function sleep()",
    )
    .await;
}

async fn through(site: &Site, cutter: &Cutter) -> pgdrain::runner::types::RunView {
    let mut endpoint = endpoint(&site.postgres, "postgres");
    endpoint.hosts = vec![Host::Tcp {
        name: "127.0.0.1".to_owned(),
        port: cutter.port(),
    }];
    let runner = runner(endpoint, options(), &site.own, &site.windows);
    let files = [file("1_a.up.sql", "create table a ()")];
    let id = runner
        .start(DATABASE, request(Direction::Up, &files))
        .expect("a run");
    crate::support::migrations::end(&runner, &id).await
}

#[tokio::test]
async fn a_crash_of_the_server_is_waited_out_by_a_living_runner() {
    let mut site = Site::start().await;
    for how in [Some(Shutdown::Immediate), Some(Shutdown::Fast), None] {
        let id = site.begin(&[file("1_a.up.sql", SLEEPER)]);
        site.running("select pg_sleep").await;
        match how {
            Some(how) => site.postgres.stop(how).await.unwrap(),
            None => site.postgres.crash().await.unwrap(),
        }
        site.postgres.start().await.unwrap();
        site.client = site.postgres.connect(DATABASE).await;
        let view = site.end(&id).await;
        assert_end(&view, RunState::Failed, 2);
        assert_eq!(site.row(1).await, "failed up 0/2");
    }
    assert_eq!(
        site.ask("select count(*) from pgdrain.run where state = 'failed'")
            .await,
        "3"
    );
}

#[tokio::test]
async fn a_server_that_does_not_come_back_leaves_the_end_unknown_and_traffic_held() {
    let mut options = options();
    options.settle_wait = Duration::from_millis(300);
    options.lock_wait = Duration::from_millis(300);
    let mut site = Site::start_with(options).await;
    let id = site.begin(&[file("1_a.up.sql", SLEEPER)]);
    site.running("select pg_sleep").await;
    site.postgres.crash().await.unwrap();
    let view = site.end(&id).await;
    assert_end(&view, RunState::Unknown, 2);
    assert!(site.windows.log()[1].starts_with("held: how a migration ended is not known"));

    site.postgres.start().await.unwrap();
    site.client = site.postgres.connect(DATABASE).await;
    let recovery = site.recover().await;
    assert_eq!(outcomes(&recovery), [("1_a", &Outcome::RolledBack)]);
    assert_eq!(recovery.reason_to_stay_held(), None);
    assert_eq!(site.row(1).await, "failed up 0/2");
    assert_eq!(site.ask("select state from pgdrain.run").await, "lost");
}

#[tokio::test]
async fn a_dead_proxy_in_a_transaction_is_recovered_as_rolled_back() {
    let site = Site::start().await;
    let files = [
        file("1_done.up.sql", "select 1"),
        file("2_a.up.sql", SLEEPER),
    ];
    site.run_and_die(&files, async || {
        site.running("select pg_sleep").await;
    })
    .await;
    let recovery = site.recover().await;
    let found = outcomes(&recovery);
    assert_eq!(
        found,
        [("1_done", &Outcome::Applied), ("2_a", &Outcome::RolledBack)]
    );
    assert_eq!(site.row(1).await, "applied up 1/1");
    assert_eq!(site.row(2).await, "failed up 0/2");
    // Again: nothing is left to resolve, and nothing changes.
    assert_eq!(site.recover().await, Recovery::default());
}

#[tokio::test]
async fn a_dead_proxy_at_commit_is_recovered_as_what_the_server_decided() {
    let site = Site::start().await;
    slow_commit(&site).await;
    let sql = "set client_connection_check_interval = 0; insert into slow values (1.5)";
    site.run_and_die(&[file("1_a.up.sql", sql)], async || {
        site.running("commit").await;
    })
    .await;
    let recovery = site.recover().await;
    assert_eq!(outcomes(&recovery), [("1_a", &Outcome::Applied)]);
    assert_eq!(site.row(1).await, "applied up 2/2");
    assert_eq!(site.recover().await, Recovery::default());
}

#[tokio::test]
async fn a_dead_proxy_in_a_concurrent_statement_is_recovered_as_dirty() {
    let mut site = Site::start().await;
    site.sql("create table t (a int)").await;
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table t in row exclusive mode")
        .await
        .unwrap();
    let files = [file(
        "1_a.up.sql",
        "select 1;\ncreate index concurrently t_a on t (a)",
    )];
    site.run_and_die(&files, async || {
        site.running("create index").await;
    })
    .await;
    let recovery = site.recover().await;
    assert_eq!(
        outcomes(&recovery),
        [(
            "1_a",
            &Outcome::Dirty {
                statement: 2,
                of: 2
            }
        )]
    );
    let why = recovery.reason_to_stay_held().unwrap();
    assert!(
        why.starts_with("1_a (up) stopped at statement 2 of 2"),
        "{why}"
    );
    // Repeated, the dirty state is still named.
    let again = site.recover().await;
    assert!(again.resolved.is_empty());
    assert_eq!(again.reason_to_stay_held().as_deref(), Some(why.as_str()));
}

#[tokio::test]
async fn a_process_that_outlives_its_proxy_is_named_and_not_touched() {
    let site = Site::start().await;
    // Without the check the server does not notice that nobody is left.
    let sql = "set client_connection_check_interval = 0;\nselect pg_sleep(3)";
    site.run_and_die(&[file("1_a.up.sql", sql)], async || {
        site.running("select pg_sleep").await;
    })
    .await;
    let recovery = eventually("the lock to be free", SOON, async || {
        site.runner
            .recover(DATABASE, Duration::from_millis(300))
            .await
            .ok()
    })
    .await;
    assert!(
        matches!(
            outcomes(&recovery)[..],
            [("1_a", Outcome::StillRunning { .. })]
        ),
        "{recovery:?}"
    );
    assert!(
        recovery
            .reason_to_stay_held()
            .unwrap()
            .contains("still runs 1_a")
    );
    // Nor does a new run get past it.
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    if view.state == RunState::Failed {
        assert_eq!(view.exit_code, Some(1));
    }
    let recovery = site.recover().await;
    assert!(recovery.reason_to_stay_held().is_none(), "{recovery:?}");
}

#[tokio::test]
async fn a_new_run_recovers_what_the_last_one_left() {
    let mut site = Site::start().await;
    site.run_and_die(&[file("1_a.up.sql", SLEEPER)], async || {
        site.running("select pg_sleep").await;
    })
    .await;
    site.postgres.crash().await.unwrap();
    site.postgres.start().await.unwrap();
    site.client = site.postgres.connect(DATABASE).await;
    let view = site.up(&[file("1_a.up.sql", "create table a ()")]).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(
        view.events
            .iter()
            .any(|it| it.text == "an earlier run was lost while it ran 1_a")
    );
    let runs = "select string_agg(state, ' ' order by started_at) from pgdrain.run";
    assert_eq!(site.ask(runs).await, "lost succeeded");
}

#[tokio::test]
async fn a_dead_proxy_before_its_window_leaves_nothing_to_resolve() {
    let site = Site::start().await;
    site.windows.set(Behaviour::Drain);
    site.run_and_die(&[file("1_a.up.sql", SLEEPER)], async || {
        until("the drain", SOON, async || site.windows.log() == ["begin"]).await;
    })
    .await;
    assert_eq!(site.recover().await, Recovery::default());
    assert_eq!(site.ask("select state from pgdrain.run").await, "lost");
}
