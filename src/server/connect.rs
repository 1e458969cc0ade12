//! Opens connections to the upstream: its hosts in order, names resolved anew, with backoff, and
//! encrypted as its `sslmode` says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{Host, Upstream};
use crate::tls::connector::{Attempt, Connector, NotEncrypted};
use crate::tls::stream::Stream;
use crate::tls::tcp::TcpOptions;
use crate::wire::refusal::says_starting;

/// What a server says when it lets somebody in at once is some 500 bytes. Without room for it tokio would
/// take 64 at a time.
const ROOM: usize = 1024;

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

/// The way to a server that a session is on, for those who have to reach it again.
#[derive(Debug, Clone)]
pub struct Route {
    /// The server.
    pub endpoint: Endpoint,
    /// How the way is encrypted, and the name in the server's certificate; `None` where it is not.
    secure: Option<Arc<(Connector, String)>>,
}

impl Route {
    /// A way that is not encrypted.
    #[must_use]
    pub fn plain(endpoint: Endpoint) -> Route {
        Route {
            endpoint,
            secure: None,
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connected<'a> {
    /// The connection.
    pub stream: Stream,
    /// The way there.
    pub route: Route,
    /// The host that it was found by.
    pub host: &'a Host,
}

/// A connection whose server has begun to answer a start-up packet.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The connection.
    pub stream: Stream,
    /// The way there.
    pub route: Route,
    /// The host that it was found by.
    pub host: &'a Host,
    /// The first of what it said; nothing when it closed without a word.
    pub answer: BytesMut,
}

/// No host of the upstream took the connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {hosts} in {after:?}")]
pub struct Unreachable {
    hosts: String,
    after: Duration,
    #[source]
    last: Option<NotEncrypted>,
}

/// Why there is no [`Opened`].
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// No server.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The connection broke before the answer.
    #[error("connection to the server")]
    Broke(#[from] io::Error),
}

/// Connects and sends a start-up packet. If the server refuses it at once, the next way that
/// `sslmode` knows is tried, encrypted or not, as libpq does. A server that is starting up is asked
/// again until `connect_retry` has passed, as one that is not there. Not cancel safe.
pub async fn open<'a>(upstream: &'a Upstream, startup: &[u8]) -> Result<Opened<'a>, NotOpened> {
    let give_up = Instant::now() + upstream.connect_retry;
    let mut backoff = BACKOFF_MIN;
    loop {
        let opened = open_once(upstream, startup).await?;
        let again = Instant::now() + backoff;
        if !is_starting(&opened.answer) || again >= give_up {
            return Ok(opened);
        }
        sleep_until(again).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Whether a server said that it takes no connections yet.
fn is_starting(answer: &[u8]) -> bool {
    let error = answer.strip_prefix(b"E").and_then(|rest| rest.get(4..));
    error.is_some_and(says_starting)
}

async fn open_once<'a>(upstream: &'a Upstream, startup: &[u8]) -> Result<Opened<'a>, NotOpened> {
    let mut attempts = upstream.tls.attempts().iter().copied().peekable();
    let mut attempt = attempts.next().unwrap_or(Attempt::Plain);
    loop {
        let Connected {
            mut stream,
            route,
            host,
        } = connect(upstream, attempt).await?;
        stream.write_all(startup).await?;
        stream.flush().await?;
        let mut answer = BytesMut::with_capacity(ROOM);
        stream.read_buf(&mut answer).await?;
        match attempts.next() {
            Some(next) if answer.first() == Some(&b'E') && is_another_way(next, &stream) => {
                attempt = next;
            }
            _ => {
                return Ok(Opened {
                    stream,
                    route,
                    host,
                    answer,
                });
            }
        }
    }
}

/// Whether this attempt would not just repeat what led to this connection.
#[must_use]
pub fn is_another_way(attempt: Attempt, stream: &Stream) -> bool {
    match (attempt, stream) {
        (Attempt::Plain, Stream::Tls(_)) | (Attempt::Encrypt | Attempt::Offer, Stream::Tcp(_)) => {
            true
        }
        (Attempt::Plain, Stream::Tcp(_) | Stream::Unix(_))
        | (Attempt::Encrypt | Attempt::Offer, Stream::Tls(_) | Stream::Unix(_)) => false,
    }
}

