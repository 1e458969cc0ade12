//! A file that runs in batches does every row once, and goes on where it stopped.

use pgdrain::runner::RowState;
use pgdrain::runner::report::{BatchReport, FileOutcome};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, EventKind, RunState, RunView};

use crate::support::migrations::{
    DATABASE, Site, assert_end, endpoint, failure, file, options, request, runner, texts,
};
use crate::support::poll::{SOON, until};

/// Sessions of the runner that wait for a lock.
const WAITING: &str = "select count(*) from pg_stat_activity \
                       where application_name = 'pgdrain migrate' and wait_event_type = 'Lock'";

/// Each row counts how often it was done: `n` is to be 1 everywhere.
const MAP: &str = "update t set new = old * 2, n = n + 1 where :batch";

/// An up file whose only statement runs in batches.
fn batch(directive: &str, sql: &str) -> Vec<PostedFile> {
    vec![file(
        "1_a.up.sql",
        &format!("-- pgdrain:batch {directive}\n{sql};\n"),
    )]
}

/// A table of so many rows, with a key of some type made of the numbers from 1.
async fn table(site: &Site, ty: &str, key: &str, rows: u32) {
    site.sql(&format!(
        "drop table if exists t; \
         create table t (id {ty} primary key, old int not null, new int, n int not null default 0); \
         insert into t select {key}, i, null, 0 from generate_series(1, {rows}) i"
    ))
    .await;
}

/// Every row was done once, and none twice.
async fn assert_done(site: &Site, rows: u32) {
    let wrong = "select count(*) from t where n <> 1 or new is distinct from old * 2";
    assert_eq!(site.ask(wrong).await, "0");
    assert_eq!(site.ask("select count(*) from t").await, rows.to_string());
}

fn report(view: &RunView) -> (FileOutcome, Option<BatchReport>) {
    let file = &view.report.as_ref().expect("a report").files[0];
    (file.outcome, file.batches)
}

#[tokio::test]
async fn every_row_is_done_once_whatever_its_key_is() {
    let site = Site::start().await;
    let keys = [
        ("bigint", "i * i"),
        ("smallint", "-i"),
        ("numeric", "i / 7.0"),
        ("uuid", "md5(i::text)::uuid"),
        (
            "text",
            "case i % 3 when 0 then 'É''' when 1 then 'b\\\"' else 'C ' end || i",
        ),
        ("varchar(40)", "chr(65 + i % 50) || i"),
    ];
    let sql = format!("-- pgdrain:batch table=t size=64 done=\"new is null\"\n{MAP}");
    let mut files = Vec::new();
    for (ty, key) in keys {
        table(&site, ty, key, 1000).await;
        let version = files.len() + 1;
        files.push(file(&format!("{version}_a.up.sql"), &sql));
        let view = site.up(&files).await;
        assert_end(&view, RunState::Succeeded, 0);
        assert_done(&site, 1000).await;
        // Each batch is a transaction of its own.
        let transactions = site.ask("select count(distinct xmin::text) from t").await;
        assert_eq!(transactions, "16", "{ty}");
        let done = BatchReport {
            batches: 16,
            rows: 1000,
            before: Some(1000),
            left: Some(0),
        };
        assert_eq!(report(&view), (FileOutcome::Applied, Some(done)), "{ty}");
        assert!(texts(&view, EventKind::Batch).len() >= 2);
    }
    assert!(site.windows.log().is_empty(), "it needs no window");
}

