//! One view of a database: for pg_dump to dump, and for us to compare what was restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Client;

use super::error::BackupError;
use crate::runner::connect::{Connector, Session};
use crate::runner::drift;
use crate::runner::restore::LostRows;
use crate::runner::source::Sha256;
use crate::runner::verify;

/// A view is kept for as long as it takes.
const PATIENT: &str = "\
    set statement_timeout = 0; \
    set lock_timeout = '1min'; \
    set idle_in_transaction_session_timeout = 0; \
    set idle_session_timeout = 0";

/// One view for all that follows, and texts that do not depend on who asks: settings of the role and
/// of the database are not in a dump. `row_security = off` fails where rows would be hidden.
const BEGIN: &str = "\
    begin isolation level repeatable read, read only; \
    set local search_path = ''; \
    set local row_security = off; \
    set local quote_all_identifiers = off; \
    set local datestyle = 'ISO, YMD'; \
    set local intervalstyle = 'postgres'; \
    set local timezone = 'UTC'; \
    set local bytea_output = 'hex'; \
    set local extra_float_digits = 1; \
    set local lc_monetary = 'C'";

const FACTS: &str = "\
    select pg_catalog.pg_export_snapshot(), \
           to_char(statement_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
           pg_catalog.pg_current_wal_lsn()::text, \
           pg_catalog.current_setting('server_version'), \
           pg_catalog.current_setting('server_version_num')::int4, \
           (select rolsuper from pg_catalog.pg_roles where rolname = current_user)";

/// Tables whose rows a dump holds: ordinary ones that no extension owns.
const TABLES: &str = "\
    select format('%I.%I', n.nspname, c.relname) \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence <> 't' \
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
      and not exists (select from pg_catalog.pg_depend d \
                      where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                        and d.objid = c.oid and d.deptype = 'e') \
    order by 1";

/// A transaction whose view others can share as long as it is open.
#[derive(Debug)]
pub(super) struct Snapshot {
    session: Session,
    pub(super) facts: Facts,
}

/// What the server says about itself and the view.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The view's name, for `SET TRANSACTION SNAPSHOT`.
    pub(super) id: String,
    /// When it was taken, by the server's clock.
    pub(super) at: Timestamp,
    /// Where the write-ahead log stood.
    pub(super) lsn: String,
    /// The server's version.
    pub(super) server: String,
    /// The number in front of it.
    pub(super) major: u32,
    /// Whether our role may give objects to others.
    pub(super) superuser: bool,
}

/// What a database holds, as far as a restored dump must hold the same.
#[derive(Debug, Default)]
pub(in crate::runner) struct Contents {
    /// The schema, a line for each of its parts.
    schema: Vec<String>,
    /// Rows of each table, and a sum of their hashes, in which their order plays no part.
    tables: BTreeMap<String, (i64, String)>,
}

impl Snapshot {
    /// Takes a view of a database.
    pub(super) async fn take(
        connector: &Arc<Connector>,
        database: &str,
    ) -> Result<Self, BackupError> {
        let session = connector.connect(database, Box::new(|_| {})).await?;
        let facts = facts(&session.client).await;
        let facts = facts.map_err(BackupError::server("cannot take a snapshot"))?;
        Ok(Self { session, facts })
    }

    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// Waits until the connection is lost, and the view with it.
    pub(super) async fn gone(&self) {
        self.session.gone().await;
    }

    /// Gives the view back while the server may still be asked something.
    pub(super) async fn give_up(self) {
        self.session.cancel(Duration::from_secs(5)).await;
        self.close().await;
    }

    /// Gives the view back.
    pub(super) async fn close(self) {
        self.session.close(Duration::from_secs(5)).await;
    }
}

async fn facts(client: &Client) -> Result<Facts, tokio_postgres::Error> {
    client.batch_execute(PATIENT).await?;
    client.batch_execute(BEGIN).await?;
    let row = client.query_one(FACTS, &[]).await?;
    let at: &str = row.get(1);
    let version: i32 = row.get(4);
    Ok(Facts {
        id: row.get(0),
        // The server wrote it in the format that is read here.
        at: at.parse().unwrap_or_else(|_| Timestamp::now()),
        lsn: row.get(2),
        server: row.get(3),
        major: u32::try_from(version / 10_000).unwrap_or(0),
        superuser: row.get(5),
    })
}

/// The schema of a database without pgdrain's own, a line for each of its parts, sorted by bytes. Takes at most
/// `time`, and waits for nobody for long: what changes a table keeps its definition from being read. The
/// session's settings stay as they are.
pub(in crate::runner) async fn schema(
    client: &Client,
    time: Duration,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let read = async {
        client.batch_execute(BEGIN).await?;
        verify::limit(client, time).await?;
        client.query(include_str!("fingerprint.sql"), &[]).await
    };
    let read = read.await;
    // Also after an error inside of it: the session may be the one that keeps the books.
    let ended = client.batch_execute("rollback").await;
    let rows = read?;
    ended?;
    Ok(verify::without_own(
        rows.iter().map(|row| row.get(0)).collect(),
    ))
}

impl Contents {
    /// What a database holds, in a transaction that was begun by [`Snapshot::take`], or in one of
    /// its own.
    pub(super) async fn of(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let schema = client.query(include_str!("fingerprint.sql"), &[]).await?;
        let mut contents = Self {
            schema: schema.iter().map(|row| row.get(0)).collect(),
            tables: BTreeMap::new(),
        };
        for row in client.query(TABLES, &[]).await? {
            let table: String = row.get(0);
            let sql = format!(
                "select count(*), coalesce(sum(hashtextextended((t.*)::text, 0)::numeric), 0)::text \
                 from only {table} as t"
            );
            let sums = client.query_one(&sql, &[]).await?;
            contents.tables.insert(table, (sums.get(0), sums.get(1)));
        }
        Ok(contents)
    }

