//! What sessions run, in their own words.

use tokio_postgres::Row;

use super::{Control, ControlError, in_time};
use crate::server::connect::Endpoint;

/// The longest text that is shown of one statement, in characters.
const TEXT_MAX: i32 = 1000;

/// `$1` is the database, `$2` the process ids, `$3` the longest text. Who blocks whom is asked only of
/// those who wait: that question takes locks of the lock manager for a moment (section 9.27 of the
/// documentation). Another role's text is NULL, or says so, without pg_read_all_stats.
const STATEMENTS: &str = "\
select pid,
       case when query is null or query in ('', '<insufficient privilege>') then null else left(query, $3) end,
       coalesce(length(query) > $3, false), coalesce(state = 'active', false),
       case when state = 'active' then wait_event_type || ': ' || wait_event end,
       case when state = 'active' and wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(pid)
            else '{}'::int4[] end
  from pg_catalog.pg_stat_activity where datname = $1 and pid = any ($2)";

/// What one session of the server runs, or ran last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its process id.
    pub pid: i32,
    /// The text of its statement, a thousand characters at most; `None` where it may not be seen.
    pub text: Option<String>,
    /// Whether there is more of it.
    pub cut: bool,
    /// Whether it runs now.
    pub running: bool,
    /// What it waits for, in the server's words.
    pub waits_for: Option<String>,
    /// The process ids of those who hold, or wait before it for, the lock that it waits for.
    pub blocked_by: Vec<i32>,
}

impl Control {
    /// What these sessions of `database` run, and the server that said so. Who is gone is left out.
    pub async fn statements(
        &self,
        database: &str,
        pids: &[i32],
    ) -> Result<(Endpoint, Vec<Ran>), ControlError> {
        let (mut kept, connection) = self.lend().await?;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&database, &pids, &TEXT_MAX];
        let rows = in_time(connection.client.query(STATEMENTS, &values)).await?;
        let endpoint = connection.endpoint.clone();
        *kept = Some(connection);
        let ran = rows.iter().map(Ran::of_row).collect::<Result<_, _>>()?;
        Ok((endpoint, ran))
    }
}

impl Ran {
    fn of_row(row: &Row) -> Result<Ran, tokio_postgres::Error> {
        // Prepared transactions block under the number 0.
        let mut blocked_by: Vec<i32> = row.try_get(5)?;
        blocked_by.sort_unstable();
        blocked_by.dedup();
        Ok(Ran {
            pid: row.try_get(0)?,
            text: row.try_get(1)?,
            cut: row.try_get(2)?,
            running: row.try_get(3)?,
            waits_for: row.try_get(4)?,
            blocked_by,
        })
    }
}
