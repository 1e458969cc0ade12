//! `migrate rehearse` and `migrate ci` as commands: what they print, keep, and end with.

use std::fs;

use serde_json::Value;

use crate::support::shop::{DATABASE, Shop};
use crate::support::tool;

fn config() -> String {
    format!(
        "[migrate.backup]\npg_dump = '{}'\npg_restore = '{}'\n",
        tool::program("pg_dump").display(),
        tool::program("pg_restore").display()
    )
}

#[tokio::test]
async fn a_rehearsal_is_followed_and_kept_and_ends_with_its_code() {
    let shop = Shop::open_with("", &config()).await;
    let reports = shop.files().join("../reports");
    let directory = reports.to_str().expect("a path in UTF-8");
    shop.write("1_a.up.sql", "alter table written add a int;");
    shop.write("1_a.down.sql", "alter table written drop a;");
    let ran = shop
        .migrate(&["rehearse", "--report", directory, "--scale", "1k"])
        .await;
    ran.assert(
        0,
        &[
            "copying the schema",
            "up: 1_a.up.sql",
            "down: 1_a.down.sql",
            "up again: 1_a.up.sql",
            "ALTER TABLE WRITTEN; public.written AccessExclusive",
            "with 1000 made-up rows in each table:",
            "rehearsed in a copy of the schema: nothing is wrong",
            "wrote ",
        ],
    );
    let kept = |extension: &str| {
        let mut entries = fs::read_dir(&reports).expect("the reports");
        let path = entries.find_map(|it| {
            let path = it.expect("a file").path();
            (path.extension()? == extension).then_some(path)
        });
        fs::read_to_string(path.expect("a report")).expect("text")
    };
    let json: Value = serde_json::from_str(&kept("json")).expect("JSON");
    assert_eq!(json["rehearsal"]["courses"][1]["scale"], 1000);
    assert!(
        kept("md").contains("AccessExclusive on public.written"),
        "{}",
        kept("md")
    );
    let plan = shop.migrate(&["plan"]).await;
    plan.assert(
        0,
        &[
            "in a rehearsal at ",
            "among 1000 made-up rows in each table",
        ],
    );

    shop.write("1_a.down.sql", "select 1;");
    let ran = shop.migrate(&["rehearse", "--json", "--no-record"]).await;
    ran.assert(3, &["after the way down: has column public.written.a"]);
    assert_eq!(
        shop.ask("select count(*) from pgdrain.rehearsal").await,
        "1"
    );
    let attached = shop.migrate(&["attach"]).await;
    attached.assert(3, &["WRONG: after the way down"]);
    assert!(shop.has("written").await, "{DATABASE} is as it was");
}

#[tokio::test]
async fn ci_needs_no_pgdrain_and_writes_a_summary() {
    let shop = Shop::open().await;
    let out = shop.files().join("../out");
    let summary = shop.files().join("../summary.md");
    let (files, out, summary) = (
        shop.files().display().to_string(),
        out.display().to_string(),
        summary.display().to_string(),
    );
    shop.write("001_a.up.sql", "create table a (id bigint primary key);");
    shop.write("001_a.down.sql", "drop table a;");
    let schema = shop.files().join("../schema.sql");
    fs::write(&schema, "create table old (id int);").expect("a file");
    let schema = schema.display().to_string();
    let line = [
        "migrate",
        "ci",
        "--dir",
        &files,
        "--schema",
        &schema,
        "--summary",
        &summary,
        "--report",
        &out,
        "--warn-after",
        "1ms",
    ];
    let ran = shop.proxy.run(&line).await;
    ran.assert(
        0,
        &[
            "rehearsed in the database itself: nothing is wrong",
            "the files are slow",
        ],
    );
    let text = fs::read_to_string(&summary).expect("a summary");
    assert!(
        text.contains("| 001\\_a.up.sql |") && text.contains("### Lint: 0 errors"),
        "{text}"
    );
    assert!(text.contains("**Slow:**"), "{text}");
    let mut names: Vec<_> = fs::read_dir(&out)
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
    assert_eq!(names[..2], ["lint-report.json", "migrations.jsonl"]);

    // A way down that is none, in a database that was named: nothing else may be in there.
    shop.write("001_a.down.sql", "select 1;");
    shop.sql("create database empty").await;
    let url = shop.postgres.url("empty");
    let line = ["migrate", "ci", "--dir", &files, "--url", &url, "--json"];
    let ran = shop.proxy.run(&line).await;
    ran.assert(3, &["after the way down: has"]);
    let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["rehearsal"]["exit_code"], 3);
    let ran = shop.proxy.run(&line).await;
    ran.assert(5, &["is not empty"]);

    // Lint alone is enough to fail.
    fs::remove_file(shop.files().join("001_a.down.sql")).expect("it is there");
    shop.write(
        "001_a.up.sql",
        "-- pgdrain:irreversible it only adds\n-- pgdrain:traffic open\n\
         create table a (id bigint primary key);\ncreate index on old (id);",
    );
    let line = ["migrate", "ci", "--dir", &files, "--schema", &schema];
    let ran = shop.proxy.run(&line).await;
    ran.assert(
        1,
        &["require-concurrent-index-creation", "Without a way back"],
    );
    let line = ["migrate", "ci", "--dir", &files, "--pg-bin", "/nonexistent"];
    shop.proxy
        .run(&line)
        .await
        .assert(5, &["holds no postgres"]);
}
