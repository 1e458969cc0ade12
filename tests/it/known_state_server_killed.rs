//! A migration ends in a known state: when its server process or the whole server goes away, in
//! whatever phase.

use pgdrain::cli::demo::cluster::Shutdown;

use crate::support::following::Following;
use crate::support::shop::{DATABASE, Shop, assert_closed, assert_let_in};
use crate::support::wire::Wire;

const SLEEPER: &str = "create table a ();\nselect pg_sleep(600);";

/// What stops the runner.
#[derive(Clone, Copy)]
enum Blow {
    /// Its server process is terminated.
    Backend(i32),
    /// Postgres is killed with all its processes, and recovers.
    Crash,
    /// Postgres is restarted in an orderly way.
    Restart,
}

impl Shop {
    async fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::Backend(pid) => self.kill_backend(pid).await,
            Blow::Crash => self.crash_server().await,
            Blow::Restart => {
                self.postgres.stop(Shutdown::Fast).await.expect("an end");
                self.postgres.start().await.expect("a start");
                self.direct = self.postgres.connect(DATABASE).await;
            }
        }
    }

    /// Begins to apply files that are in the way of nobody, with clients held.
    async fn up_with_held(&self, statement: &str) -> (Following, i32, Vec<Wire>) {
        let up = self.begin(&["up", "--bypass", "ignore"]);
        let pid = self.running(statement).await;
        (up, pid, self.held(&[1, 2]).await)
    }
}

/// Held clients go on when only the runner's process died, and are told when theirs died too.
async fn assert_held_clients(shop: &Shop, blow: Blow, held: Vec<Wire>) {
    let found = match blow {
        Blow::Backend(_) => {
            assert_let_in(held).await;
            "2"
        }
        Blow::Crash | Blow::Restart => {
            assert_closed(held, Some("57P01")).await;
            "0"
        }
    };
    assert_eq!(shop.ask("select count(*) from written").await, found);
}

#[tokio::test]
async fn in_a_statement_it_is_rolled_back_and_traffic_flows() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", SLEEPER);
    for blow in [None, Some(Blow::Crash), Some(Blow::Restart)] {
        let (up, pid, held) = shop.up_with_held("select pg_sleep").await;
        let blow = blow.unwrap_or(Blow::Backend(pid));
        shop.strike(blow).await;
        up.ended()
            .await
            .assert(2, &["rolled back: 001_a.up.sql, statement 2 of 2, line 2"]);
        shop.reopened().await;
        assert_held_clients(&shop, blow, held).await;
        assert_eq!(shop.row(1).await, "failed up 0/2");
        assert!(!shop.has("a").await);
        shop.sql("truncate written").await;
    }
    assert_eq!(shop.runs().await, "failed 2, failed 2, failed 2");
}

#[tokio::test]
async fn at_commit_it_is_rolled_back_and_traffic_flows() {
    let mut shop = Shop::open().await;
    shop.write(
        "001_a.up.sql",
        "create table a ();\ninsert into slow values (600);",
    );
    for blow in [None, Some(Blow::Crash)] {
        let (up, pid, held) = shop.up_with_held("commit").await;
        let blow = blow.unwrap_or(Blow::Backend(pid));
        shop.strike(blow).await;
        up.ended()
            .await
            .assert(2, &["rolled back: 001_a.up.sql: ", "at COMMIT"]);
        shop.reopened().await;
        assert_held_clients(&shop, blow, held).await;
        assert_eq!(shop.row(1).await, "failed up 0/2");
        assert!(!shop.has("a").await);
        shop.sql("truncate written").await;
    }
}

