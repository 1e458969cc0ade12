//! Opens connections to the upstream: its hosts in order, names resolved anew, with backoff.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Host, Upstream};
use crate::tls::stream::Stream;
use crate::tls::tcp::TcpOptions;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The very server that a connection goes to. Cancel requests and proofs must be about it, not
/// about whichever host answers next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

/// No host of the upstream took the connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {hosts} within {within:?}")]
pub struct Unreachable {
    hosts: String,
    within: Duration,
    #[source]
    last: Option<io::Error>,
}

/// Connects to the first host that answers, trying all of them again with growing pauses until
/// `connect_retry` has passed. Says which of them it was. Cancel safe.
pub async fn connect<'a>(
    upstream: &'a Upstream,
    options: &TcpOptions,
) -> Result<(Stream, Endpoint, &'a Host), Unreachable> {
    let give_up = Instant::now() + upstream.connect_retry;
    let mut backoff = BACKOFF_MIN;
    let mut last = None;
    loop {
        for host in &upstream.hosts {
            let attempt = (Instant::now() + upstream.connect_timeout).min(give_up);
            match timeout_at(attempt, connect_host(host, options)).await {
                Ok(Ok((stream, endpoint))) => return Ok((stream, endpoint, host)),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        let again = Instant::now() + backoff;
        if again >= give_up {
            let hosts: Vec<String> = upstream.hosts.iter().map(ToString::to_string).collect();
            let within = upstream.connect_retry;
            return Err(Unreachable {
                hosts: hosts.join(", "),
                within,
                last,
            });
        }
        sleep_until(again).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Connects to this very server once. Cancel safe.
pub async fn connect_endpoint(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        // Too short a connection for probes.
        Endpoint::Tcp(address) => tcp(*address, &TcpOptions::default()).await,
        Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}

async fn connect_host(host: &Host, options: &TcpOptions) -> io::Result<(Stream, Endpoint)> {
    let (name, port) = match host {
        Host::Unix(unix) => {
            let endpoint = Endpoint::Unix(unix.path());
            return Ok((connect_endpoint(&endpoint).await?, endpoint));
        }
        Host::Tcp { name, port } => (name.as_str(), *port),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((name, port)).await? {
        match tcp(address, options).await {
            Ok(stream) => return Ok((stream, Endpoint::Tcp(address))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Stream> {
    Stream::tcp(TcpStream::connect(address).await?, options)
}
