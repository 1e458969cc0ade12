//! A connection in memory that costs as little as one can.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pgdrain::tls::stream::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One side of the connection. It wakes nobody: who polls knows when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    arrived: Vec<u8>,
    written: Vec<u8>,
}

// None of it is inlined, so that what it takes can be told from what the relay takes.
impl Line {
    #[inline(never)]
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes arrive.
    #[inline(never)]
    pub(crate) fn deliver(&self, bytes: &[u8]) {
        self.state().arrived.extend_from_slice(bytes);
    }

    /// Forgets what was written; gives how much it was.
    #[inline(never)]
    pub(crate) fn take_written(&self) -> usize {
        let mut state = self.state();
        let bytes = state.written.len();
        state.written.clear();
        bytes
    }

    /// Forgets what has arrived; gives how much it was.
    #[inline(never)]
    pub(crate) fn take_arrived(&self) -> usize {
        let mut state = self.state();
        let bytes = state.arrived.len();
        state.arrived.clear();
        bytes
    }
}

impl AsyncRead for Line {
    #[inline(never)]
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.arrived.is_empty() {
            return Poll::Pending;
        }
        let bytes = state.arrived.len().min(buffer.remaining());
        buffer.put_slice(&state.arrived[..bytes]);
        state.arrived.drain(..bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    #[inline(never)]
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Line {
    fn peer_has_closed(&self, _: &mut Context<'_>) -> bool {
        false
    }

    fn has_unsent(&self) -> bool {
        false
    }
}
