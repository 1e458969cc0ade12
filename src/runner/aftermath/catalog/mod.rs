//! What the server counts of the tables that a run touches, and of its database: scans, blocks, dead rows,
//! sizes. Two snapshots tell what was between; nothing here takes a lock on a table.

mod bloat;
mod compare;
mod eyes;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Error, Row};

pub(in crate::runner) use compare::Span;
pub use compare::{
    CatalogComparison, IndexCompared, IndexFigures, LockWaits, Period, TableCompared, TableFigures,
};
pub(in crate::runner) use eyes::Eyes;

use self::bloat::Widths;

/// Section 28.2.15 of the documentation (`pg_stat_database`). Statistics begin again after a crash.
const DATABASE: &str = "\
    select blks_hit, blks_read, deadlocks, \
           extract(epoch from clock_timestamp() - coalesce(stats_reset, pg_postmaster_start_time()))::float8 \
    from pg_catalog.pg_stat_database where datname = pg_catalog.current_database()";

/// Tables among these relations, and their partitions: sections 28.2.16 and 28.2.18 (`pg_stat_all_tables`,
/// `pg_statio_all_tables`), 53.27 (`pg_stats`). Sizes are those of the last VACUUM or ANALYZE: asking
/// the files themselves would wait behind whoever alters a table.
const TABLES: &str = "\
    with recursive parts as ( \
        select oid from pg_catalog.unnest($1::oid[]) oid \
        union select i.inhrelid from pg_catalog.pg_inherits i join parts p on p.oid = i.inhparent) \
    select c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), \
           coalesce(s.seq_scan, 0), coalesce(s.seq_tup_read, 0), coalesce(s.idx_scan, 0), \
           coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), \
           (coalesce(b.heap_blks_hit, 0) + coalesce(b.idx_blks_hit, 0))::int8, \
           (coalesce(b.heap_blks_read, 0) + coalesce(b.idx_blks_read, 0))::int8, \
           c.relpages::int8, c.reltuples::float8, pg_catalog.current_setting('block_size')::int8, \
           coalesce((select option_value::int8 from pg_catalog.pg_options_to_table(c.reloptions) \
                     where option_name = 'fillfactor'), 100), \
           w.width, coalesce(w.nulls, false), w.columns, \
           (select count(*) from pg_catalog.pg_attribute a \
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) \
    from parts p join pg_catalog.pg_class c on c.oid = p.oid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid \
         left join pg_catalog.pg_statio_all_tables b on b.relid = c.oid \
         left join lateral ( \
             select sum((1 - t.null_frac) * t.avg_width)::float8 as width, \
                    bool_or(t.null_frac > 0) as nulls, count(*) as columns \
             from pg_catalog.pg_stats t \
             where t.schemaname = n.nspname and t.tablename = c.relname and not t.inherited) w on true \
    where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname !~ '^pg_' \
      and n.nspname not in ('information_schema', 'pgdrain') \
    order by c.relpages desc, 2 limit 200";

/// Their indexes: section 28.2.17 (`pg_stat_all_indexes`).
const INDEXES: &str = "\
    select c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), x.indrelid, \
           coalesce(s.idx_scan, 0), c.relpages::int8 * pg_catalog.current_setting('block_size')::int8, \
           x.indisvalid \
    from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indexrelid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         left join pg_catalog.pg_stat_all_indexes s on s.indexrelid = x.indexrelid \
    where x.indrelid = any ($1) order by 2 limit 500";

/// What was counted until a moment. A session tells the server what it did up to ten seconds later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// For how many seconds it was counted.
    pub age_s: f64,
    /// Blocks of the database that were found in the server's memory.
    pub blocks_hit: i64,
    /// Blocks that were not.
    pub blocks_read: i64,
    /// Deadlocks.
    pub deadlocks: i64,
    /// The largest tables that the run touches, 200 at most.
    pub tables: Vec<TableCounters>,
    /// Their indexes, 500 at most.
    pub indexes: Vec<IndexCounters>,
}

/// What was counted of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableCounters {
    /// By which it is found again, whatever it is called.
    pub oid: u32,
    /// Its name, as SQL has it.
    pub name: String,
    /// Scans of the whole of it.
    pub seq_scans: i64,
    /// Rows that these have read.
    pub seq_rows: i64,
    /// Scans by an index.
    pub index_scans: i64,
    /// Rows that live, as the server guesses.
    pub live: i64,
    /// Rows that are dead.
    pub dead: i64,
    /// Blocks of it and its indexes that were found in memory.
    pub blocks_hit: i64,
    /// Blocks that were not.
    pub blocks_read: i64,
    /// Its size at the last VACUUM or ANALYZE, without indexes.
    pub bytes: i64,
    /// How much of that its rows would not need, in percent; none without statistics of its columns.
    pub bloat_percent: Option<f64>,
}

/// What was counted of one index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexCounters {
    /// By which it is found again.
    pub oid: u32,
    /// Its name, as SQL has it.
    pub name: String,
    /// Its table.
    pub table: u32,
    /// Scans by it.
    pub scans: i64,
    /// Its size at the last VACUUM or ANALYZE.
    pub bytes: i64,
    /// Whether queries may use it.
    pub valid: bool,
}

impl Snapshot {
    /// Asks the server about these relations.
    pub(super) async fn take(client: &Client, relations: &[u32]) -> Result<Self, Error> {
        let row = client.query_one(DATABASE, &[]).await?;
        let tables = client.query(TABLES, &[&relations]).await?;
        let tables: Vec<_> = tables.iter().map(table).collect();
        let oids: Vec<u32> = tables.iter().map(|it| it.oid).collect();
        let indexes = client.query(INDEXES, &[&oids]).await?;
        Ok(Self {
            at: Timestamp::now(),
            blocks_hit: row.get(0),
            blocks_read: row.get(1),
            deadlocks: row.get(2),
            age_s: row.get::<_, f64>(3).max(0.0),
            tables,
            indexes: indexes.iter().map(index).collect(),
        })
    }
}

fn table(row: &Row) -> TableCounters {
    let (pages, block): (i64, i64) = (row.get(9), row.get(11));
    let widths = Widths {
        pages,
        rows: row.get(10),
        block,
        fill: row.get(12),
        width: row.get(13),
        nulls: row.get(14),
        known: row.get(15),
        columns: row.get(16),
    };
    TableCounters {
        oid: row.get(0),
        name: row.get(1),
        seq_scans: row.get(2),
        seq_rows: row.get(3),
        index_scans: row.get(4),
        live: row.get(5),
        dead: row.get(6),
        blocks_hit: row.get(7),
        blocks_read: row.get(8),
        bytes: pages * block,
        bloat_percent: widths.bloat_percent(),
    }
}

fn index(row: &Row) -> IndexCounters {
    IndexCounters {
        oid: row.get(0),
        name: row.get(1),
        table: row.get(2),
        scans: row.get(3),
        bytes: row.get(4),
        valid: row.get(5),
    }
}
