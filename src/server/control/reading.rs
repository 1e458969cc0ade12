//! What sessions run, and whether they have written.

use std::collections::BTreeMap;

use super::{Control, ControlError};

/// A transaction without a number has changed no row and no catalog so far. A text that fills its place
/// may have been cut, and what is cut off is not known.
const RUNNING: &str = "\
select pid, backend_xid is not null,
       case when octet_length(query) < (select setting::int from pg_catalog.pg_settings
                                         where name = 'track_activity_query_size') - 4
            then query end
  from pg_catalog.pg_stat_activity
 where datname = $1 and pid = any($2) and state = 'active'";

/// Where sessions of a database begin read-only by the server's own settings: what the control role's own session
/// has from its database or its role is among those that follow, or is for another database.
const BEGIN_READ_ONLY: &str = "\
select '*', '*'
  from pg_catalog.pg_settings
 where name = 'default_transaction_read_only' and reset_val = 'on'
   and source not in ('global', 'database', 'user', 'database user')
union
select coalesce(role.rolname::text, '*'), coalesce(base.datname::text, '*')
  from pg_catalog.pg_db_role_setting of cross join unnest(of.setconfig) set
  left join pg_catalog.pg_roles role on role.oid = of.setrole
  left join pg_catalog.pg_database base on base.oid = of.setdatabase
 where (of.setdatabase = 0 or base.datname = $1)
   and set like 'default_transaction_read_only=%' and split_part(set, '=', 2)::boolean
 order by 1, 2";

/// Sessions that begin read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginReadOnly {
    /// Whose: a role, or `*` for all.
    pub role: String,
    /// Where: a database, or `*` for all.
    pub database: String,
}

/// A statement that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its text, where all of it is known.
    pub text: Option<String>,
    /// Whether its transaction has written.
    pub has_written: bool,
}

impl Control {
    /// Whether the server is in recovery, and refuses writes by itself.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub async fn is_in_recovery(&self) -> Result<bool, ControlError> {
        let rows = self
            .ask("select pg_catalog.pg_is_in_recovery()", &[])
            .await?;
        let answer = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(answer.unwrap_or(false))
    }

    /// Whose sessions begin read-only in `database` by the server's own settings.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub async fn begin_read_only(
        &self,
        database: &str,
    ) -> Result<Vec<BeginReadOnly>, ControlError> {
        let rows = self.ask(BEGIN_READ_ONLY, &[&database]).await?;
        let found = rows.iter().map(|row| {
            Ok(BeginReadOnly {
                role: row.try_get(0)?,
                database: row.try_get(1)?,
            })
        });
        Ok(found.collect::<Result<_, tokio_postgres::Error>>()?)
    }

    /// What those of these processes run that run something.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub async fn running(
        &self,
        database: &str,
        pids: &[i32],
    ) -> Result<BTreeMap<i32, Running>, ControlError> {
        let rows = self.ask(RUNNING, &[&database, &pids]).await?;
        let running = rows.iter().map(|row| {
            let running = Running {
                has_written: row.try_get(1)?,
                text: row.try_get(2)?,
            };
            Ok((row.try_get(0)?, running))
        });
        Ok(running.collect::<Result<_, tokio_postgres::Error>>()?)
    }
}
