//! Clients that never wait for an answer drain too: they are stopped behind the unit in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What a client sends over and over: a transaction that writes one row, its number.
#[derive(Clone, Copy)]
struct Unit {
    bytes: fn(i64) -> Vec<u8>,
    /// How many times it is answered by `ReadyForQuery`.
    answers: i64,
}

const UNITS: [Unit; 3] = [
    Unit {
        bytes: simple,
        answers: 1,
    },
    Unit {
        bytes: extended,
        answers: 1,
    },
    Unit {
        bytes: block,
        answers: 2,
    },
];

/// Counts what a client sent and what it was answered.
#[derive(Debug, Default)]
struct Count {
    stop: AtomicBool,
    sent: AtomicI64,
    answered: AtomicI64,
    errors: AtomicI64,
}

/// Sends one unit after the other without waiting, as fast as the proxy takes them, until told to
/// stop; then reads the rest of the answers.
async fn pump(stream: TcpStream, unit: Unit, count: Arc<Count>) {
    let (from, mut to) = stream.into_split();
    let sent = async {
        while !count.stop.load(Ordering::SeqCst) {
            let number = count.sent.load(Ordering::SeqCst) + 1;
            to.write_all(&(unit.bytes)(number))
                .await
                .expect("it is taken");
            count.sent.store(number, Ordering::SeqCst);
        }
    };
    let answers = async {
        let mut wire = Wire::new(tokio::io::join(from, tokio::io::sink()));
        let everything_answered = || {
            let owed = count.sent.load(Ordering::SeqCst) * unit.answers;
            count.stop.load(Ordering::SeqCst) && owed == count.answered.load(Ordering::SeqCst)
        };
        while !everything_answered() {
            match wire.next().await.expect("a message").tag {
                b'Z' => count.answered.fetch_add(1, Ordering::SeqCst),
                b'E' => count.errors.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
        }
    };
    tokio::join!(sent, answers);
}

fn simple(number: i64) -> Vec<u8> {
    message::query(&format!("INSERT INTO t VALUES ({number})"))
}

fn extended(number: i64) -> Vec<u8> {
    let number = number.to_string();
    [
        message::parse("", "INSERT INTO t VALUES ($1)"),
        message::bind("", "", &[Some(&number)]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ]
    .concat()
}

/// A transaction block: nothing may be held inside of it.
fn block(number: i64) -> Vec<u8> {
    let begin = [
        message::parse("", "BEGIN"),
        message::bind("", "", &[]),
        message::execute("", 0),
    ];
    [begin.concat(), extended(number), message::query("COMMIT")].concat()
}

#[tokio::test]
async fn clients_that_keep_their_pipelines_full_are_stopped_and_go_on() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE UNLOGGED TABLE t (n bigint)").await;
    let proxy = Proxy::start(&postgres).await;
    let mut clients = JoinSet::new();
    let mut counts = Vec::new();
    for unit in UNITS {
        let count = Arc::new(Count::default());
        counts.push(Arc::clone(&count));
        let stream = proxy.session(DB).await.into_stream();
        clients.spawn(pump(stream, unit, count));
    }
    let answered = || -> Vec<i64> {
        let answered = counts.iter().map(|count| &count.answered);
        answered.map(|count| count.load(Ordering::SeqCst)).collect()
    };
    for round in 0..3 {
        let before = answered();
        until("every client to be served", SOON, async || {
            let now = answered();
            now.iter().zip(&before).all(|(now, before)| now > before)
        })
        .await;
        proxy.hold_drained(DB, json!({})).await;
        proxy.until_held(DB, 3).await;
        let held = postgres.count("SELECT count(*) FROM t").await;
        // Other transactions than those of the clients pass the time until a late one would show.
        for _ in 0..20 {
            let now = postgres.count("SELECT count(*) FROM t").await;
            assert_eq!(now, held, "round {round}");
        }
        assert_eq!(proxy.status(DB).await["permits"], 0);
        proxy.open(DB).await;
    }
    for count in &counts {
        count.stop.store(true, Ordering::SeqCst);
    }
    within("the last answers", SOON, clients.join_all()).await;
    let mut sent = 0;
    for count in &counts {
        assert_eq!(count.errors.load(Ordering::SeqCst), 0);
        sent += count.sent.load(Ordering::SeqCst);
    }
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, sent);
}
