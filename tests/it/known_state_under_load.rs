//! A migration ends in a known state: under load. Clients wait, nobody sees an error, and what was
//! acknowledged is there.

use serde_json::Value;

use crate::support::load::{Load, Wrote};
use crate::support::poll::{SOON, until};
use crate::support::shop::{DATABASE, Shop, assert_let_in};

/// Clients that write while the migration is made.
const CLIENTS: i64 = 16;

/// Needs an ACCESS EXCLUSIVE lock and rewrites the table that everybody writes to.
const REWRITE: &str = "alter table written add column at timestamptz not null \
                       default clock_timestamp();\nselect pg_sleep(0.3);";

/// Nobody saw an error, and the rows that were acknowledged are there, each of them once.
async fn assert_nothing_lost(shop: &Shop, wrote: &Wrote) {
    assert!(wrote.errors.is_empty(), "{:?}", wrote.errors);
    let found = shop.ask("select count(*) from written").await;
    assert_eq!(found, wrote.acknowledged.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_and_down_under_load_cost_clients_a_wait_and_nothing_else() {
    let shop = Shop::open().await;
    shop.write("001_at.up.sql", REWRITE);
    shop.write("001_at.down.sql", "alter table written drop column at;");
    let load = Load::start(shop.proxy.addr(), CLIENTS).await;

    let pending = shop.migrate(&["status"]).await;
    pending.assert(0, &["pending", "001_at.up.sql"]);
    let up = shop.migrate(&["up", "--reason", "a new column"]).await;
    up.assert(0, &["exclusive after", "applied", "done: one file"]);
    assert_eq!(shop.row(1).await, "applied up 2/2");
    assert_eq!(shop.status().await["mode"], "open");
    assert_eq!(shop.window().await, Value::Null);
    load.goes_on(100).await;

    shop.migrate(&["status"]).await.assert(0, &["applied"]);
    shop.migrate(&["up"]).await.assert(0, &["nothing to do"]);
    let down = shop.migrate(&["down"]).await;
    down.assert(0, &["reverted", "done: one file"]);
    assert_eq!(shop.row(1).await, "reverted down 1/1");
    load.goes_on(100).await;

    let wrote = load.stop().await;
    assert_nothing_lost(&shop, &wrote).await;
    // They did wait: somebody was held for as long as the migration slept.
    assert!(wrote.longest.as_millis() >= 300, "{:?}", wrote.longest);
    assert_eq!(shop.runs().await, "succeeded 0, succeeded 0");
    let report = "select report->'windows'->0->'drain'->>'outcome' from pgdrain.run limit 1";
    assert_eq!(shop.ask(report).await, "drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_migration_under_load_is_undone_and_clients_go_on() {
    let shop = Shop::open().await;
    let sql =
        "alter table written add column at timestamptz;\n\nalter table written\n  add foo bar;";
    shop.write("001_at.up.sql", sql);
    let load = Load::start(shop.proxy.addr(), CLIENTS).await;
    let up = shop.migrate(&["up"]).await;
    let place = "001_at.up.sql, statement 2 of 2, line 4, column 11: ERROR 42704: type \"bar\"";
    up.assert(2, &["rolled back: ", place]);
    assert_eq!(shop.row(1).await, "failed up 0/2");
    let columns = "select count(*) from pg_attribute where attrelid = 'written'::regclass \
                   and attnum > 0";
    assert_eq!(shop.ask(columns).await, "1");
    load.goes_on(100).await;
    assert_nothing_lost(&shop, &load.stop().await).await;
    assert_eq!(shop.runs().await, "failed 2");

    // The file may be mended and tried again, for nothing of it is there.
    shop.write(
        "001_at.up.sql",
        "alter table written add column at timestamptz;",
    );
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_index_is_built_in_open_traffic() {
    let shop = Shop::open().await;
    shop.write(
        "001_index.up.sql",
        "create index concurrently written_id on written (id);",
    );
    let load = Load::start(shop.proxy.addr(), CLIENTS).await;
    // Holds the build up for as long as we look.
    let mut snapshot = shop.client().await;
    snapshot
        .execute("begin; lock table written in row exclusive mode")
        .await;
    let up = shop.begin(&["up"]);
    shop.running("create index").await;
    load.goes_on(1000).await;
    let status = shop.status().await;
    assert_eq!(
        (&status["mode"], &status["held"]),
        (&"open".into(), &0.into())
    );
    assert!(status["migration"].is_string(), "{status}");
    snapshot.execute("commit").await;
    up.ended().await.assert(0, &["in open traffic", "applied"]);
    assert_nothing_lost(&shop, &load.stop().await).await;
    assert_eq!(shop.row(1).await, "applied up 1/1");
}

#[tokio::test]
async fn a_file_in_open_traffic_holds_nobody() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a (); select pg_sleep(600);");
    let mut client = shop.inside(1).await;
    let up = shop.begin(&["up", "--traffic", "open"]);
    let pid = shop.running("select pg_sleep").await;
    client.execute("commit").await;
    client.execute("insert into written values (2)").await;
    assert_eq!(shop.window().await, Value::Null);
    shop.sql(&format!("select pg_cancel_backend({pid})")).await;
    up.ended()
        .await
        .assert(2, &["in open traffic", "ERROR 57014"]);
    assert!(!shop.has("a").await);
}

#[tokio::test]
async fn after_the_migration_the_operator_still_holds() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let _client = shop.client().await;
    let hold = ["hold", DATABASE, "--for", "5m", "--reason", "mine"];
    shop.proxy.run(&hold).await.assert(0, &["drained"]);
    let held = shop.held(&[1, 2]).await;
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
    assert!(shop.has("a").await);

    let status = shop.status().await;
    assert_eq!(
        (&status["mode"], &status["held"]),
        (&"hold".into(), &2.into())
    );
    let holds = status["holds"].as_array().expect("a list");
    assert_eq!(holds.len(), 1, "{status}");
    assert_eq!(holds[0]["holder"], "operator");
    assert_eq!(holds[0]["reason"], "mine");
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
    until("both rows", SOON, async || {
        shop.ask("select count(*) from written").await == "2"
    })
    .await;
}
