//! The shared advisory lock by which two proxies in front of one database know of one another.
//!
//! Class and object of the lock are [`CLASS`] and the database's number; it is held on the control
//! connection, whatever database that is in, and seen by everybody in `pg_locks`.

use tokio_postgres::Row;

use super::{Control, ControlError};

/// "pgdr", as bytes of a number.
pub const CLASS: i32 = 0x7067_6472;

/// Takes the lock; `$1` is the class and `$2` the database. The number of a database has no sign, and
/// the function takes one that has.
const ANNOUNCE: &str = "\
select pg_catalog.pg_try_advisory_lock_shared($1,
       (oid::int8 - case when oid::int8 > 2147483647 then 4294967296 else 0 end)::int4)
  from pg_catalog.pg_database where datname = $2";

/// Who else holds it.
const OTHERS: &str = "\
select held.pid, coalesce(other.application_name, ''),
       coalesce(host(other.client_addr) || ':' || other.client_port, '[local]')
  from pg_catalog.pg_locks held
  join pg_catalog.pg_database of on of.oid = held.objid
  left join pg_catalog.pg_stat_activity other on other.pid = held.pid
 where held.locktype = 'advisory' and held.objsubid = 2 and held.granted
   and held.classid::int8 = $1 and of.datname = $2 and held.pid <> pg_catalog.pg_backend_pid()
 order by held.pid";

/// Another proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherProxy {
    /// The process id of its control connection.
    pub pid: i32,
    /// Its `application_name`.
    pub application_name: String,
    /// Where it comes from.
    pub client: String,
}

impl std::fmt::Display for OtherProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OtherProxy {
            pid,
            application_name,
            client,
        } = self;
        write!(f, "pid {pid} ({application_name:?}, {client})")
    }
}

impl Control {
    /// Tells other proxies that we serve `database`, for as long as the connection lives. Costs
    /// nothing when that was done already.
    pub async fn announce(&self, database: &str) -> Result<(), ControlError> {
        let (mut kept, mut connection) = self.lend().await?;
        if !connection.announced.contains(database) {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&CLASS, &database];
            super::in_time(connection.client.query(ANNOUNCE, &values)).await?;
            connection.announced.insert(database.to_owned());
        }
        *kept = Some(connection);
        Ok(())
    }

    /// The other proxies that serve `database`.
    pub async fn others(&self, database: &str) -> Result<Vec<OtherProxy>, ControlError> {
        let rows = self.ask(OTHERS, &[&i64::from(CLASS), &database]).await?;
        let other = |row: &Row| {
            Ok(OtherProxy {
                pid: row.try_get(0)?,
                application_name: row.try_get(1)?,
                client: row.try_get(2)?,
            })
        };
        let others = rows.iter().map(other);
        let mut others = others.collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
        others.retain(|other| !self.own.contains(other.pid));
        Ok(others)
    }
}
