//! A connection whose other side has to take what it asked for.
//!
//! A reader that takes nothing, or next to nothing, would keep a connection, what was written for it, and
//! whoever fills it. So whatever waits to be written has to be taken as a whole within [`TAKE_TIME`]; what
//! else is written meanwhile does not put that off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The longest time between the moment when a reader was not ready for something and the moment when it
/// has taken all that was written for it.
pub(super) const TAKE_TIME: Duration = Duration::from_secs(60);

/// A stream that ends with an error (`TimedOut`) when its reader does not read.
pub(super) struct Patient<S> {
    stream: S,
    /// Runs from when something had to wait to when all has been written.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Patient<S> {
        Patient {
            stream,
            waits: None,
        }
    }

    /// Gives what became of a write; one that waits may do so for a limited time.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(TAKE_TIME)));
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the reader does not take its answer",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper asks for this once nothing of its own is left to be written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.waits = None;
        }
        self.bounded(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (ours, _theirs) = duplex(8);
        let mut ours = Patient::new(ours);
        let begun = Instant::now();
        let error = ours.write_all(&[7; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), TAKE_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_put_it_off() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Patient::new(ours);
        let drips = async {
            loop {
                tokio::time::sleep(TAKE_TIME / 4).await;
                theirs.read_u8().await.expect("something is there");
            }
        };
        let writes = async {
            let mut sent = 0;
            loop {
                // As hyper does: all of one event, and then the next.
                match ours.write(&[7; 4]).await {
                    Ok(bytes) => sent += bytes,
                    Err(error) => return (error, sent),
                }
            }
        };
        let (error, sent) = tokio::select! {
            () = drips => unreachable!("it goes on"),
            ended = writes => ended,
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(sent <= 8 + 4, "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_at_last_has_all_the_time_again() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Patient::new(ours);
        for _ in 0..5 {
            let (sent, _) = tokio::join!(
                async {
                    ours.write_all(&[7; 16]).await?;
                    ours.flush().await
                },
                async {
                    tokio::time::sleep(TAKE_TIME * 3 / 4).await;
                    let mut taken = [0; 16];
                    theirs.read_exact(&mut taken).await
                }
            );
            sent.expect("it was taken in time");
        }
        // An idle connection is not what is bounded here.
        let idle = timeout(TAKE_TIME * 3, theirs.read_u8()).await;
        assert!(idle.is_err(), "it is open");
    }
}
