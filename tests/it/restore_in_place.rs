//! A backup in the place of its database: what is lost is named, and the name always has a whole database.

use std::time::Duration;

use pgdrain::config::Verify;
use pgdrain::runner::restore::{InPlace, InPlaceRequest};
use pgdrain::runner::types::{RunState, RunView};
use pgdrain::runner::{Options, Runner};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use crate::support::backups::{Kept, backup};
use crate::support::cluster::Postgres;
use crate::support::migrations::{
    DATABASE, Windows, assert_end, endpoint, file, options, runner, text,
};
use crate::support::poll::{SOON, eventually, until};
use crate::support::tool;

/// Runs beside the test.
fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    TaskTracker::new().spawn(work)
}

/// What a dump has nothing of.
const BESIDE: &str = "
    create role app; create role \"Own er\" superuser;
    alter database postgres owner to \"Own er\";
    revoke all on database postgres from public;
    grant connect on database postgres to app with grant option;
    alter database postgres set work_mem = '7MB';
    alter database postgres set search_path = \"$user\", public;
    alter role app in database postgres set application_name = 'it''s';
    alter database postgres connection limit 77;
    comment on database postgres is 'the shop''s'";

/// The same, read back by somebody who knows nothing of how it was put back.
const LOOK: &str = "
    select concat_ws(' | ', pg_get_userbyid(datdba), datacl::text, datconnlimit, shobj_description(d.oid, 'pg_database'),
                     (select string_agg(setrole::regrole || setconfig::text, ' ' order by setrole)
                      from pg_db_role_setting where setdatabase = d.oid))
    from pg_database d where datname = 'postgres'";

/// Names of databases that begin so.
const OTHERS: &str =
    "select coalesce(string_agg(datname, ','), '') from pg_database where datname like 'pgdrain_%'";

/// A run that takes half of the rows, and writes behind it.
async fn spoilt(verify: Verify, more: &str) -> (Kept, String) {
    let kept = Kept::start(backup(verify)).await;
    let sql = "create table t as select i as a from generate_series(1, 10) i; \
               create table same as select 1 as a";
    kept.site.sql(&format!("{sql}; {more}")).await;
    let spoil = [file("1_a.up.sql", "delete from t where a > 5")];
    let view = kept.site.up(&spoil).await;
    assert_end(&view, RunState::Succeeded, 0);
    let later = "insert into t values (20), (21), (22); create table later as select 1 as a";
    kept.site.sql(later).await;
    (kept, view.id)
}

fn request(run: &str, confirm: Option<&str>) -> InPlaceRequest {
    InPlaceRequest {
        run: run.to_owned(),
        confirm: confirm.map(str::to_owned),
        by: Some("ann".to_owned()),
        reason: Some("the run was wrong".to_owned()),
        ..InPlaceRequest::default()
    }
}

async fn restore(runner: &Runner<Windows>, request: InPlaceRequest) -> Result<InPlace, String> {
    let done = runner.restore_in_place(DATABASE, request).await;
    done.map_err(|error| error.to_string())
}

/// What was lost, a line for each table.
fn lost(answer: &InPlace) -> Vec<String> {
    answer.lost.iter().map(ToString::to_string).collect()
}

/// A direct connection as soon as there is one: somebody may still be shut out.
async fn connect(postgres: &Postgres) -> (Client, JoinHandle<()>) {
    let url = postgres.url(DATABASE);
    eventually("a connection", SOON, async || {
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.ok()?;
        let driver = beside(async move { drop(connection.await) });
        Some((client, driver))
    })
    .await
}

const LOST: [&str; 2] = [
    "public.later: 1 rows, and it is not in the backup",
    "public.t: 8 rows, and 10 in the backup",
];