#[tokio::test]
async fn a_table_without_a_usable_key_is_done_by_blocks() {
    let site = Site::start().await;
    site.sql(
        "create schema s; \
         create table s.\"T\" (a int, b int, old int, new int, n int default 0, \
                               primary key (a, b)); \
         insert into s.\"T\" select i, i, i from generate_series(1, 5000) i; analyze s.\"T\"",
    )
    .await;
    let update = "update s.\"T\" x set new = old * 2, n = n + 1 where :batch";
    let refused = site.up(&batch("table=s.\"T\" size=100", update)).await;
    assert_end(&refused, RunState::Failed, 2);
    assert_eq!(
        failure(&refused),
        "1_a.up.sql, line 1: pgdrain:batch: the primary key of s.\"T\" has 2 columns: name a \
         column that is NOT NULL and has a unique index with key=, or use by=ctid"
    );
    let files = batch(
        "table=s.\"T\" size=500 by=ctid done=\"x.new is null\"",
        update,
    );
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    let wrong = "select count(*) from s.\"T\" where n <> 1 or new <> old * 2";
    assert_eq!(site.ask(wrong).await, "0");
    let (_, batches) = report(&view);
    let batches = batches.expect("batches");
    assert_eq!((batches.rows, batches.left), (5000, Some(0)));
    assert!(batches.batches >= 8, "{batches:?}");
    let percent = view
        .events
        .iter()
        .rev()
        .find(|it| it.kind == EventKind::Batch);
    assert_eq!(percent.expect("progress").data["percent"], 100);
}

#[tokio::test]
async fn rows_are_copied_and_deleted_in_batches_too() {
    let site = Site::start().await;
    table(&site, "int", "i", 1000).await;
    site.sql("create table u (id int primary key, v int)").await;
    let copy = "insert into u (id, v) select s.id, s.old from t as s where :batch \
                and s.old > 10 on conflict do nothing";
    let gone = "delete from only t using u where :batch and u.id = t.id";
    let header = "-- pgdrain:batch table=t size=300";
    let files = [
        file("1_a.up.sql", &format!("{header}\n{copy}")),
        file(
            "2_b.up.sql",
            &format!("{header} key=ID done=\"exists (select from u where u.id = t.id)\"\n{gone}"),
        ),
    ];
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(site.ask("select count(*) from u").await, "990");
    assert_eq!(site.ask("select count(*) from t").await, "10");
    let files = &view.report.as_ref().expect("a report").files;
    let rows: Vec<_> = files
        .iter()
        .map(|it| it.batches.map(|it| (it.batches, it.rows, it.before)))
        .collect();
    // The second walks over the thousand keys as they go.
    assert_eq!(rows[0], Some((4, 990, None)));
    assert_eq!(rows[1], Some((4, 990, Some(990))));
}

#[tokio::test]
async fn an_empty_table_is_done_at_once() {
    let site = Site::start().await;
    table(&site, "int", "i", 0).await;
    for (version, how) in [
        (1, "done=\"new is null\""),
        (2, "by=ctid done=\"new is null\""),
    ] {
        let mut files = batch("table=t size=10 done=\"new is null\"", MAP);
        if version == 2 {
            let sql = format!("-- pgdrain:batch table=t size=10 {how}\n{MAP}");
            files.push(file("2_b.up.sql", &sql));
        }
        let view = site.up(&files).await;
        assert_end(&view, RunState::Succeeded, 0);
        let (outcome, batches) = report(&view);
        let batches = batches.expect("batches");
        assert_eq!(outcome, FileOutcome::Applied);
        assert_eq!((batches.batches, batches.left), (0, Some(0)));
    }
}

