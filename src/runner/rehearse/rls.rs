//! What row-level security costs: the same query as a role that it is for, and past it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::End;
use super::types::RlsCost;
use crate::runner::connect::Connector;
use crate::runner::report::chain;
use crate::runner::shape::quote;
use crate::runner::stop::Stop;

/// How often each query runs; the median counts.
const TIMES: usize = 5;

/// Tables with row-level security that the role may read.
const TABLES: &str = "\
    select format('%I.%I', n.nspname, c.relname) \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relrowsecurity and c.relkind in ('r', 'p') \
      and has_schema_privilege($1, n.oid, 'usage') and has_table_privilege($1, c.oid, 'select') \
    order by 1";

/// Measures every table whose rows a role sees by policies.
pub(super) async fn measure(
    connector: &Arc<Connector>,
    database: &str,
    role: &str,
    stop: &Stop,
) -> Result<Vec<RlsCost>, End> {
    let session = connector.connect(database, Box::new(|_| {})).await;
    let session = session.map_err(End::before)?;
    let measured = tokio::select! {
        biased;
        reason = stop.fired() => {
            session.cancel(Duration::from_secs(5)).await;
            Err(End::Stopped(reason))
        }
        measured = all(&session.client, role) => measured.map_err(|error| {
            End::before(format!("the cost of row-level security for {role}: {}", chain(&error)))
        }),
    };
    session.close(Duration::from_secs(5)).await;
    measured
}

async fn all(client: &Client, role: &str) -> Result<Vec<RlsCost>, tokio_postgres::Error> {
    let mut costs = Vec::new();
    for row in client.query(TABLES, &[&role]).await? {
        let table: String = row.get(0);
        // Fails instead of hiding rows where our own role is not past it.
        let ours = "reset role; set row_security = off".to_owned();
        let theirs = format!("reset row_security; set role {}", quote(role));
        costs.push(RlsCost {
            bypassing_ms: median(client, &ours, &table).await?,
            as_role_ms: median(client, &theirs, &table).await?,
            table,
        });
    }
    client.batch_execute("reset role").await?;
    Ok(costs)
}

async fn median(client: &Client, before: &str, table: &str) -> Result<f64, tokio_postgres::Error> {
    client.batch_execute(before).await?;
    let sql = format!("explain (analyze, timing off, format json) select count(*) from {table}");
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let plan: serde_json::Value = client.query_one(&sql, &[]).await?.get(0);
        let took = plan
            .pointer("/0/Execution Time")
            .and_then(serde_json::Value::as_f64);
        times.extend(took);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
