//! The history knows the schema before and after each run and file; what somebody changes in between stops
//! the next run until it is brought back or accepted.

use std::fs;
use std::path::Path;

use pgdrain::config::{OnDrift, Preflight, Reports};
use pgdrain::runner::Options;
use pgdrain::runner::drift::{DriftError, DriftRequest};
use pgdrain::runner::preflight::Check;
use pgdrain::runner::types::{EventKind, RunState, RunView};

use crate::support::cluster::Postgres;
use crate::support::migrations::{DATABASE, Site, assert_end, file, options, texts};
use crate::support::proxy::Proxy;

fn strict() -> Options {
    Options {
        preflight: Preflight {
            drift_ignore: vec!["public.part_*".to_owned()],
            ..Preflight::default()
        },
        ..options()
    }
}

fn drift(view: &RunView) -> &Check {
    let checks = &view.report.as_ref().expect("a report").checks;
    let found = checks.iter().find(|it| it.name == "drift");
    found.expect("the check of drift")
}

const FILES: [(&str, &str); 3] = [
    ("1_a.up.sql", "create table a (id int)"),
    ("2_b.up.sql", "create table b (id int)"),
    ("3_c.up.sql", "create table c (id int)"),
];

fn files(many: usize) -> Vec<pgdrain::runner::source::PostedFile> {
    let all = FILES.iter().take(many);
    all.map(|(name, sql)| file(name, sql)).collect()
}

