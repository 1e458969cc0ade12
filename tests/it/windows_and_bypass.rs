//! What a window that is asked for over HTTP does about sessions that did not come through us.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{SOON, eventually, until};
use crate::support::proxy::Proxy;

/// A server, a proxy, and a session around it that sits in a transaction.
async fn scene() -> (Postgres, Proxy, Client, i32) {
    let mut postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    drop(proxy.session(DB).await);
    let (around, pid) = begun(&mut postgres).await;
    (postgres, proxy, around, pid)
}

async fn begun(postgres: &mut Postgres) -> (Client, i32) {
    let around = postgres.connect(DB).await;
    // Where it is terminated as soon as it is seen, that is its answer.
    let row = around.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid = row.expect("a row").get(0);
    drop(around.batch_execute("BEGIN; SELECT 1").await);
    (around, pid)
}

/// Whether a list of the window's drain names this process id.
fn names(view: &Value, list: &str, pid: i32) -> bool {
    let named = view["drain"][list].as_array();
    named.is_some_and(|named| named.iter().any(|who| who["pid"] == pid))
}

#[tokio::test]
async fn one_that_is_ignored_is_named_and_left_alone() {
    let (_postgres, proxy, around, pid) = scene().await;
    let window = proxy.exclusive(DB, json!({"bypass": "ignore"})).await;
    eventually("it to be named", SOON, async || {
        names(&proxy.window(&window).await, "bypass", pid).then_some(())
    })
    .await;
    around.batch_execute("COMMIT").await.expect("left alone");
    proxy.command_window(&window, "finish").await;
    proxy.until_window(&window, "closed").await;
}

/// The default of windows.
#[tokio::test]
async fn one_that_is_waited_for_is_in_the_way_until_it_has_ended() {
    for order in [json!({}), json!({"bypass": "wait"})] {
        let (_postgres, proxy, around, pid) = scene().await;
        let window = proxy.order(DB, order).await;
        eventually("it to be in the way", SOON, async || {
            names(&proxy.window(&window).await, "in_the_way", pid).then_some(())
        })
        .await;
        assert_eq!(proxy.window(&window).await["state"], "draining");
        around.batch_execute("COMMIT").await.expect("waited for");
        proxy.until_window(&window, "exclusive").await;
        proxy.command_window(&window, "finish").await;
        proxy.until_window(&window, "closed").await;
    }
}

#[tokio::test]
async fn one_that_is_terminated_makes_way_also_when_it_comes_later() {
    let (mut postgres, proxy, around, _pid) = scene().await;
    let window = proxy.exclusive(DB, json!({"bypass": "terminate"})).await;
    let error = around.batch_execute("COMMIT").await;
    error.expect_err("its session was terminated");
    // While the window lasts, and not behind it.
    let (later, _pid) = begun(&mut postgres).await;
    until("the later one to be terminated", SOON, async || {
        later.batch_execute("SELECT 1").await.is_err()
    })
    .await;
    proxy.command_window(&window, "finish").await;
    proxy.until_window(&window, "closed").await;
    let (behind, _pid) = begun(&mut postgres).await;
    behind.batch_execute("COMMIT").await.expect("left alone");
}

#[tokio::test]
async fn a_policy_that_does_not_exist_is_refused() {
    let (_postgres, proxy, _around, _pid) = scene().await;
    let path = format!("/v1/databases/{DB}/windows");
    let order = json!({"bypass": "shoot"});
    let refused = proxy.admin().post(&path, order).await.expect(400);
    assert!(refused.to_string().contains("bypass") || refused.to_string().contains("shoot"));
    proxy.session(DB).await.execute("SELECT 1").await;
}
