//! An application at work: clients that write all the time, and count what was acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use super::poll::{PATIENCE, SOON, until, within};
use super::shop::DATABASE;

/// Ids of one writer; no test lasts for so many.
const IDS: i64 = 1_000_000_000;

/// Clients at work, each on a connection of its own through the proxy.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: JoinSet<Wrote>,
}

/// What one or all clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Wrote {
    /// Rows whose write was acknowledged.
    pub(crate) acknowledged: u64,
    /// Errors, which end the client that meets one.
    pub(crate) errors: Vec<String>,
    /// The longest wait for an answer.
    pub(crate) longest: Duration,
}

impl Load {
    /// Connects so many clients and returns when each of them has written something.
    pub(crate) async fn start(addr: SocketAddr, clients: i64) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            writers: JoinSet::new(),
        };
        for number in 0..clients {
            let url = format!("postgres://postgres@{addr}/{DATABASE}");
            let (client, connection) = tokio_postgres::connect(&url, NoTls)
                .await
                .expect("the proxy lets us in");
            let writer = Writer {
                client,
                stop: Arc::clone(&load.stop),
                acknowledged: Arc::clone(&load.acknowledged),
                wrote: Wrote::default(),
                next: number * IDS,
            };
            load.writers.spawn(async move {
                let mut connections = JoinSet::new();
                connections.spawn(connection);
                writer.work().await
            });
        }
        load.goes_on(clients.unsigned_abs() * 10).await;
        load
    }

    /// Waits until so many more rows were acknowledged.
    pub(crate) async fn goes_on(&self, rows: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + rows;
        until("clients to write on", SOON, async || {
            self.acknowledged.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// Lets every client end its transaction, and adds up.
    pub(crate) async fn stop(mut self) -> Wrote {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Wrote::default();
        while let Some(wrote) = within("a client", PATIENCE, self.writers.join_next()).await {
            let wrote = wrote.expect("no client panics");
            all.acknowledged += wrote.acknowledged;
            all.errors.extend(wrote.errors);
            all.longest = all.longest.max(wrote.longest);
        }
        all
    }
}

struct Writer {
    client: Client,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    wrote: Wrote,
    next: i64,
}

impl Writer {
    async fn work(mut self) -> Wrote {
        if let Err(error) = self.write_on().await {
            self.wrote.errors.push(format!("{error:?}"));
        }
        self.wrote
    }

    async fn write_on(&mut self) -> Result<(), tokio_postgres::Error> {
        let insert = self.client.prepare("insert into written values ($1)");
        let insert = insert.await?;
        while !self.stop.load(Ordering::Relaxed) {
            let (id, begun) = (self.next, Instant::now());
            let rows = self.transaction(&insert, id).await?;
            self.next += rows;
            let rows = rows.unsigned_abs();
            self.wrote.acknowledged += rows;
            self.acknowledged.fetch_add(rows, Ordering::Relaxed);
            self.wrote.longest = self.wrote.longest.max(begun.elapsed());
        }
        Ok(())
    }

    /// A prepared statement, a simple one, or both in a transaction; gives how many rows it wrote.
    async fn transaction(&self, insert: &Statement, id: i64) -> Result<i64, tokio_postgres::Error> {
        let simple = |id: i64| format!("insert into written values ({id})");
        match id % 3 {
            0 => self.client.execute(insert, &[&id]).await.map(|_| 1),
            1 => self.client.batch_execute(&simple(id)).await.map(|()| 1),
            _ => {
                self.client.batch_execute("begin").await?;
                self.client.execute(insert, &[&id]).await?;
                self.client.batch_execute(&simple(id + 1)).await?;
                self.client.batch_execute("commit").await?;
                Ok(2)
            }
        }
    }
}
