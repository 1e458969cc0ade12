//! Twenty read-only periods under a mixed load: reads never fail and never wait for the end of a
//! period, writes wait, and the only error is 40001 for a write that comes late in a transaction, which
//! succeeds when it is tried again at once.
//!
//! The same with real applications is `make readonly`. How long things took is printed, never asserted.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls};

use crate::support::holds::DB;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::shop::Shop;

const PERIODS: u64 = 20;
const READERS: u64 = 4;
const WRITERS: u64 = 4;

/// Numbers of one client; no test lasts for so many.
const NUMBERS: i64 = 1_000_000_000;

/// What all clients have done so far.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    /// Transactions that were told to try again.
    late: AtomicU64,
}

struct Load {
    done: Arc<Done>,
    clients: JoinSet<Result<(), String>>,
}

impl Load {
    async fn start(addr: SocketAddr) -> Self {
        let (done, mut clients) = (Arc::new(Done::default()), JoinSet::new());
        for number in 0..READERS + WRITERS {
            let url = format!("postgres://postgres@{addr}/{DB}");
            let (client, connection) = tokio_postgres::connect(&url, NoTls)
                .await
                .expect("the proxy lets us in");
            let done = Arc::clone(&done);
            clients.spawn(async move {
                let mut connections = JoinSet::new();
                connections.spawn(connection);
                let worked = if number < READERS {
                    read_on(&client, &done).await
                } else {
                    write_on(&client, &done, number.cast_signed() * NUMBERS).await
                };
                worked.map_err(|error| format!("client {number}: {error:?}"))
            });
        }
        Self { done, clients }
    }

