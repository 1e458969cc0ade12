//! A scripted server: "expect this, send that", for behaviour that a real Postgres rarely shows.
//!
//! ```ignore
//! let mut script = Script::listen().await;
//! // ... point the code under test at script.addr() ...
//! let mut server = script.accept().await;
//! server.greet(4242, b"abcd").await;
//! server.wire.expect(b'Q').await;
//! server.wire.send(&message::error_response("57P01", "ended")).await;
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::message;
use super::poll::{SOON, within};
use super::wire::Wire;

/// A port on loopback whose connections the test plays by hand.
pub(crate) struct Script {
    listener: TcpListener,
}

/// The server's end of a connection.
pub(crate) struct Server<S = TcpStream> {
    /// The connection itself: expect messages, send bytes.
    pub(crate) wire: Wire<S>,
}

impl Script {
    /// Listens on a free port.
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        Self {
            listener: listener.expect("a free port on loopback"),
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a listener has an address")
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Server {
        let accepted = within("a connection", SOON, self.listener.accept()).await;
        let (stream, _) = accepted.expect("a connection");
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        Server {
            wire: Wire::new(stream),
        }
    }
}

impl Script {
    /// The next session for this database, its start-up message read and not yet answered.
    /// Connections for other databases, such as those of the proxy itself, are closed.
    pub(crate) async fn accept_session(&mut self, database: &str) -> Server {
        loop {
            let mut server = self.accept().await;
            let parameters = server.startup().await;
            let asked = |(name, value): &(String, String)| name == "database" && value == database;
            if parameters.iter().any(asked) {
                return server;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Reads the startup message (encryption is answered `N`) and returns its parameters.
    pub(crate) async fn startup(&mut self) -> Vec<(String, String)> {
        loop {
            let packet = within("a startup packet", SOON, self.wire.next_startup()).await;
            let packet = packet.expect("a startup message, but the connection was closed");
            match opening(&packet) {
                Opening::Encryption => self.wire.send(b"N").await,
                Opening::Cancel { .. } => panic!("a startup message, not a cancel request"),
                Opening::Session(parameters) => return parameters,
            }
        }
    }

    /// Takes the startup message and lets the client in without a password.
    pub(crate) async fn greet(&mut self, pid: u32, secret: &[u8]) -> Vec<(String, String)> {
        let parameters = self.startup().await;
        self.wire.send(&greeting(pid, secret)).await;
        parameters
    }
}

/// What the first packet of a connection wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// SSLRequest or GSSENCRequest.
    Encryption,
    /// CancelRequest.
    Cancel {
        /// The process id it names.
        pid: u32,
        /// The secret it shows.
        secret: Vec<u8>,
    },
    /// StartupMessage with its parameters.
    Session(Vec<(String, String)>),
}

/// Takes a startup packet apart, without its length. Panics on anything malformed.
pub(crate) fn opening(packet: &[u8]) -> Opening {
    let (code, rest) = packet.split_first_chunk().expect("a request code");
    match u32::from_be_bytes(*code) {
        80_877_103 | 80_877_104 => Opening::Encryption,
        80_877_102 => {
            let (pid, secret) = rest.split_first_chunk().expect("a process id");
            Opening::Cancel {
                pid: u32::from_be_bytes(*pid),
                secret: secret.to_vec(),
            }
        }
        _ => {
            let text = String::from_utf8(rest.to_vec()).expect("parameters in UTF-8");
            let mut words = text.trim_end_matches('\0').split('\0').map(str::to_owned);
            let pairs = std::iter::from_fn(|| Some((words.next()?, words.next()?)));
            Opening::Session(pairs.collect())
        }
    }
}

/// What a server says to a client that it lets in.
pub(crate) fn greeting(pid: u32, secret: &[u8]) -> Vec<u8> {
    [
        message::authentication_ok(),
        message::parameter_status("server_version", "15.0 (scripted)"),
        message::parameter_status("client_encoding", "UTF8"),
        message::parameter_status("standard_conforming_strings", "on"),
        message::backend_key_data(pid, secret),
        message::ready_for_query(b'I'),
    ]
    .concat()
}
