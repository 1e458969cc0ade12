//! A migration ends in a known state: after a restart of the proxy, traffic is held until the state is
//! known, and longer where a person has to look.

use serde_json::Value;

use crate::support::poll::{SOON, until};
use crate::support::shop::{DATABASE, Shop, assert_closed, assert_let_in};

/// Lets the server go on although the runner is dead: otherwise it looks once a second.
const UNWATCHED: &str = "set client_connection_check_interval = 0;\n";

#[tokio::test]
async fn in_a_commit_that_then_succeeds() {
    let mut shop = Shop::open().await;
    let sql = format!("{UNWATCHED}create table a ();\ninsert into slow values (3);");
    shop.write("001_a.up.sql", &sql);
    let up = shop.begin(&["up"]);
    shop.running("commit").await;
    let held = shop.held(&[1]).await;
    shop.relaunch(held, up).await;

    // Not decided: the server still commits, and nobody is let in.
    let late = shop.held(&[2]).await;
    let window = shop.window().await;
    assert!(window["stays"].is_string(), "{window}");
    let status = shop.proxy.run(&["status"]).await;
    status.assert(0, &["is not known yet"]);
    shop.running("commit").await;

    assert_let_in(late).await;
    assert_eq!(shop.row(1).await, "applied up 3/3");
    assert!(shop.has("a").await);
    assert_eq!(
        (shop.written(1).await, shop.written(2).await),
        (false, true)
    );
    shop.migrate(&["status"]).await.assert(0, &["applied"]);
    shop.migrate(&["up"]).await.assert(0, &["nothing to do"]);
}

#[tokio::test]
async fn in_a_concurrent_statement_traffic_stays_held_until_somebody_has_looked() {
    let mut shop = Shop::open().await;
    let sql = "create table a ();\ncreate index concurrently written_id on written (id);";
    shop.write("001_a.up.sql", sql);
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore"]);
    shop.running("create index").await;
    let held = shop.held(&[1]).await;
    shop.relaunch(held, up).await;
    let held = shop.held(&[2]).await;
    until("the state to be dirty", SOON, async || {
        shop.row(1).await == "dirty up 1/2"
    })
    .await;
    let why = "1_a (up) stopped at statement 2 of 2";
    until("the status to say why", SOON, async || {
        shop.window().await["stays"]
            .as_str()
            .is_some_and(|it| it.contains(why))
    })
    .await;
    shop.proxy
        .run(&["status"])
        .await
        .assert(0, &["stays held", why]);
    shop.migrate(&["status"])
        .await
        .assert(1, &["dirty", "001_a.up.sql"]);
    shop.migrate(&["up"]).await.assert(1, &["dirty FAILED"]);

    // Also a second death forgets nothing.
    assert!(!shop.written(2).await);
    shop.proxy.kill();
    assert_closed(held, None).await;
    shop.proxy.launch().await;
    let held = shop.held(&[3]).await;
    let window = shop.window().await;
    assert!(
        window["stays"].as_str().is_some_and(|it| it.contains(why)),
        "{window}"
    );

    other.batch_execute("commit").await.expect("a commit");
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
    assert_eq!(shop.status().await["mode"], "open");
    // And it is over for good.
    shop.proxy.launch().await;
    assert_eq!(shop.status().await["mode"], Value::Null);
}

/// A server that cannot be asked is not a server that has nothing to say.
#[tokio::test]
async fn while_the_server_is_down_too_traffic_is_held_until_it_can_be_asked() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();\nselect pg_sleep(600);");
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    shop.proxy.kill();
    up.ended().await;
    shop.postgres.crash().await.expect("a crash");
    shop.proxy.launch().await;
    until("a first look that fails", SOON, async || {
        shop.window().await["stays"]
            .as_str()
            .is_some_and(|it| it.contains("cannot connect"))
    })
    .await;
    assert_eq!(shop.status().await["mode"], "hold");
    shop.postgres.start().await.expect("a recovery");
    shop.direct = shop.postgres.connect(DATABASE).await;
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert!(!shop.has("a").await);
}

/// A person may open before the end is known. What is found out later closes and opens nothing.
#[tokio::test]
async fn an_operator_may_open_before_the_end_is_known() {
    let mut shop = Shop::open().await;
    let sql = format!("{UNWATCHED}create table a ();\nselect pg_sleep(4);");
    shop.write("001_a.up.sql", &sql);
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    shop.relaunch(Vec::new(), up).await;
    let held = shop.held(&[1]).await;
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
    // A hold of the operator's own is not what the old window ends.
    let hold = ["hold", DATABASE, "--for", "5m"];
    shop.proxy.run(&hold).await.assert(0, &["drained"]);
    // The next run waits for the lost one, which the server rolls back, and does the work.
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
    assert_eq!(shop.row(1).await, "applied up 3/3");
    let status = shop.status().await;
    assert_eq!(status["holds"][0]["holder"], "operator", "{status}");
}

/// What ends the window of the dead process ends no hold of anybody else.
#[tokio::test]
async fn the_operator_still_holds_after_the_restart() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();\nselect pg_sleep(600);");
    let hold = ["hold", DATABASE, "--for", "5m", "--reason", "mine"];
    shop.proxy.run(&hold).await.assert(0, &["drained"]);
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    shop.relaunch(Vec::new(), up).await;
    until("the window to be settled", SOON, async || {
        shop.window().await.is_null()
    })
    .await;
    assert_eq!(shop.row(1).await, "failed up 0/2");
    let status = shop.status().await;
    assert_eq!(status["mode"], "hold", "{status}");
    assert_eq!(status["holds"][0]["reason"], "mine", "{status}");
    let held = shop.held(&[1]).await;
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
}
