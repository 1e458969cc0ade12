//! Connections of the runner's own: direct to the server, driven by a tracked task, listed as ours.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::sync::watch;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};
use tokio_util::task::TaskTracker;

use super::report::chain;
use crate::config::{Host, Secret, Target, UrlTls};
use crate::server::connect::{Route, connect_host};
use crate::server::driver::{self, Driver};
use crate::server::own::OwnBackends;
use crate::tls::connector::{Connector as TlsConnector, NotEncrypted};
use crate::tls::stream::Stream;
use crate::tls::tcp::TcpOptions;

/// What our sessions are called in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "pgdrain migrate";

/// How to reach the server, and as whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Places, tried in order until one is a primary.
    pub hosts: Vec<Host>,
    /// How connections to them are encrypted.
    pub tls: TlsConnector,
    /// The same as it was written, for programs of Postgres that we start.
    pub url_tls: UrlTls,
    /// The role that runs the migrations.
    pub user: String,
    /// Its password, if the server asks for one.
    pub password: Option<Secret>,
    /// `options` of the startup message.
    pub options: Option<String>,
    /// How long connecting and logging in may take, for each host.
    pub connect_timeout: Duration,
}

/// How to reach the server of a database, if somebody is configured to run migrations there.
pub type Find = Arc<dyn Fn(&str) -> Option<Endpoint> + Send + Sync>;

/// Makes the runner's connections.
#[derive(Clone)]
pub struct Connector {
    find: Find,
    own: OwnBackends,
    tasks: TaskTracker,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is configured to run migrations.
    #[error("no user is configured to run migrations (migrate.user, or one in upstream.url)")]
    NoRole,
    /// The server said no.
    #[error("cannot connect: {}", chain(.0))]
    Refused(#[from] tokio_postgres::Error),
    /// The network said no.
    #[error("cannot connect: {}", chain(.0))]
    Unreachable(#[from] NotEncrypted),
    /// Of several hosts none is a primary.
    #[error("cannot connect: none of the hosts is a primary")]
    NoPrimary,
    /// Nobody answered in time.
    #[error("cannot connect: no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl Endpoint {
    /// As the configuration says, if it names somebody to run migrations.
    pub fn of(target: &Target) -> Option<Self> {
        let role = target.migrate.as_ref()?;
        let hosts = target.upstream.hosts.clone();
        let password = role.password(hosts.first()?, &role.database).cloned();
        Some(Self {
            tls: target.upstream.tls.clone(),
            url_tls: target.upstream.url_tls.clone(),
            user: role.user.clone(),
            password,
            options: None,
            connect_timeout: target.upstream.connect_timeout,
            hosts,
        })
    }
}

/// Takes the server's notices as they come.
pub(super) type OnNotice = Box<dyn Fn(&DbError) + Send>;

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that asks `find` each time, and whose sessions are listed in `own` and driven on
    /// `tasks`.
    pub fn new(find: Find, own: OwnBackends, tasks: TaskTracker) -> Self {
        Self { find, own, tasks }
    }

    /// Runs something beside a run; the process waits for its end.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// The process ids of every session made by this connector and its clones.
    pub(super) fn own_pids(&self) -> Vec<i32> {
        self.own.pids()
    }

    /// How the server of a database is reached, for a program that connects by itself.
    pub(super) fn endpoint(&self, database: &str) -> Option<Endpoint> {
        (self.find)(database)
    }

    /// A connector to the server of one database, whatever database is asked for: for those that the
    /// configuration does not know.
    pub(super) fn beside(&self, known: &str) -> Arc<Self> {
        let (find, known) = (Arc::clone(&self.find), known.to_owned());
        Arc::new(Self {
            find: Arc::new(move |_| find(&known)),
            ..self.clone()
        })
    }

    /// A connector to another server.
    pub(super) fn elsewhere(&self, endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            find: Arc::new(move |_| Some(endpoint.clone())),
            ..self.clone()
        })
    }

    /// Connects to a database on the server of another one: to a scratch database, which the
    /// configuration does not know.
    ///
    /// # Errors
    /// As for `connect`.
    pub(super) async fn connect_beside(
        &self,
        known: &str,
        database: &str,
    ) -> Result<Session, ConnectError> {
        self.connect_as(known, database, Box::new(|_| {})).await
    }

    /// Connects to a database.
    ///
    /// # Errors
    /// When no host is a primary that lets us in in time.
    pub(super) async fn connect(
        &self,
        database: &str,
        on_notice: OnNotice,
    ) -> Result<Session, ConnectError> {
        self.connect_as(database, database, on_notice).await
    }

    /// Runs SQL in a database, on a session for it alone; gives the first column of the last row.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses a statement.
    pub async fn run_script(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Option<String>, ConnectError> {
        let session = self.connect(database, Box::new(|_| {})).await?;
        let answer = session.client.simple_query(sql).await;
        session.close(Duration::from_secs(5)).await;
        Ok(first_column(&answer?).map(str::to_owned))
    }

    async fn connect_as(
        &self,
        known: &str,
        database: &str,
        on_notice: OnNotice,
    ) -> Result<Session, ConnectError> {
        let endpoint = self.endpoint(known).ok_or(ConnectError::NoRole)?;
        let hosts = u32::try_from(endpoint.hosts.len()).unwrap_or(1);
        let limit = endpoint.connect_timeout * hosts.max(1);
        tokio::time::timeout(limit, self.open(&endpoint, database, on_notice))
            .await
            .unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        database: &str,
        on_notice: OnNotice,
    ) -> Result<Session, ConnectError> {
        let (client, mut connection, route) = endpoint.open(database).await?;
        let (closed, watch) = watch::channel(false);
        let listed = Arc::new(OnceLock::new());
        let keep = Arc::clone(&listed);
        self.tasks.spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => on_notice(&notice),
                    // Notifications: nobody listens. The enum is not exhaustive.
                    Ok(_) => {}
                    // Whoever waits for an answer is told by the client.
                    Err(_) => break,
                }
            }
            drop(connection);
            drop(keep);
            closed.send_replace(true);
        });
        let row = client
            .query_one("select pg_catalog.pg_backend_pid()", &[])
            .await?;
        let pid = row.get(0);
        // The driver drops it when the socket is closed, not when somebody loses interest.
        let _ = listed.set(self.own.insert(pid));
        Ok(Session {
            client,
            pid,
            route,
            closed: watch,
        })
    }
}