#[tokio::test]
async fn what_cannot_be_cut_is_refused_with_its_line_and_changes_nothing() {
    let site = Site::start().await;
    table(&site, "int", "i", 10).await;
    site.sql(
        "alter table t add part int unique, add at interval not null unique default make_interval(secs => random()); \
         create table p (id int primary key) partition by range (id); \
         create table nokey (id int); \
         create view v as select * from nokey",
    )
    .await;
    let table = [
        (
            "table=nope size=1",
            "update nope set a = 1",
            "there is no table nope",
        ),
        (
            "table=nokey size=1",
            "update nokey set id = 1",
            "nokey has no primary key",
        ),
        (
            "table=v size=1",
            "update v set id = 1",
            "v has no primary key",
        ),
        (
            "table=t size=1 key=old",
            "update t set new = 1",
            "no column old that is NOT NULL",
        ),
        (
            "table=t size=1 key=part",
            "update t set new = 1",
            "no column part that is NOT NULL",
        ),
        (
            "table=t size=1 key=at",
            "update t set new = 1",
            "column at of t is of none of the types",
        ),
        (
            "table=t size=1",
            "update t set (n, ID) = (1, 2)",
            "the statement sets id, by which t",
        ),
        (
            "table=p size=1 by=ctid done=\"id = 0\"",
            "update p set id = 1",
            "without partitions",
        ),
    ];
    for (directive, sql, text) in table {
        let view = site
            .up(&batch(directive, &format!("{sql} where :batch")))
            .await;
        assert_end(&view, RunState::Failed, 2);
        let found = failure(&view);
        assert!(found.contains(text), "{found}");
        assert!(
            found.starts_with("1_a.up.sql, line 1: pgdrain:batch: "),
            "{found}"
        );
    }
    assert_eq!(site.ask("select sum(n) from t").await, "0");
    assert_eq!(
        site.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
}

#[tokio::test]
async fn a_faulty_statement_is_found_at_its_place_and_may_be_mended() {
    let site = Site::start().await;
    table(&site, "int", "i", 100).await;
    let sql = "update t set n = n + 1\nwhere :batch and nope";
    let view = site.up(&batch("table=t size=10", sql)).await;
    assert_end(&view, RunState::Failed, 2);
    let text = "1_a.up.sql, statement 1 of 1, line 3, column 18: ERROR 42703: column \"nope\"";
    assert!(failure(&view).starts_with(text), "{}", failure(&view));
    // Nothing of it is in the database, so it may be another file now.
    assert_eq!(site.row(1).await, "failed up 0/1");
    let view = site.up(&batch("table=t size=10", MAP)).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_done(&site, 100).await;
}

#[tokio::test]
async fn what_is_not_done_at_the_end_fails_the_file_with_its_count() {
    let site = Site::start().await;
    table(&site, "int", "i", 100).await;
    let sql = "update t set new = nullif(old, 7), n = n + 1 where :batch";
    let files = batch("table=t size=30 done=\"new is null\"", sql);
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view)
            .starts_with("1_a.up.sql, line 1: pgdrain:batch: 1 rows are not done, after 4 batches"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "begun up 0/1");
    // It walks over the table again, and does that row alone.
    site.sql("update t set old = 107 where id = 7").await;
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_eq!(site.ask("select sum(n) from t").await, "101");
    assert_eq!(site.row(1).await, "applied up 1/1");
}

#[tokio::test]
async fn asserts_stand_before_the_first_batch_and_after_the_last() {
    let site = Site::start().await;
    table(&site, "int", "i", 100).await;
    let with = |claim: &str| {
        batch(
            "table=t size=30",
            &format!("-- pgdrain:assert {claim}\n{MAP}"),
        )
    };
    let view = site.up(&with("pre select count(*) = 0 from t")).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(site.row(1).await, "failed up 0/1");
    assert_eq!(site.ask("select sum(n) from t").await, "0");
    let late = with("post select exists (select from t where id = 0)");
    let view = site.up(&late).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).contains("pgdrain:assert post: it is false"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "begun up 0/1");
    site.sql("insert into t values (0, 0, 0, 1)").await;
    assert_end(&site.up(&late).await, RunState::Succeeded, 0);
    assert_done(&site, 101).await;
}

/// Begins a file of ten batches and stops it in the fifth, which waits for a lock that a client
/// holds; then the client lets go.
async fn stopped(site: &mut Site, files: &[PostedFile]) -> RunView {
    let other = site.postgres.connect(DATABASE).await;
    let hold = "begin; select from t where id = 450 for update";
    other.batch_execute(hold).await.expect("a lock");
    let id = site.begin(files);
    until("the fifth batch to wait", SOON, async || {
        site.ask("select sum(n) from t").await == "400" && site.ask(WAITING).await == "1"
    })
    .await;
    assert!(site.runner.cancel(&id, "ann"));
    other.batch_execute("commit").await.expect("the end");
    site.end(&id).await
}

