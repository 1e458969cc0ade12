//! Pools that ping a connection by a lone Sync before they give it out (sqlx), through one hold after
//! the other: every ping is answered, also the one that was held, and traffic goes on after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{bind, execute, parse, sync};
use crate::support::poll::{PATIENCE, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const CLIENTS: u64 = 16;
const HOLDS: u64 = 150;

/// A ping, a statement, and a ping right behind a statement, over and over.
async fn ping(mut wire: Wire, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let select = [
        parse("", "SELECT 1"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ]
    .concat();
    while !stop.load(Ordering::Relaxed) {
        wire.units(&sync(), 1).await;
        wire.units(&select, 1).await;
        wire.units(&[select.clone(), sync()].concat(), 2).await;
        answered.fetch_add(4, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ping_is_answered() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let wire = proxy.session(DB).await;
        clients.spawn(ping(wire, Arc::clone(&stop), Arc::clone(&answered)));
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for hold in 0..HOLDS {
        proxy.hold(DB, json!({})).await;
        if hold % 3 == 0 {
            proxy.until_held(DB, CLIENTS).await;
        } else {
            // In the middle of whatever they do.
            let pause = std::time::Duration::from_micros(random.random_range(0..4000));
            tokio::time::sleep(pause).await;
        }
        proxy.open(DB).await;
        let goal = answered.load(Ordering::Relaxed) + 8 * CLIENTS;
        until("pings to be answered", PATIENCE, async || {
            answered.load(Ordering::Relaxed) >= goal
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = within("a client's last answer", PATIENCE, clients.join_next()).await {
        ended.expect("every client was answered");
    }
}
