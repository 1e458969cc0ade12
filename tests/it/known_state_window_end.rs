//! A migration ends in a known state: when its window ends, is refused, or is taken away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::shop::{DATABASE, Shop, assert_closed, assert_let_in};

const SLEEPER: &str = "create table a ();\nselect pg_sleep(600);";

#[tokio::test]
async fn at_its_end_a_transaction_is_rolled_back_and_traffic_flows() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", SLEEPER);
    let up = shop.begin(&["up", "--for", "2s"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1, 2]).await;
    let why = "cancelled because the window has reached its end";
    up.ended()
        .await
        .assert(2, &["rolled back: 001_a.up.sql", why]);
    assert_let_in(held).await;
    assert_eq!(shop.status().await["mode"], "open");
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert_eq!(shop.runs().await, "failed 2");
    assert!(!shop.has("a").await);
}

#[tokio::test]
async fn at_its_end_what_cannot_be_rolled_back_stays_held_and_says_so() {
    let shop = Shop::open().await;
    shop.write(
        "001_a.up.sql",
        "vacuum;\ncreate table a ();\nselect pg_sleep(600);",
    );
    let up = shop.begin(&["up", "--for", "2s"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1]).await;
    let why = "cancelled because the window has reached its end";
    let said = [
        "dirty: 001_a.up.sql, statement 3 of 3",
        why,
        "traffic stays held",
    ];
    up.ended().await.assert(2, &said);
    assert_eq!(shop.row(1).await, "dirty up 2/3");
    // Overdue by now, and still held: what a timer of the hold itself does is nothing.
    until("the hold to be overdue", SOON, async || {
        shop.window().await["overdue"] == true
    })
    .await;
    let status = shop.proxy.run(&["status"]).await;
    status.assert(
        0,
        &["overdue", "stays held: a migration stopped part-way", why],
    );
    assert_eq!(shop.status().await["held"], 1);
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
}

#[tokio::test]
async fn a_drain_counts_towards_the_end() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    // The ladder alone would wait for longer than the window may last.
    let up = shop.begin(&["up", "--for", "1s", "--wait", "10m"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    up.ended()
        .await
        .assert(6, &["no exclusive window: still in the way"]);
    assert_let_in(held).await;
    inside.execute("commit").await;
    assert_eq!(shop.status().await["mode"], "open");
    assert_eq!(
        shop.ask("select count(*) from pgdrain.migration").await,
        "0"
    );
}

#[tokio::test]
async fn a_gentle_ladder_names_who_is_in_the_way_and_changes_nothing() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--ladder", "gentle", "--wait", "1s"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    let (pid, _) = inside.key();
    let who = format!("still in the way: pid {pid} (postgres, ");
    up.ended().await.assert(6, &[&who, "in_transaction"]);
    assert_let_in(held).await;
    assert_eq!(shop.status().await["mode"], "open");
    assert!(!shop.has("a").await);
    assert_eq!(shop.runs().await, "failed 6");
    inside.execute("commit").await;
    assert!(shop.written(1).await);
    let status = shop.migrate(&["status"]).await;
    status.assert(0, &["pending"]);
}

#[tokio::test]
async fn a_forcing_ladder_terminates_who_is_in_the_way_and_applies() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let inside = shop.inside(1).await;
    let ladder = [
        "--wait",
        "300ms",
        "--cancel",
        "300ms",
        "--abort",
        "0s",
        "--terminate",
        "20s",
    ];
    let line = [&["up", "--ladder", "force"], &ladder[..]].concat();
    let up = shop.begin(&line);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    up.ended().await.assert(0, &["done: one file"]);
    assert_let_in(held).await;
    assert_closed(vec![inside], Some("57P01")).await;
    assert!(shop.has("a").await);
    assert!(!shop.written(1).await);
    let report = "select report->'windows'->0->'drain'->'terminated'->0->>'user' from pgdrain.run";
    assert_eq!(shop.ask(report).await, "postgres");
}

#[tokio::test]
async fn open_is_refused_while_somebody_works_and_force_ends_the_work() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", SLEEPER);
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1]).await;

    let path = format!("/v1/databases/{DATABASE}/mode");
    let refused = shop.proxy.admin().put(&path, json!({"mode": "open"})).await;
    assert_eq!(refused.expect(409)["error"]["code"], "held");
    let open = shop.proxy.run(&["open", DATABASE]).await;
    open.assert(6, &["the window w", "cancel it, or open by force"]);
    let everything = shop.proxy.run(&["open", "*"]).await;
    everything.assert(6, &["the window w"]);
    assert_eq!(shop.status().await["held"], 1);
    shop.running("select pg_sleep").await;

    shop.proxy
        .run(&["open", DATABASE, "--force"])
        .await
        .assert(0, &["open"]);
    within(
        "held clients at once",
        Duration::from_secs(5),
        assert_let_in(held),
    )
    .await;
    let why = "the window was lost: traffic was opened by force";
    up.ended()
        .await
        .assert(2, &["rolled back: 001_a.up.sql", why]);
    assert_eq!(shop.window().await, Value::Null);
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert!(!shop.has("a").await);
}

#[tokio::test]
async fn open_by_force_in_the_drain_refuses_the_window() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    shop.proxy
        .run(&["open", "*", "--force"])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
    up.ended().await.assert(6, &["no exclusive window"]);
    inside.execute("commit").await;
    assert!(!shop.has("a").await);
    // Nothing is left behind that would stand in the way of the next.
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

/// A dirty end that nobody held for: the traffic that was opened by force stays open.
#[tokio::test]
async fn force_under_a_concurrent_statement_is_dirty_in_open_traffic() {
    let mut shop = Shop::open().await;
    let sql = "create table a ();\ncreate index concurrently written_id on written (id);";
    shop.write("001_a.up.sql", sql);
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore"]);
    shop.running("create index").await;
    shop.proxy
        .run(&["open", DATABASE, "--force"])
        .await
        .assert(0, &["open"]);
    up.ended()
        .await
        .assert(2, &["dirty: 001_a.up.sql, statement 2 of 2"]);
    assert_eq!(shop.row(1).await, "dirty up 1/2");
    assert_eq!(shop.status().await["mode"], "open");
    let status = shop.migrate(&["status"]).await;
    status.assert(1, &["dirty"]);
    shop.proxy.launch().await;
    assert!(shop.window().await.is_null());
}

#[tokio::test]
async fn without_proof_there_is_no_window() {
    let roles = "create role watcher login";
    let config = "[control]\nuser = \"watcher\"\n";
    let shop = Shop::open_with(roles, config).await;
    shop.write("001_a.up.sql", "create table a ();");
    // Whose state the watcher may not see.
    let mut client = shop.client().await;
    client.execute("insert into written values (1)").await;
    let up = shop.migrate(&["up", "--wait", "1s"]).await;
    up.assert(6, &["no exclusive window", "pg_read_all_stats"]);
    assert!(!shop.has("a").await);
    assert_eq!(shop.status().await["mode"], "open");
    client.execute("insert into written values (2)").await;

    shop.sql("grant pg_read_all_stats to watcher").await;
    let up = within("a window", PATIENCE, shop.migrate(&["up", "--wait", "5s"])).await;
    up.assert(0, &["done: one file"]);
}
