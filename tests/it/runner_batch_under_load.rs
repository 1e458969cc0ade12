//! A table that clients write to is backfilled under them: they see no error, and every row is done.

use serde_json::Value;

use crate::support::load::Load;
use crate::support::shop::Shop;

const CLIENTS: i64 = 8;

/// The old rows; those that clients write are above.
const ROWS: u32 = 50_000;

/// From now on the application does itself what the backfill does for the old rows.
const COLUMN: &str = "alter table written add mapped bigint, add times int not null default 0;
create function map_written() returns trigger language plpgsql as
$$ begin new.mapped := new.id * 2; return new; end $$;
create trigger map_written before insert on written for each row execute function map_written();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_rows_are_done_once_under_load_and_clients_see_no_error() {
    let shop = Shop::open().await;
    shop.sql(&format!(
        "insert into written select -i from generate_series(1, {ROWS}) i"
    ))
    .await;
    shop.write("001_column.up.sql", COLUMN);
    shop.write(
        "001_column.down.sql",
        "drop trigger map_written on written; drop function map_written; \
         alter table written drop column mapped, drop column times;",
    );
    shop.write(
        "002_backfill.up.sql",
        "-- pgdrain:batch table=written size=1000 pause=1ms vacuum=20 done=\"mapped is null\"\n\
         update written set mapped = id * 2, times = times + 1 where :batch;",
    );
    shop.write("002_backfill.down.sql", "update written set mapped = null;");
    let load = Load::start(shop.proxy.addr(), CLIENTS).await;
    let up = shop.migrate(&["up"]).await;
    up.assert(
        0,
        &[
            "002_backfill.up.sql: 1 statements, in batches, in open traffic",
            "done: 2 files",
        ],
    );
    load.goes_on(100).await;
    let wrote = load.stop().await;
    assert!(wrote.errors.is_empty(), "{:?}", wrote.errors);

    assert_eq!(shop.window().await, Value::Null);
    assert_eq!(shop.row(2).await, "applied up 1/1");
    let left = "select count(*) from written where mapped is distinct from id * 2";
    assert_eq!(shop.ask(left).await, "0");
    let once = "select count(*) filter (where times = 1) || ' ' || max(times) from written \
                where id < 0";
    assert_eq!(shop.ask(once).await, format!("{ROWS} 1"));
    // What was acknowledged is there.
    let found = shop.ask("select count(*) from written where id >= 0").await;
    assert_eq!(found, wrote.acknowledged.to_string());
    let batches = "select report->'files'->1->'batches'->>'before' || ' ' || \
                   (report->'files'->1->'batches'->>'left') from pgdrain.run";
    let found = shop.ask(batches).await;
    assert!(found.ends_with(" 0"), "{found}");
}
