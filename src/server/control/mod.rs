//! The control connection: what the server itself says of its sessions, and orders to end them.

mod backends;
mod limits;
mod locks;
mod obstacles;
mod reading;
mod rights;
mod statements;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

pub use backends::{Activity, Backend, Identity};
pub use locks::{CLASS, OtherProxy};
pub use obstacles::{Obstacle, ObstacleKind};
pub use reading::{BeginReadOnly, Running};
pub use rights::{Rights, SessionTimeout};
pub use statements::Ran;

use self::backends::BACKENDS;
use self::obstacles::OBSTACLES;
use super::connect::{Endpoint, Unreachable};
use super::driver::{NotOpen, open_as, pid_told};
use super::own::{OwnBackend, OwnBackends};
use crate::config::Target;
use crate::tasks::Tasks;

/// How long one question may take before the answer counts as unknown.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Why the server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No role is configured for it.
    #[error(
        "no user is configured for the control connection ([control] user, or one in upstream)"
    )]
    NoRole,
    /// No connection to the server.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// The server refused, or the connection broke.
    #[error("the control connection failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The answer did not come in time.
    #[error("the control connection gave no answer within {ANSWER_TIME:?}")]
    Timeout,
}

impl From<NotOpen> for ControlError {
    fn from(error: NotOpen) -> Self {
        match error {
            NotOpen::Unreachable(error) => Self::Unreachable(error),
            NotOpen::Postgres(error) => Self::Postgres(error),
        }
    }
}

/// Watches one upstream. The connection is opened when first needed, kept, and opened again after
/// it broke.
#[derive(Debug)]
pub struct Control {
    target: Target,
    own: OwnBackends,
    tasks: Tasks,
    connection: Mutex<Option<Connection>>,
    pooled: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    /// [`BACKENDS`], prepared: the proof of a drain is waited for.
    backends: Statement,
    /// [`OBSTACLES`], for the same reason.
    obstacles: Statement,
    endpoint: Endpoint,
    /// Databases whose lock it holds; see [`Control::announce`].
    announced: BTreeSet<String>,
    _own: OwnBackend,
}

/// What the server shows of a database at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The server.
    pub endpoint: Endpoint,
    /// Its client backends and senders of changes, but our own ones.
    pub backends: Vec<Backend>,
    /// See [`Control::is_pooled`].
    pub pooled: bool,
}

impl Control {
    /// Of this upstream; nothing is opened yet.
    pub fn new(target: Target, own: OwnBackends, tasks: Tasks) -> Control {
        Control {
            target,
            own,
            tasks,
            connection: Mutex::new(None),
            pooled: AtomicBool::new(false),
        }
    }

    /// The sessions of `database`, and the server that said so.
    pub async fn backends(&self, database: &str) -> Result<Seen, ControlError> {
        let (mut kept, connection) = self.lend().await?;
        let rows = in_time(connection.client.query(&connection.backends, &[&database])).await?;
        let backends = rows.iter().map(Backend::of_row);
        let backends = backends.collect::<Result<Vec<_>, _>>()?;
        let endpoint = connection.endpoint.clone();
        *kept = Some(connection);
        let others = backends
            .into_iter()
            .filter(|backend| !self.own.contains(backend.pid));
        Ok(Seen {
            endpoint,
            backends: others.collect(),
            pooled: self.is_pooled(),
        })
    }

    /// What else stands in the way of maintenance in `database`.
    pub async fn obstacles(&self, database: &str) -> Result<Vec<Obstacle>, ControlError> {
        let (mut kept, connection) = self.lend().await?;
        let rows = in_time(connection.client.query(&connection.obstacles, &[&database])).await?;
        *kept = Some(connection);
        let obstacles = rows.iter().map(Obstacle::of_row);
        Ok(obstacles.collect::<Result<_, _>>()?)
    }

    /// Whether something between us and the server hands out its connections, as far as is known:
    /// process ids mean nothing then.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    /// Opens the connection if there is none, so that the next question is answered at once.
    pub async fn warm_up(&self) {
        // Whoever asks next meets the same error, and tells it.
        if let Ok((mut kept, connection)) = self.lend().await {
            *kept = Some(connection);
        }
    }

