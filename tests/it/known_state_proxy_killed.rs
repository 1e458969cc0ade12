//! A migration ends in a known state: when the proxy is killed, in whatever phase. The next process
//! holds traffic until it knows what became of the migration, and the history says the same as the
//! data.

use crate::support::load::Load;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Ran;
use crate::support::shop::{DATABASE, Following, Shop, assert_closed, assert_let_in};
use crate::support::wire::Wire;

/// Lets the server go on although the runner is dead: otherwise it looks once a second.
const UNWATCHED: &str = "set client_connection_check_interval = 0;\n";

/// Ends the proxy as by a crash of its machine; `held` are clients that wait at its gate, whose
/// connections close. Then starts it again on the same state.
async fn kill_and_relaunch(shop: &mut Shop, held: Vec<Wire>, up: Following) -> Ran {
    shop.proxy.kill();
    let up = up.ended().await;
    assert_closed(held, None).await;
    shop.proxy.launch().await;
    up
}

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
    let up = kill_and_relaunch(&mut shop, held, up).await;
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
    let up = kill_and_relaunch(&mut shop, held, up).await;
    assert_lost(&up);

    shop.reopened().await;
    assert_eq!(shop.row(1).await, "applied up 1/1");
    assert_eq!(shop.row(2).await, "failed up 0/2");
    assert_eq!((shop.has("a").await, shop.has("b").await), (true, false));
    assert_eq!(shop.runs().await, "lost");
    assert_eq!(shop.ask("select count(*) from written").await, "0");
    let status = shop.migrate(&["status"]).await;
    status.assert(0, &["applied", "pending"]);
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
    let up = kill_and_relaunch(&mut shop, Vec::new(), up).await;
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
    let up = shop.begin(&["up", "--lock-timeout", "5m"]);
    shop.running("alter table").await;
    let held = shop.held(&[1]).await;
    kill_and_relaunch(&mut shop, held, up).await;
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
    let up = shop.begin(&["up"]);
    shop.between_statements().await;
    let held = shop.held(&[1]).await;
    kill_and_relaunch(&mut shop, held, up).await;
    // Whoever recovers waits for the lock, and traffic is held all the while.
    assert_eq!(shop.status().await["mode"], "hold");
    other.batch_execute("commit").await.expect("a commit");
    shop.reopened().await;
    assert!(!shop.has("b").await);
    let row = "select count(*) from pgdrain.migration where version = '2' and state <> 'failed'";
    assert_eq!(shop.ask(row).await, "0");
    assert_eq!(shop.runs().await, "succeeded 0, lost");
}

#[tokio::test]
async fn in_a_commit_that_then_succeeds() {
    let mut shop = Shop::open().await;
    let sql = format!("{UNWATCHED}create table a ();\ninsert into slow values (3);");
    shop.write("001_a.up.sql", &sql);
    let up = shop.begin(&["up"]);
    shop.running("commit").await;
    let held = shop.held(&[1]).await;
    kill_and_relaunch(&mut shop, held, up).await;

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
async fn in_a_commit_that_the_server_gives_up() {
    let mut shop = Shop::open().await;
    shop.write(
        "001_a.up.sql",
        "create table a ();\ninsert into slow values (600);",
    );
    let up = shop.begin(&["up"]);
    shop.running("commit").await;
    kill_and_relaunch(&mut shop, Vec::new(), up).await;
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "failed up 0/2");
    assert!(!shop.has("a").await);
}

#[tokio::test]
async fn in_a_concurrent_statement_traffic_stays_held_until_somebody_has_looked() {
    let mut shop = Shop::open().await;
    let sql = "create table a ();\ncreate index concurrently written_id on written (id);";
    shop.write("001_a.up.sql", sql);
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table written in row exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up"]);
    shop.running("create index").await;
    let held = shop.held(&[1]).await;
    kill_and_relaunch(&mut shop, held, up).await;
    let held = shop.held(&[2]).await;
    eventually("the state to be dirty", SOON, async || {
        (shop.row(1).await == "dirty up 1/2").then_some(())
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
    assert_eq!(shop.status().await["mode"], serde_json::Value::Null);
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
    kill_and_relaunch(&mut shop, Vec::new(), up).await;
    other.batch_execute("commit").await.expect("a commit");
    until("the state to be dirty", SOON, async || {
        shop.row(2).await.starts_with("dirty up ")
    })
    .await;
    assert!(!shop.has("b").await);
    assert_eq!(shop.status().await["mode"], "hold");
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
    kill_and_relaunch(&mut shop, Vec::new(), up).await;
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
