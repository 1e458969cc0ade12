//! Listens for clients on TCP addresses and Unix sockets.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::{ListenAddress, Shared};
use crate::tls::stream::{Peer, Stream};
use crate::tls::tcp::{HandedOn, TcpOptions};

/// Who may connect by a Unix socket: everybody, as with Postgres (`unix_socket_permissions`). Whom to
/// let in is up to the login, or to the mode of the directory.
const SOCKET_MODE: u32 = 0o777;

/// Pause after a failed accept: out of file descriptors, the next try would fail at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted; the system has a bound of its own (`net.core.somaxconn`).
/// Past it the kernel lets newcomers wait for a second, and in a flood honest ones are among them.
const BACKLOG: u32 = 4096;

/// A socket that takes clients.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP address, with what the socket hands on to its connections.
    Tcp(TcpListener, HandedOn),
    /// On a Unix socket, whose file is removed with the listener.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Whether it is removed with the listener: not while another process listens there too.
    ours: AtomicBool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.load(Ordering::Relaxed) {
            // Somebody else may have removed it already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener, _) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Listener {
    /// Begins to listen. A socket file that nobody answers at is left over and is replaced.
    pub async fn bind(address: &ListenAddress, options: &TcpOptions) -> io::Result<Listener> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                // A port that was ours a moment ago is free.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let handed_on = HandedOn::from_the_start(&socket, options)?;
                Ok(Listener::Tcp(socket.listen(BACKLOG)?, handed_on))
            }
            ListenAddress::Unix(unix) => {
                let path = unix.path();
                if tokio::net::UnixStream::connect(&path).await.is_ok() {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let listener = UnixListener::bind(&path)?;
                let file = SocketFile {
                    path,
                    ours: AtomicBool::new(true),
                };
                std::fs::set_permissions(&file.path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Listener::Unix(listener, file))
            }
        }
    }

    /// A socket that listens already and came from another process. Its file is not removed until
    /// [`Listener::own`] says that nobody else listens there.
    pub fn inherited(socket: OwnedFd, address: &ListenAddress) -> io::Result<Listener> {
        match address {
            ListenAddress::Tcp(_) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                Ok(Listener::Tcp(listener, HandedOn::unknown()))
            }
            ListenAddress::Unix(unix) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let file = SocketFile {
                    path: unix.path(),
                    ours: AtomicBool::new(false),
                };
                Ok(Listener::Unix(UnixListener::from_std(listener)?, file))
            }
        }
    }

    /// Whether the file of a Unix socket is this listener's, to be removed with it.
    pub fn own(&self, ours: bool) {
        match self {
            Listener::Tcp(..) => {}
            Listener::Unix(_, file) => file.ours.store(ours, Ordering::Relaxed),
        }
    }

    /// Another process may have had the socket for a while.
    pub fn doubt(&self) {
        match self {
            Listener::Tcp(_, handed_on) => handed_on.doubt(),
            Listener::Unix(..) => {}
        }
    }

    /// Where it listens, with the port that the system chose; `None` for a Unix socket.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener, _) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Listener::Tcp(..) => self
                .tcp_address()
                .map_or_else(|| "tcp".into(), |address| address.to_string()),
            Listener::Unix(_, file) => file.path.display().to_string(),
        }
    }

    /// The next client. Errors are logged and outlived. Cancel safe.
    pub async fn accept(&self, config: &Shared) -> (Stream, Peer) {
        loop {
            match self.try_accept(config).await {
                Ok(client) => return client,
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self, config: &Shared) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener, handed_on) => {
                let (stream, address) = listener.accept().await?;
                handed_on.settle((listener, BACKLOG), &stream, &config.load().tcp)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}
