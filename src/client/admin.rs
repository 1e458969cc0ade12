//! Listening sockets of the admin HTTP: loopback, a Unix socket, or a place that other machines reach.

use std::fs::Permissions;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::AdminAddress;
use crate::tls::stream::Stream;

/// Who may connect by a Unix socket: our own user and group. What whoever comes there may do without a
/// token is `admin.local`.
const SOCKET_MODE: u32 = 0o660;

/// A socket that listens.
#[derive(Debug)]
pub enum AdminListener {
    /// On a TCP address, not encrypted.
    Tcp(TcpListener),
    /// On a TCP address, encrypted.
    Tls(TcpListener),
    /// On a Unix socket, with its file.
    Unix(UnixListener, PathBuf),
}

/// Who came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// From where, for audits: an address, or the user of the process on this machine.
    pub from: String,
    /// Their address; `None` by a Unix socket.
    pub ip: Option<IpAddr>,
    /// Whether only this machine reaches the socket.
    pub local: bool,
}

impl AdminListener {
    /// Begins to listen. A socket file that nobody answers at is left over and is replaced.
    ///
    /// # Errors
    /// Those of binding; `AddrInUse` when somebody answers.
    pub async fn bind(place: &AdminAddress) -> io::Result<AdminListener> {
        match place {
            AdminAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            AdminAddress::Tls(address) => TcpListener::bind(address).await.map(Self::Tls),
            AdminAddress::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                remove(path)?;
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// A socket that listens already and came from another process.
    ///
    /// # Errors
    /// Those of the system.
    pub fn inherited(socket: OwnedFd, place: &AdminAddress) -> io::Result<AdminListener> {
        match place {
            AdminAddress::Tcp(_) => tcp(socket).map(Self::Tcp),
            AdminAddress::Tls(_) => tcp(socket).map(Self::Tls),
            AdminAddress::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                let listener = UnixListener::from_std(listener)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The next one who comes. Cancel safe.
    ///
    /// # Errors
    /// Those of accepting.
    pub async fn accept(&self) -> io::Result<(Stream, Came)> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => {
                let (stream, peer) = listener.accept().await?;
                let came = Came {
                    from: peer.to_string(),
                    ip: Some(peer.ip().to_canonical()),
                    local: self.is_local(),
                };
                Ok((Stream::Tcp(stream), came))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let from = stream.peer_cred().map_or_else(
                    |_unknown| "[local]".to_owned(),
                    |user| format!("[local] uid {}", user.uid()),
                );
                let came = Came {
                    from,
                    ip: None,
                    local: true,
                };
                Ok((Stream::Unix(stream), came))
            }
        }
    }

    /// Whether only this machine reaches it, and without encryption.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            Self::Tls(_) => false,
            Self::Unix(..) => true,
        }
    }

    /// Where it listens, with the port that the system chose: `IP:PORT`, `https://IP:PORT`,
    /// or `unix:/PATH`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn name(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Tls(listener) => listener
                .local_addr()
                .map(|address| format!("https://{address}")),
            Self::Unix(_, path) => Ok(AdminAddress::Unix(path.clone()).to_string()),
        }
    }
}

fn tcp(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Removes the file of a Unix socket; that there is none is fine.
///
/// # Errors
/// Those of removing.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl AsFd for AdminListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl From<TcpListener> for AdminListener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_one_that_answers_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let place = AdminAddress::Unix(path.clone());
        drop(AdminListener::bind(&place).await.expect("a free name"));
        assert!(path.exists(), "a process that was killed leaves it");
        let listener = AdminListener::bind(&place).await.expect("left over");
        let again = AdminListener::bind(&place).await.expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, SOCKET_MODE);
        // The kernel keeps who came and was not accepted, of the look above too.
        let _client = UnixStream::connect(&path).await.expect("it listens");
        let (_, came) = listener.accept().await.expect("somebody");
        assert!(
            came.local && came.from.starts_with("[local] uid "),
            "{came:?}"
        );
    }
}
