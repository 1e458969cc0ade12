//! Connections of the runner's own: direct to the server, driven by a tracked task, listed as ours.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_util::task::TaskTracker;

use super::report::chain;
use crate::config::{Host, Secret};
use crate::server::own::OwnBackends;

/// What our sessions are called in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "pgdrain migrate";

/// How to reach the server, and as whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Places, tried in order until one is a primary.
    pub hosts: Vec<Host>,
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
    /// The server or the network said no.
    #[error("cannot connect: {}", chain(.0))]
    Refused(#[source] tokio_postgres::Error),
    /// Nobody answered in time.
    #[error("cannot connect: no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
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

    /// The process ids of every session made by this connector and its clones.
    pub(super) fn own_pids(&self) -> Vec<i32> {
        self.own.pids()
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
        let endpoint = (self.find)(database).ok_or(ConnectError::NoRole)?;
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
        let config = endpoint.config(database);
        let (client, mut connection) =
            config.connect(NoTls).await.map_err(ConnectError::Refused)?;
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
            .await
            .map_err(ConnectError::Refused)?;
        let pid = row.get(0);
        // The driver drops it when the socket is closed, not when somebody loses interest.
        let _ = listed.set(self.own.insert(pid));
        Ok(Session {
            client,
            pid,
            closed: watch,
        })
    }
}

impl Endpoint {
    fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(APPLICATION_NAME)
            .connect_timeout(self.connect_timeout)
            // A server that is gone without a word is noticed within half a minute.
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        // Of several, the primary. A single one is taken as it is: with read-only as its default
        // it would seem to be a standby, and preflight tells the two apart.
        if self.hosts.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        for host in &self.hosts {
            match host {
                Host::Tcp { name, port } => config.host(name).port(*port),
                Host::Unix(unix) => config.host_path(&unix.directory).port(unix.port),
            };
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config
    }
}

/// A connection of ours. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// Its process id on the server.
    pub(super) pid: i32,
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

    /// Asks the server to stop what this session is doing. Harmless when it does nothing.
    pub(super) async fn cancel(&self, limit: Duration) {
        let token = self.client.cancel_token();
        let asked = tokio::time::timeout(limit, token.cancel_query(NoTls)).await;
        if let Ok(Err(error)) = asked {
            tracing::warn!(pid = self.pid, %error, "cannot send a cancel request");
        }
    }
}