#[tokio::test]
async fn between_begin_and_the_first_statement_it_is_rolled_back() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("002_b.up.sql", "create table b ();");
    let other = shop.postgres.connect(DATABASE).await;
    let lock = other.batch_execute("begin; lock table pgdrain.migration in exclusive mode");
    lock.await.expect("a lock");
    let up = shop.begin(&["up", "--bypass", "ignore"]);
    let pid = shop.between_statements().await;
    shop.kill_backend(pid).await;
    other.batch_execute("commit").await.expect("a commit");
    up.ended().await.assert(2, &["rolled back: 002_b.up.sql"]);
    assert_eq!(shop.status().await["mode"], "open");
    assert_eq!(shop.row(2).await, "failed up 0/1");
    assert!(!shop.has("b").await);
    shop.migrate(&["up"]).await.assert(0, &["done: one file"]);
}

#[tokio::test]
async fn in_a_concurrent_statement_it_is_dirty_and_traffic_stays_held() {
    for crash in [false, true] {
        let mut shop = Shop::open().await;
        let sql = "create table a ();\ncreate index concurrently written_id on written (id);";
        shop.write("001_a.up.sql", sql);
        let other = shop.postgres.connect(DATABASE).await;
        let lock = other.batch_execute("begin; lock table written in row exclusive mode");
        lock.await.expect("a lock");
        let (up, pid, held) = shop.up_with_held("create index").await;
        shop.strike(if crash {
            Blow::Crash
        } else {
            Blow::Backend(pid)
        })
        .await;
        let said = [
            "dirty: 001_a.up.sql, statement 2 of 2",
            "traffic stays held",
        ];
        up.ended().await.assert(2, &said);
        assert_eq!(shop.row(1).await, "dirty up 1/2");
        assert!(shop.has("a").await);
        let status = shop.proxy.run(&["status"]).await;
        status.assert(
            0,
            &["stays held: a migration stopped part-way: 001_a.up.sql"],
        );
        assert_eq!(shop.ask("select count(*) from written").await, "0");
        let held = if crash {
            assert_closed(held, Some("57P01")).await;
            shop.held(&[1, 2]).await
        } else {
            held
        };
        shop.proxy
            .run(&["open", DATABASE])
            .await
            .assert(0, &["open"]);
        assert_let_in(held).await;
    }
}

#[tokio::test]
async fn while_it_drains_a_new_process_is_made() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    let runners = "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity \
                   where application_name = 'pgdrain migrate'";
    assert_eq!(shop.ask(runners).await, "2");
    inside.execute("commit").await;
    up.ended().await.assert(0, &["done: one file"]);
    assert_let_in(held).await;
    assert_eq!(shop.row(1).await, "applied up 1/1");
    assert_eq!(shop.runs().await, "succeeded 0");
}

#[tokio::test]
async fn while_it_drains_a_crash_of_the_server_takes_who_was_in_the_way() {
    let mut shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let held = shop.held(&[2]).await;
    shop.crash_server().await;
    assert_closed(held, Some("57P01")).await;
    // It waits for nothing, so that its server's end is passed on as it came.
    inside.read_to_end().await;
    up.ended().await.assert(0, &["done: one file"]);
    shop.reopened().await;
    assert_eq!(shop.row(1).await, "applied up 1/1");
    assert_eq!(shop.ask("select count(*) from written").await, "0");
}

#[tokio::test]
async fn a_control_connection_that_dies_is_made_anew_in_the_drain() {
    let shop = Shop::open().await;
    shop.write("001_a.up.sql", "create table a ();");
    shop.migrate(&["up"]).await.assert(0, &[]);
    shop.write("002_b.up.sql", "create table b ();");
    let mut inside = shop.inside(1).await;
    let up = shop.begin(&["up", "--wait", "5m"]);
    shop.draining().await;
    let control = "select count(pg_terminate_backend(pid, 20000)) from pg_stat_activity \
                   where application_name = 'pgdrain control'";
    assert_eq!(shop.ask(control).await, "1");
    inside.execute("commit").await;
    up.ended().await.assert(0, &["done: one file"]);
    assert_eq!(shop.row(2).await, "applied up 1/1");
}
