//! The control connection: what the server itself says of its sessions, and orders to end them.

use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use super::connect::{Endpoint, Unreachable};
use super::driver::{NotOpen, open_as};
use super::own::{OwnBackend, OwnBackends};
use crate::config::Target;
use crate::tasks::Tasks;

/// How long one question may take before the answer counts as unknown.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Every client backend of a database, and every sender of its changes. `backend_type` and most of the rest are NULL for sessions
/// of other roles where the control role may not see them; those must not be left out.
const BACKENDS: &str = "\
select pid, coalesce(usename::text, ''), coalesce(application_name, ''),
       coalesce(host(client_addr) || ':' || client_port, '[local]'),
       state, xact_start, query_start,
       (extract(epoch from clock_timestamp() - coalesce(xact_start, query_start)) * 1000)::int8,
       coalesce(backend_type = 'walsender', false),
       case when state = 'idle in transaction (aborted)'
            then backend_xid is null and backend_xmin is null
                 and not exists (select from pg_catalog.pg_locks held
                                  where held.pid = activity.pid and held.locktype <> 'advisory')
            else false end
  from pg_catalog.pg_stat_activity activity
 where datname = $1 and coalesce(backend_type, 'client backend') in ('client backend', 'walsender')";

/// What the server says of one of its sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// The role it was opened with.
    pub user: String,
    /// Its `application_name`.
    pub application_name: String,
    /// Where it comes from.
    pub client: String,
    /// What it does.
    pub activity: Activity,
    /// Since when its transaction runs, or its statement where that is not known.
    pub age: Option<Duration>,
    /// When its last statement began.
    pub statement_started_at: Option<SystemTime>,
    /// Whether it was opened for replication: what it does says nothing of transactions then.
    pub sends_changes: bool,
}

/// What a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing, outside of a transaction.
    Idle,
    /// It runs a statement or a function call.
    Active,
    /// Nothing, inside a transaction.
    IdleInTransaction,
    /// Nothing, inside a failed transaction that has no number, no snapshot and no lock: it is in
    /// nobody's way. Advisory locks of the session do not count, as with one that is idle.
    Aborted,
    /// The server does not say.
    Unknown,
}

impl Activity {
    fn from_state(state: Option<&str>) -> Activity {
        match state {
            Some("idle") => Activity::Idle,
            Some("active" | "fastpath function call") => Activity::Active,
            Some("idle in transaction" | "idle in transaction (aborted)") => {
                Activity::IdleInTransaction
            }
            // NULL without the privilege; "disabled" without track_activities.
            _ => Activity::Unknown,
        }
    }

    /// The word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Active => "active",
            Activity::IdleInTransaction => "in_transaction",
            Activity::Aborted => "aborted",
            Activity::Unknown => "unknown",
        }
    }
}

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
}

#[derive(Debug)]
struct Connection {
    client: Client,
    /// [`BACKENDS`], prepared: the proof of a drain is waited for.
    backends: Statement,
    endpoint: Endpoint,
    _own: OwnBackend,
}

impl Control {
    /// Of this upstream; nothing is opened yet.
    pub fn new(target: Target, own: OwnBackends, tasks: Tasks) -> Control {
        Control {
            target,
            own,
            tasks,
            connection: Mutex::new(None),
        }
    }

    /// Every client backend of `database` but our own ones, and the server that said so.
    pub async fn backends(&self, database: &str) -> Result<(Endpoint, Vec<Backend>), ControlError> {
        let (mut kept, connection) = self.lend().await?;
        let rows = in_time(connection.client.query(&connection.backends, &[&database])).await?;
        let backends = rows.iter().map(backend).collect::<Result<Vec<_>, _>>()?;
        let endpoint = connection.endpoint.clone();
        *kept = Some(connection);
        let others = backends
            .into_iter()
            .filter(|backend| !self.own.contains(backend.pid));
        Ok((endpoint, others.collect()))
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

    async fn order(&self, statement: &str, pids: &[i32]) -> Result<(), ControlError> {
        let (mut kept, connection) = self.lend().await?;
        in_time(connection.client.query(statement, &[&pids])).await?;
        *kept = Some(connection);
        Ok(())
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
        let pid = client
            .query_one("select pg_backend_pid()", &[])
            .await?
            .try_get(0)?;
        let backends = client.prepare(BACKENDS).await?;
        Ok(Connection {
            client,
            backends,
            endpoint: route.endpoint,
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

fn backend(row: &Row) -> Result<Backend, tokio_postgres::Error> {
    let age: Option<i64> = row.try_get(7)?;
    let activity = if row.try_get(9)? {
        Activity::Aborted
    } else {
        Activity::from_state(row.try_get(4)?)
    };
    Ok(Backend {
        pid: row.try_get(0)?,
        user: row.try_get(1)?,
        application_name: row.try_get(2)?,
        client: row.try_get(3)?,
        activity,
        age: age.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or(0))),
        statement_started_at: row.try_get(6)?,
        sends_changes: row.try_get(8)?,
    })
}
