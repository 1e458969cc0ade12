//! Many applications at once, all through the proxy, and the tally of what they saw.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::{Config, NoTls};
use tokio_util::sync::CancellationToken;

use super::tally::Tally;
use super::work::Worker;

/// How long clients may take to connect, and to have an answer to their last transaction.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that an application computes between two transactions.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// Clients at work. Dropping it cuts them off.
pub(super) struct Load {
    clients: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
}

impl Load {
    /// Connects so many clients and sets them to work, all at the same time.
    ///
    /// # Errors
    /// One could not connect or prepare its statements.
    pub(super) async fn start(url: &str, clients: u32, accounts: u32) -> anyhow::Result<Self> {
        let config: Config = url.parse()?;
        let accounts = i32::try_from(accounts).context("too many accounts")?;
        let mut load = Self {
            clients: JoinSet::new(),
            tally: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (ready, mut all_ready) = tokio::sync::mpsc::unbounded_channel();
        let begin = CancellationToken::new();
        for number in 1..=clients {
            let client = Application {
                number,
                tally: Arc::clone(&load.tally),
                begin: begin.clone(),
                stop: load.stop.clone(),
            };
            let (config, ready) = (config.clone(), ready.clone());
            load.clients.spawn(client.live(config, accounts, ready));
        }
        drop(ready);
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..clients {
            let next = timeout_at(deadline, all_ready.recv()).await;
            let next = next.context("the clients could not connect in time")?;
            next.context("a client ended early")??;
        }
        begin.cancel();
        Ok(load)
    }

    /// What was seen so far.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Lets every client end its transaction and leave.
    pub(super) async fn stop(mut self) -> Tally {
        self.stop.cancel();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(Some(ended)) = timeout_at(deadline, self.clients.join_next()).await {
            if let Err(error) = ended {
                self.tally().lost(format!("a client ended early: {error}"));
            }
        }
        for _ in 0..self.clients.len() {
            let message = format!("a client had no answer within {PATIENCE:?}");
            self.tally().lost(message);
        }
        std::mem::take(&mut *self.tally())
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // A tally is whole between any two of its calls.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a client tells that it is ready, or why it will not be.
type Ready = tokio::sync::mpsc::UnboundedSender<anyhow::Result<()>>;

/// One client.
struct Application {
    number: u32,
    tally: Arc<Mutex<Tally>>,
    begin: CancellationToken,
    stop: CancellationToken,
}

impl Application {
    async fn live(self, mut config: Config, accounts: i32, ready: Ready) {
        config.application_name(format!("demo client {}", self.number));
        let (client, connection) = match config.connect(NoTls).await {
            Ok(both) => both,
            Err(error) => {
                // Whoever waits for it has left if this cannot be told.
                let _nobody_waits = ready.send(Err(error.into()));
                return;
            }
        };
        let work = async {
            match Worker::new(client, self.number, accounts).await {
                Ok(worker) => {
                    let _nobody_waits = ready.send(Ok(()));
                    drop(ready);
                    self.begin.cancelled().await;
                    self.work(worker).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        };
        // The connection ends when `work` drops its client; if it breaks before, `work` hears of it
        // by its next statement.
        let (_ended, ()) = tokio::join!(connection, work);
    }

    async fn work(&self, mut worker: Worker) {
        while !self.stop.is_cancelled() {
            match worker.transact().await {
                Ok((transaction, wrote)) => lock(&self.tally).ended(transaction, wrote),
                Err(error) => {
                    let message = format!("client {}: {error:#}", self.number);
                    if !worker.recover().await {
                        lock(&self.tally).lost(message);
                        return;
                    }
                    lock(&self.tally).failed(message);
                }
            }
            let pause = PAUSE_MAX.mul_f64(rand::random());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }
}
