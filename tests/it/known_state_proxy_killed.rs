//! A migration ends in a known state: when the proxy is killed, in whatever phase. The next process
//! holds traffic until it knows what became of the migration, and the history says the same as the
//! data.

use crate::support::load::Load;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Ran;
use crate::support::shop::{DATABASE, Shop, assert_closed};

/// The command that followed cannot know how it ended, and says so.
fn assert_lost(up: &Ran) {
    up.assert(2, &["is not known here", "migrate attach"]);
}

#[tokio::test]
async fn while_it_drains() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let held = shop.held(&[2, 3]).await;
    let up = shop.relaunch(held, up).await;
    assert_lost(&up);
    assert_closed(vec![inside], None).await;

    shop.reopened().await;
    assert!(!shop.has("a").await);
    assert_eq!(
        shop.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
    assert_eq!(shop.runs().await, "lost");
    assert_eq!(shop.ask("select count(*) from written").await, "0");
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test]
async fn in_a_statement_of_a_transaction() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.write("002_b.up.sql", "create table b ();\nselect pg_sleep(600);");
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1, 2, 3]).await;
    let up = shop.relaunch(held, up).await;
    assert_lost(&up);

    shop.reopened().await;
    assert_eq!(shop.row(1).await, "applied up 1/1");
    assert_eq!(shop.row(2).await, "failed up 0/2");
    assert_eq!((shop.has("a").await, shop.has("b").await), (true, false));
    assert_eq!(shop.runs().await, "lost");
    assert_eq!(shop.ask("select count(*) from written").await, "0");
    let status = shop.migrate(&["status"]).await;
    status.assert(0, &["applied", "pending"]);
    // Who wants to follow is sent to the history.
    let attach = shop.migrate(&["attach"]).await;
    attach.assert(
        5,
        &["no migration has run in postgres since pgdrain started"],
    );
}

/// Under load, at the moment at which everybody waits: what was acknowledged is what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_statement_under_load() {
    let mut shop = Shop::open().await;
    let sql = "alter table written add column note text;\nselect pg_sleep(600);";
    shop.write("001_a.up.sql", sql);
    let load = Load::start(shop.proxy.addr(), 16).await;
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    until("all clients to be held", SOON, async || {
        shop.status().await["held"] == 16
    })
    .await;
    let up = shop.relaunch(Vec::new(), up).await;
    assert_lost(&up);
    let wrote = load.stop().await;
    assert_eq!(wrote.errors.len(), 16, "{:?}", wrote.errors);
    shop.reopened().await;
    let found = shop.ask("select count(*) from written").await;
    assert_eq!(found, wrote.acknowledged.to_string());
    assert_eq!(shop.row(1).await, "failed up 0/2");
    let columns = "select count(*) from pg_attribute where attname = 'note' \
                   and attrelid = 'written'::regclass";
    assert_eq!(shop.ask(columns).await, "0");
}

#[tokio::test]
async fn while_a_statement_waits_for_the_lock_of_a_bypass_session() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "alter table written add column note text;");
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore", "--lock-timeout", "5m"]);
    shop.running("alter table").await;
    let held = shop.held(&[1]).await;
    shop.relaunch(held, up).await;
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "failed up 0/1");
    other.batch_execute("commit").await.expect("a commit");
    assert!(!shop.written(1).await);
}

#[tokio::test]
async fn between_begin_and_the_first_statement() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("002_b.up.sql", "create table b ();");
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table pgdrain.migration in exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore"]);
    shop.between_statements().await;
    let held = shop.held(&[1]).await;
    shop.relaunch(held, up).await;
    // The file was not recorded as running yet, so that nothing has to be found out but that the
    // dead process's sessions are gone.
    shop.reopened().await;
    other.batch_execute("commit").await.expect("a commit");
    assert!(!shop.has("b").await);
    let row = "select count(*) from pgdrain.migration where version = '2' and state <> 'failed'";
    assert_eq!(shop.ask(row).await, "0");
    assert_eq!(shop.runs().await, "succeeded 0, lost");
}

#[tokio::test]
async fn in_a_commit_that_the_server_gives_up() {
    let mut shop = Shop::open().await;
    shop.write(
        "001_a.up.sql",
        "create table a ();\ninsert into slow values (600);",
    );
    let up = shop.begin(&["up"]);
    shop.running("commit").await;
    shop.relaunch(Vec::new(), up).await;
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert!(!shop.has("a").await);
}

#[tokio::test]
async fn between_two_statements_without_a_transaction() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write(
        "002_b.up.sql",
        "vacuum;\nselect pg_sleep(0.5);\ncreate table b ();",
    );
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let other = shop.postgres.connect(DATABASE).await;
    let lock = "begin; select from pgdrain.migration where version = '2' for update";
    other.batch_execute(lock).await.expect("a lock");
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and application_name = 'pgdrain migrate'";
    until("the ledger to wait", SOON, async || {
        shop.ask(waits).await == "1"
    })
    .await;
    shop.relaunch(Vec::new(), up).await;
    other.batch_execute("commit").await.expect("a commit");
    until("the state to be dirty", SOON, async || {
        shop.row(2).await.starts_with("dirty up ")
    })
    .await;
    assert!(!shop.has("b").await);
    assert_eq!(shop.status().await["mode"], "hold");
}
