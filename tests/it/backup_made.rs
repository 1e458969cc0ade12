//! A backup is whole before a window is asked for, and says what it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pgdrain::config::{Backup, Secret, Verify};
use pgdrain::runner::source::{PostedFile, Sha256};
use pgdrain::runner::types::{Direction, MigrationRequest, RunState};
use pgdrain::runner::{Endpoint, Options, StartError};

use crate::support::backups::{Kept, backup, before, names, noted, place_of};
use crate::support::migrations::{
    DATABASE, Site, assert_end, end, endpoint, file, options, request, runner,
};

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "alter table t add b int")]
}

#[tokio::test]
async fn it_is_whole_before_the_window_and_named_in_report_and_history() {
    let kept = Kept::start(backup(Verify::List)).await;
    kept.site
        .sql("create table t (a int); insert into t select generate_series(1, 1000)")
        .await;
    let view = kept.site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);

    // First the backup, then the window, then the restore point, then the file.
    let order = [
        place_of(&view, "backup begins"),
        place_of(&view, "backup /"),
        place_of(&view, "asking for an exclusive window"),
        place_of(&view, "restore point "),
        place_of(&view, "1_a.up.sql: 1 statements"),
    ];
    assert!(order.is_sorted(), "{order:?}");

    let report = view.report.clone().expect("a report");
    let made = report.backup.expect("a backup");
    let whole = kept.place().join(&view.id);
    assert_eq!(made.path, whole.display().to_string());
    assert_eq!(names(&kept.place()), [&*view.id, "latest-backup.txt"]);
    assert_eq!(names(&whole), ["dump", "manifest.json"]);
    let latest = kept.read(kept.place().join("latest-backup.txt"));
    assert_eq!(latest, format!("{}\n", whole.display()));
    for (path, mode) in [(whole.clone(), 0o700), (whole.join("manifest.json"), 0o600)] {
        let found = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{path:?}");
    }

    let manifest = kept.manifest(&view.id);
    assert_eq!(manifest["run"], *view.id);
    assert_eq!(manifest["database"], DATABASE);
    assert_eq!(manifest["verified"]["how"], "list");
    assert_eq!(manifest["bytes"], made.bytes);
    let written = manifest["files"].as_array().expect("a list");
    assert_eq!(written.len(), made.files);
    for it in written {
        let path = whole
            .join("dump")
            .join(it["path"].as_str().expect("a path"));
        let bytes = fs::read(&path).expect("a file");
        assert_eq!(it["sha256"], Sha256::of(&bytes).to_string());
        assert_eq!(it["bytes"], bytes.len());
    }

    // It shows the table as it was before.
    let list = std::process::Command::new(crate::support::tool::program("pg_restore"))
        .args(["--file=-", "--schema-only", "--table=t"])
        .arg(whole.join("dump"))
        .output();
    let sql = String::from_utf8(list.expect("pg_restore").stdout).expect("text");
    assert!(
        sql.contains("a integer") && !sql.contains("b integer"),
        "{sql}"
    );

    let told = "select count(*) from pgdrain.event where run_id = '{}'::uuid and type = 'backup'";
    let told = told.replace("{}", &view.id);
    assert_eq!(kept.site.ask(&told).await, "1");
    let path = format!(
        "select report->'backup'->>'path' from pgdrain.run where run_id = '{}'::uuid",
        view.id
    );
    assert_eq!(kept.site.ask(&path).await, made.path);
}

