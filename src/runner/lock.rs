//! The migration lock: one runner per database, whichever proxy it lives in.
//!
//! A session-level advisory lock that is asked for again and again, never waited for: a session
//! that waits inside the server holds a snapshot, for which `CREATE INDEX CONCURRENTLY` in the
//! winner waits in turn, and the two end as a deadlock with an invalid index.

use std::time::Duration;

use tokio::time::Instant;

use super::connect::Session;
use super::report::chain;
use super::stop::{Stop, StopReason};

/// "pgdr" in ASCII; the second key is free for later kinds of lock.
const KEY: &str = "1885824114, 0";

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another migration holds the lock: {0}")]
    Taken(String),
    /// The server did not answer.
    #[error("cannot take the migration lock: {}", chain(.0))]
    Query(#[from] tokio_postgres::Error),
    /// The run was stopped meanwhile.
    #[error("{0}")]
    Stopped(StopReason),
}

/// How long to wait between two tries: a quarter of a second, give or take, so that several
/// waiters do not march in step.
pub(super) fn pause() -> Duration {
    Duration::from_millis(rand::random_range(200..=300))
}

/// Takes the lock for a session, trying until the deadline (at least once) or until stopped.
pub(super) async fn acquire(
    session: &Session,
    deadline: Instant,
    stop: Option<&Stop>,
) -> Result<(), LockError> {
    let sql = format!("select pg_catalog.pg_try_advisory_lock({KEY})");
    loop {
        if session.client.query_one(&sql, &[]).await?.get(0) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(LockError::Taken(holder(session).await?));
        }
        let stopped = async {
            match stop {
                Some(stop) => stop.fired().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = stopped => return Err(LockError::Stopped(reason)),
            () = tokio::time::sleep(pause()) => {}
        }
    }
}

/// Whether the session still holds the lock.
pub(super) async fn is_held(session: &Session) -> Result<bool, tokio_postgres::Error> {
    let sql = "select exists (select from pg_catalog.pg_locks l \
                 join pg_catalog.pg_database d on d.oid = l.database \
               where l.locktype = 'advisory' and l.classid = 1885824114 and l.objid = 0 \
                 and l.objsubid = 2 and l.granted and d.datname = current_database() \
                 and l.pid = pg_catalog.pg_backend_pid()) \
               and pg_catalog.pg_backend_pid() = $1";
    Ok(session.client.query_one(sql, &[&session.pid]).await?.get(0))
}

/// Who holds the lock, for people.
async fn holder(session: &Session) -> Result<String, tokio_postgres::Error> {
    let taken = taken(session).await?;
    Ok(taken.unwrap_or_else(|| "it was given back just now".to_owned()))
}

/// Who holds the lock, for people; `None` if nobody does.
pub(super) async fn taken(session: &Session) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = "select format('process %s (%s, %s, since %s)', l.pid, \
                      coalesce(a.application_name, 'unknown application'), \
                      coalesce(host(a.client_addr), 'local'), \
                      coalesce(a.backend_start::text, 'unknown')) \
               from pg_catalog.pg_locks l \
               join pg_catalog.pg_database d on d.oid = l.database \
               left join pg_catalog.pg_stat_activity a on a.pid = l.pid \
               where l.locktype = 'advisory' and l.classid = 1885824114 and l.objid = 0 \
                 and l.objsubid = 2 and l.granted and d.datname = current_database()";
    let row = session.client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| row.get(0)))
}
