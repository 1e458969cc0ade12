//! How far files are that run in batches: one row each, written by the batches themselves.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Key, Ledger, LedgerError};

/// Locks the row of a file in a batch's transaction and says how far it is. Whoever asked before and
/// has not ended yet is waited for, so that an answer that was lost is never guessed. Parameters:
/// source, version, run; no row if another run goes on with the file.
pub(in crate::runner) const CLAIM: &str = "\
    select last_key, end_key, batches, scanned, rows_done, rows_before from pgdrain.backfill \
    where source = $1 and version = $2 and run_id = $3::text::uuid for update";

/// Writes how far the file is, in the batch's transaction: source, version, run, the batch's end,
/// what it scanned, the rows it changed.
pub(in crate::runner) const CHECKPOINT: &str = "\
    update pgdrain.backfill set last_key = $4, batches = batches + 1, scanned = scanned + $5, \
           rows_done = rows_done + $6, updated_at = clock_timestamp() \
    where source = $1 and version = $2 and run_id = $3::text::uuid";

/// Part of `finish_statement`: with the file its row is finished.
pub(in crate::runner) const FINISHED: &str = ", \
    backfilled as (update pgdrain.backfill b set finished_at = clock_timestamp() from done \
                   where b.source = $1 and b.version = done.version)";

/// How far a file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runner) struct Checkpoint {
    /// The end of the last batch; none before the first.
    pub(in crate::runner) last: Option<String>,
    /// The end of the table as it was at the beginning; none if it was empty.
    pub(in crate::runner) end: Option<String>,
    /// Batches that are committed.
    pub(in crate::runner) batches: i64,
    /// Rows that the batches spanned, or blocks.
    pub(in crate::runner) scanned: i64,
    /// Rows that they changed.
    pub(in crate::runner) rows: i64,
    /// Rows that were to be done at the beginning, if somebody can tell.
    pub(in crate::runner) before: Option<i64>,
}

impl Checkpoint {
    /// Reads the columns of `CLAIM`.
    pub(in crate::runner) fn read(row: &Row) -> Self {
        Self {
            last: row.get(0),
            end: row.get(1),
            batches: row.get(2),
            scanned: row.get(3),
            rows: row.get(4),
            before: row.get(5),
        }
    }

    /// Whether nothing is left.
    pub(in crate::runner) fn is_at_end(&self) -> bool {
        self.last == self.end
    }
}

impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.batches {
            1 => write!(f, "after 1 batch that changed {} rows", self.rows),
            many => write!(f, "after {many} batches that changed {} rows", self.rows),
        }
    }
}

/// What is kept of a file that begins.
#[derive(Debug)]
pub(in crate::runner) struct NewBackfill<'a> {
    /// What decides over its rows, hashed.
    pub(in crate::runner) fingerprint: &'a [u8],
    /// The run that begins it.
    pub(in crate::runner) run: &'a str,
    /// The column that cuts the table; none for blocks.
    pub(in crate::runner) column: Option<&'a str>,
    /// The end of the table.
    pub(in crate::runner) end: Option<&'a str>,
    /// Rows that are to be done.
    pub(in crate::runner) before: Option<i64>,
}

impl Ledger {
    /// Records a file that begins at the beginning, whatever was known of it.
    pub(in crate::runner) async fn begin_backfill(
        &self,
        key: &Key,
        new: NewBackfill<'_>,
    ) -> Result<(), LedgerError> {
        let sql = "insert into pgdrain.backfill (source, version, fingerprint, run_id, key_column, \
                          end_key, rows_before) \
                   values ($1, $2, $3, $4::text::uuid, $5, $6, $7) \
                   on conflict (source, version) do update set fingerprint = excluded.fingerprint, \
                          run_id = excluded.run_id, key_column = excluded.key_column, \
                          last_key = null, end_key = excluded.end_key, batches = 0, scanned = 0, \
                          rows_done = 0, rows_before = excluded.rows_before, \
                          started_at = excluded.started_at, updated_at = excluded.updated_at, \
                          finished_at = null";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &source,
            &version,
            &new.fingerprint,
            &new.run,
            &new.column,
            &new.end,
            &new.before,
        ];
        self.session().client.execute(sql, &parameters).await?;
        Ok(())
    }

    /// Hands a file that was begun over to a run; false if its statement, table or key were others
    /// then. `None` if nothing is known of it.
    pub(in crate::runner) async fn go_on(
        &self,
        key: &Key,
        run: &str,
        fingerprint: &[u8],
        column: Option<&str>,
    ) -> Result<Option<bool>, LedgerError> {
        let sql = "update pgdrain.backfill b set run_id = case when same then $3::text::uuid \
                          else b.run_id end \
                   from (select source, version, fingerprint = $4 \
                                and key_column is not distinct from $5 as same \
                         from pgdrain.backfill) as held \
                   where b.source = $1 and b.version = $2 \
                     and held.source = b.source and held.version = b.version \
                   returning same";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let parameters: [&(dyn ToSql + Sync); 5] = [&source, &version, &run, &fingerprint, &column];
        let row = self.session().client.query_opt(sql, &parameters).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// How far a file is.
    pub(in crate::runner) async fn checkpoint(
        &self,
        key: &Key,
    ) -> Result<Option<Checkpoint>, LedgerError> {
        let sql = "select last_key, end_key, batches, scanned, rows_done, rows_before \
                   from pgdrain.backfill where source = $1 and version = $2";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let row = self
            .session()
            .client
            .query_opt(sql, &[&source, &version])
            .await?;
        Ok(row.as_ref().map(Checkpoint::read))
    }

    /// Sends a file back to the beginning of its table: rows were left behind.
    pub(in crate::runner) async fn rewind(&self, key: &Key) -> Result<(), LedgerError> {
        let sql = "update pgdrain.backfill set last_key = null, scanned = 0 \
                   where source = $1 and version = $2";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        self.session()
            .client
            .execute(sql, &[&source, &version])
            .await?;
        Ok(())
    }

    /// Records that a file of a run goes on in another server process.
    pub(in crate::runner) async fn moved(
        &self,
        key: &Key,
        run: &str,
        pid: i32,
    ) -> Result<(), LedgerError> {
        let sql = "update pgdrain.migration set pid = $3, \
                          backend_start = (select backend_start from pg_stat_activity \
                                           where pid = $3) \
                   where source = $1 and version = $2 and state = 'running' \
                     and run_id = $4::text::uuid";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let parameters: [&(dyn ToSql + Sync); 4] = [&source, &version, &pid, &run];
        super::write::one_row(
            self.session().client.execute(sql, &parameters).await?,
            &version,
        )
    }

    /// Whether the way up of a migration stopped between two batches.
    pub(super) async fn is_open(&self, key: &Key) -> Result<bool, LedgerError> {
        // A run of an older pgdrain may be recovered before its tables are brought up to date.
        let there = "select to_regclass('pgdrain.backfill') is not null";
        if !self
            .session()
            .client
            .query_one(there, &[])
            .await?
            .get::<_, bool>(0)
        {
            return Ok(false);
        }
        let sql = "select exists (select from pgdrain.backfill \
                                  where source = $1 and version = $2 and finished_at is null)";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let row = self
            .session()
            .client
            .query_one(sql, &[&source, &version])
            .await?;
        Ok(row.get(0))
    }
}
