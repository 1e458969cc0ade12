//! The way back: a backup is restored into a database that is made for it.

use std::fs;

use pgdrain::config::Verify;
use pgdrain::runner::backup::RestoreRequest;
use pgdrain::runner::types::RunState;

use crate::support::backups::{Kept, backup};
use crate::support::migrations::{DATABASE, assert_end, file, text};

/// A run that spoils the only table, behind a backup.
async fn spoilt() -> (Kept, String) {
    let kept = Kept::start(backup(Verify::List)).await;
    kept.site
        .sql("create table t as select i as a from generate_series(1, 10) i")
        .await;
    let view = kept.site.up(&[file("1_a.up.sql", "delete from t")]).await;
    assert_end(&view, RunState::Succeeded, 0);
    (kept, view.id)
}

async fn restore(kept: &Kept, run: &str, into: &str) -> Result<(u64, u64), String> {
    let request = RestoreRequest {
        run: run.to_owned(),
        into: into.to_owned(),
    };
    let restored = kept.site.runner.restore(DATABASE, request).await;
    let restored = restored.map_err(|error| error.to_string())?;
    Ok((restored.tables, restored.rows))
}

#[tokio::test]
async fn it_brings_back_what_was() {
    let (mut kept, run) = spoilt().await;
    let name = "Way \"back\"";
    // Twelve tables of pgdrain's own beside it: the layout, and the run as it had begun.
    let restored = restore(&kept, &run, name).await;
    assert_eq!(restored, Ok((13, 10 + 2)));
    let back = kept.site.postgres.connect(name).await;
    assert_eq!(text(&back, "select sum(a) from t").await, "55");
    assert_eq!(kept.site.ask("select count(*) from t").await, "0");
}

#[tokio::test]
async fn what_is_there_is_not_overwritten() {
    let (kept, run) = spoilt().await;
    let sql = "create database taken";
    kept.site.sql(sql).await;
    for into in ["taken", DATABASE] {
        let refused = restore(&kept, &run, into).await.expect_err("refused");
        assert!(refused.contains("already exists"), "{refused}");
    }
    let there = "select count(*) from pg_database where datname in ('taken', 'postgres')";
    assert_eq!(kept.site.ask(there).await, "2");
}

#[tokio::test]
async fn what_was_changed_since_is_not_restored() {
    let (kept, run) = spoilt().await;
    let toc = kept.place().join(&run).join("dump").join("toc.dat");
    let mut bytes = fs::read(&toc).expect("a file");
    bytes.push(0);
    fs::write(&toc, bytes).expect("room");
    let refused = restore(&kept, &run, "back").await.expect_err("refused");
    assert!(refused.contains("toc.dat was changed"), "{refused}");
    let there = "select count(*) from pg_database where datname = 'back'";
    assert_eq!(kept.site.ask(there).await, "0");
}

#[tokio::test]
async fn half_a_restored_database_is_dropped() {
    let (kept, run) = spoilt().await;
    let toc = kept.place().join(&run).join("dump");
    let table = fs::read_dir(&toc)
        .expect("a directory")
        .map(|it| it.expect("an entry").path())
        .find(|it| it.extension().is_some_and(|it| it == "gz"))
        .expect("the rows of a table");
    let name = table.file_name().expect("a name").to_string_lossy();
    fs::write(&table, "not compressed").expect("room");
    // Somebody who changes a file and its checksum too gets further.
    let manifest = kept.place().join(&run).join("manifest.json");
    let mut written = kept.manifest(&run);
    for it in written["files"].as_array_mut().expect("a list") {
        if it["path"] == *name {
            it["bytes"] = 14.into();
            let sum = pgdrain::runner::source::Sha256::of(b"not compressed").to_string();
            it["sha256"] = sum.into();
        }
    }
    fs::write(&manifest, written.to_string()).expect("room");
    let failed = restore(&kept, &run, "back").await.expect_err("it fails");
    assert!(failed.contains("pg_restore failed"), "{failed}");
    let there = "select count(*) from pg_database where datname = 'back'";
    assert_eq!(kept.site.ask(there).await, "0");
}

#[tokio::test]
async fn a_name_that_the_server_would_cut_is_refused() {
    let (kept, run) = spoilt().await;
    for into in [String::new(), "x".repeat(64)] {
        let refused = restore(&kept, &run, &into).await.expect_err("refused");
        assert!(refused.contains("1 to 63 bytes"), "{refused}");
    }
}

#[tokio::test]
async fn runs_without_a_backup_are_not_found() {
    let (kept, _) = spoilt().await;
    for run in ["0-0", "../postgres", ""] {
        let refused = restore(&kept, run, "back").await.expect_err("refused");
        assert!(refused.starts_with("no backup of run"), "{refused}");
    }
}
