//! Bytes that a socket did not take yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::tls::stream::Socket;

/// What could not be written; freed as soon as it is.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn clear(&mut self) {
        *self = Backlog::default();
    }

    /// Writes what is left, to the socket and from there on; ready once nothing is.
    pub(super) fn poll_drain(
        &mut self,
        socket: &mut impl Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            self.written += ready!(write(socket, cx, &self.bytes[self.written..]))?;
        }
        self.clear();
        if socket.has_unsent() {
            return Pin::new(socket).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes `bytes` straight on, behind what is left already; keeps what the socket does not
    /// take.
    #[inline]
    pub(super) fn write_through(
        &mut self,
        socket: &mut impl Socket,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        if self.is_empty() {
            while !bytes.is_empty() {
                match write(socket, cx, bytes) {
                    Poll::Ready(written) => bytes = &bytes[written?..],
                    Poll::Pending => break,
                }
            }
        }
        if !bytes.is_empty() {
            self.push(bytes);
        }
        Ok(())
    }
}

/// One write that makes progress or fails.
#[inline]
fn write(socket: &mut impl Socket, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(socket).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => Poll::Ready(other),
    }
}
