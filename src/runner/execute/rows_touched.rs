//! Rows of the tables that a file touches, counted before it and after, where nobody else writes.

use tokio_postgres::Client;

use crate::runner::plan::Step;
use crate::runner::shape::Name;
use crate::runner::validate::Problem;

/// Ordinary tables among these relations, with their size; partitions are counted each.
const TABLES: &str = "\
    select c.oid, n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname), \
           pg_catalog.pg_table_size(c.oid) \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' \
      and n.nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies') \
      and (c.oid = any ($1) or c.oid in ( \
           with recursive down as ( \
               select inhrelid from pg_catalog.pg_inherits where inhparent = any ($1) \
               union select i.inhrelid from pg_catalog.pg_inherits i \
                     join down on i.inhparent = down.inhrelid) select inhrelid from down)) \
    order by 4";

/// A table and how many rows it had.
struct Counted {
    oid: u32,
    shown: String,
    rows: i64,
}

/// What was counted before a file.
#[derive(Default)]
pub(super) struct Rows {
    counted: Vec<Counted>,
    too_large: Vec<String>,
}

impl Rows {
    /// Counts the tables up to a size. Those that the file itself declares are counted for that.
    pub(super) async fn before(
        client: &Client,
        of: &[u32],
        step: &Step,
        bytes_max: u64,
    ) -> Result<Self, tokio_postgres::Error> {
        let declared: Vec<_> = step
            .script
            .directives()
            .rows
            .iter()
            .filter_map(|it| Name::parse(&it.value.table))
            .collect();
        let mut rows = Self::default();
        for row in client.query(TABLES, &[&of]).await? {
            let (schema, name): (String, String) = (row.get(1), row.get(2));
            let is_declared = declared
                .iter()
                .any(|it| it.name == name && it.schema.as_ref().is_none_or(|it| *it == schema));
            if is_declared {
                continue;
            }
            let shown: String = row.get(3);
            if u64::try_from(row.get::<_, i64>(4)).unwrap_or(0) > bytes_max {
                rows.too_large.push(shown);
                continue;
            }
            rows.counted.push(Counted {
                oid: row.get(0),
                rows: count(client, &shown).await?,
                shown,
            });
        }
        Ok(rows)
    }

    /// What was not counted, in sentences.
    pub(super) fn left_out(&self) -> impl Iterator<Item = String> {
        let all = self.too_large.iter();
        all.map(|it| format!("rows of {it} are not counted: it is larger than rows_max"))
    }

    /// Tables that have another number of rows now: those of the same name, or the same table under
    /// another one. What is gone was dropped by a statement.
    pub(super) async fn changed(
        &self,
        client: &Client,
    ) -> Result<Vec<Problem>, tokio_postgres::Error> {
        let mut problems = Vec::new();
        for then in &self.counted {
            let sql = "select coalesce( \
                           (select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c \
                            join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                            where c.oid = pg_catalog.to_regclass($1)::oid and c.relkind = 'r'), \
                           (select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c \
                            join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                            where c.oid = $2))";
            let row = client.query_one(sql, &[&then.shown, &then.oid]).await?;
            let Some(now) = row.get::<_, Option<String>>(0) else {
                continue;
            };
            let change = count(client, &now).await?.saturating_sub(then.rows);
            if change != 0 {
                problems.push(Problem {
                    text: format!("{now} has {change:+} rows"),
                    declare: format!("rows {now} {change:+}"),
                });
            }
        }
        Ok(problems)
    }
}

async fn count(client: &Client, table: &str) -> Result<i64, tokio_postgres::Error> {
    let sql = format!("select count(*) from only {table}");
    Ok(client.query_one(&sql, &[]).await?.get(0))
}
