//! A connection in memory whose other end decides byte by byte what arrives and what is taken.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use pgdrain::tls::stream::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One side of the connection, for the code under test. Wakes nobody who has not come in vain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    arrived: VecDeque<u8>,
    /// Nothing arrives any more.
    ended: bool,
    written: Vec<u8>,
    /// Taken, and kept back until somebody flushes.
    unsent: Vec<u8>,
    /// Whether anything is kept back.
    collects: bool,
    /// How much more is taken.
    room: usize,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Empty, with room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        let pipe = Self::default();
        pipe.state().room = room;
        pipe
    }

    /// From here on what is written goes nowhere by itself.
    pub(crate) fn collect(&self) {
        self.state().collects = true;
    }

    /// Bytes arrive.
    pub(crate) fn deliver(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.arrived.extend(bytes);
        wake(&mut state.reader);
    }

    /// The peer has closed its side.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        wake(&mut state.reader);
    }

    /// Takes at most so many bytes of what was written, which makes room for as many.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut state = self.state();
        let bytes = bytes.min(state.written.len());
        if bytes > 0 {
            state.room += bytes;
            wake(&mut state.writer);
        }
        state.written.drain(..bytes).collect()
    }

    /// What was written and not taken.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.state().written.clone()
    }

    /// How much has arrived that nobody has read.
    pub(crate) fn unread(&self) -> usize {
        self.state().arrived.len()
    }

    /// Whether all that was written has been taken and no more comes.
    pub(crate) fn is_shut(&self) -> bool {
        let state = self.state();
        state.shut && state.written.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.arrived.is_empty() && !state.ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = buf.remaining().min(state.arrived.len());
        for byte in state.arrived.drain(..bytes) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(state.room);
        if taken == 0 && !bytes.is_empty() {
            // Whoever has no room left sends by itself.
            let sent = std::mem::take(&mut state.unsent);
            state.written.extend(sent);
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.room -= taken;
        if state.collects {
            state.unsent.extend_from_slice(&bytes[..taken]);
        } else {
            state.written.extend_from_slice(&bytes[..taken]);
        }
        Poll::Ready(Ok(taken))
    }

    /// In two steps where that is possible, so that whoever flushes has to do it to the end.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let first = state.unsent.len().div_ceil(2);
        let sent: Vec<u8> = state.unsent.drain(..first).collect();
        state.written.extend(sent);
        if state.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.state().shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Socket for Pipe {
    fn peer_has_closed(&self, _cx: &mut Context<'_>) -> bool {
        self.state().ended
    }

    fn has_unsent(&self) -> bool {
        !self.state().unsent.is_empty()
    }
}
