//! A statement that meets a lock is tried again, a bounded number of times, while clients wait on
//! behind the window; what it left of itself is undone before each try.

use std::time::Duration;

use pgdrain::config::{HumanDuration, Retry};
use pgdrain::runner::Options;
use pgdrain::runner::types::{EventKind, RunState, RunView};
use tokio_postgres::Client;

use crate::support::migrations::{
    Behaviour, DATABASE, Site, assert_end, failure, file, options, texts,
};
use crate::support::poll::{SOON, until};

const TRIES: &str = "-- pgdrain:lock_timeout 50ms\n";

fn patient(tries: u32) -> Options {
    let retry = Retry {
        tries,
        time: Duration::from_secs(60),
    };
    Options { retry, ..options() }
}

async fn site(tries: u32) -> Site {
    let site = Site::start_with(patient(tries)).await;
    site.sql("create table t (a int); create table u (a int)")
        .await;
    site
}

/// A session that holds a lock.
async fn holding(site: &mut Site, sql: &str) -> Client {
    let other = site.postgres.connect(DATABASE).await;
    other.batch_execute(sql).await.expect("a lock");
    other
}

/// The tries that a run has told of.
fn tries(view: &RunView) -> Vec<&str> {
    let mut notes = texts(view, EventKind::Note);
    notes.retain(|it| it.starts_with("try "));
    notes
}

async fn told(site: &Site, id: &str, text: &str) {
    until(text, SOON, async || {
        let view = site.runner.follow(id, 0, Duration::ZERO).await;
        let view = view.expect("the run");
        view.events.iter().any(|it| it.text.starts_with(text))
    })
    .await;
}

#[tokio::test]
async fn in_a_transaction_only_the_statement_is_tried_again() {
    let mut site = site(100).await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    // What the first statement did stays, and the file's own savepoint still means what it meant.
    let sql = format!(
        "{TRIES}insert into u values (1);\nsavepoint mine;\ninsert into u values (2);\n\
         rollback to mine;\nalter table t add column b int;\ninsert into t (b) values (3);"
    );
    let id = site.begin(&[file("1_a.up.sql", &sql)]);
    told(
        &site,
        &id,
        "try 2 of 100 failed: 1_a.up.sql, statement 5 of 6, line 6: ERROR 55P03",
    )
    .await;
    other.batch_execute("commit").await.expect("the end");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert_eq!(
        site.ask("select string_agg(a::text, ' ') from u").await,
        "1"
    );
    assert_eq!(site.ask("select b from t").await, "3");
    assert_eq!(site.row(1).await, "applied up 6/6");
    // Clients waited behind one window all the while.
    assert_eq!(site.windows.log(), ["begin", "reopen"]);
}

#[tokio::test]
async fn tries_end_in_number_and_the_file_is_rolled_back() {
    let mut site = site(3).await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = format!("{TRIES}insert into u values (1);\nalter table t add column b int;");
    let view = site.up(&[file("1_a.up.sql", &sql)]).await;
    assert_end(&view, RunState::Failed, 2);
    assert_eq!(tries(&view).len(), 2);
    let text = failure(&view);
    assert!(
        text.contains("ERROR 55P03") && text.contains("given up after 3 tries"),
        "{text}"
    );
    assert_eq!(site.row(1).await, "failed up 0/2");
    assert_eq!(site.ask("select count(*) from u").await, "0");
    other.batch_execute("commit").await.expect("the end");
}

#[tokio::test]
async fn a_try_that_does_not_fit_into_the_window_is_not_made() {
    let mut site = site(100).await;
    site.windows
        .set(Behaviour::GrantFor(Duration::from_secs(30)));
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = "-- pgdrain:lock_timeout 29s\nlock table t nowait;";
    let view = site.up(&[file("1_a.up.sql", sql)]).await;
    assert_end(&view, RunState::Failed, 2);
    let text = failure(&view);
    assert!(text.contains("does not fit into the window"), "{text}");
    other.batch_execute("commit").await.expect("the end");
}