    /// `pg_cancel_backend` for each.
    pub async fn cancel(&self, pids: &[i32]) -> Result<(), ControlError> {
        self.order(
            "select pg_cancel_backend(pid) from unnest($1::int4[]) pid",
            pids,
        )
        .await
    }

    /// `pg_terminate_backend` for each, without waiting for their end.
    pub async fn terminate(&self, pids: &[i32]) -> Result<(), ControlError> {
        self.order(
            "select pg_terminate_backend(pid) from unnest($1::int4[]) pid",
            pids,
        )
        .await
    }

    /// Cancels what this very session runs, if it is still there. False when it is not.
    pub async fn cancel_one(&self, who: Identity) -> Result<bool, ControlError> {
        self.order_one("pg_cancel_backend", who).await
    }

    /// Terminates this very session, if it is still there, without waiting for its end. False when
    /// it is not.
    pub async fn terminate_one(&self, who: Identity) -> Result<bool, ControlError> {
        self.order_one("pg_terminate_backend", who).await
    }

    /// In a statement of its own: within one the server shows the same list again and again.
    async fn order_one(&self, function: &str, who: Identity) -> Result<bool, ControlError> {
        let sql = format!(
            "select {function}(pid) from pg_catalog.pg_stat_activity
              where pid = $1 and (extract(epoch from backend_start) * 1000000)::int8 = $2
                and backend_type = 'client backend'"
        );
        let rows = self.ask(&sql, &[&who.pid, &who.born]).await?;
        Ok(!rows.is_empty())
    }

    async fn order(&self, statement: &str, pids: &[i32]) -> Result<(), ControlError> {
        self.ask(statement, &[&pids]).await?;
        Ok(())
    }

    /// Asks one question. One that the server refuses does the connection no harm; after one that it
    /// does not answer in time the connection is given up.
    async fn ask(
        &self,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ControlError> {
        let (mut kept, connection) = self.lend().await?;
        let answer = in_time(connection.client.query(statement, values)).await;
        match answer {
            Err(ControlError::Timeout) => {}
            Ok(_) | Err(_) => *kept = Some(connection),
        }
        answer
    }

    /// Takes the connection out, or opens a new one. Who succeeds with it puts it back; one that
    /// failed is given up by not doing so.
    async fn lend(&self) -> Result<(MutexGuard<'_, Option<Connection>>, Connection), ControlError> {
        let mut kept = self.connection.lock().await;
        let connection = match kept.take() {
            Some(connection) if !connection.client.is_closed() => connection,
            Some(_) | None => timeout(ANSWER_TIME, self.open())
                .await
                .map_err(|_elapsed| ControlError::Timeout)??,
        };
        Ok((kept, connection))
    }

    async fn open(&self) -> Result<Connection, ControlError> {
        let role = self.target.control.as_ref().ok_or(ControlError::NoRole)?;
        let upstream = &self.target.upstream;
        let (client, route) = open_as(upstream, role, "pgdrain control", &self.tasks).await?;
        // A hold of somebody else's locks must not stop us from seeing them.
        client
            .batch_execute("set statement_timeout = '5s'; set lock_timeout = '1s'")
            .await?;
        let pid: i32 = client
            .query_one("select pg_backend_pid()", &[])
            .await?
            .try_get(0)?;
        // Something in between told us a process id of its own making.
        let pooled = pid_told(&client).await.is_some_and(|told| told != pid);
        self.pooled.store(pooled, Ordering::Relaxed);
        let backends = client.prepare(BACKENDS).await?;
        let obstacles = client.prepare(OBSTACLES).await?;
        Ok(Connection {
            client,
            backends,
            obstacles,
            endpoint: route.endpoint,
            announced: BTreeSet::new(),
            _own: self.own.insert(pid),
        })
    }
}

async fn in_time(
    answer: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
) -> Result<Vec<Row>, ControlError> {
    Ok(timeout(ANSWER_TIME, answer)
        .await
        .map_err(|_elapsed| ControlError::Timeout)??)
}
