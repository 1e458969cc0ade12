//! A socket to a client or a server: TCP or Unix, plain or encrypted.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::tcp::TcpOptions;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// Encrypted TCP. Boxed: it is twenty times as large as the others.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that was just accepted, and that no runtime knows yet. It does not block.
#[derive(Debug)]
pub enum Fresh {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Fresh {
    /// Makes the current runtime the one that waits for it, from now on.
    ///
    /// # Errors
    /// Out of memory, or of places in the kernel's set (`epoll_ctl(2)`).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn settle(self) -> io::Result<Stream> {
        match self {
            Fresh::Tcp(socket) => TcpStream::from_std(socket).map(Stream::Tcp),
            Fresh::Unix(socket) => UnixStream::from_std(socket).map(Stream::Unix),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP address that a proxy in front of us told, or the proxy's own where it told none.
    Told(SocketAddr),
    /// Somebody on this machine.
    Unix,
}

impl Peer {
    /// Whether the other end is on this machine for certain. Loopback in the mouth of a proxy is
    /// the proxy's machine, not ours, and what connects to a proxy here comes from anywhere.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Peer::Told(_) => false,
            Peer::Unix => true,
        }
    }

    /// Its IP address; one of version 4 is that, however it was written.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) | Peer::Told(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) | Peer::Told(address) => address.fmt(f),
            Peer::Unix => f.write_str("[local]"),
        }
    }
}

impl Stream {
    /// A TCP connection, set up as both sides of a relay want it.
    ///
    /// # Errors
    /// When the system does not take a setting, which it does on a socket that has just died.
    pub fn tcp(stream: TcpStream, options: &TcpOptions) -> io::Result<Stream> {
        options.apply(&stream)?;
        Ok(Stream::Tcp(stream))
    }
}

impl Stream {
    /// The TCP socket under it, if there is one.
    #[must_use]
    pub fn tcp_socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(socket) => Some(socket),
            Stream::Tls(stream) => Some(stream.get_ref().0),
            Stream::Unix(_) => None,
        }
    }
}

/// What the relay needs of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether the peer has closed, also behind data that was not read yet. May miss it, never
    /// makes it up.
    fn peer_has_closed(&self, cx: &mut Context<'_>) -> bool;

    /// Whether bytes that were written wait to be sent. Who leaves it at that must see to it that
    /// the socket is flushed: encrypted bytes go nowhere by themselves.
    fn has_unsent(&self) -> bool;
}

/// Between two parts of this process.
impl Socket for DuplexStream {
    fn peer_has_closed(&self, _cx: &mut Context<'_>) -> bool {
        false
    }

    fn has_unsent(&self) -> bool {
        false
    }
}

impl Socket for Stream {
    fn peer_has_closed(&self, cx: &mut Context<'_>) -> bool {
        let ready = match self {
            Stream::Tcp(socket) => pin!(socket.ready(Interest::READABLE)).poll(cx),
            Stream::Unix(socket) => pin!(socket.ready(Interest::READABLE)).poll(cx),
            Stream::Tls(stream) => {
                let (socket, _) = stream.get_ref();
                pin!(socket.ready(Interest::READABLE)).poll(cx)
            }
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    #[inline]
    fn has_unsent(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(stream) => end_is_end(Pin::new(stream).poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A peer that closes without saying so in TLS has ended like any other: messages carry their
/// length, so that none of them can be cut short unseen. The server reads it so too.
fn end_is_end(read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match &read {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Ok(()))
        }
        Poll::Ready(_) | Poll::Pending => read,
    }
}