#[tokio::test]
async fn a_restore_point_is_made_where_the_role_may() {
    let site = Site::start().await;
    site.sql("create table t (a int)").await;
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let point = view.report.expect("a report").restore_point.expect("one");
    assert_eq!(point.name, format!("pgdrain_{}", view.id));
    let behind = format!("select '{}'::pg_lsn <= pg_current_wal_lsn()", point.lsn);
    assert_eq!(site.ask(&behind).await, "true");
    let recorded = "select data->'restore_point'->>'lsn' from pgdrain.event \
                    where type = 'restore_point'";
    assert_eq!(site.ask(recorded).await, point.lsn);

    // Who may not goes on without.
    site.sql(
        "create role plain login in role pg_read_all_stats; grant create on database postgres to plain; \
              grant all on schema pgdrain to plain; \
              grant all on all tables in schema pgdrain to plain; \
              alter table t owner to plain",
    )
    .await;
    let plain = runner(
        endpoint(&site.postgres, "plain"),
        options(),
        &site.own,
        &site.windows,
    );
    let more = [files(), vec![file("2_c.up.sql", "alter table t add c int")]].concat();
    let id = plain
        .start(DATABASE, request(Direction::Up, &more))
        .expect("a run");
    let view = end(&plain, &id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(noted(&view, "there is no restore point: "), "{view:#?}");
    assert!(view.report.expect("a report").restore_point.is_none());
}

#[tokio::test]
async fn it_is_made_when_asked_for_and_not_otherwise() {
    let kept = Kept::start(backup(Verify::None)).await;
    kept.site.sql("create table t (a int)").await;
    let view = kept
        .site
        .up_with(&files(), |request| request.backup = Some(false))
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(view.report.expect("a report").backup.is_none());
    assert!(kept.names().is_empty());
    // Nothing to do, nothing to back up.
    let view = kept
        .site
        .up_with(&files(), |request| request.backup = Some(true))
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(kept.names().is_empty());

    // Without a directory there is none, and it cannot be asked for.
    let site = Site::start().await;
    site.sql("create table t (a int)").await;
    let asked = MigrationRequest {
        backup: Some(true),
        ..request(Direction::Up, &files())
    };
    let refused = site.runner.start(DATABASE, asked);
    assert!(
        matches!(&refused, Err(StartError::Invalid(why)) if why[0].contains("migrate.backup.dir")),
        "{refused:?}"
    );
    let view = site.up(&files()).await;
    assert!(view.report.expect("a report").backup.is_none());
}

#[tokio::test]
async fn the_password_is_in_no_argument() {
    let spy = tempfile::tempdir().expect("a directory");
    let noting = format!(
        "cd {dir} && case \"$*\" in *--version*) ;; *) printf '%s\\n' \"$@\" >arguments; \
         printf '%s' \"$PGPASSWORD\" >password;; esac",
        dir = spy.path().display()
    );
    let pg_dump = before(spy.path(), "pg_dump", &noting);
    let kept = Kept::start(Backup {
        pg_dump: pg_dump.clone(),
        ..backup(Verify::List)
    })
    .await;
    kept.site.sql("create table t (a int)").await;
    let backup = Backup {
        dir: Some(kept.dir.path().join("backups")),
        pg_dump,
        ..backup(Verify::List)
    };
    let endpoint = Endpoint {
        password: Some(Secret::new("open sesame")),
        ..endpoint(&kept.site.postgres, "postgres")
    };
    let options = Options {
        backup,
        ..options()
    };
    let runner = runner(endpoint, options, &kept.site.own, &kept.site.windows);
    let id = runner
        .start(DATABASE, request(Direction::Up, &files()))
        .expect("a run");
    let view = end(&runner, &id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let read = |name: &str| fs::read_to_string(spy.path().join(name)).expect("a file");
    assert_eq!(read("password"), "open sesame");
    let arguments = read("arguments");
    assert!(arguments.contains("--format=directory") && arguments.contains("--jobs=2"));
    assert!(!arguments.contains("sesame"), "{arguments}");
}

#[tokio::test]
async fn old_ones_go_after_a_good_one() {
    let kept = Kept::start(Backup {
        keep: Duration::from_millis(1),
        ..backup(Verify::None)
    })
    .await;
    kept.site.sql("create table t (a int)").await;
    let first = kept.site.up(&files()).await;
    assert_end(&first, RunState::Succeeded, 0);
    // Left by a crash: nobody holds its lock.
    let left = kept.place().join("0-0.partial");
    fs::create_dir(&left).expect("a directory");
    fs::write(left.join("lock"), "").expect("room");
    let more = [files(), vec![file("2_c.up.sql", "alter table t add c int")]].concat();
    let second = kept.site.up(&more).await;
    assert_end(&second, RunState::Succeeded, 0);
    assert_eq!(kept.names(), [&*second.id, "latest-backup.txt"]);
    assert!(noted(
        &second,
        &format!("removed the backup of run {}", first.id)
    ));
    assert!(noted(&second, &format!("removed {}", left.display())));
    let listed = kept.site.runner.backups(DATABASE).await.expect("a list");
    let runs: Vec<_> = listed.backups.iter().map(|it| it.run.as_str()).collect();
    assert_eq!(runs, [&*second.id]);
}

#[tokio::test]
async fn a_command_can_make_it() {
    let command = "echo \"$PGDRAIN_DATABASE $PGDATABASE $PGUSER $PGDRAIN_BY\" \
                   >\"$PGDRAIN_BACKUP_DIR/$PGDRAIN_RUN\"";
    let kept = Kept::start(Backup {
        command: Some(command.to_owned()),
        ..backup(Verify::None)
    })
    .await;
    kept.site.sql("create table t (a int)").await;
    let view = kept.site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let manifest = kept.manifest(&view.id);
    assert_eq!(manifest["made_by"], "command");
    assert_eq!(manifest["files"][0]["path"], *view.id);
    let written = kept.place().join(&view.id).join("dump").join(&view.id);
    assert_eq!(kept.read(written), "postgres postgres postgres a test\n");
}