#[tokio::test]
async fn fingerprints_of_runs_and_files_are_one_chain() {
    let site = Site::start_with(strict()).await;
    let view = site.up(&files(2)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.expect("a report");
    let (before, after) = (
        report.fp_before.expect("one"),
        report.fp_after.expect("one"),
    );
    assert_ne!(before, after);
    let chain = "select string_agg(encode(fp_before, 'hex') || ' ' || encode(fp_after, 'hex'), ' ' \
                                   order by version_key) from pgdrain.migration";
    let chain = site.ask(chain).await;
    let parts: Vec<_> = chain.split(' ').collect();
    assert_eq!(parts.len(), 4);
    // Each file finds what the one before it has left.
    assert_eq!((parts[0], parts[3]), (before.as_str(), after.as_str()));
    assert_eq!(parts[1], parts[2]);
    // The lines of what the run found and left are kept, and pgdrain's own tables are none of them.
    let lines = format!(
        "select count(*) || ' ' || count(*) filter (where line like '%pgdrain%') \
         from pgdrain.schema_dump, unnest(lines) as line \
         where encode(fingerprint, 'hex') = '{after}' and line like 'rel%'"
    );
    assert_eq!(site.ask(&lines).await, "2 0");
}

#[tokio::test]
async fn what_is_changed_between_two_runs_stops_the_next_until_it_is_accepted() {
    let site = Site::start_with(strict()).await;
    assert_end(&site.up(&files(1)).await, RunState::Succeeded, 0);
    site.sql("alter table a add column sneaked int; create table part_1 (a int)")
        .await;
    let view = site.up(&files(2)).await;
    assert_end(&view, RunState::Failed, 1);
    let check = drift(&view);
    assert!(!check.is_passed() && check.text.contains("is not what run"));
    let named = |name: &str| check.details.iter().any(|it| it.contains(name));
    assert!(named("+ column public.a.sneaked #2 integer"), "{check:?}");
    // What may change by itself does.
    assert!(!named("part_1"), "{check:?}");

    let seen = site.runner.drift(DATABASE, &DriftRequest::default()).await;
    let seen = seen.expect("a look");
    assert!(
        seen.drifted && !seen.accepted && seen.exit_code == 1,
        "{seen:?}"
    );
    assert_eq!(seen.differences.len(), 1);
    let accept = |reason: Option<&str>| DriftRequest {
        accept: true,
        reason: reason.map(str::to_owned),
        by: Some("ann".to_owned()),
    };
    let refused = site.runner.drift(DATABASE, &accept(None)).await;
    assert!(matches!(refused, Err(DriftError::Invalid(_))));
    // Not while a migration runs.
    site.sql("select pg_advisory_lock(1885824114, 0)").await;
    let busy = site.runner.drift(DATABASE, &accept(Some("hotfix 7"))).await;
    assert!(matches!(busy, Err(DriftError::Busy(_))));
    site.sql("select pg_advisory_unlock(1885824114, 0)").await;
    let accepted = site.runner.drift(DATABASE, &accept(Some("hotfix 7"))).await;
    assert_eq!(accepted.expect("accepted").exit_code, 0);
    let told = "select data ->> 'by' || ': ' || (data ->> 'reason') from pgdrain.event \
                where type = 'schema'";
    assert_eq!(site.ask(told).await, "ann: hotfix 7");
    let view = site.up(&files(2)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(drift(&view).text.contains("is what ann left"));
    // Brought back is as good.
    site.sql("alter table b add column sneaked int").await;
    assert_end(&site.up(&files(3)).await, RunState::Failed, 1);
    site.sql("alter table b drop column sneaked").await;
    assert_end(&site.up(&files(3)).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn where_nobody_saw_the_end_there_is_nothing_to_compare_with() {
    let site = Site::start_with(strict()).await;
    let view = site.up(&files(1)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(drift(&view).text.starts_with("does not apply: "));
    // As a run leaves it whose proxy was killed.
    site.sql("update pgdrain.run set fp_after = null; alter table a add column b int")
        .await;
    let view = site.up(&files(2)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(drift(&view).text.contains("is not known"), "{view:#?}");
    // A run that fails leaves what it found.
    let broken = [
        files(2),
        vec![file("3_c.up.sql", "create table c (id nope)")],
    ]
    .concat();
    assert_end(&site.up(&broken).await, RunState::Failed, 2);
    let last = "select fp_before = fp_after from pgdrain.run order by started_at desc limit 1";
    assert_eq!(site.ask(last).await, "true");
    assert_end(&site.up(&files(3)).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_is_a_postflight_that_is_not_passed() {
    let mut site = Site::start_with(strict()).await;
    assert_end(&site.up(&files(1)).await, RunState::Succeeded, 0);
    // Whoever alters a view keeps its definition from being read.
    site.sql("create view v as select 1 as one").await;
    let tell = Options {
        preflight: Preflight {
            drift: OnDrift::Tell,
            ..Preflight::default()
        },
        ..options()
    };
    site.runner = crate::support::migrations::runner(
        crate::support::migrations::endpoint(&site.postgres, "postgres"),
        tell,
        &site.own,
        &site.windows,
    );
    let other = site.postgres.connect(DATABASE).await;
    other
        .batch_execute("begin; lock table v in access exclusive mode")
        .await
        .expect("a lock");
    let view = site
        .up_with(&files(2), |request| {
            request.force = true;
            request.reason = Some("a test".to_owned());
        })
        .await;
    assert_end(&view, RunState::Failed, 3);
    assert_eq!(site.row(2).await, "applied up 1/1");
    let notes = texts(&view, EventKind::Note).join("\n");
    assert!(notes.contains("the schema could not be read"), "{notes}");
    other.batch_execute("rollback").await.expect("the end");
    // From here on the first run is no measure any more.
    let view = site.up(&files(3)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(drift(&view).text.contains("is not known"), "{view:#?}");
}

#[tokio::test]
async fn reports_and_schemas_are_kept_as_files_and_a_full_place_fails_no_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let reports = |dir: &Path| Options {
        reports: Reports {
            dir: Some(dir.to_owned()),
            keep: 1,
            ..Reports::default()
        },
        ..strict()
    };
    let mut site = Site::start_with(reports(dir.path())).await;
    assert_end(&site.up(&files(1)).await, RunState::Succeeded, 0);
    let view = site.up(&files(2)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let runs = fs::read_dir(dir.path().join(DATABASE)).expect("a directory");
    let runs: Vec<_> = runs.map(|it| it.expect("an entry").path()).collect();
    // One is kept, the newest.
    assert_eq!(runs, [dir.path().join(DATABASE).join(&view.id)]);
    let read = |name: &str| {
        let all = fs::read_dir(&runs[0]).expect("a directory");
        let mut all = all.map(|it| it.expect("an entry").path());
        let found = all.find(|it| {
            let file = it.file_name().expect("a name").to_string_lossy();
            file.starts_with(name) && !file.ends_with(".part")
        });
        fs::read_to_string(found.expect(name)).expect("text")
    };
    assert!(!read("schema-before").contains("rel\tpublic.b\t"));
    assert!(read("schema-after").contains("rel\tpublic.b\t"));
    let preflight: serde_json::Value =
        serde_json::from_str(&read("preflight-report")).expect("JSON");
    assert_eq!(preflight["passed"], true);
    assert_eq!(preflight["files"][0], "2_b.up.sql");

    let file = dir.path().join("file");
    fs::write(&file, "in the way").expect("a file");
    site.runner = crate::support::migrations::runner(
        crate::support::migrations::endpoint(&site.postgres, "postgres"),
        reports(&file),
        &site.own,
        &site.windows,
    );
    let view = site.up(&files(3)).await;
    assert_end(&view, RunState::Succeeded, 0);
    let notes = texts(&view, EventKind::Note).join("\n");
    assert!(notes.contains("no reports in"), "{notes}");
}

#[tokio::test]
async fn the_command_shows_and_accepts() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect(DATABASE).await;
    let proxy = Proxy::start_set(&postgres, &[("MIGRATE_PREFLIGHT_DRIFT", "stop")]).await;
    let drift = async |more: &[&str]| {
        let line = [&["migrate", "drift", DATABASE], more].concat();
        proxy.run(&line).await
    };
    let text = "no run has left a schema to compare with yet";
    drift(&[]).await.assert(0, &[text]);
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("1_a.up.sql"), "create table a (id int);").expect("a file");
    let files = dir.path().to_str().expect("a path in UTF-8");
    let up = ["migrate", "up", DATABASE, "--dir", files];
    proxy.run(&up).await.assert(0, &["drift passed"]);
    drift(&[]).await.assert(0, &["the schema is what run"]);
    let sneak = "alter table a add column sneaked int";
    client.batch_execute(sneak).await.expect("a column");
    let said = ["is not what run", "+ column public.a.sneaked"];
    drift(&[]).await.assert(1, &said);
    fs::write(dir.path().join("2_b.up.sql"), "create table b (id int);").expect("a file");
    proxy
        .run(&up)
        .await
        .assert(1, &["drift FAILED", "pgdrain migrate drift"]);
    drift(&["--accept"]).await.assert(5, &["--reason"]);
    let accept = ["--accept", "--reason", "hotfix 7"];
    drift(&accept).await.assert(0, &["accepted"]);
    proxy.run(&up).await.assert(0, &["drift passed"]);
}
