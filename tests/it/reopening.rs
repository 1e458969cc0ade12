//! Reopening and caps: oldest first, so many at once, and nobody is lost on the way.

use std::collections::HashSet;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::fake_postgres::FakePostgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const ONE: &str = "SELECT 1";

async fn before_fake(fake: &FakePostgres, settings: &[(&str, &str)]) -> Proxy {
    Proxy::before_set(&format!("postgres://{}", fake.addr()), settings).await
}

/// What the clients of a test sent, in the order in which the server saw it.
fn statements(fake: &FakePostgres) -> Vec<String> {
    let seen = fake.seen().statements.into_iter();
    seen.filter(|sql| sql.starts_with("SELECT ")).collect()
}

#[tokio::test]
async fn who_waited_longest_goes_first_and_newcomers_go_last() {
    let fake = FakePostgres::start().await;
    let settings = [("HOLD_REOPEN_TRANSACTIONS", "1")];
    let proxy = before_fake(&fake, &settings).await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(Wire::login(proxy.addr(), "u", "d").await);
    }
    proxy.hold("d", json!({})).await;
    for (number, session) in sessions.iter_mut().enumerate() {
        session
            .send(&message::query(&format!("SELECT {number}")))
            .await;
        proxy.until_held("d", number as u64 + 1).await;
    }
    // Some of them leave meanwhile, one of them when its turn may have come.
    drop(sessions.remove(7));
    drop(sessions.remove(0));
    proxy.open("d").await;
    for session in &mut sessions {
        session.read_until_ready().await;
    }
    let order = statements(&fake);
    let expected: Vec<String> = (0..40).map(|number| format!("SELECT {number}")).collect();
    let without = |gone: &[usize]| {
        let kept = expected.iter().enumerate();
        kept.filter(|(number, _)| !gone.contains(number))
            .map(|(_, sql)| sql.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(order, without(&[0, 7]));
    assert_eq!(fake.seen().transactions_max, 1);
}

/// "2 000 held clients: none lost, under 8 KiB each, and never more transactions at once at the server
/// than configured."
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_held_clients_come_in_within_the_limits_and_none_is_lost() {
    const CLIENTS: usize = 2000;
    const AT_ONCE: usize = 60;
    let fake = FakePostgres::start().await;
    let at_once = AT_ONCE.to_string();
    let settings = [
        ("HOLD_REOPEN_TRANSACTIONS", at_once.as_str()),
        ("HOLD_REOPEN_FOR", "5m"),
        ("HOLD_CLIENT_DEADLINE", "5m"),
        ("HOLD_FOR", "10m"),
        ("LIMITS_LOGINS", "3000"),
        ("LIMITS_ACCEPTS_PER_SECOND", "1000000"),
    ];
    let proxy = before_fake(&fake, &settings).await;
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        let mut session = Wire::login(proxy.addr(), "u", "d").await;
        session.execute(ONE).await;
        sessions.push(session);
    }
    assert!(fake.seen().transactions_max <= 1, "one after the other");
    let before = proxy.resident_kib();
    proxy.hold("d", json!({})).await;
    for session in &mut sessions {
        session.send(&message::query("BEGIN")).await;
    }
    within("2000 held clients", PATIENCE, async {
        proxy.until_held("d", CLIENTS as u64).await;
    })
    .await;
    let grown = proxy.resident_kib().saturating_sub(before);
    println!("{grown} KiB more for {CLIENTS} held clients");
    assert!(
        grown < 8 * CLIENTS as u64,
        "{grown} KiB for {CLIENTS} held clients"
    );

    let mut clients = JoinSet::new();
    for mut session in sessions {
        clients.spawn(async move {
            let begun = session.read_until_ready().await;
            assert_eq!(begun[0].body, b"BEGIN\0", "{begun:?}");
            session.execute("COMMIT").await;
            session
        });
    }
    proxy.open("d").await;
    let mut done = Vec::new();
    within("2000 answers", PATIENCE, async {
        while let Some(session) = clients.join_next().await {
            done.push(session.expect("no client is refused"));
        }
    })
    .await;
    assert_eq!(done.len(), CLIENTS);
    let keys: HashSet<u32> = done.iter().map(|session| session.key().0).collect();
    assert_eq!(keys.len(), CLIENTS, "each with its own answer");
    let seen = fake.seen();
    assert_eq!(
        seen.statements.iter().filter(|sql| *sql == "BEGIN").count(),
        CLIENTS
    );
    println!("{} transactions at once at most", seen.transactions_max);
    assert!(
        seen.transactions_max <= AT_ONCE,
        "{}",
        seen.transactions_max
    );
    assert!(
        seen.transactions_max > AT_ONCE / 4,
        "{}",
        seen.transactions_max
    );
    let status = proxy.status("d").await;
    assert_eq!(
        (&status["held"], &status["permits"]),
        (&json!(0), &json!(0)),
        "{status}"
    );
}

