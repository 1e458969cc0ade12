//! Sessions on worker threads: they are spread, they stay, and a hold is for all of them.

use serde_json::json;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What runs on each worker, of which there are three. On the first there are the
/// listener, and what watches the thread of all else.
async fn tasks(proxy: &Proxy) -> Vec<usize> {
    let metrics = proxy.admin().get("/metrics").await.text;
    let of = |worker| {
        let name = format!("pgdrain_worker_tasks{{worker=\"{worker}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let line = line.unwrap_or_else(|| panic!("{metrics}"));
        line.parse().expect("a number")
    };
    (0..3).map(of).collect()
}

async fn until_tasks(proxy: &Proxy, expected: [usize; 3]) {
    let what = format!("{expected:?} tasks on the workers");
    until(&what, SOON, async || tasks(proxy).await == expected).await;
}

async fn three(postgres: &Postgres) -> Proxy {
    Proxy::start_set(postgres, &[("WORKERS", "3")]).await
}

#[tokio::test]
async fn sessions_are_spread_and_the_next_goes_where_one_left() {
    let postgres = Postgres::start().await;
    let proxy = three(&postgres).await;
    until_tasks(&proxy, [2, 0, 0]).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(proxy.session(DB).await);
    }
    until_tasks(&proxy, [2, 2, 2]).await;
    // The second and the third came to the other two before the first had one.
    drop(sessions.swap_remove(1));
    until_tasks(&proxy, [2, 2, 1]).await;
    sessions.push(proxy.session(DB).await);
    until_tasks(&proxy, [2, 2, 2]).await;
    for session in &mut sessions {
        session.execute("SELECT 1").await;
    }
    assert_eq!(tasks(&proxy).await, [2, 2, 2]);
    // Whoever comes to no session leaves nothing behind.
    let mut stranger = Wire::connect(proxy.addr()).await;
    stranger.send(b"nonsense").await;
    stranger.read_to_end().await;
    until_tasks(&proxy, [2, 2, 2]).await;
}

#[tokio::test]
async fn a_hold_stops_the_sessions_of_every_worker_and_an_opening_serves_them() {
    let postgres = Postgres::start().await;
    let proxy = three(&postgres).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(proxy.session(DB).await);
    }
    for inside in &mut sessions {
        inside.execute("BEGIN").await;
    }
    let path = format!("/v1/databases/{DB}/mode");
    proxy
        .admin()
        .put(&path, json!({"mode": "hold"}))
        .await
        .expect(202);
    for inside in &mut sessions {
        inside.execute("COMMIT").await;
        inside.send(&message::query("SELECT 1")).await;
    }
    proxy.until_held(DB, 6).await;
    let wait = format!("{path}?wait=drained");
    let drained = proxy.admin().put(&wait, json!({"mode": "hold"})).await;
    let drained = drained.expect(200);
    let outcome = &drained["results"][0]["drain"]["outcome"];
    assert_eq!(outcome, "drained", "{drained}");
    proxy
        .admin()
        .put(&path, json!({"mode": "open"}))
        .await
        .expect(202);
    for held in &mut sessions {
        let answer = held.read_until_ready().await;
        assert_eq!(answer[2].body, b"SELECT 1\0", "{answer:?}");
    }
}
