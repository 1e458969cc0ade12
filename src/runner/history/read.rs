//! Questions to the history.

use super::{Key, Ledger, LedgerError, Row, RowState};
use crate::runner::script::TxMode;
use crate::runner::source::{Checksums, Format, Sha256, Version};
use crate::runner::types::Direction;

/// A migration whose end nobody recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Unfinished {
    /// The run that began it.
    pub(in crate::runner) run: String,
    /// What finds it.
    pub(in crate::runner) key: Key,
    /// Its name.
    pub(in crate::runner) name: String,
    /// Up or down.
    pub(in crate::runner) direction: Direction,
    /// How its file meets transactions.
    pub(in crate::runner) mode: TxMode,
    /// Statements that ended well, and all of them.
    pub(in crate::runner) statements: (u32, u32),
    /// Whether nothing is done but the statements that ended well: each was counted by its own
    /// transaction, and none was sent without.
    pub(in crate::runner) exact: bool,
    /// The server process that ran it, and whether it still exists.
    pub(in crate::runner) pid: Option<i32>,
    /// Whether that process still exists.
    pub(in crate::runner) alive: bool,
    /// What the server says of its transaction; none for a file without one, or if it was so long
    /// ago that the server forgot.
    pub(in crate::runner) xact: Option<XactStatus>,
}

/// Answers of `pg_xact_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runner) enum XactStatus {
    /// Not decided yet.
    InProgress,
    /// Durable.
    Committed,
    /// Rolled back, or lost in a crash.
    Aborted,
}

impl Ledger {
    /// Every migration that the history knows, oldest version first; none without the tables.
    pub(in crate::runner) async fn rows(&self) -> Result<Vec<Row>, LedgerError> {
        if !self.has_layout().await? {
            return Ok(Vec::new());
        }
        let sql = "select version, name, checksum, raw_sha256, tx_mode, state, direction, \
                          statements_total, statements_done, failed_stmt, failed_message, down_sql, \
                          to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
                          run_id::text, source, \
                          case when state <> 'partial' then null when direction = 'up' then up_sql \
                               else to_jsonb(m) ->> 'down_run' end \
                   from pgdrain.migration m order by version_key, version";
        let rows = self.session.client.query(sql, &[]).await?;
        rows.iter().map(row).collect()
    }

    /// Runs that have not said how they ended.
    pub(in crate::runner) async fn unfinished_runs(&self) -> Result<Vec<String>, LedgerError> {
        if !self.has_layout().await? {
            return Ok(Vec::new());
        }
        let sql = "select run_id::text from pgdrain.run where finished_at is null";
        let rows = self.session.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Migrations that are recorded as running, and what the server knows about each. One question,
    /// so that the parts of the answer fit together.
    pub(in crate::runner) async fn unfinished(&self) -> Result<Vec<Unfinished>, LedgerError> {
        if !self.has_layout().await? {
            return Ok(Vec::new());
        }
        // Without the privilege to see it, backend_start is null: then a process with that number
        // counts as the one.
        let sql = "select m.run_id::text, m.version, m.name, m.direction, m.tx_mode, \
                          m.statements_done, m.statements_total, m.pid, \
                          exists (select from pg_stat_activity a where a.pid = m.pid \
                                  and coalesce(a.backend_start = m.backend_start, true)), \
                          pg_xact_status(m.xid), m.source, \
                          coalesce((to_jsonb(m) ->> 'counted')::boolean, false) \
                              and to_jsonb(m) ->> 'alone' is null \
                   from pgdrain.migration m where m.state = 'running' \
                   order by m.version_key";
        let rows = self.session.client.query(sql, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(Unfinished {
                    run: row.get(0),
                    key: Key {
                        format: format(row.get(10))?,
                        version: version(row.get(1))?,
                    },
                    name: row.get(2),
                    direction: direction(row.get(3))?,
                    mode: mode(row.get(4))?,
                    statements: (number(row.get(5)), number(row.get(6))),
                    exact: row.get(11),
                    pid: row.get(7),
                    alive: row.get(8),
                    xact: row.get::<_, Option<&str>>(9).map(xact).transpose()?,
                })
            })
            .collect()
    }

    /// Where one migration stands.
    pub(in crate::runner) async fn state_of(
        &self,
        key: &Key,
    ) -> Result<Option<RowState>, LedgerError> {
        let sql = "select state from pgdrain.migration where source = $1 and version = $2";
        let row = self
            .session
            .client
            .query_opt(sql, &[&key.format.as_str(), &key.version.to_string()])
            .await?;
        row.map(|row| state(row.get(0))).transpose()
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, LedgerError> {
    let digest = |bytes: &[u8]| Sha256::from_bytes(bytes).ok_or_else(|| unreadable("a checksum"));
    Ok(Row {
        format: format(row.get(14))?,
        adopted: false,
        version: version(row.get(0))?,
        name: row.get(1),
        checksums: Checksums {
            normalised: digest(row.get(2))?,
            raw: digest(row.get(3))?,
        },
        mode: mode(row.get(4))?,
        state: state(row.get(5))?,
        direction: direction(row.get(6))?,
        statements: (number(row.get(7)), number(row.get(8))),
        failed_statement: row.get::<_, Option<i32>>(9).map(number),
        failed_message: row.get(10),
        down_sql: row.get(11),
        finished_at: row.get(12),
        run: row.get(13),
        partly_run: row.get(15),
    })
}

fn unreadable(what: impl Into<String>) -> LedgerError {
    LedgerError::Unreadable(what.into())
}

pub(super) fn number(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

pub(super) fn version(text: &str) -> Result<Version, LedgerError> {
    text.parse()
        .ok()
        .ok_or_else(|| unreadable(format!("version {text:?}")))
}

pub(super) fn format(word: &str) -> Result<Format, LedgerError> {
    word.parse()
        .ok()
        .ok_or_else(|| unreadable(format!("files of {word:?}")))
}

pub(super) fn state(word: &str) -> Result<RowState, LedgerError> {
    RowState::parse(word).ok_or_else(|| unreadable(format!("state {word:?}")))
}

pub(super) fn direction(word: &str) -> Result<Direction, LedgerError> {
    match word {
        "up" => Ok(Direction::Up),
        "down" => Ok(Direction::Down),
        _ => Err(unreadable(format!("direction {word:?}"))),
    }
}

pub(super) fn mode(word: &str) -> Result<TxMode, LedgerError> {
    match word {
        "file" => Ok(TxMode::File),
        "none" => Ok(TxMode::None),
        "batches" => Ok(TxMode::Batches),
        _ => Err(unreadable(format!("transaction mode {word:?}"))),
    }
}

fn xact(word: &str) -> Result<XactStatus, LedgerError> {
    match word {
        "in progress" => Ok(XactStatus::InProgress),
        "committed" => Ok(XactStatus::Committed),
        "aborted" => Ok(XactStatus::Aborted),
        _ => Err(unreadable(format!("transaction status {word:?}"))),
    }
}
