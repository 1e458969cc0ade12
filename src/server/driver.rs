//! tokio-postgres over connections of ours: for those that we make for ourselves.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Config, Connection};

use super::connect::{Route, Unreachable, connect, connect_again, is_another_way};
use crate::config::{Role, Upstream};
use crate::tasks::Tasks;
use crate::tls::connector::{Attempt, NotEncrypted};
use crate::tls::stream::Stream;

/// A connection that the driver takes for encrypted by itself, so that it binds its passwords to
/// the server's certificate.
#[derive(Debug)]
pub struct Encrypted<S = Stream> {
    stream: S,
    end_point: Option<Vec<u8>>,
}

/// What drives a client of ours.
pub type Driver = Connection<Stream, Encrypted>;

/// Logs in over this connection. `None` when the server refuses and `next`, the attempt that
/// `sslmode` has after this one, may do better, as libpq does.
///
/// # Errors
/// What the server or the connection says.
pub async fn log_in(
    config: &Config,
    stream: Stream,
    next: Option<&Attempt>,
) -> Result<Option<(Client, Driver)>, tokio_postgres::Error> {
    let again = next.is_some_and(|next| is_another_way(*next, &stream));
    match bound(config, stream).await {
        Ok(logged_in) => Ok(Some(logged_in)),
        Err(error) if again && error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn bound(config: &Config, stream: Stream) -> Result<(Client, Driver), tokio_postgres::Error> {
    let end_point = stream.server_end_point();
    let mut config = config.clone();
    match stream {
        Stream::Tls(_) => config
            .ssl_mode(SslMode::Require)
            // The handshake was ours.
            .ssl_negotiation(SslNegotiation::Direct),
        Stream::Tcp(_) | Stream::Unix(_) => config.ssl_mode(SslMode::Disable),
    };
    config.connect_raw(stream, Wrap { end_point }).await
}

/// Why a connection of ours is not open.
#[derive(Debug, thiserror::Error)]
pub enum NotOpen {
    /// No connection to the server.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The server refused, or the connection broke.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

/// Connects to an upstream as this role, under this name, and lets a task of `tasks` drive the
/// connection until it breaks or nobody uses it.
pub async fn open_as(
    upstream: &Upstream,
    role: &Role,
    name: &'static str,
    tasks: &Tasks,
) -> Result<(Client, Route), NotOpen> {
    let (client, driver, route) = log_in_as(upstream, role, name).await?;
    let stop = tasks.shutdown_token();
    // Its socket belongs to the runtime that we are on.
    tasks.spawn_here(name, async move {
        let ended = tokio::select! {
            ended = driver => ended,
            () = stop.cancelled() => return,
        };
        if let Err(error) = ended {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, name, "a connection of ours was lost");
        }
    });
    Ok((client, route))
}

async fn log_in_as(
    upstream: &Upstream,
    role: &Role,
    name: &str,
) -> Result<(Client, Driver, Route), NotOpen> {
    let mut attempts = upstream.tls.attempts().iter().peekable();
    while let Some(attempt) = attempts.next() {
        let connected = connect(upstream, *attempt).await?;
        let mut config = Config::new();
        config
            .user(&role.user)
            .dbname(&role.database)
            .application_name(name);
        if let Some(password) = role.password(connected.host, &role.database) {
            config.password(password.expose());
        }
        let next = attempts.peek().copied();
        if let Some((client, driver)) = log_in(&config, connected.stream, next).await? {
            return Ok((client, driver, connected.route));
        }
    }
    unreachable!("the last attempt succeeds or fails")
}

/// Asks the server to stop what a client of ours is doing, by the way that the client took.
///
/// # Errors
/// When the request could not be sent. What became of it nobody learns.
pub async fn cancel(token: &CancelToken, route: &Route) -> Result<(), NotCancelled> {
    let stream = connect_again(route).await?;
    // Encrypted or not, the driver is not to ask for encryption once more.
    Ok(token.cancel_query_raw(stream, WRAP).await?)
}

/// The process id that the server told this client when it logged in. The driver shows it nowhere
/// but in its cancel requests, so one is written to nobody.
pub async fn pid_told(client: &Client) -> Option<i32> {
    let (ours, mut theirs) = tokio::io::duplex(64);
    client
        .cancel_token()
        .cancel_query_raw(ours, WRAP)
        .await
        .ok()?;
    // Length and code of the request come first.
    let mut request = [0; 12];
    theirs.read_exact(&mut request).await.ok()?;
    let [.., a, b, c, d] = request;
    Some(i32::from_be_bytes([a, b, c, d]))
}

/// Why a cancel request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NotCancelled {
    /// No connection.
    #[error(transparent)]
    Unreachable(#[from] NotEncrypted),
    /// The connection broke.
    #[error(transparent)]
    Broke(#[from] tokio_postgres::Error),
}

struct Wrap {
    end_point: Option<Vec<u8>>,
}

/// For what binds nothing to the connection.
const WRAP: Wrap = Wrap { end_point: None };

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<S> for Wrap {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Ready<io::Result<Encrypted<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        let end_point = self.end_point;
        ready(Ok(Encrypted { stream, end_point }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let end_point = self.end_point.clone();
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