#[tokio::test]
async fn a_cancelled_file_stops_between_two_batches_and_goes_on_from_there() {
    let mut site = Site::start().await;
    table(&site, "int", "i", 1000).await;
    let files = batch("table=t size=100 done=\"new is null\"", MAP);
    let view = stopped(&mut site, &files).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(
        failure(&view),
        "1_a.up.sql: cancelled by ann, after 5 batches that changed 500 rows (hint: the next \
         `migrate up` goes on from there)"
    );
    assert_eq!(report(&view).0, FileOutcome::Begun);
    assert_eq!(site.row(1).await, "begun up 0/1");
    assert_eq!(site.ask("select sum(n) from t").await, "500");

    let status = site.status(&files).await;
    assert!(status.dirty.is_empty(), "{status:?}");
    let [pending] = status.pending.as_slice() else {
        panic!("{status:?}");
    };
    assert_eq!(pending.state, Some(RowState::Begun));
    let detail = pending.detail.as_deref().expect("a detail");
    assert!(
        detail.contains("after 5 batches that changed 500 rows"),
        "{detail}"
    );

    // A run that is stopped before its first file leaves it begun.
    let id = site.begin(&files);
    assert!(site.runner.cancel(&id, "bob"));
    let view = site.end(&id).await;
    assert_eq!(view.state, RunState::Cancelled, "{view:#?}");
    assert_eq!(site.row(1).await, "begun up 0/1");

    // Rows behind the end of the table as it was are the application's own.
    site.sql("insert into t values (2000, 1)").await;
    // How it is cut may change, what is done may not.
    let files = batch("table=t size=250 pause=1ms done=\"new is null\"", MAP);
    let view = site.up(&files).await;
    assert_end(&view, RunState::Succeeded, 0);
    let note = "1_a.up.sql: goes on after 5 batches that changed 500 rows";
    assert!(texts(&view, EventKind::Note).contains(&note), "{view:#?}");
    let done = BatchReport {
        batches: 7,
        rows: 1000,
        before: Some(1000),
        left: Some(0),
    };
    assert_eq!(report(&view), (FileOutcome::Applied, Some(done)));
    assert_eq!(site.ask("select n from t where id = 2000").await, "0");
    site.sql("delete from t where id = 2000").await;
    assert_done(&site, 1000).await;
    assert_eq!(
        site.ask(
            "select string_agg(type, ' ' order by id) from pgdrain.event where version is not null"
        )
        .await,
        "begun applied"
    );
}

#[tokio::test]
async fn a_file_that_is_begun_stays_what_it_is_or_goes_back() {
    let mut site = Site::start().await;
    table(&site, "int", "i", 1000).await;
    let down = file("1_a.down.sql", "update t set new = null, n = 0");
    let with = |sql: &str| {
        let mut files = batch("table=t size=100", sql);
        files.push(down.clone());
        files
    };
    let files = with(MAP);
    stopped(&mut site, &files).await;

    let other = with("update t set new = old * 3, n = n + 1 where :batch");
    let view = site.up(&other).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).contains("were others when the file was begun"),
        "{}",
        failure(&view)
    );
    assert_eq!(site.row(1).await, "begun up 0/1");
    assert_eq!(site.ask("select sum(n) from t").await, "500");
    let missing = [file("2_b.up.sql", "select 1")];
    assert_end(&site.up(&missing).await, RunState::Failed, 1);

    // A way back that fails leaves it where it was.
    let mut broken = batch("table=t size=100", MAP);
    broken.push(file("1_a.down.sql", "select 1 / 0"));
    assert_end(&site.down(&broken, 1).await, RunState::Failed, 4);
    assert_eq!(site.row(1).await, "begun down 0/1");
    assert_end(&site.down(&files, 1).await, RunState::Succeeded, 0);
    assert_eq!(site.row(1).await, "reverted down 1/1");
    assert_eq!(site.ask("select sum(n) from t").await, "0");
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_done(&site, 1000).await;
}

