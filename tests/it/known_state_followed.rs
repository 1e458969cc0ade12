//! A migration ends in a known state: whatever becomes of the command that follows it. It lives in
//! the proxy, which alone can end it.

use pgdrain::cli::demo::cluster::process::Signal;

use crate::support::following::Following;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::shop::{DATABASE, Shop, assert_closed, assert_let_in};

/// Runs until somebody takes the lock off `written` that `blocked` puts there.
const WAITER: &str = "create table a ();\nalter table written add column note text;";

const SLEEPER: &str = "create table a ();\nselect pg_sleep(600);";

/// A migration that waits for a bypass session, which is given back with the command.
async fn blocked(shop: &mut Shop) -> (Following, tokio_postgres::Client) {
    shop.write("001_a.up.sql", WAITER);
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore", "--lock-timeout", "5m"]);
    shop.running("alter table").await;
    (up, other)
}

#[tokio::test]
async fn a_killed_command_ends_nothing_and_attach_follows_again() {
    for signal in [Signal::Kill, Signal::Interrupt, Signal::Terminate] {
        let mut shop = Shop::open().await;
        let (up, other) = blocked(&mut shop).await;
        let held = shop.held(&[1]).await;
        up.signal(signal);
        let up = up.ended().await;
        if signal == Signal::Interrupt {
            up.assert(130, &["goes on", "migrate attach"]);
        } else {
            assert_eq!(up.code, None, "{up:?}");
        }
        shop.running("alter table").await;
        let attached = shop.begin(&["attach"]);
        // Two may follow, and one that follows to the end hears the same as the first would have.
        let second = shop.begin(&["attach", "--json"]);
        other.batch_execute("commit").await.expect("a commit");
        let said = ["preflight begins", "exclusive after", "done: one file"];
        attached.ended().await.assert(0, &said);
        second.ended().await.assert(0, &["\"exit_code\":0"]);
        assert_let_in(held).await;
        assert_eq!(shop.row(1).await, "applied up 2/2");
        // Also when it is over.
        shop.migrate(&["attach"]).await.assert(0, &said);
    }
}

#[tokio::test]
async fn cancel_rolls_back_and_lets_traffic_in() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", SLEEPER);
    shop.migrate(&["cancel"])
        .await
        .assert(5, &["no migration runs"]);
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1, 2]).await;
    shop.migrate(&["cancel"]).await.assert(0, &["cancelled by"]);
    up.ended()
        .await
        .assert(2, &["rolled back: 001_a.up.sql", "cancelled by"]);
    assert_let_in(held).await;
    assert_eq!(shop.status().await["mode"], "open");
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert_eq!(shop.runs().await, "cancelled 2");
    assert!(!shop.has("a").await);
    shop.migrate(&["attach"]).await.assert(2, &["cancelled by"]);
}

#[tokio::test]
async fn cancel_of_a_down_file_leaves_it_applied() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.write("001_a.down.sql", "drop table a;\nselect pg_sleep(600);");
    shop.migrate(&["up"]).await.assert(0, &[]);
    let down = shop.begin(&["down"]);
    shop.running("select pg_sleep").await;
    shop.migrate(&["cancel"]).await.assert(0, &["cancelled by"]);
    down.ended()
        .await
        .assert(4, &["rolled back: 001_a.down.sql"]);
    assert_eq!(shop.row(1).await, "applied down 0/2");
    assert!(shop.has("a").await);
    shop.reopened().await;
}

#[tokio::test]
async fn cancel_in_the_drain_gives_the_window_back() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    shop.migrate(&["cancel"]).await.assert(0, &["cancelled by"]);
    up.ended().await.assert(2, &["cancelled by"]);
    shop.reopened().await;
    assert_let_in(held).await;
    inside.execute("commit").await;
    assert!(!shop.has("a").await);
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test]
async fn cancel_of_a_concurrent_statement_is_dirty_and_stays_held() {
    let mut shop = Shop::open().await;
    let sql = "create index concurrently written_id on written (id);";
    shop.write("001_a.up.sql", sql);
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore", "--traffic", "exclusive"]);
    shop.running("create index").await;
    let held = shop.held(&[1]).await;
    shop.migrate(&["cancel"])
        .await
        .assert(2, &["dirty: 001_a.up.sql", "written_id"]);
    up.ended().await.assert(2, &["traffic stays held"]);
    assert_eq!(shop.row(1).await, "dirty up 0/1");
    let status = shop.proxy.run(&["status"]).await;
    status.assert(0, &["stays held: a migration stopped part-way"]);
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
}

/// SIGTERM is no crash: the proxy cancels the migration and waits until it is rolled back.
#[tokio::test]
async fn a_proxy_that_is_asked_to_stop_rolls_back_first() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", SLEEPER);
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1]).await;
    let status = shop.proxy.terminate().await;
    assert!(status.success(), "{status}");
    assert_eq!(up.ended().await.code, Some(2));
    assert_closed(held, Some("57P01")).await;
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert_eq!(shop.runs().await, "cancelled 2");
    assert!(!shop.has("a").await);
    shop.proxy.launch().await;
    // Nothing was left to find out.
    assert!(shop.window().await.is_null());
    let mut client = shop.client().await;
    client.execute("insert into written values (2)").await;
    assert!(!shop.written(1).await);
}

#[tokio::test]
async fn two_migrations_at_once_are_one_and_a_refusal() {
    let mut shop = Shop::open().await;
    let (up, other) = blocked(&mut shop).await;
    let second = shop.migrate(&["up"]).await;
    second.assert(6, &["is running in this database", "migrate attach"]);
    shop.migrate(&["down"])
        .await
        .assert(6, &["is running in this database"]);
    // Another proxy does not know of the first one, but finds the lock.
    let rival = Proxy::start(&shop.postgres).await;
    let files = shop.files();
    let files = files.to_str().expect("a path in UTF-8");
    let third = rival
        .run(&["migrate", "up", DATABASE, "--dir", files])
        .await;
    third.assert(
        1,
        &["lock FAILED", "another migration holds the lock: process"],
    );
    other.batch_execute("commit").await.expect("a commit");
    up.ended().await.assert(0, &["done: one file"]);
    until("the run to be over", SOON, async || {
        shop.status().await["migration"].is_null()
    })
    .await;
    assert_eq!(shop.runs().await, "succeeded 0");
}