#[tokio::test]
async fn a_cap_lets_so_many_in_and_the_rest_waits_in_turn() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let path = format!("/v1/databases/{DB}/cap");
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(proxy.session(DB).await);
    }
    sessions[0].execute("BEGIN").await;
    let answer = proxy
        .admin()
        .put(&path, json!({"transactions": 2, "for": "1h"}))
        .await;
    assert_eq!(answer.expect(200)["cap"]["transactions"], 2);
    sessions[1].execute("BEGIN").await;
    for (waiting, held) in [(2, 1), (3, 2)] {
        sessions[waiting].send(&message::query("BEGIN")).await;
        proxy.until_held(DB, held).await;
    }
    let status = proxy.status(DB).await;
    assert_eq!(
        (&status["mode"], &status["permits"]),
        (&json!("open"), &json!(2))
    );
    assert_eq!(status["cap"]["transactions"], 2, "{status}");
    // Each that leaves lets one in, whether it ends its transaction or not.
    sessions[0].execute("COMMIT").await;
    sessions[2].read_until_ready().await;
    proxy.until_held(DB, 1).await;
    drop(sessions.remove(1));
    sessions[2].read_until_ready().await;
    proxy.until_held(DB, 0).await;

    // A hold is a hold under a cap, and the cap is there after it, and after a crash.
    for session in &mut sessions[1..] {
        session.execute("COMMIT").await;
    }
    proxy.hold_drained(DB, json!({})).await;
    sessions[0].send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    proxy.open(DB).await;
    sessions[0].read_until_ready().await;
    assert_eq!(proxy.status(DB).await["cap"]["transactions"], 2);
    proxy.kill();
    proxy.launch().await;
    assert_eq!(proxy.status(DB).await["cap"]["transactions"], 2);
    let ran = proxy.run(&["cap", DB, "off"]).await;
    assert_eq!(
        (ran.code, ran.stdout.trim()),
        (Some(0), "postgres: not capped"),
        "{ran:?}"
    );
    assert_eq!(proxy.status(DB).await["cap"], json!(null));
}

#[tokio::test]
async fn a_cap_in_percent_is_of_what_was_busy_and_ends_by_its_time() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let mut session = proxy.session(DB).await;
        session.execute("BEGIN").await;
        sessions.push(session);
    }
    until("five permits", SOON, async || {
        proxy.status(DB).await["permits"] == 5
    })
    .await;
    let ran = proxy
        .run(&["cap", DB, "50%", "--for", "3s", "--json"])
        .await;
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer["cap"]["transactions"], 2, "{answer}");
    let mut late = proxy.session(DB).await;
    late.send(&message::query(ONE)).await;
    proxy.until_held(DB, 1).await;
    // By its time alone: nobody has left.
    late.read_until_ready().await;
    assert_eq!(proxy.status(DB).await["cap"], json!(null));
    let bad = json!({"transactions": "0%"});
    let path = format!("/v1/databases/{DB}/cap");
    proxy.admin().put(&path, bad).await.expect(400);
}

/// sqlx pings by a lone Sync before each use: it is held like any first message.
#[tokio::test]
async fn a_held_lone_sync_is_answered_after_every_one_of_many_holds() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(proxy.session(DB).await);
    }
    let batch = [
        message::parse("", ONE),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ]
    .concat();
    for round in 0..60 {
        // Before the hold, in the middle of it, or in the same breath as the opening.
        let (early, late) = sessions.split_at_mut(round % 8);
        for session in &mut *early {
            session.send(&message::sync()).await;
        }
        proxy.hold(DB, json!({})).await;
        for session in &mut *late {
            session.send(&message::sync()).await;
        }
        if round % 2 == 0 {
            // Of those before the hold some may be held too.
            until("the late ones to be held", SOON, async || {
                proxy.status(DB).await["held"].as_u64() >= Some(late.len() as u64)
            })
            .await;
        }
        proxy.open(DB).await;
        for session in &mut sessions {
            within("the answer to a Sync", SOON, session.expect(b'Z')).await;
            session.send(&batch).await;
            within("the answer to a batch", SOON, session.read_until_ready()).await;
        }
    }
}
