//! Slow connections, handshakes that stop in the middle, and cancel requests with random keys, all at
//! once: nothing is cancelled, everybody else is served, and it leaves nothing behind. What it costs
//! in time is measured by `loadtest/hostile`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::support::certificates::Authority;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const EACH: usize = 300;

/// The beginning of a handshake record that says it is 512 bytes long.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn a_flood_cancels_nothing_and_ends() {
    let mut postgres = Postgres::start().await;
    let authority = Authority::new("ours");
    let pair = authority.sign("proxy", &["localhost"]);
    let settings = [
        &pair.settings()[..],
        // Room for a part of the flood: it must not keep others out.
        &[("LIMITS_LOGINS", "200"), ("LIMITS_LOGIN_TIME", "5s")],
    ];
    let proxy = Proxy::start_set(&postgres, &settings.concat()).await;
    let mut long = proxy.session(DB).await;
    let locked = "SELECT pg_advisory_lock(1), pg_sleep(0)";
    let owner = postgres.connect(DB).await;
    let lock = "SELECT pg_advisory_lock(1)";
    owner.batch_execute(lock).await.expect("a free lock");
    long.send(&message::query(locked)).await;
    postgres.until_somebody_waits().await;
    let before = proxy.resident_kib();

    let over = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    for _ in 0..4 {
        let mut session = proxy.session(DB).await;
        let (over, addr) = (Arc::clone(&over), proxy.addr());
        others.spawn(async move {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(session.query_one("SELECT 'served'").await, "served");
                let mut new = Wire::login(addr, "postgres", DB).await;
                assert_eq!(new.query_one("SELECT 'new'").await, "new");
                served += 1;
            }
            served
        });
    }
    let (mut slow, mut handshakes) = (Vec::new(), Vec::new());
    let pid = long.key().0;
    for number in 0..EACH {
        let mut wire = Wire::connect(proxy.addr()).await;
        // A start-up packet of 8 KiB, of which a few hundred bytes will come.
        wire.send(&[0, 0, 0x20, 0]).await;
        slow.push(wire);
        let mut wire = Wire::connect(proxy.addr()).await;
        // It may have lost its place already.
        if wire.try_send(&message::ssl_request()).await.is_ok()
            && wire.try_read_byte().await == Some(b'S')
        {
            drop(wire.try_send(&HALF_HELLO).await);
        }
        handshakes.push(wire);
        let secret: [u8; 4] = rand::random();
        // Half of them know a process id.
        let pid = if number % 2 == 0 { pid } else { rand::random() };
        Wire::cancel(proxy.addr(), (pid, secret.to_vec())).await;
        for wire in &mut slow {
            // A byte each, now and then, to those that are left.
            drop(wire.try_send(b"u").await);
        }
    }
    // The proxy lives on what the flood left it: no more than it had, and what some hundred
    // handshakes take.
    let after = proxy.resident_kib();
    assert!(
        after < before + (48 << 10),
        "{before} KiB before, {after} after"
    );
    for wire in slow.iter_mut().chain(&mut handshakes) {
        within("the flood to be ended", PATIENCE, wire.read_raw_to_end()).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(served) = others.join_next().await {
        assert!(served.expect("everybody is served") > 0);
    }

    // The statement that was there before it all still runs, and ends as it should.
    let unlock = "SELECT pg_advisory_unlock(1)";
    owner.batch_execute(unlock).await.expect("our lock");
    let answer = long.read_until_ready().await;
    assert!(
        answer.iter().all(|message| message.tag != b'E'),
        "{answer:?}"
    );
    drop(long);
    until("all sessions to end", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
}
