//! The tables that files touch are copied within the database before the first of them, if that is asked for.

use std::time::Duration;

use pgdrain::config::{Copies, OnDrift, Preflight};
use pgdrain::runner::Options;
use pgdrain::runner::drift::DriftRequest;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{EventKind, RunState, RunView};

use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options, texts};

const SCHEMA: &str = "
    create table t (id int primary key, b text, c int generated always as (id * 2) stored);
    insert into t (id, b) select g, 'it''s ' || g from generate_series(1, 50) g;
    create table child () inherits (t); insert into child (id) values (100);
    create table p (id int, at date) partition by range (at);
    create table \"P 1\" partition of p for values from ('2026-01-01') to ('2027-01-01');
    insert into p values (1, '2026-02-02');
    create table untouched (a int)";

async fn site(copies: Copies) -> Site {
    let options = Options {
        copies,
        preflight: Preflight {
            drift: OnDrift::Stop,
            ..Preflight::default()
        },
        ..options()
    };
    let site = Site::start_with(options).await;
    site.sql(SCHEMA).await;
    site
}

fn files() -> Vec<PostedFile> {
    let spoil = "update t set b = 'gone' where id < 10; delete from p";
    vec![file("1_a.up.sql", spoil)]
}

async fn with_copies(site: &Site, files: &[PostedFile]) -> RunView {
    site.up_with(files, |it| it.copy_tables = true).await
}

/// Copies that are there, as they are called.
const THERE: &str = "select coalesce(string_agg(format('%I.%I', schemaname, tablename), ' ' order by tablename), '') \
                     from pg_tables where schemaname = 'pgdrain_copies'";

#[tokio::test]
async fn they_hold_what_was_before_and_lead_back() {
    let site = site(Copies::default()).await;
    let rows = "select md5(string_agg(t::text, ',' order by id)) from only t";
    let before = site.ask(rows).await;
    let view = with_copies(&site, &files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    // Partitions and children are parts of their table.
    let notes = texts(&view, EventKind::Note);
    let noted = notes.iter().find(|it| it.starts_with("copied ")).copied();
    assert_eq!(noted, Some("copied 2 tables with 52 rows"), "{view:#?}");
    let run = &view.id[..8];
    let there = site.ask(THERE).await;
    let names: Vec<_> = there.split(' ').collect();
    assert_eq!(names.len(), 2, "{there}");
    let copy = names
        .iter()
        .find(|it| it.trim_end_matches('"').ends_with("_t"))
        .expect("that of t");
    assert!(
        copy.starts_with("pgdrain_copies.") && copy.contains(run),
        "{copy}"
    );
    let told =
        "select jsonb_array_length(data -> 'copies') from pgdrain.event where type = 'copies'";
    assert_eq!(site.ask(told).await, "2");

    // Nobody else reads them, and they are no part of the schema.
    site.sql("create role app").await;
    let may = "select has_schema_privilege('app', 'pgdrain_copies', 'usage')";
    assert_eq!(site.ask(may).await, "false");
    let drift = site.runner.drift(DATABASE, &DriftRequest::default()).await;
    assert!(!drift.expect("a look").drifted);
    // Rows go back, generated columns left to the server.
    let back = format!("update t set b = was.b from {copy} was where was.id = t.id");
    site.sql(&back).await;
    assert_eq!(site.ask(rows).await, before);

    // Without asking there are none.
    let more = [files(), vec![file("2_b.up.sql", "update t set b = 'x'")]].concat();
    assert_end(&site.up(&more).await, RunState::Succeeded, 0);
    assert_eq!(site.ask(THERE).await, there);
}

#[tokio::test]
async fn too_much_to_copy_ends_the_run_before_its_first_file() {
    let small = Copies {
        every_run: true,
        max_bytes: 1,
        ..Copies::default()
    };
    let site = site(small).await;
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Failed, 1);
    let why = failure(&view);
    assert!(
        why.contains("more than migrate.copies.max_bytes (1)"),
        "{why}"
    );
    assert_eq!(
        site.ask("select count(*) from t where b = 'gone'").await,
        "0"
    );
    assert_eq!(site.ask(THERE).await, "");
    // Traffic was held for it, and flows again.
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
}

#[tokio::test]
async fn what_takes_too_long_to_copy_leaves_none() {
    let site = site(Copies {
        time: Duration::from_millis(1),
        ..Copies::default()
    })
    .await;
    let large = "insert into t (id) select g from generate_series(1000, 50000) g";
    site.sql(large).await;
    let view = with_copies(&site, &files()).await;
    assert_end(&view, RunState::Failed, 1);
    let why = failure(&view);
    assert!(
        why.contains("the tables cannot be copied") && why.contains("statement timeout"),
        "{why}"
    );
    assert_eq!(site.ask(THERE).await, "");
    assert_eq!(
        site.ask("select count(*) from t where b = 'gone'").await,
        "0"
    );
}

#[tokio::test]
async fn old_ones_go_when_new_ones_are_there() {
    let site = site(Copies {
        keep: Duration::from_millis(1),
        ..Copies::default()
    })
    .await;
    assert_end(&with_copies(&site, &files()).await, RunState::Succeeded, 0);
    // Somebody's own table in that schema is left alone.
    site.sql("create table pgdrain_copies.mine (a int)").await;
    let more = [files(), vec![file("2_b.up.sql", "update t set b = 'x'")]].concat();
    let view = with_copies(&site, &more).await;
    assert_end(&view, RunState::Succeeded, 0);
    let there = site.ask(THERE).await;
    assert!(there.contains("pgdrain_copies.mine"), "{there}");
    let notes = texts(&view, EventKind::Note);
    let dropped = notes
        .iter()
        .filter(|it| it.starts_with("dropped pgdrain_copies."));
    assert!(dropped.count() >= 1, "{view:#?}");
}
