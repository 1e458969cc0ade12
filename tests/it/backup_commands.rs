//! Backups by the commands of a shell, and through a proxy that is killed while it makes one.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::backups::names;
use crate::support::cluster::Postgres;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::tool;

const DB: &str = "postgres";

/// A proxy that backs up into a directory, and a directory of migrations.
async fn start(postgres: &Postgres, dir: &Path) -> Proxy {
    fs::create_dir(dir.join("migrations")).expect("a directory");
    let file = dir.join("migrations/1_a.up.sql");
    fs::write(file, "create table made ()").expect("room");
    let path = |name: &str| tool::program(name).display().to_string();
    let backups = dir.join("backups").display().to_string();
    let settings = [
        ("MIGRATE_BACKUP_DIR", &*backups),
        ("MIGRATE_BACKUP_VERIFY", "restore"),
        ("MIGRATE_BACKUP_KEEP", "1ms"),
        ("MIGRATE_BACKUP_PG_DUMP", &path("pg_dump")),
        ("MIGRATE_BACKUP_PG_RESTORE", &path("pg_restore")),
    ];
    Proxy::start_set(postgres, &settings).await
}

#[tokio::test]
async fn they_are_made_listed_restored_and_pruned() {
    let mut postgres = Postgres::start().await;
    postgres
        .execute("create table t as select i as a from generate_series(1, 10) i")
        .await;
    let dir = tempfile::tempdir().expect("a directory");
    let proxy = start(&postgres, dir.path()).await;
    let migrations = dir.path().join("migrations").display().to_string();
    let none = proxy.run(&["migrate", "backups", DB]).await;
    assert!(
        none.code == Some(0) && none.stdout.contains("no backup in"),
        "{none:?}"
    );

    let up = proxy
        .run(&["migrate", "up", DB, "--dir", &migrations, "--backup"])
        .await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let listed = proxy.run(&["migrate", "backups", DB, "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let run = listed["backups"][0]["run"]
        .as_str()
        .expect("a run")
        .to_owned();
    assert_eq!(listed["backups"][0]["verified"]["how"], "restore");
    let shown = proxy.run(&["migrate", "backups", DB]).await;
    assert!(shown.stdout.contains("restored,"), "{shown:?}");

    let restored = proxy
        .run(&["migrate", "restore", DB, &run, "--into", "back"])
        .await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert!(
        restored.stdout.contains("database back holds 13 tables"),
        "{restored:?}"
    );
    let back = postgres.connect("back").await;
    let row = back.query_one("select to_regclass('made')::text, count(*) from t", &[]);
    let row = row.await.expect("the table");
    assert_eq!((row.get(0), row.get(1)), (None::<String>, 10_i64));
    // A second time it is there.
    let refused = proxy
        .run(&["migrate", "restore", DB, &run, "--into", "back"])
        .await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let unknown = proxy
        .run(&["migrate", "restore", DB, "0-0", "--into", "other"])
        .await;
    assert_eq!(unknown.code, Some(5), "{unknown:?}");

    // It is older than a millisecond, and the newest.
    let pruned = proxy.run(&["migrate", "prune", DB]).await;
    assert!(
        pruned.code == Some(0) && pruned.stdout.contains("nothing"),
        "{pruned:?}"
    );
    let place = dir.path().join("backups").join(DB);
    fs::rename(place.join(&run), place.join(format!("{run}.partial"))).expect("a name");
    fs::write(place.join(format!("{run}.partial/lock")), "").expect("room");
    let pruned = proxy.run(&["migrate", "prune", DB]).await;
    assert!(pruned.stdout.contains("left by a crash"), "{pruned:?}");
    assert_eq!(names(&place), ["latest-backup.txt"]);
}

#[tokio::test]
async fn a_proxy_that_is_killed_meanwhile_leaves_nothing_for_good() {
    let mut postgres = Postgres::start().await;
    postgres.execute("create table t (a int)").await;
    let locker = postgres.connect(DB).await;
    let lock = "begin; lock table t in access exclusive mode";
    locker.batch_execute(lock).await.expect("the lock");
    let dir = tempfile::tempdir().expect("a directory");
    let mut proxy = start(&postgres, dir.path()).await;
    let migrations = dir.path().join("migrations").display().to_string();
    let up = ["migrate", "up", DB, "--dir", &migrations];
    let mut shell = proxy.command(&up);
    shell.stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.spawn().expect("a command");
    let client = postgres.connect(DB).await;
    until("pg_dump", SOON, async || {
        let sql = "select from pg_stat_activity where query like 'LOCK TABLE%'";
        !client.query(sql, &[]).await.expect("a look").is_empty()
    })
    .await;
    proxy.kill();
    shell.kill().expect("it runs, or has ended");
    shell.wait().expect("its end");
    let place = dir.path().join("backups").join(DB);
    assert_eq!(names(&place).len(), 1);
    assert!(names(&place)[0].ends_with(".partial"));

    locker.batch_execute("commit").await.expect("an end");
    proxy.launch().await;
    let done = proxy.run(&up).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let listed = proxy.run(&["migrate", "backups", DB, "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["partial"], serde_json::json!([]));
    let run = listed["backups"][0]["run"].as_str().expect("a run");
    assert_eq!(names(&place), [run, "latest-backup.txt"]);
}