#[tokio::test]
async fn it_takes_the_place_and_what_is_lost_is_named() {
    let (mut kept, run) = spoilt(Verify::Restore, BESIDE).await;
    let before = kept.site.ask(LOOK).await;
    let told = restore(&kept.site.runner, request(&run, None)).await;
    let told = told.expect("an answer");
    assert!(!told.done && told.replaced.is_none(), "{told:?}");
    assert_eq!(lost(&told), LOST);
    let line = "rel public.later";
    assert!(
        told.lost_schema.iter().any(|it| it.starts_with(line)),
        "{told:?}"
    );
    assert_eq!(kept.site.ask(OTHERS).await, "");
    let windows = kept.site.windows.log().len();

    let confirmed = request(&run, Some(DATABASE));
    let done = restore(&kept.site.runner, confirmed).await.expect("done");
    assert_eq!((done.done, done.tables), (true, told.tables));
    assert_eq!(lost(&done), LOST);
    assert!(done.held_ms.is_some() && done.notes.is_empty(), "{done:?}");
    assert_eq!(kept.site.windows.log()[windows..], ["begin", "reopen"]);
    // Everybody was out; whoever comes back finds what was.
    assert!(kept.site.client.is_closed());
    kept.site.client = kept.site.postgres.connect(DATABASE).await;
    let rows = "select count(*) || ' ' || coalesce(to_regclass('later')::text, '-') from t";
    assert_eq!(kept.site.ask(rows).await, "10 -");
    assert_eq!(kept.site.ask(LOOK).await, before);
    let told = "select data ->> 'by' || ': ' || (data ->> 'reason') from pgdrain.event where type = 'restored'";
    assert_eq!(kept.site.ask(told).await, "ann: the run was wrong");
    // The one before is kept, for nobody but who looks.
    let name = done.replaced.expect("a name");
    assert_eq!(kept.site.ask(OTHERS).await, name);
    let limit = format!("select datconnlimit from pg_database where datname = '{name}'");
    assert_eq!(kept.site.ask(&limit).await, "0");
    let former = kept.site.postgres.connect(&name).await;
    assert_eq!(text(&former, "select count(*) from t").await, "8");
    // Migrations go on from there, and the kept one goes when its time has come and nobody is in it.
    let again = [file("1_a.up.sql", "delete from t where a > 9")];
    assert_end(&kept.site.up(&again).await, RunState::Succeeded, 0);
    let options = Options {
        backup: pgdrain::config::Backup {
            keep: Duration::ZERO,
            dir: Some(kept.dir.path().join("backups")),
            ..backup(Verify::None)
        },
        ..options()
    };
    let careless = runner(
        endpoint(&kept.site.postgres, "postgres"),
        options,
        &kept.site.own,
        &kept.site.windows,
    );
    let pruned = careless.prune(DATABASE).await.expect("an answer");
    assert!(
        pruned.replaced.is_empty() && pruned.failed.len() == 1,
        "{pruned:?}"
    );
    drop(former);
    until("the former one is gone", SOON, async || {
        careless.prune(DATABASE).await.expect("an answer").replaced == [name.clone()]
    })
    .await;
    assert_eq!(kept.site.ask(OTHERS).await, "");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_nothing_changed() {
    let (mut kept, run) = spoilt(Verify::List, "create role plain login createdb").await;
    let site = &kept.site;
    let mut refused = Vec::new();
    for wrong in [request(&run, Some("shop")), request("0-0", Some(DATABASE))] {
        refused.push(restore(&site.runner, wrong).await.expect_err("refused"));
    }
    let confirmed = || request(&run, Some(DATABASE));
    site.sql("begin; insert into t values (1); prepare transaction 'mine'")
        .await;
    refused.push(
        restore(&site.runner, confirmed())
            .await
            .expect_err("refused"),
    );
    site.sql("rollback prepared 'mine'").await;
    site.sql("select pg_advisory_lock(1885824114, 0)").await;
    refused.push(
        restore(&site.runner, confirmed())
            .await
            .expect_err("refused"),
    );
    site.sql("select pg_advisory_unlock(1885824114, 0)").await;
    site.windows
        .set(crate::support::migrations::Behaviour::Refuse);
    refused.push(
        restore(&site.runner, confirmed())
            .await
            .expect_err("refused"),
    );
    site.windows
        .set(crate::support::migrations::Behaviour::Grant);
    let options = Options {
        backup: pgdrain::config::Backup {
            dir: Some(kept.dir.path().join("backups")),
            ..backup(Verify::List)
        },
        ..options()
    };
    let endpoint = endpoint(&site.postgres, "plain");
    let plain = runner(endpoint, options, &site.own, &site.windows);
    refused.push(restore(&plain, confirmed()).await.expect_err("refused"));
    for (refused, why) in refused.iter().zip([
        "what is confirmed is shop, and the database is postgres",
        "no backup of run 0-0",
        "what would not come along is in the way: prepared transaction mine",
        "another migration holds the lock",
        "no window: process 7 is in the way",
        "takes a superuser",
    ]) {
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(kept.site.ask("select count(*) from t").await, "8");
    assert_eq!(kept.site.ask(OTHERS).await, "");
    // Who does not look at the schema of the backup is told; a backup that is not as it was verified is none.
    let told = restore(&kept.site.runner, request(&run, None)).await;
    let told = told.expect("an answer");
    assert!(told.notes[0].starts_with("the backup was not compared"));
    let manifest = kept.place().join(&run).join("manifest.json");
    let mut written = kept.manifest(&run);
    written["verified"]["fingerprint"] = "00".into();
    std::fs::write(&manifest, written.to_string()).expect("room");
    let refused = restore(&kept.site.runner, confirmed()).await;
    let refused = refused.expect_err("refused");
    assert!(refused.contains("is not what was verified"), "{refused}");
    kept.site.client = kept.site.postgres.connect(DATABASE).await;
    assert_eq!(kept.site.ask("select count(*) from t").await, "8");
    assert_eq!(kept.site.ask(OTHERS).await, "");
}

/// Each of what it says on its way.
const STEPS: [&str; 6] = [
    "looking whether",
    "restoring the backup",
    "asking for an exclusive window",
    "swapping the names",
    "the names are swapped",
    "letting traffic in",
];

/// Waits until the run of a runner has said so; it may be over before.
async fn said(runner: &Runner<Windows>, step: &str) -> RunView {
    let id = eventually("the run", SOON, async || {
        let runs = runner.list(DATABASE);
        runs.last().map(|it| it.id.clone())
    })
    .await;
    let mut after = 0;
    loop {
        let view = runner.follow(&id, after, Duration::from_millis(200)).await;
        let view = view.expect("the run");
        if view.state.is_final() || view.events.iter().any(|it| it.text.starts_with(step)) {
            return view;
        }
        after = view.events.last().map_or(after, |it| it.seq);
    }
}

/// What the name has: the rows of the old database, or of the backup.
async fn whole(postgres: &Postgres) -> bool {
    let (client, driver) = connect(postgres).await;
    let rows = text(&client, "select count(*) from t").await;
    let later = text(&client, "select to_regclass('later')").await;
    drop(client);
    driver.await.expect("no panic");
    match (rows.as_str(), later.as_str()) {
        ("8", "later") => false,
        ("10", "null") => true,
        other => panic!("neither the one nor the other: {other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_that_is_killed_at_any_step_leaves_one_of_the_two() {
    let (mut kept, run) = spoilt(Verify::List, "").await;
    for step in STEPS {
        let options = Options {
            backup: pgdrain::config::Backup {
                dir: Some(kept.dir.path().join("backups")),
                ..backup(Verify::List)
            },
            ..options()
        };
        let endpoint = endpoint(&kept.site.postgres, "postgres");
        let (own, windows) = (kept.site.own.clone(), kept.site.windows.clone());
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let doomed = runner(endpoint, options, &own, &windows);
        let (theirs, asked) = (doomed.clone(), request(&run, Some(DATABASE)));
        process.spawn(async move { theirs.restore_in_place(DATABASE, asked).await });
        said(&doomed, step).await;
        process.shutdown_background();
        let swapped = whole(&kept.site.postgres).await;
        if STEPS[..3].contains(&step) {
            assert!(!swapped, "killed at: {step}");
        }
        // What it left is in nobody's way, and the next one ends well.
        let again = eventually("another one", SOON, async || {
            let again = restore(&kept.site.runner, request(&run, Some(DATABASE))).await;
            again.ok()
        })
        .await;
        assert!(again.done && whole(&kept.site.postgres).await);
        kept.site.client = kept.site.postgres.connect(DATABASE).await;
        let left = kept.site.ask(OTHERS).await;
        assert!(!left.contains("pgdrain_restore_"), "{left}");
        // As it was, for the next.
        let spoil = "delete from t where a > 5; insert into t values (20), (21), (22); \
                     create table later as select 1 as a";
        kept.site.sql(spoil).await;
    }
}

#[tokio::test]
async fn a_server_that_crashes_at_any_step_leaves_one_of_the_two() {
    let (mut kept, run) = spoilt(Verify::List, "").await;
    for step in &STEPS[1..] {
        let theirs = kept.site.runner.clone();
        let asked = request(&run, Some(DATABASE));
        let done = beside(async move { restore(&theirs, asked).await });
        // Its own run, not the one before.
        until("it runs", SOON, async || {
            kept.site.runner.live(DATABASE).is_some()
        })
        .await;
        said(&kept.site.runner, step).await;
        kept.site.postgres.crash().await.expect("a crash");
        kept.site.postgres.start().await.expect("a server");
        let done = done.await.expect("no panic");
        let swapped = whole(&kept.site.postgres).await;
        // It says what is the case.
        match done {
            Ok(done) => assert!(done.done && swapped, "{step}: {done:?}"),
            Err(why) => assert!(!swapped && !why.contains("not known"), "{step}: {why}"),
        }
        kept.site.client = kept.site.postgres.connect(DATABASE).await;
        if swapped {
            let spoil = "delete from t where a > 5; insert into t values (20), (21), (22); \
                         create table later as select 1 as a";
            kept.site.sql(spoil).await;
        }
    }
}

/// Whoever may log in past all gates keeps coming.
#[tokio::test]
async fn those_who_come_back_again_and_again_are_ended_again_and_again() {
    let (kept, run) = spoilt(Verify::List, "").await;
    let url = kept.site.postgres.url(DATABASE);
    let comer = beside(async move {
        loop {
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            if let Ok((client, connection)) = connected {
                let busy = client.batch_execute("select pg_sleep(600)");
                tokio::select! {
                    _ = busy => {}
                    _ = connection => {}
                }
            }
        }
    });
    let done = restore(&kept.site.runner, request(&run, Some(DATABASE))).await;
    comer.abort();
    assert!(done.expect("done").done);
    assert!(whole(&kept.site.postgres).await);
}

#[tokio::test]
async fn the_command_says_what_would_be_lost_and_clients_wait_meanwhile() {
    let mut postgres = Postgres::start().await;
    let sql = "create table t as select i as a from generate_series(1, 10) i";
    postgres.execute(sql).await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("migrations")).expect("a directory");
    let files = dir.path().join("migrations");
    std::fs::write(files.join("1_a.up.sql"), "delete from t").expect("room");
    let path = |name: &str| tool::program(name).display().to_string();
    let backups = dir.path().join("backups").display().to_string();
    let settings = [
        ("MIGRATE_BACKUP_DIR", &*backups),
        ("MIGRATE_BACKUP_PG_DUMP", &path("pg_dump")),
        ("MIGRATE_BACKUP_PG_RESTORE", &path("pg_restore")),
    ];
    let proxy = crate::support::proxy::Proxy::start_set(&postgres, &settings).await;
    let files = files.display().to_string();
    let up = proxy
        .run(&["migrate", "up", DATABASE, "--dir", &files])
        .await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let listed = proxy.run(&["migrate", "backups", DATABASE, "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let run = listed["backups"][0]["run"].as_str().expect("a run");

    let mut before = proxy.session(DATABASE).await;
    before.execute("insert into t values (1)").await;
    let ask = ["migrate", "restore", DATABASE, run, "--in-place"];
    let told = proxy.run(&ask).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for said in [
        "nothing was changed",
        "public.t: 1 rows, and 10 in the backup",
        "--confirm postgres does it",
    ] {
        assert!(told.stdout.contains(said), "{told:?}");
    }
    assert_eq!(before.query_one("select count(*) from t").await, "1");

    // Clients that come and ask all the while.
    let url = proxy.url(DATABASE);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let client = beside(async move {
        let mut counts = Vec::new();
        while !*stopped.borrow() {
            let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
            let (client, connection) = connected.expect("a login that waits rather than fails");
            let driver = beside(async move { drop(connection.await) });
            match client.query_one("select count(*) from t", &[]).await {
                Ok(row) => counts.push(row.get::<_, i64>(0)),
                // Ended while it waited, and told that nothing of it was done.
                Err(error) => {
                    assert_eq!(error.code().map(|it| it.code()), Some("57P01"), "{error}")
                }
            }
            drop(client);
            driver.await.expect("no panic");
        }
        counts
    });
    let done = proxy
        .run(
            &[
                ask.as_slice(),
                &["--confirm", DATABASE, "--reason", "it was wrong"],
            ]
            .concat(),
        )
        .await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stdout.contains("is kept as pgdrain_replaced_"),
        "{done:?}"
    );
    before.read_to_end().await;
    let mut after = proxy.session(DATABASE).await;
    assert_eq!(after.query_one("select count(*) from t").await, "10");
    stop.send_replace(true);
    let counts = client.await.expect("no panic");
    // One after the other, and nothing between.
    assert!(
        counts.is_sorted() && counts.iter().all(|it| matches!(it, 1 | 10)),
        "{counts:?}"
    );
    // The limit of connections is what it was: nobody is shut out.
    let limit = "select datconnlimit::text from pg_database where datname = 'postgres'";
    until("the fence is down", SOON, async || {
        after.query_one(limit).await == "-1"
    })
    .await;
}