    /// Waits until there were so many more reads. None of them may wait for what a test does next.
    async fn reads_go_on(&self, reads: u64) {
        let goal = self.done.reads.load(Ordering::Relaxed) + reads;
        until("reads to go on", SOON, async || {
            self.done.reads.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    async fn writes_go_on(&self, writes: u64) {
        let goal = self.done.writes.load(Ordering::Relaxed) + writes;
        until("writes to go on", SOON, async || {
            self.done.writes.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    async fn stop(mut self) -> Arc<Done> {
        self.done.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        while let Some(ended) = within("a client", PATIENCE, self.clients.join_next()).await {
            errors.extend(ended.expect("no client panics").err());
        }
        assert!(errors.is_empty(), "{errors:?}");
        self.done
    }
}

/// Reads as a single statement, simple and prepared, in a transaction, and through a cursor.
async fn read_on(client: &Client, done: &Done) -> Result<(), Error> {
    let sum = client
        .prepare("select count(*) from written where id > $1")
        .await?;
    while !done.stop.load(Ordering::Relaxed) {
        client.batch_execute("select max(id) from written").await?;
        client.query_one(&sum, &[&5_i64]).await?;
        client
            .query_one("select count(*) from slow where seconds > $1", &[&1.0])
            .await?;
        client.batch_execute("begin").await?;
        client.query_one(&sum, &[&7_i64]).await?;
        client
            .batch_execute("savepoint a; declare c cursor for select id from written")
            .await?;
        client.batch_execute("fetch 5 from c").await?;
        client.batch_execute("commit").await?;
        client
            .batch_execute("begin read only; table slow; end")
            .await?;
        done.reads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Writes as a single statement, simple and prepared, first and late in a transaction.
async fn write_on(client: &Client, done: &Done, from: i64) -> Result<(), Error> {
    let insert = client.prepare("insert into written values ($1)").await?;
    let mut id = from;
    while !done.stop.load(Ordering::Relaxed) {
        id += 1;
        let simple = format!("insert into written values ({id})");
        match id % 4 {
            0 => drop(client.execute(&insert, &[&id]).await?),
            1 => client.batch_execute(&simple).await?,
            2 => in_transaction(client, &["begin", &simple, "commit"]).await?,
            _ => {
                late(
                    client,
                    &["begin", "select max(id) from written", &simple, "commit"],
                    done,
                )
                .await?
            }
        }
        done.writes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn in_transaction(client: &Client, statements: &[&str]) -> Result<(), Error> {
    for sql in statements {
        client.batch_execute(sql).await?;
    }
    Ok(())
}

/// What a driver's retry does: once more and at once, after 40001 and no other error.
async fn late(client: &Client, statements: &[&str], done: &Done) -> Result<(), Error> {
    match in_transaction(client, statements).await {
        Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
            done.late.fetch_add(1, Ordering::Relaxed);
            client.batch_execute("rollback").await?;
            in_transaction(client, statements).await
        }
        other => other,
    }
}

/// Into read-only mode, entered.
async fn read_only(shop: &Shop) {
    let path = format!("/v1/databases/{DB}/mode?wait=drained");
    let mode = json!({"mode": "read_only", "writes": "queue", "for": "2m"});
    shop.proxy.admin().put(&path, mode).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_and_writes_wait_over_twenty_periods() {
    let shop = Shop::open().await;
    let load = Load::start(shop.proxy.addr()).await;
    load.writes_go_on(WRITERS * 10).await;
    let mut entering = Duration::ZERO;
    for _ in 0..PERIODS {
        let begun = Instant::now();
        read_only(&shop).await;
        entering = entering.max(begun.elapsed());
        let count = "select count(*) from written";
        let before = shop.ask(count).await;
        load.reads_go_on(READERS * 5).await;
        shop.proxy.until_held(DB, WRITERS).await;
        load.reads_go_on(READERS * 5).await;
        assert_eq!(
            shop.ask(count).await,
            before,
            "written in a read-only period"
        );
        shop.proxy.open(DB).await;
        load.writes_go_on(WRITERS * 5).await;
    }
    let done = load.stop().await;
    let (reads, writes) = (
        done.reads.load(Ordering::Relaxed),
        done.writes.load(Ordering::Relaxed),
    );
    let late = done.late.load(Ordering::Relaxed);
    println!(
        "{reads} rounds of reads, {writes} writes, {late} told to try again; entered in {entering:?} at most"
    );
    let found = shop.ask("select count(*) from written").await;
    assert_eq!(found, writes.to_string());
}

/// TPC-B begins each of its transactions by a write: not one of them fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_notices_nothing() {
    let shop = Shop::open().await;
    let filled = pgbench(&shop, &["-i", "-q"]).await.expect("no panic");
    assert!(filled.status.success(), "{filled:?}");
    for protocol in ["simple", "extended", "prepared"] {
        let before = shop.status().await["transactions_total"].as_u64();
        let running = pgbench(
            &shop,
            &["-n", "-c", "8", "-j", "2", "-t", "200", "-M", protocol],
        );
        until("pgbench to be at work", PATIENCE, async || {
            shop.status().await["transactions_total"].as_u64() > before.map(|it| it + 200)
        })
        .await;
        let mut periods = 0;
        while !running.is_finished() && periods < PERIODS {
            read_only(&shop).await;
            shop.proxy.open(DB).await;
            periods += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = within("pgbench", PATIENCE, running)
            .await
            .expect("no panic");
        let text = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{ended:?}");
        assert!(text.contains("actually processed: 1600/1600"), "{text}");
        assert!(periods > 2, "only {periods} periods came in between");
    }
    let sums = "select count(distinct s) from (select sum(abalance) from pgbench_accounts union all \
                select sum(bbalance) from pgbench_branches union all select sum(delta) from pgbench_history) x(s)";
    assert_eq!(shop.ask(sums).await, "1");
}

/// pgbench with these arguments, through the proxy, running.
fn pgbench(shop: &Shop, args: &[&str]) -> JoinHandle<Output> {
    let addr = shop.proxy.addr();
    let mut command = shop.postgres.command("pgbench");
    command
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &addr.port().to_string(),
        ])
        .args(args)
        .arg(DB)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let running = command.spawn().expect("pgbench is beside the server");
    tokio::task::spawn_blocking(|| running.wait_with_output().expect("its output"))
}
