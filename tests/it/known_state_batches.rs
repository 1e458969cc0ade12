//! A migration ends in a known state: a proxy that dies in the middle of a backfill, as by `kill -9`.

use serde_json::Value;

use crate::support::load::Load;
use crate::support::poll::{SOON, until};
use crate::support::shop::Shop;

const CLIENTS: i64 = 4;
const ROWS: u32 = 20_000;

/// Nothing in the statement keeps a row from being done twice: the checkpoint does.
const BACKFILL: &str = "-- pgdrain:batch table=old size=200 pause=2ms\n\
                        update old set times = times + 1 where :batch;";

async fn done(shop: &Shop) -> u32 {
    let done = shop.ask("select sum(times) from old").await;
    done.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_killed_in_a_backfill_goes_on_where_it_stopped_and_does_each_row_once() {
    let mut shop = Shop::open_with(
        &format!(
            "create table old (id int primary key, times int not null default 0); \
             insert into old select i from generate_series(1, {ROWS}) i"
        ),
        "",
    )
    .await;
    shop.write("001_old.up.sql", BACKFILL);
    shop.write("001_old.down.sql", "update old set times = 0;");
    for part in [ROWS / 8, ROWS / 2] {
        let up = shop.begin(&["up"]);
        until("batches", SOON, async || done(&shop).await >= part).await;
        shop.proxy.kill();
        up.ended().await;
        shop.proxy.launch().await;
        // Nobody is kept waiting for it. The next run finds out how far it is.
        assert_eq!(shop.window().await, Value::Null);
    }
    let load = Load::start(shop.proxy.addr(), CLIENTS).await;
    let up = shop.migrate(&["up"]).await;
    up.assert(
        0,
        &["an earlier run was lost", "goes on after", "done: one file"],
    );
    let wrote = load.stop().await;
    assert!(wrote.errors.is_empty(), "{:?}", wrote.errors);
    let once = "select count(*) filter (where times = 1) || ' ' || max(times) from old";
    assert_eq!(shop.ask(once).await, format!("{ROWS} 1"));
    assert_eq!(shop.row(1).await, "applied up 1/1");
}
