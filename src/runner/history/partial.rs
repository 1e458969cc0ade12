//! Files without a transaction of which a part is in the database: how far they are, what is known of
//! them, and what `repair` writes.

use tokio_postgres::types::{Json, ToSql};

use super::read::{direction, format, mode, number, state, version};
use super::{Key, Ledger, LedgerError, RowState};
use crate::runner::plan::Step;
use crate::runner::script::TxMode;
use crate::runner::types::Direction;

/// A migration that somebody has to look at, or has looked at.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Suspect {
    /// What finds it.
    pub(in crate::runner) key: Key,
    /// Its name.
    pub(in crate::runner) name: String,
    /// Dirty, running or partial.
    pub(in crate::runner) state: RowState,
    /// The direction last run.
    pub(in crate::runner) direction: Direction,
    /// How the file last run meets transactions.
    pub(in crate::runner) mode: TxMode,
    /// Statements that ended well, and all of them.
    pub(in crate::runner) statements: (u32, u32),
    /// Whether each statement is counted by its own transaction; not so in older histories.
    pub(in crate::runner) counted: bool,
    /// The statement that was sent without a transaction and is not counted, from 1.
    pub(in crate::runner) alone: Option<u32>,
    /// What the server said when it stopped.
    pub(in crate::runner) sqlstate: Option<String>,
    /// The text of the file last run, if it is known.
    pub(in crate::runner) text: Option<String>,
}

impl Ledger {
    /// Every migration that stands part-way, oldest version first. Reads histories of older layouts
    /// too.
    pub(in crate::runner) async fn suspects(&self) -> Result<Vec<Suspect>, LedgerError> {
        if !self.has_layout().await? {
            return Ok(Vec::new());
        }
        let sql = "select source, version, name, state, direction, tx_mode, statements_done, \
                          statements_total, \
                          coalesce((to_jsonb(m) ->> 'counted')::boolean, false), \
                          (to_jsonb(m) ->> 'alone')::int, failed_sqlstate, \
                          case direction when 'up' then up_sql else to_jsonb(m) ->> 'down_run' end \
                   from pgdrain.migration m where state in ('running', 'dirty', 'partial') \
                   order by version_key, version";
        let rows = self.session().client.query(sql, &[]).await?;
        let read = |row: &tokio_postgres::Row| {
            Ok(Suspect {
                key: Key {
                    format: format(row.get(0))?,
                    version: version(row.get(1))?,
                },
                name: row.get(2),
                state: state(row.get(3))?,
                direction: direction(row.get(4))?,
                mode: mode(row.get(5))?,
                statements: (number(row.get(6)), number(row.get(7))),
                counted: row.get(8),
                alone: row.get::<_, Option<i32>>(9).map(number),
                sqlstate: row.get(10),
                text: row.get(11),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Records that a statement is about to be sent without a transaction of its own: until it is
    /// counted nobody knows whether it happened.
    pub(in crate::runner) async fn sends_alone(
        &self,
        step: &Step,
        statement: usize,
    ) -> Result<(), LedgerError> {
        let sql = "update pgdrain.migration set alone = $3 \
                   where source = $1 and version = $2 and state = 'running'";
        let (source, version) = (step.format.as_str(), step.version.to_string());
        let statement = i32::try_from(statement).unwrap_or(i32::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] = [&source, &version, &statement];
        let rows = self.session().client.execute(sql, &parameters).await?;
        super::write::one_row(rows, &step.name)
    }

    /// The state of a migration of whose file nothing more was done than before it was run.
    pub(super) async fn left(
        &self,
        key: &Key,
        direction: Direction,
    ) -> Result<RowState, LedgerError> {
        let sql = "select tx_mode = 'none' and statements_done > 0, up_done is not null \
                   from pgdrain.migration where source = $1 and version = $2";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let row = self
            .session()
            .client
            .query_opt(sql, &[&source, &version])
            .await?;
        let (goes_on, was_partial): (bool, bool) =
            row.map_or((false, false), |row| (row.get(0), row.get(1)));
        Ok(match direction {
            // It had gone on where it stopped.
            Direction::Up | Direction::Down if goes_on => RowState::Partial,
            Direction::Up => RowState::Failed,
            Direction::Down if was_partial => RowState::Partial,
            // Its way up had stopped between two batches, and so it is again.
            Direction::Down if self.is_open(key).await? => RowState::Begun,
            Direction::Down => RowState::Applied,
        })
    }

    /// Records that somebody let the database be looked at, and all that was found.
    pub(in crate::runner) async fn tell_repair(
        &self,
        data: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        let sql = "insert into pgdrain.event (type, data) values ('repair', $1)";
        self.session().client.execute(sql, &[&Json(data)]).await?;
        Ok(())
    }

    /// Makes a migration what it was before a way back from it began of which nothing was done.
    pub(super) async fn up_again(&self, key: &Key) -> Result<(), LedgerError> {
        let sql = "update pgdrain.migration set direction = 'up', tx_mode = 'none', \
                          statements_done = up_done, \
                          statements_total = coalesce(up_total, statements_total), \
                          alone = null, up_done = null, up_total = null \
                   where source = $1 and version = $2 and state = 'partial' \
                     and direction = 'down' and up_done is not null and statements_done = 0";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        self.session()
            .client
            .execute(sql, &[&source, &version])
            .await?;
        Ok(())
    }

    /// Records what was found out about a dirty migration: so many of its statements are done. With
    /// it goes an event that says who asked and what was found.
    pub(in crate::runner) async fn repaired(
        &self,
        key: &Key,
        direction: Direction,
        done: u32,
        data: &serde_json::Value,
    ) -> Result<RowState, LedgerError> {
        let count = "update pgdrain.migration set statements_done = $3, alone = null, \
                            counted = true where source = $1 and version = $2 and state = 'dirty'";
        let (source, version) = (key.format.as_str(), key.version.to_string());
        let number = i32::try_from(done).unwrap_or(i32::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] = [&source, &version, &number];
        super::write::one_row(
            self.session().client.execute(count, &parameters).await?,
            &version,
        )?;
        let state = self.left(key, direction).await?;
        let sql = "with done as (update pgdrain.migration set state = $3, \
                          finished_at = clock_timestamp() \
                          where source = $1 and version = $2 and state = 'dirty' \
                          returning run_id, version) \
                   insert into pgdrain.event (run_id, type, version, data) \
                   select run_id, 'repaired', version, $4 from done";
        let (word, data) = (state.as_str(), Json(data));
        let parameters: [&(dyn ToSql + Sync); 4] = [&source, &version, &word, &data];
        super::write::one_row(
            self.session().client.execute(sql, &parameters).await?,
            &version,
        )?;
        if state == RowState::Partial {
            self.up_again(key).await?;
        }
        Ok(state)
    }
}
