//! Whatever goes wrong with a backup ends the run before anything was changed, and leaves nothing.

use std::fs;
use std::path::PathBuf;

use pgdrain::config::{Backup, Secret, Verify};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, RunState, RunView};
use pgdrain::runner::{Endpoint, Options};
use pgdrain::server::own::OwnBackends;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::support::backups::{Kept, backup, before, noted, script};
use crate::support::cluster::Postgres;
use crate::support::migrations::{
    DATABASE, assert_end, end, endpoint, failure, file, options, request, runner, windows,
};
use crate::support::poll::{SOON, eventually, until};

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "create table made ()")]
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The run failed for this reason, asked for no window, and left nothing but its own record.
async fn assert_nothing_done(kept: &Kept, view: &RunView, why: &[&str]) {
    assert_end(view, RunState::Failed, 1);
    let failure = failure(view);
    for part in why {
        assert!(failure.contains(part), "{part} in {failure}");
    }
    let site = &kept.site;
    assert!(site.windows.log().is_empty());
    assert_eq!(site.ask("select to_regclass('made')").await, "null");
    let recorded = format!(
        "select state || ' ' || (report->'failure'->>'message' is not null) \
         from pgdrain.run where run_id = '{}'::uuid",
        view.id
    );
    assert_eq!(site.ask(&recorded).await, "failed true");
    assert!(kept.names().is_empty(), "{:?}", kept.names());
}

#[tokio::test]
async fn an_older_pg_dump_is_refused() {
    let bin = directory();
    let old = script(bin.path(), "pg_dump", "echo 'pg_dump (PostgreSQL) 9.6.24'");
    let kept = Kept::start(Backup {
        pg_dump: old,
        ..backup(Verify::List)
    })
    .await;
    let view = kept.site.up(&files()).await;
    let why = [
        "9.6.24 is older than the server",
        "set migrate.backup.pg_dump",
    ];
    assert_nothing_done(&kept, &view, &why).await;
}

/// The real one, of version 15, before servers that are newer.
#[tokio::test]
async fn every_newer_server_is_told_from_its_pg_dump() {
    for version in ["16", "17", "18"] {
        let Some(postgres) = Postgres::of_version(version, &[]).await else {
            continue;
        };
        let dir = directory();
        let options = Options {
            backup: Backup {
                dir: Some(dir.path().join("backups")),
                ..backup(Verify::Restore)
            },
            ..options()
        };
        let (own, windows) = (OwnBackends::default(), windows());
        let runner = runner(endpoint(&postgres, "postgres"), options, &own, &windows);
        let id = runner
            .start(DATABASE, request(Direction::Up, &files()))
            .expect("a run");
        let view = end(&runner, &id).await;
        assert_end(&view, RunState::Failed, 1);
        let failure = failure(&view);
        let told = format!("is older than the server, which is {version}.");
        assert!(failure.contains(&told), "{failure}");
        assert!(windows.log().is_empty());
    }
}

#[tokio::test]
async fn programs_that_are_not_there_or_do_not_fit_are_named() {
    let kept = Kept::start(Backup {
        pg_dump: PathBuf::from("/nowhere/pg_dump"),
        ..backup(Verify::List)
    })
    .await;
    let view = kept.site.up(&files()).await;
    let why = [
        "pg_dump cannot be started",
        "install Postgres' client programs",
    ];
    assert_nothing_done(&kept, &view, &why).await;

    let bin = directory();
    let old = script(
        bin.path(),
        "pg_restore",
        "echo 'pg_restore (PostgreSQL) 9.6.24'",
    );
    let kept = Kept::start(Backup {
        pg_restore: old,
        ..backup(Verify::List)
    })
    .await;
    let view = kept.site.up(&files()).await;
    assert_nothing_done(&kept, &view, &["may not read what it writes"]).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let kept = Kept::start(backup(Verify::List)).await;
    // A file stands where the directory should be, which stops even root.
    let place = kept.dir.path().join("backups");
    fs::write(&place, "").expect("room");
    let view = kept.site.up(&files()).await;
    let place = place.display().to_string();
    assert_nothing_done(
        &kept,
        &view,
        &[place.as_str(), "look at migrate.backup.dir"],
    )
    .await;
}

/// What a full disk does: pg_dump's writes fail in the middle.
#[tokio::test]
async fn a_disk_without_room_is_a_failed_run() {
    let bin = directory();
    // Files of at most 4 KiB (8 blocks), and an error instead of a signal.
    let limited = "case \"$*\" in *--version*) ;; *) trap '' XFSZ; ulimit -f 8;; esac";
    let pg_dump = before(bin.path(), "pg_dump", limited);
    let kept = Kept::start(Backup {
        pg_dump,
        ..backup(Verify::List)
    })
    .await;
    let sql = "create table t as select md5(i::text) from generate_series(1, 20000) i";
    kept.site.sql(sql).await;
    let view = kept.site.up(&files()).await;
    assert_nothing_done(&kept, &view, &["pg_dump failed", "File too large"]).await;
    assert!(noted(&view, "the partial backup /"), "{view:#?}");
}

