//! A migration ends in a known state: what is refused before it begins has changed nothing, and
//! traffic is as it was.

use crate::support::shop::{DATABASE, Shop, assert_let_in, break_journal};

#[tokio::test]
async fn a_file_that_was_changed_since_it_was_applied() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("001_a.up.sql", "create table a (id int);");
    shop.write("002_b.up.sql", "create table b ();");
    let mut inside = shop.inside(1).await;
    let up = shop.migrate(&["up"]).await;
    let why = "checksums FAILED: 001_a.up.sql has changed since it was applied";
    up.assert(1, &[why, "failed: see the checks"]);
    // Preflight holds nobody: whoever is inside may begin anew at once.
    inside.execute("commit").await;
    inside.execute("begin; commit").await;
    shop.migrate(&["status"])
        .await
        .assert(1, &["changed", "pending"]);
    assert!(!shop.has("b").await);
    assert_eq!(shop.runs().await, "succeeded 0");

    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test]
async fn a_file_that_is_missing_or_out_of_order_or_no_script() {
    let shop = Shop::open().await;
    shop.write("002_b.up.sql", "create table b ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("001_a.up.sql", "create table a ();");
    let up = shop.migrate(&["up"]).await;
    up.assert(1, &["001_a.up.sql is older than version 2"]);
    std::fs::remove_file(shop.files().join("001_a.up.sql")).expect("it is there");
    std::fs::rename(
        shop.files().join("002_b.up.sql"),
        shop.files().join("003_b.up.sql"),
    )
    .expect("it is there");
    let up = shop.migrate(&["up"]).await;
    up.assert(1, &["version 2 (002_b) is applied but its file is missing"]);
    std::fs::rename(
        shop.files().join("003_b.up.sql"),
        shop.files().join("002_b.up.sql"),
    )
    .expect("it is there");
    shop.write("003_c.up.sql", "select 1;\nselect 'never closed;");
    let up = shop.migrate(&["up"]).await;
    up.assert(5, &["files FAILED: 003_c.up.sql, line 2"]);
    shop.migrate(&["down"])
        .await
        .assert(1, &["version 2 (002_b) has no down file"]);
    assert_eq!(shop.runs().await, "succeeded 0");
}

#[tokio::test]
async fn a_role_that_may_not() {
    let roles = "create role migrator login; revoke create on schema public from public";
    let config = "[migrate]\nuser = \"migrator\"\nowner = \"postgres\"\n";
    let shop = Shop::open_with(roles, config).await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut client = shop.client().await;
    let up = shop.migrate(&["up"]).await;
    up.assert(
        1,
        &[
            "privileges FAILED",
            "long_transactions FAILED",
            "pg_read_all_stats",
        ],
    );
    assert!(!shop.has("pgdrain.migration").await);
    client.execute("insert into written values (1)").await;
    assert!(shop.window().await.is_null());

    let grants = format!(
        "grant postgres, pg_read_all_stats to migrator; grant create on database {DATABASE} \
         to migrator"
    );
    shop.sql(&grants).await;
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
    let owner = "select relowner::regrole from pg_class where relname = 'a'";
    assert_eq!(shop.ask(owner).await, "postgres");
    let applied_by = "select applied_by from pgdrain.migration";
    assert_eq!(shop.ask(applied_by).await, "migrator");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.postgres.crash().await.expect("a crash");
    let up = shop.migrate(&["up"]).await;
    up.assert(1, &["connectable FAILED: cannot connect"]);
    shop.migrate(&["status"])
        .await
        .assert(5, &["cannot connect"]);
    shop.postgres.start().await.expect("a recovery");
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut client = shop.client().await;
    break_journal(&shop.proxy.state_dir());
    let up = shop.migrate(&["up"]).await;
    let why = "no exclusive window: the journal cannot be written";
    up.assert(6, &[why, "journal.json.new"]);
    assert!(!shop.has("a").await);
    assert_eq!(shop.status().await["mode"], "open");
    client.execute("insert into written values (1)").await;
    // The same for a hold, and opening needs no journal.
    let hold = shop.proxy.run(&["hold", DATABASE]).await;
    hold.assert(5, &["Nothing was held", "journal.json.new"]);
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    // What needs no window needs no journal.
    shop.migrate(&["up", "--traffic", "open"])
        .await
        .assert(0, &["done: one file"]);

    // It was as it was before, so that nothing is found that never was.
    shop.proxy.launch().await;
    assert!(shop.window().await.is_null());
}

/// A journal that breaks while the window is open keeps nobody out.
#[tokio::test]
async fn a_journal_that_breaks_later_keeps_nobody_out() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();\nselect pg_sleep(1);");
    let up = shop.begin(&["up"]);
    shop.running("select pg_sleep").await;
    let held = shop.held(&[1]).await;
    break_journal(&shop.proxy.state_dir());
    up.ended().await.assert(0, &["done: one file"]);
    assert_let_in(held).await;
    assert_eq!(shop.status().await["mode"], "open");
    // The journal still names the window; the next process asks the history, and opens.
    shop.proxy.kill();
    std::fs::remove_dir(shop.proxy.state_dir().join("journal.json.new")).expect("it is there");
    shop.proxy.launch().await;
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "applied up 2/2");
}

