//! Listens for clients on TCP addresses and Unix sockets.

use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::{ListenAddress, Shared};
use crate::tls::stream::{Fresh, Peer};
use crate::tls::tcp::{HandedOn, TcpOptions};

/// Who may connect by a Unix socket: everybody, as with Postgres (`unix_socket_permissions`). Whom to
/// let in is up to the login, or to the mode of the directory.
const SOCKET_MODE: u32 = 0o777;

/// Pause after a failed accept: out of file descriptors, the next try would fail at once too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted; the system has a bound of its own (`net.core.somaxconn`).
/// Past it the kernel lets newcomers wait for a second, and in a flood honest ones are among them.
const BACKLOG: u32 = 4096;

/// A socket that clients come to. No runtime knows it but while it is open.
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
                let kind = Type::STREAM.nonblocking();
                let socket = Socket::new(Domain::for_address(*address), kind, None)?;
                // A port that was ours a moment ago is free.
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                let handed_on = HandedOn::from_the_start(&socket, options)?;
                socket.listen(BACKLOG.cast_signed())?;
                Ok(Listener::Tcp(socket.into(), handed_on))
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
                listener.set_nonblocking(true)?;
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
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener, HandedOn::unknown()))
            }
            ListenAddress::Unix(unix) => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let file = SocketFile {
                    path: unix.path(),
                    ours: AtomicBool::new(false),
                };
                Ok(Listener::Unix(listener, file))
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

    /// Takes clients, on the current runtime, until the value is dropped. Of two that are open each client
    /// comes to one.
    ///
    /// # Errors
    /// Out of file descriptors.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(&self) -> io::Result<OpenListener<'_>> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that lie about their file; this one cannot"
        )]
        let socket = AsyncFd::with_interest(self.as_fd(), Interest::READABLE)?;
        Ok(OpenListener {
            listener: self,
            socket,
        })
    }
}

/// A listener that takes clients.
#[derive(Debug)]
pub struct OpenListener<'a> {
    listener: &'a Listener,
    socket: AsyncFd<BorrowedFd<'a>>,
}

impl OpenListener<'_> {
    /// The next client. Errors are logged and outlived. Cancel safe.
    pub async fn accept(&self, config: &Shared) -> (Fresh, Peer) {
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

    /// The socket is not registered with this runtime: another may be its home.
    async fn try_accept(&self, config: &Shared) -> io::Result<(Fresh, Peer)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match self.listener {
            Listener::Tcp(listener, handed_on) => {
                let accept = |socket: &BorrowedFd<'_>| Ok(acceptfrom_with(socket, flags)?);
                let accepted = self.socket.async_io(Interest::READABLE, accept);
                let (taken, address) = accepted.await?;
                // A connection of TCP has one.
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                let address = address.ok_or(io::ErrorKind::InvalidData)?;
                handed_on.settle((listener, BACKLOG), &taken, &config.load().tcp)?;
                Ok((Fresh::Tcp(taken.into()), Peer::Tcp(address)))
            }
            Listener::Unix(..) => {
                let accept = |socket: &BorrowedFd<'_>| Ok(accept_with(socket, flags)?);
                let taken = self.socket.async_io(Interest::READABLE, accept).await?;
                Ok((Fresh::Unix(taken.into()), Peer::Unix))
            }
        }
    }
}
