//! Server-sent events: an answer that goes on for as long as its reader does (WHATWG HTML, section
//! 9.2 "Server-sent events").

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout};

/// Events that wait for their reader. A sender that meets a full feed waits.
const AHEAD: usize = 16;

/// A comment is sent after so much silence, so that a reader that is gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// So long one answer goes on; a reader comes back with the number of the last event that it saw. One that
/// is stuck takes what little comes into the buffers of its machine, and could not be told from one that
/// reads.
const LASTS: Duration = Duration::from_secs(3600);

/// The reader's end: the body of an answer.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<Bytes>,
    /// When it ends, well between two events.
    end: Pin<Box<Sleep>>,
}

/// The sender's end. The answer ends when it is dropped.
#[derive(Debug)]
pub struct Feeder(mpsc::Sender<Bytes>);

/// The reader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the events is gone")]
pub struct Gone;

/// A feed and who fills it. To be made where tasks run.
#[must_use]
pub fn feed() -> (Feeder, Feed) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let feed = Feed {
        events: receiver,
        end: Box::pin(sleep(LASTS)),
    };
    (Feeder(sender), feed)
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
        if self.end.as_mut().poll(cx).is_ready() {
            self.events.close();
            return Poll::Ready(None);
        }
        let bytes = ready!(self.events.poll_recv(cx));
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
    async fn it_does_not_go_on_for_ever() {
        let (feeder, feed) = feed();
        let sender = async move {
            let mut sent = 0;
            while feeder.send(sent, "tick", &sent).await.is_ok() {
                sent += 1;
                if feeder.until(sleep(Duration::from_secs(1))).await.is_err() {
                    break;
                }
            }
            sent
        };
        let (sent, body) = tokio::join!(sender, feed.collect());
        assert!((3599..=3601).contains(&sent), "{sent}");
        assert!(body.expect("no error").to_bytes().ends_with(b"\n\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_ends_the_wait() {
        let (feeder, feed) = feed();
        drop(feed);
        assert_eq!(feeder.until(std::future::pending::<()>()).await, Err(Gone));
    }
}
