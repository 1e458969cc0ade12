//! Where finished spans go: a queue that never makes anybody wait, and one task that sends what is in it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Spans that wait; of more the newest are dropped. A migration of a thousand statements fits.
const QUEUE: usize = 4096;

/// The most spans of one request.
const BATCH: usize = 512;

/// How long spans are collected before they are sent.
const COLLECT: Duration = Duration::from_secs(1);

/// How long one try may take.
const TRY_TIME: Duration = Duration::from_secs(10);

/// The pauses before the tries after the first.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// What is left for sending when the process stops.
const LAST: Duration = Duration::from_secs(2);

/// Takes finished spans.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    queue: mpsc::Sender<SpanData>,
    metrics: Arc<Metrics>,
}

/// The same, which does not keep the sender of spans from its end.
#[derive(Clone, Debug)]
pub(super) struct WeakOutlet {
    queue: mpsc::WeakSender<SpanData>,
    metrics: Arc<Metrics>,
}

/// Sends spans.
pub(super) struct Sender {
    pub(super) exporter: SpanExporter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

/// An outlet, and where its spans come out.
pub(super) fn queue(metrics: &Arc<Metrics>) -> (Outlet, mpsc::Receiver<SpanData>) {
    let (queue, spans) = mpsc::channel(QUEUE);
    let metrics = Arc::clone(metrics);
    (Outlet { queue, metrics }, spans)
}

impl Outlet {
    /// Takes spans; never waits.
    pub(super) fn take(&self, spans: Vec<SpanData>) {
        for span in spans {
            if self.queue.try_send(span).is_err() {
                self.metrics.spans_dropped(1);
            }
        }
    }

    pub(super) fn downgrade(&self) -> WeakOutlet {
        WeakOutlet {
            queue: self.queue.downgrade(),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl WeakOutlet {
    /// The outlet, unless all have gone that had it.
    pub(super) fn upgrade(&self) -> Option<Outlet> {
        Some(Outlet {
            queue: self.queue.upgrade()?,
            metrics: Arc::clone(&self.metrics),
        })
    }
}

impl Sender {
    /// Sends what comes out of the queue, until nobody has its other end.
    pub(super) async fn run(self, mut spans: mpsc::Receiver<SpanData>) {
        let mut down = false;
        loop {
            let mut batch = Vec::new();
            if spans.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            let until = Instant::now() + COLLECT;
            while batch.len() < BATCH && !self.stop.is_cancelled() {
                let room = BATCH - batch.len();
                let more = timeout_at(until, spans.recv_many(&mut batch, room));
                tokio::select! {
                    more = more => if !matches!(more, Ok(1..)) { break },
                    () = self.stop.cancelled() => {}
                }
            }
            let count = batch.len();
            match self.send(batch).await {
                Ok(()) => {
                    self.metrics.spans_sent(count);
                    if std::mem::take(&mut down) {
                        tracing::info!("the collector takes spans again");
                    }
                }
                Err(why) => {
                    self.metrics.spans_dropped(count);
                    if !std::mem::replace(&mut down, true) {
                        tracing::warn!(
                            why,
                            "the collector takes no spans; they are dropped until it does"
                        );
                    }
                }
            }
            if down && self.stop.is_cancelled() {
                // It was asked in vain, and a process that stops asks once.
                spans.close();
                while spans.recv().await.is_some() {
                    self.metrics.spans_dropped(1);
                }
                return;
            }
        }
    }

    /// A few tries; when the process stops, what is left of the one that is under way, or one.
    async fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let stopping = async {
            self.stop.cancelled().await;
            sleep(LAST).await;
        };
        tokio::select! {
            sent = self.tries(batch) => sent,
            () = stopping => Err("no answer before pgdrain stopped".to_owned()),
        }
    }

    async fn tries(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let mut pauses = PAUSES.iter();
        loop {
            let sent = match timeout(TRY_TIME, self.exporter.export(batch.clone())).await {
                Ok(sent) => sent.map_err(|error| error.to_string()),
                Err(_elapsed) => Err("no answer within 10 s".to_owned()),
            };
            match (sent, pauses.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(pause)) if !self.stop.is_cancelled() => sleep(*pause).await,
                (Err(why), _) => return Err(why),
            }
        }
    }
}
