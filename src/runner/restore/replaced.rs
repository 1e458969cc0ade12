//! Databases that a backup has replaced: what says so, and their end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::swap::outside;
use crate::runner::backup::{BackupError, Pruned};
use crate::runner::connect::{APPLICATION_NAME, Connector};
use crate::runner::shape::quote;

/// With the id of the restore behind it, as long as a name may be.
const PREFIX: &str = "pgdrain_replaced_";

/// In front of the rest in the comment of such a database.
const MARK: &str = "pgdrain: replaced ";

/// What is written at a database that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    /// What it was called.
    pub(super) database: String,
    /// When.
    pub(super) at: Timestamp,
    /// By the backup of which run.
    pub(super) run: String,
    /// Who had asked for it.
    pub(super) by: String,
}

impl Replaced {
    pub(super) fn name(id: &str) -> String {
        format!("{PREFIX}{}", id.replace('-', "_"))
    }

    pub(super) fn comment(&self) -> String {
        // Text and a time: nothing that JSON cannot hold.
        format!("{MARK}{}", serde_json::to_string(self).unwrap_or_default())
    }

    fn read(comment: &str) -> Option<Self> {
        serde_json::from_str(comment.strip_prefix(MARK)?).ok()
    }
}

/// Drops those of a database that were replaced longer ago than is to be kept, unless somebody is in them.
pub(super) async fn prune(
    connector: &Arc<Connector>,
    database: &str,
    keep: Duration,
    pruned: &mut Pruned,
) {
    if let Err(error) = drop_old(connector, database, keep, pruned).await {
        let text = format!("databases that were replaced cannot be looked for: {error}");
        pruned.failed.push(text);
    }
}

async fn drop_old(
    connector: &Arc<Connector>,
    database: &str,
    keep: Duration,
    pruned: &mut Pruned,
) -> Result<(), BackupError> {
    let session = outside(connector, database, APPLICATION_NAME).await?;
    let sql = "select d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database') \
               from pg_catalog.pg_database d \
               where starts_with(d.datname::text, $1) and pg_catalog.pg_has_role(d.datdba, 'usage') \
               order by 1";
    let found = session.client.query(sql, &[&PREFIX]).await;
    let found = found.map_err(BackupError::server("cannot look for them"))?;
    for row in found {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        let replaced = comment.as_deref().and_then(Replaced::read);
        let Some(replaced) = replaced.filter(|it| it.database == database) else {
            continue;
        };
        let age = Duration::try_from(Timestamp::now().duration_since(replaced.at));
        if !age.is_ok_and(|age| age > keep) {
            continue;
        }
        let dropped = format!("drop database if exists {}", quote(&name));
        match session.client.batch_execute(&dropped).await {
            Ok(()) => pruned.replaced.push(name),
            Err(error) => pruned.failed.push(format!("{name}: {error}")),
        }
    }
    session.close(Duration::from_secs(5)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let replaced = Replaced {
            database: "it's".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            run: "r".to_owned(),
            by: "ann".to_owned(),
        };
        assert_eq!(Replaced::read(&replaced.comment()), Some(replaced));
        assert_eq!(Replaced::read("somebody's own"), None);
        assert!(Replaced::name(&"x".repeat(36)).len() < 64);
    }
}
