//! What clients feel is measured before a run, compared while it lasts and in the watch after it, and triggers
//! act on it: through a real proxy.

use serde_json::Value;

use crate::support::message;
use crate::support::poll::{PATIENCE, until};
use crate::support::shop::Shop;
use crate::support::wire::Wire;

/// A function that applications call, quick before the migration and slow after it.
const WORK: &str =
    "create function work(int) returns void language sql as 'select pg_sleep(0.001)'";
const SLOW: &str =
    "create or replace function work(int) returns void language sql as 'select pg_sleep(0.02)';";

fn config(triggers: &str) -> String {
    format!(
        "[migrate]\ndown_required = false\ntriggers = [{triggers}]\n[migrate.measures]\none_in = 1\n"
    )
}

async fn works(client: &mut Wire, times: usize) {
    for number in 0..times {
        client.execute(&format!("SELECT work({number})")).await;
    }
}

async fn fails(client: &mut Wire) {
    client.send(&message::query("SELECT 1/0")).await;
    client.read_until_ready().await;
}

/// The watch after the last run.
async fn after(shop: &Shop) -> Value {
    let admin = shop.proxy.admin();
    let path = "/v1/databases/postgres/migrations";
    let all = admin.get(path).await.expect(200);
    let run = all["migrations"][0]["id"]
        .as_str()
        .expect("a run")
        .to_owned();
    let view = admin.get(&format!("/v1/migrations/{run}")).await;
    view.expect(200)["after"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_compared_with_the_time_before_it_and_the_page_shows_it() {
    let triggers = "{ on = 'statement_slower_percent', above = 10, for = '0s' }, \
         { on = 'mean_ms', above = 5, for = '0s', statement = 'select WORK(7)' }, \
         { on = 'new_errors', above = 0, for = '0s' }, \
         { on = 'client_error_percent', above = 5, for = '0s' }, \
         { on = 'pool_percent', above = 0, for = '0s' }";
    let shop = Shop::open_with(WORK, &config(triggers)).await;
    shop.write("1_slow.up.sql", SLOW);
    let measure = [
        "statements",
        "postgres",
        "--measure",
        "10m",
        "--one-in",
        "1",
    ];
    let asked = shop.proxy.run(&measure).await;
    assert!(asked.stdout.contains("one in 1"), "{}", asked.stdout);
    let mut client = shop.client().await;
    works(&mut client, 60).await;

    let up = shop.begin(&["up", "--measure", "1s", "--watch", "10m"]);
    up.ended().await.assert(0, &["done: one file"]);
    until("the triggers to fire", PATIENCE, async || {
        works(&mut client, 10).await;
        fails(&mut client).await;
        let fired = after(&shop).await["fired"].clone();
        let fired = fired.as_array().expect("a list");
        let on = |what: &str| fired.iter().any(|it| it["trigger"]["on"] == what);
        [
            "statement_slower_percent",
            "mean_ms",
            "new_errors",
            "client_error_percent",
            "pool_percent",
        ]
        .iter()
        .all(|what| on(what))
    })
    .await;
    let shown = after(&shop).await;
    let first = &shown["comparison"]["statements"][0];
    assert_eq!(first["text"], "select work (?)", "{shown}");
    assert!(first["slower_percent"].as_f64() > Some(100.0), "{shown}");
    assert!(
        shown["comparison"]["new_errors"]["22012"].is_u64(),
        "{shown}"
    );

    shop.proxy.run(&["migrate", "unwatch", "postgres"]).await;
    until("the watch to be over, and its page", PATIENCE, async || {
        let page = shop.migrate(&["report", "--markdown"]).await.stdout;
        page.contains("Statements, before and since") && page.contains("select work (?)")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_holds_the_traffic_of_the_proxy_until_somebody_opens_it() {
    let triggers = "{ on = 'longest_statement_ms', above = 200, for = '0s', then = 'hold' }";
    let shop = Shop::open_with(WORK, &config(triggers)).await;
    shop.write("1_slow.up.sql", SLOW);
    let up = shop.begin(&["up", "--watch", "10m"]);
    up.ended().await.assert(0, &["done: one file"]);
    let (mut long, mut other) = (shop.client().await, shop.client().await);
    long.send(&message::query("SELECT pg_sleep(5)")).await;
    until("traffic to be held", PATIENCE, async || {
        shop.status().await["mode"] == "hold"
    })
    .await;
    let status = shop.status().await;
    let hold = &status["holds"][0];
    assert_eq!(hold["by"], "a trigger of a migration", "{status}");
    let reason = hold["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("longest_statement_ms above 200"),
        "{status}"
    );
    until("the watch to have ended so", PATIENCE, async || {
        after(&shop).await["state"] == "held"
    })
    .await;
    // A client waits, and goes on when somebody opens.
    other.send(&message::query("SELECT 1")).await;
    shop.proxy.until_held("postgres", 1).await;
    shop.proxy.run(&["open", "postgres"]).await;
    let answer = other.read_until_ready().await;
    assert_eq!(answer.last().expect("ready").body, b"I");
}
