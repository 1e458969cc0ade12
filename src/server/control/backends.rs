//! What the server shows of its sessions.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;

/// Every client backend of a database, and every sender of its changes. `backend_type` and most of the rest are NULL for sessions
/// of other roles where the control role may not see them; those must not be left out.
pub(super) const BACKENDS: &str = "\
select pid, coalesce(usename::text, ''), coalesce(application_name, ''),
       coalesce(host(client_addr) || ':' || client_port, '[local]'),
       state, xact_start, query_start,
       (extract(epoch from clock_timestamp() - coalesce(xact_start, query_start)) * 1000)::int8,
       coalesce(backend_type = 'walsender', false),
       (extract(epoch from backend_start) * 1000000)::int8,
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
    /// When it was started, in microseconds since 1970: process ids are used again. `None` where the
    /// control role may not see it.
    pub born: Option<i64>,
}

/// One very session of the server, not whoever has its process id later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Its process id.
    pub pid: i32,
    /// See [`Backend::born`].
    pub born: i64,
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
    fn from_state(state: Option<&str>, visible: bool) -> Activity {
        match state {
            Some("idle") => Activity::Idle,
            Some("active" | "fastpath function call") => Activity::Active,
            Some("idle in transaction" | "idle in transaction (aborted)") => {
                Activity::IdleInTransaction
            }
            // It has not come to its first statement; from version 18 on it is "starting".
            None if visible => Activity::Idle,
            Some("starting") => Activity::Idle,
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

impl Backend {
    /// What tells it from all others, if it is known.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Some(Identity {
            pid: self.pid,
            born: self.born?,
        })
    }

    /// Whether it is in a transaction, as far as is known.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        match self.activity {
            Activity::Active | Activity::IdleInTransaction => true,
            Activity::Idle | Activity::Aborted | Activity::Unknown => false,
        }
    }

    /// Whether it runs something.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.activity == Activity::Active
    }

    pub(super) fn of_row(row: &Row) -> Result<Backend, tokio_postgres::Error> {
        let age: Option<i64> = row.try_get(7)?;
        let born: Option<i64> = row.try_get(9)?;
        let activity = if row.try_get(10)? {
            Activity::Aborted
        } else {
            Activity::from_state(row.try_get(4)?, born.is_some())
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
            born,
        })
    }
}