#[tokio::test]
async fn cancel_ends_the_pause_between_two_tries() {
    let mut site = site(100).await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = format!("{TRIES}alter table t add column b int;");
    let id = site.begin(&[file("1_a.up.sql", &sql)]);
    told(&site, &id, "try 1 of 100").await;
    assert!(site.runner.cancel(&id, "ann"));
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(site.row(1).await, "failed up 0/1");
    other.batch_execute("commit").await.expect("the end");
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let mut site = site(100).await;
    site.sql("create table gate ()").await;
    site.sql("alter system set deadlock_timeout = '50ms'").await;
    site.sql("select pg_reload_conf()").await;
    let gate = holding(&mut site, "begin; lock table gate").await;
    let hold = "set deadlock_timeout = '10min'; begin; lock table t";
    let other = holding(&mut site, hold).await;
    let sql = "-- pgdrain:lock_timeout 20s\nlock table u;\nlock table gate;\n\
               alter table t add column b int;";
    let id = site.begin(&[file("1_a.up.sql", sql)]);
    site.running("lock table gate").await;
    // The other one waits for u first: so it is the file's session that finds the deadlock.
    let last = async {
        let waits = "select count(*) from pg_stat_activity where query = 'lock table u' \
                     and wait_event_type = 'Lock'";
        until("the other to wait", SOON, async || {
            site.ask(waits).await == "1"
        })
        .await;
        gate.batch_execute("commit").await.expect("the end");
        told(
            &site,
            &id,
            "try 1 of 100 failed: 1_a.up.sql, statement 3 of 3",
        )
        .await;
        site.sql(
            "select pg_cancel_backend(pid) from pg_stat_activity where query = 'lock table u'",
        )
        .await;
    };
    let (waited, ()) = tokio::join!(other.batch_execute("lock table u"), last);
    assert!(waited.is_err());
    other.batch_execute("rollback").await.expect("the end");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    assert!(
        tries(&view)[0].contains("ERROR 40P01"),
        "{:?}",
        tries(&view)
    );
}

#[tokio::test]
async fn outside_of_a_transaction_each_statement_is_tried_again_and_done_once() {
    let mut site = site(100).await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = format!(
        "{TRIES}-- pgdrain:tx none\ninsert into u values (1);\nalter table t add column b int;\n\
         insert into u values (2);"
    );
    let id = site.begin(&[file("1_a.up.sql", &sql)]);
    told(
        &site,
        &id,
        "try 2 of 100 failed: 1_a.up.sql, statement 2 of 3",
    )
    .await;
    // What ended before it is in the database, and counted.
    assert_eq!(site.row(1).await, "running up 1/3");
    assert_eq!(site.ask("select count(*) from u").await, "1");
    other.batch_execute("commit").await.expect("the end");
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    assert_eq!(site.ask("select count(*) from u").await, "2");
}

#[tokio::test]
async fn a_concurrent_index_is_tried_again_without_its_invalid_remains() {
    let mut site = site(100).await;
    let other = holding(&mut site, "begin; insert into t values (1)").await;
    // Only a file that sets the timeout itself lets it end the wait.
    let sql = format!("{TRIES}create index concurrently t_a on t (a);");
    let id = site.begin(&[file("1_a.up.sql", &sql)]);
    told(
        &site,
        &id,
        "try 2 of 100 failed: 1_a.up.sql, statement 1 of 1",
    )
    .await;
    other.batch_execute("commit").await.expect("the end");
    assert_end(&site.end(&id).await, RunState::Succeeded, 0);
    let indexes = "select string_agg(indexrelid::regclass || ' ' || indisvalid, ', ') \
                   from pg_index where indrelid = 't'::regclass";
    assert_eq!(site.ask(indexes).await, "t_a true");
}

#[tokio::test]
async fn a_statement_that_commits_by_itself_is_run_and_never_repeated() {
    let mut site = site(100).await;
    site.sql(
        "create procedure p() language plpgsql as $$ begin insert into u values (1); commit; \
         lock table t; end $$",
    )
    .await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = format!("{TRIES}-- pgdrain:tx none\ncall p();");
    let view = site.up(&[file("1_a.up.sql", &sql)]).await;
    assert_end(&view, RunState::Dirty, 2);
    assert_eq!(site.ask("select count(*) from u").await, "1");
    assert!(tries(&view).is_empty(), "{view:#?}");
    other.batch_execute("commit").await.expect("the end");
}

#[tokio::test]
async fn a_role_and_a_search_path_outlive_each_statements_transaction() {
    let site = Site::start_with(Options {
        owner: Some("shop".to_owned()),
        ..options()
    })
    .await;
    site.sql(
        "create role shop; create schema s authorization shop; create role other; \
         grant other to shop; grant all on schema s to other",
    )
    .await;
    let sql = "-- pgdrain:tx none\nset search_path = s;\ncreate table a ();\nset role other;\n\
               create table b ();\nvacuum;\ncreate table c ();";
    assert_end(
        &site.up(&[file("1_a.up.sql", sql)]).await,
        RunState::Succeeded,
        0,
    );
    let owners = "select string_agg(c.relname || ' ' || c.relowner::regrole, ', ' order by relname) \
                  from pg_class c where c.relnamespace = 's'::regnamespace and c.relkind = 'r'";
    assert_eq!(site.ask(owners).await, "a shop, b other, c other");
    assert_eq!(site.row(1).await, "applied up 6/6");
}

#[tokio::test]
async fn one_try_is_none_more() {
    let mut site = site(1).await;
    let other = holding(&mut site, "begin; lock table t in access share mode").await;
    let sql = "alter table t add column b int;";
    let view = site
        .up_with(&[file("1_a.up.sql", sql)], |request| {
            request.lock_timeout = Some(HumanDuration(Duration::from_millis(50)));
        })
        .await;
    assert_end(&view, RunState::Failed, 2);
    assert!(tries(&view).is_empty());
    other.batch_execute("commit").await.expect("the end");
}
