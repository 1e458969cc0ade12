//! Made-up rows for the tables that files touch: the same ones each time, a value for each type.
//!
//! Tables that a foreign key leads to are filled first and really referred to. A table that cannot
//! be filled (a CHECK that no made-up value passes, a type that nothing is known of) is named with
//! what the server said, and stays empty.

mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use self::value::{Column, Kind, value};
use super::End;
use super::types::Filled;
use crate::runner::connect::Connector;
use crate::runner::report::chain;
use crate::runner::shape::quote;
use crate::runner::stop::Stop;

/// The named tables and those that their foreign keys lead to.
const TABLES: &str = "\
    with recursive t(oid) as ( \
        select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where format('%I.%I', n.nspname, c.relname) = any($1) \
      union \
        select k.confrelid from pg_constraint k join t on k.conrelid = t.oid where k.contype = 'f') \
    select c.oid, format('%I.%I', n.nspname, c.relname) \
    from t join pg_class c on c.oid = t.oid join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p') and not c.relispartition order by 2";

/// Columns that take a value, with the type behind a domain.
const COLUMNS: &str = "\
    with recursive base(oid, attnum, ty, typmod) as ( \
        select a.attrelid, a.attnum, a.atttypid, a.atttypmod from pg_attribute a \
        where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' \
          and a.attidentity = '' \
      union all \
        select b.oid, b.attnum, t.typbasetype, t.typtypmod from base b join pg_type t on t.oid = b.ty \
        where t.typtype = 'd') \
    select a.attnum, a.attname::text, t.typname::text, b.typmod, t.typtype::text, \
           format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), \
           format_type(t.oid, null), e.typname::text \
    from base b join pg_type t on t.oid = b.ty and t.typtype <> 'd' \
    join pg_attribute a on a.attrelid = b.oid and a.attnum = b.attnum \
    left join pg_type e on e.oid = t.typelem and t.typcategory = 'A' \
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
    order by 1";

const KEYS: &str = "\
    select k.confrelid, k.conkey, \
           (select array_agg(a.attname::text order by u.place) \
            from unnest(k.confkey) with ordinality u(number, place) \
            join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number) \
    from pg_constraint k where k.conrelid = $1 and k.contype = 'f' order by k.oid";

/// A foreign key: the table that it leads to, our columns and theirs.
struct Key {
    to: u32,
    columns: Vec<i16>,
    theirs: Vec<String>,
}

struct Table {
    oid: u32,
    name: String,
    columns: Vec<Column>,
    keys: Vec<Key>,
}

/// Puts rows into each of the tables and into those that they refer to.
pub(super) async fn fill(
    connector: &Arc<Connector>,
    database: &str,
    tables: &[String],
    rows: u32,
    stop: &Stop,
) -> Result<Vec<Filled>, End> {
    let session = connector.connect(database, Box::new(|_| {})).await;
    let session = session.map_err(End::before)?;
    let filled = tokio::select! {
        biased;
        reason = stop.fired() => {
            session.cancel(Duration::from_secs(5)).await;
            Err(End::Stopped(reason))
        }
        filled = all(&session.client, tables, rows) => {
            filled.map_err(|error| End::before(format!("no made-up rows: {}", chain(&error))))
        }
    };
    session.close(Duration::from_secs(5)).await;
    filled
}

async fn all(
    client: &Client,
    names: &[String],
    rows: u32,
) -> Result<Vec<Filled>, tokio_postgres::Error> {
    client
        .batch_execute("set statement_timeout = 0; set idle_session_timeout = 0")
        .await?;
    let mut waiting = Vec::new();
    for row in client.query(TABLES, &[&names]).await? {
        waiting.push(table(client, row.get(0), row.get(1)).await?);
    }
    let names: BTreeMap<u32, String> = waiting.iter().map(|it| (it.oid, it.name.clone())).collect();
    let mut done = BTreeSet::new();
    let mut all = Vec::new();
    while !waiting.is_empty() {
        // Of tables that refer to each other in a ring, the first begins: with nulls, if it may.
        let ready = |it: &Table| {
            it.keys
                .iter()
                .all(|key| key.to == it.oid || done.contains(&key.to))
        };
        let next = waiting.iter().position(ready).unwrap_or(0);
        let table = waiting.remove(next);
        let not_filled = one(client, &table, &names, &done, rows).await?;
        if not_filled.is_none() {
            done.insert(table.oid);
        }
        all.push(Filled {
            table: table.name,
            not_filled,
        });
        // What it could not be is as good as done for those that may hold null.
        done.insert(table.oid);
    }
    Ok(all)
}