#[tokio::test]
async fn a_command_that_fails_is_a_failed_run_without_its_password() {
    let command =
        "echo half >\"$PGDRAIN_BACKUP_DIR/half\"; echo \"no room: $PGPASSWORD\" >&2; exit 7";
    let kept = Kept::start(backup(Verify::None)).await;
    let options = Options {
        backup: Backup {
            dir: Some(kept.dir.path().join("backups")),
            command: Some(command.to_owned()),
            ..backup(Verify::None)
        },
        ..options()
    };
    let endpoint = Endpoint {
        password: Some(Secret::new("open sesame")),
        ..endpoint(&kept.site.postgres, "postgres")
    };
    let runner = runner(endpoint, options, &kept.site.own, &kept.site.windows);
    let id = runner
        .start(DATABASE, request(Direction::Up, &files()))
        .expect("a run");
    let view = end(&runner, &id).await;
    let why = ["migrate.backup.command failed (exit status: 7): no room: ********"];
    assert_nothing_done(&kept, &view, &why).await;
}

/// A pg_dump that waits for the lock on a table, and its process id.
struct Waiting {
    kept: Kept,
    id: String,
    pid: u32,
    locker: Client,
    _bin: TempDir,
}

impl Waiting {
    async fn start() -> Self {
        let bin = directory();
        let file = bin.path().join("pid");
        let noting = format!("echo $$ >{}", file.display());
        let pg_dump = before(bin.path(), "pg_dump", &noting);
        let mut kept = Kept::start(Backup {
            pg_dump,
            ..backup(Verify::List)
        })
        .await;
        kept.site.sql("create table t (a int)").await;
        let locker = kept.site.postgres.connect(DATABASE).await;
        let lock = "begin; lock table t in access exclusive mode";
        locker.batch_execute(lock).await.expect("the lock");
        let id = kept.site.begin(&files());
        kept.site.running("LOCK TABLE").await;
        let pid = fs::read_to_string(&file).expect("a process id");
        let pid = pid.trim().parse().expect("a number");
        Self {
            kept,
            id,
            pid,
            locker,
            _bin: bin,
        }
    }

    /// Waits until neither the process nor its session is there.
    async fn gone(&self) {
        until("the end of pg_dump", SOON, async || {
            !fs::exists(format!("/proc/{}", self.pid)).expect("a look")
        })
        .await;
        let sessions = "select count(*) from pg_stat_activity where query like 'LOCK TABLE%'";
        eventually("the end of its session", SOON, async || {
            (self.kept.site.ask(sessions).await == "0").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_pg_dump_that_is_killed_is_a_failed_run() {
    let waiting = Waiting::start().await;
    let killed = std::process::Command::new("sh")
        .args(["-c", "kill -9 \"$0\"", &waiting.pid.to_string()])
        .status();
    assert!(killed.expect("a shell").success());
    let view = waiting.kept.site.end(&waiting.id).await;
    assert_nothing_done(&waiting.kept, &view, &["pg_dump failed (signal: 9"]).await;
}

#[tokio::test]
async fn cancelling_the_run_ends_pg_dump() {
    let waiting = Waiting::start().await;
    let kept = &waiting.kept;
    assert!(kept.site.runner.cancel(&waiting.id, "ann"));
    let view = kept.site.end(&waiting.id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(failure(&view), "cancelled by ann");
    waiting.gone().await;
    waiting
        .locker
        .batch_execute("commit")
        .await
        .expect("an end");
    assert!(kept.site.windows.log().is_empty());
    assert!(kept.names().is_empty(), "{:?}", kept.names());
    assert_eq!(kept.site.ask("select to_regclass('made')").await, "null");
    // The next one is made as if nothing had been.
    assert_end(&kept.site.up(&files()).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn a_server_that_vanishes_is_a_failed_run() {
    let mut waiting = Waiting::start().await;
    let site = &mut waiting.kept.site;
    site.postgres.crash().await.expect("it was killed");
    let view = site.end(&waiting.id).await;
    assert_end(&view, RunState::Failed, 1);
    let failure = failure(&view);
    assert!(failure.contains("no backup: pg_dump"), "{failure}");
    assert!(site.windows.log().is_empty());
    assert!(
        waiting.kept.names().is_empty(),
        "{:?}",
        waiting.kept.names()
    );
    let site = &mut waiting.kept.site;
    site.postgres.start().await.expect("it recovers");
    site.client = site.postgres.connect(DATABASE).await;
    assert_eq!(site.ask("select to_regclass('made')").await, "null");
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
}
