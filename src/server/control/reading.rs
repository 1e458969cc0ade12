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

/// A statement that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its text, where all of it is known.
    pub text: Option<String>,
    /// Whether its transaction has written.
    pub has_written: bool,
}

impl Control {
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
