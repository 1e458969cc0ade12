//! A named place in the write-ahead log, just before the first file: where recovery to a point in
//! time can stop (`recovery_target_name`).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;

use crate::runner::connect::Session;
use crate::runner::report::chain;

/// A record in the log is written within this, or the server has other troubles.
const ENOUGH: Duration = Duration::from_secs(10);

/// A restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its name: `pgdrain_RUN`.
    pub name: String,
    /// Where it is in the write-ahead log.
    pub lsn: String,
    /// When it was made.
    pub at: Timestamp,
}

/// Makes the restore point of a run.
///
/// # Errors
/// In a sentence, why there is none: a role that may not (it takes a superuser, or EXECUTE on
/// `pg_create_restore_point`), `wal_level = minimal`, a server that is gone.
pub(in crate::runner) async fn mark(session: &Session, run: &str) -> Result<RestorePoint, String> {
    // 63 bytes at most ("Backup Control Functions" in the Postgres documentation).
    let name = format!("pgdrain_{run}");
    let sql = "select pg_catalog.pg_create_restore_point($1)::text";
    let parameters: [&(dyn ToSql + Sync); 1] = [&name];
    let made = session.client.query_one(sql, &parameters);
    match tokio::time::timeout(ENOUGH, made).await {
        Ok(Ok(row)) => Ok(RestorePoint {
            name,
            lsn: row.get(0),
            at: Timestamp::now(),
        }),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_elapsed) => Err("the server does not answer".to_owned()),
    }
}