/// Connects to the first host that answers, trying all of them again with growing pauses until
/// `connect_retry` has passed; each of them gets its full `connect_timeout` once. Cancel safe.
pub async fn connect(upstream: &Upstream, attempt: Attempt) -> Result<Connected<'_>, Unreachable> {
    let begun = Instant::now();
    let give_up = begun + upstream.connect_retry;
    let mut backoff = BACKOFF_MIN;
    let mut last = None;
    loop {
        for host in &upstream.hosts {
            let until = Instant::now() + upstream.connect_timeout;
            let connected = connect_host(host, &upstream.tls, &upstream.tcp, attempt);
            match timeout_at(until, connected).await {
                Ok(Ok((stream, route))) => {
                    return Ok(Connected {
                        stream,
                        route,
                        host,
                    });
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        }
        let again = Instant::now() + backoff;
        if again >= give_up {
            let hosts: Vec<String> = upstream.hosts.iter().map(ToString::to_string).collect();
            return Err(Unreachable {
                hosts: hosts.join(", "),
                after: begun.elapsed(),
                last,
            });
        }
        sleep_until(again).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Connects to a server that we are on already, once, encrypted if that way is. Cancel safe.
pub async fn connect_again(route: &Route) -> Result<Stream, NotEncrypted> {
    // Too short a connection for probes.
    let options = TcpOptions::default();
    match (&route.endpoint, &route.secure) {
        (Endpoint::Unix(path), _) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        (Endpoint::Tcp(address), None) => {
            let connector = Connector::disabled();
            tcp(*address, &options, (&connector, "", Attempt::Plain)).await
        }
        (Endpoint::Tcp(address), Some(secure)) => {
            let (connector, host) = &**secure;
            tcp(*address, &options, (connector, host, Attempt::Encrypt)).await
        }
    }
}

/// Connects to one host, by the first of its addresses that answers. One that cannot be encrypted
/// with although it said it could is tried again without, if that is allowed. Cancel safe.
pub async fn connect_host(
    host: &Host,
    connector: &Connector,
    options: &TcpOptions,
    attempt: Attempt,
) -> Result<(Stream, Route), NotEncrypted> {
    let (name, port) = match host {
        Host::Unix(unix) => {
            let route = Route::plain(Endpoint::Unix(unix.path()));
            return Ok((connect_again(&route).await?, route));
        }
        Host::Tcp { name, port } => (name.as_str(), *port),
    };
    let nowhere = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut last = NotEncrypted::Io(nowhere);
    for address in lookup_host((name, port)).await? {
        let mut connected = tcp(address, options, (connector, name, attempt)).await;
        if attempt == Attempt::Offer
            && matches!(
                connected,
                Err(NotEncrypted::Handshake(_) | NotEncrypted::Answer)
            )
        {
            connected = tcp(address, options, (connector, name, Attempt::Plain)).await;
        }
        match connected {
            Ok(stream) => {
                let is_secure = matches!(stream, Stream::Tls(_));
                let secure = is_secure.then(|| Arc::new((connector.clone(), name.to_owned())));
                let endpoint = Endpoint::Tcp(address);
                return Ok((stream, Route { endpoint, secure }));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn tcp(
    address: SocketAddr,
    options: &TcpOptions,
    (connector, host, attempt): (&Connector, &str, Attempt),
) -> Result<Stream, NotEncrypted> {
    let stream = Stream::tcp(TcpStream::connect(address).await?, options)?;
    match stream {
        Stream::Tcp(tcp) if attempt != Attempt::Plain => {
            Box::pin(connector.secure(tcp, host, attempt)).await
        }
        Stream::Tcp(_) | Stream::Unix(_) | Stream::Tls(_) => Ok(stream),
    }
}
