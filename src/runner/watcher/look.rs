//! The questions of the watcher. None of them takes a lock on a table: `pg_locks`, `pg_stat_*` and the
//! server's own catalogs alone.

use tokio_postgres::{Client, Error, Row, Statement};

use super::figures::Look;
use super::progress::Seen;

/// For a session that must never wait: not for a lock, and not for a standby when it writes how far
/// the run is.
pub(super) const SETTINGS: &str = "\
    set application_name = 'pgdrain watch'; \
    set search_path = pg_catalog, pg_temp; \
    set lock_timeout = '100ms'; set statement_timeout = '5s'; \
    set default_transaction_read_only = off; set default_transaction_isolation = 'read committed'; \
    set synchronous_commit = off; set jit = off; set idle_session_timeout = 0";

/// Who waits for locks, and which locks of ours keep others from reading or writing. `$1` is our
/// processes. Relations that only their own transaction sees are not there for us, and so not listed:
/// nobody can wait for them. Sections 54.12 and 13.3 of the documentation.
const LOOK: &str = "\
    with l as materialized (select * from pg_catalog.pg_locks), \
         waits as (select l.pid, l.pid = any ($1) as ours, \
                          extract(epoch from clock_timestamp() - l.waitstart) * 1000 as ms \
                   from l join pg_catalog.pg_stat_activity a on a.pid = l.pid \
                   where not l.granted and a.datname = current_database()), \
         held as (select distinct quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name, l.mode \
                  from l join pg_catalog.pg_class c on c.oid = l.relation \
                       join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                  where l.granted and l.pid = any ($1) and l.locktype = 'relation' \
                    and l.relation >= 16384 and c.relkind <> 't' and n.nspname <> 'pgdrain' \
                    and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
                                   'AccessExclusiveLock') \
                    and l.database = (select oid from pg_catalog.pg_database \
                                      where datname = current_database())) \
    select (select count(distinct pid) from waits where not ours), \
           (select count(*) from waits), \
           (select coalesce(max(ms), 0)::int8 from waits where not ours), \
           (select coalesce(max(ms), 0)::int8 from waits where ours), \
           pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8, \
           array(select name from held order by name, mode), \
           array(select mode from held order by name, mode)";

/// What the server tells of how far our statements are: section 28.4 of the documentation. `$1` is our
/// processes.
const PROGRESS: &str = "\
    with p as ( \
        select pid, 'create index' as what, phase, relid, \
               case when phase like 'waiting%' then lockers_done \
                    when phase like '%tuples%' then tuples_done else blocks_done end as done, \
               case when phase like 'waiting%' then lockers_total \
                    when phase like '%tuples%' then tuples_total else blocks_total end as total \
        from pg_catalog.pg_stat_progress_create_index \
        union all \
        select pid, lower(command), phase, relid, heap_blks_scanned, heap_blks_total \
        from pg_catalog.pg_stat_progress_cluster \
        union all \
        select pid, 'analyze', phase, relid, sample_blks_scanned, sample_blks_total \
        from pg_catalog.pg_stat_progress_analyze \
        union all \
        select pid, 'vacuum', phase, relid, heap_blks_scanned, heap_blks_total \
        from pg_catalog.pg_stat_progress_vacuum \
        union all \
        select pid, 'copy', lower(command), relid, bytes_processed, bytes_total \
        from pg_catalog.pg_stat_progress_copy) \
    select p.pid, p.what, p.phase, \
           (select quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
            from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
            where c.oid = p.relid), \
           coalesce(p.done, 0)::int8, coalesce(p.total, 0)::int8 \
    from p where p.pid = any ($1) order by p.pid";

/// Writes how far a step is.
const WRITE: &str = "\
    insert into pgdrain.progress (run_id, phase, step, pct, detail) \
    values ($1::text::uuid, $2, $3, $4::float8::numeric, $5) \
    on conflict (run_id, phase, step) do update set at = excluded.at, pct = excluded.pct, \
        detail = excluded.detail";

/// The questions, prepared.
#[derive(Debug)]
pub(in crate::runner) struct Questions {
    look: Statement,
    progress: Statement,
}

/// A row of `pgdrain.progress`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::runner) struct Line {
    /// The file, or what the migration calls its phase.
    pub(in crate::runner) phase: String,
    /// What is done.
    pub(in crate::runner) step: String,
    /// How much of it is done, 0 to 100, if it is known.
    pub(in crate::runner) pct: Option<f64>,
    /// What else there is to say.
    pub(in crate::runner) detail: serde_json::Value,
}

impl Questions {
    pub(in crate::runner) async fn prepare(client: &Client) -> Result<Self, Error> {
        client.batch_execute(SETTINGS).await?;
        Ok(Self {
            look: client.prepare(LOOK).await?,
            progress: client.prepare(PROGRESS).await?,
        })
    }

    /// Looks at locks and the log.
    pub(in crate::runner) async fn look(
        &self,
        client: &Client,
        ours: &[i32],
    ) -> Result<Look, Error> {
        let row = client.query_one(&self.look, &[&ours]).await?;
        let (names, modes): (Vec<String>, Vec<String>) = (row.get(5), row.get(6));
        Ok(Look {
            blocked: row.get(0),
            ungranted: row.get(1),
            wait_ms: row.get(2),
            own_wait_ms: row.get(3),
            wal: row.get(4),
            held: names.into_iter().zip(modes).collect(),
        })
    }

    /// Looks how far statements are.
    pub(super) async fn progress(&self, client: &Client, ours: &[i32]) -> Result<Vec<Seen>, Error> {
        let rows = client.query(&self.progress, &[&ours]).await?;
        Ok(rows.iter().map(seen).collect())
    }
}

fn seen(row: &Row) -> Seen {
    Seen {
        pid: row.get(0),
        what: row.get(1),
        phase: row.get(2),
        relation: row.get(3),
        done: row.get(4),
        total: row.get(5),
    }
}

/// Writes rows of `pgdrain.progress`.
pub(super) async fn write(client: &Client, run: &str, lines: &[Line]) -> Result<(), Error> {
    for line in lines {
        let detail = tokio_postgres::types::Json(&line.detail);
        client
            .execute(WRITE, &[&run, &line.phase, &line.step, &line.pct, &detail])
            .await?;
    }
    Ok(())
}
