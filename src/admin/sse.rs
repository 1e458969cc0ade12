//! Server-sent events: an answer that goes on for as long as its reader does (WHATWG HTML, section
//! 9.2 "Server-sent events").

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events that wait for their reader. A sender that meets a full feed waits.
const AHEAD: usize = 16;

/// A comment is sent after so much silence, so that a reader that is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// The reader's end: the body of an answer.
#[derive(Debug)]
pub struct Feed(mpsc::Receiver<Bytes>);

/// The sender's end. The answer ends when it is dropped.
#[derive(Debug)]
pub struct Feeder(mpsc::Sender<Bytes>);

/// The reader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the events is gone")]
pub struct Gone;

/// A feed and who fills it.
#[must_use]
pub fn feed() -> (Feeder, Feed) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (Feeder(sender), Feed(receiver))
}

impl Feeder {
    /// Sends one event; `id` is what a reader that comes back says in `Last-Event-ID`.
    pub async fn send(&self, id: u64, kind: &str, data: &impl Serialize) -> Result<(), Gone> {
        let data = match serde_json::to_string(data) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(%error, kind, "an event cannot be written as JSON");
                return Ok(());
            }
        };
        // JSON has no line breaks outside of strings, and none inside.
        self.put(format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"))
            .await
    }

    /// Waits for what comes next, and keeps the reader connected meanwhile. Cancel safe if `next`
    /// is.
    pub async fn until<T>(&self, next: impl Future<Output = T>) -> Result<T, Gone> {
        let mut next = std::pin::pin!(next);
        loop {
            let waited = tokio::select! {
                waited = timeout(SILENCE, next.as_mut()) => waited,
                () = self.0.closed() => return Err(Gone),
            };
            match waited {
                Ok(next) => return Ok(next),
                Err(_elapsed) => self.put(": still here\n\n".to_owned()).await?,
            }
        }
    }

    async fn put(&self, text: String) -> Result<(), Gone> {
        self.0.send(text.into()).await.map_err(|_closed| Gone)
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = ready!(self.0.poll_recv(cx));
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_are_framed_and_silence_is_filled() {
        let (feeder, feed) = feed();
        let sender = async move {
            feeder.send(7, "hold", &"a\nb").await.expect("a reader");
            let waited = feeder.until(tokio::time::sleep(Duration::from_secs(20)));
            waited.await.expect("a reader");
        };
        let ((), body) = tokio::join!(sender, feed.collect());
        let body = body.expect("no error").to_bytes();
        assert_eq!(
            body,
            "id: 7\nevent: hold\ndata: \"a\\nb\"\n\n: still here\n\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_ends_the_wait() {
        let (feeder, feed) = feed();
        drop(feed);
        assert_eq!(feeder.until(std::future::pending::<()>()).await, Err(Gone));
    }
}