async fn table(client: &Client, oid: u32, name: String) -> Result<Table, tokio_postgres::Error> {
    let columns = client.query(COLUMNS, &[&oid]).await?;
    let columns = columns.iter().map(|row| Column {
        number: row.get(0),
        name: row.get(1),
        base: row.get(2),
        typmod: row.get(3),
        kind: match row.get::<_, &str>(4) {
            "e" => Kind::Enum,
            _ => Kind::Other,
        },
        written: row.get(5),
        not_null: row.get(6),
        default: row.get(7),
        plain: row.get(8),
        element: row.get(9),
    });
    let columns = columns.collect();
    let keys = client.query(KEYS, &[&oid]).await?;
    let keys = keys.iter().map(|row| Key {
        to: row.get(0),
        columns: row.get(1),
        theirs: row.get(2),
    });
    let keys = keys.collect();
    Ok(Table {
        oid,
        name,
        columns,
        keys,
    })
}

/// Fills one table; why not, if not. First with a made-up value in each column, then with defaults
/// where there are some, then with nulls where they may be.
async fn one(
    client: &Client,
    table: &Table,
    names: &BTreeMap<u32, String>,
    done: &BTreeSet<u32>,
    rows: u32,
) -> Result<Option<String>, tokio_postgres::Error> {
    let mut why = String::new();
    for attempt in [Attempt::Values, Attempt::Defaults, Attempt::Least] {
        let sql = match insert(client, table, names, done, rows, attempt).await? {
            Ok(sql) => sql,
            Err(reason) => return Ok(Some(reason)),
        };
        match client.batch_execute(&sql).await {
            Ok(()) => {
                let analyze = format!("analyze {}", table.name);
                client.batch_execute(&analyze).await?;
                return Ok(None);
            }
            Err(error) if error.as_db_error().is_none() => return Err(error),
            Err(error) => why = chain(&error),
        }
    }
    Ok(Some(why))
}

/// How much is made up.
#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    Values,
    /// Columns that have a default keep it.
    Defaults,
    /// Columns that may be null are, besides.
    Least,
}

/// The statement that fills a table; or why there is none.
async fn insert(
    client: &Client,
    table: &Table,
    names: &BTreeMap<u32, String>,
    done: &BTreeSet<u32>,
    rows: u32,
    attempt: Attempt,
) -> Result<Result<String, String>, tokio_postgres::Error> {
    let mut from = format!("generate_series(1, {rows}) as i");
    let mut taken: BTreeMap<i16, String> = BTreeMap::new();
    for (number, key) in table.keys.iter().enumerate() {
        let parent = names
            .get(&key.to)
            .filter(|_| key.to != table.oid && done.contains(&key.to));
        let there: i64 = match parent {
            Some(parent) => {
                let sql = format!("select count(*) from {parent}");
                client.query_one(&sql, &[]).await?.get(0)
            }
            None => 0,
        };
        let Some(parent) = parent.filter(|_| there > 0) else {
            for column in &key.columns {
                taken.entry(*column).or_insert_with(|| "null".to_owned());
            }
            continue;
        };
        let theirs: Vec<_> = key.theirs.iter().map(|it| quote(it)).collect();
        let theirs = theirs.join(", ");
        from += &format!(
            " join (select row_number() over (order by {theirs}) - 1 as place, {theirs} \
             from {parent}) p{number} on p{number}.place = (i - 1) % {there}"
        );
        for (column, their) in key.columns.iter().zip(&key.theirs) {
            taken
                .entry(*column)
                .or_insert_with(|| format!("p{number}.{}", quote(their)));
        }
    }
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for column in &table.columns {
        let sequence = column
            .default
            .as_deref()
            .is_some_and(|it| it.starts_with("nextval("));
        let keeps_default = sequence || (attempt != Attempt::Values && column.default.is_some());
        let may_be_null = attempt == Attempt::Least && !column.not_null;
        let made = match taken.get(&column.number) {
            Some(null) if null == "null" && column.not_null => {
                let reason = format!("nothing for {} to refer to", column.name);
                return Ok(Err(reason));
            }
            Some(reference) => reference.clone(),
            None if keeps_default || may_be_null => continue,
            None => match value(column) {
                Some(made) => made,
                None if column.default.is_some() || !column.not_null => continue,
                None => {
                    let reason =
                        format!("no value is known for {} {}", column.name, column.written);
                    return Ok(Err(reason));
                }
            },
        };
        columns.push(quote(&column.name));
        values.push(made);
    }
    let name = &table.name;
    Ok(Ok(match columns.is_empty() {
        // Rows of nothing but defaults.
        true => format!("insert into {name} select from generate_series(1, {rows})"),
        false => format!(
            "insert into {name} ({}) select {} from {from}",
            columns.join(", "),
            values.join(", ")
        ),
    }))
}