    /// The same of a database that nobody else uses.
    pub(in crate::runner) async fn of_restored(
        client: &Client,
    ) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(PATIENT).await?;
        client.batch_execute(BEGIN).await?;
        Self::of(client).await
    }

    /// Takes out what only a superuser can restore: owners and grants.
    pub(super) fn without_owners(&mut self) {
        self.schema.retain(|line| {
            let kind = line.split('\t').next().unwrap_or_default();
            !(kind == "owner" || kind == "defacl" || kind.starts_with("acl."))
        });
    }

    /// Takes out the rows of our own history, which every run changes.
    pub(in crate::runner) fn without_history(mut self) -> Self {
        self.tables
            .retain(|table, _| !table.starts_with("pgdrain."));
        self
    }

    /// Takes out every row: the schema alone.
    pub(in crate::runner) fn without_rows(&self) -> Self {
        Self {
            schema: self.schema.clone(),
            tables: BTreeMap::new(),
        }
    }

    /// Whether there is a schema called public, which every new database has.
    pub(super) fn has_public(&self) -> bool {
        self.schema.iter().any(|it| it == "schema\tpublic\t")
    }

    /// The SHA-256 of the schema without owners and grants.
    pub(in crate::runner) fn shape(&self) -> String {
        drift::shape(&self.schema)
    }

    /// The SHA-256 of the schema.
    pub(in crate::runner) fn fingerprint(&self) -> String {
        Sha256::of(self.schema.join("\n").as_bytes()).to_string()
    }

    /// How many tables there are, and how many rows they have.
    pub(in crate::runner) fn counts(&self) -> (u64, u64) {
        let rows = self.tables.values().map(|(rows, _)| *rows);
        let rows = rows.filter_map(|it| u64::try_from(it).ok()).sum();
        (self.tables.len() as u64, rows)
    }

    /// Tables whose rows are others than those of a backup, or of which only one of the two knows; our own history
    /// left out.
    pub(in crate::runner) fn others(&self, backup: &Self) -> Vec<LostRows> {
        let mut names: Vec<_> = self.tables.keys().chain(backup.tables.keys()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| !name.starts_with("pgdrain."));
        let of = |all: &Self, name: &String| all.tables.get(name).cloned();
        let others = names.into_iter().filter_map(|name| {
            let (here, there) = (of(self, name), of(backup, name));
            let rows = |it: Option<(i64, String)>| it.map(|(rows, _)| rows);
            (here != there).then(|| LostRows::new(name, rows(here), rows(there)))
        });
        others.collect()
    }

    /// The first so many lines of the schema that a backup has not, readable, and how many there are; our own history
    /// left out.
    pub(in crate::runner) fn lines_not_in(
        &self,
        backup: &Self,
        most: usize,
    ) -> (Vec<String>, usize) {
        let lines = verify::without_own(self.schema.clone());
        let missing = |line: &&String| backup.schema.binary_search(line).is_err();
        let all: Vec<_> = lines.iter().filter(missing).collect();
        let first = all.iter().take(most).map(|line| line.replace('\t', " "));
        (first.collect(), all.len())
    }

    /// In what a restored database differs from this one; the first few things.
    pub(in crate::runner) fn differences(&self, restored: &Self) -> Vec<String> {
        const MANY: usize = 5;
        let readable = |line: &String| line.replace('\t', " ");
        let lacks = self
            .schema
            .iter()
            .filter(|it| restored.schema.binary_search(it).is_err())
            .map(|it| format!("lacks {}", readable(it)));
        let has = restored
            .schema
            .iter()
            .filter(|it| self.schema.binary_search(it).is_err())
            .map(|it| format!("has {}", readable(it)));
        let rows = self.tables.iter().filter_map(|(table, (rows, sum))| {
            match restored.tables.get(table) {
                // The schema says so.
                None => None,
                Some((others, _)) if others != rows => {
                    Some(format!("{table} has {others} rows instead of {rows}"))
                }
                Some((_, other)) if other != sum => {
                    Some(format!("{table} has other values in its {rows} rows"))
                }
                Some(_) => None,
            }
        });
        lacks.chain(has).chain(rows).take(MANY).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(schema: &[&str], tables: &[(&str, i64, &str)]) -> Contents {
        Contents {
            schema: schema.iter().map(ToString::to_string).collect(),
            tables: tables
                .iter()
                .map(|(name, rows, sum)| (name.to_string(), (*rows, sum.to_string())))
                .collect(),
        }
    }

    #[test]
    fn differences_are_named() {
        let before = contents(&["column\ta", "index\tb"], &[("t", 2, "7"), ("u", 1, "1")]);
        assert!(before.differences(&before).is_empty());
        let restored = contents(&["column\ta", "view\tc"], &[("t", 3, "7"), ("u", 1, "2")]);
        assert_eq!(
            before.differences(&restored),
            [
                "lacks index b",
                "has view c",
                "t has 3 rows instead of 2",
                "u has other values in its 1 rows",
            ]
        );
        assert_ne!(before.fingerprint(), restored.fingerprint());
    }

    #[test]
    fn owners_and_grants_can_be_left_out() {
        let mut all = contents(&["acl.rel\ta", "column\ta", "defacl\tx", "owner\ta"], &[]);
        all.without_owners();
        assert_eq!(all.schema, ["column\ta"]);
    }
}
