//! What the history keeps of schemas: the fingerprints of runs and files, and the lines of the last ones.

use tokio_postgres::Client;
use tokio_postgres::types::{Json, ToSql};

use super::Schema;
use crate::runner::history::{Key, Ledger};
use crate::runner::source::Sha256;

/// Of how many runs the lines are kept.
const RUNS: i64 = 20;

/// Schemas whose lines take more are known by their fingerprints alone.
const BYTES_MAX: usize = 64 << 20;

/// The event that tells of a schema which no run has left.
pub(super) const EVENT: &str = "schema";

/// What the last one to leave the database as it is has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Left {
    /// The schema; none if nobody could look.
    pub(in crate::runner) fingerprint: Option<Sha256>,
    /// Who.
    pub(in crate::runner) by: String,
    /// When, RFC 3339 in UTC.
    pub(in crate::runner) at: String,
}

/// Whether the tables of this pgdrain are there: preflight brings none up to date.
async fn is_there(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let sql = "select to_regclass('pgdrain.schema_dump') is not null";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Who left the schema last, a run or somebody who accepted it; none if nobody has yet.
pub(super) async fn left(client: &Client) -> Result<Option<Left>, tokio_postgres::Error> {
    if !is_there(client).await? {
        return Ok(None);
    }
    let sql = "select fp, who, \
                      to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') from ( \
                   select fp_after as fp, 'run ' || run_id::text as who, finished_at as at \
                   from pgdrain.run where fp_before is not null and finished_at is not null \
                   union all \
                   select decode(data ->> 'fingerprint', 'hex'), data ->> 'by', at \
                   from pgdrain.event where type = $1) as l \
               order by at desc limit 1";
    let row = client.query_opt(sql, &[&EVENT]).await?;
    Ok(row.map(|row| Left {
        fingerprint: row.get::<_, Option<&[u8]>>(0).and_then(Sha256::from_bytes),
        by: row.get::<_, Option<String>>(1).unwrap_or_default(),
        at: row.get(2),
    }))
}

/// The lines of a schema, if they are kept.
pub(in crate::runner) async fn lines(
    client: &Client,
    of: &Sha256,
) -> Result<Option<Vec<String>>, tokio_postgres::Error> {
    let sql = "select lines from pgdrain.schema_dump where fingerprint = $1";
    let row = client.query_opt(sql, &[&of.as_bytes()]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Records that a run comes to its first file, and the schema that it finds. One that could not be read
/// leaves a trace too: what an earlier run left is no measure from here on.
pub(in crate::runner) async fn begin_run(
    ledger: &Ledger,
    run: &str,
    found: Option<&Schema>,
) -> Result<(), tokio_postgres::Error> {
    let client = &ledger.session().client;
    let Some(found) = found else {
        let by = format!("run {run}");
        return tell(client, Some(run), None, &by, None).await;
    };
    let sql = "update pgdrain.run set fp_before = $2 where run_id = $1::text::uuid";
    client
        .execute(sql, &[&run, &found.fingerprint.as_bytes()])
        .await?;
    Ok(())
}

/// Records the schema that a run leaves, keeps the lines of both, and removes those of runs long gone.
pub(in crate::runner) async fn end_run(
    ledger: &Ledger,
    run: &str,
    found: Option<&Schema>,
    leaves: Option<&Schema>,
) -> Result<(), tokio_postgres::Error> {
    let client = &ledger.session().client;
    for schema in [found, leaves].into_iter().flatten() {
        keep(client, schema).await?;
    }
    let leaves = leaves.map(|it| it.fingerprint);
    let leaves = leaves.as_ref().map(Sha256::as_bytes);
    let sql = "update pgdrain.run set fp_after = $2 where run_id = $1::text::uuid";
    client.execute(sql, &[&run, &leaves]).await?;
    prune(client).await
}

/// Records the schema before and after the file that ran last for a migration.
pub(in crate::runner) async fn file(
    ledger: &Ledger,
    key: &Key,
    run: &str,
    (before, after): (Sha256, Sha256),
) -> Result<(), tokio_postgres::Error> {
    let sql = "update pgdrain.migration set fp_before = $4, fp_after = $5 \
               where source = $1 and version = $2 and run_id = $3::text::uuid";
    let (source, version) = (key.format.as_str(), key.version.to_string());
    let (before, after) = (before.as_bytes(), after.as_bytes());
    let parameters: [&(dyn ToSql + Sync); 5] = [&source, &version, &run, &before, &after];
    ledger.session().client.execute(sql, &parameters).await?;
    Ok(())
}

/// The schema before and after a migration was applied, if both are known.
pub(in crate::runner) async fn left_by_file(
    ledger: &Ledger,
    key: &Key,
) -> Result<Option<(Sha256, Sha256)>, tokio_postgres::Error> {
    let sql = "select fp_before, fp_after from pgdrain.migration \
               where source = $1 and version = $2 and state = 'applied' and direction = 'up' \
                 and fp_before is not null and fp_after is not null";
    let (source, version) = (key.format.as_str(), key.version.to_string());
    let client = &ledger.session().client;
    let row = client.query_opt(sql, &[&source, &version]).await?;
    Ok(row.and_then(|row| {
        let [before, after] = [0, 1].map(|at| Sha256::from_bytes(row.get(at)));
        Some((before?, after?))
    }))
}

/// Records that a schema is as it should be although no run has left it so, and keeps its lines.
pub(in crate::runner) async fn accept(
    ledger: &Ledger,
    schema: &Schema,
    by: &str,
    reason: Option<&str>,
) -> Result<(), tokio_postgres::Error> {
    let client = &ledger.session().client;
    keep(client, schema).await?;
    tell(client, None, Some(schema), by, reason).await?;
    prune(client).await
}

async fn tell(
    client: &Client,
    run: Option<&str>,
    schema: Option<&Schema>,
    by: &str,
    reason: Option<&str>,
) -> Result<(), tokio_postgres::Error> {
    let sql = "insert into pgdrain.event (run_id, type, data) values ($1::text::uuid, $2, $3)";
    let data = serde_json::json!({
        "fingerprint": schema.map(|it| it.fingerprint.to_string()), "by": by, "reason": reason,
    });
    client.execute(sql, &[&run, &EVENT, &Json(data)]).await?;
    Ok(())
}

async fn keep(client: &Client, schema: &Schema) -> Result<(), tokio_postgres::Error> {
    if schema.bytes() > BYTES_MAX {
        return Ok(());
    }
    let sql = "insert into pgdrain.schema_dump (fingerprint, lines) values ($1, $2) \
               on conflict (fingerprint) do update set seen_at = clock_timestamp()";
    client
        .execute(sql, &[&schema.fingerprint.as_bytes(), &schema.lines])
        .await?;
    Ok(())
}

async fn prune(client: &Client) -> Result<(), tokio_postgres::Error> {
    let sql = "delete from pgdrain.schema_dump where fingerprint not in ( \
                   select fp from (select fp_before, fp_after from pgdrain.run \
                                   order by started_at desc limit $1) as r, \
                               unnest(array[r.fp_before, r.fp_after]) as fp where fp is not null \
                   union all \
                   (select decode(data ->> 'fingerprint', 'hex') from pgdrain.event \
                    where type = $2 and data ->> 'fingerprint' is not null \
                    order by at desc limit 1))";
    client.execute(sql, &[&RUNS, &EVENT]).await?;
    Ok(())
}
