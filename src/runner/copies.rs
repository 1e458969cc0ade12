//! Copies of tables within their database, in a schema of its own: made before the first file, compared, and dropped
//! when they are old.
//!
//! They hold rows alone. Definitions, grants and policies are saved objects; nobody but our role reads a copy.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::report::chain;
use super::shape::quote;
use crate::config::Copies;

/// The schema, which belongs to our role. Fingerprints, saved objects and rehearsals leave it out.
pub(super) const SCHEMA: &str = "pgdrain_copies";

/// A longer name is cut by the server.
const NAME_MAX: usize = 63;

/// Tables that hold rows, with their size as far as they are measured without waiting for whoever locks them.
const TABLES: &str = "\
    select format('%I.%I', n.nspname, c.relname), c.relname::text, \
           case c.relkind when 'p' then ( \
                select coalesce(sum(p.relpages), 0)::int8 * pg_catalog.current_setting('block_size')::int8 \
                from pg_catalog.pg_partition_tree(c.oid) t join pg_catalog.pg_class p on p.oid = t.relid) \
           else pg_catalog.pg_table_size(c.oid) end \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid = any ($1) and c.relkind in ('r', 'p') and c.relpersistence <> 't' \
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies') \
      and not exists (select from pg_catalog.pg_partition_tree(c.oid) t \
                      join pg_catalog.pg_partition_ancestors(c.oid) a (relid) on a.relid <> c.oid \
                      where a.relid::oid = any ($1)) \
    order by 1";

/// A table that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    /// The table.
    pub(super) table: String,
    /// Its copy.
    pub(super) copy: String,
    /// How many rows both have; their hashes were compared as well.
    pub(super) rows: i64,
}

/// What is written at a copy, as its comment.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    run: String,
    table: String,
    at: Timestamp,
    rows: i64,
}

/// Why there are no copies. None of them is there then.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCopies {
    #[error("the tables have {bytes} bytes, more than migrate.copies.max_bytes ({max})")]
    TooLarge { bytes: i64, max: u64 },
    #[error("the copy of {0} is not what the table is")]
    Different(String),
    #[error("the tables cannot be copied: {}", chain(.0))]
    Server(#[from] tokio_postgres::Error),
}

/// Copies these tables, with the rows of their partitions and children, in one transaction that sees all of them at one moment.
pub(super) async fn make(
    client: &Client,
    run: &str,
    tables: &[u32],
    settings: &Copies,
) -> Result<Vec<Copied>, NoCopies> {
    let ready = format!(
        "set default_transaction_read_only = off; set idle_session_timeout = 0; \
         create schema if not exists {SCHEMA}; revoke all on schema {SCHEMA} from public"
    );
    client.batch_execute(&ready).await?;
    let begin = format!(
        "begin isolation level repeatable read; set local row_security = off; \
         set local lock_timeout = '5s'; set local statement_timeout = '{}ms'",
        settings.time.as_millis().max(1)
    );
    client.batch_execute(&begin).await?;
    let made = copy_all(client, run, tables, settings).await;
    let end = if made.is_ok() { "commit" } else { "rollback" };
    let ended = client.batch_execute(end).await;
    let made = made?;
    ended?;
    Ok(made)
}

async fn copy_all(
    client: &Client,
    run: &str,
    tables: &[u32],
    settings: &Copies,
) -> Result<Vec<Copied>, NoCopies> {
    let rows = client.query(TABLES, &[&tables]).await?;
    let bytes: i64 = rows.iter().map(|row| row.get::<_, i64>(2)).sum();
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > settings.max_bytes) {
        let max = settings.max_bytes;
        return Err(NoCopies::TooLarge { bytes, max });
    }
    let mut made = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (table, bare): (String, &str) = (row.get(0), row.get(1));
        let copy = format!("{SCHEMA}.{}", quote(&name(run, number, bare)));
        let create = format!("create table {copy} as select * from {table}");
        client.batch_execute(&create).await?;
        let (there, here) = (sum(client, &table).await?, sum(client, &copy).await?);
        if there != here {
            return Err(NoCopies::Different(table));
        }
        let (run, at, rows) = (run.to_owned(), Timestamp::now(), here.0);
        let label = Label {
            run,
            table: table.clone(),
            at,
            rows,
        };
        // Text, numbers and a time: nothing that JSON cannot hold.
        let label = serde_json::to_string(&label).unwrap_or_default();
        let comment = format!("comment on table {copy} is '{}'", label.replace('\'', "''"));
        client.batch_execute(&comment).await?;
        made.push(Copied { table, copy, rows });
    }
    Ok(made)
}

/// How many rows there are, and a sum of their hashes, in which their order plays no part.
async fn sum(client: &Client, table: &str) -> Result<(i64, String), tokio_postgres::Error> {
    let sql = format!(
        "select count(*), coalesce(sum(hashtextextended((t.*)::text, 0)::numeric), 0)::text from {table} as t"
    );
    let row = client.query_one(&sql, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The copy's name: told apart by run and number, and as much of the table's as has room.
fn name(run: &str, number: usize, table: &str) -> String {
    let mut name = format!("{}_{number}_{table}", run.get(..8).unwrap_or(run));
    while name.len() > NAME_MAX {
        name.pop();
    }
    name
}

/// Drops copies that are older than is to be kept; the names of the tables that they were of.
pub(super) async fn prune(
    client: &Client,
    keep: Duration,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "select format('%I.%I', n.nspname, c.relname), pg_catalog.obj_description(c.oid, 'pg_class') \
               from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relkind = 'r' and pg_catalog.pg_has_role(c.relowner, 'usage') \
               order by 1";
    let mut dropped = Vec::new();
    for row in client.query(sql, &[&SCHEMA]).await? {
        let (copy, comment): (String, Option<String>) = (row.get(0), row.get(1));
        let label = comment.and_then(|it| serde_json::from_str::<Label>(&it).ok());
        let Some(label) = label else { continue };
        let age = Duration::try_from(Timestamp::now().duration_since(label.at));
        if age.is_ok_and(|age| age > keep) {
            client.batch_execute("set lock_timeout = '2s'").await?;
            client.batch_execute(&format!("drop table {copy}")).await?;
            dropped.push(format!(
                "{copy}, the copy of {} for run {}",
                label.table, label.run
            ));
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_told_apart() {
        let run = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(name(run, 3, "orders"), "01234567_3_orders");
        let long = name(run, 12, &"é".repeat(40));
        assert!(
            long.len() <= NAME_MAX && long.starts_with("01234567_12_é"),
            "{long}"
        );
    }
}
