//! What stands in the way of maintenance without being a client's session: it is named, never ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::config::words;

words! {
    /// What kind of thing it is.
    ObstacleKind {
        /// A transaction that was prepared for a second phase: it holds its locks until somebody ends it.
        Prepared = "prepared_transaction",
        /// A base backup of the whole server.
        BaseBackup = "base_backup",
        /// An autovacuum against wraparound: it does not make way for DDL.
        Wraparound = "wraparound_autovacuum",
    }
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What kind of thing it is.
    pub kind: ObstacleKind,
    /// The global identifier of a prepared transaction, the process id of the others.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// More about it.
    pub detail: String,
}

/// All of them; `$1` is the database. A base backup is one of the whole server.
pub(super) const OBSTACLES: &str = "\
select 'prepared_transaction', gid, owner::text,
       (extract(epoch from clock_timestamp() - prepared) * 1000)::int8, 'transaction ' || transaction
  from pg_catalog.pg_prepared_xacts where database = $1
union all
select 'base_backup', a.pid::text, coalesce(a.usename::text, ''),
       (extract(epoch from clock_timestamp() - a.backend_start) * 1000)::int8,
       coalesce(nullif(a.application_name, '') || ': ', '') || coalesce(p.phase, 'running')
  from pg_catalog.pg_stat_activity a left join pg_catalog.pg_stat_progress_basebackup p on p.pid = a.pid
 where p.pid is not null
    or a.pid in (select r.pid from pg_catalog.pg_stat_replication r where r.state = 'backup')
union all
select 'wraparound_autovacuum', pid::text, '',
       (extract(epoch from clock_timestamp() - coalesce(xact_start, backend_start)) * 1000)::int8, query
  from pg_catalog.pg_stat_activity
 where datname = $1 and backend_type = 'autovacuum worker'
   and query like '%(to prevent wraparound)%'
 order by 1, 4 desc";

impl Obstacle {
    pub(super) fn of_row(row: &Row) -> Result<Obstacle, tokio_postgres::Error> {
        let kind: &str = row.try_get(0)?;
        let age: Option<i64> = row.try_get(3)?;
        Ok(Obstacle {
            kind: kind.parse().unwrap_or(ObstacleKind::Prepared),
            name: row.try_get(1)?,
            owner: row.try_get(2)?,
            age_ms: age.and_then(|age| u64::try_from(age).ok()).unwrap_or(0),
            detail: row.try_get(4)?,
        })
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }
}