impl Endpoint {
    /// Of several hosts, the primary. A single one is taken as it is: with read-only as its default
    /// it would seem to be a standby, and preflight tells the two apart.
    async fn open(&self, database: &str) -> Result<(Client, Driver, Route), ConnectError> {
        let mut last = ConnectError::NoPrimary;
        for host in &self.hosts {
            let opened = tokio::time::timeout(self.connect_timeout, self.open_at(host, database));
            match opened.await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = ConnectError::Timeout(self.connect_timeout),
            }
        }
        Err(last)
    }

    async fn open_at(
        &self,
        host: &Host,
        database: &str,
    ) -> Result<(Client, Driver, Route), ConnectError> {
        let (client, mut driver, route) = self.log_in(host, database).await?;
        if self.hosts.len() > 1 {
            let answer = tokio::select! {
                answer = client.simple_query("show transaction_read_only") => answer?,
                // The driver ends only when the connection does.
                ended = &mut driver => {
                    return Err(ended.err().map_or(ConnectError::NoPrimary, Into::into));
                }
            };
            if first_column(&answer) != Some("off") {
                return Err(ConnectError::NoPrimary);
            }
        }
        Ok((client, driver, route))
    }

    async fn log_in(
        &self,
        host: &Host,
        database: &str,
    ) -> Result<(Client, Driver, Route), ConnectError> {
        let mut attempts = self.tls.attempts().iter().peekable();
        while let Some(attempt) = attempts.next() {
            let (stream, route) =
                connect_host(host, &self.tls, &TcpOptions::default(), *attempt).await?;
            watch_closely(&stream).map_err(NotEncrypted::Io)?;
            let next = attempts.peek().copied();
            let logged_in = driver::log_in(&self.config(database), stream, next).await?;
            if let Some((client, driver)) = logged_in {
                return Ok((client, driver, route));
            }
        }
        unreachable!("the last attempt succeeds or fails")
    }

    fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(APPLICATION_NAME);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config
    }
}

/// A server that is gone without a word is noticed within half a minute.
fn watch_closely(stream: &Stream) -> io::Result<()> {
    let Some(socket) = stream.tcp_socket() else {
        return Ok(());
    };
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))
}

/// The first column of the last row.
fn first_column(answer: &[SimpleQueryMessage]) -> Option<&str> {
    answer.iter().rev().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        row.get(0)
    })
}

/// A connection of ours. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// Its process id on the server.
    pub(super) pid: i32,
    route: Route,
    closed: watch::Receiver<bool>,
}

impl Session {
    /// Ends the connection in order and waits until the socket is closed, at most `limit`.
    pub(super) async fn close(self, limit: Duration) {
        let Self {
            client, mut closed, ..
        } = self;
        drop(client);
        // When the limit passes, the driver still ends by itself.
        let _ = tokio::time::timeout(limit, closed.wait_for(|closed| *closed)).await;
    }

    /// Whether the process that serves us runs on this machine: an address of the loopback may be that
    /// of a tunnel or of a container. Its title names the port that the server sees us come from.
    pub(super) async fn is_here(&self) -> Result<bool, tokio_postgres::Error> {
        let asked = self.client.query_one("select inet_client_port()", &[]);
        let from = match asked.await?.get::<_, Option<i32>>(0) {
            Some(port) => format!("({port})"),
            None => "[local]".to_owned(),
        };
        let title = tokio::fs::read(format!("/proc/{}/cmdline", self.pid)).await;
        // What cannot be read is not here.
        let title = title.unwrap_or_default();
        let title = String::from_utf8_lossy(&title);
        Ok(title.starts_with("postgres: ") && title.contains(&from))
    }

    /// Waits until the connection is gone, whoever ended it.
    pub(super) async fn gone(&self) {
        let mut closed = self.closed.clone();
        // A driver that is gone without a word has closed it too.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Asks the server to stop what this session is doing. Harmless when it does nothing.
    pub(super) async fn cancel(&self, limit: Duration) {
        let token = self.client.cancel_token();
        let asked = tokio::time::timeout(limit, driver::cancel(&token, &self.route)).await;
        if let Ok(Err(error)) = asked {
            tracing::warn!(pid = self.pid, %error, "cannot send a cancel request");
        }
    }
}