#[tokio::test]
async fn what_the_server_says_is_said_with_its_place() {
    let shop = Shop::open().await;
    let sql = "create table a (id int);\n\n-- a comment with a ;\ninsert into a\nselect nothing from \
               written;\ncreate table b ();";
    shop.write("001_a.up.sql", sql);
    let place = "001_a.up.sql, statement 2 of 3, line 5, column 8: ERROR 42703: column \"nothing\"";
    let up = shop.migrate(&["up"]).await;
    up.assert(2, &[place]);
    let json = shop.migrate(&["up", "--json"]).await;
    json.assert(
        2,
        &["\"sqlstate\":\"42703\"", "\"line\":5", "\"exit_code\":2"],
    );
    let recorded = "select failed_stmt || ' ' || failed_sqlstate from pgdrain.migration";
    assert_eq!(shop.ask(recorded).await, "2 42703");
    assert!(!shop.has("a").await);
    // A lock that is not to be had in time is a failure like any other.
    shop.write("001_a.up.sql", "alter table written add column note text;");
    shop.sql("begin; lock table written in row exclusive mode")
        .await;
    let up = shop
        .migrate(&["up", "--bypass", "ignore", "--lock-timeout", "200ms"])
        .await;
    up.assert(2, &["statement 1 of 1, line 1: ERROR 55P03"]);
    shop.sql("commit").await;
    shop.write("001_a.up.sql", "select pg_sleep(600);");
    let up = shop.migrate(&["up", "--statement-timeout", "200ms"]).await;
    up.assert(2, &["statement 1 of 1, line 1: ERROR 57014"]);
}

/// Put right by hand, a migration that was dirty may run again, but not before somebody has opened:
/// what it does in the end must not be what opens.
#[tokio::test]
async fn a_window_while_traffic_is_held_after_another() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "vacuum;\nselect 1 / 0;");
    let dirty = shop.migrate(&["up", "--traffic", "exclusive"]).await;
    dirty.assert(
        2,
        &[
            "dirty: 001_a.up.sql, statement 2 of 2",
            "traffic stays held",
        ],
    );
    shop.migrate(&["up"])
        .await
        .assert(1, &["dirty FAILED: 001_a (up) stopped at statement 2"]);

    shop.sql("update pgdrain.migration set state = 'failed'")
        .await;
    shop.write("001_a.up.sql", "create table a ();");
    let held = shop.held(&[1]).await;
    let up = shop.migrate(&["up"]).await;
    let why = "no exclusive window: traffic is still held after an earlier window: a migration \
               stopped part-way: 001_a.up.sql, statement 2 of 2";
    up.assert(6, &[why, "then `pgdrain open`"]);
    assert_eq!(shop.status().await["held"], 1);
    shop.proxy
        .run(&["open", DATABASE])
        .await
        .assert(0, &["open"]);
    assert_let_in(held).await;
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
    assert_eq!(shop.row(1).await, "applied up 1/1");
}
