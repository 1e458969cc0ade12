//! What row-level security costs a query: about a thousand rows of a table, as the role that policies are for
//! and past them.
//!
//! Both read the same blocks (`TABLESAMPLE SYSTEM … REPEATABLE`), so that what is between them is the
//! policies' conditions, and not which index a query would have used: a policy that makes a query of
//! clients scan a whole table is seen in its plan and its time, not here. It is EXPLAIN ANALYZE of this
//! query of ours, in a transaction that can write nothing; no statement of clients is run.

use tokio_postgres::{Client, Error};

use crate::runner::rehearse::RlsCost;
use crate::runner::shape::quote;

/// How often each is run; the median counts.
const TIMES: usize = 5;

/// Rows that are read.
const ROWS: f64 = 1000.0;

/// Tables among $2 with row-level security that the role $1 may read.
const TABLES: &str = "\
    select pg_catalog.format('%I.%I', n.nspname, c.relname), c.reltuples::float8 \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.oid = any ($2) and c.relrowsecurity and c.relkind in ('r', 'p') \
      and pg_catalog.has_schema_privilege($1, n.oid, 'usage') \
      and pg_catalog.has_table_privilege($1, c.oid, 'select') \
    order by 1 limit 20";

/// Measures the tables among `relations` whose rows the role sees by policies.
///
/// # Errors
/// When it cannot be measured: no such role, one that is not ours to take, policies that need a setting of the
/// application's, a lock, no answer in time.
pub(in crate::runner) async fn measure(
    client: &Client,
    role: &str,
    relations: &[u32],
) -> Result<Vec<RlsCost>, Error> {
    let mut costs = Vec::new();
    for row in client.query(TABLES, &[&role, &relations]).await? {
        let (table, rows): (String, f64) = (row.get(0), row.get(1));
        let measured = one(client, role, &table, rows).await;
        // Whatever it said, the role and the settings end here.
        client.batch_execute("rollback").await?;
        let (bypassing_ms, as_role_ms) = measured?;
        costs.push(RlsCost {
            table,
            bypassing_ms,
            as_role_ms,
        });
    }
    Ok(costs)
}

/// What the dearest of them costs, in milliseconds.
pub(in crate::runner) fn dearest(costs: &[RlsCost]) -> Option<f64> {
    let all = costs.iter();
    let all = all.map(|it| (it.as_role_ms - it.bypassing_ms).max(0.0));
    all.reduce(f64::max)
}

async fn one(client: &Client, role: &str, table: &str, rows: f64) -> Result<(f64, f64), Error> {
    client
        .batch_execute(
            "begin transaction isolation level read committed read only; \
             set local lock_timeout = '200ms'; set local statement_timeout = '2s'; set local jit = off",
        )
        .await?;
    let percent = match rows > ROWS {
        true => ROWS * 100.0 / rows,
        false => 100.0,
    };
    let sql = format!(
        "explain (analyze, timing off, format json) \
         select count(*) from {table} tablesample system ({percent:.6}) repeatable (7)"
    );
    let (mut past, mut theirs) = (Vec::new(), Vec::new());
    let role = quote(role);
    for _ in 0..TIMES {
        // Fails instead of hiding rows where our own role is not past it.
        client
            .batch_execute("reset role; set local row_security = off")
            .await?;
        past.extend(run(client, &sql).await?);
        let as_role = format!("set local row_security = on; set local role {role}");
        client.batch_execute(&as_role).await?;
        theirs.extend(run(client, &sql).await?);
    }
    Ok((median(past), median(theirs)))
}

async fn run(client: &Client, sql: &str) -> Result<Option<f64>, Error> {
    let plan: serde_json::Value = client.query_one(sql, &[]).await?.get(0);
    Ok(plan
        .pointer("/0/Execution Time")
        .and_then(serde_json::Value::as_f64))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_table_counts_and_none_costs_less_than_nothing() {
        let cost = |bypassing_ms, as_role_ms| RlsCost {
            table: "public.t".to_owned(),
            bypassing_ms,
            as_role_ms,
        };
        assert_eq!(dearest(&[cost(1.0, 3.5), cost(9.0, 9.5)]), Some(2.5));
        assert_eq!(dearest(&[cost(2.0, 1.0)]), Some(0.0));
        assert_eq!(dearest(&[]), None);
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
    }
}
