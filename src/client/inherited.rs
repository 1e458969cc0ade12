//! Listening sockets that came from another process: from the one before us, or from systemd.

use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::SockRef;

use super::admin::AdminListener;
use super::listener::Listener;
use crate::config::{AdminAddress, ListenAddress};
use crate::tls::tcp::TcpOptions;

/// Sockets that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    /// What it is called by who gave it: the address as it was configured there.
    called: String,
    socket: OwnedFd,
}

impl Inherited {
    /// The sockets that systemd passed to this process (`sd_listen_fds(3)`): `LISTEN_FDS`, meant
    /// for us by `LISTEN_PID`, with their names of `LISTEN_FDNAMES`. To be called before there are
    /// threads: the variables are removed.
    ///
    /// # Errors
    /// When one of them is no TCP or Unix stream socket.
    pub fn from_systemd() -> io::Result<Inherited> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut inherited = Inherited::default();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let called = name.unwrap_or("without a name").to_owned();
            let socket = match passed.take_unix_listener(index) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_not_unix) => passed.take_tcp_listener(index)?.map(OwnedFd::from),
            };
            if let Some(socket) = socket {
                inherited.push(called, socket);
            }
        }
        Ok(inherited)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Adds a socket; `called` is the address as its giver knows it.
    pub fn push(&mut self, called: String, socket: OwnedFd) {
        self.sockets.push(Socket { called, socket });
    }

    /// The listener for an address: one that came, or else a new one.
    ///
    /// # Errors
    /// Those of binding.
    pub async fn listener(
        &mut self,
        address: &ListenAddress,
        options: &TcpOptions,
    ) -> io::Result<Listener> {
        match self.take(address) {
            Some(socket) => Listener::inherited(socket, address),
            None => Listener::bind(address, options).await,
        }
    }

    /// The same for the admin HTTP; `first` is what systemd and former versions call "admin".
    ///
    /// # Errors
    /// Those of binding.
    pub async fn admin(&mut self, place: &AdminAddress, first: bool) -> io::Result<AdminListener> {
        let named = admin_name(place);
        let called = if first { "admin" } else { &named };
        let found = match place {
            AdminAddress::Tcp(address) | AdminAddress::Tls(address) => {
                self.take_called(called, &ListenAddress::Tcp(*address))
            }
            AdminAddress::Unix(path) => {
                let there = |socket: &Socket| {
                    let bound = SockRef::from(&socket.socket).local_addr();
                    bound.is_ok_and(|bound| bound.as_pathname() == Some(path))
                };
                let at = self.sockets.iter().position(there);
                at.map(|at| self.sockets.remove(at).socket)
            }
        };
        match found {
            Some(socket) => AdminListener::inherited(socket, place),
            None => AdminListener::bind(place).await,
        }
    }

    /// The addresses of those that nobody asked for.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let names = self.sockets.iter().map(|socket| match address(socket) {
            Some(address) => format!("{address} ({})", socket.called),
            None => socket.called.clone(),
        });
        names.collect()
    }

    fn take(&mut self, address: &ListenAddress) -> Option<OwnedFd> {
        self.take_called(&address.to_string(), address)
    }

    /// By its name, which also fits where a port was left to the system, or by where it listens.
    fn take_called(&mut self, called: &str, wanted: &ListenAddress) -> Option<OwnedFd> {
        let by_name = |socket: &Socket| {
            socket.called == called
                && address(socket).is_some_and(|found| same_kind(&found, wanted))
        };
        let by_address = |socket: &Socket| address(socket).as_ref() == Some(wanted);
        let at = self.sockets.iter().position(by_address);
        let at = at.or_else(|| self.sockets.iter().position(by_name))?;
        Some(self.sockets.remove(at).socket)
    }
}

/// What a socket of the admin HTTP besides the first is called when it is handed over.
#[must_use]
pub fn admin_name(place: &AdminAddress) -> String {
    format!("admin {place}")
}

/// A Unix socket for a TCP address would be a surprise, and so would another port or host.
fn same_kind(found: &ListenAddress, wanted: &ListenAddress) -> bool {
    match (found, wanted) {
        (ListenAddress::Tcp(found), ListenAddress::Tcp(wanted)) => {
            wanted.ip() == found.ip() && (wanted.port() == 0 || wanted.port() == found.port())
        }
        (ListenAddress::Unix(found), ListenAddress::Unix(wanted)) => found == wanted,
        (ListenAddress::Tcp(_), ListenAddress::Unix(_))
        | (ListenAddress::Unix(_), ListenAddress::Tcp(_)) => false,
    }
}

/// Where a socket listens, if that can be an address of ours.
fn address(socket: &Socket) -> Option<ListenAddress> {
    let bound = SockRef::from(&socket.socket).local_addr().ok()?;
    if let Some(address) = bound.as_socket() {
        return Some(ListenAddress::Tcp(address));
    }
    let path = bound.as_pathname()?;
    let name = path.file_name()?.to_str()?;
    let port = name.strip_prefix(".s.PGSQL.")?;
    let text = format!("unix:{}:{port}", path.parent()?.display());
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn listening(at: &str) -> (SocketAddr, OwnedFd) {
        let listener = std::net::TcpListener::bind(at).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        (address, listener.into())
    }

    #[tokio::test]
    async fn a_socket_is_found_by_its_address_or_by_its_name() {
        let (mut inherited, options) = (Inherited::default(), TcpOptions::default());
        let (first, socket) = listening("127.0.0.1:0");
        inherited.push("127.0.0.1:0".into(), socket);
        let (second, socket) = listening("127.0.0.1:0");
        inherited.push("unknown".into(), socket);
        let (admin, socket) = listening("127.0.0.1:0");
        inherited.push("admin".into(), socket);
        let exact = inherited
            .listener(&ListenAddress::Tcp(second), &options)
            .await;
        assert_eq!(exact.expect("inherited").tcp_address(), Some(second));
        let any = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let named = inherited.listener(&any, &options).await.expect("inherited");
        assert_eq!(named.tcp_address(), Some(first));
        assert_eq!(inherited.left(), [format!("{admin} (admin)")]);
        let place = AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let found = inherited.admin(&place, true).await;
        let found = found.expect("inherited").name().expect("bound");
        assert_eq!(found, admin.to_string());
        assert!(inherited.left().is_empty());
    }

    #[tokio::test]
    async fn the_file_of_a_shared_socket_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let address = format!("unix:{}:6500", directory.path().display());
        let address: ListenAddress = address.parse().expect("an address");
        let path = directory.path().join(".s.PGSQL.6500");
        let socket = std::os::unix::net::UnixListener::bind(&path).expect("a free name");
        let (mut inherited, options) = (Inherited::default(), TcpOptions::default());
        inherited.push("another".into(), socket.into());
        let listener = inherited
            .listener(&address, &options)
            .await
            .expect("inherited");
        drop(listener);
        assert!(path.exists(), "another process may listen there");
    }
}
