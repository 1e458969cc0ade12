//! Preflight as a command and over HTTP, its reports, and runs that are forced against it.

use std::fs;

use pgdrain::runner::preflight::CheckOutcome;
use pgdrain::runner::types::{Direction, EventKind, MigrationRequest, RunState};
use serde_json::{Value, json};

use crate::support::migrations::{DATABASE, Site, assert_end, file, request, texts};
use crate::support::shop::Shop;

/// Rows of `c` lead nowhere.
const ORPHANS: &str = "create table p (a int primary key); create table c (a int); \
    insert into c values (7); \
    alter table c add constraint c_p foreign key (a) references p not valid";

#[tokio::test]
async fn the_command_tells_by_its_exit_code_and_keeps_a_report() {
    let shop = Shop::open_with(ORPHANS, "").await;
    let reports = shop.files().join("../reports");
    let directory = reports.to_str().expect("a path in UTF-8");
    shop.write("1_a.up.sql", "create table a (b int);");
    shop.write("1_a.down.sql", "drop table a;");
    let ran = shop.migrate(&["preflight", "--report", directory]).await;
    ran.assert(0, &["all 32 checks passed", "wrote ", "passed  lock"]);
    shop.write("1_a.up.sql", "alter table c add b int;");
    let ran = shop
        .migrate(&["preflight", "--json", "--report", directory])
        .await;
    ran.assert(1, &[]);
    let printed: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (&printed["passed"], &printed["exit_code"]),
        (&json!(false), &json!(1))
    );

    let mut names: Vec<_> = fs::read_dir(&reports)
        .expect("the reports")
        .map(|it| {
            it.expect("a file")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(
        names.iter().all(|it| it.starts_with("preflight-report-2")),
        "{names:?}"
    );
    let kept = |extension: &str| {
        let last = names
            .iter()
            .rfind(|it| it.ends_with(extension))
            .expect("one");
        fs::read_to_string(reports.join(last)).expect("a report")
    };
    let json: Value = serde_json::from_str(&kept(".json")).expect("JSON");
    assert_eq!(json, printed);
    let page = kept(".html");
    assert!(page.contains("Preflight of postgres: failed"), "{page}");
    assert!(
        page.contains("c_p of c: there are rows that lead nowhere"),
        "{page}"
    );

    // It is the same over HTTP.
    let sql = "alter table c add b int;";
    let posted = json!({"files": [file("1_a.up.sql", sql), file("1_a.down.sql", "drop table a;")]});
    let path = format!("/v1/databases/{DATABASE}/migrations/preflight");
    let answer = shop.proxy.admin().post(&path, posted).await.expect(200);
    let outcomes = |report: &Value| -> Vec<String> {
        let checks = report["checks"].as_array().expect("a list").iter();
        let outcome = |it: &Value| format!("{} {}", it["name"], it["outcome"]);
        checks.map(outcome).collect()
    };
    assert_eq!(outcomes(&answer), outcomes(&json), "{answer}");

    shop.write("1_a.up.sql", "create table a ();\n\\copy a from x\n");
    let ran = shop.migrate(&["preflight"]).await;
    ran.assert(
        5,
        &[
            "FAILED  files",
            "line 2: \\copy",
            "what to do: correct the files",
        ],
    );
    // A report that cannot be kept is an error, whatever was found.
    let file = reports.join("file");
    fs::write(&file, "").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let ran = shop.migrate(&["preflight", "--report", file]).await;
    ran.assert(5, &["no report was written to"]);
    assert!(!shop.has("pgdrain.run").await);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_check_that_failed() {
    let mut shop = Shop::open().await;
    shop.write("1_a.up.sql", "create table a ();");
    shop.write("1_a.down.sql", "drop table a;");
    shop.postgres.crash().await.expect("a crash");
    let ran = shop.migrate(&["preflight"]).await;
    ran.assert(1, &["FAILED  connectable", "1 failed, 0 unknown"]);
}

#[tokio::test]
async fn a_setting_changes_what_is_asked_for() {
    let config = "[migrate.preflight]\noff = ['orphans']\nextensions = ['nonesuch']\n";
    let shop = Shop::open_with(ORPHANS, config).await;
    shop.write("1_a.up.sql", "alter table c add b int;");
    shop.write("1_a.down.sql", "alter table c drop b;");
    let ran = shop.migrate(&["preflight"]).await;
    ran.assert(
        1,
        &[
            "FAILED  extensions: nonesuch",
            "passed  orphans: switched off",
        ],
    );
}

#[tokio::test]
async fn a_run_stops_at_what_failed_unless_it_is_forced_with_a_reason() {
    let site = Site::start().await;
    site.sql(ORPHANS).await;
    let files = [file("1_a.up.sql", "alter table c add b int")];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    assert_eq!(site.ask("select to_regnamespace('pgdrain')").await, "null");
    assert!(site.windows.log().is_empty());

    for reason in [None, Some("  ".to_owned())] {
        let request = MigrationRequest {
            force: true,
            reason,
            ..request(Direction::Up, &files)
        };
        let error = site.runner.start(DATABASE, request).unwrap_err();
        assert_eq!(error.to_string(), "force needs a reason");
    }
    let forced = |request: &mut MigrationRequest| {
        request.force = true;
        request.reason = Some("the next file mends them".to_owned());
    };
    let view = site.up_with(&files, forced).await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.as_ref().expect("a report");
    assert_eq!(report.forced, ["orphans"]);
    assert_eq!(report.reason.as_deref(), Some("the next file mends them"));
    let orphans = report.checks.iter().find(|it| it.name == "orphans");
    assert_eq!(orphans.expect("the check").outcome, CheckOutcome::Failed);
    let said = "forced by a test against orphans: the next file mends them";
    assert!(texts(&view, EventKind::Note).contains(&said), "{view:#?}");
    let kept = "select string_agg(data::text, ',') from pgdrain.event where type = 'forced'";
    let kept: Value = serde_json::from_str(&site.ask(kept).await).expect("one");
    let expected = json!({
        "checks": ["orphans"], "by": "a test", "reason": "the next file mends them"
    });
    assert_eq!(kept, expected);
    let kept = "select (report ->> 'forced') || reason from pgdrain.run";
    assert_eq!(
        site.ask(kept).await,
        "[\"orphans\"]the next file mends them"
    );

    // What has no plan is not forced: the files of what is applied have to be what they were.
    let changed = [file("1_a.up.sql", "alter table c add b bigint")];
    let view = site.up_with(&changed, forced).await;
    assert_end(&view, RunState::Failed, 1);
    let note = "these cannot be forced: nothing was done";
    assert!(texts(&view, EventKind::Note).contains(&note), "{view:#?}");
}

#[tokio::test]
async fn preflight_sees_another_migration_and_lets_it_be() {
    let site = Site::start().await;
    let files = [file("1_a.up.sql", "select pg_sleep(600)")];
    let id = site.begin(&files);
    site.running("select pg_sleep").await;
    let report = crate::support::preflight::Look::look(&site, &files).await;
    let lock = report
        .checks
        .iter()
        .find(|it| it.name == "lock")
        .expect("the check");
    assert_eq!(lock.outcome, CheckOutcome::Failed, "{report:#?}");
    assert!(lock.text.contains("pgdrain migrate"), "{report:#?}");
    assert!(site.runner.cancel(&id, "a test"));
    assert_end(&site.end(&id).await, RunState::Cancelled, 2);
}