#[tokio::test]
async fn batches_run_as_the_files_role_and_what_a_policy_hides_is_an_error() {
    let site = Site::start().await;
    table(&site, "int", "i", 100).await;
    site.sql(
        "create role app; grant select, update on t to app; grant usage on schema public to app; \
         alter table t enable row level security; \
         create policy few on t using (id < 50)",
    )
    .await;
    let files = batch("table=t size=30", &format!("-- pgdrain:owner app\n{MAP}"));
    let view = site.up(&files).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(
        failure(&view).contains("row-level security"),
        "{}",
        failure(&view)
    );
    site.sql("alter table t disable row level security").await;
    assert_end(&site.up(&files).await, RunState::Succeeded, 0);
    assert_done(&site, 100).await;
    // It may say how far it is (`pgdrain.progress`), and no more.
    let open = "select count(*) from pg_class c \
                cross join unnest(array['select', 'insert', 'update', 'delete']) as t (privilege) \
                where relnamespace = 'pgdrain'::regnamespace and relkind in ('r', 'v') \
                  and has_table_privilege('app', c.oid, privilege)";
    assert_eq!(site.ask(open).await, "0", "the books are ours");
}

#[tokio::test]
async fn a_plan_says_how_a_file_is_cut_and_that_it_is_begun() {
    let mut site = Site::start().await;
    table(&site, "int", "i", 1000).await;
    let files = batch("table=t size=100 pause=5ms vacuum=4", MAP);
    let wish = |files: &[PostedFile]| pgdrain::runner::types::PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: files.to_vec(),
        format: None,
        history: None,
        traffic: pgdrain::runner::types::TrafficMode::Auto,
    };
    let plan = site
        .runner
        .plan(DATABASE, &wish(&files))
        .await
        .expect("a plan");
    let step = &plan.steps[0];
    assert_eq!(
        step.batches.as_deref(),
        Some("batches of 100 rows of t, by its primary key, 5ms apart, VACUUM after every 4")
    );
    assert_eq!(step.traffic, pgdrain::runner::types::StepTraffic::Open);
    assert_eq!(step.needs, pgdrain::runner::plan::Needs::Open);
    let statement = &step.statements[0];
    assert!(statement.known, "{statement:?}");
    assert_eq!(statement.locks[0].relation, "public.t");

    let lint = site
        .runner
        .lint(DATABASE, &wish(&files))
        .await
        .expect("findings");
    let rules: Vec<_> = lint.findings.iter().map(|it| it.rule.as_str()).collect();
    for wrong in [
        "blocking-lock",
        "backfill-in-one-transaction",
        "update-without-where",
    ] {
        assert!(!rules.contains(&wrong), "{rules:?}");
    }

    stopped(&mut site, &files).await;
    let plan = site
        .runner
        .plan(DATABASE, &wish(&files))
        .await
        .expect("a plan");
    let begun =
        |note: &String| note.starts_with("1_a.up.sql is begun and goes on where it stopped");
    assert!(plan.notes.iter().any(begun), "{:?}", plan.notes);
}

#[tokio::test]
async fn a_batch_that_takes_too_long_to_stop_is_rolled_back() {
    let mut impatient = options();
    impatient.cancel_wait = std::time::Duration::from_millis(300);
    let mut site = Site::start_with(impatient).await;
    table(&site, "int", "i", 1000).await;
    let other = site.postgres.connect(DATABASE).await;
    let hold = "begin; select from t where id = 250 for update";
    other.batch_execute(hold).await.expect("a lock");
    let files = batch(
        "table=t size=100",
        &format!("-- pgdrain:lock_timeout 10min\n{MAP}"),
    );
    let id = site.begin(&files);
    until("two batches", SOON, async || {
        site.ask("select sum(n) from t").await == "200"
    })
    .await;
    site.running("update t set new").await;
    site.runner.cancel(&id, "ann");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert!(
        failure(&view).contains("cancelled by ann, after 2 batches"),
        "{}",
        failure(&view)
    );
    other.batch_execute("commit").await.expect("the end");
    // Another process goes on.
    let fresh = runner(
        endpoint(&site.postgres, "postgres"),
        options(),
        &site.own,
        &site.windows,
    );
    let id = fresh
        .start(DATABASE, request(Direction::Up, &files))
        .expect("a run");
    assert_end(
        &crate::support::migrations::end(&fresh, &id).await,
        RunState::Succeeded,
        0,
    );
    assert_done(&site, 1000).await;
}
